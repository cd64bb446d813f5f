"""Samplers that extrapolate from the answers of earlier steps, for the probability-flow ODE."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from engine.sampling.samplers import Denoise, ancestral_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engine.sampling.noise import StepNoise
    from engine.sampling.samplers import Steps

MAX_ORDER = 4

UNIFORM_WEIGHTS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Adams-Bashforth weights of the newest slope, the one before, ... by order, for even steps."""

VP_SIGMAS, VP_START = (0.002, 80.0), 1e-3
"""Noise levels at the times `VP_START` and 1 of the process whose time DEIS interpolates in."""

DEIS_POINTS = 10_000
"""Points of the quadrature in `deis`."""


def lms(x: Tensor, sigmas: Sequence[float], order: int = MAX_ORDER) -> Steps:
    """Adams-Bashforth in sigma, with the exact weights of uneven steps.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        order: How many slopes are used at most.

    Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section III.5.
    """
    slopes: list[Tensor] = []
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes][:order]
        nodes = [sigmas[step - k] for k in range(len(slopes))]
        for slope, weight in zip(slopes, lagrange_integrals(nodes, sigma, below), strict=True):
            x = torch.add(x, slope, alpha=weight)
    return x


def ipndm(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """Adams-Bashforth of order 4 in sigma, with the weights of even steps.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: Liu et al. 2022 (PNDM), arXiv:2202.09778; Zhang and Chen 2022 (iPNDM), arXiv:2204.13902.
    """
    slopes: list[Tensor] = []
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes][:MAX_ORDER]
        for slope, weight in zip(slopes, UNIFORM_WEIGHTS[len(slopes) - 1], strict=True):
            x = torch.add(x, slope, alpha=weight * (below - sigma))
    return x


def ipndm_v(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """Adams-Bashforth of order 4 in sigma, with weights for uneven steps as published with AMED-Solver.

    Those weights are exact up to second order. In the third the factor of the last correction stands inside its bracket,
    and in the fourth the oldest slope has another ratio of steps than in `lms`; saved workflows count on it.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: Zhou et al. 2023 (AMED-Solver), arXiv:2312.00094, iPNDM with varied steps as in its published program.
    """
    slopes: list[Tensor] = []
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes][:MAX_ORDER]
        lengths = [sigmas[step + 1 - k] - sigmas[step - k] for k in range(len(slopes))]
        for slope, weight in zip(slopes, _varied_weights(lengths), strict=True):
            x = torch.add(x, slope, alpha=weight * (below - sigma))
    return x


