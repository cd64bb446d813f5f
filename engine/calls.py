"""Which calls the inputs of a node stand for, and how their results make one result: the mapping of lists.

A list input runs a node once for each element; lazy inputs are asked for by calling them. Nothing here runs anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.cache.values import Listed
from engine.errors import WeftError
from engine.types import Blocked, Lazy, Shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.schema import Kind


class NotReady(BaseException):
    """Lazy inputs were asked for that are not there yet. Not an Exception, so that no node swallows it."""

    def __init__(self, *names: str) -> None:
        self.names = names


class Pending:
    """Stands in the inputs for a lazy value that is not there yet."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> Any:
        """Ask for the value: raises `NotReady`."""
        raise NotReady(self.name)


def calls_of(kind: Kind, inputs: dict[str, Any], *, has_lists: bool) -> list[dict[str, Any]]:
    """The calls that inputs stand for.

    Call i takes element i of every list, shorter lists repeat their last element; where the kind takes whole lists there
    is one call, and other inputs take the first element.

    Raises:
        WeftError: if a list is empty while another input is not.
    """
    if kind.whole_lists:
        call: dict[str, Any] = {}
        for name, value in inputs.items():
            port = kind.inputs.get(name, kind.variadic)
            if port is not None and port.whole_list and type(value) is not Pending:
                call[name] = list(value) if type(value) is Listed else ([] if value is None else [value])
            else:
                first = _element(value, 0, name)
                call[name] = _lazy(first) if port is not None and port.lazy else first
        return [call]
    if has_lists:
        lengths = [len(v) for v in inputs.values() if type(v) is Listed]
        if not any(lengths) and len(lengths) == len(inputs):
            return [{}]
        count = max([*lengths, 1 if len(lengths) < len(inputs) else 0])
    else:
        count = 1
    calls = []
    for i in range(count):
        call = {name: _element(value, i, name) for name, value in inputs.items()}
        for name, port in kind.inputs.items():
            if port.lazy and name in call:
                call[name] = _lazy(call[name])
        calls.append(call)
    return calls


def _lazy(value: Any) -> Lazy[Any]:
    return Lazy(value, is_known=False) if type(value) is Pending else Lazy(lambda: value)


def _element(value: Any, i: int, name: str) -> Any:
    if type(value) is not Listed:
        return value
    if not value:
        msg = f"the list for {name!r} is empty while other inputs have values"
        raise WeftError(msg)
    return value[min(i, len(value) - 1)]


def unpacked(kind: Kind, raw: Any) -> tuple[tuple[Any, ...], Shown | None]:
    """(outputs, shown) of what a function returned."""
    if kind.single:
        if kind.show_output is not None:
            return (), raw
        if not kind.outputs:
            return (), None
        return with_lists(kind, (raw,)), None
    shown = None
    if not isinstance(raw, tuple):
        msg = f"{kind.id} returned {type(raw).__name__} instead of a tuple"
        raise WeftError(msg)
    values = list(raw)
    if kind.show_output is not None and kind.show_output < len(values):
        shown = values.pop(kind.show_output)
    if len(values) != len(kind.outputs):
        msg = f"{kind.id} returned {len(values)} outputs instead of {len(kind.outputs)}"
        raise WeftError(msg)
    return with_lists(kind, tuple(values)), shown


def with_lists(kind: Kind, outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The outputs of one call, those that the kind declares as lists made so."""
    return tuple(
        Listed((value,) if type(value) is Blocked else value) if port.is_list and type(value) is not Listed else value
        for value, port in zip(outputs, kind.outputs, strict=True)
    )


def blockers(call: Mapping[str, Any]) -> list[Blocked]:
    """What stops a call: the blocked values among its inputs, and among the elements of those that are whole lists."""
    found: list[Blocked] = []
    for item in call.values():
        value = item() if type(item) is Lazy and item.is_known else item
        elements = value if type(value) is list or type(value) is Listed else (value,)
        found.extend(element for element in elements if type(element) is Blocked)
    return found


def blocked(kind: Kind) -> tuple[Any, ...]:
    """The outputs of a call that was not made."""
    return with_lists(kind, (Blocked(),) * len(kind.outputs))


def merged(
    kind: Kind, parts: list[tuple[tuple[Any, ...], Shown | None]], *, is_mapped: bool
) -> tuple[tuple[Any, ...], Shown | None]:
    """The results of several calls as one: outputs become lists, list outputs are joined, what is shown adds up."""
    if not is_mapped:
        return parts[0]
    outputs = []
    for i, output in enumerate(kind.outputs):
        if output.is_list:
            joined = Listed(v for part, _ in parts for v in (part[i] if type(part[i]) is Listed else (part[i],)))
            outputs.append(joined)
        else:
            outputs.append(Listed(part[i] for part, _ in parts))
    entries: dict[str, tuple[Any, ...]] = {}
    for _, shown in parts:
        if shown is not None:
            for name, values in shown.entries.items():
                entries[name] = (*entries.get(name, ()), *values)
    return tuple(outputs), Shown(entries) if entries else None
