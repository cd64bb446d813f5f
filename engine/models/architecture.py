"""Sizes of networks, inferred from the shapes of their tensors (module layout).

Nothing is looked up: a model of any width, depth and number of levels that follows the block structure loads. What the
shapes cannot show is a fact of the family and is passed in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_WIDTH = 64
"""Channels of an attention head, in text transformers and, from Stable Diffusion 2 on, in networks."""

_VECTOR = "add_embedding.linear_1.weight"
_PROJECTION = "text_projection.weight"


@dataclass(frozen=True, slots=True)
class UNetSizes:
    """A denoising network.

    Attributes:
        in_channels: What it sees: latent channels, 9 with mask and masked picture.
        out_channels: What it predicts.
        channels: Width of each level, from full resolution down.
        layers: Residual blocks of each level on the way down; one more on the way up.
        depth: Transformer blocks of each attention of each level; 0 where the level has none.
        mid_depth: Transformer blocks of the middle.
        context_width: D of the cross-attention context.
        time_width: Width of the time embedding.
        linear_projection: Whether attentions are entered through a linear layer rather than a 1x1 convolution.
        vector_width: D of the vector that is read beside the context; 0 where there is none.
    """

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    layers: tuple[int, ...]
    depth: tuple[int, ...]
    mid_depth: int
    context_width: int
    time_width: int
    linear_projection: bool
    vector_width: int = 0

    def config(self, heads: int | None) -> dict[str, Any]:
        """Arguments of diffusers' `UNet2DConditionModel`.

        The argument for the number of heads is called `attention_head_dim` there, for historical reasons.

        Args:
            heads: Attention heads at every level; None for as many as are `HEAD_WIDTH` wide.
        """
        depths = (*self.depth[:-1], self.mid_depth)
        vector = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 1,
            "projection_class_embeddings_input_dim": self.vector_width,
        }
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": self.channels,
            "layers_per_block": self.layers,
            "down_block_types": tuple("CrossAttnDownBlock2D" if d else "DownBlock2D" for d in self.depth),
            "up_block_types": tuple("CrossAttnUpBlock2D" if d else "UpBlock2D" for d in reversed(self.depth)),
            "transformer_layers_per_block": tuple(max(d, 1) for d in depths),
            "cross_attention_dim": self.context_width,
            "time_embedding_dim": self.time_width,
            "attention_head_dim": heads or tuple(max(width // HEAD_WIDTH, 1) for width in self.channels),
            "use_linear_projection": self.linear_projection,
            **(vector if self.vector_width else {}),
        }


@dataclass(frozen=True, slots=True)
class ControlSizes:
    """A control network: the way down of a denoising network, beside it.

    Attributes:
        in_channels: Latent channels.
        hint_channels: C of the picture that it is shown.
        hint_widths: Widths of what embeds that picture, from full resolution down.
        channels: Width of each level, from full resolution down.
        layers: Residual blocks of every level.
        depth: Transformer blocks of each attention of each level; 0 where the level has none.
        mid_depth: Transformer blocks of the middle; 0 where it does not attend.
        context_width: D of the cross-attention context; 0 where nothing attends to one.
        linear_projection: Whether attentions are entered through a linear layer rather than a 1x1 convolution.
        vector_width: D of the vector that is read beside the context; 0 where there is none.
        kinds: How many kinds of picture it tells apart; 0 where it knows one.
        kind_width: D of what stands for a kind.
        kind_layers: Transformer blocks that join it with the picture.
    """

    in_channels: int
    hint_channels: int
    hint_widths: tuple[int, ...]
    channels: tuple[int, ...]
    layers: int
    depth: tuple[int, ...]
    mid_depth: int
    context_width: int
    linear_projection: bool
    vector_width: int = 0
    kinds: int = 0
    kind_width: int = 0
    kind_layers: int = 0

    def config(self, heads: int | None) -> dict[str, Any]:
        """Arguments of diffusers' `ControlNetModel`, or of its `ControlNetUnionModel` where there are kinds.

        Args:
            heads: Attention heads at every level; None for as many as are 64 channels wide.
        """
        vector = {
            "addition_embed_type": "text_time",
            "projection_class_embeddings_input_dim": self.vector_width,
        }
        union = {
            "num_control_type": self.kinds,
            "num_trans_channel": self.kind_width,
            "num_proj_channel": self.channels[0],
            "num_trans_layer": self.kind_layers,
        }
        return {
            "in_channels": self.in_channels,
            "conditioning_channels": self.hint_channels,
            "conditioning_embedding_out_channels": self.hint_widths,
            "block_out_channels": self.channels,
            "layers_per_block": self.layers,
            "down_block_types": tuple("CrossAttnDownBlock2D" if d else "DownBlock2D" for d in self.depth),
            "transformer_layers_per_block": tuple(max(d, 1) for d in (*self.depth[:-1], self.mid_depth)),
            "cross_attention_dim": max(self.context_width, 1),
            "attention_head_dim": heads or tuple(max(width // 64, 1) for width in self.channels),
            "use_linear_projection": self.linear_projection,
            "addition_time_embed_dim": KIND_ANGLES,
            **(vector if self.vector_width else {}),
            **(union if self.kinds else {"mid_block_type": "UNetMidBlock2DCrossAttn" if self.mid_depth else "UNetMidBlock2D"}),
        }


KIND_ANGLES = 256
"""Sines and cosines that a control network of many kinds is told each of them by."""


@dataclass(frozen=True, slots=True)
class VaeSizes:
    """An autoencoder.

    Attributes:
        image_channels: C of pictures.
        latent_channels: C of latents.
        channels: Width of each level, from full resolution down.
        layers: Residual blocks of each level of the encoder; one more in the decoder.
        mid_attention: Whether the middle attends.
        quant_conv: Whether a 1x1 convolution follows the encoder.
        post_quant_conv: Whether one precedes the decoder.
    """

    image_channels: int
    latent_channels: int
    channels: tuple[int, ...]
    layers: int
    mid_attention: bool
    quant_conv: bool
    post_quant_conv: bool

    @property
    def factor(self) -> int:
        """Pixels for each latent cell, along one side."""
        return int(2 ** (len(self.channels) - 1))

    def config(self) -> dict[str, Any]:
        """Arguments of diffusers' `AutoencoderKL`."""
        levels = len(self.channels)
        return {
            "in_channels": self.image_channels,
            "out_channels": self.image_channels,
            "latent_channels": self.latent_channels,
            "block_out_channels": self.channels,
            "layers_per_block": self.layers,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "mid_block_add_attention": self.mid_attention,
            "use_quant_conv": self.quant_conv,
            "use_post_quant_conv": self.post_quant_conv,
        }


