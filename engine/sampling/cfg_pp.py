"""CFG++ samplers: the denoised latent is the guided one, the noise that is left stems from the unconditional one.

Guidance then never leaves the data's manifold, and small scales are enough. Each of them is the sampler of the same name
with the slope (x - D_u) / sigma in place of (x - D) / sigma; where that sampler blends x and D, x becomes x + (D - D_u).

Source: Chung et al. 2024 (CFG++), arXiv:2406.08070, algorithm 2.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from engine.sampling.multistep import res_share
from engine.sampling.samplers import Denoise, ancestral_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engine.sampling.noise import StepNoise
    from engine.sampling.samplers import Steps


def euler_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: StepNoise | None = None, eta: float = 0.0) -> Steps:
    """Euler; with `eta` to a level below the next one, and fresh noise up to it.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise; needed where `eta` is not 0.
        eta: Share of the noise that is renewed.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised, uncond = yield Denoise(x, sigma, step, with_negative=True)
        down, up = ancestral_levels(sigma, below, eta)
        x = torch.add(denoised, x - uncond, alpha=down / sigma)
        if noise is not None and up > 0.0:
            x = torch.add(x, noise(sigma, below), alpha=up)
    return x


def euler_pushed(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """Euler along the slope of what is guided once more: (x - (2 D - D_u)) / sigma.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.

    Source: no paper; the `alternative` version of the reference's Euler CFG++ node.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised, uncond = yield Denoise(x, sigma, step, with_negative=True)
        x = torch.lerp(torch.lerp(uncond, denoised, 2.0), x, below / sigma)
    return x


def dpmpp_2s_ancestral_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0) -> Steps:
    """DPM-Solver++(2S): the answer half-way in lambda serves for the whole step; then fresh noise.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        eta: Share of the noise that is renewed.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised, uncond = yield Denoise(x, sigma, step, with_negative=True)
        down, up = ancestral_levels(sigma, below, eta)
        target = denoised
        if down > 0.0:
            middle = math.sqrt(sigma * down)
            half = torch.lerp(denoised, x + (denoised - uncond), middle / sigma)
            target, uncond = yield Denoise(half, middle, step, with_negative=True)
        x = torch.lerp(target, x + (denoised - uncond), down / sigma)
        if up > 0.0:
            x = torch.add(x, noise(sigma, below), alpha=up)
    return x


def dpmpp_2m_cfg_pp(x: Tensor, sigmas: Sequence[float]) -> Steps:
    """DPM-Solver++(2M): second order in lambda from the last two answers; first order at both ends.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
    """
    before: Tensor | None = None
    h_before = 0.0
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised, uncond = yield Denoise(x, sigma, step, with_negative=True)
        h = math.log(sigma / below) if below > 0.0 else math.inf
        x = torch.add(denoised, x - uncond, alpha=below / sigma)
        if before is not None and below > 0.0:
            x = torch.add(x, denoised - before, alpha=(1.0 - below / sigma) * h / (2 * h_before))
        before, h_before = uncond, h
    return x


def res_multistep_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: StepNoise | None = None, eta: float = 0.0) -> Steps:
    """Refined exponential solver: second order in lambda from the last two unconditional answers.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise; needed where `eta` is not 0.
        eta: Share of the noise that is renewed.
    """
    before: Tensor | None = None
    level_before = down_before = 0.0
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised, uncond = yield Denoise(x, sigma, step, with_negative=True)
        down, up = ancestral_levels(sigma, below, eta)
        if before is None or down == 0.0:
            x = torch.add(denoised, x - uncond, alpha=down / sigma)
        else:
            target = torch.lerp(uncond, before, res_share(sigma, down, level_before, down_before))
            x = torch.lerp(target, x + (denoised - uncond), down / sigma)
        if noise is not None and up > 0.0:
            x = torch.add(x, noise(sigma, below), alpha=up)
        before, level_before, down_before = uncond, sigma, down
    return x


def gradient_estimation_cfg_pp(x: Tensor, sigmas: Sequence[float], gamma: float = 2.0) -> Steps:
    """Euler with a slope that is pushed on in the direction in which it has changed.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        gamma: How far it is pushed; 1 is `euler_cfg_pp`.
    """
    before: Tensor | None = None
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised, uncond = yield Denoise(x, sigma, step, with_negative=True)
        if below == 0.0:
            x = denoised
            continue
        slope = (x - uncond) / sigma
        x = torch.add(denoised, slope, alpha=below)
        if before is not None:
            x = torch.add(x, slope - before, alpha=(gamma - 1.0) * (below - sigma))
        before = slope
    return x
