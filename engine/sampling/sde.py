"""Samplers that solve the stochastic equation: noise is taken away and added on the way.

In lambda = -ln sigma a step of length h takes a constant denoised latent D to
x' = D + (x - D) * exp(-(1 + eta) h) and adds noise of standard deviation sigma' sqrt(1 - exp(-2 eta h)).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch

from engine.sampling.samplers import Denoise, ancestral_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from engine.sampling.noise import StepNoise
    from engine.sampling.samplers import Steps

ER_POINTS = 200
"""Points of the quadrature in `er_sde`."""


def dpmpp_sde(x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0, r: float = 0.5) -> Steps:
    """DPM-Solver++ for the SDE, single-step second order: one answer within the step, half-way it serves for all of it.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise, of one Brownian path.
        eta: Share of the noise that is renewed.
        r: Where in the step the inner answer lies, in lambda.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 1, with ancestral noise in each of its moves.
    """
    # In float32 as the reference does: the path is resolved to 1e-6, and rounding elsewhere finds other noise.
    logs = torch.tensor(sigmas).log()
    middles: list[float] = (logs[:-1] + (logs[1:] - logs[:-1]) * r).exp().tolist()
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            x = denoised
            continue
        middle = middles[step]
        down, up = ancestral_levels(sigma, middle, eta)
        half = torch.add(torch.lerp(denoised, x, down / sigma), noise(sigma, middle), alpha=up)
        inner = yield Denoise(half, middle, step)
        target = inner if r == 0.5 else torch.lerp(denoised, inner, 1.0 / (2.0 * r))
        down, up = ancestral_levels(sigma, below, eta)
        x = torch.add(torch.lerp(target, x, down / sigma), noise(sigma, below), alpha=up)
    return x


def dpmpp_2m_sde(
    x: Tensor, sigmas: Sequence[float], noise: StepNoise, solver: Literal["midpoint", "heun"] = "midpoint", eta: float = 1.0
) -> Steps:
    """DPM-Solver++(2M) for the SDE: second order from the last two answers.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise, of one Brownian path.
        solver: How the second-order term is weighed.
        eta: Share of the noise that is renewed; 0 is the ODE.

    Source: Lu et al. 2022, arXiv:2211.01095, SDE-DPM-Solver++(2M).
    """
    before: Tensor | None = None
    h_before = 0.0
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        h = math.log(sigma / below)
        kept = math.exp(-(1.0 + eta) * h)
        x = torch.lerp(denoised, x, kept)
        if before is not None:
            weight = (1.0 - kept) / 2 if solver == "midpoint" else 1.0 - (1.0 - kept) / ((1.0 + eta) * h)
            x = torch.add(x, denoised - before, alpha=weight * h / h_before)
        if eta:
            x = torch.add(x, noise(sigma, below), alpha=_added(below, h, eta))
        before, h_before = denoised, h
    return x


def dpmpp_3m_sde(x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0) -> Steps:
    """DPM-Solver++(3M) for the SDE: third order from the last three answers.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise, of one Brownian path.
        eta: Share of the noise that is renewed; 0 is the ODE.

    Source: Lu et al. 2022, arXiv:2211.01095, SDE-DPM-Solver++ with one answer more.
    """
    answers: list[Tensor] = []
    steps: list[float] = []
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        h = math.log(sigma / below)
        length = (1.0 + eta) * h
        x = torch.lerp(denoised, x, math.exp(-length))
        phi_2 = math.expm1(-length) / length + 1.0
        if answers:
            near = steps[-1] / h
            slope = (denoised - answers[-1]) / near
            if len(answers) > 1:
                far = steps[-2] / h
                bend = (slope - (answers[-1] - answers[-2]) / far) / (near + far)
                slope = torch.add(slope, bend, alpha=near)
                x = torch.add(x, bend, alpha=0.5 - phi_2 / length)
            x = torch.add(x, slope, alpha=phi_2)
        if eta:
            x = torch.add(x, noise(sigma, below), alpha=_added(below, h, eta))
        answers, steps = [*answers, denoised][-2:], [*steps, h][-2:]
    return x


def er_scale(sigma: float) -> float:
    """The noise scale function of ER-SDE: it keeps more noise at high levels than the reverse-time SDE."""
    return sigma * (math.exp(sigma**0.3) + 10.0)


def er_sde(
    x: Tensor, sigmas: Sequence[float], noise: StepNoise, order: int = 3, scale: Callable[[float], float] = er_scale
) -> Steps:
    """ER-SDE-Solver: the reverse SDE whose noise is scaled by a function of the level.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        order: How many answers are used, 1 to 3.
        scale: The noise scale function; sigma itself is the ODE, sigma**2 the reverse-time SDE.

    Source: Cui et al. 2023, arXiv:2309.06169, ER-SDE-Solver-3 for variance-exploding latents.
    """
    answers: list[Tensor] = []
    slope_before: Tensor | None = None
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        ratio = scale(below) / scale(sigma)
        x = torch.lerp(denoised, x, ratio)
        if order > 1 and answers:
            width = (sigma - below) / ER_POINTS
            places = [below + i * width for i in range(ER_POINTS)]
            move = below - sigma
            first = sum(1.0 / scale(place) for place in places) * width
            slope = (denoised - answers[-1]) / (sigma - sigmas[step - 1])
            x = torch.add(x, slope, alpha=move + first * scale(below))
            if order > 2 and slope_before is not None:
                second = sum((place - sigma) / scale(place) for place in places) * width
                bend = (slope - slope_before) / ((sigma - sigmas[step - 2]) / 2)
                x = torch.add(x, bend, alpha=move**2 / 2 + second * scale(below))
            slope_before = slope
        x = torch.add(x, noise(sigma, below), alpha=math.sqrt(max(below**2 - (sigma * ratio) ** 2, 0.0)))
        answers = [denoised]
    return x


def seeds_2(x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0) -> Steps:
    """SEEDS-2: exponential two-stage steps, the first half-way in lambda.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        eta: Share of the noise that is renewed.

    Source: Gonzalez et al. 2023 (SEEDS), arXiv:2305.14267, two stages with r = 1/2.
    """
    return (yield from _seeds(x, sigmas, noise, (0.5,), eta))


def seeds_3(x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0) -> Steps:
    """SEEDS-3: exponential three-stage steps, at thirds in lambda.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        eta: Share of the noise that is renewed.

    Source: Gonzalez et al. 2023 (SEEDS), arXiv:2305.14267, three stages with r1 = 1/3, r2 = 2/3.
    """
    return (yield from _seeds(x, sigmas, noise, (1 / 3, 2 / 3), eta))


def _seeds(x: Tensor, sigmas: Sequence[float], noise: StepNoise, stages: Sequence[float], eta: float) -> Steps:
    """Exponential steps with inner stages; the noise of all stages of a step is that of one path."""
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        h = math.log(sigma / below)
        reached, inner, slope = 0.0, sigma, torch.zeros_like(x)
        path: Tensor | None = None
        for place in (*stages, 1.0):
            level = sigma * math.exp(-place * h)
            length = place * (1.0 + eta) * h
            moved = torch.lerp(denoised, x, math.exp(-length))
            # Two stages use the inner answer for the whole step, three use the slope between answers.
            if reached:
                weight = 1.0 - math.exp(-length) if len(stages) == 1 else (math.expm1(-length) / length + 1.0) * place / reached
                moved = torch.add(moved, slope, alpha=weight)
            passed = (place - reached) * eta * h
            fresh = noise(inner, level) * math.sqrt(-math.expm1(-2.0 * passed))
            path = fresh if path is None else torch.add(fresh, path, alpha=math.exp(-passed))
            moved = torch.add(moved, path, alpha=level)
            if place == 1.0:
                x = moved
            else:
                slope = (yield Denoise(moved, level, step)) - denoised
                reached, inner = place, level
    return x


def _added(below: float, h: float, eta: float) -> float:
    """Standard deviation of the noise that a step of length `h` down to `below` adds."""
    return below * math.sqrt(-math.expm1(-2.0 * eta * h))
