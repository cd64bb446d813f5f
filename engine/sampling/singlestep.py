"""Samplers that ask several times within a step, and keep nothing from one step to the next."""

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


def heunpp2(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """Heun with up to three slopes, those further ahead weighed by their noise level.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: no paper; matched to the reference's sampler of this name. With n slopes, those at the ends of this step and of
    the next weigh sigma / (n * sigma_0).
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        if below == 0.0:
            x = torch.lerp(denoised, x, below / sigma)
            continue
        slope = (x - denoised) / sigma
        ahead = torch.add(x, slope, alpha=below - sigma)
        slope_ahead = (ahead - (yield Denoise(ahead, below, step))) / below
        beyond = sigmas[step + 2] if step + 2 < len(sigmas) else 0.0
        if beyond == 0.0:
            mean = torch.lerp(slope, slope_ahead, below / (2 * sigmas[0]))
        else:
            further = torch.add(ahead, slope_ahead, alpha=beyond - below)
            slope_beyond = (further - (yield Denoise(further, beyond, step))) / beyond
            near, far = below / (3 * sigmas[0]), beyond / (3 * sigmas[0])
            mean = slope * (1.0 - near - far) + slope_ahead * near + slope_beyond * far
        x = torch.add(x, mean, alpha=below - sigma)
    return x


def dpm_2(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """DPM-Solver-2: the slope half-way in log sigma serves for the whole step.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: Lu et al. 2022, arXiv:2206.00927, algorithm 1 with r = 1/2; Karras et al. 2022, arXiv:2206.00364, algorithm 2.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        x = yield from _midpoint(x, denoised, sigma, below, step)
    return x


def dpm_2_ancestral(x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0) -> Steps:
    """`dpm_2` to a level below the next one, then fresh noise up to it.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        eta: Share of the noise that is renewed.

    Source: as `dpm_2`, with the noise of `ancestral_levels`.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        down, up = ancestral_levels(sigma, below, eta)
        x = yield from _midpoint(x, denoised, sigma, down, step)
        if up > 0.0:
            x = torch.add(x, noise(sigma, below), alpha=up)
    return x


def dpmpp_2s_ancestral(x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0) -> Steps:
    """DPM-Solver++(2S): the answer half-way in lambda serves for the whole step; then fresh noise.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        eta: Share of the noise that is renewed.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 1 with r = 1/2.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        down, up = ancestral_levels(sigma, below, eta)
        if down > 0.0:
            middle = math.sqrt(sigma * down)
            half = torch.lerp(denoised, x, middle / sigma)
            denoised = yield Denoise(half, middle, step)
        x = torch.lerp(denoised, x, down / sigma)
        if up > 0.0:
            x = torch.add(x, noise(sigma, below), alpha=up)
    return x


def ddpm(x: Tensor, sigmas: Sequence[float], noise: StepNoise) -> Steps:
    """Ancestral sampling of the discrete chain.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.

    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2 with the posterior variance of eq. 7; latents are scaled to
    unit variance around each step, alpha_bar = 1 / (1 + sigma^2).
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        share, share_below = 1.0 / (1.0 + sigma**2), 1.0 / (1.0 + below**2)
        alpha = share / share_below
        slope = (x - denoised) / sigma
        mean = (x * math.sqrt(share) - slope * ((1.0 - alpha) / math.sqrt(1.0 - share))) / math.sqrt(alpha)
        if below > 0.0:
            variance = (1.0 - alpha) * (1.0 - share_below) / (1.0 - share)
            mean = torch.add(mean, noise(sigma, below), alpha=math.sqrt(variance))
        x = mean * math.sqrt(1.0 + below**2)
    return x


def dpm_fast(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """DPM-Solver-fast: steps of order 3, and lower ones at the end, as many evaluations as there are levels to go.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels; only the ends and N count. A last 0 is left out.

    Source: Lu et al. 2022, arXiv:2206.00927, algorithms 1 and 2, in the order of DPM-Solver-fast.
    """
    evaluations = len(sigmas) - 1
    last = sigmas[-1] if sigmas[-1] > 0.0 else sigmas[-2]
    if last == sigmas[0]:
        return (yield Denoise(x, last, 0))
    count, rest = evaluations // 3 + 1, evaluations % 3
    orders = [3] * (count - 2) + [2, 1] if rest == 0 else [3] * (count - 1) + [rest]
    levels = [sigmas[0] * (last / sigmas[0]) ** (i / count) for i in range(count + 1)]
    done = 0
    for order, (sigma, below) in zip(orders, pairwise(levels), strict=True):
        slope = (x - (yield Denoise(x, sigma, done))) / sigma
        h = math.log(sigma / below)
        # Inner answers at r = 1/2, or at 1/3 and 2/3, each from what is known so far.
        inner = {1: (), 2: (0.5,), 3: (1 / 3, 2 / 3)}[order]
        change, reached = torch.zeros_like(x), 0.0
        for k, place in enumerate(inner, 1):
            level = sigma * math.exp(-place * h)
            stage = torch.add(x, slope, alpha=level - sigma)
            if reached:
                stage = torch.add(stage, change, alpha=-level * place / reached * (math.expm1(place * h) / (place * h) - 1.0))
            change = (stage - (yield Denoise(stage, level, done + k))) / level - slope
            reached = place
        x = torch.add(x, slope, alpha=below - sigma)
        if order == 2:
            x = torch.add(x, change, alpha=-below * math.expm1(h))
        elif order == 3:
            x = torch.add(x, change, alpha=-below / reached * (math.expm1(h) / h - 1.0))
        done += order
    return x


def _midpoint(x: Tensor, denoised: Tensor, sigma: float, below: float, step: int) -> Steps:
    """One step of DPM-Solver-2; Euler where it ends at 0."""
    if below == 0.0:
        return torch.lerp(denoised, x, below / sigma)
    middle = math.sqrt(sigma * below)
    half = torch.lerp(denoised, x, middle / sigma)
    slope = (half - (yield Denoise(half, middle, step))) / middle
    return torch.add(x, slope, alpha=below - sigma)
