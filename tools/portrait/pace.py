"""Learning-rate schedule, weight averaging and resumable state, shared by every training stage."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Pace:
    """How far a stage is: counted in steps, or in minutes where the time is what is given."""

    steps: int | None
    minutes: float | None
    step: int = 0
    spent_s: float = 0.0
    _mark: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes for a training stage")

    @property
    def progress(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        if self.steps is not None:
            return min(1.0, self.step / self.steps)
        assert self.minutes is not None
        return min(1.0, self.spent_s / (60 * self.minutes))

    def tick(self) -> None:
        """Count a finished step and its time."""
        now = time.monotonic()
        self.spent_s += now - self._mark
        self._mark = now
        self.step += 1

    def rate(self, peak: float, progress: float, warm_up: int = 100) -> float:
        """Learning rate at `progress`: linear warm-up over the first steps, then a cosine to 2 % of the peak."""
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        return peak * cosine * min(1.0, (self.step + 1) / warm_up)


class Average:
    """Exponential moving average of a module's parameters (with a short memory at first)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.values = {k: v.detach().clone() for k, v in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        names = [k for k, _ in module.named_parameters()]
        torch._foreach_lerp_([self.values[k] for k in names], [v.detach() for _, v in module.named_parameters()], 1 - decay)

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's state dict with averaged parameters."""
        return {k: self.values.get(k, v).detach().clone() for k, v in module.state_dict().items()}


def save(path: Path, **state: Any) -> None:
    """Write a checkpoint so that a crash never leaves half of one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)
