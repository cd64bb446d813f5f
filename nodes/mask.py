"""Nodes that make masks and turn them into pictures and back."""

from typing import Annotated, Literal

from engine.schema import Range, node
from engine.types import Image, Mask


@node("SolidMask", title="SolidMask", category="mask")
def solid(
    *,
    value: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0,
    width: Annotated[int, Range(1, 16384, step=1)] = 512,
    height: Annotated[int, Range(1, 16384, step=1)] = 512,
) -> Mask:
    """A mask of one value.

    Args:
        value: 1 is set, 0 is not.
        width: In pixels.
        height: In pixels.
    """
    import torch

    return Mask(torch.full((1, height, width), value))


@node("InvertMask", title="InvertMask", category="mask")
def invert(*, mask: Mask) -> Mask:
    """Exchange what is set and what is not.

    Args:
        mask: The mask.
    """
    return Mask(1.0 - mask)


@node("MaskToImage", title="Convert Mask to Image", category="mask")
def to_image(*, mask: Mask) -> Image:
    """Show masks as grey pictures.

    Args:
        mask: The masks; 1 becomes white.
    """
    return Image(mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3).contiguous())


@node("ImageToMask", title="Convert Image to Mask", category="mask")
def of_image(*, image: Image, channel: Literal["red", "green", "blue", "alpha"]) -> Mask:
    """Take one channel of pictures as masks.

    Args:
        image: The pictures.
        channel: Which channel; pictures without transparency have no `alpha`.
    """
    index = ("red", "green", "blue", "alpha").index(channel)
    if index >= image.shape[-1]:
        msg = f"cannot take the {channel} channel of pictures that have {image.shape[-1]} channels"
        raise ValueError(msg)
    return Mask(image[..., index])
