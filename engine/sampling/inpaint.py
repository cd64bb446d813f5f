"""What keeps a part of a latent while the rest is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from engine.sampling.space import cells, rows, to_model_space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from engine.sampling.rules import MaskRule
    from engine.types import LatentFormat, NoiseSchedule

GREY = (0.8223, -0.6876, 0.6364, 0.1380)
"""A grey picture in the model space of Stable Diffusion 1: what an inpainting model sees where nothing is given."""


@dataclass(frozen=True, slots=True, eq=False)
class NoiseMask:
    """Keeps what a mask protects: noised to the current level on the way in, clean on the way out.

    Attributes:
        open: [B, 1, h, w] in 0..1, where the latent may change.
        clean: [B, C, h, w] the latent in model space.
        noise: [B, C, h, w] what the protected part is noised with.
        schedule: The model's noise levels.
    """

    open: Tensor
    closed: Tensor
    kept: Tensor
    clean: Tensor
    noise: Tensor
    schedule: NoiseSchedule

    @classmethod
    def of(cls, mask: Tensor, clean: Tensor, noise: Tensor, schedule: NoiseSchedule) -> NoiseMask:
        """Prepare a mask.

        Args:
            mask: [B, 1, H, W] or [B, H, W] in 0..1, any size.
            clean: [B, C, h, w] in model space.
            noise: [B, C, h, w] of unit variance.
            schedule: The model's noise levels.
        """
        batch, _, height, width = clean.shape
        return cls._opened(rows(cells(mask.to(clean.device), height, width), batch), clean, noise, schedule)

    @classmethod
    def _opened(cls, opened: Tensor, clean: Tensor, noise: Tensor, schedule: NoiseSchedule) -> NoiseMask:
        return cls(opened, 1.0 - opened, clean * (1.0 - opened), clean, noise, schedule)

    def at(self, sigma: float, levels: Sequence[float], rule: MaskRule | None) -> NoiseMask:
        """What a rule makes of this mask at level `sigma` of a sampling over `levels`."""
        if rule is None:
            return self
        return self._opened(rule(self.open, sigma, levels, self.schedule), self.clean, self.noise, self.schedule)

    def before(self, x: Tensor, sigma: float) -> Tensor:
        """What the network is given for `x` at level `sigma`."""
        return x * self.open + self.schedule.noised(self.noise, torch.tensor(sigma), self.clean) * self.closed

    def after(self, denoised: Tensor) -> Tensor:
        """What becomes of its answer."""
        return denoised * self.open + self.kept


def edited(options: Mapping[str, Any], clean: Tensor, latent_format: LatentFormat, *, is_scaled: bool) -> Tensor:
    """The further input of a model that edits pictures as it is told: the picture.

    Args:
        options: Of a conditioning entry: `concat_latent` [B, C, h, w] in the VAE's scale; an entry without it shows nothing.
        clean: [B, C, h, w] the latent that is sampled, in model space.
        latent_format: Scale of the latent space.
        is_scaled: Whether the network was shown pictures in model space; in the VAE's scale otherwise.

    Returns:
        [B, C, h, w].

    Raises:
        ValueError: if the picture is of another size than the latent.

    Source: Brooks et al. 2022, arXiv:2211.09800, section 3.2.
    """
    picture = options.get("concat_latent")
    if picture is None:
        return torch.zeros_like(clean)
    if picture.shape[1:] != clean.shape[1:]:
        msg = f"cannot edit: the picture is a latent of {list(picture.shape[1:])}, what is sampled is {list(clean.shape[1:])}"
        raise ValueError(msg)
    shown = picture.to(clean.device)
    return rows(to_model_space(shown, latent_format) if is_scaled else shown, clean.shape[0])


def joined(options: Mapping[str, Any], clean: Tensor, mask: Tensor | None, latent_format: LatentFormat) -> Tensor:
    """The further input of an inpainting model: where to paint, and the picture without that part.

    Args:
        options: Of a conditioning entry: `concat_mask` [B, H, W] and `concat_latent` [B, C, h, w] in the VAE's scale
            come before the latent's own.
        clean: [B, C, h, w] the latent that is sampled, in model space.
        mask: [B, 1, h, w] its noise mask, or None.
        latent_format: Scale of the latent space.

    Returns:
        [B, 1 + C, h, w]; the mask is 0 or 1. Without any mask everything is to be painted, on grey.
    """
    batch, channels, height, width = clean.shape
    place = options.get("concat_mask", mask)
    if place is None:
        grey = torch.tensor(GREY[:channels], device=clean.device).reshape(1, -1, 1, 1).expand(batch, -1, height, width)
        return torch.cat((torch.ones_like(clean[:, :1]), grey), dim=1)
    picture = options.get("concat_latent")
    given = clean if picture is None else rows(to_model_space(picture.to(clean.device), latent_format), batch)
    return torch.cat((rows(cells(place.to(clean.device), height, width).round(), batch), given), dim=1)
