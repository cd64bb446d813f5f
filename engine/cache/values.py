"""What is kept of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from engine.types import Shown


class Listed(tuple[Any, ...]):
    """The elements of an output that is a list: nodes downstream run once for each."""

    __slots__ = ()


class Result(NamedTuple):
    """The result of a call.

    Attributes:
        outputs: One value for each output; a `Listed` where it is a list.
        shown: What the node shows to people, or None.
        seconds: How long the call took.
    """

    outputs: tuple[Any, ...]
    shown: Shown | None = None
    seconds: float = 0.0
