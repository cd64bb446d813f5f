"""Stable Diffusion 1: single-file checkpoints and diffusers folders, by one path.

Parts are cut out of the file by prefix, renamed to the modules' layout, measured, and assigned to modules that were
built without memory. What the shapes cannot show is here: 8 heads at every level of the network, 64 channels for each
head of the text encoder, the noise schedule, the latent scale.

Source: Rombach et al. 2022, arXiv:2112.10752; the v1 configuration of CompVis/stable-diffusion.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from engine import devices
from engine.errors import ModelFileError
from engine.models import architecture, files, layout, weights
from engine.models.network import DiffusionModel
from engine.models.text import ClipTextEncoder
from engine.models.vae import AutoencoderVae
from engine.types import LatentFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor
    from torch.nn import Module

Sizes = TypeVar("Sizes")

_log = logging.getLogger(__name__)

FAMILY = "sd1"
UNET_HEADS = 8
TEXT_HEAD_WIDTH = 64

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model.transformer."

LATENT_FORMAT = LatentFormat(
    channels=4,
    scale=0.18215,
    factor=8,
    # Linear fit of decoded pictures: https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
    rgb=((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)),
)

_LEFTOVERS = (
    "model_ema.",
    "alphas_cumprod",
    "betas",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "logvar",
    "lvlb_weights",
    "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection",
    "cond_stage_model.transformer.text_projection",
)
"""Names that real files carry from their training and that no part of a model uses."""

_PART_LEFTOVERS = ("loss.", "model_ema.", "embeddings.position_ids", "text_projection", "logit_scale")
"""The same within a part, after renaming."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What a checkpoint holds, in the module layout of each part; None for a part that it does not have."""

    file: str
    unet: Mapping[str, Tensor] | None
    text: Mapping[str, Tensor] | None
    vae: Mapping[str, Tensor] | None


def file_parts(tensors: Mapping[str, Tensor], file: str) -> Parts:
    """Cut the tensors of a single-file checkpoint into parts.

    Raises:
        ModelFileError: if two tensors mean the same weight.
    """
    cut: dict[str, dict[str, Tensor]] = {UNET_PREFIX: {}, VAE_PREFIX: {}, TEXT_PREFIX: {}}
    unused = []
    for name, tensor in tensors.items():
        if name.startswith(_LEFTOVERS):
            continue
        prefix = next((p for p in cut if name.startswith(p)), None)
        if prefix is None:
            unused.append(name)
        else:
            cut[prefix][name.removeprefix(prefix)] = tensor
    if unused and not cut[UNET_PREFIX]:
        return Parts(file, unet=unet_part(tensors, file), text=None, vae=None)
    if unused:
        _log.warning("%s: %d tensors belong to no part and are not used, such as %r", file, len(unused), unused[0])
    return Parts(
        file,
        unet=_in_module_layout(cut[UNET_PREFIX], layout.unet_names, file),
        text=_in_module_layout(cut[TEXT_PREFIX], layout.text_names, file),
        vae=_in_module_layout(cut[VAE_PREFIX], layout.vae_names, file),
    )


def folder_parts(folder: Path, unet: Mapping[str, Tensor]) -> Parts:
    """The parts of a diffusers folder whose network is read already.

    Raises:
        ModelFileError: if a part cannot be read.
    """
    file = str(folder)
    return Parts(
        file,
        unet=unet_part(unet, file),
        text=text_part(files.read_part(folder, "text_encoder"), file) if (folder / "text_encoder").is_dir() else None,
        vae=vae_part(files.read_part(folder, "vae"), file) if (folder / "vae").is_dir() else None,
    )


