"""Files of adapters (LoRA and its relatives): from names in a file to changes of a network and its text encoder.

Two namings are in use. Kohya's joins the path of a layer with underscores (`lora_unet_down_blocks_0_...`), PEFT's and
that of older diffusers keep its dots (`unet.down_blocks.0...`); some tools name layers as the original checkpoints do
(`lora_unet_input_blocks_1_...`, `diffusion_model.input_blocks.1...`). All are looked up in one table that is made from the
weights themselves, with underscores throughout.

What a layer's tensors do is in `engine.models.adapters`.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.errors import ModelFileError, UnsupportedModel
from engine.models import files
from engine.models.adapters import Adapted, adapted
from engine.models.detect import TITLES, of_shapes
from engine.models.layout import original_unet_names
from engine.models.weights import Patch, mismatch, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from engine.models.network import DiffusionModel
    from engine.models.text import ClipTextEncoder

_log = logging.getLogger(__name__)

_NAME = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.lora_(?P<kohya>down|up|mid)\.weight"
    r"|\.lora_(?P<peft>[AB])(?:\.\w+)?\.weight"
    r"|(?:[._]lora|\.lora_linear_layer)\.(?P<diffusers>down|up)\.weight"
    r"|\.(?P<glora>[ab][12])\.weight"
    r"|\.(?P<magnitude>lora_magnitude_vector)(?:\.\w+)*"
    r"|\.(?P<plain>alpha|hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2|oft_blocks|rescale|dora_scale"
    r"|diff|diff_b|w_norm|b_norm|set_weight)"
    r")"
)
"""A tensor's name: the layer that it changes, and what it is there."""

_ROLES = {
    "A": "down",
    "B": "up",
    "lora_magnitude_vector": "magnitude",
    "dora_scale": "magnitude",
    "diff": "difference",
    "diff_b": "difference",
    "w_norm": "difference",
    "b_norm": "difference",
    "set_weight": "replacement",
}
"""Names of factors to what `engine.models.adapters` calls them, where that differs."""

_OF_BIAS = frozenset({"diff_b", "b_norm"})

_OF_ROWS = frozenset({"lora_magnitude_vector"})
"""PEFT's lengths are always those of rows, whatever their shape says."""

_NUMBERS = frozenset({"alpha"})
_VECTORS = frozenset({"magnitude", "difference", "replacement", "rescale"})
"""Roles of tensors that may have one side only; the others are matrices."""

_UNET_PREFIXES = (
    "lora_unet_",
    "unet_",
    "base_model_model_",
    "model_diffusion_model_",
    "diffusion_model_",
    "lycoris_",
    "",
)


@dataclass(frozen=True, slots=True)
class _Part:
    """What a file may change: one network.

    Attributes:
        weights: Its tensors.
        layers: Every spelling of a layer, with underscores and without a prefix, to its name in the network.
        prefixes: What may precede a spelling in a file, longest first.
        strength: How much of the file's changes it takes.
        changes: What was found for it: weight to change.
    """

    weights: Mapping[str, Tensor]
    layers: Mapping[str, str]
    prefixes: tuple[str, ...]
    strength: float
    changes: dict[str, Adapted] = field(default_factory=dict)

    def layer(self, spelling: str) -> str | None:
        """The name of a layer, or None where this part has none that is spelled so."""
        for prefix in self.prefixes:
            if spelling.startswith(prefix) and (name := self.layers.get(spelling.removeprefix(prefix))) is not None:
                return name
        return None


def applied(
    model: DiffusionModel,
    text_encoder: ClipTextEncoder | None,
    path: Path,
    *,
    strength_model: float = 1.0,
    strength_clip: float = 1.0,
) -> tuple[DiffusionModel, ClipTextEncoder | None]:
    """New values with the adapters of the file at `path` applied; with strength 0 a part stays as it is.

    What fits is applied; what does not is named in a warning.

    Raises:
        ModelFileError: if nothing fits, naming every layer; or if it holds no adapters.
        UnsupportedModel: if it is for another family.
    """
    if strength_model == 0 and (strength_clip == 0 or text_encoder is None):
        return model, text_encoder
    tensors = files.read_tensors(path)
    _require_family(tensors, model.family, path)
    unet = _Part(model.weights.tensors, _spellings(original_unet_names(model.weights.tensors)), _UNET_PREFIXES, strength_model)
    texts = list(_text_parts(text_encoder, strength_clip)) if text_encoder is not None else []
    layers, problems = _by_layer(tensors)
    for layer, factors in layers.items():
        spelling = layer.replace(".", "_").replace("_processor_", "_")
        if text_encoder is None and spelling.startswith(("lora_te", "text_encoder")):
            continue
        problems += _read(layer, spelling, factors, [*texts, unet])
    text_changes = {name: change for part in texts for name, change in part.changes.items()}
    if problems:
        error = mismatch(problems, file=str(path), part="LoRA", noun="layer")
        if not unet.changes and not text_changes:
            raise error
        count = len(problems)
        _log.warning("%s: %d of its layers %s left out: %s", path.name, count, "is" if count == 1 else "are", named(problems))
    if unet.changes and strength_model != 0:
        model = model.with_patch(Patch(unet.changes, path.name))
    if text_changes and strength_clip != 0 and text_encoder is not None:
        text_encoder = text_encoder.with_patch(Patch(text_changes, path.name))
    return model, text_encoder


