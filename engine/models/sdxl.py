"""SDXL: two text transformers, and a network that is told the size of the picture.

Source: Podell et al. 2023, arXiv:2307.01952; the configurations of Stability-AI/generative-models.
"""

from __future__ import annotations

from engine.models.family import CLIP_G, CLIP_L, Family, Tower, marked_schedule
from engine.models.vector import sized
from engine.types import LatentFormat

LATENT_FORMAT = LatentFormat(
    channels=4,
    scale=0.13025,
    factor=8,
    # Linear fit of decoded pictures: https://huggingface.co/blog/TimothyAlexisVass/explaining-the-sdxl-latent-space
    rgb=((0.471, 0.471, 0.471), (-0.471, -0.039, 0.078), (0.196, 0.118, -0.039), (-0.549, -0.392, -0.275)),
)


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
    schedule=marked_schedule,
    vector=sized,
    modelspec="stable-diffusion-xl-v1-base",
)
