"""UniPC: a multistep predictor with a corrector that costs no further evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from engine.sampling.samplers import Denoise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.sampling.samplers import Steps

LAST_SIGMA = 0.001
"""Stands for a last level of 0, where lambda would be infinite."""

MAX_ORDER = 3


def uni_pc(x: Tensor, sigmas: Sequence[float], variant: Literal["bh1", "bh2"] = "bh1") -> Steps:
    """UniPC for the denoised prediction: order 3 in the middle, lower at both ends, no corrector at the last step.

    Args:
        x: [B, C, h, w] at level `sigmas[0]`.
        sigmas: N + 1 falling levels; a last 0 becomes `LAST_SIGMA`.
        variant: The function B(h): h itself, or e**h - 1.

    Source: Zhao et al. 2023, arXiv:2302.04867, multistep UniP and UniC for the denoised prediction.
    """
    levels = (*sigmas[:-1], sigmas[-1] if sigmas[-1] > 0.0 else LAST_SIGMA)
    lambdas = [-math.log(level) for level in levels]
    steps = len(levels) - 1
    order = min(MAX_ORDER, max(steps - 1, 1))
    answers: list[Tensor] = [(yield Denoise(x, levels[0], 0))]
    for i in range(1, steps + 1):
        p = min(i, order, steps + 1 - i)
        h = lambdas[i] - lambdas[i - 1]
        ratios = [(lambdas[i - 1 - k] - lambdas[i - 1]) / h for k in range(1, p)]
        predictor, corrector = _weights(ratios, h, variant)
        newest = answers[-1]
        slopes = [(answers[-1 - k] - newest) / ratio for k, ratio in enumerate(ratios, 1)]
        plain = torch.lerp(newest, x, levels[i] / levels[i - 1])
        x = _moved(plain, slopes, predictor)
        if i == steps:
            break
        denoised = yield Denoise(x, levels[i], i)
        x = _moved(plain, [*slopes, denoised - newest], corrector)
        answers = [*answers, denoised][-MAX_ORDER:]
    return x


def _moved(plain: Tensor, slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """`plain` moved along weighted slopes."""
    for slope, weight in zip(slopes, weights, strict=True):
        plain = torch.add(plain, slope, alpha=weight)
    return plain


def _weights(ratios: Sequence[float], h: float, variant: str) -> tuple[list[float], list[float]]:
    """Weights of the slopes for predictor and corrector, including the factor -B(-h).

    The corrector has one slope more, that of the new answer, whose ratio is 1. At the lowest orders the weight is 1/2
    for any B, as the paper recommends.
    """
    phi = math.expm1(-h) / -h - 1.0
    scale = -h if variant == "bh1" else math.expm1(-h)
    right: list[float] = []
    factorial = 1
    for k in range(1, len(ratios) + 2):
        right.append(phi * factorial / scale)
        factorial *= k + 1
        phi = phi / -h - 1.0 / factorial
    return (
        [-scale * weight for weight in _solved(ratios, right)],
        [-scale * weight for weight in _solved([*ratios, 1.0], right)],
    )


def _solved(ratios: Sequence[float], right: Sequence[float]) -> list[float]:
    """Solve the order conditions: sum of weight * ratio ** n = right[n].

    Source: Golub and Van Loan, Matrix Computations, algorithm 4.6.2 (Vandermonde systems).
    """
    count = len(ratios)
    if count < 2:
        return [0.5] * count
    weights = list(right[:count])
    for k in range(count - 1):
        for i in range(count - 1, k, -1):
            weights[i] -= ratios[k] * weights[i - 1]
    for k in range(count - 2, -1, -1):
        for i in range(k + 1, count):
            weights[i] /= ratios[i] - ratios[i - k - 1]
        for i in range(k, count - 1):
            weights[i] -= weights[i + 1]
    return weights
