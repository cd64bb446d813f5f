"""ControlNets: copies of the way down of a denoising network that also see a picture.

What each block gives is added to the skip at the same place of the network that is steered.

Source: Zhang et al. 2023, arXiv:2302.05543. Networks that tell several kinds of picture apart: the ControlNet++ of xinsir,
2024, https://github.com/xinsir6/ControlNetPlus.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from engine import devices
from engine.errors import ModelFileError, UnsupportedModel
from engine.media import resized
from engine.models import architecture, files, layout, t2i_adapter, weights
from engine.models.control import FACTOR
from engine.models.detect import TITLES, of_shapes
from engine.models.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import Tensor
    from torch.nn import Module

    from engine.models.network import DiffusionModel
    from engine.models.unet import Residuals

KINDS = (
    "openpose",
    "depth",
    "hed/pidi/scribble/ted",
    "canny/lineart/anime_lineart/mlsd",
    "normal",
    "segment",
    "tile",
    "repaint",
)
"""Kinds of picture that networks of many kinds tell apart, by their number."""

DIFFERENCE = "difference"
"""Name of a tensor that marks files which hold differences to the weights of a model."""

LORA = "lora_controlnet"
"""Name of a tensor that marks files of low-rank changes."""

_PREFIX = "control_model."


@dataclass(frozen=True, eq=False)
class ControlNet:
    """A control network. Immutable.

    Attributes:
        family: Family of the networks that it was made for.
        weights: Its tensors.
        is_pooled: Whether what it adds is the same everywhere: the mean over the cells.
        kind: Number of the kind of picture that it is shown, for networks of many kinds; None leaves it to them.
    """

    port_type: ClassVar[str] = "CONTROL_NET"

    family: str
    weights: weights.Weights
    is_pooled: bool = False
    kind: int | None = None

    @property
    def source(self) -> str:
        """The file that it came from."""
        return self.weights.source

    @property
    def kinds(self) -> int:
        """How many kinds of picture it tells apart; 0 where it knows one."""
        table = self.weights.tensors.get("task_embedding")
        return 0 if table is None else int(table.shape[0])

    def with_kind(self, kind: int | None) -> ControlNet:
        """This network for pictures of a kind; one that knows a single kind takes no notice.

        Raises:
            UnsupportedModel: if it does not know that kind.
        """
        if kind is not None and self.kinds and kind >= self.kinds:
            msg = f"cannot show a {KINDS[kind]} picture to {self.source}: it knows {', '.join(KINDS[: self.kinds])}"
            raise UnsupportedModel(msg)
        return replace(self, kind=kind)

    def upon(self, model: DiffusionModel) -> ControlNet:  # noqa: ARG002 - every model alike
        """Itself."""
        return self

    def shown(self, image: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
        """The embedded pictures [B, C0, height, width]."""
        picture = resized(image, width * FACTOR, height * FACTOR, "nearest-exact", "center")
        embedded: Tensor = self._module.controlnet_cond_embedding(picture.to(self.weights.device, self.weights.dtype))
        return (embedded,)

    def residuals(
        self, shown: tuple[Tensor, ...], x: Tensor, timestep: Tensor, context: Tensor, vector: Tensor | None
    ) -> Residuals:
        """What its blocks give, for the skips and for the middle."""
        from engine.models.unet import Residuals, descended, time_embedding

        module = self._module
        x, context = (given.to(self.weights.device, self.weights.dtype) for given in (x, context))
        emb = time_embedding(module, x, timestep.to(x.device), vector)
        h = module.conv_in(x)
        embedded = shown[0]
        if self.kinds:
            emb = emb + self._told(x)
            if self.kind is not None:
                embedded = self._joined(embedded, h)
        skips, middle = descended(module, h + embedded, emb, context)
        given = [convolution(skip) for convolution, skip in zip(module.controlnet_down_blocks, skips, strict=True)]
        middle = module.controlnet_mid_block(middle)
        if self.is_pooled:
            *given, middle = (part.mean((2, 3), keepdim=True) for part in (*given, middle))
        return Residuals(output=tuple(given), middle=middle)

    @cached_property
    def _module(self) -> Any:
        return self.weights.network

    def _told(self, x: Tensor) -> Tensor:
        """[1, E] what is added to the time embedding: which kind of picture is shown."""
        import torch

        which = torch.zeros(self.kinds, device=x.device)
        if self.kind is not None:
            which[self.kind] = 1.0
        angles = self._module.control_type_proj(which).reshape(1, -1).to(x.dtype)
        told: Tensor = self._module.control_add_embedding(angles)
        return told

    def _joined(self, embedded: Tensor, h: Tensor) -> Tensor:
        """The embedded pictures, shifted by what a transformer over the means of picture and latent says of their kind."""
        import torch

        module = self._module
        mean = embedded.mean((2, 3)) + module.task_embedding[self.kind]
        tokens = torch.stack((mean.expand(h.shape[0], -1), h.mean((2, 3))), dim=1)
        for layer in module.transformer_layes:
            tokens = layer(tokens)
        shift: Tensor = module.spatial_ch_projs(tokens[:, 0])[:, :, None, None]
        return embedded + shift


@dataclass(frozen=True, eq=False)
class ControlLora:
    """Low-rank changes that make a ControlNet of the model that it steers. Immutable.

    Attributes:
        family: Family of the networks that it was made for.
        source: The file that it came from.
        tensors: `NAME.up` and `NAME.down` of changed weights, and whole weights, in the layout of `ControlNetModel`.
        device: Where to compute.
        dtype: What to compute in.

    Source: Stability AI, "Control-LoRA", 2023; Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """

    port_type: ClassVar[str] = "CONTROL_NET"

    family: str
    source: str
    tensors: Mapping[str, Tensor]
    device: torch.device
    dtype: torch.dtype

    def with_kind(self, kind: int | None) -> ControlLora:  # noqa: ARG002 - it knows one kind
        """Itself: it takes no notice."""
        return self

    def upon(self, model: DiffusionModel) -> ControlNet:
        """The network that it makes of the weights of `model`, with what changes them; kept as long as those.

        Raises:
            ModelFileError: if a change fits no weight of `model`.
        """
        made = self._made.get(model.weights)
        if made is None:
            made = self._made[model.weights] = self._completed(model)
        return made

    @cached_property
    def _made(self) -> WeakKeyDictionary[weights.Weights, ControlNet]:
        return WeakKeyDictionary()

    def _completed(self, model: DiffusionModel) -> ControlNet:
        base = model.weights
        whole = {name: tensor for name, tensor in self.tensors.items() if not name.endswith((".up", ".down"))}
        for name in base.tensors:
            if name.startswith(_SHARED) and name not in whole:
                whole[name] = base.value(name)
        for name, up in self.tensors.items():
            if not name.endswith(".up"):
                continue
            layer = name.removesuffix(".up")
            weight, down = whole.get(f"{layer}.weight"), self.tensors.get(f"{layer}.down")
            if weight is None or down is None or not _fits(up, down, weight):
                msg = f"cannot make a ControlNet of {base.source}: it has no weight that this changes"
                raise ModelFileError(msg, file=self.source, key=name)
            product = up.to(weight).flatten(1) @ down.to(weight).flatten(1)
            whole[f"{layer}.weight"] = weight + product.reshape(weight.shape)
        filled = _control_weights(whole, self.family, file=self.source, device=self.device, dtype=self.dtype)
        return ControlNet(self.family, filled)


_SHARED = ("conv_in.", "time_embedding.", "add_embedding.", "down_blocks.", "mid_block.")
"""How the names of weights begin that a ControlNet has in common with the network that it steers."""


def _fits(up: Tensor, down: Tensor, weight: Tensor) -> bool:
    """Whether up . down, as matrices, has the shape of `weight`, as a matrix."""
    shapes = [(tensor.shape[0], math.prod(tensor.shape[1:])) for tensor in (up, down, weight) if tensor.ndim > 1]
    return len(shapes) == 3 and shapes[0][1] == shapes[1][0] and (shapes[0][0], shapes[1][1]) == shapes[2]


def load(
    path: Path, *, device: torch.device, dtype: torch.dtype, base: DiffusionModel | None = None
) -> ControlNet | ControlLora | t2i_adapter.T2IAdapter:
    """Load a ControlNet in either layout, a control LoRA, or a T2I-adapter.

    Args:
        path: The file.
        device: Where to compute.
        dtype: What to compute in.
        base: The model whose weights the file holds the differences to, if it says that it does.

    Raises:
        ModelFileError: if the file cannot be read, or its tensors do not make a network.
        UnsupportedModel: if it is something else, or of a kind that Weft does not load.
    """
    tensors = files.read_tensors(path)
    found = of_shapes(files.shapes(tensors))
    if found.role == "t2i_adapter":
        return t2i_adapter.of_tensors(tensors, found.family, file=str(path), device=device, dtype=dtype)
    if found.role != "controlnet":
        msg = f"cannot load {path} as a control network: it is {found}"
        raise UnsupportedModel(msg)
    named = _control_names(tensors)
    if DIFFERENCE in named:
        del named[DIFFERENCE]
        if base is not None:
            named = _completed(named, base, path)
    if found.family not in FAMILIES:
        known = ", ".join(TITLES[family] for family in FAMILIES)
        msg = f"cannot load {path}: it is {found}, and control networks of that family are not supported (supported: {known})"
        raise UnsupportedModel(msg)
    if named.pop(LORA, None) is not None:
        return ControlLora(found.family, str(path), named, device, dtype)
    shuffles = path.stem.removesuffix("_fp16").endswith("_shuffle")
    filled = _control_weights(named, found.family, file=str(path), device=device, dtype=dtype)
    return ControlNet(found.family, filled, is_pooled=shuffles)


def _completed(named: Mapping[str, Tensor], base: DiffusionModel, path: Path) -> dict[str, Tensor]:
    """`named` with the weights of `base` added wherever it has them.

    Raises:
        ModelFileError: naming the first tensor whose shape is another there.
    """
    completed = dict(named)
    for name, difference in named.items():
        if name not in base.weights.tensors:
            continue
        weight = base.weights.value(name)
        if weight.shape != difference.shape:
            msg = f"cannot add it to {base.weights.source}: {list(difference.shape)} there is {list(weight.shape)}"
            raise ModelFileError(msg, file=str(path), key=name)
        completed[name] = difference.to(weight) + weight
    return completed


def _control_weights(
    named: Mapping[str, Tensor], family: str, *, file: str, device: torch.device, dtype: torch.dtype
) -> weights.Weights:
    try:
        sizes = architecture.control_sizes(files.shapes(named))
    except KeyError as cause:
        msg = f"cannot load the control network: {cause.args[0]} is missing, or it has no usable shape"
        raise ModelFileError(msg, file=file, key=cause.args[0]) from cause
    build = partial(_control_module, sizes, FAMILIES[family].unet_heads)
    return weights.fill(build, named, file=file, part="control network", device=device, dtype=dtype)


def _control_module(sizes: architecture.ControlSizes, heads: int | None) -> Module:
    devices.prepare()
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

    return weights.meta_module(ControlNetUnionModel if sizes.kinds else ControlNetModel, **sizes.config(heads))


def _control_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their names in diffusers' module; a checkpoint's other parts are left out."""
    if any(name.startswith(_PREFIX) for name in tensors):
        tensors = {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(_PREFIX) or name == DIFFERENCE
        }
    hints = sorted({int(m[1]) for name in tensors if (m := re.match(r"input_hint_block\.(\d+)\.", name))})
    names = layout.unet_names(tensors)
    return {_control_name(names[name], hints): tensor for name, tensor in tensors.items()}


def _control_name(name: str, hints: list[int]) -> str:
    """A name in the original layout after renaming as a U-Net's; `hints` are the numbers of what embeds the picture."""
    if match := re.fullmatch(r"zero_convs\.(\d+)\.0\.(\w+)", name):
        return f"controlnet_down_blocks.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"middle_block_out\.0\.(\w+)", name):
        return f"controlnet_mid_block.{match[1]}"
    if match := re.fullmatch(r"input_hint_block\.(\d+)\.(\w+)", name):
        place = hints.index(int(match[1]))
        inner = "conv_in" if place == 0 else "conv_out" if place == len(hints) - 1 else f"blocks.{place - 1}"
        return f"controlnet_cond_embedding.{inner}.{match[2]}"
    return name
