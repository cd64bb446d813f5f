"""Tiny upscaling networks with random weights, and what they compute, written down from the papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

FEATURES, GROWTH = 8, 32


def random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes, small enough that values stay near the range of pictures."""
    noise = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=noise) * (0.4 / max(1, shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.02)
        for name, shape in ((name, torch.Size(shape)) for name, shape in shapes.items())
    }


def convolution(name: str, given: int, out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, given, 3, 3), f"{name}.bias": (out,)}


def rrdb(blocks: int = 1) -> dict[str, Tensor]:
    """The weights of an ESRGAN that enlarges four times, as its authors name them."""
    shapes = convolution("conv_first", 3, FEATURES)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for i in range(5):
                out = GROWTH if i < 4 else FEATURES
                shapes |= convolution(f"body.{block}.rdb{dense}.conv{i + 1}", FEATURES + i * GROWTH, out)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        shapes |= convolution(name, FEATURES, FEATURES)
    weights = random(shapes | convolution("conv_last", FEATURES, 3))
    weights["conv_last.bias"] += 0.5
    return weights


def enlarged(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """[B, 3, H, W] enlarged four times: Wang et al. 2018, "ESRGAN", figure 4 and section 3.1."""

    def conv(name: str, y: Tensor) -> Tensor:
        return functional.conv2d(y, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def rise(y: Tensor) -> Tensor:
        return functional.leaky_relu(y, 0.2)

    first = y = conv("conv_first", x)
    for block in range(sum(name.endswith("rdb1.conv1.weight") for name in weights)):
        start = y
        for dense in (1, 2, 3):
            known = [y]
            for i in range(4):
                known.append(rise(conv(f"body.{block}.rdb{dense}.conv{i + 1}", torch.cat(known, 1))))
            y = y + 0.2 * conv(f"body.{block}.rdb{dense}.conv5", torch.cat(known, 1))
        y = start + 0.2 * y
    y = first + conv("conv_body", y)
    for name in ("conv_up1", "conv_up2"):
        y = rise(conv(name, functional.interpolate(y, scale_factor=2, mode="nearest")))
    return conv("conv_last", rise(conv("conv_hr", y))).clamp(0, 1)


def compact(channels: int = 3) -> dict[str, Tensor]:
    """The weights of a Real-ESRGAN Compact that enlarges twice: three convolutions."""
    shapes = convolution("body.0", channels, FEATURES) | {"body.1.weight": (FEATURES,)}
    shapes |= convolution("body.2", FEATURES, FEATURES) | {"body.3.weight": (FEATURES,)}
    return random(shapes | convolution("body.4", FEATURES, channels * 4))


def doubled(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """[B, C, H, W] enlarged twice: Wang et al. 2021, "Real-ESRGAN", the compact network of its code release."""
    y = x
    for i in (0, 2):
        y = functional.conv2d(y, weights[f"body.{i}.weight"], weights[f"body.{i}.bias"], padding=1)
        y = functional.prelu(y, weights[f"body.{i + 1}.weight"])
    y = functional.pixel_shuffle(functional.conv2d(y, weights["body.4.weight"], weights["body.4.bias"], padding=1), 2)
    return (y + functional.interpolate(x, scale_factor=2, mode="nearest")).clamp(0, 1)
