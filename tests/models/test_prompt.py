"""Prompt syntax: weights, embeddings, chunks."""

from __future__ import annotations

import pytest

from engine.models.prompt import EmbeddingName, Segment, Weighted, chunked, parts, segments


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("(cat)", [("cat", 1.1)]),
        ("((cat))", [("cat", 1.1 * 1.1)]),
        ("(cat:1.3)", [("cat", 1.3)]),
        ("((cat:1.3))", [("cat", 1.3)]),
        ("((cat) dog:0.5)", [("cat", 0.55), (" dog", 0.5)]),
        ("(a (b:1.2) c:0.5) d", [("a ", 0.5), ("b", 1.2), (" c", 0.5), (" d", 1.0)]),
        ("(bad:-0.5)", [("bad", -0.5)]),
        ("(cat:dog:1.2)", [("cat:dog", 1.2)]),
        ("(cat:dog)", [("cat:dog", 1.1)]),
        ("(:1.3)", [(":1.3", 1.1)]),
        ("(cat:)", [("cat:", 1.1)]),
        ("(cat:nan)", [("cat:nan", 1.1)]),
        ("(cat: 1.5 )", [("cat", 1.5)]),
        ("()", []),
        (r"\(cat\)", [("(cat)", 1.0)]),
        (r"(a \(b\):1.5)", [("a (b)", 1.5)]),
        (r"(a \)", [(r"(a )", 1.0)]),
        ("(cat", [("(cat", 1.0)]),
        ("cat) (dog:2)", [("cat) (dog:2)", 1.0)]),
        ("a (cat with ) and (hat:1.2", [("a ", 1.0), ("cat with ", 1.1), (" and ", 1.0), ("(hat:1.2", 1.0)]),
        ("[cat] BREAK <lora:x:1> [a:b:0.5]", [("[cat] BREAK <lora:x:1> [a:b:0.5]", 1.0)]),
        ("(embedding:name:1.4)", [("embedding:name", 1.4)]),
    ],
)
def test_weights(prompt, expected):
    assert segments(prompt) == tuple(Segment(text, pytest.approx(weight)) for text, weight in expected)


def test_parentheses_beyond_any_sense_are_text():
    nested = "(" * 5000 + "cat" + ")" * 5000

    (segment,) = segments(nested)

    assert segment.text.startswith("(")
    assert "cat" in segment.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", ("a cat",)),
        ("embedding:x", (EmbeddingName("x"),)),
        ("embedding:x, cat", (EmbeddingName("x,"), "cat")),
        ("a embedding:x b", ("a", EmbeddingName("x"), "b")),
        ("a\nembedding:x\nb", ("a", EmbeddingName("x"), "b")),
        ("embedding:x embedding:y", (EmbeddingName("x"), EmbeddingName("y"))),
        ("notembedding:x", ("notembedding:x",)),
        ("embedding:", (EmbeddingName(""),)),
    ],
)
def test_embeddings_are_named_at_the_start_of_a_word(text, expected):
    assert parts(text) == expected


def _chunks(*lengths: int, length: int = 77) -> list[tuple[int, ...]]:
    """Chunks of groups of the given lengths; a token is the number of its group, 0 starts, -1 ends, -2 pads."""
    groups = [Weighted((n,) * size, 1.0) for n, size in enumerate(lengths, start=1)]
    return [chunk.tokens for chunk in chunked(groups, start=0, end=-1, pad=-2, length=length)]


def test_an_empty_prompt_is_one_chunk_of_padding():
    assert _chunks() == [(0, -1, *[-2] * 75)]


def test_seventy_five_tokens_fill_one_chunk():
    assert _chunks(75) == [(0, *[1] * 75, -1)]


def test_one_token_more_opens_a_second_chunk():
    assert _chunks(76) == [(0, *[1] * 75, -1), (0, 1, -1, *[-2] * 74)]


def test_a_short_group_moves_to_the_next_chunk_whole():
    assert _chunks(72, 7) == [(0, *[1] * 72, -1, *[-2] * 3), (0, *[2] * 7, -1, *[-2] * 68)]


def test_a_long_group_is_split():
    assert _chunks(72, 8) == [(0, *[1] * 72, *[2] * 3, -1), (0, *[2] * 5, -1, *[-2] * 70)]


def test_a_long_group_behind_a_full_chunk_starts_the_next():
    assert _chunks(75, 8) == [(0, *[1] * 75, -1), (0, *[2] * 8, -1, *[-2] * 67)]


def test_weights_go_with_their_tokens():
    (chunk,) = chunked([Weighted((5,), 1.5), Weighted((6, 7), 0.5)], start=0, end=9, pad=9, length=6)

    assert list(zip(chunk.tokens, chunk.weights, strict=True)) == [(0, 1.0), (5, 1.5), (6, 0.5), (7, 0.5), (9, 1.0), (9, 1.0)]
