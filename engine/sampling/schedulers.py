"""Schedulers: which noise levels a sampler visits, from high to low.

The closed-form ones take numbers; the ones that walk a model's own table take its schedule. All return float32 on the
CPU, falling, and end with 0. They compute in float32 as the reference does, and agree with it to the last bit: samplers
with Brownian noise look it up by level.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch

from engine.sampling.names import SCHEDULER_NAMES, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from engine.types import NoiseSchedule

DISCARD_PENULTIMATE = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})
"""Samplers whose schedule is made one step longer and then loses its second-last level."""

FULL_DENOISE = 0.9999
"""A `denoise` above this is a full one."""

NEGLIGIBLE_SIGMA = 1e-5
"""A lowest level below this already stands for 0."""

LOG_FLOOR = 1e-5
"""Keeps the logarithms of `laplace` finite at both ends."""

ALIGN_YOUR_STEPS: dict[str, tuple[float, ...]] = {
    "SD1": (
        14.6146412293,
        6.4745760956,
        3.8636745985,
        2.6946151520,
        1.8841921177,
        1.3943805092,
        0.9642583904,
        0.6523686016,
        0.3977456272,
        0.1515232662,
        0.0291671582,
    ),
    "SDXL": (
        14.6146412293,
        6.3184485287,
        3.7681790315,
        2.1811480769,
        1.3405244945,
        0.8620721141,
        0.5550693289,
        0.3798540708,
        0.2332364134,
        0.1114188177,
        0.0291671582,
    ),
    "SVD": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}
"""The levels of 10 optimised steps by family of models; see `align_your_steps`."""

GITS: dict[float, tuple[float, ...]] = {
    0.95: (14.61464119, 11.54541874, 7.49001646, 4.86714602, 2.95596409, 1.56271636, 0.64427125, 0.02916753),
}
"""Levels by coefficient; see `gits`."""


def karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Noise levels evenly spaced in sigma ** (1 / rho).

    Returns:
        [n + 1] float32 on CPU, strictly falling, last entry 0.

    Raises:
        ValueError: unless n >= 1 and 0 < sigma_min < sigma_max.

    Source: Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """
    _check(n, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, n)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ended((high + ramp * (low - high)) ** rho)


