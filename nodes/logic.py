"""Nodes that choose, count and convert plain values."""

from collections.abc import Mapping
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from engine.schema import Growing, Range, Widget, node
from engine.types import Lazy

T = TypeVar("T")

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


class Switched(NamedTuple, Generic[T]):
    """What a switch passes on."""

    output: T


class Numbers(NamedTuple):
    """A number in two forms."""

    FLOAT: float
    INT: int


class Result(NamedTuple):
    """The value of a formula in three forms."""

    FLOAT: float
    INT: int
    BOOL: bool


class Choice(NamedTuple):
    """What was chosen, and its place."""

    STRING: str
    INDEX: int


class Seed(NamedTuple):
    """A seed."""

    seed: int


class Listed(NamedTuple, Generic[T]):
    """A list."""

    list: list[T]


class Colour(NamedTuple):
    """A colour in three forms."""

    rgb_int: int
    hex: str
    alpha: float


@node("ComfySwitchNode", title="Switch", category="logic")
def switch(*, switch: bool = False, on_false: Lazy[T] | None = None, on_true: Lazy[T] | None = None) -> Switched[T | None]:
    """Pass on one of two values; the other one is never computed.

    Args:
        switch: Which one.
        on_false: Passed on if `switch` is off; nothing where it is not linked.
        on_true: Passed on if `switch` is on; nothing where it is not linked.

    Returns:
        output: The chosen value.
    """
    chosen = on_true if switch else on_false
    return Switched(None if chosen is None else chosen())


@node("ComfyMathExpression", title="Math Expression", category="logic")
def compute(
    *,
    expression: Annotated[str, Widget(multiline=True)] = "a + b",
    values: Annotated[Mapping[str, float | int | bool], Growing(names=LETTERS, max=26)],
) -> Result:
    """Compute a formula.

    Args:
        expression: Numbers, the letters of `values`, `+ - * / // % **`, comparisons, `and`, `or`, `not`, `& | ^ ~ << >>`,
            `x if condition else y`, and the functions sum, min, max, abs, round, pow, sqrt, ceil, floor, log, log2, log10,
            sin, cos, tan, int and float. `values` is the list of all values.
        values: The numbers, called a, b, c, ...; yes and no count as 1 and 0.

    Returns:
        FLOAT: Its value.
        INT: The same without its fraction.
        BOOL: Whether it is other than 0.
    """
    from engine.expressions import evaluated

    value = evaluated(expression, {**values, "values": tuple(values.values())})
    return Result(float(value), int(value), bool(value))


@node("ComfyNumberConvert", title="Number Convert", category="logic")
def convert(*, value: Annotated[int | float | str | bool, Widget(forceInput=True)]) -> Numbers:
    """Turn a value into numbers.

    Args:
        value: A number, text that is one, or yes and no, which are 1 and 0.

    Returns:
        FLOAT: The number.
        INT: The same without its fraction.
    """
    import math

    try:
        whole = int(value)
        number = float(value)
    except (ValueError, OverflowError):
        try:
            number = float(value)
            whole = int(number)
        except (ValueError, OverflowError) as cause:
            msg = f"cannot turn {value!r:.80} into a number"
            raise ValueError(msg) from cause
    if not math.isfinite(number):
        msg = f"cannot turn {value!r:.80} into a number: it is not finite"
        raise ValueError(msg)
    return Numbers(number, whole)


@node("CustomCombo", title="Custom Combo", category="utils", experimental=True)
def custom_choice(*, choice: str, index: int = 0) -> Choice:
    """A choice whose values are listed in the workflow itself.

    Args:
        choice: The chosen value.
        index: Its place among the values, from 0, as editors keep it.
    """
    return Choice(choice, index)


@node("SeedNode", title="Seed", category="utils")
def seed(*, seed: Annotated[int, Range(0, 2**63 - 1), Widget(control_after_generate=True)] = 0) -> Seed:
    """A seed that several nodes share.

    Args:
        seed: The seed.
    """
    return Seed(seed)


@node("CreateList", title="Create List", category="logic")
def create_list(*, inputs: Annotated[Mapping[str, list[T]], Growing("input")]) -> Listed[T]:
    """Put values and lists into one list; what follows runs once for each element.

    Args:
        inputs: Values or lists of one type, in order.

    Returns:
        list: All elements.
    """
    return Listed([element for part in inputs.values() for element in part])


@node("GetItemFromList", title="Get Item from List", category="logic")
def get_item(*, list: list[T], index: int = 0) -> T:  # noqa: A002 - the name that workflows use
    """Take one element out of a list.

    Args:
        list: The list.
        index: Its place, from 0; negative counts from the end.
    """
    if not -len(list) <= index < len(list):
        msg = f"cannot take element {index} out of a list of {len(list)}"
        raise ValueError(msg)
    return list[index]


@node("ColorToRGBInt", title="Color Picker", category="utils")
def colour(*, color: Annotated[str, Widget(widgetType="COLOR")] = "#ffffff") -> Colour:
    """Turn a colour into a number.

    Args:
        color: `#RRGGBB` or `#RRGGBBAA`, hexadecimal.

    Returns:
        rgb_int: Red x 65536 + green x 256 + blue.
        hex: `#RRGGBB`.
        alpha: 0 to 1; 1 where the colour does not say.
    """
    import re

    if not re.fullmatch(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{8})", color):
        msg = f"cannot read the colour {color!r:.40}: it is neither #RRGGBB nor #RRGGBBAA"
        raise ValueError(msg)
    return Colour(int(color[1:7], 16), color[:7], int(color[7:] or "ff", 16) / 255)


@node("ConvertArrayToString", title="Convert Array to String", category="utils/string")
def array_text(*, array: Any, indent: Annotated[int, Range(0, 8)] = 2) -> str:
    """Write a list as JSON.

    Args:
        array: The list.
        indent: Spaces for each level; 0 writes one line.
    """
    import json

    return json.dumps(array, ensure_ascii=False, indent=indent or None)


@node("ConvertDictionaryToString", title="Convert Dictionary to String", category="utils/string")
def dictionary_text(*, dictionary: Any, indent: Annotated[int, Range(0, 8)] = 2) -> str:
    """Write a table of names and values as JSON.

    Args:
        dictionary: The table.
        indent: Spaces for each level; 0 writes one line.
    """
    import json

    return json.dumps(dictionary, ensure_ascii=False, indent=indent or None)
