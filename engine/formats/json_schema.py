"""JSON Schema of a workflow in the API format, made from the catalogue, so that editors complete and check it.

For documents and editors; the engine itself checks by hand, which is faster and says more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.schema import MISSING, Catalog, Input, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.folders import Folders

_JSON_TYPES = {"INT": "integer", "FLOAT": "number", "STRING": "string", "BOOLEAN": "boolean"}


def workflow_schema(catalog: Catalog, folders: Folders) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the workflows that use the kinds of a catalogue.

    Args:
        catalog: The kinds.
        folders: Where the choices of file inputs are read.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Weft workflow (API format)",
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/node"},
        "$defs": {
            "link": {
                "description": "An output of another node: its id and the index of the output.",
                "type": "array",
                "prefixItems": [{"type": "string"}, {"type": "integer", "minimum": 0}],
                "minItems": 2,
                "maxItems": 2,
            },
            "node": {
                "type": "object",
                "required": ["class_type"],
                "properties": {
                    "class_type": {"type": "string", "anyOf": [{"enum": list(catalog.ids())}, {"type": "string"}]},
                    "inputs": {"type": "object"},
                    "_meta": {"type": "object", "properties": {"title": {"type": "string"}}},
                },
                "allOf": [_when(kind, folders) for kind in catalog],
            },
        },
    }


def _when(kind: Kind, folders: Folders) -> dict[str, Any]:
    then: dict[str, Any] = {"description": kind.help, "properties": {"inputs": _inputs(kind, folders)}}
    if any(variant.required for _, variant in kind.variants):
        then["required"] = ["inputs"]
    return {"if": {"properties": {"class_type": {"const": kind.id}}}, "then": then}


def _inputs(kind: Kind, folders: Folders) -> dict[str, Any]:
    """The inputs of a kind; where a choice brings inputs of its own, those of the value that is chosen."""
    variants = kind.variants
    if len(variants) == 1:
        return _object(kind, folders)
    return {
        "type": "object",
        "allOf": [{"if": _chosen(keys, variant), "then": _object(variant, folders)} for keys, variant in variants],
    }


def _chosen(keys: Mapping[str, str], variant: Kind) -> dict[str, Any]:
    """What tells that values are chosen; where nothing is said, the default is."""
    said = [name for name, key in keys.items() if key != variant.defaults.get(name)]
    chosen: dict[str, Any] = {"properties": {name: {"const": key} for name, key in keys.items()}}
    return {**chosen, "required": said} if said else chosen


def _object(kind: Kind, folders: Folders) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "type": "object",
        "properties": {port.name: _value(port, folders) for port in kind.inputs.values()},
    }
    if kind.required:
        inputs["required"] = list(kind.required)
    return inputs


def _value(port: Input, folders: Folders) -> dict[str, Any]:
    link = {"$ref": "#/$defs/link"}
    said: dict[str, Any] = {"description": port.help} if port.help else {}
    if port.default is not MISSING and port.files is None:
        said["default"] = port.default
    choices = port.options(folders)
    if choices is not None:
        literal: dict[str, Any] = {"enum": list(choices)} if not (port.files and port.files.upload) else {"type": "string"}
    elif port.type in _JSON_TYPES:
        literal = {"type": _JSON_TYPES[port.type]}
        if port.range is not None:
            literal |= {"minimum": port.range.min, "maximum": port.range.max}
    elif port.is_widget:
        return said
    else:
        return said | link
    return said | {"anyOf": [literal, link]}
