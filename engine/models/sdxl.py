"""SDXL: two text transformers, and a network that is told the size of the picture.

Source: Podell et al. 2023, arXiv:2307.01952; the configurations of Stability-AI/generative-models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import UnsupportedModel
from engine.models.family import CLIP_G, CLIP_L, Family, Tower, marked_schedule
from engine.models.vector import sized
from engine.types import LatentFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from engine.types import NoiseSchedule

LATENT_FORMAT = LatentFormat(
    channels=4,
    scale=0.13025,
    factor=8,
    # Linear fit of decoded pictures: https://huggingface.co/blog/TimothyAlexisVass/explaining-the-sdxl-latent-space
    rgb=((0.471, 0.471, 0.471), (-0.471, -0.039, 0.078), (0.196, 0.118, -0.039), (-0.549, -0.392, -0.275)),
)


EDM_LOWEST = 0.002


def schedule(unet: Mapping[str, Tensor], marks: Mapping[str, Any]) -> NoiseSchedule:
    """The noise levels; `edm_vpred.sigma_max` marks networks that were trained on any level and predict velocity (CosXL).

    Raises:
        UnsupportedModel: for Playground 2.5, whose latents have statistics of their own.
    """
    from engine.sampling.schedule import ContinuousSchedule

    if "edm_vpred.sigma_max" in marks:
        lowest = float(marks["edm_vpred.sigma_min"]) if "edm_vpred.sigma_min" in marks else EDM_LOWEST
        return ContinuousSchedule(lowest, float(marks["edm_vpred.sigma_max"]), "v")
    if "edm_mean" in marks:
        msg = "cannot load it: it is a model like Playground 2.5, whose latents are normalised; they are not supported yet"
        raise UnsupportedModel(msg)
    return marked_schedule(unet, marks)


FAMILY = Family(
    name="sdxl",
    towers=(
        Tower(
            name=CLIP_L,
            prefix="conditioner.embedders.0.transformer.",
            activation="quick_gelu",
            pads_with_end=True,
            is_projected=False,
        ),
        Tower(name=CLIP_G, prefix="conditioner.embedders.1.model.", folder="text_encoder_2"),
    ),
    latent_format=LATENT_FORMAT,
    schedule=schedule,
    vector=sized,
    modelspec="stable-diffusion-xl-v1-base",
)
