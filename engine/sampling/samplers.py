"""Samplers: each is a generator that asks for denoised latents and knows no model, no device and no progress bar.

A sampler yields `Denoise(x, sigma, step)`, is sent the denoised latent, and returns the last `x`. Levels are plain
numbers, so that nothing waits for the device. Latents are "variance exploding": x = clean + sigma * noise, and the
half log-SNR is lambda = -ln sigma. With D the denoised latent, the exact solution of the probability-flow ODE for a
constant D is a linear blend, x' = D + (x - D) * sigma' / sigma, which is why `lerp` appears everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.sampling.noise import StepNoise


@dataclass(frozen=True, slots=True)
class Denoise:
    """A sampler's request.

    Attributes:
        x: [B, C, h, w] noisy latent in model space.
        sigma: Its noise level.
        step: Index of the step, from 0; several requests may belong to one step.
        with_negative: Whether the answer to the negative conditioning is wanted beside the guided one; both then come
            as one tensor [2, B, C, h, w], which unpacks: `denoised, negative = yield Denoise(..., with_negative=True)`.
    """

    x: Tensor
    sigma: float
    step: int
    with_negative: bool = False


Split: TypeAlias = "Callable[[float, float, float], tuple[float, float, float]]"
"""(level, next level, eta) to (level to move to, factor of the latent there, standard deviation of the noise to add)."""

Steps: TypeAlias = Generator[Denoise, Tensor, Tensor]
"""A running sampler: yields requests, is sent denoised latents, returns the final latent."""


def euler(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """First order; also DDIM without added noise, which is the same step in this parametrisation.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1 without the correction; Song et al. 2020,
    arXiv:2010.02502, eq. 12 with eta = 0.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        x = torch.lerp(denoised, x, below / sigma)
    return x


def ancestral_levels(sigma: float, below: float, eta: float = 1.0) -> tuple[float, float]:
    """Split a move from `sigma` to `below` into a deterministic part and fresh noise.

    Returns:
        (down, up): the level to move to, and the standard deviation of the noise to add; down**2 + up**2 = below**2.
    """
    up = min(below, eta * math.sqrt(below**2 * (sigma**2 - below**2) / sigma**2))
    return math.sqrt(below**2 - up**2), up


def ancestral_split(sigma: float, below: float, eta: float) -> tuple[float, float, float]:
    """`ancestral_levels` as a `Split`: the latent needs no factor."""
    down, up = ancestral_levels(sigma, below, eta)
    return down, 1.0, up


def renewed(x: Tensor, kept: float, noise: Tensor, up: float) -> Tensor:
    """`x` multiplied by `kept`, with noise of standard deviation `up`."""
    return torch.add(x if kept == 1.0 else x * kept, noise, alpha=up)


def euler_ancestral(
    x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0, split: Split = ancestral_split
) -> Steps:
    """Euler to a level below the next one, then fresh noise up to it.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        eta: Share of the noise that is renewed; 0 is `euler`.
        split: How a move is divided.

    Source: Ho et al. 2020 (DDPM posterior), arXiv:2006.11239, eq. 6-7, in terms of sigma.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        down, kept, up = split(sigma, below, eta)
        x = torch.lerp(denoised, x, down / sigma)
        if up > 0.0:
            x = renewed(x, kept, noise(sigma, below), up)
    return x


def heun(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """Second order: the slope is the mean of the slopes at both ends of a step; Euler where the step ends at 0.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        ahead = torch.lerp(denoised, x, below / sigma)
        if below > 0.0:
            denoised_ahead = yield Denoise(ahead, below, step)
            slope = (x - denoised) / sigma + (ahead - denoised_ahead) / below
            ahead = torch.add(x, slope, alpha=(below - sigma) / 2)
        x = ahead
    return x


def dpmpp_2m(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """DPM-Solver++(2M): second order in lambda from the last two answers; first order at both ends.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """
    before: Tensor | None = None
    h_before = 0.0
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        target = denoised
        h = math.log(sigma / below) if below > 0.0 else math.inf
        if before is not None and below > 0.0:
            target = torch.lerp(denoised, before, -h / (2 * h_before))
        x = torch.lerp(target, x, below / sigma)
        before, h_before = denoised, h
    return x


def lcm(x: Tensor, sigmas: Sequence[float], noise: StepNoise, noised: Callable[[Tensor, float, Tensor], Tensor]) -> Steps:
    """Jump to the denoised latent, and noise it to the next level.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        noised: (noise, level, latent) to the latent at that level, as the model's schedule defines it.

    Source: Luo et al. 2023 (LCM), arXiv:2310.04378; multistep sampling as in Song et al. 2023, arXiv:2303.01469, algorithm 1.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        x = yield Denoise(x, sigma, step)
        if below > 0.0:
            x = noised(noise(sigma, below), below, x)
    return x


def lcm_upscaled(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Callable[[Tensor], Tensor],
    *,
    resized: Callable[[Tensor, int, int], Tensor],
    ratio: float = 2.0,
    steps: int | None = None,
) -> Steps:
    """Jump to the denoised latent, enlarge it, and noise it to the next level.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise of the shape of a latent.
        resized: (latent, width, height) to that size.
        ratio: How much larger the last latent is.
        steps: How many steps enlarge it, evenly; half of them by default.

    Source: no paper; matched to the reference's sampler of this name.
    """
    count = max(len(sigmas) // 2, 1) if steps is None else min(steps, len(sigmas))
    height, width = x.shape[-2:]
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        x = yield Denoise(x, sigma, step)
        if step < count:
            scale = 1.0 + (ratio - 1.0) * (step + 1) / count
            x = resized(x, round(width * scale), round(height * scale))
        if below > 0.0:
            x = torch.add(x, noise(x), alpha=below)
    return x
