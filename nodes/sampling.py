"""Nodes that sample latents."""

from typing import Annotated, Literal

from engine.sampling.names import SAMPLER_NAMES, SCHEDULER_NAMES
from engine.sampling.values import Guider, Noise, Sampler
from engine.schema import Choice, Range, node
from engine.types import Conditioning, Latent, Model, Run
from nodes.custom_sampling import Scale, Seed, sampled

Steps = Annotated[int, Range(1, 10000)]
SamplerName = Annotated[str, Choice(SAMPLER_NAMES)]
SchedulerName = Annotated[str, Choice(SCHEDULER_NAMES)]

SAMPLED = ("model", "positive", "negative", "latent_image")


@node("KSampler", title="KSampler", category="sampling", alike=SAMPLED)
def ksampler(
    *,
    model: Model,
    seed: Seed = 0,
    steps: Steps = 20,
    cfg: Scale = 8.0,
    sampler_name: SamplerName,
    scheduler: SchedulerName,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0,
    run: Run,
) -> Latent:
    """Turn noise into a latent, step by step.

    Args:
        model: Predicts what is left when the noise is gone.
        seed: Of the noise; the same seed gives the same latent.
        steps: Number of steps: more are slower and finer.
        cfg: How strongly to follow the prompt; at 1 the negative one is not evaluated.
        sampler_name: How a step is taken.
        scheduler: How the noise levels are spaced.
        positive: What the picture should show.
        negative: What it should not show.
        latent_image: What to start from; an empty latent for a new picture.
        denoise: How much of `latent_image` to replace: 1 all of it, 0 nothing.
        run: Is told how far it is.
    """
    from engine.sampling.schedulers import sigmas

    levels = sigmas(model.schedule, scheduler, steps, sampler_name=sampler_name, denoise=denoise)
    guider = Guider.cfg(model, positive, negative, cfg)
    return sampled(Noise(seed), guider, Sampler(sampler_name), levels, latent_image, run=run).output


@node("KSamplerAdvanced", title="KSampler (Advanced)", category="sampling", alike=SAMPLED)
def ksampler_advanced(
    *,
    model: Model,
    add_noise: Literal["enable", "disable"],
    noise_seed: Seed = 0,
    steps: Steps = 20,
    cfg: Scale = 8.0,
    sampler_name: SamplerName,
    scheduler: SchedulerName,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    start_at_step: Annotated[int, Range(0, 10000)] = 0,
    end_at_step: Annotated[int, Range(0, 10000)] = 10000,
    return_with_leftover_noise: Literal["disable", "enable"],
    run: Run,
) -> Latent:
    """Take some of the steps from noise to a latent, so that several samplers can share the way.

    Args:
        model: Predicts what is left when the noise is gone.
        add_noise: Whether to add noise first; not where `latent_image` is noisy already.
        noise_seed: Of the noise; the same seed gives the same latent.
        steps: Number of steps of the whole way.
        cfg: How strongly to follow the prompt; at 1 the negative one is not evaluated.
        sampler_name: How a step is taken.
        scheduler: How the noise levels are spaced.
        positive: What the picture should show.
        negative: What it should not show.
        latent_image: What to start from.
        start_at_step: First step to take.
        end_at_step: Step to stop before.
        return_with_leftover_noise: Whether an early stop leaves the noise of its level, for another sampler to go on
            from; if not, the last step goes all the way.
        run: Is told how far it is.
    """
    from engine.sampling.schedulers import sigmas, window

    levels = window(
        sigmas(model.schedule, scheduler, steps, sampler_name=sampler_name),
        start_at_step,
        end_at_step,
        leftover_noise=return_with_leftover_noise == "enable",
    )
    noise, guider = Noise(noise_seed, add_noise == "enable"), Guider.cfg(model, positive, negative, cfg)
    return sampled(noise, guider, Sampler(sampler_name), levels, latent_image, run=run).output
