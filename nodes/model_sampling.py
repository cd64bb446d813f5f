"""Nodes that change over which noise levels a model is sampled, how its output is read, and what it computes in."""

from typing import Annotated, Literal

from engine.schema import Range, node
from engine.types import LatentFormat, Model

Level = Annotated[float, Range(0.0, 1000.0, step=0.001)]

Shift = Annotated[float, Range(0.0, 100.0, step=0.01)]

LCM_STRIDE = 20
"""Latent consistency models are distilled to every 20th timestep."""

EDM_DATA = 0.5
"""Standard deviation of the data in the parametrisation of Karras et al. 2022."""

PLAYGROUND = LatentFormat(
    scale=tuple(0.5 / spread for spread in (8.4927, 5.9022, 6.5498, 5.2299)), shift=(-1.6574, 1.886, -1.383, 2.5155)
)
"""Latents of Playground 2.5: brought to mean 0 and standard deviation 0.5 (Li et al. 2024, arXiv:2402.17245)."""


@node("ModelSamplingDiscrete", title="ModelSamplingDiscrete", category="advanced/model")
def discrete(*, model: Model, sampling: Literal["eps", "v_prediction", "lcm", "x0", "img_to_img"], zsnr: bool = False) -> Model:
    """Say what a model predicts that was trained on the timesteps of Stable Diffusion.

    Args:
        model: The model.
        sampling: What its output is: the noise, the velocity, the noise for few steps (LCM), the clean latent.
        zsnr: Whether it was trained to start from pure noise.
    """
    from engine.sampling.schedule import DiscreteSchedule

    schedule = DiscreteSchedule.scaled_linear("v" if sampling == "v_prediction" else sampling, zero_terminal_snr=zsnr)
    return model.with_schedule(schedule.every(LCM_STRIDE) if sampling == "lcm" else schedule)


@node("ModelSamplingContinuousEDM", title="ModelSamplingContinuousEDM", category="advanced/model")
def continuous_edm(
    *,
    model: Model,
    sampling: Literal["v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow"],
    sigma_max: Level = 120.0,
    sigma_min: Level = 0.002,
) -> Model:
    """Say what a model predicts that was trained on any noise level between two, and is told its logarithm.

    Args:
        model: The model.
        sampling: What its output is: the velocity, that of Karras et al., the same on the latents of Playground 2.5, the
            noise, the flow.
        sigma_max: The highest level.
        sigma_min: The lowest level.
    """
    from engine.sampling.schedule import ContinuousSchedule

    match sampling:
        case "v_prediction":
            schedule = ContinuousSchedule(sigma_min, sigma_max, "v")
        case "edm" | "edm_playground_v2.5":
            schedule = ContinuousSchedule(sigma_min, sigma_max, "edm", EDM_DATA)
        case "eps":
            schedule = ContinuousSchedule(sigma_min, sigma_max, "eps")
        case "cosmos_rflow":
            schedule = ContinuousSchedule(sigma_min, sigma_max, "rflow", time="flow")
    return model.with_schedule(schedule, latent_format=PLAYGROUND if sampling == "edm_playground_v2.5" else None)


@node("ModelSamplingContinuousV", title="ModelSamplingContinuousV", category="advanced/model")
def continuous_v(
    *, model: Model, sampling: Literal["v_prediction"], sigma_max: Level = 500.0, sigma_min: Level = 0.03
) -> Model:
    """Say of a model that it predicts the velocity, and is told the noise level as an angle.

    Args:
        model: The model.
        sampling: What its output is.
        sigma_max: The highest level.
        sigma_min: The lowest level.
    """
    from engine.sampling.schedule import ContinuousSchedule

    del sampling
    return model.with_schedule(ContinuousSchedule(sigma_min, sigma_max, "v", time="angle"))


@node("ModelSamplingSD3", title="ModelSamplingSD3", category="advanced/model")
def flow_sd3(*, model: Model, shift: Shift = 3.0) -> Model:
    """Shift the noise levels of a flow model: more of them are high, as large pictures need it.

    Args:
        model: The model, trained on flows as Stable Diffusion 3 is.
        shift: How far; 1 for not at all.
    """
    from engine.sampling.flow import FlowSchedule

    return model.with_schedule(FlowSchedule(shift, 1000.0))


@node("ModelSamplingAuraFlow", title="ModelSamplingAuraFlow", category="advanced/model")
def flow_aura(*, model: Model, shift: Shift = 1.73) -> Model:
    """Shift the noise levels of a flow model that is told them as 0 to 1.

    Args:
        model: The model, trained on flows as AuraFlow is.
        shift: How far; 1 for not at all.
    """
    from engine.sampling.flow import FlowSchedule

    return model.with_schedule(FlowSchedule(shift, 1.0))


@node("ModelSamplingFlux", title="ModelSamplingFlux", category="advanced/model")
def flow_flux(
    *,
    model: Model,
    max_shift: Shift = 1.15,
    base_shift: Shift = 0.5,
    width: Annotated[int, Range(16, 16384, step=8)] = 1024,
    height: Annotated[int, Range(16, 16384, step=8)] = 1024,
) -> Model:
    """Shift the noise levels of a flow model by the size of the picture.

    Args:
        model: The model, trained on flows as Flux is.
        max_shift: How far for pictures of 1024 x 1024 pixels, in the logarithm of the signal-to-noise ratio.
        base_shift: How far for pictures of 256 x 256 pixels.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
    """
    from engine.sampling.flow import FLUX_LENGTH, FlowSchedule, shift_for_size

    return model.with_schedule(FlowSchedule(shift_for_size(width, height, base_shift, max_shift), 1.0, FLUX_LENGTH))


@node("ModelSamplingStableCascade", title="ModelSamplingStableCascade", category="advanced/model")
def cosine(*, model: Model, shift: Shift = 2.0) -> Model:
    """Shift the cosine noise levels of Stable Cascade.

    Args:
        model: The model, trained on the cosine schedule.
        shift: Factor of the levels; 1 for those of the schedule.
    """
    from engine.sampling.schedule import CosineSchedule

    return model.with_schedule(CosineSchedule(shift))


@node("ModelComputeDtype", title="ModelComputeDtype", category="advanced/debug/model")
def compute_dtype(*, model: Model, dtype: Literal["default", "fp32", "fp16", "bf16"]) -> Model:
    """Choose the number format that a model computes in; its weights are brought to it.

    Args:
        model: The model.
        dtype: The format; `default` leaves the model as it is.
    """
    import torch

    formats = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return model if dtype == "default" else model.with_dtype(formats[dtype])
