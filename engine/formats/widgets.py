"""Which inputs of a kind an editor shows as widgets: what the entries of a node's `widgets_values` mean.

Saved workflows keep widget values by place. The places follow from the declaration of the kind, and the page adds some of
its own: what happens to a seed after a run, the button of an upload.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.schema import MISSING, Group, Input, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from engine.schema import Catalog, Part

CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
"""What may happen to a seed after a run."""

_TYPES = frozenset({"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO", "MARKDOWN", "COLOR", "BOUNDING_BOX"})
_SEEDS = frozenset({"seed", "noise_seed"})
_EMPTY: Mapping[str, Any] = {"INT": 0, "FLOAT": 0, "BOOLEAN": False, "STRING": "", "MARKDOWN": ""}
_KNOWN = Path(__file__).resolve().parents[1] / "assets" / "widgets.json"


class Widget(NamedTuple):
    """An input with a widget.

    Attributes:
        name: Name of the input.
        type: `INT`, `FLOAT`, `BOOLEAN`, `STRING`, `COMBO`, ...
        default: What a file means that says nothing.
        extra: How many entries of the page's own follow: 1 for what happens after a run, 2 with a filter as well.
        is_socket: An old file may keep an entry, though the input is only a socket.
        options: For a choice whose values bring inputs of their own, their widgets by value; they follow it.
    """

    name: str
    type: str
    default: Any = None
    extra: int = 0
    is_socket: bool = False
    options: Mapping[str, tuple[Widget, ...]] | None = None

    def brought(self, value: Any) -> tuple[Widget, ...]:
        """The widgets that a value brings; those of the default where it is no value of this choice."""
        if self.options is None:
            return ()
        return self.options.get(value if isinstance(value, str) else "", self.options.get(self.default, ()))


Layout = tuple[Widget, ...]


def shown(layout: Layout, given: Mapping[str, Any]) -> Layout:
    """All widgets that an editor shows for a node.

    Args:
        layout: Those of its kind.
        given: Values by name of input: they say what is chosen.
    """
    found: list[Widget] = []
    for widget in layout:
        found.append(widget)
        if widget.options is not None:
            found.extend(shown(widget.brought(given.get(widget.name)), given))
    return tuple(found)


def prefixed(layout: Layout, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """`given` with the full names of inputs that a choice brings: some files leave out the name of the choice."""
    if all(widget.options is None for widget in layout):
        return given
    found = dict(given)
    todo = list(layout)
    while todo:
        widget = todo.pop(0)
        short = widget.name.rpartition(".")[2]
        if widget.name not in found and short in found:
            found[widget.name] = found.pop(short)
        todo += widget.brought(found.get(widget.name))
    return found


def layout(kind: str, catalog: Catalog | None) -> Layout | None:
    """The widgets of a kind in the order of an editor; None where nobody knows it.

    Args:
        kind: Id of the kind.
        catalog: The kinds that are installed; others are looked up among those that the field's editors know.
    """
    installed = catalog.get(kind) if catalog is not None else None
    if installed is None:
        return known().get(kind)
    return tuple(_of_parts(installed.parts or installed.inputs.values()))


@cache
def known() -> Mapping[str, Layout]:
    """The widgets of the kinds of ComfyUI v0.3.64, so that workflows of kinds that are not installed can be read."""
    records: dict[str, list[list[Any]]] = json.loads(_KNOWN.read_text("utf-8"))
    return {kind: tuple(Widget(*widget) for widget in widgets) for kind, widgets in records.items()}


def of_object_info(info: Mapping[str, Any]) -> Layout:
    """The widgets of a kind as `/object_info` describes it."""
    found = []
    for section in ("required", "optional"):
        inputs = info["input"].get(section) or {}
        order = (info.get("input_order") or {}).get(section) or list(inputs)
        for name in order:
            spec = inputs[name]
            options = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
            listed = spec[0] if isinstance(spec[0], list) else options.get("options")
            kind = "COMBO" if isinstance(spec[0], list) else str(options.get("widgetType", spec[0]))
            first = listed[0] if isinstance(listed, list) and listed else None
            found.append(_widget(name, kind, options, options.get("default", first)))
    return tuple(widget for widget in found if widget is not None)


def _of_parts(parts: Iterable[Part], prefix: str = "") -> Iterator[Widget]:
    """The widgets of parameters; inputs that grow are sockets."""
    for part in sorted(parts, key=lambda part: (part if isinstance(part, Input) else part.port).listed_optional):
        if isinstance(part, Group):
            continue
        port = part if isinstance(part, Input) else part.port
        name = f"{prefix}{port.name}"
        type_ = "COMBO" if port.choice is not None or port.files is not None else port.type
        first = port.choice.options[0] if port.choice is not None and port.choice.options else None
        default = first if port.default is MISSING else port.default
        widget = _widget(name, str(port.widget.get("widgetType", type_)), port.widget, default)
        if isinstance(part, Selection) and widget is not None:
            options = {key: tuple(_of_parts(option.parts, f"{name}.")) for key, option in part.options.items()}
            widget = widget._replace(options=options)
        if widget is not None:
            yield widget


def _widget(name: str, type_: str, options: Mapping[str, Any], default: Any) -> Widget | None:
    if type_ not in _TYPES:
        return None
    control = options.get("control_after_generate", type_ == "INT" and name in _SEEDS)
    extra = (2 if type_ == "COMBO" else 1) if control else 0
    if default is None:
        default = _EMPTY.get(type_)
    return Widget(name, type_, default, extra, bool(options.get("forceInput")))


def by_name(values: Sequence[Any], widgets: Layout) -> dict[str, Any]:
    """The entries of `widgets_values` by input name.

    Entries of the page's own are left out, and so are surplus ones. An entry that says what happens after a run is
    recognised where it stands, since kinds gained and lost it over the years.
    """
    total = sum(1 + widget.extra for widget in widgets)
    todo = list(widgets if len(values) == total else (widget for widget in widgets if not widget.is_socket))
    found: dict[str, Any] = {}
    place = 0
    while todo:
        widget = todo.pop(0)
        if place < len(values) and _is_control(values[place]) and widget.type in {"INT", "FLOAT", "BOOLEAN"}:
            place += 1  # belongs to the one before
        if place >= len(values):
            break
        if values[place] is not None and not widget.is_socket:
            found[widget.name] = values[place]
        if widget.options is not None:
            todo[:0] = widget.brought(values[place])
        place += 1
        if widget.extra and place < len(values) and _is_control(values[place], or_old=len(values) >= total):
            place += widget.extra
    return found


def by_guess(values: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """The same where nobody knows the kind: `names` are its sockets with widgets in the order of the file."""
    found: dict[str, Any] = {}
    left = iter(values)
    for name in names:
        value = next(left, None)
        if value is not None and _is_control(value) and found and isinstance(next(reversed(found.values())), int | float):
            value = next(left, None)
        if value is not None:
            found[name] = value
    return found


def _is_control(value: Any, *, or_old: bool = False) -> bool:
    """Whether an entry says what happens after a run; `or_old`: true and false did once."""
    return (isinstance(value, str) and value in CONTROLS) or (or_old and isinstance(value, bool))
