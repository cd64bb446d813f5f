"""`comfy.samplers`: names of samplers and schedulers, noise levels, samplers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.sampling.names import SAMPLER_NAMES as _SAMPLERS
from engine.sampling.names import SCHEDULER_NAMES as _SCHEDULERS

if TYPE_CHECKING:
    from torch import Tensor

SAMPLER_NAMES = list(_SAMPLERS)
SCHEDULER_NAMES = list(_SCHEDULERS)


class KSampler:
    """The names, as packs read them."""

    SAMPLERS = SAMPLER_NAMES
    SCHEDULERS = SCHEDULER_NAMES
    DISCARD_PENULTIMATE_SIGMA_SAMPLERS = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})


def calculate_sigmas(model_sampling: Any, scheduler_name: str, steps: int) -> Tensor:
    """[N + 1] noise levels of a model's schedule."""
    from engine.sampling.schedulers import sigmas

    return sigmas(model_sampling, scheduler_name, steps)
