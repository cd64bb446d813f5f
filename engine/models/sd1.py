"""Stable Diffusion 1, with 4 input channels or, for inpainting, 9.

Source: Rombach et al. 2022, arXiv:2112.10752; the v1 configuration of CompVis/stable-diffusion.
"""

from __future__ import annotations

from engine.models.family import CLIP_L, Family, Tower, marked_schedule
from engine.types import LatentFormat

LATENT_FORMAT = LatentFormat(
    channels=4,
    scale=0.18215,
    factor=8,
    # Linear fit of decoded pictures: https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
    rgb=((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)),
)


FAMILY = Family(
    name="sd1",
    towers=(
        Tower(
            name=CLIP_L,
            prefix="cond_stage_model.transformer.",
            activation="quick_gelu",
            pads_with_end=True,
            layer=-1,
            is_normed=True,
            is_projected=False,
        ),
    ),
    latent_format=LATENT_FORMAT,
    schedule=marked_schedule,
    unet_heads=8,
)
