"""Colours: brightness apart from hue, and pictures of few colours."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from engine.media import to_pil

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in brightness: ITU-R BT.601."""

TO_CB, TO_CR = 0.564, 0.713
"""Scale of blue and red minus brightness."""

Dither: TypeAlias = Literal["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"]


def to_ycbcr(rgb: Tensor) -> Tensor:
    """Brightness, blueness and redness, the latter two around 0.5.

    Args:
        rgb: [..., C] in 0..1, C at least 3.

    Returns:
        [..., 3].

    Source: ITU-R BT.601.
    """
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    brightness = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return torch.stack((brightness, (blue - brightness) * TO_CB + 0.5, (red - brightness) * TO_CR + 0.5), -1)


def of_ycbcr(ycbcr: Tensor) -> Tensor:
    """The inverse of `to_ycbcr`, within 0..1.

    Args:
        ycbcr: [..., 3].
    """
    brightness = ycbcr[..., 0]
    blue, red = brightness + (ycbcr[..., 1] - 0.5) / TO_CB, brightness + (ycbcr[..., 2] - 0.5) / TO_CR
    green = (brightness - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    return torch.stack((red, green, blue), -1).clamp(0.0, 1.0)


def quantized(image: Tensor, colours: int, dither: Dither) -> Tensor:
    """Pictures in few colours, chosen for each picture by median cut.

    Args:
        image: [B, H, W, C] in 0..1, C is 1, 3 or 4; transparency is dropped.
        colours: How many at most, 1..256.
        dither: How colours between are shown: not at all, by passing the error on (Floyd and Steinberg), or by a
            pattern of so many pixels a side (Bayer).

    Returns:
        [B, H, W, 3] float32 in 0..1.

    Source: Heckbert 1982, Floyd and Steinberg 1976; Bayer 1973, "An optimum method for two-level rendition of
        continuous-tone pictures".
    """
    return torch.stack([_quantized(to_pil(picture[..., :3]).convert("RGB"), colours, dither) for picture in image])


def _quantized(picture: PIL.Image.Image, colours: int, dither: Dither) -> Tensor:
    palette = picture.quantize(colours)
    if dither.startswith("bayer-"):
        picture = _patterned(picture, int(dither.removeprefix("bayer-")), 2 * 256 / colours)
    spreads = PIL.Image.Dither.FLOYDSTEINBERG if dither == "floyd-steinberg" else PIL.Image.Dither.NONE
    chosen = picture.quantize(palette=palette, dither=spreads).convert("RGB")
    return torch.from_numpy(np.array(chosen).astype(np.float32) / 255.0)


def _patterned(picture: PIL.Image.Image, side: int, strength: float) -> PIL.Image.Image:
    """`picture` with a pattern of -0.5..0.5 times `strength` steps of brightness added."""
    pattern = strength * ((bayer(side) + 0.5) / side**2 - 0.5) + 0.5
    pixels = np.array(picture).astype(np.float32)
    height, width = pixels.shape[:2]
    tiled = np.tile(pattern, (-(-height // side), -(-width // side)))[:height, :width, None]
    return PIL.Image.fromarray((pixels + tiled).clip(0, 255).astype(np.uint8))


def bayer(side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Bayer's order of thresholds: [side, side], every number below side² once; `side` is a power of two."""
    if side == 1:
        return np.zeros((1, 1), np.int64)
    inner = 4 * bayer(side // 2)
    return np.block([[inner, inner + 2], [inner + 3, inner + 1]])
