"""Nodes that make and change schedules of noise levels."""

from typing import Annotated, NamedTuple

from engine.sampling.names import SCHEDULER_NAMES
from engine.schema import Choice, Range, node
from engine.types import Model, Sigmas

SMALLEST_FLIPPED = 0.0001
"""What a first level of 0 becomes: nothing can be denoised from 0."""

Steps = Annotated[int, Range(1, 10000)]
Level = Annotated[float, Range(0.0, 5000.0, step=0.01)]
Share = Annotated[float, Range(0.0, 1.0, step=0.01)]


class Split(NamedTuple):
    """The levels before a step, and those from it on; they share one."""

    high_sigmas: Sigmas
    low_sigmas: Sigmas


@node("BasicScheduler", title="BasicScheduler", category="sampling/custom_sampling/schedulers")
def basic(
    *, model: Model, scheduler: Annotated[str, Choice(SCHEDULER_NAMES)], steps: Steps = 20, denoise: Share = 1.0
) -> Sigmas:
    """The noise levels that a sampler visits, for the levels that a model was trained on.

    Args:
        model: The model.
        scheduler: How the levels are spaced.
        steps: Number of steps.
        denoise: Share of the way to go: below 1 the last levels of a longer schedule.
    """
    from engine.sampling.schedulers import sigmas

    return Sigmas(sigmas(model.schedule, scheduler, steps, denoise=denoise)[-(steps + 1) :])


@node("KarrasScheduler", title="KarrasScheduler", category="sampling/custom_sampling/schedulers")
def karras_levels(
    *,
    steps: Steps = 20,
    sigma_max: Level = 14.614642,
    sigma_min: Level = 0.0291675,
    rho: Annotated[float, Range(0.0, 100.0, step=0.01)] = 7.0,
) -> Sigmas:
    """Noise levels that lie densely where they are low.

    Args:
        steps: Number of steps.
        sigma_max: The first level.
        sigma_min: The last level before 0.
        rho: How densely.
    """
    from engine.sampling.schedulers import karras

    return Sigmas(karras(steps, sigma_min, sigma_max, rho))


@node("ExponentialScheduler", title="ExponentialScheduler", category="sampling/custom_sampling/schedulers")
def exponential_levels(*, steps: Steps = 20, sigma_max: Level = 14.614642, sigma_min: Level = 0.0291675) -> Sigmas:
    """Noise levels that fall by the same factor at each step.

    Args:
        steps: Number of steps.
        sigma_max: The first level.
        sigma_min: The last level before 0.
    """
    from engine.sampling.schedulers import exponential

    return Sigmas(exponential(steps, sigma_min, sigma_max))


@node("SplitSigmas", title="SplitSigmas", category="sampling/custom_sampling/sigmas")
def split(*, sigmas: Sigmas, step: Annotated[int, Range(0, 10000)] = 0) -> Split:
    """Divide a schedule, so that two samplers share the way.

    Args:
        sigmas: The schedule.
        step: Number of steps of the first part.
    """
    return Split(Sigmas(sigmas[: step + 1]), Sigmas(sigmas[step:]))


@node("SplitSigmasDenoise", title="SplitSigmasDenoise", category="sampling/custom_sampling/sigmas")
def split_denoise(*, sigmas: Sigmas, denoise: Share = 1.0) -> Split:
    """Divide a schedule by the share of its steps that the second part takes.

    Args:
        sigmas: The schedule.
        denoise: Share of the steps in the second part.
    """
    steps = len(sigmas) - 1
    cut = steps - round(steps * denoise)
    return Split(Sigmas(sigmas[: cut + 1]), Sigmas(sigmas[cut:]))


@node("FlipSigmas", title="FlipSigmas", category="sampling/custom_sampling/sigmas")
def flip(*, sigmas: Sigmas) -> Sigmas:
    """Turn a schedule around, to go from a picture to noise.

    Args:
        sigmas: The schedule.
    """
    turned = sigmas.flip(0)
    if len(turned) and float(turned[0]) == 0.0:
        turned[0] = SMALLEST_FLIPPED
    return Sigmas(turned)


@node("SetFirstSigma", title="SetFirstSigma", category="sampling/custom_sampling/sigmas")
def set_first(*, sigmas: Sigmas, sigma: Annotated[float, Range(0.0, 20000.0, step=0.001)] = 136.0) -> Sigmas:
    """Replace the first level of a schedule.

    Args:
        sigmas: The schedule.
        sigma: The new first level.
    """
    changed = sigmas.clone()
    changed[:1] = sigma
    return Sigmas(changed)