def _read(layer: str, spelling: str, factors: Mapping[str, Mapping[str, Tensor]], parts: list[_Part]) -> Iterator[str]:
    """Add the changes of one layer to the part that it is of, and yield what does not fit."""
    part, name = next(((part, name) for part in parts if (name := part.layer(spelling)) is not None), (None, ""))
    if part is None:
        yield f"{layer} is no layer of this model"
        return
    for end, of_weight in factors.items():
        if (weight := part.weights.get(f"{name}.{end}")) is None:
            yield f"{layer}: {name} has no {end}"
            continue
        try:
            part.changes[f"{name}.{end}"] = adapted(of_weight, tuple(weight.shape), part.strength)
        except ValueError as problem:
            yield f"{layer}: {problem}"


def _by_layer(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, dict[str, Tensor]]], list[str]]:
    """Layer to `weight` or `bias` to its factors by role; and what belongs to no layer."""
    layers: dict[str, dict[str, dict[str, Tensor]]] = defaultdict(lambda: defaultdict(dict))
    strange = []
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        word = next(found for kind, found in match.groupdict().items() if kind != "layer" and found) if match else ""
        role = _ROLES.get(word, word)
        if match is None:
            strange.append(f"{name} is no part of a LoRA")
        elif role in _NUMBERS and tensor.numel() != 1:
            strange.append(f"{name} is {list(tensor.shape)} instead of one number")
        elif tensor.ndim < (0 if role in _NUMBERS else 1 if role in _VECTORS else 2):
            strange.append(f"{name} is {list(tensor.shape)} instead of a matrix")
        else:
            own = tensor.reshape(-1) if word in _OF_ROWS else tensor
            layers[match["layer"]]["bias" if word in _OF_BIAS else "weight"][role] = own
    for factors in layers.values():
        if "bias" in factors and factors.get("weight", {}).keys() == _NUMBERS:  # alpha of a layer whose bias alone changes
            del factors["weight"]
    return layers, strange


def _spellings(names: Mapping[str, str]) -> dict[str, str]:
    """Every spelling of a layer, with underscores, to its name.

    Args:
        names: Name of a weight to its original name.
    """
    table: dict[str, str] = {}
    for name, original in names.items():
        for spelling in (name, original):
            layer = spelling.rpartition(".")[0].replace(".", "_")
            table[layer] = name.rpartition(".")[0]
            if layer.endswith("_to_out_0"):  # older diffusers leave the 0 out
                table[layer.removesuffix("_0")] = name.rpartition(".")[0]
    return table


def _text_parts(text_encoder: ClipTextEncoder, strength: float) -> Iterator[_Part]:
    """The towers of a text encoder: numbered as their folders are; the first number may be left out."""
    for tower in text_encoder.towers:
        start = f"{tower.name}."
        own = {name: name.removeprefix(start) for name in text_encoder.weights.tensors if name.startswith(start)}
        spellings = {spelling.removeprefix(f"{tower.name}_"): layer for spelling, layer in _spellings(own).items()}
        number = tower.folder.removeprefix("text_encoder").removeprefix("_")
        starts = [f"lora_te{number}_", f"{tower.folder}_", f"text_encoders_{tower.name}_transformer_"]
        if not number or len(text_encoder.towers) == 1:
            starts += ["lora_te_", "lora_te1_", "text_encoder_"]
        prefixes = tuple(start + wrapper for start in starts for wrapper in ("text_model_", ""))
        yield _Part(text_encoder.weights.tensors, spellings, prefixes, strength)


def _require_family(tensors: Mapping[str, Tensor], family: str, path: Path) -> None:
    found = of_shapes(files.shapes(tensors))
    if found.role != "lora":
        msg = f"cannot apply it as a LoRA: it is {found}, with no small tensors that change a weight"
        raise ModelFileError(msg, file=str(path))
    if found.family not in {family, "unknown"}:
        msg = f"cannot apply {path}: it is {found}, and the model is {TITLES.get(family, family)}; use a LoRA of its family"
        raise UnsupportedModel(msg)
