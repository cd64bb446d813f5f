"""Formulas of numbers, as people write them into a workflow. They are never run as Python: each operator is done here.

What a formula may cost is bounded before it is done: its length, its depth, and the size of its whole numbers.
"""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING, Final, TypeAlias

from engine.errors import WeftError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Number: TypeAlias = int | float
"""A whole number, a fraction, or yes and no, which count as 1 and 0."""

MAX_CHARACTERS: Final = 4_000
MAX_DEPTH: Final = 120
MAX_BITS: Final = 4_096
"""Of a whole number, also on the way."""

_BINARY: Final[Mapping[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.RShift: operator.rshift,
}
_UNARY: Final[Mapping[type[ast.unaryop], Callable[[Number], Number]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: lambda value: ~int(value) if isinstance(value, int) else _refuse("~ is for whole numbers"),
}
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Number, Number], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
FUNCTIONS: Final[Mapping[str, Callable[..., Number]]] = {
    "sum": sum,
    "min": min,
    "max": max,
    "abs": abs,
    "round": round,
    "sqrt": math.sqrt,
    "ceil": math.ceil,
    "floor": math.floor,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "int": int,
    "float": float,
}
"""What a formula may call, besides `pow`."""


def evaluated(text: str, variables: Mapping[str, Number | tuple[Number, ...]]) -> Number:
    """The value of a formula.

    Args:
        text: Numbers, variables, `+ - * / // % **`, `& | ^ ~ << >>` of whole numbers, comparisons, `and`, `or`, `not`,
            `x if condition else y`, and calls of `FUNCTIONS` and `pow`, which may be given a list `[x, y]`.
        variables: By name.

    Raises:
        WeftError: if it is no formula, costs too much, or has no finite value; the message says where.
    """
    if not text.strip():
        msg = "the formula is empty"
        raise WeftError(msg)
    if len(text) > MAX_CHARACTERS:
        msg = f"the formula has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}"
        raise WeftError(msg)
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as cause:
        msg = f"{text!r:.200} is no formula: {cause}"
        raise WeftError(msg) from cause
    try:
        value = _number(tree, variables, 0)
        if not math.isfinite(float(value)):
            _refuse(f"its value is {value}")
    except (ArithmeticError, ValueError, TypeError) as cause:
        msg = f"cannot compute {text!r:.200}: {cause}"
        raise WeftError(msg) from cause
    return value


def _refuse(reason: str) -> Number:
    raise ValueError(reason)


def _value(tree: ast.expr, variables: Mapping[str, Number | tuple[Number, ...]], depth: int) -> Number | tuple[Number, ...]:
    if depth > MAX_DEPTH:
        _refuse(f"it nests deeper than {MAX_DEPTH}")
    match tree:
        case ast.Constant(value=bool() | int() | float() as value):
            return _bounded(value)
        case ast.Name(id=name):
            if name not in variables:
                known = ", ".join(variables) or "none"
                _refuse(f"there is no variable {name!r} (there are: {known})")
            return variables[name]
        case ast.List(elts=entries) | ast.Tuple(elts=entries):
            return tuple(_number(entry, variables, depth + 1) for entry in entries)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _called(name, [_value(argument, variables, depth + 1) for argument in arguments])
    return _computed(tree, variables, depth + 1)


def _computed(tree: ast.expr, variables: Mapping[str, Number | tuple[Number, ...]], depth: int) -> Number:
    match tree:
        case ast.BinOp(left=left, op=op, right=right):
            return _combined(op, _number(left, variables, depth), _number(right, variables, depth))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_number(operand, variables, depth))
        case ast.BoolOp(op=op, values=values):
            value: Number = 0
            for part in values:
                value = _number(part, variables, depth)
                if bool(value) is isinstance(op, ast.Or):
                    break
            return value
        case ast.Compare(left=left, ops=ops, comparators=others):
            before = _number(left, variables, depth)
            for comparison, other in zip(ops, others, strict=True):
                if type(comparison) not in _COMPARISONS:
                    return _refuse("numbers compare with == != < <= > >= alone")
                after = _number(other, variables, depth)
                if not _COMPARISONS[type(comparison)](before, after):
                    return False
                before = after
            return True
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            return _number(body if _number(test, variables, depth) else otherwise, variables, depth)
    return _refuse(f"{ast.unparse(tree)[:80]!r} is nothing that a formula may hold")


def _number(tree: ast.expr, variables: Mapping[str, Number | tuple[Number, ...]], depth: int) -> Number:
    value = _value(tree, variables, depth)
    return _refuse("a list stands where a number is needed") if isinstance(value, tuple) else value


def _called(name: str, values: list[Number | tuple[Number, ...]]) -> Number:
    if name == "pow" and len(values) == 2:
        one, other = values
        if isinstance(one, int | float) and isinstance(other, int | float):
            return _combined(ast.Pow(), one, other)
    if name not in FUNCTIONS:
        return _refuse(f"there is no function {name!r} (there are: {', '.join([*FUNCTIONS, 'pow'])})")
    result = FUNCTIONS[name](*values)
    return _bounded(result) if isinstance(result, int | float) else _refuse(f"{name} gives no number")


def _combined(op: ast.operator, one: Number, other: Number) -> Number:
    """One operator done; whole numbers that would be too large are refused before."""
    if isinstance(op, ast.Pow):
        if isinstance(one, int) and isinstance(other, int) and other > 0:
            _check_bits(one.bit_length() * other)
        result = one**other
        return _bounded(result) if isinstance(result, int | float) else _refuse("its value is no real number")
    if isinstance(op, ast.LShift):
        if not isinstance(one, int) or not isinstance(other, int):
            return _refuse("<< is for whole numbers")
        _check_bits(one.bit_length() + other)
        return one << other
    if type(op) not in _BINARY:
        return _refuse("an operator that a formula may not hold")
    return _bounded(_BINARY[type(op)](one, other))


def _bounded(value: Number) -> Number:
    if isinstance(value, int):
        _check_bits(value.bit_length())
    return value


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        _refuse(f"a number of more than {MAX_BITS} bits")
