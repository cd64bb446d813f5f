"""Sampler names to running samplers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.sampling.multistep import gradient_estimation, ipndm, lms, res_multistep
from engine.sampling.names import AVAILABLE_SAMPLERS, SAMPLER_NAMES, refusal
from engine.sampling.noise import StepNoise, brownian, gaussian
from engine.sampling.samplers import Steps, dpmpp_2m, euler, euler_ancestral, heun, lcm
from engine.sampling.sde import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde, er_sde, seeds_2, seeds_3
from engine.sampling.singlestep import ddpm, dpm_2, dpm_2_ancestral, dpm_fast, dpmpp_2s_ancestral, heunpp2
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
        self._require_falling()
        return gaussian(self.x, self.seed)

    def brownian(self, *, on_device: bool = False) -> StepNoise:
        """Noise of one Brownian path, on the CPU or on the device."""
        self._require_falling()
        return brownian(self.x, self.sigmas, self.seed, on_device=on_device)

    def _require_falling(self) -> None:
        if any(below >= sigma for sigma, below in pairwise(self.sigmas)):
            msg = "cannot add noise on the way: the noise levels do not fall; only samplers without noise go up"
            raise ValueError(msg)

    def noised(self, noise: Tensor, sigma: float, latent: Tensor) -> Tensor:
        """`latent` carried to level `sigma` as the model was trained."""
        return self.schedule.noised(noise, torch.tensor(sigma), latent)


BUILDERS: Mapping[str, Callable[[Start], Steps]] = {
    "euler": lambda s: euler(s.x, s.sigmas),
    "euler_ancestral": lambda s: euler_ancestral(s.x, s.sigmas, s.gaussian()),
    "heun": lambda s: heun(s.x, s.sigmas),
    "heunpp2": lambda s: heunpp2(s.x, s.sigmas),
    "dpm_2": lambda s: dpm_2(s.x, s.sigmas),
    "dpm_2_ancestral": lambda s: dpm_2_ancestral(s.x, s.sigmas, s.gaussian()),
    "lms": lambda s: lms(s.x, s.sigmas),
    "dpm_fast": lambda s: dpm_fast(s.x, s.sigmas),
    "dpmpp_2s_ancestral": lambda s: dpmpp_2s_ancestral(s.x, s.sigmas, s.gaussian()),
    "dpmpp_sde": lambda s: dpmpp_sde(s.x, s.sigmas, s.brownian()),
    "dpmpp_sde_gpu": lambda s: dpmpp_sde(s.x, s.sigmas, s.brownian(on_device=True)),
    "dpmpp_2m": lambda s: dpmpp_2m(s.x, s.sigmas),
    "dpmpp_2m_sde": lambda s: dpmpp_2m_sde(s.x, s.sigmas, s.brownian(), "midpoint"),
    "dpmpp_2m_sde_gpu": lambda s: dpmpp_2m_sde(s.x, s.sigmas, s.brownian(on_device=True), "midpoint"),
    "dpmpp_2m_sde_heun": lambda s: dpmpp_2m_sde(s.x, s.sigmas, s.brownian(), "heun"),
    "dpmpp_2m_sde_heun_gpu": lambda s: dpmpp_2m_sde(s.x, s.sigmas, s.brownian(on_device=True), "heun"),
    "dpmpp_3m_sde": lambda s: dpmpp_3m_sde(s.x, s.sigmas, s.brownian()),
    "dpmpp_3m_sde_gpu": lambda s: dpmpp_3m_sde(s.x, s.sigmas, s.brownian(on_device=True)),
    "ddpm": lambda s: ddpm(s.x, s.sigmas, s.gaussian()),
    "lcm": lambda s: lcm(s.x, s.sigmas, s.gaussian(), s.noised),
    "ipndm": lambda s: ipndm(s.x, s.sigmas),
    "res_multistep": lambda s: res_multistep(s.x, s.sigmas),
    "res_multistep_ancestral": lambda s: res_multistep(s.x, s.sigmas, s.gaussian(), eta=1.0),
    "gradient_estimation": lambda s: gradient_estimation(s.x, s.sigmas),
    "er_sde": lambda s: er_sde(s.x, s.sigmas, s.gaussian()),
    "seeds_2": lambda s: seeds_2(s.x, s.sigmas, s.gaussian()),
    "seeds_3": lambda s: seeds_3(s.x, s.sigmas, s.gaussian()),
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
