"""Interfaces of the field's own nodes, as published by their `/object_info`, and those of our kinds in the same shape."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine.schema import MISSING, Catalog, Input, Kind

ROOT = Path(__file__).parents[2]
WHOLE = ROOT.parent / "shared" / "specs" / "comfyui-nodes.json"
PART = ROOT / "tests" / "data" / "comfyui-nodes-subset.json"

COMPLETE = frozenset(
    {
        "nodes_attention_multiply",
        "nodes_canny",
        "nodes_compositing",
        "nodes_freelunch",
        "nodes_hypernetwork",
        "nodes_hypertile",
        "nodes_images",
        "nodes_latent",
        "nodes_mask",
        "nodes_model_downscale",
        "nodes_morphology",
        "nodes_pag",
        "nodes_post_processing",
        "nodes_rebatch",
        "nodes_sag",
        "nodes_tomesd",
        "nodes_upscale_model",
    }
)
"""Modules of the field, all of whose kinds we have."""

NUMBER_OPTIONS = ("min", "max", "step", "round")


def known() -> dict[str, Any]:
    """The interfaces of the kinds that we have, and of all kinds of complete modules, by kind."""
    found: dict[str, Any] = json.loads(PART.read_text("utf-8"))
    return found


def module_of(interface: dict[str, Any]) -> str:
    """The field's module that a kind is declared in, without its package."""
    return str(interface["module"]).rpartition(".")[2]


def of_reference(interface: dict[str, Any]) -> dict[str, Any]:
    """What is compared of a published interface."""
    sections = {}
    for section in ("required", "optional"):
        inputs = interface["input"].get(section, {})
        sections[section] = [(name, *_given(inputs[name])) for name in interface["input_order"].get(section, inputs)]
    return {
        "title": interface["display_name"],
        "category": interface["category"],
        "outputs": list(zip(interface["output_name"], interface["output"], interface["output_is_list"], strict=True)),
        "effect": interface["output_node"],
        **sections,
    }


def of_kind(kind: Kind) -> dict[str, Any]:
    """The same of one of our kinds."""
    sections: dict[str, list[Any]] = {"required": [], "optional": []}
    for port in kind.inputs.values():
        sections["optional" if port.listed_optional else "required"].append((port.name, *_declared(port)))
    return {
        "title": kind.title,
        "category": kind.category,
        "outputs": [(output.name, output.type, output.is_list) for output in kind.outputs],
        "effect": kind.effect,
        **sections,
    }


def _given(entry: list[Any]) -> tuple[str, Any, dict[str, Any]]:
    """(type, choices, options) of a published input; files are no choices, they differ from place to place."""
    type_, options = entry[0], dict(entry[1]) if len(entry) > 1 else {}
    choices = None
    if isinstance(type_, list):
        type_, choices = "COMBO", type_
    elif type_ == "COMBO":
        choices = options.pop("options", None)
    options.pop("multiselect", None)
    if options.get("round") is False:
        del options["round"]
    return type_, choices, options


def _declared(port: Input) -> tuple[str, Any, dict[str, Any]]:
    options = dict(port.widget)
    if port.default is not MISSING and port.default is not None:
        options["default"] = port.default
    if port.range is not None:
        options |= {name: getattr(port.range, name) for name in NUMBER_OPTIONS if getattr(port.range, name) is not None}
    return port.type, list(port.choice.options) if port.choice else None, options


def write_part() -> None:
    """Copy the interfaces of our kinds, and of those that complete modules lack, from the whole list."""
    whole = json.loads(WHOLE.read_text("utf-8"))
    part = {kind.id: whole[kind.id] for kind in Catalog.load() if kind.id in whole}
    part |= {kind: entry for kind, entry in whole.items() if module_of(entry) in COMPLETE and kind not in part}
    PART.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in part.items()) + "\n}\n", "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    write_part()
