"""`comfy.sample`: noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def prepare_noise(latent_image: Tensor, seed: int, noise_inds: Any = None) -> Tensor:
    """Noise of the shape of a latent; samples with equal entries of `noise_inds` share theirs."""
    from engine.sampling.noise import initial_noise

    return initial_noise(latent_image.shape, seed, None if noise_inds is None else [int(place) for place in noise_inds])
