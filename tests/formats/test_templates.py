"""The workflows that the field publishes: all of them are read, none is damaged, and what is sent is what the page sends.

The files are those of the package `comfyui-workflow-templates-json` 0.1.123 (MIT); `tests/data/templates` holds what
ComfyUI's own page, 1.58.1, sends for 55 of them.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine.formats.api import write_api
from engine.formats.ui import is_ui, read_ui
from engine.formats.ui_write import write_ui
from engine.formats.widgets import known
from engine.graph import Graph, Link

SENT = Path(__file__).parents[1] / "data" / "templates" / "api_of_ui.json"
COUNT = 644

DEFECTS = {
    "3d_hunyuan3d-v2.1.json": "the page gives promoted values to the wrong widgets: it counts places, not names",
    "flux1_dev_uso_reference_image_gen.json": "the page sends nodes of bypassed subgraphs that nothing uses",
}
"""Where the page does not send what the file says."""


@cache
def documents() -> dict[str, dict[str, Any]]:
    found = importlib.util.find_spec("comfyui_workflow_templates_json")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package comfyui-workflow-templates-json is not installed")
    folder = Path(found.submodule_search_locations[0]) / "templates"
    parsed = {path.name: json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}
    return {name: document for name, document in parsed.items() if is_ui(document)}


def test_every_published_workflow_is_read_and_every_link_leads_somewhere():
    for document in documents().values():
        graph = read_ui(document)
        assert all(link.node in graph.nodes for _, _, link in graph.links())
    assert len(documents()) == COUNT


def test_what_is_written_is_what_was_read():
    assert all(write_ui(read_ui(document)) == document for document in documents().values())


def test_without_its_places_a_workflow_means_the_same():
    for name, document in documents().items():
        graph = Graph(read_ui(document).nodes)
        again = read_ui(write_ui(graph))
        ids = dict(zip(graph.nodes, again.nodes, strict=True))
        moved = {ids[i]: (n.kind, {k: _moved(v, ids) for k, v in n.inputs.items()}) for i, n in graph.nodes.items()}
        assert {i: (n.kind, dict(n.inputs)) for i, n in again.nodes.items()} == moved, name


def _moved(value: Any, ids: dict[str, str]) -> Any:
    return Link(ids[value.node], value.port) if type(value) is Link else value


@pytest.mark.parametrize("name", sorted(json.loads(SENT.read_text("utf-8"))))
def test_what_is_sent_is_what_the_page_sends(name):
    sent = json.loads(SENT.read_text("utf-8"))[name]
    ours = write_api(read_ui(documents()[name]))
    if name in DEFECTS:
        assert ours != sent  # else the defect is gone, and its excuse with it
        return
    ids = _matched(ours, sent)
    assert ids.keys() == ours.keys()
    for node_id, node in ours.items():
        other = sent[ids[node_id]]
        assert node["class_type"] == other["class_type"]
        theirs = other["inputs"]
        mine = {k: [ids[v[0]], v[1]] if isinstance(v, list) and v[:1] and v[0] in ids else v for k, v in node["inputs"].items()}
        if node["class_type"] not in known():  # a remote service: only the page knows its widgets
            mine, theirs = ({k: v for k, v in side.items() if isinstance(v, list)} for side in (mine, theirs))
        assert mine == theirs


def _matched(ours: dict[str, Any], sent: dict[str, Any]) -> dict[str, str]:
    """Our ids to theirs: the page numbers nodes of subgraphs anew where two share a number."""
    ids = {node_id: node_id for node_id in ours if node_id in sent}
    left = [node_id for node_id in sent if node_id not in ours]
    for node_id, node in ours.items():
        if node_id not in ids:
            inside, kind = node_id.rpartition(":")[0], node["class_type"]
            same = [i for i in left if i.rpartition(":")[0] == inside and sent[i]["class_type"] == kind]
            ids[node_id] = same[0] if len(same) == 1 else _alike(node, same, sent)
            left.remove(ids[node_id])
    return ids


def _alike(node: dict[str, Any], candidates: list[str], sent: dict[str, Any]) -> str:
    """The candidate with the same values."""
    values = {k: v for k, v in node["inputs"].items() if not isinstance(v, list)}
    return next(i for i in candidates if values.items() <= sent[i]["inputs"].items())
