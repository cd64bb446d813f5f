"""The API format in and out, and files that are not what they should be."""

from __future__ import annotations

import json

import pytest

from engine import Graph, Link
from engine.errors import FormatError
from engine.formats.api import MAX_NODES, is_api, parse_json, read_api, write_api
from engine.formats.files import Reader, load, loads

DOCUMENT = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}, "_meta": {"title": "Load", "ver": "1"}},
    "12:5:3": {"class_type": "Unknown thing", "inputs": {"model": ["4", 0], "list": {"__value__": [1, 2]}, "n": None}, "extra": {"a": [1]}},
    "[odd]": {"class_type": "X", "inputs": {"big": 18446744073709551615, "text": "é\n", "flag": True, "f": 1.0}},
}  # fmt: skip


def test_round_trip_keeps_everything():
    assert write_api(read_api(DOCUMENT)) == DOCUMENT
    assert json.dumps(write_api(read_api(DOCUMENT))) == json.dumps(DOCUMENT)


def test_links_and_wrapped_arrays_are_told_apart():
    graph = read_api(DOCUMENT)
    assert graph.nodes["12:5:3"].inputs["model"] == Link("4", 0)
    assert graph.nodes["12:5:3"].inputs["list"] == [1, 2]


def test_a_float_slot_is_a_link():
    graph = read_api({"a": {"class_type": "A", "inputs": {"x": ["b", 1.0]}}})
    assert graph.nodes["a"].inputs["x"] == Link("b", 1)
    assert isinstance(graph.nodes["a"].inputs["x"].port, int)


def test_the_document_is_not_changed():
    before = json.dumps(DOCUMENT)
    read_api(DOCUMENT)
    assert json.dumps(DOCUMENT) == before


def test_titles():
    graph = read_api(DOCUMENT)
    assert graph.nodes["4"].title == "Load"
    assert write_api(graph.retitle("4", "Other"))["4"]["_meta"] == {"title": "Other", "ver": "1"}


def test_is_changed_of_servers_is_dropped():
    graph = read_api({"a": {"class_type": "A", "inputs": {}, "is_changed": [float("nan")]}})
    assert "is_changed" not in write_api(graph)["a"]


def test_a_missing_inputs_member_means_none():
    assert read_api({"a": {"class_type": "A"}}).nodes["a"].inputs == {}


def test_detection():
    assert is_api(DOCUMENT)
    assert not is_api({"nodes": [], "links": []})
    assert not is_api([])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected an object of nodes, not an array"),
        ("x", "not a text"),
        (None, "not null"),
        ({"1": []}, "node '1' is an array, not an object"),
        ({"1": {"inputs": {}}}, "node '1' has no class_type"),
        ({"1": {"class_type": 5}}, "node '1' has a number as class_type"),
        ({"1": {"class_type": "A", "inputs": []}}, "inputs of node '1' are an array"),
        ({"1": {"class_type": "A", "inputs": {"x": ["2", -1]}}}, "is no link"),
        ({"1": {"class_type": "A", "inputs": {"x": ["2", 0.5]}}}, "is no link"),
        ({"1": {"class_type": "A", "inputs": {"x": "\ud800"}}}, "half of a surrogate pair"),
        ({str(i): {"class_type": "A"} for i in range(MAX_NODES + 1)}, "the limit is 10,000"),
    ],
)
def test_documents_that_are_none_name_the_place(document, message):
    with pytest.raises(FormatError, match=message):
        read_api(document)


def test_nesting_is_bounded():
    value = []
    for _ in range(100):
        value = [value]
    with pytest.raises(FormatError, match="nest deeper than 64"):
        read_api({"1": {"class_type": "A", "inputs": {"x": {"__value__": value}}}})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON.*offset 1"),
        (b'{"a": }', "line 1, column 7"),
        (b"\xff\xfe{}", "not (text|JSON)"),
        (b"[" * 100_000, "nest deeper"),
        (b'{"a":' * 100_000, "nest deeper"),
        (b"\x89PNG\r\n\x1a\n", "carries no workflow"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\xfftEXt", "carries no workflow"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\xfftEXtprompt\x00{}", "cut off inside its tEXt"),
        (b"RIFF\x00\x00\x00\x00WEBP", "carries no workflow"),
        (b"1" * 5000, "not JSON"),
        (b'{"nodes": [], "links": []}', "Export"),
    ],
)
def test_bytes_that_are_no_workflow(data, message):
    with pytest.raises(FormatError, match=message):
        loads(data, source="f")


def test_nan_of_saved_pictures_is_read():
    assert parse_json(b'{"a": [NaN, Infinity]}')["a"][1] == float("inf")


def test_the_body_of_a_request_is_read():
    assert list(load({"prompt": DOCUMENT, "client_id": "x"}).nodes) == list(DOCUMENT)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match="nowhere.json: cannot read the workflow"):
        load(tmp_path / "nowhere.json")


def test_named_links_cannot_be_written():
    with pytest.raises(FormatError, match="linked to b.MODEL; the API format needs an index"):
        write_api(Graph().add("b", "B").add("a", "A", x=Link("b", "MODEL")))


def test_a_value_that_json_cannot_hold_is_refused():
    with pytest.raises(FormatError, match="which JSON cannot hold"):
        write_api(Graph().add("a", "A", x=float("nan")))


class TestReader:
    def test_unchanged_nodes_come_back_as_the_same_objects(self):
        reader = Reader()
        first = reader.read(DOCUMENT)
        changed = json.loads(json.dumps(DOCUMENT))
        changed["[odd]"]["inputs"]["f"] = 2.0
        second = reader.read(changed)
        assert second.nodes["4"] is first.nodes["4"]
        assert second.nodes["[odd]"] is not first.nodes["[odd]"]

    @pytest.mark.parametrize("value", [1, 1.0, True, "1", 0.0, -0.0, None, [1], [1.0]])
    def test_lookalikes_are_changes(self, value):
        reader = Reader()
        before = reader.read({"a": {"class_type": "A", "inputs": {"x": 1, "y": 0}}})
        after = reader.read({"a": {"class_type": "A", "inputs": {"x": value, "y": 0}}})
        assert (after.nodes["a"] is before.nodes["a"]) == (type(value) is int)

    def test_a_renamed_file_with_equal_bytes_is_not_parsed_again(self, tmp_path):
        for name in "ab":
            (tmp_path / name).write_text(json.dumps(DOCUMENT))
        reader = Reader()
        assert reader.read(tmp_path / "a") is reader.read(tmp_path / "b")
