"""Single-file checkpoints and diffusers folders, of every family by one path.

Parts are cut out of the file by prefix, renamed to the modules' layout, measured, and assigned to modules that were
built without memory. What the shapes cannot show comes from the `Family`.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from engine import devices
from engine.errors import ModelFileError
from engine.models import architecture, files, layout, weights
from engine.models.family import CLIP_G, CLIP_H, CLIP_L
from engine.models.network import DiffusionModel
from engine.models.text import ClipTextEncoder
from engine.models.vae import AutoencoderVae

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor
    from torch.nn import Module

    from engine.models.family import Family, Tower

Sizes = TypeVar("Sizes")

_log = logging.getLogger(__name__)

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

_LEFTOVERS = (
    "model_ema.",
    "alphas_cumprod",
    "betas",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "logvar",
    "lvlb_weights",
    "denoiser.",
    "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection",
    "v_pred",
    "ztsnr",
    "edm_vpred.",
    "noise_augmentor.",
    "embedder.",
)
"""Names that real files carry from their training, or as marks, and that no part of a model uses."""

_PART_LEFTOVERS = ("loss.", "model_ema.")
_TEXT_LEFTOVERS = ("embeddings.position_ids", "logit_scale", "attn_mask")
"""The same within a part, after renaming."""


TOWER_WIDTHS = {768: CLIP_L, 1024: CLIP_H, 1280: CLIP_G}
"""D of published text transformers."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What a checkpoint holds, in the module layout of each part; None for a part that it does not have.

    Attributes:
        file: Where it came from.
        marks: Its tensors by name; for a folder `v_pred` and `ztsnr` where its settings say so.
        unet: The denoising network.
        text: The text encoder, as `text_tensors` makes it.
        vae: The VAE.
    """

    file: str
    marks: Mapping[str, Any]
    unet: Mapping[str, Tensor] | None
    text: Mapping[str, Tensor] | None
    vae: Mapping[str, Tensor] | None


def file_parts(tensors: Mapping[str, Tensor], file: str, family: Family) -> Parts:
    """Cut the tensors of a single-file checkpoint into parts.

    Raises:
        ModelFileError: if two tensors mean the same weight.
    """
    towers = {tower.prefix: tower for tower in family.towers}
    cut: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in (UNET_PREFIX, VAE_PREFIX, *towers)}
    unused = []
    for name, tensor in tensors.items():
        prefix = next((p for p in cut if name.startswith(p)), None)
        if prefix is not None:
            cut[prefix][name.removeprefix(prefix)] = tensor
        elif not name.startswith(_LEFTOVERS):
            unused.append(name)
    if unused and not cut[UNET_PREFIX]:
        return Parts(file, tensors, unet=unet_part(tensors, file), text=None, vae=None)
    if unused:
        _log.warning("%s: %d tensors belong to no part and are not used, such as %r", file, len(unused), unused[0])
    found = {tower: cut[prefix] for prefix, tower in towers.items() if cut[prefix]}
    return Parts(
        file,
        tensors,
        unet=_in_module_layout(cut[UNET_PREFIX], layout.unet_names, file),
        text=text_tensors(found, file) if found else None,
        vae=_in_module_layout(cut[VAE_PREFIX], layout.vae_names, file),
    )


def folder_parts(folder: Path, unet: Mapping[str, Tensor], family: Family) -> Parts:
    """The parts of a diffusers folder whose network is read already.

    Raises:
        ModelFileError: if a part cannot be read.
    """
    file = str(folder)
    found = {tower: files.read_part(folder, tower.folder) for tower in family.towers if (folder / tower.folder).is_dir()}
    return Parts(
        file,
        _folder_marks(folder),
        unet=unet_part(unet, file),
        text=text_tensors(found, file) if found else None,
        vae=vae_part(files.read_part(folder, "vae"), file) if (folder / "vae").is_dir() else None,
    )


def _folder_marks(folder: Path) -> dict[str, None]:
    """What the settings of a folder say of its network, in the words that single files use."""
    settings = files.read_settings(folder, "scheduler/scheduler_config.json")
    marks = {
        "v_pred": settings.get("prediction_type") == "v_prediction",
        "ztsnr": settings.get("rescale_betas_zero_snr") is True,
    }
    return {mark: None for mark, is_set in marks.items() if is_set}


def unet_part(tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """The network among `tensors`, which are a checkpoint's, or its own in either layout; in module layout."""
    return _in_module_layout(_below(tensors, UNET_PREFIX), layout.unet_names, file) or {}


