"""LoRA files from differences of models: the nearest change of low rank for every weight.

Source: Eckart and Young 1936, "The approximation of one matrix by another of lower rank": the first singular vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from engine.errors import UnsupportedModel, WeftError
from engine.media import json_text
from engine.models.layout import original_unet_names
from engine.models.network import DiffusionModel
from engine.models.text import ClipTextEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from engine.models.weights import Weights
    from engine.types import Model, TextEncoder

Form = Literal["standard", "full_diff"]


def lora_bytes(
    model: Model | None,
    text_encoder: TextEncoder | None,
    *,
    rank: int,
    form: Form,
    bias: bool,
    texts: Mapping[str, Any],
    progress: Callable[[int, int], None],
) -> bytes:
    """A LoRA as the bytes of a file, in float16; what is zero everywhere is left out.

    Args:
        model: A network whose weights are a difference, as `ModelMergeSubtract` makes it; None for no part of it.
        text_encoder: The same of a text encoder.
        rank: Of the factors; less where a weight is smaller.
        form: `standard` for factors, `full_diff` for the differences themselves.
        bias: Whether differences of biases and norms are kept too.
        texts: Keyword to a JSON value; they go into the metadata.
        progress: Told how many weights are done, of how many.

    Raises:
        UnsupportedModel: if one of them is none that this package loaded.
        WeftError: if both are None, or nothing differs.
    """
    if not isinstance(model, DiffusionModel | None) or not isinstance(text_encoder, ClipTextEncoder | None):
        msg = f"cannot extract a LoRA from {model!r} and {text_encoder!r}: they hold no weights"
        raise UnsupportedModel(msg)
    if model is None and text_encoder is None:
        msg = "cannot extract a LoRA from nothing: link the difference of two models, of two text encoders, or both"
        raise WeftError(msg)
    import torch
    from safetensors.torch import save

    named = [*(_of_model(model) if model else ()), *(_of_text(text_encoder) if text_encoder else ())]
    tensors: dict[str, Tensor] = {}
    with torch.inference_mode():
        for done, (weights, name, original) in enumerate(named):
            progress(done, len(named))
            difference = weights.value(name)
            if bool(difference.any()):
                tensors |= _parts(original, difference, rank=rank, form=form, bias=bias)
    progress(len(named), len(named))
    if not tensors:
        msg = "cannot extract a LoRA: the difference is zero everywhere; subtract two models that are not the same"
        raise WeftError(msg)
    content: bytes = save(
        {name: tensor.half().cpu().contiguous() for name, tensor in tensors.items()},
        {keyword: json_text(value) for keyword, value in texts.items()},
    )
    return content


def _of_model(model: DiffusionModel) -> Iterator[tuple[Weights, str, str]]:
    """Weights, the name of one, and its name in the file."""
    for name, original in original_unet_names(model.weights.tensors).items():
        yield model.weights, name, f"diffusion_model.{original}"


def _of_text(text_encoder: ClipTextEncoder) -> Iterator[tuple[Weights, str, str]]:
    for name in text_encoder.weights.tensors:
        tower, _, rest = name.partition(".")
        inner = rest if rest.startswith("text_projection.") else f"text_model.{rest}"
        yield text_encoder.weights, name, f"text_encoders.{tower}.transformer.{inner}"


def _parts(original: str, difference: Tensor, *, rank: int, form: Form, bias: bool) -> dict[str, Tensor]:
    layer, _, end = original.rpartition(".")
    if end == "bias":
        return {f"{layer}.diff_b": difference} if bias else {}
    if form == "full_diff" or difference.ndim < 2:
        return {f"{layer}.diff": difference} if bias or difference.ndim >= 2 else {}
    up, down = factors(difference, rank)
    return {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}


def factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The two factors of the nearest weight of a rank.

    Args:
        weight: [O, I] or [O, I, kh, kw] float32.
        rank: Of the factors; the weight's own where that is less.

    Returns:
        [O, r] and [r, I], or [O, r, 1, 1] and [r, I, kh, kw]; the singular values are in the first.
    """
    import torch

    left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    rank = min(rank, len(values))
    up, down = left[:, :rank] * values[:rank], right[:rank]
    return up.reshape(*up.shape, *[1] * (weight.ndim - 2)), down.reshape(rank, *weight.shape[1:])
