"""Files that are read again: the same as reading them afresh, and what did not change is not parsed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import FormatError
from engine.formats import members
from engine.formats.api import write_api
from engine.formats.files import Reader, loads
from engine.formats.members import read_members

VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.integers(), max_size=3)
)  # fmt: skip
RECORD = st.fixed_dictionaries(
    {"class_type": st.sampled_from(["A", "B"]), "inputs": st.dictionaries(st.text(), VALUE, max_size=3)}
)
IDS = st.one_of(st.sampled_from(["1", "2", "12:5", 'a"b', "a\\b", "[x]"]), st.text(min_size=1, max_size=3))
DOCUMENT = st.dictionaries(IDS, RECORD, max_size=5)


def outcome(read: Any) -> Any:
    try:
        return write_api(read())
    except FormatError as error:
        return str(error)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(DOCUMENT, st.sampled_from([None, 1, "\t"]), st.booleans()), min_size=1, max_size=4))
def test_one_file_after_another_reads_as_it_would_alone(tmp_path_factory, versions):
    path = tmp_path_factory.mktemp("w") / "w.json"
    reader = Reader()
    for document, indent, is_ascii in versions:
        data = json.dumps(document, indent=indent, ensure_ascii=is_ascii).encode()
        path.write_bytes(data)
        assert outcome(lambda: reader.read(path)) == outcome(lambda data=data: loads(data, source=str(path)))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_damaged_text_is_refused_as_if_read_afresh(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("w") / "w.json"
    reader = Reader()
    text = json.dumps(data.draw(DOCUMENT))
    path.write_text(text)
    outcome(lambda: reader.read(path))
    place = data.draw(st.integers(0, len(text)))
    damaged = text[:place] + data.draw(st.sampled_from(["", " ", '"', "{", "}", ",", ":", "1", "\\", "é"])) + text[place + 1 :]
    path.write_text(damaged, "utf-8")
    assert outcome(lambda: reader.read(path)) == outcome(lambda: loads(damaged.encode(), source=str(path)))


def test_only_what_changed_is_parsed(monkeypatch):
    document = {str(i): {"class_type": "A", "inputs": {"n": i, "from": [str(i - 1), 0]}} for i in range(1, 100)}
    known: dict[str, Any] = {}
    before = read_members(json.dumps(document, indent=2).encode(), known, source="w")
    document["50"]["inputs"]["n"] = -1
    del document["7"]
    parsed = []
    scan = members._scan
    monkeypatch.setattr(members, "_scan", lambda text, place: parsed.append(place) or scan(text, place))
    after = read_members(json.dumps(document, indent=2).encode(), known, source="w")
    assert len(parsed) == 1
    assert before is not None
    assert after is not None
    assert [i for i in after.nodes if after.nodes[i] is not before.nodes[i]] == ["50"]
    assert after.nodes["50"].inputs["n"] == -1
    assert "7" not in after.nodes


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"1": 5}', b'{"nodes": []}', b'{"1": {"class_type": "A"}} x', b"\xff"])
def test_what_is_no_document_of_nodes_is_left_to_others(data):
    assert read_members(data, {}, source="w") is None


def test_of_two_members_with_one_name_the_last_counts():
    data = b'{"1": {"class_type": "A"}, "2": {"class_type": "B"}, "1": {"class_type": "C"}}'
    graph = read_members(data, {}, source="w")
    assert graph is not None
    assert [(i, n.kind) for i, n in graph.nodes.items()] == [(i, n.kind) for i, n in loads(data).nodes.items()]
