"""Nodes that make and change schedules of noise levels."""

from typing import Annotated, Literal, NamedTuple

from engine.sampling.names import SCHEDULER_NAMES
from engine.schema import Choice, Range, Widget, node
from engine.types import Model, Sigmas

SMALLEST_FLIPPED = 0.0001
"""What a first level of 0 becomes: nothing can be denoised from 0."""

Steps = Annotated[int, Range(1, 10000)]
Level = Annotated[float, Range(0.0, 5000.0, step=0.01)]
Share = Annotated[float, Range(0.0, 1.0, step=0.01)]
Power = Annotated[float, Range(0.0, 100.0, step=0.01)]
Shape = Annotated[float, Range(0.0, 50.0, step=0.01)]


class Split(NamedTuple):
    """The levels before a step, and those from it on; they share one."""

    high_sigmas: Sigmas
    low_sigmas: Sigmas


class SigmaValue(NamedTuple):
    """One noise level."""

    sigma_value: float


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
    rho: Power = 7.0,
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


@node("PolyexponentialScheduler", title="PolyexponentialScheduler", category="sampling/custom_sampling/schedulers")
def polyexponential_levels(
    *, steps: Steps = 20, sigma_max: Level = 14.614642, sigma_min: Level = 0.0291675, rho: Power = 1.0
) -> Sigmas:
    """Noise levels whose logarithms fall as a power of the way that is left.

    Args:
        steps: Number of steps.
        sigma_max: The first level.
        sigma_min: The last level before 0.
        rho: The power; 1 falls by the same factor at each step.
    """
    from engine.sampling.schedulers import polyexponential

    return Sigmas(polyexponential(steps, sigma_min, sigma_max, rho))


@node("LaplaceScheduler", title="LaplaceScheduler", category="sampling/custom_sampling/schedulers")
def laplace_levels(
    *,
    steps: Steps = 20,
    sigma_max: Level = 14.614642,
    sigma_min: Level = 0.0291675,
    mu: Annotated[float, Range(-10.0, 10.0, step=0.1)] = 0.0,
    beta: Annotated[float, Range(0.0, 10.0, step=0.1)] = 0.5,
) -> Sigmas:
    """Noise levels that lie densely around one of them; as many as there are steps, and no 0 at the end.

    Args:
        steps: Number of levels.
        sigma_max: No level is higher.
        sigma_min: No level is lower.
        mu: Logarithm of the level where they are densest.
        beta: How far they spread.
    """
    from engine.sampling.schedulers import laplace

    return Sigmas(laplace(steps, sigma_min, sigma_max, mu, beta))


@node("VPScheduler", title="VPScheduler", category="sampling/custom_sampling/schedulers")
def variance_preserving_levels(
    *,
    steps: Steps = 20,
    beta_d: Level = 19.9,
    beta_min: Level = 0.1,
    eps_s: Annotated[float, Range(0.0, 1.0, step=0.0001)] = 0.001,
) -> Sigmas:
    """Noise levels of a process that keeps the variance, at even times.

    Args:
        steps: Number of steps.
        beta_d: How much the rate of noise grows over the whole time.
        beta_min: Rate of noise at the start.
        eps_s: Time of the last level before 0.
    """
    from engine.sampling.schedulers import variance_preserving

    return Sigmas(variance_preserving(steps, beta_d, beta_min, eps_s))


@node("BetaSamplingScheduler", title="BetaSamplingScheduler", category="sampling/custom_sampling/schedulers")
def beta_levels(*, model: Model, steps: Steps = 20, alpha: Shape = 0.6, beta: Shape = 0.6) -> Sigmas:
    """Trained noise levels at quantiles of a beta distribution.

    Args:
        model: The model.
        steps: Number of steps.
        alpha: First parameter of the distribution; below 1 crowds the high levels.
        beta: Second parameter; below 1 crowds the low levels.
    """
    from engine.sampling.schedulers import beta as levels

    return Sigmas(levels(steps, model.schedule, alpha, beta))


@node("SDTurboScheduler", title="SDTurboScheduler", category="sampling/custom_sampling/schedulers")
def turbo_levels(
    *,
    model: Model,
    steps: Annotated[int, Range(1, 10)] = 1,
    denoise: Annotated[float, Range(0, 1.0, step=0.01)] = 1.0,
) -> Sigmas:
    """The noise levels that Turbo models were trained for.

    Args:
        model: The model.
        steps: Number of steps.
        denoise: Share of the way to go, in tenths.
    """
    from engine.sampling.schedulers import turbo

    return Sigmas(turbo(model.schedule, steps, denoise))


