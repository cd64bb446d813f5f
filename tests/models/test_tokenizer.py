"""The tokenizer against the one of transformers, on the same vocabulary."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models import tokenizer

TRICKY = (
    "",
    " ",
    "a cat",
    "A CAT",
    "  a\t cat\n\n",
    "it's they're we'll I'd can't don't IT'S",
    "2023 12345 1st",
    "hello!!! (world)... ;-)",
    "naïve café Ärger É",
    "e\u0301 vs é",
    "一只猫 ねこ 고양이",
    "🐈 👩‍👩‍👧 🇩🇪",
    "\u017f İ ǅ ß",
    "\u00a0nbsp\u3000wide\u200bzero",
    "supercalifragilisticexpialidocious",
    "under_score-hyphen/slash\\back",
    "<|endoftext|> <|startoftext|> <|other|>",
    "a<|endoftext|>b",
    "\x00\x01 control",
    "½ ² Ⅷ ٣",
    "x" * 500,
)


@pytest.fixture(scope="module")
def theirs():
    from transformers import CLIPTokenizer

    vocabulary = json.loads((tokenizer.FOLDER / "vocab.json").read_text("utf-8"))
    lines = (tokenizer.FOLDER / "merges.txt").read_text("utf-8").splitlines()[1:]
    return CLIPTokenizer(vocab=vocabulary, merges=[tuple(line.split()) for line in lines])


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_give_the_tokens_of_transformers(text, theirs):
    assert tokenizer.tokens(text) == theirs(text, add_special_tokens=False).input_ids


def test_any_text_gives_the_tokens_of_transformers(theirs):
    @given(st.text(max_size=40))
    def same(text: str) -> None:
        assert tokenizer.tokens(text) == theirs(text, add_special_tokens=False).input_ids

    same()


def test_the_vocabulary_is_that_of_clip():
    assert tokenizer.tokens("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (tokenizer.START, tokenizer.END) == (49406, 49407)
    assert len(json.loads((tokenizer.FOLDER / "vocab.json").read_text("utf-8"))) == 49408
