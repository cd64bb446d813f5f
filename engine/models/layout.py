"""Names of tensors: the original single-file layout in terms of the diffusers and transformers modules.

Files of either layout are read by one path: original names are rewritten here, names that already are in module layout
pass through, and sizes are inferred afterwards from the result. The map is generated from the block structure that the
names themselves show, so it holds for any number of levels, layers and attentions.

Every function takes names without the part's prefix and returns {name in the file: name in the module}. A name that it
does not know keeps itself, and is reported as unexpected by whoever builds the module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}

_VAE_RESNET = {"nin_shortcut": "conv_shortcut"}

_VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
"""Original names, and those that diffusers itself used until 2023."""


_VAE_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], int], str]], ...] = (
    (
        re.compile(r"down\.(\d+)\.block\.(\d+)\.(\w+)\.(\w+)"),
        lambda m, _: f"down_blocks.{m[1]}.resnets.{m[2]}.{_VAE_RESNET.get(m[3], m[3])}.{m[4]}",
    ),
    (
        re.compile(r"up\.(\d+)\.block\.(\d+)\.(\w+)\.(\w+)"),
        lambda m, levels: f"up_blocks.{levels - 1 - int(m[1])}.resnets.{m[2]}.{_VAE_RESNET.get(m[3], m[3])}.{m[4]}",
    ),
    (re.compile(r"down\.(\d+)\.downsample\.conv\.(\w+)"), lambda m, _: f"down_blocks.{m[1]}.downsamplers.0.conv.{m[2]}"),
    (
        re.compile(r"up\.(\d+)\.upsample\.conv\.(\w+)"),
        lambda m, levels: f"up_blocks.{levels - 1 - int(m[1])}.upsamplers.0.conv.{m[2]}",
    ),
    (
        re.compile(r"mid\.block_([12])\.(\w+)\.(\w+)"),
        lambda m, _: f"mid_block.resnets.{int(m[1]) - 1}.{_VAE_RESNET.get(m[2], m[2])}.{m[3]}",
    ),
    (
        re.compile(r"mid(?:\.attn_1|_block\.attentions\.0)\.(\w+)\.(\w+)"),
        lambda m, _: f"mid_block.attentions.0.{_VAE_ATTENTION.get(m[1], m[1])}.{m[2]}",
    ),
    (re.compile(r"norm_out\.(\w+)"), lambda m, _: f"conv_norm_out.{m[1]}"),
)
"""Original names within the encoder or decoder; levels of the decoder count the other way in the module."""


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """Names of a denoising network in the layout of diffusers' `UNet2DConditionModel`."""
    listed = list(names)
    blocks = _unet_blocks(listed)
    return {name: _renamed(name, blocks) for name in listed}


