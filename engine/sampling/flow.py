"""Models that are trained on flows: latents are blends, x = (1 - sigma) * clean + sigma * noise, with sigma in 0..1.

Divided by 1 - sigma, such a latent is a sum again, clean + sigma / (1 - sigma) * noise. Samplers that think in terms of
the signal-to-noise ratio therefore run unchanged between `as_sums` and `as_blends`.

Source: Liu et al. 2022 (Rectified Flow), arXiv:2209.03003; Esser et al. 2024 (SD3), arXiv:2403.03206.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engine.sampling.samplers import Steps
    from engine.types import NoiseSchedule

FLUX_LENGTH = 10_000
"""Levels in the table of Flux models."""

NEARLY_NOISE = 1e-4
"""Share of the way after which the ratio of signal and noise is first looked at: at the very start there is no signal."""

JUST_BELOW_NOISE = 0.9999
"""Where an inner answer of a step from pure noise is asked for."""


@dataclass(frozen=True, eq=False)
class FlowSchedule:
    """Noise levels of a flow, shifted so that more of them are high.

    Attributes:
        shift: s in sigma = s t / (1 + (s - 1) t); 1 for none. A shift of mu in log-SNR is s = e**mu.
        multiplier: What the network is told is sigma times this.
        length: Levels in the table that schedulers walk.

    Raises:
        ValueError: unless `shift` is above 0.

    Source: Esser et al. 2024, arXiv:2403.03206, eq. 23.
    """

    shift: float = 1.0
    multiplier: float = 1000.0
    length: int = 1000

    def __post_init__(self) -> None:
        """Check the shift."""
        if self.shift <= 0.0:
            msg = f"cannot shift noise levels by {self.shift}: it has to be above 0"
            raise ValueError(msg)

    @property
    def is_flow(self) -> bool:
        """That latents are blends."""
        return True

    @cached_property
    def sigmas(self) -> Tensor:
        """[T] float32 on the CPU, rising to 1."""
        return self._shifted(torch.arange(1, self.length + 1) / self.length)

    @property
    def sigma_min(self) -> float:
        """The lowest level of the table."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest level: 1."""
        return float(self.sigmas[-1])

    def timestep(self, sigma: Tensor) -> Tensor:
        """What the network is told for `sigma`; same shape. It is not shifted back, so `sigma` is no inverse of it."""
        return sigma * self.multiplier

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level at a timestep of 0..`multiplier`; same shape."""
        return self._shifted(timestep / self.multiplier)

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level when `percent` (0..1) of sampling is done."""
        if percent <= 0.0:
            return 1.0
        return float(self._shifted(torch.tensor(1.0 - percent))) if percent < 1.0 else 0.0

    def noised(self, noise: Tensor, sigma: Tensor, latent: Tensor, *, max_denoise: bool = False) -> Tensor:
        """`latent` blended with `noise` at level `sigma` ([] or [B]); a start at the top is no special case."""
        del max_denoise
        level = _per_row(sigma, noise)
        return noise * level + latent * (1.0 - level)

    def settled(self, x: Tensor, sigma: float) -> Tensor:
        """What a latent that was sampled down to level `sigma` is handed on as: brought to the size of a clean one."""
        return x / (1.0 - sigma)

    def denoised(self, output: Tensor, sigma: Tensor, x: Tensor) -> Tensor:
        """The clean latent, where the network's `output` is noise - clean."""
        return x - output * _per_row(sigma, x)

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """`x` as it is."""
        del sigma
        return x

    def _shifted(self, time: Tensor) -> Tensor:
        return self.shift * time / (1.0 + (self.shift - 1.0) * time)


def shift_for_size(width_px: int, height_px: int, base: float, most: float) -> float:
    """The shift for pictures of a size: e**mu, with mu linear in the number of tokens of 16 x 16 pixels.

    Args:
        width_px: Of the picture.
        height_px: Of the picture.
        base: mu at 256 tokens.
        most: mu at 4096 tokens.

    Source: Black Forest Labs, FLUX.1, the published sampling code (Apache-2.0).
    """
    tokens = width_px * height_px / 256
    return math.exp(base + (most - base) * (tokens - 256) / (4096 - 256))


def as_sums(x: Tensor, sigmas: Sequence[float], schedule: NoiseSchedule) -> tuple[Tensor, tuple[float, ...]]:
    """A blend and its levels as a sum and levels of that.

    Args:
        x: [B, C, h, w] a blend at level `sigmas[0]`.
        sigmas: Falling levels of blends; a first one of 1 becomes that after `NEARLY_NOISE` of the way.
        schedule: Of the flow.
    """
    first = min(sigmas[0], schedule.percent_to_sigma(NEARLY_NOISE))
    levels = (first, *sigmas[1:])
    return x / (1.0 - first), tuple(level / (1.0 - level) for level in levels)


def as_blends(steps: Steps, last: float) -> Steps:
    """A sampler of sums, asking for blends and ending with one.

    Args:
        steps: Started with what `as_sums` gives.
        last: The last level of blends.
    """
    try:
        request = next(steps)
        while True:
            share = 1.0 / (1.0 + request.sigma)
            request = steps.send((yield replace(request, x=request.x * share, sigma=request.sigma * share)))
    except StopIteration as end:
        result: Tensor = end.value
        return result * (1.0 - last)


def flow_split(sigma: float, below: float, eta: float) -> tuple[float, float, float]:
    """`samplers.ancestral_split` for blends: (down, kept, up).

    The latent goes down to `down`, is multiplied by `kept`, so that its clean part fits level `below`, and gains noise of
    standard deviation `up`.
    """
    down = below * (1.0 + (below / sigma - 1.0) * eta)
    kept = (1.0 - below) / (1.0 - down)
    return down, kept, math.sqrt(max(below**2 - (down * kept) ** 2, 0.0))


def flow_middle(sigma: float, below: float) -> float:
    """The level of blends half-way between two in the logarithm of the signal-to-noise ratio."""
    if sigma >= 1.0:
        return JUST_BELOW_NOISE
    odds = math.sqrt(sigma / (1.0 - sigma) * below / (1.0 - below))
    return odds / (1.0 + odds)


def _per_row(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma if sigma.ndim == 0 else sigma.reshape(sigma.shape + (1,) * (x.ndim - sigma.ndim))
