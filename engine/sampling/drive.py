"""Driving a sampler: from noise, levels and conditioning to a latent, one pass of the network at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from engine.sampling.build import Start, build
from engine.sampling.guidance import Guidance, Passes
from engine.sampling.inpaint import NoiseMask, edited, joined
from engine.sampling.noise import SEED_MODULUS, initial_noise, lots, starting_latent
from engine.sampling.region import regions, with_shared_controls
from engine.sampling.schedule import ContinuousSchedule
from engine.sampling.space import fitted, from_model_space, to_model_space

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.sampling.region import Region
    from engine.sampling.values import Guider, Sampler
    from engine.types import Cond, Conditioning

    OnStep: TypeAlias = Callable[[int, int, Tensor], None]

FRESH_BACKGROUND = frozenset({"ddim"})
"""Samplers that noise what a mask protects with noise of its own."""


def sample(
    guider: Guider,
    *,
    latent: Tensor,
    noise: Tensor,
    sigmas: Tensor,
    sampler: Sampler,
    seed: int,
    noise_mask: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Sample a latent.

    Args:
        guider: The model, and what guides it.
        latent: [B, C, h, w] float32 in the VAE's scale: what sampling starts from.
        noise: [B, C, h, w] of unit variance, or zeros where `latent` is noisy already.
        sigmas: [N + 1] falling levels; with fewer than two nothing is done.
        sampler: How steps are taken.
        seed: Of the noise that the sampler adds on its way.
        noise_mask: [B, 1, H, W] or [B, H, W] in 0..1, any size: where the latent may change.
        on_step: Called once per step with its index, the number of steps and the denoised latent [B, C, h, w] in model
            space; it may raise to stop.

    Returns:
        [B, C, h, w] float32 in the VAE's scale, on the model's device.

    Raises:
        ValueError: if there is no such sampler, the latent's channels are not the model's, or the latent is to grow on
            its way and masks or areas do not.
    """
    with torch.inference_mode():
        passes = sampling(
            guider,
            latent=latent,
            noise=noise,
            sigmas=sigmas,
            sampler=sampler,
            seed=seed,
            noise_mask=noise_mask,
            on_step=on_step,
        )
        try:
            request = next(passes)
            while True:
                answer = guider.model.denoised(
                    request.x,
                    request.sigma,
                    request.context,
                    extra=request.extra,
                    controls=request.controls,
                    hooks=request.hooks,
                )
                request = passes.send(answer)
        except StopIteration as end:
            result: Tensor = end.value
            return result


def sampling(
    guider: Guider,
    *,
    latent: Tensor,
    noise: Tensor,
    sigmas: Tensor,
    sampler: Sampler,
    seed: int,
    noise_mask: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Passes:
    """The whole of `sample` but the network: yields what to pass through it, is sent the answers.

    Whoever drives it may join the requests of several samplings into one pass. To be driven in inference mode.

    Args:
        guider: Its model gives schedule, device and latent format; the network is not called.
        latent: As for `sample`; so are all that follow.
        noise: See there.
        sigmas: See there.
        sampler: See there.
        seed: See there.
        noise_mask: See there.
        on_step: See there.

    Returns:
        The sampled latent.
    """
    model = guider.model
    schedule, latent_format = model.schedule, model.latent_format
    levels: tuple[float, ...] = tuple(sigmas.tolist())
    latent = fitted(latent, latent_format.channels).to(model.device, torch.float32)
    if len(levels) < 2:
        return latent
    if 0.0 in levels[:-1]:
        msg = f"cannot sample: step {levels.index(0.0)} starts at noise level 0, from where nothing can be denoised"
        raise ValueError(msg)
    clean = to_model_space(latent, latent_format)
    noise = noise.to(model.device)
    x = starting_latent(schedule, noise, levels[0], clean)
    mask: NoiseMask | None = None
    if noise_mask is not None:
        if sampler.name in FRESH_BACKGROUND:
            noise = initial_noise(noise.shape, (seed + 1) % SEED_MODULUS).to(model.device)
        mask = NoiseMask.of(noise_mask, clean, noise, schedule)
    height, width = clean.shape[-2:]

    def completed(entry: Cond, *, is_negative: bool) -> Cond:
        """An entry with all that the network reads beside its tokens."""
        if model.in_channels == 2 * latent_format.channels:
            shown = edited(entry.options, clean, latent_format, is_scaled=isinstance(schedule, ContinuousSchedule))
            entry = entry.with_extra(concat=shown)
        elif model.in_channels > latent_format.channels:
            place = None if mask is None else mask.open
            entry = entry.with_extra(concat=joined(entry.options, clean, place, latent_format))
        return model.prepared(entry, height=height, width=width, is_negative=is_negative, seed=seed)

    def placed(conditionings: Sequence[Conditioning], *, first_is_positive: bool) -> tuple[tuple[Region, ...], ...]:
        sides = [
            [completed(entry, is_negative=place > 0 or not first_is_positive) for entry in conditioning.entries]
            for place, conditioning in enumerate(conditionings)
        ]
        if first_is_positive:
            sides[1:] = [with_shared_controls(sides[0], side) for side in sides[1:]]
        return regions(sides, clean.shape, schedule, model.device)

    guidance = Guidance(
        placed(guider.conditionings, first_is_positive=True),
        guider.mix,
        model.rules,
        lambda other: placed((other,), first_is_positive=False)[0],
        lots(clean.shape, seed),
    )

    steps = build(sampler, Start(x, levels, seed, schedule))
    total, reported = len(levels) - 1, -1
    try:
        request = next(steps)
        while True:
            if request.x.shape != clean.shape and (mask is not None or guidance.is_bound):
                msg = (
                    f"cannot enlarge a latent of {height} x {width} cells while it is sampled: its noise mask, or areas,"
                    " masks and pictures of its conditioning, have its first size"
                )
                raise ValueError(msg)
            kept = None if mask is None else mask.at(request.sigma, levels, model.rules.mask)
            x = request.x if kept is None else kept.before(request.x, request.sigma)
            answer = yield from guidance.denoised(x, request.sigma, with_negative=request.with_negative)
            denoised, *negative = answer if request.with_negative else (answer,)
            if kept is not None:
                denoised = kept.after(denoised)
            if on_step is not None and request.step > reported:
                reported = request.step
                on_step(reported, total, denoised)
            request = steps.send(torch.stack((denoised, *negative)) if negative else denoised)
    except StopIteration as end:
        return from_model_space(schedule.settled(end.value, levels[-1]), latent_format)
