"""The description of kinds that clients of ComfyUI read from `/object_info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.schema import MISSING, WIDGET_TYPES, Input, Kind

if TYPE_CHECKING:
    from engine.folders import Folders


def object_info(kind: Kind, folders: Folders) -> dict[str, Any]:
    """One kind as `/object_info` describes it.

    Args:
        kind: The kind.
        folders: Where the choices of file inputs are read.
    """
    required = {p.name: _input(p, folders) for p in kind.inputs.values() if not _is_optional(p)}
    optional = {p.name: _input(p, folders) for p in kind.inputs.values() if _is_optional(p)}
    hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"} if kind.effect and kind.run_parameter else {}
    sections: dict[str, dict[str, Any]] = {"required": required}
    if optional:
        sections["optional"] = optional
    if hidden:
        sections["hidden"] = hidden
    info: dict[str, Any] = {
        "input": sections,
        "input_order": {name: list(section) for name, section in sections.items()},
        "output": [o.type for o in kind.outputs],
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
    if any(o.help for o in kind.outputs):
        info["output_tooltips"] = [o.help or None for o in kind.outputs]
    if kind.deprecated:
        info["deprecated"] = True
    if kind.experimental:
        info["experimental"] = True
    return info


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
