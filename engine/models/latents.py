"""Latents as files: safetensors with one tensor, in the VAE's own scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import ModelFileError
from engine.media import json_text
from engine.models import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

SUFFIX = ".latent"
TENSOR = "latent_tensor"
MARK = "latent_format_version_0"
"""Name of an empty tensor: the latent is in the VAE's scale."""

OLD_SCALE = 0.18215
"""What latents were multiplied by in files without the mark."""


def latent_bytes(samples: Tensor, texts: Mapping[str, Any]) -> bytes:
    """A latent as the bytes of a file.

    Args:
        samples: [B, C, ..., h, w], in the VAE's scale.
        texts: Keyword to a JSON value; they go into the metadata.
    """
    import torch
    from safetensors.torch import save

    tensors = {TENSOR: samples.detach().cpu().contiguous(), MARK: torch.empty(0)}
    content: bytes = save(tensors, {keyword: json_text(value) for keyword, value in texts.items()})
    return content


def read_latent(path: Path) -> Tensor:
    """The latent of a file: [B, C, ..., h, w] float32, in the VAE's scale.

    Raises:
        ModelFileError: if the file is none that holds a latent.
    """
    tensors = files.read_safetensors(path)
    samples = tensors.get(TENSOR)
    if samples is None or samples.ndim < 4:
        what = "no tensor of this name" if samples is None else f"a tensor of shape {list(samples.shape)}"
        msg = f"cannot read it as a latent: it holds {what}; expected [B, C, h, w]"
        raise ModelFileError(msg, file=str(path), key=TENSOR)
    samples = samples.float()
    return samples if MARK in tensors else samples / OLD_SCALE
