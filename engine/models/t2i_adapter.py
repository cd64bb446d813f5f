"""T2I-adapters: networks that make features of a picture, once, which are added on the way down of a denoising network.

Source: Mou et al. 2023, arXiv:2302.08453.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from engine import devices
from engine.errors import ModelFileError
from engine.media import resized
from engine.models import weights
from engine.models.control import FACTOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor
    from torch.nn import Module

    from engine.models.network import DiffusionModel
    from engine.models.unet import Residuals

SD1_PLACES = (2, 5, 8, 11)
SDXL_PLACES = (3, 5, 8)
"""Numbers of the input blocks that features are added after."""

ORIGINAL_BLOCKS = 2
"""Residual blocks of each level in the original layout, which counts them through."""


@dataclass(frozen=True, eq=False)
class T2IAdapter:
    """A T2I-adapter. Immutable.

    Attributes:
        family: Family of the networks that it was made for.
        weights: Its tensors.
        channels: C of the picture that it is shown; it is grey where that is 1.
        unshuffle: Pixels that become one cell of its first features, along one side.
    """

    port_type: ClassVar[str] = "CONTROL_NET"

    family: str
    weights: weights.Weights
    channels: int
    unshuffle: int

    @property
    def source(self) -> str:
        """The file that it came from."""
        return self.weights.source

    @property
    def kinds(self) -> int:
        """How many kinds of picture it tells apart: it knows one."""
        return 0

    def with_kind(self, kind: int | None) -> T2IAdapter:  # noqa: ARG002 - it knows one kind
        """This adapter: it takes no notice."""
        return self

    def upon(self, model: DiffusionModel) -> T2IAdapter:  # noqa: ARG002 - every model alike
        """Itself."""
        return self

    def shown(self, image: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
        """Its features, one for each level."""
        height, width = (-(-side * FACTOR // self.unshuffle) * self.unshuffle for side in (height, width))
        picture = resized(image, width, height, "nearest-exact", "center")
        if self.channels == 1:
            picture = picture.mean(1, keepdim=True)
        features = self.weights.network(picture.to(self.weights.device, self.weights.dtype))
        return tuple(features)

    def residuals(
        self,
        shown: tuple[Tensor, ...],
        x: Tensor,
        timestep: Tensor,  # noqa: ARG002 - an adapter sees the picture alone
        context: Tensor,  # noqa: ARG002
        vector: Tensor | None,  # noqa: ARG002
    ) -> Residuals:
        """Its features, after the last block of each level; those of SDXL start at the second and end in the middle."""
        from engine.models.unet import Residuals

        shown = tuple(feature.expand(x.shape[0], -1, -1, -1) for feature in shown)
        ends_in_middle = self.family == "sdxl"
        by_block = dict(zip(SDXL_PLACES if ends_in_middle else SD1_PLACES, shown, strict=False))
        added = tuple(by_block.get(n) for n in range(max(by_block) + 1))
        return Residuals(input=added, middle=shown[-1] if ends_in_middle else None)


def of_tensors(
    tensors: Mapping[str, Tensor], family: str, *, file: str, device: torch.device, dtype: torch.dtype
) -> T2IAdapter:
    """The adapter of `tensors`, in the original layout or in diffusers'.

    Raises:
        ModelFileError: if they do not make one.
    """
    named = {name.removeprefix("adapter."): tensor for name, tensor in tensors.items()}
    is_light = "conv_in.weight" not in named
    entry = named.get("body.0.in_conv.weight" if is_light else "conv_in.weight")
    if entry is None or entry.ndim != 4:
        raise ModelFileError("cannot load the adapter: its first convolution is missing", file=file, key="conv_in.weight")
    unshuffle = 16 if family == "sdxl" else 8
    channels = int(entry.shape[1]) // unshuffle**2
    named, sizes = _light_names(named) if is_light else _full_names(named, int(entry.shape[0]))
    build = partial(_module, is_light, family, {**sizes, "in_channels": channels, "downscale_factor": unshuffle})
    filled = weights.fill(build, named, file=file, part="adapter", device=device, dtype=dtype)
    return T2IAdapter(family, filled, channels, unshuffle)


def _module(is_light: bool, family: str, config: dict[str, Any]) -> Module:  # noqa: FBT001 - bound by position
    devices.prepare()
    from diffusers.models.adapter import FullAdapter, FullAdapterXL, LightAdapter

    kind = LightAdapter if is_light else FullAdapterXL if family == "sdxl" else FullAdapter
    return weights.meta_module(kind, **config)


def _full_names(named: Mapping[str, Tensor], width: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Names in diffusers' layout, and sizes; the original counts the residual blocks of all levels through."""
    numbers = {int(m[1]) for name in named if (m := re.match(r"body\.(\d+)\.block1\.", name))}
    if numbers:
        each = ORIGINAL_BLOCKS
        renamed = {}
        for name, tensor in named.items():
            if (match := re.fullmatch(r"body\.(\d+)\.(in_conv|block\d)\.(\w+)", name)) is None:
                renamed[name] = tensor
                continue
            level, place = divmod(int(match[1]), each)
            inner = match[2] if match[2] == "in_conv" else f"resnets.{place}.{match[2]}"
            renamed[f"body.{level}.{inner}.{match[3]}"] = tensor
        named = renamed
    levels = 1 + max((int(m[1]) for name in named if (m := re.match(r"body\.(\d+)\.", name))), default=0)
    widths = [named[key].shape[0] if (key := f"body.{i}.resnets.0.block1.weight") in named else width for i in range(levels)]
    blocks = len({m[1] for name in named if (m := re.match(r"body\.0\.resnets\.(\d+)\.", name))})
    return dict(named), {"channels": widths, "num_res_blocks": blocks}


def _light_names(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same for adapters with a narrow path at each level."""
    renamed = {re.sub(r"^(body\.\d+)\.body\.", r"\1.resnets.", name): tensor for name, tensor in named.items()}
    levels = 1 + max((int(m[1]) for name in renamed if (m := re.match(r"body\.(\d+)\.", name))), default=0)
    widths = [renamed[key].shape[0] for i in range(levels) if (key := f"body.{i}.out_conv.weight") in renamed]
    blocks = len({m[1] for name in renamed if (m := re.match(r"body\.0\.resnets\.(\d+)\.", name))})
    return renamed, {"channels": widths[:-1], "num_res_blocks": blocks}
