"""The description of kinds that clients of ComfyUI read from `/object_info`.

Parameters that are several inputs have types of their own there, which say what their inputs are called.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.schema import MISSING, WIDGET_TYPES, Group, Input, Kind, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.folders import Folders
    from engine.schema import Part


def object_info(kind: Kind, folders: Folders) -> dict[str, Any]:
    """One kind as `/object_info` describes it.

    Args:
        kind: The kind.
        folders: Where the choices of file inputs are read.
    """
    required, optional = _sections(kind.parts or [p for p in kind.inputs.values() if p.name not in kind.hidden], folders)
    hidden = dict(kind.hidden)
    if not hidden and kind.effect and kind.run_parameter:
        hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
    sections: dict[str, dict[str, Any]] = {"required": required}
    if optional:
        sections["optional"] = optional
    if hidden:
        sections["hidden"] = hidden
    info: dict[str, Any] = {
        "input": sections,
        "input_order": {name: list(section) for name, section in sections.items()},
        "output": ["COMFY_MATCHTYPE_V3" if o.match else o.type for o in kind.outputs],
        "output_is_list": [o.is_list for o in kind.outputs],
        "output_name": [o.name for o in kind.outputs],
        "name": kind.id,
        "display_name": kind.title or kind.id,
        "description": kind.help,
        "python_module": kind.module,
        "category": kind.category,
        "output_node": kind.effect,
        "is_input_list": kind.whole_lists,
    }
    if any(o.match for o in kind.outputs):
        info["output_matchtypes"] = [o.match or None for o in kind.outputs]
    if any(o.help for o in kind.outputs):
        info["output_tooltips"] = [o.help or None for o in kind.outputs]
    if kind.deprecated:
        info["deprecated"] = True
    if kind.experimental:
        info["experimental"] = True
    return info


def _sections(parts: Iterable[Part], folders: Folders) -> tuple[dict[str, Any], dict[str, Any]]:
    """(required, optional) inputs by name."""
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for part in parts:
        port = part if isinstance(part, Input) else part.port
        section = optional if _is_optional(port) else required
        section[port.name] = _part(part, folders)
    return required, optional


def _part(part: Part, folders: Folders) -> list[Any]:
    if isinstance(part, Group):
        growing = part.growing
        template = {"required": {part.port.name: _input(replace(part.port, help=""), folders)}}
        names = {"names": list(growing.names)} if growing.names else {"prefix": growing.prefix}
        rule = {"input": template, **names, "min": growing.min, "max": len(growing.keys)}
        return ["COMFY_AUTOGROW_V3", {"template": rule, "tooltip": part.port.help}]
    if isinstance(part, Selection):
        options = []
        for option in part.options.values():
            required, optional = _sections(option.parts, folders)
            options.append({"key": option.key, "inputs": {"required": required, "optional": optional}})
        return ["COMFY_DYNAMICCOMBO_V3", {**_input(part.port, folders)[1], "options": options}]
    if part.match:
        rule = {"template_id": part.match, "allowed_types": part.type}
        return ["COMFY_MATCHTYPE_V3", {**_input(part, folders)[1], "template": rule}]
    return _input(part, folders)


def _is_optional(port: Input) -> bool:
    """Editors list widgets with defaults among the required inputs, as ComfyUI does."""
    return port.listed_optional or (not port.required and port.type not in WIDGET_TYPES and port.type != "*")


def _input(port: Input, folders: Folders) -> list[Any]:
    options: dict[str, Any] = {}
    if port.default is not MISSING and port.default is not None and port.files is None:
        options["default"] = port.default
    if port.range is not None:
        options["min"], options["max"] = port.range.min, port.range.max
        if port.range.step is not None:
            options["step"] = port.range.step
        if port.range.round is not None:
            options["round"] = port.range.round
    if port.lazy:
        options["lazy"] = True
    if port.files is not None and port.files.upload:
        options[f"{port.files.upload}_upload"] = True
    options.update(port.widget)
    if port.help and "tooltip" not in options:
        options["tooltip"] = port.help
    choices = port.options(folders)
    kind: Any = list(choices) if choices is not None else port.type
    return [kind, options]
