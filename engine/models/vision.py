"""CLIP's vision transformer as a value: pictures to what describes them.

Source: Radford et al. 2021, arXiv:2103.00020, section 2.4 and appendix; Dosovitskiy et al. 2020, arXiv:2010.11929.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import devices
from engine.errors import ModelFileError, OutOfMemory, WeftError
from engine.models import architecture, files, layout, weights
from engine.types import ClipVisionOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor
    from torch.nn import Module

    from engine.models.weights import Weights
    from engine.types import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the colours of the pictures that CLIP was trained on."""

HEADS = 16
"""Attention heads of every published size, whatever their width."""

OPENAI_LAYERS = 24
"""OpenAI's transformers have at most so many layers; OpenCLIP's deeper ones have another activation."""

CHECKPOINT_PREFIX = "embedder.model."
"""Of the vision transformer within an unCLIP checkpoint."""


@dataclass(frozen=True, eq=False)
class ClipVision:
    """A vision transformer. Immutable.

    Attributes:
        weights: The tensors.
        side_px: Of the square pictures that it reads.
    """

    weights: Weights
    side_px: int

    @property
    def network(self) -> Any:
        """The module; made at first use and kept as long as the weights."""
        devices.prepare()
        return self.weights.network

    def encode(self, image: Image, *, is_cropped: bool = True) -> ClipVisionOutput:
        """Describe pictures.

        Args:
            image: [B, H, W, C >= 3] in 0..1.
            is_cropped: Whether to read the square in the middle; the whole picture is squeezed into one otherwise.

        Returns:
            float32 on the CPU.

        Raises:
            WeftError: if the picture has too few channels.
            OutOfMemory: if the device has no room for the pass.
        """
        pixels = prepared(image, self.side_px, is_cropped=is_cropped)
        try:
            return self._forward(pixels.to(self.weights.device, self.weights.dtype))
        except (RuntimeError, MemoryError) as cause:
            if not devices.is_out_of_memory(cause):
                raise
            msg = f"cannot describe {len(image)} pictures on {self.weights.device}: no memory left"
            raise OutOfMemory(msg, free_bytes=devices.free_bytes(self.weights.device)) from cause

    def _forward(self, pixels: Tensor) -> ClipVisionOutput:
        import torch

        network = self.network
        vision = network.vision_model
        patches = vision.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        whole = vision.embeddings.class_embedding.to(patches).expand(patches.shape[0], 1, -1)
        state = torch.cat((whole, patches), dim=1) + vision.embeddings.position_embedding.weight
        state = before = vision.pre_layrnorm(state)
        for layer in vision.encoder.layers:
            before, state = state, layer(state, attention_mask=None)
        embeds = network.visual_projection(vision.post_layernorm(state[:, 0]))
        return ClipVisionOutput(state.float().cpu(), before.float().cpu(), embeds.float().cpu())


def prepared(image: Image, side_px: int, *, is_cropped: bool) -> Tensor:
    """Pictures as the transformer reads them: [B, 3, side, side] float32, 8-bit steps, normalised colours.

    Raises:
        WeftError: if the picture has too few channels.
    """
    import torch

    if image.ndim != 4 or image.shape[3] < 3:
        msg = f"cannot describe a picture of shape {list(image.shape)}: expected [B, H, W, C] with C at least 3"
        raise WeftError(msg)
    pixels = image[..., :3].movedim(3, 1).float()
    height, width = pixels.shape[2:]
    if (height, width) != (side_px, side_px):
        size = (side_px, side_px)
        if is_cropped:
            scale = side_px / min(height, width)
            size = (round(scale * height), round(scale * width))
        pixels = torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True)
        top, left = (size[0] - side_px) // 2, (size[1] - side_px) // 2
        pixels = pixels[:, :, top : top + side_px, left : left + side_px]
    steps = (pixels * 255).clamp(0, 255).round() / 255
    return (steps - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(DEVIATION).reshape(3, 1, 1)


def of_tensors(tensors: Mapping[str, Tensor], *, file: str, device: torch.device, dtype: torch.dtype) -> ClipVision:
    """The vision transformer of `tensors`, in the layout of transformers or OpenCLIP; others among them are left out.

    Raises:
        ModelFileError: if they do not make one.
    """
    given = {name.removeprefix(CHECKPOINT_PREFIX): tensor for name, tensor in tensors.items()}
    if any(name.startswith("visual.transformer.resblocks.") for name in given):
        inner = {name.removeprefix("visual."): tensor for name, tensor in given.items() if name.startswith("visual.")}
        own = layout.vision_from_open_clip(inner)
    else:
        own = {name: tensor for name, tensor in given.items() if name.startswith(("vision_model.", "visual_projection."))}
    own.pop("vision_model.embeddings.position_ids", None)
    try:
        sizes = architecture.vision_sizes(files.shapes(own))
    except KeyError as cause:
        msg = f"cannot load the vision transformer: {cause.args[0]} is missing, or it has no usable shape"
        raise ModelFileError(msg, file=file, key=cause.args[0]) from cause
    side = math.isqrt(max(sizes.positions - 1, 0)) * sizes.patch
    build = functools.partial(_vision, sizes, side)
    filled = weights.fill(build, own, file=file, part="vision transformer", device=device, dtype=dtype)
    return ClipVision(filled, side)


def _vision(sizes: architecture.VisionSizes, side: int) -> Module:
    devices.prepare()
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=sizes.width,
        intermediate_size=sizes.hidden_width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=HEADS,
        image_size=side,
        patch_size=sizes.patch,
        projection_dim=sizes.projected_width,
        hidden_act="quick_gelu" if sizes.layers <= OPENAI_LAYERS else "gelu",
    )
    return weights.meta_module(CLIPVisionModelWithProjection, config)
