"""LoRA files: low-rank changes to the weights of a network and its text encoder.

Two namings are in use. Kohya's joins the path of a layer with underscores (`lora_unet_down_blocks_0_...`), PEFT's and
that of older diffusers keep its dots (`unet.down_blocks.0...`); some tools name layers as the original checkpoints do
(`diffusion_model.input_blocks.1...`). All are looked up in one table that is made from the weights themselves, with
underscores throughout.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; the factor `mid` of convolutions: Yeh et al. 2023,
arXiv:2309.14859, section 3.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import ModelFileError, UnsupportedModel
from engine.models import files
from engine.models.detect import TITLES, of_shapes
from engine.models.layout import original_unet_names
from engine.models.weights import Patch, mismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

    from engine.models.network import DiffusionModel
    from engine.models.text import ClipTextEncoder

_FACTOR = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.lora_(?P<kohya>down|up|mid)\.weight"
    r"|\.lora_(?P<peft>[AB])(?:\.\w+)?\.weight"
    r"|(?:[._]lora|\.lora_linear_layer)\.(?P<diffusers>down|up)\.weight"
    r"|\.(?P<alpha>alpha))"
)
"""A tensor's name: the layer that it changes, and which factor it is."""

_ROLES = {"A": "down", "B": "up"}

_UNET_PREFIXES = ("lora_unet_", "unet_", "base_model_model_", "diffusion_model_", "")

_OTHER_KINDS = {
    "hada_w1_a": "LoHa",
    "lokr_w1": "LoKr",
    "lokr_w1_a": "LoKr",
    "oft_blocks": "OFT",
    "oft_diag": "OFT",
    "dora_scale": "DoRA",
    "a1.weight": "GLoRA",
}
"""Ends of names that mark other kinds of adapter."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change W + scale * up . down of one weight.

    Attributes:
        up: [O, r] or [O, r, 1, 1].
        down: [r, I] or [r, I, kh, kw].
        mid: [r, r', kh, kw] between the two, or None; `down` is then [r', I, 1, 1].
        scale: Strength times alpha / rank, unitless.
    """

    up: Tensor
    down: Tensor
    mid: Tensor | None
    scale: float

    def __call__(self, weight: Tensor) -> Tensor:
        """The changed weight: float32, on the device of `weight`."""
        return weight.add(self._product(weight).reshape(weight.shape), alpha=self.scale)

    def _product(self, weight: Tensor) -> Tensor:
        import torch

        up = self.up.to(weight.device, torch.float32).flatten(1)
        down = self.down.to(weight.device, torch.float32).flatten(1)
        if self.mid is None:
            return up @ down
        return torch.einsum("or,rskl,si->oikl", up, self.mid.to(weight.device, torch.float32), down)

    def shape_fits(self, weight: Tensor) -> bool:
        """Whether it can change `weight`."""
        out, rank = self.up.shape[0], math.prod(self.up.shape[1:])
        if self.mid is None:
            inner = self.down.shape[0], math.prod(self.down.shape[1:])
            return (out, rank) == (weight.shape[0], inner[0]) and inner[1] == math.prod(weight.shape[1:])
        expected = (rank, self.down.shape[0], *weight.shape[2:])
        inputs = math.prod(self.down.shape[1:])
        return weight.ndim == 4 and tuple(self.mid.shape) == expected and (out, inputs) == tuple(weight.shape[:2])


def applied(
    model: DiffusionModel,
    text_encoder: ClipTextEncoder | None,
    path: Path,
    *,
    strength_model: float = 1.0,
    strength_clip: float = 1.0,
) -> tuple[DiffusionModel, ClipTextEncoder | None]:
    """New values with the LoRA at `path` applied; with strength 0, or nothing for a part, that part as it is.

    Raises:
        ModelFileError: naming every tensor that fits no weight.
        UnsupportedModel: if the LoRA is for another family, or of a kind that Weft does not apply.
    """
    if strength_model == 0 and (strength_clip == 0 or text_encoder is None):
        return model, text_encoder
    tensors = files.read_tensors(path)
    _require_family(tensors, model.family, path)
    unet_weights = model.weights.tensors
    text_weights = text_encoder.weights.tensors if text_encoder is not None else {}
    tables = (
        ("model", _layers(original_unet_names(unet_weights), _UNET_PREFIXES), unet_weights, strength_model),
        ("text", _text_layers(text_encoder), text_weights, strength_clip),
    )
    changes: dict[str, dict[str, LowRank]] = {"model": {}, "text": {}}
    problems = []
    for layer, factors in _by_layer(tensors, path).items():
        key = layer.replace(".", "_").replace("_processor_", "_")
        if text_encoder is None and key.startswith(("lora_te", "text_encoder_")):
            continue
        part, weights, strength, name = next(
            ((part, weights, strength, table[key]) for part, table, weights, strength in tables if key in table),
            (None, None, 0.0, ""),
        )
        if part is None or weights is None:
            problems.append(f"{layer} is no layer of this model")
        elif "up" not in factors or "down" not in factors:
            problems.append(f"{layer} lacks {'up' if 'up' not in factors else 'down'}")
        else:
            change = _low_rank(factors, strength)
            if change.shape_fits(weights[name]):
                changes[part][name] = change
            else:
                up, down = list(change.up.shape), list(change.down.shape)
                problems.append(f"{layer}: {up} x {down} do not make {list(weights[name].shape)}")
    if problems:
        raise mismatch(problems, file=str(path), part="LoRA", noun="layer")
    if changes["model"] and strength_model != 0:
        model = model.with_patch(Patch(changes["model"], path.name))
    if changes["text"] and strength_clip != 0 and text_encoder is not None:
        text_encoder = text_encoder.with_patch(Patch(changes["text"], path.name))
    return model, text_encoder


