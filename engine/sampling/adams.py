"""The stochastic Adams solver: a multistep predictor, and a corrector that sees the new answer as well."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from engine.sampling.multistep import lagrange_polynomials
from engine.sampling.samplers import Denoise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from engine.sampling.noise import StepNoise
    from engine.sampling.samplers import Steps


def sa_solver(
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    tau: Callable[[float], float],
    *,
    predictor_order: int = 3,
    corrector_order: int = 4,
    evaluates_twice: bool = False,
    simple_order_2: bool = False,
) -> Steps:
    """SA-Solver.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels; where the last is 0 the orders fall towards the end.
        noise: Fresh noise.
        tau: How stochastic the way down to a level is: 0 is the ODE, 1 the SDE of the paper.
        predictor_order: How many answers the predictor uses.
        corrector_order: How many answers the corrector uses; 0 for none.
        evaluates_twice: Whether the corrected latent is evaluated too (PECE).
        simple_order_2: Whether the paper's simpler weights serve where two answers are used.

    Source: Xue et al. 2023 (SA-Solver), arXiv:2309.05019, algorithm 1; simple weights: appendix D.
    """
    lambdas = [-math.log(sigma) if sigma > 0.0 else math.inf for sigma in sigmas]
    last = len(sigmas) - 1
    ends_clean = sigmas[-1] == 0.0
    answers: list[Tensor] = []
    start, added, amount = x, torch.zeros_like(x), 0.0
    for step, (sigma, below) in enumerate(pairwise(sigmas)):
        denoised = yield Denoise(x, sigma, step)
        answers = [*answers, denoised][-max(predictor_order, corrector_order) :]
        order = 0 if step == 0 or (below == 0.0 and not evaluates_twice) else min(corrector_order, len(answers))
        if ends_clean:
            order = min(order, last - step)
        if order:
            known = lambdas[step - order + 1 : step + 1]
            weights = _weights(known, lambdas[step - 1], lambdas[step], amount, simple=simple_order_2, corrects=True)
            x = _moved(start, answers[-order:], weights, lambdas[step] - lambdas[step - 1], amount) + added
            if evaluates_twice:
                denoised = answers[-1] = yield Denoise(x, sigma, step)
        if below == 0.0:
            return denoised
        start, amount = x, tau(below)
        order = min(predictor_order, len(answers), *([last - 1 - step] if ends_clean else []))
        known = lambdas[step - order + 1 : step + 1]
        weights = _weights(known, lambdas[step], lambdas[step + 1], amount, simple=simple_order_2, corrects=False)
        h = lambdas[step + 1] - lambdas[step]
        x = _moved(start, answers[-order:], weights, h, amount)
        added = torch.zeros_like(x)
        if amount > 0.0:
            added = noise(sigma, below) * (below * math.sqrt(-math.expm1(-2.0 * amount**2 * h)))
            x = x + added
    return x


def _moved(x: Tensor, answers: Sequence[Tensor], weights: Sequence[float], h: float, tau: float) -> Tensor:
    """`x` brought a step of length `h` further by weighted answers."""
    x = x * math.exp(-(1.0 + tau**2) * h)
    for answer, weight in zip(answers, weights, strict=True):
        x = torch.add(x, answer, alpha=weight)
    return x


def _weights(known: Sequence[float], start: float, end: float, tau: float, *, simple: bool, corrects: bool) -> list[float]:
    """Weights of the answers at `known` for the way from `start` to `end`, all in lambda.

    They are the integrals of a e**(a (lambda - end)) times the polynomial that is 1 at one of `known` and 0 at the
    others, with a = 1 + tau**2.
    """
    a, h = 1.0 + tau**2, end - start
    if simple and len(known) == 2:
        newest = 0.5 * a * h if corrects else None
        older = 0.5 * a * h**2 / (known[0] - start) if newest is None else -math.expm1(-a * h) - newest
        return [older, -math.expm1(-a * h) - older]
    moments = [-math.expm1(-a * h)]  # of the powers of (lambda - end)
    for power in range(1, len(known)):
        moments.append(-((-h) ** power) * math.exp(-a * h) - power / a * moments[-1])
    return [sum(c * m for c, m in zip(p, moments, strict=True)) for p in lagrange_polynomials(known, end)]
