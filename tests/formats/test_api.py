"""The API format in and out, and files that are not what they should be."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import pytest

from engine import Catalog, Engine, Graph, Link, node
from engine.errors import FormatError
from engine.formats.api import MAX_BYTES, MAX_NODES, is_api, parse_json, read_api, write_api
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


@pytest.mark.parametrize(
    "record",
    [
        {"inputs": {"x": {"__type__": "CURVE", "__value__": [[0, 0], [1, 1]]}}},
        {"inputs": {"x": {"__value__": 5, "__type__": "INT"}}},
        {"inputs": {"x": {"__value__": 5}}},
        {"inputs": {"x": {"__value__": {"a": [1]}}}},
        {"inputs": {"x": {"__value__": {"__value__": [1]}}}},
        {"inputs": {"x": {"__value__": {"__value__": {"__value__": 1}, "other": 2}}}},
        {"inputs": {"x": {"__value__": ["4", 0]}}},
        {"inputs": {}, "_meta": {"title": ""}},
        {"inputs": {}, "_meta": {"title": 5, "ver": 1}},
        {"inputs": {}, "_meta": {"title": None}},
        {"inputs": {}, "_meta": {}},
        {"inputs": {}, "_meta": None},
        {"inputs": {}, "_meta": ["x"]},
        {"inputs": {}, "_meta": "text"},
    ],
    ids=json.dumps,
)
def test_what_people_never_see_is_kept_over_several_writes(record):
    document = {"a": {"class_type": "A", **record}}
    once = write_api(read_api(document))
    assert json.dumps(once) == json.dumps(document)
    assert json.dumps(write_api(read_api(once))) == json.dumps(document)


def test_the_value_of_a_typed_wrapper_is_its_value_and_an_edit_keeps_the_type():
    graph = read_api({"a": {"class_type": "A", "inputs": {"x": {"__type__": "CURVE", "__value__": [1]}}}})
    assert graph.nodes["a"].inputs["x"] == [1]
    assert write_api(graph.set("a", x=[2]))["a"]["inputs"]["x"] == {"__type__": "CURVE", "__value__": [2]}
    assert write_api(graph.set("a", x=Link("b")))["a"]["inputs"]["x"] == ["b", 0]


def test_an_odd_title_gives_way_to_a_new_one():
    graph = read_api({"a": {"class_type": "A", "inputs": {}, "_meta": [1]}})
    assert write_api(graph.retitle("a", "New"))["a"]["_meta"] == {"title": "New"}
    graph = read_api({"a": {"class_type": "A", "inputs": {}, "_meta": {"title": "Old", "ver": 1}}})
    assert write_api(graph.retitle("a", ""))["a"]["_meta"] == {"ver": 1}


def test_a_title_without_inputs_is_read():
    assert read_api({"a": {"class_type": "A", "_meta": {"title": "T"}}}).nodes["a"].title == "T"


def test_what_is_written_is_no_part_of_the_graph():
    graph = read_api(DOCUMENT)
    written = write_api(graph)
    written["12:5:3"]["inputs"]["list"]["__value__"].append(3)
    written["12:5:3"]["extra"]["a"].append(2)
    written["4"]["_meta"]["ver"] = "2"
    assert write_api(graph) == DOCUMENT


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
        ({"1": {"class_type": "A", "inputs": {"x": ["2", float("inf")]}}}, "input 'x' of node '1': .* is no link"),
        ({"1": {"class_type": "A", "inputs": {"x": ["2", float("nan")]}}}, "input 'x' of node '1': .* is no link"),
        ({"1": {"class_type": "A", "inputs": {"x": "\ud800"}}}, "input 'x' of node '1'.*half of a surrogate pair"),
        ({"1": {"class_type": "A", "inputs": {"x": [1, ["\ud800"]]}}}, "input 'x' of node '1'.*half of a surrogate pair"),
        ({"1": {"class_type": "A", "inputs": {"x": ["\ud800", 0]}}}, "input 'x' of node '1'.*half of a surrogate pair"),
        ({"1": {"class_type": "A", "inputs": {"x": {"\ud800": 1}}}}, "input 'x' of node '1'.*half of a surrogate pair"),
        ({"1": {"class_type": "A", "inputs": {"\ud800": 1}}}, "an input of node '1' is called .*half of a surrogate pair"),
        ({"1": {"class_type": "\ud800"}}, "class_type of node '1'.*half of a surrogate pair"),
        ({"1": {"class_type": "A", "_meta": {"title": "\ud800"}}}, "node '1'.*half of a surrogate pair"),
        ({"\ud800": {"class_type": "A"}}, "the id of node .*half of a surrogate pair"),
        ({1: {"class_type": "A"}}, "the id 1 of a node is a number, not a text"),
        ({(1, 2): {"class_type": "A"}}, "the id .* of a node is a tuple, not a text"),
        ({"1": {"class_type": "A", "inputs": {2: 3}}}, "an input of node '1' is called 2: a number, not a text"),
        ({"1": {"class_type": "A", "inputs": {"x": {2: 3}}}}, "input 'x' of node '1': a member is called 2"),
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


def test_what_nests_without_end_is_refused():
    value: list[Any] = []
    value.append(value)
    for read in (load, Reader().read):
        with pytest.raises(FormatError, match="nest deeper than 64"):
            read({"1": {"class_type": "A", "inputs": {"x": value}}})


def test_the_depth_of_wide_values_is_counted():
    value: list[Any] = [[[1] * 10, {"a": [2]}] * 10] * 10
    assert read_api({"1": {"class_type": "A", "inputs": {"x": value}}}).nodes["1"].inputs["x"] == value
    for _ in range(60):
        value = [value, 0]
    assert read_api({"1": {"class_type": "A", "inputs": {"x": value}}})
    with pytest.raises(FormatError, match="nest deeper than 64"):
        read_api({"1": {"class_type": "A", "inputs": {"x": [value]}}})


def test_the_size_of_a_document_is_bounded():
    with pytest.raises(FormatError, match="the limit is 16,777,216"):
        parse_json(b" " * (MAX_BYTES + 1))


def test_a_link_to_infinity_in_a_file():
    with pytest.raises(FormatError, match="is no link"):
        loads(b'{"1": {"class_type": "A", "inputs": {"x": ["4", 1e999]}}}')


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
    with pytest.raises(FormatError, match=r"nowhere\.json: cannot read the workflow"):
        load(tmp_path / "nowhere.json")


@pytest.mark.parametrize("path", ["a\0b", "a\ud800b"])
def test_a_path_that_is_none_is_named(path):
    for read in (load, Reader().read):
        with pytest.raises(FormatError, match=r"'a.*b': cannot read the workflow"):
            read(path)


def test_standard_input_may_be_a_document(monkeypatch):
    class Input:
        buffer = io.BytesIO(json.dumps(DOCUMENT).encode())

    monkeypatch.setattr("sys.stdin", Input())
    assert list(load("-").nodes) == list(DOCUMENT)


def test_named_links_cannot_be_written():
    with pytest.raises(FormatError, match=r"linked to b\.MODEL; the API format needs an index"):
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


@node("Spoil", effect=True)
def spoil(*, numbers: Any = None) -> Any:
    """Break the rule that no node changes its inputs.

    Args:
        numbers: They get one more.
    """
    numbers.append(9)
    return len(numbers)


@node("Count", effect=True)
def count(*, value: Any = None, title: str = "") -> Any:
    """What it is given.

    Args:
        value: It.
        title: A text.
    """
    return repr(value), title


class TestADocumentThatIsEditedInPlace:
    CATALOG = Catalog([spoil, count])

    @staticmethod
    def document(value: Any) -> dict[str, Any]:
        return {"a": {"class_type": "Count", "inputs": {"value": value, "title": "t"}}}

    def test_a_flat_edit_is_seen(self):
        engine = Engine(catalog=self.CATALOG)
        document = self.document(1)
        assert engine.run(document).value("a") == ("1", "t")
        document["a"]["inputs"]["value"] = 2
        document["a"]["inputs"]["title"] = "u"
        assert engine.run(document).value("a") == ("2", "u")
        del document["a"]["inputs"]["value"]
        assert engine.run(document).value("a") == ("None", "u")

    @pytest.mark.parametrize("value", [[1, [2]], {"__value__": [1, [2]]}], ids=["bare", "wrapped"])
    def test_a_nested_edit_is_seen(self, value):
        engine = Engine(catalog=self.CATALOG)
        document = self.document(value)
        assert engine.run(document).value("a") == ("[1, [2]]", "t")
        document["a"]["inputs"]["value"] = value
        inner = value["__value__"] if isinstance(value, dict) else value
        inner[1].append(3)
        assert engine.run(document).value("a") == ("[1, [2, 3]]", "t")

    def test_it_changes_no_graph(self):
        document = copy.deepcopy(DOCUMENT)
        document["4"]["inputs"]["values"] = {"a": [1]}
        before = json.dumps(document)
        for read in (load, Reader().read):
            graph = read(document)
            document["4"]["inputs"]["ckpt_name"] = "y"
            document["4"]["inputs"]["values"]["a"].append(2)
            document["4"]["_meta"]["ver"] = "2"
            document["12:5:3"]["inputs"]["list"]["__value__"].append(3)
            document["12:5:3"]["extra"]["a"].append(2)
            after, document = write_api(graph), json.loads(before)
            assert after == document

    def test_no_node_changes_it(self):
        numbers = [1, 2, 3]
        document = {"a": {"class_type": "Spoil", "inputs": {"numbers": numbers}}}
        Engine(catalog=self.CATALOG).run(document)
        assert numbers == [1, 2, 3]