def vae_part(tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """The VAE among `tensors`, which are a checkpoint's, or its own in either layout; in module layout."""
    return _in_module_layout(_below(tensors, VAE_PREFIX), layout.vae_names, file) or {}


def tower_part(tensors: Mapping[str, Tensor], tower: Tower) -> Mapping[str, Tensor]:
    """The tensors of one text transformer among `tensors`, which are a checkpoint's, or its own; names as in the file."""
    return _below(tensors, tower.prefix, "transformer.text_model.", "model.")


def tower_name(tensors: Mapping[str, Tensor]) -> str:
    """Which text transformer a file of its own holds: its width tells for published ones, else its layout."""
    names = list(tensors)
    table = next((name for name in names if name.endswith("token_embedding.weight")), None)
    width = int(tensors[table].shape[-1]) if table else 0
    is_projected = any(name.endswith(("text_projection", "text_projection.weight")) for name in names)
    return TOWER_WIDTHS.get(width, CLIP_G if is_projected else CLIP_L)


def text_tensors(found: Mapping[Tower, Mapping[str, Tensor]], file: str) -> dict[str, Tensor]:
    """The towers of a text encoder in module layout, names preceded by the name of their tower.

    Args:
        found: Each tower's tensors as the file names them, in the layout of transformers or OpenCLIP.
        file: Where they came from, for errors.
    """
    joined: dict[str, Tensor] = {}
    for tower, tensors in found.items():
        given = layout.from_open_clip(tensors) if layout.is_open_clip(tensors) else tensors
        renamed = _in_module_layout(given, layout.text_names, file) or {}
        unused = _TEXT_LEFTOVERS if tower.is_projected is not False else (*_TEXT_LEFTOVERS, "text_projection")
        joined |= {f"{tower.name}.{name}": tensor for name, tensor in renamed.items() if not name.startswith(unused)}
    return joined


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


def model(
    tensors: Mapping[str, Tensor],
    family: Family,
    *,
    marks: Mapping[str, Any] | None = None,
    file: str,
    device: torch.device,
    dtype: torch.dtype,
    precision: str | None = None,
) -> DiffusionModel:
    """The diffusion model of `tensors`.

    Args:
        tensors: Of the network, in module layout.
        family: What it is.
        marks: See `Parts`; some tell what the network predicts.
        file: Where it came from.
        device: Where to compute.
        dtype: What to compute in.
        precision: Name of a narrower format that the numbers are rounded to.

    Raises:
        ModelFileError: if they do not make one.
    """
    import torch

    sizes = _measured(architecture.unet_sizes, tensors, file, "denoising network")
    build = functools.partial(_unet, sizes, family.unet_heads)
    narrow = getattr(torch, precision) if precision else None
    filled = weights.fill(build, tensors, file=file, part="denoising network", device=device, dtype=dtype, precision=narrow)
    vector = family.vector_of(marks or {}, sizes.vector_width) if family.vector_of is not None else family.vector
    vector = vector if sizes.vector_width else None
    return DiffusionModel(
        family.name, filled, family.schedule(tensors, marks or {}), family.latent_format, sizes.in_channels, vector
    )


def _unet(sizes: architecture.UNetSizes, heads: int | None) -> Module:
    devices.prepare()
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return weights.meta_module(UNet2DConditionModel, **sizes.config(heads))


def vae(tensors: Mapping[str, Tensor], *, file: str, device: torch.device, dtype: torch.dtype) -> AutoencoderVae:
    """The autoencoder of `tensors`.

    Raises:
        ModelFileError: if they do not make one.
    """
    sizes = _measured(architecture.vae_sizes, tensors, file, "VAE")
    build = functools.partial(_vae, sizes)
    filled = weights.fill(build, tensors, file=file, part="VAE", device=device, dtype=dtype)
    return AutoencoderVae(filled, sizes.latent_channels, sizes.factor)


def _vae(sizes: architecture.VaeSizes) -> Module:
    devices.prepare()
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return weights.meta_module(AutoencoderKL, **sizes.config())


def text_encoder(
    tensors: Mapping[str, Tensor], family: Family, *, file: str, device: torch.device, dtype: torch.dtype
) -> ClipTextEncoder:
    """The text encoder of `tensors`, with those towers of the family that they hold.

    Its weights are rounded to float16 whatever it computes in: the reference keeps them so, and pictures of float32
    checkpoints would differ from the reference's otherwise (`tests/models/test_text.py` shows it).

    Args:
        tensors: As `text_tensors` makes them.
        family: What it is.
        file: Where it came from.
        device: Where to compute.
        dtype: What to compute in.

    Raises:
        ModelFileError: if they do not make one.
    """
    import torch

    towers, sizes = [], {}
    for tower in family.towers:
        own = {name.removeprefix(f"{tower.name}."): t for name, t in tensors.items() if name.startswith(f"{tower.name}.")}
        if own:
            size = _measured(architecture.text_sizes, own, file, "text encoder")
            is_projected = size.projected_width > 0 if tower.is_projected is None else tower.is_projected
            sizes[tower.name] = (tower.activation, size, is_projected)
            absent = int(size.layers == tower.depth - 1)
            towers.append(replace(tower, is_projected=is_projected, absent_layers=absent))
    build = functools.partial(_text, sizes)
    filled = weights.fill(build, tensors, file=file, part="text encoder", device=device, dtype=dtype, precision=torch.float16)
    return ClipTextEncoder(family.name, filled, tuple(towers))


def _text(sizes: Mapping[str, tuple[str, architecture.TextSizes, bool]]) -> Module:
    devices.prepare()
    from torch.nn import Linear, ModuleDict
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    towers = {}
    for name, (activation, size, is_projected) in sizes.items():
        module = weights.meta_module(CLIPTextModel, CLIPTextConfig(**size.config(activation)))
        inner: Module = getattr(module, "text_model", module)  # transformers before 5.12 wraps it
        if is_projected:
            inner.text_projection = weights.meta_module(Linear, size.width, size.projected_width or size.width, bias=False)
        towers[name] = inner
    return ModuleDict(towers)


def _measured(
    measure: Callable[[Mapping[str, tuple[int, ...]]], Sizes], tensors: Mapping[str, Tensor], file: str, part: str
) -> Sizes:
    try:
        return measure(files.shapes(tensors))
    except KeyError as cause:
        msg = f"cannot load the {part}: {cause.args[0]} is missing, or it has no usable shape"
        raise ModelFileError(msg, file=file, key=cause.args[0]) from cause
