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


def lms(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """Adams-Bashforth of order 4 in sigma, with the exact weights of uneven steps.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section III.5.
    """
    slopes: list[Tensor] = []
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        slopes = [(x - denoised) / sigma, *slopes][:MAX_ORDER]
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
            h = math.log(sigma / down)
            # Where the earlier answer lies, in steps; it was left for `down_before`, not for this step's own level.
            place = math.log(down_before / level_before) / h
            phi_1 = math.expm1(-h) / -h
            phi_2 = (phi_1 - 1.0) / -h
            target = torch.lerp(denoised, before, phi_2 / (place * phi_1))
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


def lagrange_integrals(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """Integrals from `start` to `end` of the polynomials that are 1 at one node and 0 at the others."""
    integrals = []
    for i, node in enumerate(nodes):
        coefficients = [1.0]  # of the powers of (place - start), the lowest first
        for j, other in enumerate(nodes):
            if i != j:
                shifted = [0.0, *coefficients]
                lowered = [(start - other) * c for c in (*coefficients, 0.0)]
                coefficients = [(a + b) / (node - other) for a, b in zip(shifted, lowered, strict=True)]
        width = end - start
        integrals.append(sum(c * width ** (k + 1) / (k + 1) for k, c in enumerate(coefficients)))
    return integrals
