"""What the shapes of a family's tensors cannot show; one instance for each family, in a module of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from engine.models.vector import Vector
    from engine.types import LatentFormat, NoiseSchedule

CLIP_L, CLIP_G, CLIP_H = "clip_l", "clip_g", "clip_h"
"""What embedding files call the text encoders of OpenAI, and OpenCLIP's bigG and H."""


def marked_schedule(_unet: Mapping[str, Tensor], marks: Mapping[str, Any]) -> NoiseSchedule:
    """The noise levels of Stable Diffusion: `v_pred` marks networks that predict velocity, `ztsnr` a start at pure noise."""
    from engine.sampling.schedule import DiscreteSchedule

    if "v_pred" not in marks:
        return DiscreteSchedule.scaled_linear()
    return DiscreteSchedule.scaled_linear("v", zero_terminal_snr="ztsnr" in marks)


@dataclass(frozen=True, slots=True)
class Tower:
    """One CLIP text transformer of a family.

    Attributes:
        name: What embedding files call it.
        prefix: What precedes its names in a single-file checkpoint.
        folder: Its part of a diffusers folder.
        activation: Of its MLPs, as transformers names it.
        pads_with_end: Whether the end token fills chunks up; token 0 does otherwise.
        layer: The hidden layer that is used unless something else is asked for, counted from the end: -1 is the last.
        is_normed: Whether the final layer norm follows an earlier layer too.
        is_projected: Whether its pooled output passes through `text_projection`; None if that shows in the file.
        depth: Number of layers, where files may leave the last one out because nothing uses it; 0 where none does.
        absent_layers: How many layers at the end this one's file does leave out.
    """

    name: str
    prefix: str
    folder: str = "text_encoder"
    activation: str = "gelu"
    pads_with_end: bool = False
    layer: int = -2
    is_normed: bool = False
    is_projected: bool | None = True
    depth: int = 0
    absent_layers: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture family.

    Attributes:
        name: A key of `detect.TITLES`.
        towers: Its text transformers, in the order that their hidden states are joined.
        latent_format: Scale of its latent space.
        schedule: The network's tensors in module layout, and marks of its file, to the noise levels that it was
            trained on. Marks are the file's tensors by name, such as `v_pred` and `ztsnr`.
        unet_heads: Attention heads at every level of the network; None for as many as are 64 channels wide.
        vector: Makes the vector that the network reads beside its tokens; None where it reads none.
        vector_of: Marks of the file and width of the vector to what makes it, where that depends on the file.
        modelspec: What the metadata of saved files call it; empty where they say nothing.
    """

    name: str
    towers: tuple[Tower, ...]
    latent_format: LatentFormat
    schedule: Callable[[Mapping[str, Tensor], Mapping[str, Any]], NoiseSchedule]
    unet_heads: int | None = None
    vector: Vector | None = None
    vector_of: Callable[[Mapping[str, Any], int], Vector] | None = None
    modelspec: str = ""
