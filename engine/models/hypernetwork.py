"""Hypernetworks: small networks that change what keys and values of an attention are made from.

A file holds, for each width of context, two stacks of linear layers: one for the keys, one for the values. What they give
is added to the context.

Source: kurumuz, "NovelAI improvements on Stable Diffusion", 2022, section "Hypernetworks".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.errors import ModelFileError
from engine.models import files
from engine.models.hooks import Hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from engine.models.hooks import Place
    from engine.models.network import DiffusionModel

_functional = torch.nn.functional

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": _functional.relu,
    "leakyrelu": _functional.leaky_relu,
    "elu": _functional.elu,
    "swish": _functional.hardswish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softsign": _functional.softsign,
    "mish": _functional.mish,
}
"""What may follow a linear layer, as files name it."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers that follow one another.

    Attributes:
        layers: (weight, bias) of each: a matrix is a linear layer, a vector is a layer norm.
        activation: Name of what follows each linear layer.
        activates_last: Whether it follows the last one too.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    activation: str
    activates_last: bool

    def __call__(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        last = max(i for i, (weight, _) in enumerate(self.layers) if weight.ndim == 2)
        for i, (weight, bias) in enumerate(self.layers):
            if weight.ndim == 1:
                x = _functional.layer_norm(x, weight.shape, weight, bias)
                continue
            x = _functional.linear(x, weight, bias)
            if i < last or self.activates_last:
                x = ACTIVATIONS[self.activation](x)
        return x


@dataclass(frozen=True, eq=False)
class Hypernetwork(Hook):
    """Adds to what keys and values are made from, in every attention over a context of a known width.

    Attributes:
        stacks: Width of the context to the stacks for keys and for values.
        strength: Factor of what is added.
    """

    stacks: Mapping[int, tuple[Stack, Stack]]
    strength: float

    def attention_inputs(self, q: Tensor, k: Tensor, v: Tensor, at: Place) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG002 - everywhere alike
        """Changed keys and values."""
        if (stacks := self.stacks.get(k.shape[-1])) is None:
            return q, k, v
        for_keys, for_values = stacks
        return q, k + for_keys(k) * self.strength, v + for_values(v) * self.strength


def load(path: Path, strength: float, model: DiffusionModel) -> Hypernetwork:
    """The hypernetwork in a file that torch saved.

    Args:
        path: The file.
        strength: Factor of what it adds.
        model: Says where and in what format to compute.

    Raises:
        ModelFileError: if it cannot be read, or is no hypernetwork.
    """
    saved = files.read_pickle(path)
    if not isinstance(saved, dict) or not any(isinstance(width, int) for width in saved):
        raise ModelFileError("cannot load it as a hypernetwork: it has no layers for any width", file=str(path))
    activation = str(saved.get("activation_func", "linear") or "linear").lower()
    if activation not in ACTIVATIONS:
        msg = f"cannot load it: its activation {activation!r} is none of {', '.join(ACTIVATIONS)}"
        raise ModelFileError(msg, file=str(path), key="activation_func")
    activates_last = bool(saved.get("activate_output", False))
    stacks = {}
    for width, parts in saved.items():
        if not isinstance(width, int):
            continue
        if not isinstance(parts, list | tuple) or len(parts) < 2 or not all(isinstance(part, dict) for part in parts[:2]):
            raise ModelFileError("cannot load it: a width needs layers for keys and for values", file=str(path), key=str(width))
        for_keys, for_values = (Stack(_layers(part, width, path, model), activation, activates_last) for part in parts[:2])
        stacks[width] = (for_keys, for_values)
    return Hypernetwork(stacks, strength)


def _layers(part: Mapping[str, Any], width: int, path: Path, model: DiffusionModel) -> tuple[tuple[Tensor, Tensor], ...]:
    """The layers of a stack, in the order of their numbers, checked to lead from `width` to `width`."""
    numbers = {name.removesuffix(".weight"): name for name in part if str(name).endswith(".weight")}
    ordered = sorted(numbers, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    layers, now = [], width
    for name in ordered:
        weight, bias = part[f"{name}.weight"], part.get(f"{name}.bias")
        is_layer = isinstance(weight, Tensor) and isinstance(bias, Tensor) and weight.ndim in {1, 2}
        if not is_layer or bias is None or weight.shape[-1] != now or tuple(bias.shape) != (weight.shape[0],):
            msg = f"cannot load it: layer {name!r} of width {width} does not take {now} numbers"
            raise ModelFileError(msg, file=str(path), key=f"{name}.weight")
        now = weight.shape[0]
        layers.append((weight.to(model.device, model.dtype), bias.to(model.device, model.dtype)))
    if now != width or not any(weight.ndim == 2 for weight, _ in layers):
        msg = f"cannot load it: the layers of width {width} do not lead back to it"
        raise ModelFileError(msg, file=str(path))
    return tuple(layers)
