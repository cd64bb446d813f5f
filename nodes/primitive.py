"""Nodes that hold one value, to feed several inputs from one place."""

from typing import Annotated

from engine.schema import Range, Widget, node

WIDEST = 2**63 - 1


@node("PrimitiveString", title="String", category="utils/primitive")
def string(*, value: Annotated[str, Widget(multiline=False)]) -> str:
    """A line of text.

    Args:
        value: The text.
    """
    return value


@node("PrimitiveStringMultiline", title="String (Multiline)", category="utils/primitive")
def multiline_string(*, value: Annotated[str, Widget(multiline=True)]) -> str:
    """Text of several lines.

    Args:
        value: The text.
    """
    return value


@node("PrimitiveInt", title="Int", category="utils/primitive")
def integer(*, value: Annotated[int, Range(-WIDEST, WIDEST), Widget(control_after_generate=True)]) -> int:
    """A whole number.

    Args:
        value: The number.
    """
    return value


@node("PrimitiveFloat", title="Float", category="utils/primitive")
def number(*, value: Annotated[float, Range(-WIDEST, WIDEST)]) -> float:
    """A number.

    Args:
        value: The number.
    """
    return value


@node("PrimitiveBoolean", title="Boolean", category="utils/primitive")
def boolean(*, value: bool) -> bool:
    """Yes or no.

    Args:
        value: Which.
    """
    return value
