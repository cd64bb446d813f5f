"""The JSON Schema of workflows accepts what runs and refuses what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from engine.folders import Folders
from engine.formats.json_schema import workflow_schema
from engine.schema import Catalog

EXAMPLES = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = workflow_schema(Catalog.load("nodes"), Folders())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(json.loads(json.dumps(schema)))


def document() -> dict[str, Any]:
    return json.loads((EXAMPLES[0].parent / "portrait.json").read_text("utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_is_accepted(path: Path, validator: Draft202012Validator) -> None:
    validator.validate(json.loads(path.read_text("utf-8")))


def broken(node: str, port: str, value: Any) -> dict[str, Any]:
    changed = document()
    if value is None:
        del changed[node]["inputs"][port]
    else:
        changed[node]["inputs"][port] = value
    return changed


@pytest.mark.parametrize(
    "workflow",
    [
        broken("5", "steps", 0),
        broken("5", "seed", -1),
        broken("5", "cfg", "high"),
        broken("5", "sampler_name", "oiler"),
        broken("5", "model", None),
        broken("5", "model", "portrait.safetensors"),
        broken("1", "ckpt_name", "no-such-file.safetensors"),
        broken("6", "samples", ["5", -1]),
        {"1": {"inputs": {}}},
        {"1": "CLIPTextEncode"},
    ],
    ids=["below", "negative", "type", "choice", "missing", "unlinked", "file", "link", "no class_type", "no node"],
)
def test_a_broken_workflow_is_refused(workflow: dict[str, Any], validator: Draft202012Validator) -> None:
    assert not validator.is_valid(workflow)


def test_kinds_that_are_not_installed_are_left_to_validation(validator: Draft202012Validator) -> None:
    validator.validate({"1": {"class_type": "SomebodyElsesNode", "inputs": {"x": 1}}})
