"""A node that declares itself by a schema, as a class of the class protocol: so there is one way to call either."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import Enum
from types import SimpleNamespace
from typing import Any

from engine.types import Blocked

_OPTIONS = {
    "force_input": "forceInput",
    "raw_link": "rawLink",
    "dynamic_prompts": "dynamicPrompts",
    "display_mode": "display",
    "widget_type": "widgetType",
}
"""Names of options in schemas that the class protocol calls otherwise."""

_PREFIX = "weft hidden "
"""What the names of hidden inputs start with, so that no input has them."""


def class_of_schema(node: Any) -> tuple[str, str | None, type]:
    """(id, title, class) of a node that declares a schema."""
    schema = node.define_schema()
    hidden = [member.value for member in schema.hidden]
    if schema.is_output_node:
        hidden += ["PROMPT", "EXTRA_PNGINFO"]

    def input_types(_: Any) -> dict[str, Any]:
        sections: dict[str, Any] = {"required": {}, "optional": {}}
        for port in node.define_schema().inputs:
            sections["optional" if port.optional else "required"][port.id] = _spec(port)
        sections["hidden"] = {_PREFIX + what: what for what in dict.fromkeys(hidden)}
        return sections

    def prepared(inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The class as this call sees it, and the inputs."""
        given = {name: value for name, value in inputs.items() if not name.startswith(_PREFIX)}
        told = {name.removeprefix(_PREFIX).lower(): value for name, value in inputs.items() if name.startswith(_PREFIX)}
        if schema.is_input_list:
            told = {name: value[0] for name, value in told.items()}
        return type(node.__name__, (node,), {"hidden": _Hidden(**told)}), given

    def execute(_: Any, **inputs: Any) -> Any:
        class_, given = prepared(inputs)
        return _result(class_.execute(**given))

    async def execute_async(_: Any, **inputs: Any) -> Any:
        class_, given = prepared(inputs)
        return _result(await class_.execute(**given))

    members: dict[str, Any] = {
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": tuple(output.type for output in schema.outputs),
        "RETURN_NAMES": tuple(output.name for output in schema.outputs),
        "OUTPUT_TOOLTIPS": tuple(output.tooltip or "" for output in schema.outputs),
        "OUTPUT_IS_LIST": tuple(output.is_list for output in schema.outputs),
        "INPUT_IS_LIST": schema.is_input_list,
        "OUTPUT_NODE": schema.is_output_node is True,
        "NOT_IDEMPOTENT": schema.not_idempotent,
        "CATEGORY": schema.category,
        "DESCRIPTION": schema.description,
        "DEPRECATED": schema.is_deprecated,
        "EXPERIMENTAL": schema.is_experimental,
        "FUNCTION": "execute",
        "execute": execute_async if inspect.iscoroutinefunction(node.execute) else execute,
    }
    for theirs, ours in (("validate_inputs", "VALIDATE_INPUTS"), ("fingerprint_inputs", "IS_CHANGED")):
        if hasattr(node, theirs):
            members[ours] = staticmethod(getattr(node, theirs))
    if hasattr(node, "check_lazy_status"):
        members["check_lazy_status"] = staticmethod(node.check_lazy_status)
    return schema.node_id, schema.display_name, type(node.__name__, (), members)


class _Hidden(SimpleNamespace):
    """What a node is told beside inputs; None for what it did not ask for."""

    def __getattr__(self, name: str) -> Any:
        """Nothing."""
        if name.startswith("__"):
            raise AttributeError(name)


def _spec(port: Any) -> tuple[Any, dict[str, Any]]:
    """An input as the class protocol declares it."""
    options: dict[str, Any] = {}
    for name, value in port.options.items():
        plain = value.value if isinstance(value, Enum) else value
        if name == "upload":
            options[str(plain)] = True
        elif name == "extra_dict":
            options.update(plain)
        else:
            options[_OPTIONS.get(name, name)] = plain
    return port.type, options


def _result(raw: Any) -> Any:
    """What a method of the class protocol would have returned."""
    if not hasattr(raw, "block_execution"):
        return raw
    if raw.block_execution is not None:
        return {"ui": _entries(raw.ui), "result": Blocked(raw.block_execution)}
    record: dict[str, Any] = {"ui": _entries(raw.ui), "result": tuple(raw.args)}
    if raw.expand is not None:
        record["expand"] = raw.expand
    return record


def _entries(ui: Any) -> Mapping[str, Any]:
    """What a node shows, by name."""
    found: Mapping[str, Any] = ui if isinstance(ui, Mapping) else {} if ui is None else ui.as_dict()
    return found