def unet_part(tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """The network among `tensors`, which are a checkpoint's, or its own in either layout; in module layout."""
    return _in_module_layout(_below(tensors, UNET_PREFIX), layout.unet_names, file) or {}


def vae_part(tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """The VAE among `tensors`, which are a checkpoint's, or its own in either layout; in module layout."""
    return _in_module_layout(_below(tensors, VAE_PREFIX), layout.vae_names, file) or {}


def text_part(tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """The text encoder among `tensors`, which are a checkpoint's, or its own; in module layout."""
    return _in_module_layout(_below(tensors, TEXT_PREFIX, "transformer."), layout.text_names, file) or {}


def _below(tensors: Mapping[str, Tensor], *prefixes: str) -> Mapping[str, Tensor]:
    """The tensors below the first prefix that occurs, without it; all where none does."""
    for prefix in prefixes:
        below = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if below:
            return below
    return tensors


def _in_module_layout(
    tensors: Mapping[str, Tensor], rename: Callable[[Mapping[str, Tensor]], dict[str, str]], file: str
) -> dict[str, Tensor] | None:
    """`tensors` under their names in the module, without leftovers of training; None where there are none."""
    if not tensors:
        return None
    renamed: dict[str, Tensor] = {}
    for old, new in rename(tensors).items():
        if new.startswith(_PART_LEFTOVERS):
            continue
        if new in renamed:
            msg = f"cannot load it: two tensors mean the same weight {new!r}"
            raise ModelFileError(msg, file=file, key=old)
        renamed[new] = tensors[old]
    return renamed


def unet_weights(tensors: Mapping[str, Tensor], *, file: str, device: torch.device, dtype: torch.dtype) -> weights.Weights:
    """The denoising network of `tensors`.

    Raises:
        ModelFileError: if they do not make one.
    """
    sizes = _measured(architecture.unet_sizes, tensors, file, "denoising network")
    build = partial(_unet, sizes)
    return weights.fill(build, tensors, file=file, part="denoising network", device=device, dtype=dtype)


def _unet(sizes: architecture.UNetSizes) -> Module:
    devices.prepare()
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return weights.meta_module(UNet2DConditionModel, **sizes.config(UNET_HEADS))


def vae(tensors: Mapping[str, Tensor], *, file: str, device: torch.device, dtype: torch.dtype) -> AutoencoderVae:
    """The autoencoder of `tensors`.

    Raises:
        ModelFileError: if they do not make one.
    """
    sizes = _measured(architecture.vae_sizes, tensors, file, "VAE")
    build = partial(_vae, sizes)
    filled = weights.fill(build, tensors, file=file, part="VAE", device=device, dtype=dtype)
    return AutoencoderVae(filled, sizes.latent_channels, sizes.factor)


def _vae(sizes: architecture.VaeSizes) -> Module:
    devices.prepare()
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return weights.meta_module(AutoencoderKL, **sizes.config())


def text_encoder(tensors: Mapping[str, Tensor], *, file: str, device: torch.device, dtype: torch.dtype) -> ClipTextEncoder:
    """The text encoder of `tensors`.

    Its weights are rounded to float16 whatever it computes in: the reference keeps them so, and pictures of float32
    checkpoints would differ from the reference's otherwise (`tests/models/test_text.py` shows it).

    Raises:
        ModelFileError: if they do not make one.
    """
    import torch

    sizes = _measured(architecture.text_sizes, tensors, file, "text encoder")
    build = partial(_text, sizes)
    filled = weights.fill(build, tensors, file=file, part="text encoder", device=device, dtype=dtype, precision=torch.float16)
    return ClipTextEncoder(FAMILY, filled)


def _text(sizes: architecture.TextSizes) -> Module:
    devices.prepare()
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    module = weights.meta_module(CLIPTextModel, CLIPTextConfig(**sizes.config(TEXT_HEAD_WIDTH)))
    inner: Module = getattr(module, "text_model", module)  # transformers before 5.12 wraps it
    return inner


def model(tensors: Mapping[str, Tensor], *, file: str, device: torch.device, dtype: torch.dtype) -> DiffusionModel:
    """The diffusion model of `tensors`.

    Raises:
        ModelFileError: if they do not make one.
    """
    from engine.sampling.schedule import DiscreteSchedule

    filled = unet_weights(tensors, file=file, device=device, dtype=dtype)
    in_channels = int(filled.tensors["conv_in.weight"].shape[1])
    return DiffusionModel(FAMILY, filled, DiscreteSchedule.scaled_linear(), LATENT_FORMAT, in_channels)


def _measured(
    measure: Callable[[Mapping[str, tuple[int, ...]]], Sizes], tensors: Mapping[str, Tensor], file: str, part: str
) -> Sizes:
    try:
        return measure(files.shapes(tensors))
    except KeyError as cause:
        msg = f"cannot load the {part}: {cause.args[0]} is missing, or it has no usable shape"
        raise ModelFileError(msg, file=file, key=cause.args[0]) from cause
