"""Stable Diffusion 2: OpenCLIP's text transformer, and networks that predict noise (base) or velocity (768 pixels).

Source: Rombach et al. 2022, arXiv:2112.10752; the v2 configurations of Stability-AI/stablediffusion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.models import sd1
from engine.models.family import CLIP_H, Family, Tower, marked_schedule
from engine.models.unclip import Described

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from engine.types import NoiseSchedule

_TELLING = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
_SPREAD_OF_VELOCITY = 0.09
"""Trained on velocity, the last layer norm's biases spread further: nothing else in published files tells."""


def schedule(unet: Mapping[str, Tensor], marks: Mapping[str, Any]) -> NoiseSchedule:
    """The noise levels; whether the network predicts velocity shows in its last layer norm. Inpainting ones never do."""
    bias = unet.get(_TELLING)
    if bias is not None and bias.ndim == 1 and unet["conv_in.weight"].shape[1] == sd1.LATENT_FORMAT.channels:
        is_velocity = float(bias.float().std(correction=0)) > _SPREAD_OF_VELOCITY
        marks = {**marks, "v_pred": None} if is_velocity else marks
    return marked_schedule(unet, marks)


FAMILY = Family(
    name="sd2",
    towers=(Tower(name=CLIP_H, prefix="cond_stage_model.model.", is_normed=True, is_projected=None, depth=24),),
    latent_format=sd1.LATENT_FORMAT,
    schedule=schedule,
    vector_of=Described.of,
)