def _varied_weights(lengths: Sequence[float]) -> list[float]:
    """Weights of up to four slopes by the lengths of this step, the one before, ..."""
    weights = [1.0, 0.0, 0.0, 0.0]
    if len(lengths) > 1:
        h, h1 = lengths[:2]
        weights = [1.0 + h / h1 / 2, -h / h1 / 2, 0.0, 0.0]
    if len(lengths) > 2:
        h2 = lengths[2]
        near = h1 / h2
        bend = (1.0 - h / (3 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2
        weights = [weights[0] + bend, weights[1] - (1.0 + near) * bend, near * bend, 0.0]
    if len(lengths) > 3:
        h3 = lengths[3]
        far = h1 * (h1 + h2) / (h2 * (h2 + h3))
        share = (1.0 - h / (3 * (h + h1))) / 2 + (1.0 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
        twist = share * (h * (h + h1) * (h + h1 + h2)) / (h1 * (h1 + h2) * (h1 + h2 + h3))
        turns = (1.0, -(1.0 + near + far), near + far * (1.0 + h2 / h3), -far * near)
        weights = [weight + turn * twist for weight, turn in zip(weights, turns, strict=True)]
    return weights[: len(lengths)]


def res_multistep(x: Tensor, sigmas: Sequence[float], noise: StepNoise | None = None, eta: float = 0.0) -> Steps:
    """Refined exponential solver: second order in lambda from the last two answers.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise; needed where `eta` is not 0.
        eta: Share of the noise that is renewed.

    Source: Zhang et al. 2023 (RES), arXiv:2308.02157, in multistep form.
    """
    before: Tensor | None = None
    level_before = down_before = 0.0
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        down, up = ancestral_levels(sigma, below, eta)
        target = denoised
        if before is not None and down > 0.0:
            target = torch.lerp(denoised, before, res_share(sigma, down, level_before, down_before))
        x = torch.lerp(target, x, down / sigma)
        if noise is not None and up > 0.0:
            x = torch.add(x, noise(sigma, below), alpha=up)
        before, level_before, down_before = denoised, sigma, down
    return x


def gradient_estimation(x: Tensor, sigmas: Sequence[float], gamma: float = 2.0) -> Steps:
    """Euler with a slope that is pushed on in the direction in which it has changed.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        gamma: How far it is pushed; 1 is `euler`.

    Source: Permenter and Yuan 2023, arXiv:2306.04848, the gradient-estimation sampler.
    """
    before: Tensor | None = None
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        slope = (x - denoised) / sigma
        pushed = slope if before is None else torch.lerp(before, slope, gamma)
        x = torch.add(x, pushed, alpha=below - sigma)
        before = slope
    return x


def deis(x: Tensor, sigmas: Sequence[float], order: int = 3) -> Steps:
    """DEIS: Adams-Bashforth whose slopes are polynomials of diffusion time, integrated exactly over sigma.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        order: How many slopes are used at most.

    Source: Zhang and Chen 2022 (DEIS), arXiv:2204.13902, eq. 15 (tAB), with the variance-preserving time of Karras et al.
    2022, arXiv:2206.00364, table 1.
    """
    times = _diffusion_times(sigmas)
    slopes: list[Tensor] = []
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes][:order]
        if len(slopes) == 1:
            weights = [below - sigma]
        else:
            nodes = [times[step - k] for k in range(len(slopes))]
            weights = _integrals_over_sigma(nodes, times[step], times[step + 1])
        for slope, weight in zip(slopes, weights, strict=True):
            x = torch.add(x, slope, alpha=weight)
    return x


def res_share(sigma: float, down: float, level_before: float, down_before: float) -> float:
    """How much of the earlier answer belongs to the target of a refined exponential step from `sigma` to `down`.

    Args:
        sigma: Level of the step's own answer.
        down: Where the step leads.
        level_before: Level of the earlier answer.
        down_before: Where it was left for, which with fresh noise is not `sigma`.
    """
    h = math.log(sigma / down)
    place = math.log(down_before / level_before) / h
    phi_1 = math.expm1(-h) / -h
    phi_2 = (phi_1 - 1.0) / -h
    return phi_2 / (place * phi_1)


def lagrange_polynomials(nodes: Sequence[float], origin: float) -> list[list[float]]:
    """The polynomials that are 1 at one node and 0 at the others, as coefficients of 1, place - origin, its square, ..."""
    polynomials = []
    for i, node in enumerate(nodes):
        coefficients = [1.0]
        for j, other in enumerate(nodes):
            if i != j:
                shifted = [0.0, *coefficients]
                lowered = [(origin - other) * c for c in (*coefficients, 0.0)]
                coefficients = [(a + b) / (node - other) for a, b in zip(shifted, lowered, strict=True)]
        polynomials.append(coefficients)
    return polynomials


def lagrange_integrals(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """Integrals from `start` to `end` of the polynomials that are 1 at one node and 0 at the others."""
    width = end - start
    return [
        sum(c * width ** (k + 1) / (k + 1) for k, c in enumerate(polynomial))
        for polynomial in lagrange_polynomials(nodes, start)
    ]


def _diffusion_times(sigmas: Sequence[float]) -> list[float]:
    """The times at which a variance-preserving process, with sigma from 0.002 to 80, has these levels."""
    rise, first = _variance_preserving()
    return [(math.sqrt(first**2 + 2 * rise * math.log1p(sigma**2)) - first) / rise for sigma in sigmas]


def _variance_preserving() -> tuple[float, float]:
    """(growth, start) of the rate of the process whose sigma is 0.002 at time 0.001 and 80 at time 1."""
    low, high = math.log1p(VP_SIGMAS[0] ** 2), math.log1p(VP_SIGMAS[1] ** 2)
    rise = 2 * (low / VP_START - high) / (VP_START - 1.0)
    return rise, high - rise / 2


def _integrals_over_sigma(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """Integrals of the polynomials of time that are 1 at one node, over the sigma between two times.

    By a sum over points, both ends counted in full, as the reference has it.
    """
    rise, first = _variance_preserving()
    times = torch.linspace(start, end, DEIS_POINTS, dtype=torch.float64)
    exponent = rise / 2 * times**2 + first * times
    sigma_per_time = 0.5 * (rise * times + first) * exponent.exp() / exponent.expm1().sqrt()
    width = (end - start) / DEIS_POINTS
    powers = torch.stack([(times - start) ** k for k in range(len(nodes))])
    moments: list[float] = ((powers * sigma_per_time).sum(dim=1) * width).tolist()
    return [sum(c * m for c, m in zip(p, moments, strict=True)) for p in lagrange_polynomials(nodes, start)]
