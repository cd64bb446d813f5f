"""Sampler names to running samplers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from engine.sampling.adams import sa_solver
from engine.sampling.cfg_pp import (
    dpmpp_2m_cfg_pp,
    dpmpp_2s_ancestral_cfg_pp,
    euler_cfg_pp,
    euler_pushed,
    gradient_estimation_cfg_pp,
    res_multistep_cfg_pp,
)
from engine.sampling.flow import as_blends, as_sums, flow_middle, flow_split
from engine.sampling.multistep import deis, gradient_estimation, ipndm, ipndm_v, lms, res_multistep
from engine.sampling.names import SAMPLER_NAMES, refusal
from engine.sampling.noise import StepNoise, brownian, following, gaussian, scaled
from engine.sampling.samplers import Steps, dpmpp_2m, euler, euler_ancestral, heun, lcm, lcm_upscaled
from engine.sampling.sde import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde, er_sde, seeds_2, seeds_3
from engine.sampling.singlestep import ddpm, dpm_2, dpm_2_ancestral, dpm_adaptive, dpm_fast, dpmpp_2s_ancestral, heunpp2
from engine.sampling.unipc import uni_pc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.sampling.values import Sampler
    from engine.types import NoiseSchedule


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What samplers start from.

    Attributes:
        x: [B, C, h, w] noisy latent at level `sigmas[0]`, on the device.
        sigmas: N + 1 falling levels.
        seed: Of noise that is added on the way.
        schedule: The model's noise levels.
        levels: The schedule's levels that `sigmas` stand for, where those are others; see `as_sums`.
    """

    x: Tensor
    sigmas: tuple[float, ...]
    seed: int
    schedule: NoiseSchedule
    levels: tuple[float, ...] = ()

    def level(self, sigma: float) -> float:
        """The schedule's level that the sampler calls `sigma`."""
        if not self.levels:
            return sigma
        return dict(zip(self.sigmas, self.levels, strict=True)).get(sigma, sigma / (1.0 + sigma))

    def gaussian(self, amount: float = 1.0) -> StepNoise:
        """Independent noise for each move, `amount` times as strong as it should be."""
        self._require_falling()
        return scaled(gaussian(self.x, self.seed), amount)

    def brownian(self, amount: float = 1.0, *, on_device: bool = False) -> StepNoise:
        """Noise of one Brownian path, on the CPU or on the device; `amount` as for `gaussian`."""
        self._require_falling()
        path = brownian(self.x, self.levels or self.sigmas, self.seed, on_device=on_device)
        return scaled((lambda sigma, below: path(self.level(sigma), self.level(below))) if self.levels else path, amount)

    def as_sums(self) -> Start:
        """The same start of a flow in terms of sums."""
        x, sums = as_sums(self.x, self.sigmas, self.schedule)
        first = sums[0] / (1.0 + sums[0])
        return replace(self, x=x, sigmas=sums, levels=(first, *self.sigmas[1:]))

    def _require_falling(self) -> None:
        if any(below >= sigma for sigma, below in pairwise(self.sigmas)):
            msg = "cannot add noise on the way: the noise levels do not fall; only samplers without noise go up"
            raise ValueError(msg)

    def noised(self, noise: Tensor, sigma: float, latent: Tensor) -> Tensor:
        """`latent` carried to level `sigma` as the model was trained."""
        return self.schedule.noised(noise, torch.tensor(sigma), latent)


def _tau(start: Start, eta: float, first: float | None, last: float | None) -> Callable[[float], float]:
    """`eta` between two noise levels, 0 elsewhere; the levels after a fifth and after four fifths of the way by default."""
    high = start.schedule.percent_to_sigma(0.2) if first is None else first
    low = start.schedule.percent_to_sigma(0.8) if last is None else last
    return lambda sigma: eta if high >= start.level(sigma) >= low else 0.0


def _sa_solver(
    s: Start,
    *,
    eta: float = 1.0,
    sde_start: float | None = None,
    sde_end: float | None = None,
    s_noise: float = 1.0,
    **orders: Any,
) -> Steps:
    return sa_solver(s.x, s.sigmas, s.gaussian(s_noise), _tau(s, eta, sde_start, sde_end), **orders)


def _er_sde(s: Start, *, solver: str = "ER-SDE", eta: float = 1.0, order: int = 3, s_noise: float = 1.0) -> Steps:
    if solver == "ER-SDE":
        return er_sde(s.x, s.sigmas, s.gaussian(s_noise), order)
    if solver == "ODE" or eta == 0.0:
        return er_sde(s.x, s.sigmas, s.gaussian(0.0), order, lambda sigma: sigma)
    return er_sde(s.x, s.sigmas, s.gaussian(s_noise), order, lambda sigma: sigma ** (eta + 1.0))


def _dpm_adaptive(s: Start, *, s_noise: float = 1.0, **settings: Any) -> Steps:
    return dpm_adaptive(s.x, s.sigmas, s.gaussian(s_noise), **settings)


Builder: TypeAlias = "Callable[..., Steps]"


def _gaussian(sampler: Builder, **fixed: Any) -> Builder:
    """A sampler that adds independent noise; its options are those of the function, and `s_noise`."""
    return lambda s, s_noise=1.0, **options: sampler(s.x, s.sigmas, s.gaussian(s_noise), **{**fixed, **options})


def _brownian(sampler: Builder, *, on_device: bool = False, **fixed: Any) -> Builder:
    """A sampler that adds the noise of one path; its options are those of the function, and `s_noise`."""
    return lambda s, s_noise=1.0, **options: sampler(
        s.x, s.sigmas, s.brownian(s_noise, on_device=on_device), **{**fixed, **options}
    )


