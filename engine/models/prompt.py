r"""Prompts: weights, embeddings and chunks. Plain data, no torch.

`(words)` multiplies the weight by 1.1, `(words:1.3)` sets it, the innermost number wins, `\(` and `\)` are literal.
Nothing else has a meaning: brackets, `BREAK` and `<lora:...>` are text.

A parenthesis that is never closed is text, and so is everything after one that was never opened.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")

EMPHASIS = 1.1
"""What a pair of parentheses without a number multiplies by."""

NESTING_LIMIT = 100
"""Deeper parentheses are text; their weight would be beyond 10,000."""

LARGE_GROUP = 8
"""A group of at least this many tokens is split across chunks; a shorter one moves to the next chunk whole."""

EMBEDDING_PREFIX = "embedding:"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a prompt with one weight.

    Attributes:
        text: Its words, escapes resolved.
        weight: How much they count; 1 is neutral.
    """

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class EmbeddingName:
    """A textual inversion that a prompt names.

    Attributes:
        name: What follows `embedding:`, up to the next space.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Weighted(Generic[T]):
    """Tokens that stay together.

    Attributes:
        tokens: Token ids, or vectors of an embedding.
        weight: How much they count.
    """

    tokens: tuple[T, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """What the encoder reads at once.

    Attributes:
        tokens: Start, at most `length - 2` tokens, end, padding.
        weights: A weight for each of them.
    """

    tokens: tuple[T, ...]
    weights: tuple[float, ...]


def segments(prompt: str) -> tuple[Segment, ...]:
    """Split a prompt into stretches of one weight, in order."""
    return tuple(_segments(prompt, 1.0, NESTING_LIMIT))


def _segments(text: str, weight: float, levels: int) -> Iterable[Segment]:
    for piece in _pieces(text):
        if levels and piece.startswith("(") and piece.endswith(")") and not piece.endswith("\\)"):
            yield from _segments(*_weighed(piece[1:-1], weight), levels - 1)
        else:
            yield Segment(piece.replace("\\(", "(").replace("\\)", ")"), weight)


def _pieces(text: str) -> list[str]:
    """Split into outermost parenthesised groups and what is between them; empty pieces are left out."""
    pieces: list[str] = []
    depth, start = 0, 0
    for mark in re.finditer(r"\\[()]|[()]", text):
        if mark[0] == "(":
            if depth == 0:
                pieces.append(text[start : mark.start()])
                start = mark.start()
            depth += 1
        elif mark[0] == ")":
            depth -= 1
            if depth == 0:
                pieces.append(text[start : mark.end()])
                start = mark.end()
    return [piece for piece in (*pieces, text[start:]) if piece]


def _weighed(group: str, weight: float) -> tuple[str, float]:
    """The text of a group and its weight: the number after its last colon, or `EMPHASIS` times the surrounding one."""
    words, colon, number = group.rpartition(":")
    if colon and words:
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return words, value
    return group, weight * EMPHASIS


def parts(text: str) -> tuple[str | EmbeddingName, ...]:
    """Split a segment's text at the embeddings that it names.

    `embedding:` counts at the start and after a space or a newline; the name ends at the next white space.
    """
    found: list[str | EmbeddingName] = []
    for piece in re.split(rf"(?:(?<=\A)|[ \n])(?={EMBEDDING_PREFIX})", text):
        if piece.startswith(EMBEDDING_PREFIX):
            name, space, rest = re.fullmatch(r"(\S*)(\s?)(.*)", piece.removeprefix(EMBEDDING_PREFIX), re.DOTALL).groups()  # type: ignore[union-attr] # it matches any text
            found += [EmbeddingName(name), *([rest] if space and rest else [])]
        elif piece:
            found.append(piece)
    return tuple(found)


def chunked(groups: Sequence[Weighted[T]], *, start: T, end: T, pad: T, length: int = 77) -> tuple[Chunk[T], ...]:
    """Lay token groups out in chunks of `length`.

    Args:
        groups: The groups in order.
        start: The token that opens each chunk.
        end: The token that closes its words.
        pad: The token that fills it up.
        length: Tokens of a chunk, start and end included.

    Returns:
        At least one chunk; an empty prompt is a chunk of padding.
    """
    rows: list[list[tuple[T, float]]] = [[]]
    room = length - 2
    for group in groups:
        left = [(token, group.weight) for token in group.tokens]
        is_large = len(left) >= LARGE_GROUP
        while left:
            free = room - len(rows[-1])
            taken = len(left)
            if taken > free:
                taken = free if is_large or not rows[-1] else 0
            rows[-1] += left[:taken]
            left = left[taken:]
            if left:
                rows.append([])
    return tuple(_chunk(row, start=start, end=end, pad=pad, length=length) for row in rows)


def _chunk(row: list[tuple[T, float]], *, start: T, end: T, pad: T, length: int) -> Chunk[T]:
    fill = length - 2 - len(row)
    tokens = (start, *(token for token, _ in row), end, *([pad] * fill))
    return Chunk(tokens, (1.0, *(weight for _, weight in row), 1.0, *([1.0] * fill)))
