"""Laying pictures over each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from engine.media import resized

if TYPE_CHECKING:
    from torch import Tensor

Mode: TypeAlias = Literal[
    "ADD", "CLEAR", "DARKEN", "DST", "DST_ATOP", "DST_IN", "DST_OUT", "DST_OVER", "LIGHTEN", "MULTIPLY", "OVERLAY", "SCREEN",
    "SRC", "SRC_ATOP", "SRC_IN", "SRC_OUT", "SRC_OVER", "XOR",
]  # fmt: skip

NOTHING = 1e-5
"""Opacity up to which a pixel has no colour."""


def porter_duff(source: Tensor, source_alpha: Tensor, below: Tensor, below_alpha: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    """Compose two pictures with their opacities.

    Args:
        source: [B, H, W, C] colours in 0..1, not premultiplied.
        source_alpha: [B, H, W, 1] opacity in 0..1.
        below: The destination's colours, as `source`.
        below_alpha: The destination's opacity.
        mode: One of Porter and Duff's operators, or a blend: ADD, DARKEN, LIGHTEN, MULTIPLY, OVERLAY, SCREEN.

    Returns:
        Colours [B, H, W, C], black where nothing is, and opacity [B, H, W, 1].

    Source: Porter and Duff 1984, "Compositing digital images", table 1; the blends as Android's `PorterDuff.Mode` defines
        them, whose OVERLAY and MULTIPLY show nothing where only one of the pictures is.
    """
    a, b = source_alpha, below_alpha
    s, d = source * a, below * b
    colour, alpha = _meet(s, a, d, b, mode)
    return (colour / alpha).where(alpha > NOTHING, 0.0).clamp(0.0, 1.0), alpha


def _meet(s: Tensor, a: Tensor, d: Tensor, b: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    """Premultiplied colours `s` and `d` of opacities `a` and `b` composed."""
    shares: dict[str, tuple[float | Tensor, float | Tensor]] = {
        "CLEAR": (0.0, 0.0),
        "SRC": (1.0, 0.0),
        "DST": (0.0, 1.0),
        "SRC_OVER": (1.0, 1.0 - a),
        "DST_OVER": (1.0 - b, 1.0),
        "SRC_IN": (b, 0.0),
        "DST_IN": (0.0, a),
        "SRC_OUT": (1.0 - b, 0.0),
        "DST_OUT": (0.0, 1.0 - a),
        "SRC_ATOP": (b, 1.0 - a),
        "DST_ATOP": (1.0 - b, a),
        "XOR": (1.0 - b, 1.0 - a),
    }
    if mode in shares:
        of_source, of_below = shares[mode]
        return s * of_source + d * of_below, a * of_source + b * of_below
    if mode == "ADD":
        return (s + d).clamp(0.0, 1.0), (a + b).clamp(0.0, 1.0)
    if mode == "MULTIPLY":
        return s * d, a * b
    union = a + b - a * b
    if mode == "SCREEN":
        return s + d - s * d, union
    if mode == "OVERLAY":
        return (2.0 * s * d).where(2.0 * d < b, a * b - 2.0 * (b - s) * (a - d)), union
    darker = mode == "DARKEN"
    return s * (1.0 - b) + d * (1.0 - a) + (torch.minimum(s, d) if darker else torch.maximum(s, d)), union


def laid_over(below: Tensor, above: Tensor, *, left: int, top: int, mask: Tensor | None = None, resize: bool = False) -> Tensor:
    """`below` with `above` laid over it; what reaches beyond is cut off.

    Args:
        below: [B, C, H, W], or [B, C, F, H, W]; stays as it is.
        above: As `below`; repeated or cut to as many.
        left: Cells from the left edge of `below`.
        top: Cells from its upper edge.
        mask: [M, H', W'] in 0..1, resized to `above`: where it covers `below`. Everywhere when None.
        resize: Whether to resize `above` to `below` first.

    Returns:
        The shape of `below`.
    """
    count = len(below)
    above = above.to(below)
    if resize:
        above = _sized(above, below.shape[-2:])
    above = repeated(above, count)
    part = above[..., : max(0, below.shape[-2] - top), : max(0, below.shape[-1] - left)]
    high, wide = part.shape[-2:]
    result = below.clone()
    place = result[..., top : top + high, left : left + wide]
    if mask is None:
        place.copy_(part)
        return result
    planes = mask.reshape(-1, 1, *mask.shape[-2:]).to(below)
    fitted = torch.nn.functional.interpolate(planes, tuple(above.shape[-2:]), mode="bilinear")
    share = repeated(fitted, count)[..., :high, :wide].reshape(count, 1, *(1,) * (below.ndim - 4), high, wide)
    place.copy_(part * share + place * (1.0 - share))
    return result


def repeated(batch: Tensor, count: int) -> Tensor:
    """`batch` [B, ...] repeated or cut to `count` entries."""
    if len(batch) >= count:
        return batch[:count]
    return batch.repeat(-(-count // len(batch)), *(1,) * (batch.ndim - 1))[:count]


def fitted(x: Tensor, width: int, height: int) -> Tensor:
    """Pictures [B, H, W, C] resized by bicubic interpolation and cut to a size, unless they have it."""
    if tuple(x.shape[1:3]) == (height, width):
        return x
    return resized(x.movedim(-1, 1), width, height, "bicubic", "center").movedim(1, -1)


def _sized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """[B, C, ..., H, W] resized along its last two sides."""
    flat = x.flatten(2, -3) if x.ndim > 4 else x
    frames = flat.movedim(2, 1).flatten(0, 1) if x.ndim > 4 else x
    done = torch.nn.functional.interpolate(frames, tuple(size), mode="bilinear")
    return done.reshape(len(x), -1, x.shape[1], *size).movedim(1, 2) if x.ndim > 4 else done