@node("AlignYourStepsScheduler", category="sampling/custom_sampling/schedulers")
def aligned_levels(
    *, model_type: Literal["SD1", "SDXL", "SVD"], steps: Annotated[int, Range(1, 10000)] = 10, denoise: Share = 1.0
) -> Sigmas:
    """Noise levels that were optimised for a family of models.

    Args:
        model_type: The family.
        steps: Number of steps of the whole way.
        denoise: Share of those steps to take, the last ones.
    """
    from engine.sampling.schedulers import align_your_steps

    return Sigmas(align_your_steps(model_type, steps, denoise))


@node("GITSScheduler", category="sampling/custom_sampling/schedulers")
def gits_levels(
    *,
    coeff: Annotated[float, Range(0.8, 1.5, step=0.05)] = 1.2,
    steps: Annotated[int, Range(2, 1000)] = 10,
    denoise: Share = 1.0,
) -> Sigmas:
    """Noise levels that follow the shape which the ways from noise to pictures have in common.

    Args:
        coeff: Which of the published schedules: higher ones favour low levels. Weft has that of 0.95.
        steps: Number of steps of the whole way.
        denoise: Share of those steps to take, the last ones.

    Differs: of the published levels Weft has those of coefficient 0.95 with 7 steps. Other numbers of steps are
    interpolated from them, other coefficients are an error.
    """
    from engine.sampling.schedulers import gits

    return Sigmas(gits(coeff, steps, denoise))


@node("ExtendIntermediateSigmas", title="ExtendIntermediateSigmas", category="sampling/custom_sampling/sigmas")
def extend(
    *,
    sigmas: Sigmas,
    steps: Annotated[int, Range(1, 100)] = 2,
    start_at_sigma: Annotated[float, Range(-1.0, 20000.0, step=0.01)] = -1.0,
    end_at_sigma: Annotated[float, Range(0.0, 20000.0, step=0.01)] = 12.0,
    spacing: Literal["linear", "cosine", "sine"],
) -> Sigmas:
    """Divide the steps of a schedule.

    Args:
        sigmas: The schedule.
        steps: Into how many steps each is divided.
        start_at_sigma: Steps that begin above this level stay whole; -1 for no such limit.
        end_at_sigma: Steps that begin below this level stay whole.
        spacing: Where the further levels lie: even, nearer to the end of a step, nearer to its start.
    """
    from engine.sampling.schedulers import extended

    return Sigmas(extended(sigmas, steps, start_at_sigma, end_at_sigma, spacing))


@node("SamplingPercentToSigma", title="SamplingPercentToSigma", category="sampling/custom_sampling/sigmas")
def percent_to_sigma(
    *,
    model: Model,
    sampling_percent: Annotated[float, Range(0.0, 1.0, step=0.0001)] = 0.0,
    return_actual_sigma: bool = False,
) -> SigmaValue:
    """The noise level when a share of the way is done.

    Args:
        model: The model.
        sampling_percent: The share.
        return_actual_sigma: Whether the ends are the highest and the lowest trained level; if not, they lie beyond
            all levels, so that a range that begins or ends there has no limit.
    """
    schedule = model.schedule
    if return_actual_sigma and sampling_percent in {0.0, 1.0}:
        return SigmaValue(schedule.sigma_max if sampling_percent == 0.0 else schedule.sigma_min)
    return SigmaValue(schedule.percent_to_sigma(sampling_percent))


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


@node("ManualSigmas", title="ManualSigmas", category="sampling/custom_sampling/schedulers", experimental=True)
def manual(*, sigmas: Annotated[str, Widget(multiline=False)] = "1, 0.5") -> Sigmas:
    """Noise levels as they are written.

    Args:
        sigmas: Numbers, with anything but numbers between them.
    """
    import re

    import torch

    numbers = [float(number) for number in re.findall(r"[-+]?(?:\d*\.\d+|\d+\.?)(?:[eE][-+]?\d+)?", sigmas)]
    return Sigmas(torch.tensor(numbers, dtype=torch.float32))
