"""GLIGEN: layers that tell a denoising network what to draw where.

Between the two attentions of each transformer block stands a third, gated, over the tokens of the map and of objects. An
object is a prompt with a box.

Source: Li et al. 2023, arXiv:2301.07093, section 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from engine import devices
from engine.errors import ModelFileError, UnsupportedModel
from engine.models import files, weights
from engine.models.detect import TITLES
from engine.models.hooks import Hook

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import Tensor
    from torch.nn import Module

    from engine.models.hooks import Place
    from engine.models.network import DiffusionModel
    from engine.models.unet import Residuals
    from engine.types import NoiseSchedule

FAMILY = "sd1"
HEADS = 8
"""Attention heads of every layer."""

OBJECTS = 30
"""How many objects a network was trained to be told of; places without one say so."""

FREQUENCIES = 8
"""Sines and as many cosines that stand for each coordinate of a box."""

_FUSER = re.compile(r"(input|middle|output)_blocks?\.(\d+)\.(?:1\.)?transformer_blocks\.0\.fuser\.(.+)")


@dataclass(frozen=True, eq=False)
class Gligen:
    """The layers of a file. Immutable.

    Attributes:
        weights: Their tensors.
    """

    port_type: ClassVar[str] = "GLIGEN"

    weights: weights.Weights

    @property
    def text_width(self) -> int:
        """D of the pooled prompts that it reads."""
        return int(self.weights.tensors["position_net.null_positive_feature"].shape[0])

    def objects(self, boxes: Tensor, prompts: Tensor) -> Tensor:
        """[1, 30, D] tokens of objects.

        Args:
            boxes: [K, 4] left, top, right and bottom as shares of the picture.
            prompts: [K, D'] pooled prompts.
        """
        import torch

        count = len(boxes)
        told = torch.zeros(1, OBJECTS), torch.zeros(1, OBJECTS, 4), torch.zeros(1, OBJECTS, self.text_width)
        masks, places, texts = (part.to(self.weights.device, self.weights.dtype) for part in told)
        masks[0, :count], places[0, :count], texts[0, :count] = 1.0, boxes.to(places), prompts.to(texts)
        tokens: Tensor = self.weights.network["position_net"](places, masks, texts)
        return tokens


@dataclass(frozen=True, eq=False)
class Box:
    """An object: what to draw where.

    Attributes:
        prompt: [1, D] pooled.
        height: In latent cells, like the rest.
        width: See there.
        top: See there.
        left: See there.
    """

    prompt: Tensor
    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects that steer by GLIGEN's layers: a value in `Cond.options["controls"]`.

    Attributes:
        gligen: The layers.
        boxes: The objects, at most 30.
    """

    gligen: Gligen
    boxes: tuple[Box, ...]

    def with_box(self, box: Box) -> Boxes:
        """These objects and another one.

        Raises:
            UnsupportedModel: if there are 30 already, or its prompt is of another width than the layers read.
        """
        if len(self.boxes) == OBJECTS:
            msg = f"cannot place another object by {self.gligen.weights.source}: it knows {OBJECTS} at most"
            raise UnsupportedModel(msg)
        if box.prompt.shape[-1] != self.gligen.text_width:
            msg = (
                f"cannot place an object by {self.gligen.weights.source}: it reads prompts of {self.gligen.text_width} numbers,"
                f" the text encoder makes {box.prompt.shape[-1]}; use that of {TITLES[FAMILY]}"
            )
            raise UnsupportedModel(msg)
        return replace(self, boxes=(*self.boxes, box))

    def among(self, groups: int) -> Boxes:  # noqa: ARG002 - all rows are told the same
        """The same."""
        return self

    def require(self, family: str) -> None:
        """Raise unless networks of `family` have a place for the layers.

        Raises:
            UnsupportedModel: naming both families.
        """
        if family != FAMILY:
            made, asked = TITLES[FAMILY], TITLES.get(family, family)
            msg = f"cannot steer a {asked} model by {self.gligen.weights.source}: it was made for {made}"
            raise UnsupportedModel(msg)

    def is_active(self, schedule: NoiseSchedule, sigma: float) -> bool:  # noqa: ARG002 - always
        """Whether it takes part: always."""
        return True

    def residuals(
        self,
        model: DiffusionModel,  # noqa: ARG002 - it works within the network
        x: Tensor,  # noqa: ARG002
        timestep: Tensor,  # noqa: ARG002
        context: Tensor,  # noqa: ARG002
        vector: Tensor | None,  # noqa: ARG002
    ) -> Residuals:
        """Nothing."""
        from engine.models.unet import Residuals

        return Residuals()

    def hook(self, x: Tensor) -> Hook:
        """The layers, told of the objects within latents like `x` [R, C, h, w]."""
        import torch

        height, width = x.shape[-2:]
        corners = [
            (box.left / width, box.top / height, (box.left + box.width) / width, (box.top + box.height) / height)
            for box in self.boxes
        ]
        prompts = torch.cat([box.prompt for box in self.boxes])
        return Grounded(self.gligen.weights.network, self.gligen.objects(torch.tensor(corners), prompts))


@dataclass(frozen=True, slots=True, eq=False)
class Grounded(Hook):
    """Lets the tokens of a map attend to objects.

    Attributes:
        layers: `input_1`, ... to the layer of that block.
        objects: [1, 30, D] tokens of the objects.
    """

    layers: Any
    objects: Tensor

    def between_attentions(self, tokens: Tensor, at: Place) -> Tensor:
        """Tokens [R, T, D] after the gated attention, where the block has one."""
        name = f"{at.side}_{at.block}"
        if at.transformer or name not in self.layers:
            return tokens
        objects = self.objects.to(tokens).expand(tokens.shape[0], -1, -1)
        grounded: Tensor = self.layers[name](tokens, objects)
        return grounded


def load(path: Path, *, device: torch.device, dtype: torch.dtype) -> Gligen:
    """Load the layers of a file.

    Raises:
        ModelFileError: if it cannot be read, or holds no such layers.
    """
    tensors = files.read_tensors(path)
    named = {}
    for name, tensor in tensors.items():
        if match := _FUSER.fullmatch(name):
            named[f"{match[1]}_{0 if match[1] == 'middle' else match[2]}.{match[3]}"] = tensor
        elif name.startswith("position_net."):
            named[name] = tensor
    shapes = files.shapes(named)
    widths = {name.removesuffix(".linear.weight"): shape for name, shape in shapes.items() if name.endswith(".linear.weight")}
    text = shapes.get("position_net.null_positive_feature")
    if not text or not widths or any(len(shape) != 2 for shape in widths.values()):
        msg = "cannot load it as GLIGEN: it holds no gated attentions, or nothing that makes tokens of boxes"
        raise ModelFileError(msg, file=str(path), key="position_net.null_positive_feature")
    build = partial(_module, widths, text[0])
    return Gligen(weights.fill(build, named, file=str(path), part="GLIGEN layers", device=device, dtype=dtype))


def _module(widths: Mapping[str, tuple[int, ...]], text_width: int) -> Module:
    devices.prepare()
    from diffusers.models.attention import GatedSelfAttentionDense
    from diffusers.models.embeddings import GLIGENTextBoundingboxProjection
    from torch.nn import ModuleDict

    context = next(iter(widths.values()))[1]
    layers: dict[str, Any] = {
        name: weights.meta_module(GatedSelfAttentionDense, width, context, HEADS, width // HEADS)
        for name, (width, _) in widths.items()
    }
    layers["position_net"] = weights.meta_module(
        GLIGENTextBoundingboxProjection, text_width, context, fourier_freqs=FREQUENCIES
    )
    return ModuleDict(layers)
