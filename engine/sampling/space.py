"""Between the scale of a VAE's latents and the scale that a model samples in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from engine.types import LatentFormat


def fitted(latent: Tensor, channels: int) -> Tensor:
    """`latent` with the model's number of channels; an empty one takes any.

    Raises:
        ValueError: if the channels differ and the latent is not empty.
    """
    if latent.shape[1] == channels:
        return latent
    if torch.count_nonzero(latent):
        msg = f"cannot sample a latent of {latent.shape[1]} channels: the model's latents have {channels}"
        raise ValueError(msg)
    return latent.new_zeros((latent.shape[0], channels, *latent.shape[2:]))


def to_model_space(latent: Tensor, latent_format: LatentFormat) -> Tensor:
    """The latent as the network sees it, (latent - shift) * scale; an all-zero latent means "nothing" and stays zero."""
    if latent_format.shift and not torch.count_nonzero(latent):
        return latent
    return (latent - _per_channel(latent_format.shift, latent)) * _per_channel(latent_format.scale, latent)


def from_model_space(x: Tensor, latent_format: LatentFormat) -> Tensor:
    """The inverse of `to_model_space`: x / scale + shift, float32."""
    return (x / _per_channel(latent_format.scale, x) + _per_channel(latent_format.shift, x)).float()


def _per_channel(numbers: float | tuple[float, ...], latent: Tensor) -> float | Tensor:
    """A number for all channels as it is; several shaped to broadcast over `latent` [B, C, ...]."""
    if isinstance(numbers, float | int):
        return numbers
    return torch.tensor(numbers, device=latent.device, dtype=latent.dtype).reshape(1, -1, *(1,) * (latent.ndim - 2))


def rows(tensor: Tensor, count: int) -> Tensor:
    """`tensor` repeated or cut along its first axis to `count` rows; a view where that is possible."""
    have = tensor.shape[0]
    if have == count:
        return tensor
    if have == 1:
        return tensor.expand(count, *tensor.shape[1:])
    if have > count:
        return tensor[:count]
    return tensor.repeat(-(-count // have), *(1,) * (tensor.ndim - 1))[:count]


def cells(planes: Tensor, height: int, width: int) -> Tensor:
    """Masks [B, H, W] or [B, 1, H, W] brought bilinearly to [B, 1, height, width] latent cells."""
    planes = planes.reshape(-1, 1, *planes.shape[-2:]).float()
    if tuple(planes.shape[-2:]) == (height, width):
        return planes
    return torch.nn.functional.interpolate(planes, (height, width), mode="bilinear")
