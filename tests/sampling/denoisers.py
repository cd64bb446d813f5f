"""Models whose answers are known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import torch

from engine.sampling.rules import NO_RULES, Rules
from engine.sampling.schedule import DiscreteSchedule
from engine.types import Cond, Conditioning, LatentFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from engine.sampling.samplers import Denoise, Steps
    from engine.types import NoiseSchedule


def gaussian_denoised(x: Tensor, sigma: Tensor | float, spread: float = 0.5) -> Tensor:
    """The exact denoised latent for data that is normal around 0 with standard deviation `spread`."""
    return x * (spread**2 / (spread**2 + sigma**2))


def gaussian_solution(x: Tensor, first: float, last: float, spread: float = 0.5) -> Tensor:
    """Where the probability-flow ODE of that data carries `x` from level `first` to level `last`."""
    return x * math.sqrt((spread**2 + last**2) / (spread**2 + first**2))


def solved(steps: Steps, spread: float = 0.5) -> tuple[Tensor, list[float]]:
    """Run a sampler on that data; the last latent, and the levels that it asked for."""
    asked: list[float] = []
    try:
        request = next(steps)
        while True:
            asked.append(request.sigma)
            denoised = gaussian_denoised(request.x, request.sigma, spread)
            request = steps.send(torch.stack((denoised, denoised)) if request.with_negative else denoised)
    except StopIteration as end:
        return end.value, asked


def finished(steps: Steps, answer: Callable[[Denoise], Tensor]) -> Tensor:
    """The last latent of a sampler whose requests are answered so."""
    try:
        request = next(steps)
        while True:
            request = steps.send(answer(request))
    except StopIteration as end:
        return end.value


def levels(n: int, first: float = 10.0, last: float = 0.1) -> list[float]:
    """N + 1 levels evenly spaced in log sigma, the last above 0."""
    return torch.logspace(math.log10(first), math.log10(last), n + 1, dtype=torch.float64).tolist()


@dataclass
class ContextModel:
    """Answers each row with the first number of its context, whatever the latent: guidance is then plain arithmetic.

    It records the passes it is asked for.
    """

    latent_format: LatentFormat = field(default_factory=lambda: LatentFormat(scale=1.0))
    schedule: DiscreteSchedule = field(default_factory=DiscreteSchedule.scaled_linear)
    family: str = "test"
    in_channels: int = 4
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    rules: Rules = NO_RULES
    passes: list[tuple[torch.Size, list[float]]] = field(default_factory=list)

    def with_rules(self, rules: Rules) -> Self:
        return replace(self, rules=self.rules.then(rules))

    def with_schedule(self, schedule: NoiseSchedule, *, latent_format: LatentFormat | None = None) -> Self:
        return replace(self, schedule=schedule, latent_format=latent_format or self.latent_format)

    def with_dtype(self, dtype: torch.dtype) -> Self:
        return replace(self, dtype=dtype)

    def prepared(self, entry: Cond, **_: object) -> Cond:
        return entry

    def denoised(self, x: Tensor, sigma: Tensor, context: Tensor, *, extra: Mapping[str, Tensor], **_: object) -> Tensor:
        assert sigma.shape[0] == context.shape[0] == x.shape[0]
        assert all(value.shape[0] == x.shape[0] for value in extra.values())
        self.passes.append((x.shape, [] if x.is_meta else context[:, 0, 0].tolist()))
        return context[:, :1, :1, None].expand_as(x).clone()


@dataclass
class GaussianModel(ContextModel):
    """The exact model of normal data around the first number of its context."""

    def denoised(self, x: Tensor, sigma: Tensor, context: Tensor, *, extra: Mapping[str, Tensor], **_: object) -> Tensor:
        centre = super().denoised(x, sigma, context, extra=extra)
        return centre + gaussian_denoised(x - centre, sigma.reshape(-1, 1, 1, 1))


def entry(value: float, tokens: int = 77, **options: object) -> Cond:
    """A conditioning entry whose context is all `value`."""
    return Cond(torch.full((1, tokens, 3), value)).with_options(**options)


def conditioning(*entries: Cond | float) -> Conditioning:
    return Conditioning(tuple(e if isinstance(e, Cond) else entry(e) for e in entries))


def close(got: Tensor, expected: Sequence[float] | Tensor | float, limit: float = 1e-5) -> bool:
    return torch.allclose(got, torch.as_tensor(expected, dtype=got.dtype), atol=limit, rtol=limit)
