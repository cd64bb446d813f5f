"""Nodes that take sampling apart: sampler, noise, guidance and noise levels as values of their own."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

from engine.sampling.mix import Cfg
from engine.sampling.names import SAMPLER_NAMES
from engine.sampling.values import Guider, Noise, Sampler
from engine.schema import Choice, Range, Widget, node
from engine.types import Conditioning, Latent, Model, Run, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

Seed = Annotated[int, Range(0, 2**64 - 1), Widget(control_after_generate=True)]
Scale = Annotated[float, Range(0.0, 100.0, step=0.1, round=0.01)]


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
    import torch

    from engine.sampling.drive import sample
    from engine.sampling.noise import initial_noise
    from engine.sampling.preview import preview
    from engine.sampling.space import fitted, from_model_space

    if len(levels) < 2:
        return Sampled(latent, latent)
    latent_format = guider.model.latent_format
    samples = fitted(latent.samples, latent_format.channels)
    start = initial_noise(samples.shape, noise.seed, latent.batch_index) if noise.is_added else torch.zeros(samples.shape)
    last: list[Tensor] = []

    def on_step(step: int, total: int, denoised: "Tensor") -> None:
        last[:] = [denoised]
        run.progress(step + 1, total, lambda: preview(denoised, latent_format))

    result = sample(
        guider,
        latent=samples,
        noise=start,
        sigmas=levels,
        sampler=sampler,
        seed=noise.seed,
        noise_mask=latent.noise_mask,
        on_step=on_step,
    )
    denoised = from_model_space(last[0], latent_format)
    return Sampled(replace(latent, samples=result), replace(latent, samples=denoised))
