"""Random numbers of sampling, from explicit generators only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from engine.sampling.rules import Draw
    from engine.types import NoiseSchedule

PATH_DIGITS = 6
"""Decimal places that a Brownian path distinguishes; its ends are rounded so, and asking beyond them warns."""

SEED_MODULUS = 2**64
"""Seeds are 64 bits wide; the CPU generator uses the low 32 of them."""


class StepNoise(Protocol):
    """Fresh noise for one move of a stochastic sampler."""

    def __call__(self, sigma: float, below: float) -> Tensor:
        """Unit-variance noise for the move from level `sigma` down to `below`; shaped like the latent."""


def initial_noise(shape: Sequence[int], seed: int, batch_index: Sequence[int] | None = None) -> Tensor:
    """The noise that sampling starts from.

    Drawn on the CPU whatever the device, so that a seed means the same picture everywhere.

    Args:
        shape: Of the latent, (B, C, h, w).
        seed: 0..2**64 - 1; seeds that agree in their low 32 bits give equal noise.
        batch_index: For each of the B samples its place in the batch that it stems from. One draw is made for each
            place up to the highest, and equal places share theirs. Without it the batch is one draw.

    Returns:
        [B, C, h, w] float32 on the CPU, normal with mean 0 and variance 1.
    """
    generator = torch.Generator("cpu").manual_seed(seed % SEED_MODULUS)
    if batch_index is None:
        return torch.randn(tuple(shape), generator=generator)
    draws = [torch.randn((1, *shape[1:]), generator=generator) for _ in range(max(batch_index) + 1)]
    return torch.cat([draws[i] for i in batch_index])


def gaussian(x: Tensor, seed: int) -> StepNoise:
    """Independent noise for each move, from a generator on the device of `x`.

    Args:
        x: [B, C, h, w] the latent; gives shape, dtype and device.
        seed: Of the whole run. On the CPU the first draw therefore equals the initial noise, as in the reference.
    """
    generator = torch.Generator(x.device).manual_seed(seed % SEED_MODULUS)

    def draw(sigma: float, below: float) -> Tensor:  # noqa: ARG001 - independent of the move
        return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)

    return draw


def following(x: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    """Noise of any shape, on the CPU from the numbers that follow those of the initial noise, as in the reference.

    Args:
        x: [B, C, h, w] the first latent; gives the device and how much noise was drawn.
        seed: Of the whole run.

    Returns:
        A latent to noise of its shape.
    """
    generator = torch.Generator(x.device).manual_seed(seed % SEED_MODULUS)
    if x.device.type == "cpu":
        torch.randn(x.shape, generator=generator)
    return lambda latent: torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)


def lots(shape: Sequence[int], seed: int) -> Draw:
    """Whole numbers, on the CPU from the numbers that follow those of the initial noise, as in the reference.

    Args:
        shape: Of the latent, (B, C, h, w): how much noise was drawn.
        seed: Of the whole run.
    """
    generators: list[torch.Generator] = []

    def draw(below: int, shape_of_lots: tuple[int, ...]) -> Tensor:
        if not generators:
            generators.append(torch.Generator("cpu").manual_seed(seed % SEED_MODULUS))
            torch.randn(tuple(shape), generator=generators[0])
        return torch.randint(below, shape_of_lots, generator=generators[0])

    return draw


def brownian(x: Tensor, sigmas: Sequence[float], seed: int, *, on_device: bool = False) -> StepNoise:
    """Increments of one Brownian path over noise levels, so that the noise does not depend on the number of steps.

    Args:
        x: [B, C, h, w] the latent; gives shape, dtype and device.
        sigmas: The levels that are visited; at least one is above 0.
        seed: Entropy of the path.
        on_device: Whether the path lives on the device of `x`: faster there, and another one than that of the CPU.

    Source: Li et al. 2020 (virtual Brownian tree), arXiv:2001.01328.
    """
    import torchsde

    low = round(min(s for s in sigmas if s > 0.0), PATH_DIGITS)
    high = round(max(sigmas), PATH_DIGITS)
    tree = torchsde.BrownianTree(t0=low, w0=torch.zeros_like(x, device=None if on_device else "cpu"), t1=high, entropy=seed)

    def draw(sigma: float, below: float) -> Tensor:
        rise: Tensor = tree(max(below, low), min(sigma, high))
        # Without waiting: the next draw is made while the device computes.
        return (rise / -math.sqrt(sigma - below)).to(x.device, non_blocking=x.is_cuda)

    return draw


def scaled(noise: StepNoise, amount: float) -> StepNoise:
    """`noise`, `amount` times as strong."""
    if amount == 1.0:
        return noise
    return lambda sigma, below: noise(sigma, below) * amount


def starting_latent(schedule: NoiseSchedule, noise: Tensor, sigma: float, latent: Tensor) -> Tensor:
    """The noisy latent that sampling starts from.

    Args:
        schedule: The model's noise levels.
        noise: [B, C, h, w] of unit variance.
        sigma: The first level. At the top of the schedule, or above, the noise takes the variance that the network was
            trained to see there.
        latent: [B, C, h, w] in model space.
    """
    at_top = sigma > schedule.sigma_max or math.isclose(sigma, schedule.sigma_max, rel_tol=1e-5)
    return schedule.noised(noise, torch.tensor(sigma), latent, max_denoise=at_top)
