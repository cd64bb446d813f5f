"""Nodes that take sampling apart: sampler, noise, guidance and noise levels as values of their own."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from engine.sampling.mix import Cfg, DualCfg, PerpNeg
from engine.sampling.names import SAMPLER_NAMES
from engine.sampling.values import Guider, Noise, Sampler
from engine.schema import Choice, Range, Widget, node
from engine.types import Conditioning, Latent, Model, Run, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

Seed = Annotated[int, Range(0, 2**64 - 1), Widget(control_after_generate=True)]
Scale = Annotated[float, Range(0.0, 100.0, step=0.1, round=0.01)]
NegativeScale = Annotated[float, Range(0.0, 100.0, step=0.01)]


class Sampled(NamedTuple):
    """The latent at the last level, and the last denoised latent."""

    output: Latent
    denoised_output: Latent


@node("KSamplerSelect", title="KSamplerSelect", category="sampling/custom_sampling/samplers")
def select(*, sampler_name: Annotated[str, Choice(SAMPLER_NAMES)]) -> Sampler:
    """Choose how steps are taken.

    Args:
        sampler_name: The sampler.
    """
    return Sampler(sampler_name)


@node("RandomNoise", title="RandomNoise", category="sampling/custom_sampling/noise")
def random_noise(*, noise_seed: Seed = 0) -> Noise:
    """Start from noise.

    Args:
        noise_seed: Of the noise; the same seed gives the same latent.
    """
    return Noise(noise_seed)


@node("DisableNoise", title="DisableNoise", category="sampling/custom_sampling/noise")
def disable_noise() -> Noise:
    """Add no noise at the start: the latent is noisy already."""
    return Noise(0, is_added=False)


@node("BasicGuider", title="BasicGuider", category="sampling/custom_sampling/guiders")
def basic_guider(*, model: Model, conditioning: Conditioning) -> Guider:
    """Follow one conditioning, without a negative one.

    Args:
        model: Predicts what is left when the noise is gone.
        conditioning: What the picture should show.
    """
    return Guider(model, (conditioning,), Cfg(1.0))


@node("CFGGuider", title="CFGGuider", category="sampling/custom_sampling/guiders")
def cfg_guider(*, model: Model, positive: Conditioning, negative: Conditioning, cfg: Scale = 8.0) -> Guider:
    """Follow one conditioning and avoid another.

    Args:
        model: Predicts what is left when the noise is gone.
        positive: What the picture should show.
        negative: What it should not show.
        cfg: How strongly; at 1 the negative one is not evaluated.
    """
    return Guider.cfg(model, positive, negative, cfg)


@node("DualCFGGuider", title="DualCFGGuider", category="sampling/custom_sampling/guiders")
def dual_cfg_guider(
    *,
    model: Model,
    cond1: Conditioning,
    cond2: Conditioning,
    negative: Conditioning,
    cfg_conds: Scale = 8.0,
    cfg_cond2_negative: Scale = 8.0,
    style: Literal["regular", "nested"],
) -> Guider:
    """Follow two conditionings and avoid a third, with a scale for each move.

    Args:
        model: Predicts what is left when the noise is gone.
        cond1: What to move to from `cond2`.
        cond2: What to move to from `negative`.
        negative: What the picture should not show.
        cfg_conds: How far to move from `cond2` to `cond1`.
        cfg_cond2_negative: How far to move from `negative` to `cond2`.
        style: Whether both moves are added, or the second begins where the first has led.
    """
    return Guider(model, (cond1, cond2, negative), DualCfg(cfg_conds, cfg_cond2_negative, style == "nested"))


@node("PerpNegGuider", category="_for_testing", experimental=True)
def perp_neg_guider(
    *,
    model: Model,
    positive: Conditioning,
    negative: Conditioning,
    empty_conditioning: Conditioning,
    cfg: Scale = 8.0,
    neg_scale: NegativeScale = 1.0,
) -> Guider:
    """Avoid only what the negative conditioning does not share with the positive one.

    Args:
        model: Predicts what is left when the noise is gone.
        positive: What the picture should show.
        negative: What it should not show.
        empty_conditioning: An empty prompt.
        cfg: How strongly to guide.
        neg_scale: How strongly to avoid.
    """
    return Guider(model, (positive, negative, empty_conditioning), PerpNeg(cfg, neg_scale))


@node("AddNoise", title="AddNoise", category="_for_testing/custom_sampling/noise")
def add_noise(*, model: Model, noise: Noise, sigmas: Sigmas, latent_image: Latent) -> Latent:
    """Add the noise of a schedule to a latent.

    Args:
        model: What is to sample it: it knows how noise is added.
        noise: The noise.
        sigmas: The schedule: the level that is added is that between its ends.
        latent_image: The latent.
    """
    import torch

    from engine.sampling.space import fitted, from_model_space, to_model_space

    if not len(sigmas):
        return latent_image
    latent_format, schedule = model.latent_format, model.schedule
    samples = fitted(latent_image.samples, latent_format.channels)
    level = (sigmas[0] - sigmas[-1]).abs() if len(sigmas) > 1 else sigmas[0]
    noisy = schedule.noised(_drawn(noise, samples, latent_image), level, to_model_space(samples, latent_format))
    return replace(
        latent_image, samples=torch.nan_to_num(from_model_space(noisy, latent_format), nan=0.0, posinf=0.0, neginf=0.0)
    )


@node("SamplerCustom", title="SamplerCustom", category="sampling/custom_sampling")
def sample_custom(
    *,
    model: Model,
    add_noise: bool = True,
    noise_seed: Seed = 0,
    cfg: Scale = 8.0,
    positive: Conditioning,
    negative: Conditioning,
    sampler: Sampler,
    sigmas: Sigmas,
    latent_image: Latent,
    run: Run,
) -> Sampled:
    """Sample over a schedule of noise levels.

    Args:
        model: Predicts what is left when the noise is gone.
        add_noise: Whether to add noise first; not where `latent_image` is noisy already.
        noise_seed: Of the noise; the same seed gives the same latent.
        cfg: How strongly to follow the prompt; at 1 the negative one is not evaluated.
        positive: What the picture should show.
        negative: What it should not show.
        sampler: How steps are taken.
        sigmas: The noise levels to visit.
        latent_image: What to start from.
        run: Is told how far it is.

    Returns:
        output: The latent at the last level.
        denoised_output: The last denoised latent; the same where the last level is 0.
    """
    return sampled(
        Noise(noise_seed, add_noise), Guider.cfg(model, positive, negative, cfg), sampler, sigmas, latent_image, run=run
    )


@node("SamplerCustomAdvanced", title="SamplerCustomAdvanced", category="sampling/custom_sampling")
def sample_advanced(
    *, noise: Noise, guider: Guider, sampler: Sampler, sigmas: Sigmas, latent_image: Latent, run: Run
) -> Sampled:
    """Sample over a schedule of noise levels, with everything as a value of its own.

    Args:
        noise: What to start from.
        guider: The model and what guides it.
        sampler: How steps are taken.
        sigmas: The noise levels to visit.
        latent_image: What to start from.
        run: Is told how far it is.

    Returns:
        output: The latent at the last level.
        denoised_output: The last denoised latent; the same where the last level is 0.
    """
    return sampled(noise, guider, sampler, sigmas, latent_image, run=run)


def sampled(noise: Noise, guider: Guider, sampler: Sampler, levels: "Tensor", latent: Latent, *, run: Run) -> Sampled:
    """`latent` sampled over `levels`; it keeps its mask and its place in the batch. Without steps it is given back."""
    from engine.sampling.drive import sample
    from engine.sampling.preview import preview
    from engine.sampling.space import fitted, from_model_space

    if len(levels) < 2:
        return Sampled(latent, latent)
    latent_format = guider.model.latent_format
    samples = fitted(latent.samples, latent_format.channels)
    last: list[Tensor] = []

    def on_step(step: int, total: int, denoised: "Tensor") -> None:
        last[:] = [denoised]
        run.progress(step + 1, total, lambda: preview(denoised, latent_format))

    result = sample(
        guider,
        latent=samples,
        noise=_drawn(noise, samples, latent),
        sigmas=levels,
        sampler=sampler,
        seed=noise.seed,
        noise_mask=latent.noise_mask,
        on_step=on_step,
    )
    denoised = from_model_space(last[0], latent_format)
    return Sampled(replace(latent, samples=result), replace(latent, samples=denoised))


def _drawn(noise: Noise, samples: "Tensor", latent: Latent) -> "Tensor":
    """The noise for a latent whose samples are `samples`; zeros where none is added."""
    import torch

    from engine.sampling.noise import initial_noise

    if not noise.is_added:
        return torch.zeros(samples.shape)
    return initial_noise(samples.shape, noise.seed, latent.batch_index)
