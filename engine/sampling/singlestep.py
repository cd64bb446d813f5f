"""Samplers that ask several times within a step, and keep nothing from one step to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from engine.sampling.samplers import Denoise, ancestral_levels, ancestral_split, renewed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

    from engine.sampling.noise import StepNoise
    from engine.sampling.samplers import Split, Steps

ADAPTIVE_END = 1e-5
"""Length in lambda that `dpm_adaptive` leaves undone."""

SMALLEST_ERROR = 1e-8
"""Added to the error of a step, so that none is 0."""


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


def dpm_2_ancestral(
    x: Tensor, sigmas: Sequence[float], noise: StepNoise, eta: float = 1.0, split: Split = ancestral_split
) -> Steps:
    """`dpm_2` to a level below the next one, then fresh noise up to it.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        eta: Share of the noise that is renewed.
        split: How a move is divided.

    Source: as `dpm_2`, with the noise of `split`.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        down, kept, up = split(sigma, below, eta)
        x = yield from _midpoint(x, denoised, sigma, down, step)
        if up > 0.0:
            x = renewed(x, kept, noise(sigma, below), up)
    return x


def dpmpp_2s_ancestral(
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    eta: float = 1.0,
    split: Split = ancestral_split,
    middle: Callable[[float, float], float] = lambda sigma, below: math.sqrt(sigma * below),
) -> Steps:
    """DPM-Solver++(2S): the answer half-way in lambda serves for the whole step; then fresh noise.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels.
        noise: Fresh noise.
        eta: Share of the noise that is renewed.
        split: How a move is divided.
        middle: The level half-way in lambda.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 1 with r = 1/2.
    """
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        down, kept, up = split(sigma, below, eta)
        if down > 0.0:
            level = middle(sigma, down)
            half = torch.lerp(denoised, x, level / sigma)
            denoised = yield Denoise(half, level, step)
        x = torch.lerp(denoised, x, down / sigma)
        if up > 0.0:
            x = renewed(x, kept, noise(sigma, below), up)
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
        # Inner answers at r = 1/2, or at 1/3 and 2/3, each from what is known so far.
        inner = {1: (), 2: (0.5,), 3: (1 / 3, 2 / 3)}[order]
        move = _Move(x, slope, sigma, below)
        for k, place in enumerate(inner, 1):
            move = yield from move.at(place, done + k)
        x = move.end(order)
        done += order
    return x


def dpm_adaptive(
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise | None = None,
    *,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    eta: float = 0.0,
) -> Steps:
    """DPM-Solver-12 or -23 with steps as long as their error allows.

    Each step is solved in two orders; their difference, measured against what is tolerated, decides whether the step
    counts, and how long the next one is.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: Falling levels; only the ends count, and the others for progress. A last 0 is left out.
        noise: Fresh noise; needed where `eta` is not 0.
        order: 2 or 3.
        rtol: Tolerated error as a share of the latent.
        atol: Tolerated error in any case.
        h_init: Length of the first step, in lambda.
        pcoeff: Weight of the error in the length of the next step.
        icoeff: Weight of the errors so far.
        dcoeff: Weight of the change of the error.
        accept_safety: A step counts if the next one would be at least this share of it.
        eta: Share of the noise that is renewed.

    Source: Lu et al. 2022, arXiv:2206.00927, appendix C; control of the step: Soderlind 2003, Digital filters in adaptive
    time-stepping, with the limiter 1 + arctan(f - 1).
    """
    last = sigmas[-1] if sigmas[-1] > 0.0 else sigmas[-2]
    sigma, h, previous = sigmas[0], h_init, x
    exponents = [share / (1.5 if eta else order) for share in (pcoeff + icoeff + dcoeff, -(pcoeff + 2 * dcoeff), dcoeff)]
    inverse_errors: list[float] = []
    slope: Tensor | None = None
    if last == sigma:
        return (yield Denoise(x, last, 0))
    while math.log(sigma / last) > ADAPTIVE_END:
        step = sum(level >= sigma for level in sigmas[1:])
        if slope is None:
            slope = (x - (yield Denoise(x, sigma, step))) / sigma
        below = max(last, sigma * math.exp(-h))
        down = max(last, ancestral_levels(sigma, below, eta)[0])
        up = math.sqrt(max(below**2 - down**2, 0.0))
        move = _Move(x, slope, sigma, down)
        if order == 3:
            move = yield from move.at(1 / 3, step)
        low = move.end(order - 1)
        move = yield from move.at(2 / 3 if order == 3 else 1 / 2, step)
        high = move.end(order)
        tolerated = torch.maximum(low.abs(), previous.abs()).mul(rtol).clamp(min=atol)
        inverse = 1.0 / (float(((low - high) / tolerated).square().mean().sqrt()) + SMALLEST_ERROR)
        inverse_errors = [inverse, *inverse_errors[1:]] if inverse_errors else [inverse] * 3
        factor = math.prod(error**exponent for error, exponent in zip(inverse_errors, exponents, strict=True))
        factor = 1.0 + math.atan(factor - 1.0)
        h *= factor
        if factor >= accept_safety:
            inverse_errors = [inverse, inverse, inverse_errors[1]]
            previous, x, slope = low, high, None
            if noise is not None and up > 0.0:
                x = torch.add(x, noise(sigma, below), alpha=up)
            sigma = below
    return x


@dataclass(frozen=True, slots=True, eq=False)
class _Move:
    """A step of DPM-Solver, and what is known of it so far.

    Attributes:
        x: [B, C, h, w] at level `sigma`.
        slope: There.
        sigma: Where it starts.
        below: Where it ends.
        reached: The place (0..1, in lambda) of the last inner answer.
        change: How the slope differs there; None before any inner answer.
    """

    x: Tensor
    slope: Tensor
    sigma: float
    below: float
    reached: float = 0.0
    change: Tensor | None = None

    def at(self, place: float, step: int) -> Generator[Denoise, Tensor, _Move]:
        """The same with an inner answer at `place`."""
        h = place * math.log(self.sigma / self.below)
        level = self.sigma * math.exp(-h)
        stage = torch.add(self.x, self.slope, alpha=level - self.sigma)
        if self.change is not None:
            stage = torch.add(stage, self.change, alpha=-level * place / self.reached * (math.expm1(h) / h - 1.0))
        change = (stage - (yield Denoise(stage, level, step))) / level - self.slope
        return replace(self, reached=place, change=change)

    def end(self, order: int) -> Tensor:
        """Where it leads: of order 1, or 2 or 3 with as many inner answers."""
        h = math.log(self.sigma / self.below)
        x = torch.add(self.x, self.slope, alpha=self.below - self.sigma)
        if self.change is None:
            return x
        bend = math.expm1(h) / 2 if order == 2 else math.expm1(h) / h - 1.0
        return torch.add(x, self.change, alpha=-self.below / self.reached * bend)


def _midpoint(x: Tensor, denoised: Tensor, sigma: float, below: float, step: int) -> Steps:
    """One step of DPM-Solver-2; Euler where it ends at 0."""
    if below == 0.0:
        return torch.lerp(denoised, x, below / sigma)
    middle = math.sqrt(sigma * below)
    half = torch.lerp(denoised, x, middle / sigma)
    slope = (half - (yield Denoise(half, middle, step))) / middle
    return torch.add(x, slope, alpha=below - sigma)
