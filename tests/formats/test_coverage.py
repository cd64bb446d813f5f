"""Published workflows are checked: each missing kind is named, and where none is missing, only files are."""

from __future__ import annotations

import json
from functools import cache

import pytest

from engine.folders import Folders
from engine.formats.ui import is_ui, read_ui
from engine.schema import Catalog
from engine.validate import Checked, check
from tests.docs.coverage_page import folder, foreign, local

ODD: dict[str, set[tuple[str, str | None]]] = {}
"""Workflows that are wrong as published: (code, input) of what is."""


@cache
def checks() -> dict[str, Checked]:
    place = folder()
    if place is None:
        pytest.skip("the package comfyui-workflow-templates-json is not installed")
    catalog = Catalog.load("nodes")
    documents = {path.stem: json.loads(path.read_bytes()) for path in sorted(place.glob("*.json"))}
    found = {}
    for name, document in documents.items():
        if is_ui(document):
            found[name] = check(read_ui(document, catalog), catalog, Folders())
    return found


def test_each_missing_kind_is_named():
    catalog = Catalog.load("nodes")
    for name, checked in checks().items():
        lacking = {(i, node.kind) for i, node in checked.graph.nodes.items() if node.kind not in catalog}
        named = {(p.node, checked.graph.nodes[p.node].kind) for p in checked.problems if p.code == "unknown-kind" and p.node}
        assert named == lacking, name


def test_where_no_kind_is_missing_only_files_are():
    complete = 0
    checked = checks()
    for name in local():
        problems = [p for p in checked[name].problems if not p.warning]
        if any(p.code == "unknown-kind" for p in problems):
            continue
        complete += 1
        found = {(p.code, p.port) for p in problems if p.code != "missing-file"}
        if name in foreign():
            found -= {("not-a-choice", "type")}
        assert found == ODD.get(name, set()), name
    assert complete