def exponential(n: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels evenly spaced in log sigma.

    Returns:
        [n + 1] float32 on CPU, strictly falling, last entry 0.

    Raises:
        ValueError: unless n >= 1 and 0 < sigma_min < sigma_max.
    """
    _check(n, sigma_min, sigma_max)
    return _ended(torch.linspace(math.log(sigma_max), math.log(sigma_min), n).exp())


def polyexponential(n: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> Tensor:
    """Noise levels whose logarithms fall as a power of the way that is left; `exponential` where `rho` is 1.

    Returns:
        [n + 1] float32 on CPU, falling, last entry 0.

    Raises:
        ValueError: unless n >= 1 and 0 < sigma_min < sigma_max.

    Source: no paper; the polyexponential schedule of k-diffusion.
    """
    _check(n, sigma_min, sigma_max)
    ramp = torch.linspace(1, 0, n) ** rho
    low, high = math.log(sigma_min), math.log(sigma_max)
    return _ended((ramp * (high - low) + low).exp())


def variance_preserving(n: int, rise: float = 19.9, first: float = 0.1, last_time: float = 1e-3) -> Tensor:
    """Noise levels of a variance-preserving process at even times from 1 down to `last_time`.

    Args:
        n: Number of steps.
        rise: How much the rate of noise grows over the whole time.
        first: Rate of noise at time 0.
        last_time: Time of the last level before 0.

    Returns:
        [n + 1] float32 on CPU, falling, last entry 0.

    Source: Song et al. 2020, arXiv:2011.13456, eq. 11 and appendix C; in terms of sigma: Karras et al. 2022,
    arXiv:2206.00364, table 1.
    """
    times = torch.linspace(1, last_time, n)
    return _ended((rise * times**2 / 2 + first * times).expm1().sqrt())


def laplace(n: int, sigma_min: float, sigma_max: float, mu: float = 0.0, beta: float = 0.5) -> Tensor:
    """Noise levels whose logarithms are even quantiles of a Laplace distribution: dense around e**mu.

    Args:
        n: Number of levels.
        sigma_min: No level is lower.
        sigma_max: No level is higher.
        mu: Logarithm of the level where they are densest.
        beta: How far they spread.

    Returns:
        [n] float32 on CPU, falling; no 0 is appended.

    Source: Hang and Gu 2024, arXiv:2407.03297, table 1.
    """
    _check(n, sigma_min, sigma_max)
    places = torch.linspace(0, 1, n)
    spread = (1 - 2 * (0.5 - places).abs() + LOG_FLOOR).log()
    return (mu - beta * (0.5 - places).sign() * spread).exp().clamp(sigma_min, sigma_max)


def turbo(schedule: NoiseSchedule, steps: int, denoise: float = 1.0) -> Tensor:
    """The levels that distilled models (SD-Turbo, SDXL-Turbo) were trained for: every tenth of the trained steps.

    Args:
        schedule: The model's noise levels, for timesteps of 0..999.
        steps: At most 10.
        denoise: Share of the way to go, in tenths.

    Returns:
        [at most steps + 1] float32 on CPU, falling, last entry 0.

    Source: Sauer et al. 2023 (ADD), arXiv:2311.17042, section 3.
    """
    start = 10 - int(10 * denoise)
    times = torch.arange(999, 0, -100)[start : start + steps]
    return _ended(schedule.sigma(times.float()))


def log_interpolated(table: Sequence[float], n: int) -> Tensor:
    """A table of levels brought to `n`, evenly over the table, linear in log sigma; both ends stay.

    Returns:
        [n] float64 on CPU.
    """
    levels = torch.tensor(table, dtype=torch.float64).log()
    places = torch.linspace(0, len(table) - 1, n, dtype=torch.float64)
    low = places.floor().long().clamp(max=len(table) - 2)
    return torch.lerp(levels[low], levels[low + 1], places - low).exp()


def align_your_steps(model_type: str, steps: int, denoise: float = 1.0) -> Tensor:
    """Levels that were optimised for a family of models.

    Args:
        model_type: A key of `ALIGN_YOUR_STEPS`.
        steps: Number of steps; the published 10 are interpolated in log sigma.
        denoise: Share of the way to go: the last levels of the schedule, fewer steps.

    Returns:
        [round(steps * denoise) + 1] float32 on CPU, falling, last entry 0; nothing where `denoise` is 0.

    Source: Sabour et al. 2024 (Align Your Steps), arXiv:2404.14507, with the levels on its project page.
    """
    return _of_table(ALIGN_YOUR_STEPS[model_type], steps, denoise)


def gits(coefficient: float, steps: int, denoise: float = 1.0) -> Tensor:
    """Levels that follow the shape which the ways from noise to pictures have in common.

    Args:
        coefficient: A key of `GITS`; higher ones favour low levels.
        steps: Number of steps; other numbers than that of the table are interpolated in log sigma.
        denoise: Share of the way to go: the last levels of the schedule, fewer steps.

    Returns:
        [round(steps * denoise) + 1] float32 on CPU, falling, last entry 0; nothing where `denoise` is 0.

    Raises:
        ValueError: for a coefficient whose levels are not known.

    Source: Chen et al. 2024 (GITS), arXiv:2405.11326, levels for Stable Diffusion 1.
    """
    table = GITS.get(round(coefficient, 2))
    if table is None:
        known = ", ".join(map(str, GITS))
        msg = f"cannot schedule by GITS with coefficient {coefficient}: levels are known for {known} only"
        raise ValueError(msg)
    return _of_table(table, steps, denoise)


def extended(
    levels: Tensor, parts: int, start: float, end: float, spacing: Literal["linear", "cosine", "sine"] = "linear"
) -> Tensor:
    """A schedule with further levels between its own.

    Args:
        levels: [N + 1] the schedule.
        parts: Into how many each step is divided.
        start: Steps that begin above this level stay whole; below 0 for no such limit.
        end: Steps that begin below this level stay whole.
        spacing: Where the further levels lie: even, nearer to the end of a step, nearer to its start.

    Returns:
        [at most parts * N + 1] float32 on CPU.
    """
    places = torch.linspace(0, 1, parts + 1)[1:-1]
    if spacing == "cosine":
        places = (places * (math.pi / 2)).sin()
    elif spacing == "sine":
        places = 1 - (places * (math.pi / 2)).cos()
    pieces: list[Tensor] = []
    for level, below in pairwise(levels):
        pieces.append(level[None])
        if end <= level <= (start if start >= 0 else math.inf):
            pieces.append(level + places * (below - level))
    return torch.cat([*pieces, levels[-1:]])


def kl_optimal(n: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels evenly spaced in arctan sigma, which minimises a bound on the divergence.

    Returns:
        [n + 1] float32 on CPU, strictly falling, last entry 0.

    Raises:
        ValueError: unless n >= 2 and 0 < sigma_min < sigma_max; with one step the formula is 0 / 0.

    Source: Sabour et al. 2024 (Align Your Steps), arXiv:2404.14507: the optimum for Gaussian data.
    Differs: the reference returns NaN for n = 1.
    """
    _check(n, sigma_min, sigma_max, least=2)
    share = torch.arange(n) / (n - 1)
    return _ended((share * math.atan(sigma_min) + (1 - share) * math.atan(sigma_max)).tan())


def linear_quadratic(n: int, sigma_max: float, threshold: float = 0.025) -> Tensor:
    """Half the steps linear down to a share of `threshold`, the rest quadratic to 0.

    Args:
        n: Number of steps.
        sigma_max: The first level.
        threshold: Share of the way that the linear half covers.

    Returns:
        [n + 1] float32 on CPU, strictly falling, last entry 0.

    Source: Polyak et al. 2024 (Movie Gen), arXiv:2410.13720, the linear-quadratic schedule.
    """
    _check(n, 0.0, sigma_max)
    if n == 1:
        return torch.tensor([sigma_max, 0.0])
    linear = n // 2
    quadratic = n - linear
    done = [i * threshold / linear for i in range(linear)]
    rest = linear - threshold * n
    a = rest / (linear * quadratic**2)
    b = threshold / linear - 2 * rest / quadratic**2
    c = a * linear**2
    done += [a * i * i + b * i + c for i in range(linear, n)]
    return torch.tensor([1.0 - share for share in (*done, 1.0)]) * sigma_max


def normal(n: int, schedule: NoiseSchedule) -> Tensor:
    """Levels at timesteps evenly spaced over the trained range, both ends included.

    Returns:
        [n + 1] float32 on CPU, falling, last entry 0.
    """
    first, last = _trained_range(schedule)
    if float(schedule.sigma(torch.tensor(last))) < NEGLIGIBLE_SIGMA:
        return schedule.sigma(torch.linspace(first, last, n + 1))
    return _ended(schedule.sigma(torch.linspace(first, last, n)))


def sgm_uniform(n: int, schedule: NoiseSchedule) -> Tensor:
    """Levels at timesteps evenly spaced over the trained range, the lowest replaced by 0.

    Returns:
        [n + 1] float32 on CPU, falling, last entry 0.
    """
    first, last = _trained_range(schedule)
    return _ended(schedule.sigma(torch.linspace(first, last, n + 1)[:-1]))


def simple(n: int, schedule: NoiseSchedule) -> Tensor:
    """Every (T / n)-th trained level, from the highest.

    Returns:
        [n + 1] float32 on CPU, falling, last entry 0.
    """
    stride = len(schedule.sigmas) / n
    return _ended(schedule.sigmas[[-1 - int(i * stride) for i in range(n)]])


def ddim_uniform(n: int, schedule: NoiseSchedule) -> Tensor:
    """Trained levels 1, 1 + s, 1 + 2 s, ... with a whole stride s, from high to low.

    Returns:
        [about n + 1] float32 on CPU, falling, last entry 0. The stride is rounded down, so that there may be more than
        n steps.

    Source: Song et al. 2020 (DDIM), arXiv:2010.02502, appendix D.2.
    """
    table = schedule.sigmas
    if float(table[1]) < NEGLIGIBLE_SIGMA:
        return table[1 :: max(len(table) // (n + 1), 1)].flip(0)
    return _ended(table[1 :: max(len(table) // n, 1)].flip(0))


def beta(n: int, schedule: NoiseSchedule, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Trained levels at quantiles of a beta distribution: dense at both ends of the range.

    Args:
        n: Number of steps.
        schedule: Whose table is walked.
        alpha: First shape parameter; below 1 crowds the high end.
        beta: Second shape parameter; below 1 crowds the low end.

    Returns:
        [at most n + 1] float32 on CPU, strictly falling, last entry 0; repeated levels are dropped.

    Source: Lee et al. 2024 (Beta Sampling), arXiv:2407.12173.
    """
    from scipy.special import betaincinv

    top = len(schedule.sigmas) - 1
    places = [round(float(betaincinv(alpha, beta, 1 - i / n)) * top) for i in range(n)]
    return _ended(schedule.sigmas[list(dict.fromkeys(places))])


SCHEDULERS: dict[str, Callable[[int, NoiseSchedule], Tensor]] = {
    "simple": simple,
    "sgm_uniform": sgm_uniform,
    "karras": lambda n, s: karras(n, s.sigma_min, s.sigma_max),
    "exponential": lambda n, s: exponential(n, s.sigma_min, s.sigma_max),
    "ddim_uniform": ddim_uniform,
    "beta": beta,
    "normal": normal,
    "linear_quadratic": lambda n, s: linear_quadratic(n, s.sigma_max),
    "kl_optimal": lambda n, s: kl_optimal(n, s.sigma_min, s.sigma_max),
}
"""Scheduler name to (steps, schedule) -> levels."""


def sigmas(schedule: NoiseSchedule, scheduler: str, steps: int, *, sampler_name: str = "euler", denoise: float = 1.0) -> Tensor:
    """The levels that a sampler node visits.

    Args:
        schedule: The model's noise levels.
        scheduler: A name of `names.SCHEDULER_NAMES`.
        steps: Number of steps N.
        sampler_name: The sampler; some drop the second-last level of a longer schedule.
        denoise: Share of the way to go: below 1 a longer schedule is made and its last N + 1 levels are kept; 0 or
            less gives no levels at all.

    Returns:
        [about N + 1] float32 on CPU, falling, last entry 0; or [0].

    Raises:
        ValueError: if there is no such scheduler, or `steps` is less than 1.
    """
    if scheduler not in SCHEDULERS:
        raise ValueError(refusal("scheduler", scheduler, SCHEDULER_NAMES))
    if steps < 1:
        msg = f"cannot schedule {steps} steps: at least 1 is needed"
        raise ValueError(msg)
    if denoise <= 0.0:
        return torch.empty(0)
    total = steps if denoise > FULL_DENOISE else int(steps / denoise)
    if sampler_name in DISCARD_PENULTIMATE:
        levels = SCHEDULERS[scheduler](total + 1, schedule)
        levels = torch.cat([levels[:-2], levels[-1:]])
    else:
        levels = SCHEDULERS[scheduler](total, schedule)
    return levels if denoise > FULL_DENOISE else levels[-(steps + 1) :]


def window(levels: Tensor, start: int, end: int, *, leftover_noise: bool) -> Tensor:
    """The part of a schedule between two steps.

    Args:
        levels: [N + 1] the whole schedule.
        start: First step to take; at or past the last one nothing is left.
        end: Step to stop before; N or more is the end.
        leftover_noise: Whether an early stop leaves its noise in the latent; if not, the last level becomes 0.

    Returns:
        [M + 1] levels, or [0] where no step is left.
    """
    if end < len(levels) - 1:
        levels = levels[: end + 1].clone()
        if not leftover_noise and len(levels):
            levels[-1] = 0.0
    return levels[start:] if start < len(levels) - 1 else torch.empty(0)


def _of_table(table: Sequence[float], steps: int, denoise: float) -> Tensor:
    """The last levels of a table brought to a number of steps, ending with 0."""
    if denoise <= 0.0:
        return torch.empty(0)
    levels = torch.tensor(table, dtype=torch.float64) if steps + 1 == len(table) else log_interpolated(table, steps + 1)
    levels = levels[-(round(steps * min(denoise, 1.0)) + 1) :].float()
    levels[-1] = 0.0
    return levels


def _check(n: int, sigma_min: float, sigma_max: float, least: int = 1) -> None:
    if n < least or not 0.0 <= sigma_min < sigma_max:
        msg = f"cannot schedule {n} steps from {sigma_max} to {sigma_min}: need at least {least} and falling levels"
        raise ValueError(msg)


def _ended(levels: Tensor) -> Tensor:
    return torch.cat([levels, torch.zeros(1)])


def _trained_range(schedule: NoiseSchedule) -> tuple[float, float]:
    """The timesteps of the highest and of the lowest trained level."""
    ends = schedule.timestep(schedule.sigmas[[-1, 0]])
    return float(ends[0]), float(ends[1])