@dataclass(frozen=True, slots=True)
class TextSizes:
    """A CLIP text encoder.

    Attributes:
        vocabulary: Rows of the token table.
        positions: T of a chunk.
        width: D of its hidden states.
        layers: Number of transformer layers.
        hidden_width: Width inside each layer's MLP.
        projected_width: D of the projected pooled output; 0 where nothing projects it.
    """

    vocabulary: int
    positions: int
    width: int
    layers: int
    hidden_width: int
    projected_width: int = 0

    def config(self, activation: str) -> dict[str, Any]:
        """Arguments of transformers' `CLIPTextConfig`, with heads of `HEAD_WIDTH` channels."""
        return {
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.hidden_width,
            "num_attention_heads": max(self.width // HEAD_WIDTH, 1),
            "hidden_act": activation,
        }


@dataclass(frozen=True, slots=True)
class VisionSizes:
    """A CLIP vision transformer.

    Attributes:
        width: D of its hidden states.
        layers: Number of transformer layers.
        hidden_width: Width inside each layer's MLP.
        patch: Side of the square that makes a token, in pixels.
        positions: Tokens of a picture, that of the whole included.
        projected_width: D of the whole in the space of texts.
    """

    width: int
    layers: int
    hidden_width: int
    patch: int
    positions: int
    projected_width: int


def vision_sizes(shapes: Mapping[str, tuple[int, ...]]) -> VisionSizes:
    """Sizes of a CLIP vision transformer.

    Args:
        shapes: Name to shape, in the layout of `CLIPVisionModelWithProjection`.

    Raises:
        KeyError: naming the first tensor that is needed and missing.
    """
    embeddings = "vision_model.embeddings"
    return VisionSizes(
        width=_size(shapes, f"{embeddings}.patch_embedding.weight", 0),
        layers=_count(shapes, r"vision_model\.encoder\.layers\.(\d+)\."),
        hidden_width=_size(shapes, "vision_model.encoder.layers.0.mlp.fc1.weight", 0),
        patch=_size(shapes, f"{embeddings}.patch_embedding.weight", 2),
        positions=_size(shapes, f"{embeddings}.position_embedding.weight", 0),
        projected_width=_size(shapes, "visual_projection.weight", 0),
    )


def unet_sizes(shapes: Mapping[str, tuple[int, ...]]) -> UNetSizes:
    """Sizes of a denoising network.

    Args:
        shapes: Name to shape, in the layout of `UNet2DConditionModel`.

    Raises:
        KeyError: naming the first tensor that is needed and missing.
    """
    levels = range(_count(shapes, r"down_blocks\.(\d+)\."))
    if not levels:
        raise KeyError("down_blocks.0.resnets.0.conv1.weight")
    mid = "mid_block.attentions.0"
    return UNetSizes(
        in_channels=_size(shapes, "conv_in.weight", 1),
        out_channels=_size(shapes, "conv_out.weight", 0),
        channels=tuple(_size(shapes, f"down_blocks.{i}.resnets.0.conv1.weight", 0) for i in levels),
        layers=tuple(_count(shapes, rf"down_blocks\.{i}\.resnets\.(\d+)\.") for i in levels),
        depth=tuple(_count(shapes, rf"down_blocks\.{i}\.attentions\.0\.transformer_blocks\.(\d+)\.") for i in levels),
        mid_depth=_count(shapes, r"mid_block\.attentions\.0\.transformer_blocks\.(\d+)\."),
        context_width=_size(shapes, f"{mid}.transformer_blocks.0.attn2.to_k.weight", 1),
        time_width=_size(shapes, "time_embedding.linear_1.weight", 0),
        linear_projection=len(shapes[f"{mid}.proj_in.weight"]) == 2,
        vector_width=_size(shapes, _VECTOR, 1) if _VECTOR in shapes else 0,
    )


def control_sizes(shapes: Mapping[str, tuple[int, ...]]) -> ControlSizes:
    """Sizes of a control network.

    Args:
        shapes: Name to shape, in the layout of `ControlNetModel`.

    Raises:
        KeyError: naming the first tensor that is needed and missing, or a level that is not like the first.
    """
    levels = range(_count(shapes, r"down_blocks\.(\d+)\."))
    if not levels:
        raise KeyError("down_blocks.0.resnets.0.conv1.weight")
    layers = [_count(shapes, rf"down_blocks\.{i}\.resnets\.(\d+)\.") for i in levels]
    if uneven := [i for i in levels if layers[i] != layers[0]]:
        missing = f"down_blocks.{uneven[0]}.resnets.{min(layers[uneven[0]], layers[0])}.conv1.weight"
        raise KeyError(missing)
    hint = "controlnet_cond_embedding"
    embedding = range(1, _count(shapes, rf"{hint}\.blocks\.(\d+)\."), 2)
    context = [shape for name, shape in shapes.items() if name.endswith("attn2.to_k.weight") and len(shape) == 2]
    entry = next((shape for name, shape in shapes.items() if name.endswith(".proj_in.weight")), ())
    return ControlSizes(
        in_channels=_size(shapes, "conv_in.weight", 1),
        hint_channels=_size(shapes, f"{hint}.conv_in.weight", 1),
        hint_widths=(
            _size(shapes, f"{hint}.conv_in.weight", 0),
            *(_size(shapes, f"{hint}.blocks.{i}.weight", 0) for i in embedding),
        ),
        channels=tuple(_size(shapes, f"down_blocks.{i}.resnets.0.conv1.weight", 0) for i in levels),
        layers=layers[0],
        depth=tuple(_count(shapes, rf"down_blocks\.{i}\.attentions\.0\.transformer_blocks\.(\d+)\.") for i in levels),
        mid_depth=_count(shapes, r"mid_block\.attentions\.0\.transformer_blocks\.(\d+)\."),
        context_width=context[0][1] if context else 0,
        linear_projection=len(entry) == 2,
        vector_width=_size(shapes, vector, 1) if (vector := "add_embedding.linear_1.weight") in shapes else 0,
        kinds=_size(shapes, kind, 0) if (kind := "task_embedding") in shapes else 0,
        kind_width=_size(shapes, kind, 1) if kind in shapes else 0,
        kind_layers=_count(shapes, r"transformer_layes\.(\d+)\."),
    )


def vae_sizes(shapes: Mapping[str, tuple[int, ...]]) -> VaeSizes:
    """Sizes of an autoencoder.

    Args:
        shapes: Name to shape, in the layout of `AutoencoderKL`.

    Raises:
        KeyError: naming the first tensor that is needed and missing.
    """
    levels = range(_count(shapes, r"encoder\.down_blocks\.(\d+)\."))
    if not levels:
        raise KeyError("encoder.down_blocks.0.resnets.0.conv1.weight")
    return VaeSizes(
        image_channels=_size(shapes, "encoder.conv_in.weight", 1),
        latent_channels=_size(shapes, "decoder.conv_in.weight", 1),
        channels=tuple(_size(shapes, f"encoder.down_blocks.{i}.resnets.0.conv1.weight", 0) for i in levels),
        layers=_count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        mid_attention="encoder.mid_block.attentions.0.to_q.weight" in shapes,
        quant_conv="quant_conv.weight" in shapes,
        post_quant_conv="post_quant_conv.weight" in shapes,
    )


def text_sizes(shapes: Mapping[str, tuple[int, ...]]) -> TextSizes:
    """Sizes of a CLIP text encoder.

    Args:
        shapes: Name to shape, in the layout of `CLIPTextModel` without `text_model.`.

    Raises:
        KeyError: naming the first tensor that is needed and missing.
    """
    return TextSizes(
        vocabulary=_size(shapes, "embeddings.token_embedding.weight", 0),
        positions=_size(shapes, "embeddings.position_embedding.weight", 0),
        width=_size(shapes, "embeddings.token_embedding.weight", 1),
        layers=_count(shapes, r"encoder\.layers\.(\d+)\."),
        hidden_width=_size(shapes, "encoder.layers.0.mlp.fc1.weight", 0),
        projected_width=_size(shapes, _PROJECTION, 0) if _PROJECTION in shapes else 0,
    )


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    """How many numbers `pattern` finds at the start of names; they must run from 0 without a gap.

    A gap would mean a missing block, or a hostile name that asks for a billion of them.
    """
    matcher = re.compile(pattern)
    found = {int(m[1]): name for name in shapes if (m := matcher.match(name))}
    if len(found) != 1 + max(found, default=-1):
        raise KeyError(found[max(found)])
    return len(found)


def _size(shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int:
    shape = shapes[name]
    if axis >= len(shape) or shape[axis] < 1:
        raise KeyError(name)
    return shape[axis]
