"""The byte-pair tokenizer of CLIP, from the vocabulary that ships with the package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START = 49406
"""Opens every text."""

END = 49407
"""Closes every text; also fills it up in SD1."""

FOLDER = Path(__file__).parent.parent / "assets" / "clip"

_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What a word is: a contraction, letters, one digit, or other marks."""


def tokens(text: str) -> list[int]:
    """Token ids of `text`, without start and end; lower-cased, white space collapsed.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.4; the vocabulary is OpenAI's.
    """
    return list(_tokenizer().encode(text, add_special_tokens=False).ids)


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    model = BPE.from_file(
        str(FOLDER / "vocab.json"),
        str(FOLDER / "merges.txt"),
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
        unk_token="<|endoftext|>",  # noqa: S106 - a word of the vocabulary
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in ("<|startoftext|>", "<|endoftext|>")])
    return tokenizer
