"""Nodes that make conditioning from text, and combine and limit it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from engine.folders import Folders
from engine.schema import Range, References, Widget, node
from engine.types import Cond, Conditioning, Mask, Run, TextEncoder

if TYPE_CHECKING:
    from torch import Tensor

CELL_PX = 8
"""Pixels of a picture for each latent cell, along one side, that area ports count with."""

Strength = Annotated[float, Range(0.0, 10.0, step=0.01)]
AreaSize = Annotated[int, Range(64, 16384, step=8)]
AreaPlace = Annotated[int, Range(0, 16384, step=8)]
Fraction = Annotated[float, Range(0, 1.0, step=0.01)]
Percent = Annotated[float, Range(0.0, 1.0, step=0.001)]


def embedding_files(text: str, folders: Folders) -> list[Path]:
    """The files of the textual inversions that a prompt names."""
    from engine.models import embedding_finder
    from engine.models.prompt import EmbeddingName, parts, segments

    if "embedding:" not in text:
        return []
    find = embedding_finder(folders)
    words = (part for segment in segments(text) for part in parts(segment.text))
    names = [word.name for word in words if isinstance(word, EmbeddingName)]
    found = [find(name) or find(name.rstrip(",")) for name in names]
    return [path for path in found if path is not None]


@node("CLIPTextEncode", title="CLIP Text Encode (Prompt)", category="conditioning")
def encode_text(
    *,
    text: Annotated[str, Widget(multiline=True, dynamicPrompts=True), References(embedding_files)],
    clip: TextEncoder,
    run: Run,
) -> Conditioning:
    """Encode a prompt for a diffusion model.

    Differs: a textual inversion of another family is an error; the reference leaves it out.

    Args:
        text: The prompt. `(words:1.2)` weighs words, `embedding:name` inserts a textual inversion.
        clip: The text encoder of the model.
        run: Knows the embeddings folders.
    """
    from engine.models import embedding_finder

    return clip.encode(text, find_embedding=embedding_finder(run.folders))


@node("CLIPSetLastLayer", title="CLIP Set Last Layer", category="conditioning")
def set_last_layer(*, clip: TextEncoder, stop_at_clip_layer: Annotated[int, Range(-24, -1, step=1)] = -1) -> TextEncoder:
    """Take the text encoding from an earlier layer ("clip skip").

    Args:
        clip: The text encoder.
        stop_at_clip_layer: The layer, counted from the end: -1 is the last.
    """
    return clip.with_clip_skip(stop_at_clip_layer)


@node("ConditioningCombine", title="Conditioning (Combine)", category="conditioning")
def combine(*, conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Follow both conditionings: the model is asked for each, and its answers are averaged.

    Args:
        conditioning_1: One conditioning.
        conditioning_2: The other.
    """
    return Conditioning((*conditioning_1.entries, *conditioning_2.entries))


@node("ConditioningAverage", title="ConditioningAverage", category="conditioning")
def average(
    *,
    conditioning_to: Conditioning,
    conditioning_from: Conditioning,
    conditioning_to_strength: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0,
) -> Conditioning:
    """Mix the encodings of two prompts into one.

    Args:
        conditioning_to: The encoding at strength 1; gives length, areas and masks.
        conditioning_from: The encoding at strength 0; only its first entry is used, cut or filled up with zeros.
        conditioning_to_strength: Share of `conditioning_to`.
    """
    source = conditioning_from.entries[0]
    share = conditioning_to_strength

    def mixed(entry: Cond) -> Cond:
        length = entry.tokens.shape[1]
        other = source.tokens[:, :length]
        if other.shape[1] < length:
            other = _zero_padded(other, length)
        pooled = entry.pooled
        if source.pooled is not None:
            pooled = (source.pooled if pooled is None else pooled) * share + source.pooled * (1.0 - share)
        return replace(entry, tokens=entry.tokens * share + other * (1.0 - share), pooled=pooled)

    return Conditioning(tuple(mixed(entry) for entry in conditioning_to.entries))


@node("ConditioningConcat", title="Conditioning (Concat)", category="conditioning")
def concat(*, conditioning_to: Conditioning, conditioning_from: Conditioning) -> Conditioning:
    """Append one encoding to another, as if their prompts were chunks of one long prompt.

    Args:
        conditioning_to: What comes first; gives everything but the tokens.
        conditioning_from: What is appended; only its first entry is used.
    """
    import torch

    tail = conditioning_from.entries[0].tokens
    return Conditioning(
        tuple(replace(entry, tokens=torch.cat((entry.tokens, tail), dim=1)) for entry in conditioning_to.entries)
    )


