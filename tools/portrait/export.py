"""Write the trained parts as one file in Stable Diffusion 1's layout, and read them back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools.portrait import diffusion, text, vae

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
LIMIT_BYTES = 32_000_000

_RESNET = (
    ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection"),
)  # fmt: skip


def unet_key(name: str, layers: int = 2) -> str:
    """The SD1 name of a diffusers UNet parameter."""
    fixed = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
             "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip
    for theirs, ours in fixed.items():
        if name.startswith(theirs + "."):
            return ours + name[len(theirs) :]
    if found := re.match(r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.(.*)", name):
        block, part, index, rest = int(found[1]), found[2], int(found[3]), found[4]
        first = 1 + block * (layers + 1)
        if part == "downsamplers":
            return f"input_blocks.{first + layers}.0.op{rest.removeprefix('conv')}"
        place = f"input_blocks.{first + index}.{0 if part == 'resnets' else 1}."
    elif found := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name):
        part, rest = found[1], found[3]
        place = f"middle_block.{2 * int(found[2]) if part == 'resnets' else 1}."
    elif found := re.match(r"up_blocks\.(\d+)\.(resnets|attentions|upsamplers)\.(\d+)\.(.*)", name):
        block, part, index, rest = int(found[1]), found[2], int(found[3]), found[4]
        first = block * (layers + 1)
        if part == "upsamplers":
            # Follows the attention where the level has one; `plain` renumbers it where it does not.
            return f"output_blocks.{first + layers}.2.{rest}"
        place = f"output_blocks.{first + index}.{0 if part == 'resnets' else 1}."
    else:
        msg = f"no SD1 name for the UNet parameter {name!r}"
        raise KeyError(msg)
    if part == "resnets":
        for theirs, ours in _RESNET:
            if rest.startswith(theirs + "."):
                rest = ours + rest[len(theirs) :]
                break
    return place + rest


def unet_keys(names: Sequence[str]) -> dict[str, str]:
    """SD1 name for each diffusers UNet name."""
    keys = {name: unet_key(name) for name in names}
    attended = {int(found[1]) for name in names if (found := re.match(r"up_blocks\.(\d+)\.attentions\.", name))}
    for name, key in keys.items():
        found = re.match(r"up_blocks\.(\d+)\.upsamplers\.", name)
        if found and int(found[1]) not in attended:
            keys[name] = re.sub(r"^(output_blocks\.\d+)\.2\.", r"\1.1.", key)
    return keys


def vae_key(name: str, levels: int = 4) -> str:
    """The SD1 name of a diffusers AutoencoderKL parameter."""
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for theirs, ours in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"mid_block.attentions.0.{theirs}.", f"mid.attn_1.{ours}.")
    return name


def _folded(state: Mapping[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Put the latents' mean and spread into the 1 x 1 convolutions, so that SD1's constant scale fits.

    Also fixes the encoder's spread at the smallest: encoding is deterministic.
    """
    out = dict(state)
    spread = std * vae.SCALE
    weight, bias = state["quant_conv.weight"].clone(), state["quant_conv.bias"].clone()
    weight[:4] /= spread[:, None, None, None]
    bias[:4] = (bias[:4] - mean) / spread
    weight[4:], bias[4:] = 0, -30.0
    out["quant_conv.weight"], out["quant_conv.bias"] = weight, bias
    back = state["post_quant_conv.weight"]
    out["post_quant_conv.bias"] = state["post_quant_conv.bias"] + torch.einsum("oi,i->o", back[:, :, 0, 0], mean)
    out["post_quant_conv.weight"] = back * spread[None, :, None, None]
    return out


def _vocabulary(rows: Tensor, ids: Sequence[int]) -> Tensor:
    """The trained rows at their tokens, the unknown row everywhere else, [49408, width]."""
    table = rows[0].repeat(text.END + 1, 1)
    for row, token in enumerate(ids):
        if token >= 0:
            table[token] = rows[row]
    return table


def checkpoint(folder: Path) -> dict[str, Tensor]:
    """All parameters of the run's newest averages, SD1 names, float16."""
    painter = torch.load(folder / "unet-average.pt", map_location="cpu")
    latents = torch.load(folder / "latents.pt", map_location="cpu")
    refined = folder / "vae-refined.pt"
    coder = torch.load(refined if refined.exists() else folder / "vae-average.pt", map_location="cpu")["model"]
    out: dict[str, Tensor] = {}
    unet = {k.removeprefix("unet."): v for k, v in painter["every"].items() if k.startswith("unet.")}
    for name, key in unet_keys(list(unet)).items():
        out[UNET + key] = unet[name]
    for name, value in _folded(vae.plain_state(coder), latents["mean"], latents["std"]).items():
        conv = "mid_block.attentions" in name and value.ndim == 2
        out[VAE + vae_key(name)] = value[:, :, None, None] if conv else value
    for name, value in painter["every"].items():
        if name.startswith("language.0.") and not name.endswith("position_ids"):
            inner = name.removeprefix("language.0.").removeprefix("text_model.")
            table = inner == "embeddings.token_embedding.weight"
            out[TEXT + "text_model." + inner] = _vocabulary(value, painter["ids"]) if table else value
    return {k: v.to(torch.float16).contiguous() for k, v in out.items()}


def write(folder: Path, target: Path) -> int:
    """Write the checkpoint; returns its size in bytes.

    Raises:
        ValueError: if the file would be larger than the limit.
    """
    tensors = checkpoint(folder)
    size = sum(v.numel() * 2 for v in tensors.values())
    if size > LIMIT_BYTES:
        msg = f"the checkpoint has {size} bytes of parameters, more than {LIMIT_BYTES}"
        raise ValueError(msg)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(target), metadata={"format": "pt"})
    return target.stat().st_size


def read(path: Path) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """Diffusers and transformers models with the file's parameters, float32, for checking the file by other code.

    Raises:
        RuntimeError: if a name or shape does not fit.
    """
    tensors = {k: v.float() for k, v in load_file(str(path)).items()}
    unet, coder, encoder = diffusion.build(), vae.plain_build(), text.build(text.END + 1)
    keys = unet_keys(list(unet.state_dict()))
    unet.load_state_dict({name: tensors[UNET + key] for name, key in keys.items()})
    shapes = {k: v.shape for k, v in coder.state_dict().items()}
    coder.load_state_dict({name: tensors[VAE + vae_key(name)].reshape(shape) for name, shape in shapes.items()})
    names = [k for k in encoder.state_dict() if not k.endswith("position_ids")]
    encoder.load_state_dict({k: tensors[TEXT + "text_model." + k.removeprefix("text_model.")] for k in names}, strict=False)
    return unet.eval(), coder.eval(), encoder.eval()
