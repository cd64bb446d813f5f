"""Models to files, in the original layouts: what is saved loads again as it was, here and elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine.errors import UnsupportedModel
from engine.models import layout
from engine.models.checkpoint import UNET_PREFIX, VAE_PREFIX
from engine.models.families import FAMILIES
from engine.models.family import CLIP_G, CLIP_H
from engine.models.network import DiffusionModel
from engine.models.text import ClipTextEncoder
from engine.models.vae import AutoencoderVae
from engine.sampling.schedule import ZERO_SNR_ALPHA_BAR, ContinuousSchedule, DiscreteSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_ZERO_SNR_SIGMA = (1 / ZERO_SNR_ALPHA_BAR - 1) ** 0.5
_IN_OPEN_CLIP = frozenset({CLIP_G, CLIP_H})
"""Towers that checkpoints keep in the layout of OpenCLIP."""


def checkpoint_tensors(model: object, text_encoder: object = None, vae: object = None) -> dict[str, Tensor]:
    """What a single-file checkpoint holds of these, patches merged into the weights.

    Args:
        model: The network.
        text_encoder: Its text encoder, or None.
        vae: Its VAE, or None.

    Raises:
        UnsupportedModel: if one of them has no weights that a checkpoint could hold, or model and text encoder are of
            different families.
    """
    if not isinstance(model, DiffusionModel):
        raise _unsupported(model)
    unet = model.weights.baked()
    names = layout.original_unet_names(unet)
    found = {UNET_PREFIX + names[name]: tensor for name, tensor in unet.items()}
    if text_encoder is not None:
        if not isinstance(text_encoder, ClipTextEncoder):
            raise _unsupported(text_encoder)
        found |= _tower_tensors(model, text_encoder)
    if vae is not None:
        found |= {VAE_PREFIX + name: tensor for name, tensor in vae_tensors(vae).items()}
    return found | marks(model)


def marks(model: DiffusionModel) -> dict[str, Tensor]:
    """Tensors that tell what the network predicts where its weights do not; most are empty."""
    import torch

    schedule = model.schedule
    if isinstance(schedule, ContinuousSchedule) and schedule.prediction == "v" and schedule.time == "log":
        ends = {"edm_vpred.sigma_max": schedule.highest, "edm_vpred.sigma_min": schedule.lowest}
        return {name: torch.tensor(level) for name, level in ends.items()}
    if not isinstance(schedule, DiscreteSchedule) or schedule.prediction != "v":
        return {}
    is_zero = abs(schedule.sigma_max / _ZERO_SNR_SIGMA - 1) < 1e-3
    return {name: torch.zeros(0) for name in ("v_pred", *(("ztsnr",) if is_zero else ()))}


def _tower_tensors(model: DiffusionModel, text_encoder: ClipTextEncoder) -> dict[str, Tensor]:
    prefixes = {tower.name: tower.prefix for tower in FAMILIES[model.family].towers}
    if not {tower.name for tower in text_encoder.towers} <= prefixes.keys():
        msg = (
            f"cannot save {model.weights.source} with the text encoder of {text_encoder.weights.source}: checkpoints of"
            f" {model.family} have no place for {', '.join(tower.name for tower in text_encoder.towers)}"
        )
        raise UnsupportedModel(msg)
    found: dict[str, Tensor] = {}
    for name, own in text_tensors(text_encoder).items():
        tensors = layout.to_open_clip(own) if name in _IN_OPEN_CLIP else own
        found |= {prefixes[name] + inner: tensor for inner, tensor in tensors.items()}
    return found


def text_tensors(text_encoder: object) -> dict[str, dict[str, Tensor]]:
    """Each tower of a text encoder by name, as its own file holds it: in the layout of transformers.

    Raises:
        UnsupportedModel: if it has no weights.
    """
    if not isinstance(text_encoder, ClipTextEncoder):
        raise _unsupported(text_encoder)
    found: dict[str, dict[str, Tensor]] = {tower.name: {} for tower in text_encoder.towers}
    for name, tensor in text_encoder.weights.baked().items():
        tower, _, inner = name.partition(".")
        found[tower][inner if inner.startswith("text_projection") else f"text_model.{inner}"] = tensor
    return found


def vae_tensors(vae: object) -> dict[str, Tensor]:
    """A VAE as its own file holds it.

    Raises:
        UnsupportedModel: if it is none of the usual kind.
    """
    if type(vae) is not AutoencoderVae:
        raise _unsupported(vae)
    return layout.original_vae(vae.weights.baked())


def metadata(documents: Mapping[str, Any], model: object = None, *, title: str = "") -> dict[str, str]:
    """What the header of a file says beside its tensors.

    Args:
        documents: The workflow, by the names that files carry it under.
        model: The network in it, if there is one.
        title: What the file is called.
    """
    texts = {name: json.dumps(document) for name, document in documents.items() if document is not None}
    specification = FAMILIES[model.family].modelspec if isinstance(model, DiffusionModel) else ""
    if specification and isinstance(model, DiffusionModel):
        texts |= {
            "modelspec.architecture": specification,
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.implementation": "sgm",
            "modelspec.title": title,
            "modelspec.predict_key": "v" if marks(model) else "epsilon",
        }
    return texts


def write(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Write a safetensors file."""
    from safetensors.torch import save_file

    save_file({name: _own(tensor) for name, tensor in tensors.items()}, path, dict(texts))


def _own(tensor: Tensor) -> Tensor:
    """`tensor` on the CPU, in memory that it shares with no other: safetensors refuses parts of a larger one."""
    alone = tensor.detach().cpu().contiguous()
    return alone if alone.untyped_storage().nbytes() == alone.nbytes else alone.clone()


def _unsupported(value: object) -> UnsupportedModel:
    return UnsupportedModel(f"cannot save {type(value).__name__}: it has no weights that such a file holds")
