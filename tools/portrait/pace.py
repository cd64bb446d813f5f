"""Learning-rate schedule, weight averaging and resumable state, shared by every training stage."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path


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
        return min(1.0, self.spent_s / (60 * (self.minutes or 1)))

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
        """Move the averages towards the module's parameters."""
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
    part.replace(path)


def keep(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average, pace: Pace) -> None:
    """Write all that a stage needs to go on."""
    save(
        path,
        module=module.state_dict(),
        optimizer=optimizer.state_dict(),
        average=average.values,
        count=average.count,
        step=pace.step,
        spent_s=pace.spent_s,
    )


def resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average, pace: Pace) -> None:
    """Take up a stage where `keep` left it; do nothing where there is no file."""
    if not path.exists():
        return
    kept = torch.load(path, weights_only=True)
    module.load_state_dict(kept["module"])
    optimizer.load_state_dict(kept["optimizer"])
    average.values, average.count = kept["average"], kept["count"]
    pace.step, pace.spent_s = kept["step"], kept["spent_s"]
