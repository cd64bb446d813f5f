"""Rules that correct classifier-free guidance. With D the denoised latents, D_c of the positive and D_u of the negative side.

Each is a value with its parameters, called with the moment that it corrects; see `rules` for where it belongs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import torch

from engine.sampling.mix import perpendicular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engine.sampling.guidance import Passes
    from engine.sampling.rules import Moment
    from engine.types import Conditioning, LatentOperation, NoiseSchedule

SMALL = 1e-8
"""Added to what is divided by, where that may be 0."""

DIRECTION_FLOOR = 1e-12
"""Shortest positive answer that has a direction."""


@dataclass(frozen=True, slots=True)
class Rescale:
    """Guidance whose result, read as a velocity, has the spread of the positive answer. A `combine` rule.

    Attributes:
        share: Of the rescaled result; the rest is plain guidance.

    Source: Lin et al. 2023, arXiv:2305.08891, section 3.4.
    """

    share: float

    def __call__(self, moment: Moment) -> Tensor:
        """The guided denoised latent."""
        power = moment.sigma**2 + 1.0
        factor = moment.sigma / math.sqrt(power)
        clean = moment.x / power
        cond, uncond = ((clean - answer) / factor for answer in (moment.cond, moment.uncond))
        guided = torch.lerp(uncond, cond, moment.cfg)
        axes = tuple(range(1, cond.ndim))
        rescaled = guided * (cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True))
        return clean - torch.lerp(guided, rescaled, self.share) * factor


@dataclass(frozen=True, slots=True)
class Renorm:
    """Guidance whose result is no longer than the positive answer. A `combine` rule.

    Attributes:
        below: Noise level from which on there is guidance; above it the positive answer stands alone.
        limit: How much longer the result may be than the positive answer; 0 for any length.

    Source: Qin et al. 2025 (Lumina-Image 2.0), arXiv:2503.21758, CFG-Renorm and CFG-Trunc.
    """

    below: float
    limit: float

    def __call__(self, moment: Moment) -> Tensor:
        """The guided denoised latent."""
        if moment.sigma >= self.below:
            return moment.cond
        guided = torch.lerp(moment.uncond, moment.cond, moment.cfg)
        if self.limit <= 0.0:
            return guided
        longest = _length(moment.cond) * self.limit
        length = _length(guided)
        return torch.where(length >= longest, guided * (longest / length), guided)


@dataclass(frozen=True, slots=True)
class Spread:
    """A scale of its own for each sample of a batch, as the frames of a video have. A `combine` rule.

    Attributes:
        least: The lowest scale; the highest is that of the guidance.
        shape: Whether the scale rises to the last sample, or to the middle and falls again.

    Source: Blattmann et al. 2023 (Stable Video Diffusion), arXiv:2311.15127, appendix D.3.
    """

    least: float
    shape: Literal["linear", "triangle"]

    def __call__(self, moment: Moment) -> Tensor:
        """The guided denoised latent."""
        rise = torch.linspace(0, 1, moment.cond.shape[0], device=moment.cond.device)
        if self.shape == "triangle":
            rise = 2 * (rise - (rise + 0.5).floor()).abs()
        scale = (self.least + rise * (moment.cfg - self.least)).reshape(-1, *(1,) * (moment.cond.ndim - 1))
        return moment.uncond + (moment.cond - moment.uncond) * scale


@dataclass(frozen=True, slots=True, eq=False)
class Perpendicular:
    """Avoids only what the negative answer does not share with the positive one. A `combine` rule.

    Attributes:
        empty: Conditioning of an empty prompt.
        negative: How strongly to avoid.

    Source: Armandpour et al. 2023 (Perp-Neg), arXiv:2304.04968, eq. 8.
    """

    empty: Conditioning
    negative: float

    def __call__(self, moment: Moment) -> Passes:
        """The guided denoised latent, after a pass for the empty prompt."""
        empty = yield from moment.other(self.empty)
        return perpendicular(moment.cond, moment.uncond, empty, moment.cfg, self.negative)


@dataclass(frozen=True, slots=True)
class ZeroStar:
    """Scales the negative answer so that it fits the positive one best before they are compared. A `post` rule.

    Source: Fan et al. 2025 (CFG-Zero*), arXiv:2503.18886, eq. 11. The scale is that of the noise that the answers leave;
    as in the reference it is applied to the denoised latent.
    """

    def __call__(self, moment: Moment) -> Tensor:
        """The corrected denoised latent."""
        cond, uncond = moment.x - moment.cond, moment.x - moment.uncond
        axes = tuple(range(1, cond.ndim))
        fit = (cond * uncond).sum(axes, keepdim=True) / (uncond.square().sum(axes, keepdim=True) + SMALL)
        return moment.denoised + moment.uncond * ((fit - 1.0) * (1.0 - moment.cfg))


@dataclass(frozen=True, slots=True)
class Norm:
    """At no place a longer vector of channels than the positive answer has. A `post` rule.

    Attributes:
        strength: Factor of the result.

    Source: no paper; the guidance of HiDream-E1 and Qwen-Image-Edit.
    """

    strength: float

    def __call__(self, moment: Moment) -> Tensor:
        """The corrected denoised latent."""
        allowed, length = (torch.linalg.vector_norm(latent, dim=1, keepdim=True) for latent in (moment.cond, moment.denoised))
        scale: Tensor = (allowed / (length + SMALL)).clamp(0.0, 1.0)
        return moment.denoised * scale * self.strength


@dataclass(frozen=True, slots=True)
class Mahiro:
    """Leans to the scaled positive answer where guidance and negative answer point to different sides. A `post` rule.

    Source: no paper; the reference's node of this name. The similarity is that of the whole batch, of signed square roots.
    """

    def __call__(self, moment: Moment) -> Tensor:
        """The corrected denoised latent."""
        leap, negative = moment.cond * moment.cfg, moment.uncond * moment.cfg
        similarity = torch.cosine_similarity(_root(negative), _root((leap + moment.denoised) / 2)).mean()
        return torch.lerp(leap, moment.denoised, (similarity + 1.0) / 2.0)


@dataclass(frozen=True, slots=True)
class EpsilonScale:
    """Divides the noise that is found in a latent, against the drift of sampling. A `post` rule.

    Attributes:
        divisor: By what; not 0.

    Source: Ning et al. 2023 (Elucidating the exposure bias), arXiv:2308.15321, eq. 11 with a constant factor.
    """

    divisor: float

    def __call__(self, moment: Moment) -> Tensor:
        """The corrected denoised latent."""
        return torch.lerp(moment.x, moment.denoised, 1.0 / self.divisor)


@dataclass(frozen=True, slots=True)
class Projected:
    """Guidance without what lies along the positive answer, limited in length, with momentum. A `pre` rule.

    Attributes:
        eta: Share of what lies along the positive answer; 1 for all of it.
        longest: Limit of the guidance's length; 0 for none.
        momentum: Weight of the guidance of the steps before; below 0 it pushes away from them.

    Source: Sadat et al. 2024 (APG), arXiv:2410.02416, algorithm 1.
    """

    eta: float
    longest: float
    momentum: float
    _before: list[tuple[float, Tensor]] = field(default_factory=list, compare=False, repr=False)

    def begun(self) -> Projected:
        """The same rule at the start of a sampling."""
        return Projected(self.eta, self.longest, self.momentum)

    def __call__(self, moment: Moment) -> Moment:
        """The moment with another positive answer."""
        guidance = moment.cond - moment.uncond
        if self.momentum:
            # A level above the last one is another way down.
            if self._before and moment.sigma <= self._before[0][0]:
                guidance = torch.add(guidance, self._before[0][1], alpha=self.momentum)
            self._before[:] = [(moment.sigma, guidance)]
        if self.longest > 0.0:
            guidance = guidance * (self.longest / _length(guidance)).clamp(max=1.0)
        axes = tuple(range(1, guidance.ndim))
        direction = moment.cond / _length(moment.cond).clamp(min=DIRECTION_FLOOR)
        along = (guidance * direction).sum(axes, keepdim=True) * direction
        changed = moment.uncond + torch.add(guidance, along, alpha=self.eta - 1.0)
        return replace(moment, cond=changed + (moment.cond - moment.uncond) / moment.cfg)


@dataclass(frozen=True, slots=True)
class Damped:
    """Keeps of the negative answer only what lies along the main direction of both. A `pre` rule.

    Source: Kwon et al. 2025 (TCFG), arXiv:2503.18137, algorithm 1, on the noise that the answers leave.
    """

    def __call__(self, moment: Moment) -> Moment:
        """The moment with another negative answer, if there is one."""
        if not moment.has_negative:
            return moment
        cond, uncond = ((moment.x - answer).flatten(1).float() for answer in (moment.cond, moment.uncond))
        main = torch.linalg.svd(torch.stack((uncond, cond), dim=1), full_matrices=False).Vh[:, 0]
        kept = (uncond * main).sum(dim=1, keepdim=True) * main
        return replace(moment, uncond=moment.x - kept.reshape(moment.x.shape))


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Scales low and high spatial frequencies of the guidance. A `pre` rule.

    Attributes:
        low: Factor of the low ones.
        high: Factor of the high ones.
        cutoff: How many frequencies along each side, up and down from the mean, are low.

    Source: Huang et al. 2025 (FreSca), arXiv:2504.02154, eq. 7.
    """

    low: float
    high: float
    cutoff: int

    def __call__(self, moment: Moment) -> Moment:
        """The moment with another positive answer; without a negative one there is no guidance to filter."""
        if not moment.has_negative:
            return moment
        guidance = moment.cond - moment.uncond
        spectrum = torch.fft.fftshift(torch.fft.fftn(guidance, dim=(-2, -1)), dim=(-2, -1))
        scale = torch.full(guidance.shape[-2:], self.high, device=guidance.device)
        rows, columns = (
            slice(size // 2 - min(self.cutoff, size // 2), size // 2 + min(self.cutoff, size // 2)) for size in scale.shape
        )
        scale[rows, columns] = self.low
        filtered = torch.fft.ifftn(torch.fft.ifftshift(spectrum * scale, dim=(-2, -1)), dim=(-2, -1)).real
        return replace(moment, cond=moment.uncond + filtered)


@dataclass(frozen=True, slots=True)
class Operated:
    """Applies an operation to the guidance. A `pre` rule.

    Attributes:
        operation: What is done to D_c - D_u.
    """

    operation: LatentOperation

    def __call__(self, moment: Moment) -> Moment:
        """The moment with another positive answer."""
        return replace(moment, cond=moment.uncond + self.operation(moment.cond - moment.uncond))


@dataclass(frozen=True, slots=True)
class Differential:
    """Opens a grey noise mask from its lightest to its darkest parts while sampling proceeds. A `mask` rule.

    Attributes:
        strength: Share of the opened mask; the rest is the grey one. 0 counts as 1.

    Source: Levin and Fried 2023 (Differential Diffusion), arXiv:2306.00950, algorithm 1.
    """

    strength: float = 1.0

    def __call__(self, mask: Tensor, sigma: float, levels: Sequence[float], schedule: NoiseSchedule) -> Tensor:
        """The mask [B, 1, h, w] at level `sigma`."""
        last = max(schedule.sigma_min, levels[-1])
        now, first, end = (float(schedule.timestep(torch.tensor(level))) for level in (sigma, levels[0], last))
        left = (now - end) / (first - end) if first != end else 0.0
        opened = (mask >= left).to(mask.dtype)
        return torch.lerp(mask, opened, self.strength) if 0.0 < self.strength < 1.0 else opened


def _length(latent: Tensor) -> Tensor:
    """The length of each sample, shaped to broadcast."""
    length: Tensor = torch.linalg.vector_norm(latent, dim=tuple(range(1, latent.ndim)), keepdim=True)
    return length


def _root(latent: Tensor) -> Tensor:
    """Square roots that keep the sign."""
    return latent.abs().sqrt() * latent.sign()