def _unet_blocks(names: list[str]) -> dict[str, str]:
    """Original prefix to module prefix, for every block that the names show."""
    blocks = dict(_UNET_ENDS)
    children = _children(names, r"(input_blocks|middle_block|output_blocks)\.(\d+)(?:\.(\d+))?\.")
    level, layer = 0, 0
    for n in sorted(number for side, number in children if side == "input_blocks" and number > 0):
        old, tails = f"input_blocks.{n}", children["input_blocks", n]
        if "0.op" in tails or "0.conv" in tails:
            blocks[f"{old}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            level, layer = level + 1, 0
            continue
        blocks |= _resnet(f"{old}.0", f"down_blocks.{level}.resnets.{layer}")
        blocks[f"{old}.1"] = f"down_blocks.{level}.attentions.{layer}"
        layer += 1
    level, layer = 0, 0
    for n in sorted(number for side, number in children if side == "output_blocks"):
        old, tails = f"output_blocks.{n}", children["output_blocks", n]
        blocks |= _resnet(f"{old}.0", f"up_blocks.{level}.resnets.{layer}")
        upsampler = next((tail for tail in sorted(tails) if tail.endswith(".conv")), None)
        if "1.conv" not in tails:
            blocks[f"{old}.1"] = f"up_blocks.{level}.attentions.{layer}"
        layer += 1
        if upsampler is not None:
            blocks[f"{old}.{upsampler}"] = f"up_blocks.{level}.upsamplers.0.conv"
            level, layer = level + 1, 0
    blocks |= _resnet("middle_block.0", "mid_block.resnets.0")
    blocks["middle_block.1"] = "mid_block.attentions.0"
    blocks |= _resnet("middle_block.2", "mid_block.resnets.1")
    return blocks


def original_unet_names(names: Iterable[str]) -> dict[str, str]:
    """Names of a network in module layout to the original ones: the inverse of `unet_names`."""
    listed = list(names)
    present = {name.removesuffix(".weight") for name in listed}
    blocks = (
        dict(_UNET_ENDS) | _resnet("middle_block.0", "mid_block.resnets.0") | _resnet("middle_block.2", "mid_block.resnets.1")
    )
    blocks["middle_block.1"] = "mid_block.attentions.0"
    for side, way, n in (("input_blocks", "down_blocks", 1), ("output_blocks", "up_blocks", 0)):
        number, level, layer = n, 0, 0
        while f"{way}.{level}.resnets.{layer}.conv1" in present:
            new = f"{way}.{level}"
            blocks |= _resnet(f"{side}.{number}.0", f"{new}.resnets.{layer}")
            blocks[f"{side}.{number}.1"] = f"{new}.attentions.{layer}"
            number, layer = number + 1, layer + 1
            if f"{new}.resnets.{layer}.conv1" in present:
                continue
            if f"{new}.downsamplers.0.conv" in present:
                blocks[f"{side}.{number}.0.op"] = f"{new}.downsamplers.0.conv"
                number += 1
            if f"{new}.upsamplers.0.conv" in present:
                place = 2 if f"{new}.attentions.0.proj_in" in present else 1
                blocks[f"{side}.{number - 1}.{place}.conv"] = f"{new}.upsamplers.0.conv"
            level, layer = level + 1, 0
    back = {new: old for old, new in blocks.items()}
    return {name: _renamed(name, back) for name in listed}


def _resnet(old: str, new: str) -> dict[str, str]:
    return {f"{old}.{a}": f"{new}.{b}" for a, b in _RESNET.items()}


def _children(names: Iterable[str], pattern: str) -> dict[tuple[str, int], set[str]]:
    """(block kind, number) to the first two parts of each name below it, such as `0.in_layers`."""
    found: dict[tuple[str, int], set[str]] = {}
    for name in names:
        if match := re.match(pattern, name):
            below = name.split(".")[2:4]
            found.setdefault((match[1], int(match[2])), set()).add(".".join(below))
    return found


def _renamed(name: str, blocks: Mapping[str, str]) -> str:
    """`name` with its longest known prefix replaced."""
    cut = len(name)
    while (cut := name.rfind(".", 0, cut)) > 0:
        if (new := blocks.get(name[:cut])) is not None:
            return new + name[cut:]
    return name


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """Names of a VAE in the layout of diffusers' `AutoencoderKL`."""
    listed = list(names)
    levels = 1 + max((int(m[1]) for n in listed if (m := re.match(r"decoder\.up\.(\d+)\.", n))), default=-1)
    return {name: _vae_name(name, levels) for name in listed}


def _vae_name(name: str, levels: int) -> str:
    side, _, rest = name.partition(".")
    if side not in {"encoder", "decoder"}:
        return name
    for pattern, rewrite in _VAE_RULES:
        if match := pattern.fullmatch(rest):
            return f"{side}.{rewrite(match, levels)}"
    return name


def original_vae(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE in module layout, in the original one: the inverse of `vae_names`, attentions as 1x1 convolutions again."""
    levels = 1 + max((int(m[1]) for n in tensors if (m := re.match(r"decoder\.up_blocks\.(\d+)\.", n))), default=-1)
    found = {}
    for name, tensor in tensors.items():
        side, _, rest = name.partition(".")
        for pattern, rewrite in _VAE_BACK if side in {"encoder", "decoder"} else ():
            if match := pattern.fullmatch(rest):
                rest = rewrite(match, levels)
                break
        is_projection = ".attn_1." in rest and rest.endswith(".weight") and tensor.ndim == 2
        found[f"{side}.{rest}"] = tensor[:, :, None, None] if is_projection else tensor
    return found


_VAE_RESNET_BACK = {new: old for old, new in _VAE_RESNET.items()}
_VAE_ATTENTION_BACK = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}

_VAE_BACK: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], int], str]], ...] = (
    (
        re.compile(r"down_blocks\.(\d+)\.resnets\.(\d+)\.(\w+)\.(\w+)"),
        lambda m, _: f"down.{m[1]}.block.{m[2]}.{_VAE_RESNET_BACK.get(m[3], m[3])}.{m[4]}",
    ),
    (
        re.compile(r"up_blocks\.(\d+)\.resnets\.(\d+)\.(\w+)\.(\w+)"),
        lambda m, levels: f"up.{levels - 1 - int(m[1])}.block.{m[2]}.{_VAE_RESNET_BACK.get(m[3], m[3])}.{m[4]}",
    ),
    (re.compile(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(\w+)"), lambda m, _: f"down.{m[1]}.downsample.conv.{m[2]}"),
    (
        re.compile(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(\w+)"),
        lambda m, levels: f"up.{levels - 1 - int(m[1])}.upsample.conv.{m[2]}",
    ),
    (
        re.compile(r"mid_block\.resnets\.([01])\.(\w+)\.(\w+)"),
        lambda m, _: f"mid.block_{int(m[1]) + 1}.{_VAE_RESNET_BACK.get(m[2], m[2])}.{m[3]}",
    ),
    (
        re.compile(r"mid_block\.attentions\.0\.(.+)\.(\w+)"),
        lambda m, _: f"mid.attn_1.{_VAE_ATTENTION_BACK.get(m[1], m[1])}.{m[2]}",
    ),
    (re.compile(r"conv_norm_out\.(\w+)"), lambda m, _: f"norm_out.{m[1]}"),
)
"""Module names within the encoder or decoder to the original ones."""


def text_names(names: Iterable[str]) -> dict[str, str]:
    """Names of a CLIP text encoder without the `text_model.` that most files and older modules put before them."""
    return {name: name.removeprefix("text_model.") for name in names}


_OPEN_CLIP_ENDS = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}

_OPEN_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}

_OPEN_CLIP_PATTERN = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)")

_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def is_open_clip(names: Iterable[str]) -> bool:
    """Whether a text encoder is in the layout of OpenCLIP rather than that of transformers."""
    return any(name.startswith("transformer.resblocks.") for name in names)


def from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A text encoder in the layout of OpenCLIP, in that of transformers.

    OpenCLIP keeps the projections of query, key and value as one matrix, and its text projection the other way around.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name == "text_projection":
            found["text_projection.weight"] = tensor.T.contiguous()
            continue
        match = _OPEN_CLIP_PATTERN.fullmatch(name)
        if match is None:
            found[_OPEN_CLIP_ENDS.get(name, name)] = tensor
            continue
        layer, part, end = f"encoder.layers.{match[1]}", match[2], match[3]
        if part == "attn.in_proj":
            for projection, share in zip(_PROJECTIONS, tensor.chunk(3), strict=True):
                found[f"{layer}.self_attn.{projection}.{end}"] = share
        else:
            found[f"{layer}.{_OPEN_CLIP_BLOCK.get(part, part)}.{end}"] = tensor
    return found


def to_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_open_clip`, from names that begin with `text_model.`."""
    import torch

    ends = {new: old for old, new in _OPEN_CLIP_ENDS.items()}
    parts = {new: old for old, new in _OPEN_CLIP_BLOCK.items()}
    found: dict[str, Tensor] = {}
    for full, tensor in tensors.items():
        name = full.removeprefix("text_model.")
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if name == "text_projection.weight":
            found["text_projection"] = tensor.T.contiguous()
        elif match is None:
            found[ends.get(name, name)] = tensor
        elif match[2] in parts:
            found[f"transformer.resblocks.{match[1]}.{parts[match[2]]}.{match[3]}"] = tensor
        elif match[2] == f"self_attn.{_PROJECTIONS[0]}":
            stem = full.removesuffix(f"{_PROJECTIONS[0]}.{match[3]}")
            joined = torch.cat([tensors[f"{stem}{projection}.{match[3]}"] for projection in _PROJECTIONS])
            found[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"] = joined
    return found


_VISION_ENDS = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}


def vision_from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A vision transformer in the layout of OpenCLIP (names without `visual.`), in that of transformers."""
    found: dict[str, Tensor] = {}
    for name, tensor in from_open_clip(tensors).items():
        if name == "proj":
            found["visual_projection.weight"] = tensor.T.contiguous()
        else:
            found[f"vision_model.{_VISION_ENDS.get(name, name)}"] = tensor
    return found