@node("ConditioningSetArea", title="Conditioning (Set Area)", category="conditioning")
def set_area(
    *,
    conditioning: Conditioning,
    width: AreaSize = 64,
    height: AreaSize = 64,
    x: AreaPlace = 0,
    y: AreaPlace = 0,
    strength: Strength = 1.0,
) -> Conditioning:
    """Limit a conditioning to a rectangle of the picture.

    Args:
        conditioning: What to limit.
        width: Of the rectangle, in pixels.
        height: Of the rectangle, in pixels.
        x: Its left edge, in pixels.
        y: Its top edge, in pixels.
        strength: Weight against other conditionings there.
    """
    area = (height // CELL_PX, width // CELL_PX, y // CELL_PX, x // CELL_PX)
    return conditioning.with_options(area=area, strength=strength, set_area_to_bounds=False)


@node("ConditioningSetAreaPercentage", title="Conditioning (Set Area with Percentage)", category="conditioning")
def set_area_percentage(
    *,
    conditioning: Conditioning,
    width: Fraction = 1.0,
    height: Fraction = 1.0,
    x: Fraction = 0.0,
    y: Fraction = 0.0,
    strength: Strength = 1.0,
) -> Conditioning:
    """Limit a conditioning to a rectangle of the picture, given in shares of its size.

    Args:
        conditioning: What to limit.
        width: Of the rectangle, as a share of the picture's.
        height: Of the rectangle, as a share of the picture's.
        x: Its left edge, as a share of the width.
        y: Its top edge, as a share of the height.
        strength: Weight against other conditionings there.
    """
    return conditioning.with_options(area=("percentage", height, width, y, x), strength=strength, set_area_to_bounds=False)


@node("ConditioningSetAreaStrength", title="ConditioningSetAreaStrength", category="conditioning")
def set_area_strength(*, conditioning: Conditioning, strength: Strength = 1.0) -> Conditioning:
    """Weigh a conditioning against others.

    Args:
        conditioning: What to weigh.
        strength: Its weight.
    """
    return conditioning.with_options(strength=strength)


@node("ConditioningSetMask", title="Conditioning (Set Mask)", category="conditioning")
def set_mask(
    *,
    conditioning: Conditioning,
    mask: Mask,
    strength: Strength = 1.0,
    set_cond_area: Literal["default", "mask bounds"],
) -> Conditioning:
    """Limit a conditioning to where a mask is set.

    Args:
        conditioning: What to limit.
        mask: Where it holds, and how much; resized to the latent.
        strength: Weight against other conditionings there.
        set_cond_area: Whether the model sees the whole picture, or only the bounds of the mask.
    """
    planes = mask if mask.ndim == 3 else mask[None]
    return conditioning.with_options(mask=planes, mask_strength=strength, set_area_to_bounds=set_cond_area == "mask bounds")


@node("ConditioningZeroOut", title="ConditioningZeroOut", category="advanced/conditioning")
def zero_out(*, conditioning: Conditioning) -> Conditioning:
    """Replace an encoding by zeros of the same shape.

    Args:
        conditioning: What to replace.
    """
    import torch

    return Conditioning(
        tuple(
            replace(
                entry,
                tokens=torch.zeros_like(entry.tokens),
                pooled=None if entry.pooled is None else torch.zeros_like(entry.pooled),
            )
            for entry in conditioning.entries
        )
    )


@node("ConditioningSetTimestepRange", title="ConditioningSetTimestepRange", category="advanced/conditioning")
def set_timestep_range(*, conditioning: Conditioning, start: Percent = 0.0, end: Percent = 1.0) -> Conditioning:
    """Limit a conditioning to a part of the way from noise to picture.

    Args:
        conditioning: What to limit.
        start: When it begins: 0 is pure noise.
        end: When it ends: 1 is the finished picture.
    """
    return conditioning.with_options(start_percent=start, end_percent=end)


def _zero_padded(tokens: "Tensor", length: int) -> "Tensor":
    """[B, T, D] tokens filled up with zeros to `length`."""
    import torch

    return torch.nn.functional.pad(tokens, (0, 0, 0, length - tokens.shape[1]))