def _plain(sampler: Builder, **fixed: Any) -> Builder:
    """A sampler that adds no noise; its options are those of the function."""
    return lambda s, **options: sampler(s.x, s.sigmas, **{**fixed, **options})


BUILDERS: Mapping[str, Builder] = {
    "euler": _plain(euler),
    "euler_cfg_pp": _plain(euler_cfg_pp),
    "euler_pushed": _plain(euler_pushed),
    "euler_ancestral": _gaussian(euler_ancestral),
    "euler_ancestral_cfg_pp": _gaussian(euler_cfg_pp, eta=1.0),
    "heun": _plain(heun),
    "heunpp2": _plain(heunpp2),
    "dpm_2": _plain(dpm_2),
    "dpm_2_ancestral": _gaussian(dpm_2_ancestral),
    "lms": _plain(lms),
    "dpm_fast": _plain(dpm_fast),
    "dpm_adaptive": _dpm_adaptive,
    "dpmpp_2s_ancestral": _gaussian(dpmpp_2s_ancestral),
    "dpmpp_2s_ancestral_cfg_pp": _gaussian(dpmpp_2s_ancestral_cfg_pp),
    "dpmpp_sde": _brownian(dpmpp_sde),
    "dpmpp_sde_gpu": _brownian(dpmpp_sde, on_device=True),
    "dpmpp_2m": _plain(dpmpp_2m),
    "dpmpp_2m_cfg_pp": _plain(dpmpp_2m_cfg_pp),
    "dpmpp_2m_sde": _brownian(dpmpp_2m_sde),
    "dpmpp_2m_sde_gpu": _brownian(dpmpp_2m_sde, on_device=True),
    "dpmpp_2m_sde_heun": _brownian(dpmpp_2m_sde, solver="heun"),
    "dpmpp_2m_sde_heun_gpu": _brownian(dpmpp_2m_sde, on_device=True, solver="heun"),
    "dpmpp_3m_sde": _brownian(dpmpp_3m_sde),
    "dpmpp_3m_sde_gpu": _brownian(dpmpp_3m_sde, on_device=True),
    "ddpm": _gaussian(ddpm),
    "lcm": lambda s, **options: lcm(s.x, s.sigmas, s.gaussian(), s.noised, **options),
    "lcm_upscaled": lambda s, **options: lcm_upscaled(s.x, s.sigmas, following(s.x, s.seed), **options),
    "ipndm": _plain(ipndm),
    "ipndm_v": _plain(ipndm_v),
    "deis": _plain(deis),
    "res_multistep": _plain(res_multistep),
    "res_multistep_cfg_pp": _plain(res_multistep_cfg_pp),
    "res_multistep_ancestral": _gaussian(res_multistep, eta=1.0),
    "res_multistep_ancestral_cfg_pp": _gaussian(res_multistep_cfg_pp, eta=1.0),
    "gradient_estimation": _plain(gradient_estimation),
    "gradient_estimation_cfg_pp": _plain(gradient_estimation_cfg_pp),
    "er_sde": _er_sde,
    "seeds_2": _gaussian(seeds_2),
    "seeds_3": _gaussian(seeds_3),
    "sa_solver": _sa_solver,
    "sa_solver_pece": lambda s, **options: _sa_solver(s, evaluates_twice=True, **options),
    "ddim": _plain(euler),
    "uni_pc": _plain(uni_pc, variant="bh1"),
    "uni_pc_bh2": _plain(uni_pc, variant="bh2"),
}
"""Sampler name to what starts it, with options. Those of the field's menus are `names.SAMPLER_NAMES`."""


FLOW_BUILDERS: Mapping[str, Builder] = {
    "euler_ancestral": _gaussian(euler_ancestral, split=flow_split),
    "dpm_2_ancestral": _gaussian(dpm_2_ancestral, split=flow_split),
    "dpmpp_2s_ancestral": _gaussian(dpmpp_2s_ancestral, split=flow_split, middle=flow_middle),
}
"""Samplers that add noise to the blends of flows in another way."""

BY_SIGNAL_TO_NOISE = frozenset(
    {
        "euler_ancestral_cfg_pp",
        "euler_cfg_pp",
        "dpmpp_sde",
        "dpmpp_sde_gpu",
        "dpmpp_2m_sde",
        "dpmpp_2m_sde_gpu",
        "dpmpp_2m_sde_heun",
        "dpmpp_2m_sde_heun_gpu",
        "dpmpp_3m_sde",
        "dpmpp_3m_sde_gpu",
        "er_sde",
        "seeds_2",
        "seeds_3",
        "sa_solver",
        "sa_solver_pece",
    }
)
"""Samplers that think in terms of the signal-to-noise ratio; the others take the levels of flows as they are."""


def build(sampler: Sampler, start: Start) -> Steps:
    """Start a sampler.

    Args:
        sampler: Its name and options.
        start: What it starts from.

    Raises:
        ValueError: if there is no such sampler.
    """
    if sampler.name not in BUILDERS:
        raise ValueError(refusal("sampler", sampler.name, SAMPLER_NAMES))
    if start.schedule.is_flow:
        if sampler.name in BY_SIGNAL_TO_NOISE:
            return as_blends(BUILDERS[sampler.name](start.as_sums(), **sampler.options), start.sigmas[-1])
        if sampler.name in FLOW_BUILDERS:
            return FLOW_BUILDERS[sampler.name](start, **sampler.options)
    return BUILDERS[sampler.name](start, **sampler.options)