def _low_rank(factors: Mapping[str, Tensor], strength: float) -> LowRank:
    up, down, alpha = factors["up"], factors["down"], factors.get("alpha")
    rank = down.shape[0]
    share = float(alpha) / rank if alpha is not None else 1.0
    return LowRank(up, down, factors.get("mid"), strength * share)


def _layers(weights: Mapping[str, str], prefixes: Iterable[str]) -> dict[str, str]:
    """Every name that a LoRA may use for a layer, with underscores, to the name of the layer's weight.

    Args:
        weights: Name of a weight to its original name.
        prefixes: What may precede the name of a layer.
    """
    table: dict[str, str] = {}
    for name, original in weights.items():
        for spelling in {name, original}:
            if not spelling.endswith(".weight"):
                continue
            layer = spelling.removesuffix(".weight").replace(".", "_")
            for prefix in prefixes:
                table[prefix + layer] = name
                if layer.endswith("_to_out_0"):  # older diffusers leave the 0 out
                    table[prefix + layer.removesuffix("_0")] = name
    return table


def _text_layers(text_encoder: ClipTextEncoder | None) -> dict[str, str]:
    """The same for a text encoder: towers are numbered as their folders are, and the first number may be left out."""
    table: dict[str, str] = {}
    for tower in text_encoder.towers if text_encoder is not None else ():
        number = tower.folder.removeprefix("text_encoder").removeprefix("_")
        starts = [f"lora_te{number}_", f"{tower.folder}_"]
        if not number or (text_encoder is not None and len(text_encoder.towers) == 1):
            starts += ["lora_te_", "lora_te1_", "text_encoder_"]
        weights = text_encoder.weights.tensors if text_encoder is not None else ()
        own = {name: name.removeprefix(f"{tower.name}.") for name in weights if name.startswith(f"{tower.name}.")}
        table |= _layers(own, [start + wrapper for start in starts for wrapper in ("text_model_", "")])
    return table


def _by_layer(tensors: Mapping[str, Tensor], path: Path) -> dict[str, dict[str, Tensor]]:
    """Layer to its factors `down`, `up`, `mid`, `alpha`."""
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    strange = []
    for name, tensor in tensors.items():
        match = _FACTOR.fullmatch(name)
        if match is None:
            strange.append(f"{name} is no part of a LoRA")
            continue
        role = match["kohya"] or _ROLES.get(match["peft"] or "") or match["diffusers"] or "alpha"
        if role == "alpha" and tensor.numel() != 1:
            strange.append(f"{name} is {list(tensor.shape)} instead of one number")
        elif role != "alpha" and tensor.ndim < 2:
            strange.append(f"{name} is {list(tensor.shape)} instead of a matrix")
        layers[match["layer"]][role] = tensor
    if strange:
        raise mismatch(strange, file=str(path), part="LoRA")
    return layers


def _require_family(tensors: Mapping[str, Tensor], family: str, path: Path) -> None:
    found = of_shapes(files.shapes(tensors))
    if found.role != "lora":
        msg = f"cannot apply it as a LoRA: it is {found}, with no pairs of low-rank factors"
        raise ModelFileError(msg, file=str(path))
    kinds = {kind for name in tensors for end, kind in _OTHER_KINDS.items() if name.endswith(f".{end}")}
    if kinds:
        msg = f"cannot apply {path}: it holds {', '.join(sorted(kinds))} layers, and only LoRA and LoCon are supported yet"
        raise UnsupportedModel(msg)
    if found.family not in {family, "unknown"}:
        msg = f"cannot apply {path}: it is {found}, and the model is {TITLES.get(family, family)}; use a LoRA of its family"
        raise UnsupportedModel(msg)
