"""Sampler names to running samplers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.sampling.names import AVAILABLE_SAMPLERS, SAMPLER_NAMES, refusal
from engine.sampling.noise import StepNoise, brownian, gaussian
from engine.sampling.samplers import Steps, dpmpp_2m, dpmpp_sde, euler, euler_ancestral, heun, lcm
from engine.sampling.unipc import uni_pc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.types import NoiseSchedule


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What samplers start from.

    Attributes:
        x: [B, C, h, w] noisy latent at level `sigmas[0]`, on the device.
        sigmas: N + 1 falling levels.
        seed: Of noise that is added on the way.
        schedule: The model's noise levels.
    """

    x: Tensor
    sigmas: tuple[float, ...]
    seed: int
    schedule: NoiseSchedule

    def gaussian(self) -> StepNoise:
        """Independent noise for each move."""
        return gaussian(self.x, self.seed)

    def brownian(self) -> StepNoise:
        """Noise of one Brownian path."""
        return brownian(self.x, self.sigmas, self.seed)

    def noised(self, noise: Tensor, sigma: float, latent: Tensor) -> Tensor:
        """`latent` carried to level `sigma` as the model was trained."""
        return self.schedule.noised(noise, torch.tensor(sigma), latent)


BUILDERS: Mapping[str, Callable[[Start], Steps]] = {
    "euler": lambda s: euler(s.x, s.sigmas),
    "euler_ancestral": lambda s: euler_ancestral(s.x, s.sigmas, s.gaussian()),
    "heun": lambda s: heun(s.x, s.sigmas),
    "dpmpp_sde": lambda s: dpmpp_sde(s.x, s.sigmas, s.brownian()),
    "dpmpp_2m": lambda s: dpmpp_2m(s.x, s.sigmas),
    "lcm": lambda s: lcm(s.x, s.sigmas, s.gaussian(), s.noised),
    "ddim": lambda s: euler(s.x, s.sigmas),
    "uni_pc": lambda s: uni_pc(s.x, s.sigmas, "bh1"),
    "uni_pc_bh2": lambda s: uni_pc(s.x, s.sigmas, "bh2"),
}
"""Sampler name to what starts it; the names are `names.AVAILABLE_SAMPLERS`."""


def build(sampler_name: str, start: Start) -> Steps:
    """Start a sampler.

    Args:
        sampler_name: A name of `names.AVAILABLE_SAMPLERS`.
        start: What it starts from.

    Raises:
        ValueError: if there is no such sampler.
    """
    if sampler_name not in BUILDERS:
        raise ValueError(refusal("sampler", sampler_name, SAMPLER_NAMES, AVAILABLE_SAMPLERS))
    return BUILDERS[sampler_name](start)
