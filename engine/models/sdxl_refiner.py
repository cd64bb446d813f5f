"""The refiner of SDXL: the larger of its text transformers, and a network that is told how good the picture is.

Source: Podell et al. 2023, arXiv:2307.01952, section 2.5; the configuration of Stability-AI/generative-models.
"""

from __future__ import annotations

from engine.models import sdxl
from engine.models.family import CLIP_G, Family, Tower, marked_schedule
from engine.models.vector import scored

FAMILY = Family(
    name="sdxl-refiner",
    towers=(Tower(name=CLIP_G, prefix="conditioner.embedders.0.model.", folder="text_encoder_2"),),
    latent_format=sdxl.LATENT_FORMAT,
    schedule=marked_schedule,
    vector=scored,
    modelspec="stable-diffusion-xl-v1-refiner",
)
