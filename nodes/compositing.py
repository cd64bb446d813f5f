"""Nodes that lay pictures and latents over each other, and handle transparency."""

from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

from engine.schema import Range, node
from engine.types import Image, Latent, Mask

CELL_PX = 8
"""Pixels of a picture for each latent cell, along one side, that ports count with."""


class Composed(NamedTuple):
    """Pictures without transparency, and where they are transparent."""

    IMAGE: Image
    MASK: Mask


@node("PorterDuffImageComposite", title="Porter-Duff Image Composite", category="mask/compositing")
def porter_duff_composite(
    *,
    source: Image,
    source_alpha: Mask,
    destination: Image,
    destination_alpha: Mask,
    mode: Literal[
        "ADD", "CLEAR", "DARKEN", "DST", "DST_ATOP", "DST_IN", "DST_OUT", "DST_OVER", "LIGHTEN", "MULTIPLY", "OVERLAY",
        "SCREEN", "SRC", "SRC_ATOP", "SRC_IN", "SRC_OUT", "SRC_OVER", "XOR",
    ] = "DST",
) -> Composed:  # fmt: skip
    """Compose two pictures by one of Porter and Duff's operators, or a blend.

    Args:
        source: What is laid over; resized and cut to the destination.
        source_alpha: Where the source is transparent.
        destination: What lies below.
        destination_alpha: Where the destination is transparent.
        mode: How the two meet.

    Returns:
        IMAGE: The colours; as many pictures as the shortest input has.
        MASK: Where the result is transparent.
    """
    from engine.pictures.compositing import fitted, porter_duff

    if source.shape[-1] != destination.shape[-1]:
        msg = f"cannot compose pictures of {source.shape[-1]} and of {destination.shape[-1]} channels"
        raise ValueError(msg)
    high, wide = destination.shape[1:3]
    parts = source, 1.0 - _plane(source_alpha), destination, 1.0 - _plane(destination_alpha)
    count = min(len(part) for part in parts)
    s, a, d, b = (fitted(part[:count], wide, high) for part in parts)
    colour, alpha = porter_duff(s, a, d, b, mode)
    return Composed(Image(colour), Mask(1.0 - alpha[..., 0]))


@node("SplitImageWithAlpha", title="Split Image with Alpha", category="mask/compositing")
def split_alpha(*, image: Image) -> Composed:
    """Take pictures apart into colours and transparency.

    Args:
        image: The pictures.

    Returns:
        IMAGE: The colours.
        MASK: Where the pictures are transparent; nowhere if they have no such channel.
    """
    import torch

    has_alpha = image.shape[-1] > 3
    return Composed(Image(image[..., :3]), Mask(1.0 - image[..., 3] if has_alpha else torch.zeros(image.shape[:3])))


@node("JoinImageWithAlpha", title="Join Image with Alpha", category="mask/compositing")
def join_alpha(*, image: Image, alpha: Mask) -> Image:
    """Make pictures transparent where a mask is set.

    Args:
        image: The pictures; transparency that they have is replaced.
        alpha: Where they become transparent; resized to them.
    """
    import torch

    size = tuple(image.shape[1:3])
    planes = torch.nn.functional.interpolate(alpha.reshape(-1, 1, *alpha.shape[-2:]), size, mode="bilinear")
    count = min(len(image), len(planes))
    return Image(torch.cat((image[:count, ..., :3], 1.0 - planes[:count].movedim(1, -1)), -1))


@node("ImageCompositeMasked", title="ImageCompositeMasked", category="image")
def composite_image(
    *,
    destination: Image,
    source: Image,
    x: Annotated[int, Range(0, 16384, step=1)] = 0,
    y: Annotated[int, Range(0, 16384, step=1)] = 0,
    resize_source: bool = False,
    mask: Mask | None = None,
) -> Image:
    """Lay pictures over others where a mask is set.

    Args:
        destination: What lies below.
        source: What is laid over; what reaches beyond is cut off.
        x: Left edge of the source, in pixels.
        y: Top edge of the source, in pixels.
        resize_source: Whether to resize the source to the destination.
        mask: Where the source is seen, resized to it; everywhere if not linked.
    """
    from engine.pictures.compositing import laid_over

    above = _with_channels(source, destination.shape[-1]).movedim(-1, 1)
    done = laid_over(destination.movedim(-1, 1), above, left=x, top=y, mask=mask, resize=resize_source)
    return Image(done.movedim(1, -1))


@node("LatentCompositeMasked", title="LatentCompositeMasked", category="latent")
def composite_latent(
    *,
    destination: Latent,
    source: Latent,
    x: Annotated[int, Range(0, 16384, step=8)] = 0,
    y: Annotated[int, Range(0, 16384, step=8)] = 0,
    resize_source: bool = False,
    mask: Mask | None = None,
) -> Latent:
    """Lay latents over others where a mask is set.

    Args:
        destination: What lies below.
        source: What is laid over; what reaches beyond is cut off.
        x: Left edge of the source, in pixels.
        y: Top edge of the source, in pixels.
        resize_source: Whether to resize the source to the destination.
        mask: Where the source is seen, resized to it; everywhere if not linked.
    """
    from engine.pictures.compositing import laid_over

    below, above = destination.samples, source.samples
    if below.shape[1] != above.shape[1] or below.ndim != above.ndim:
        msg = f"cannot lay a latent {list(above.shape)} over {list(below.shape)}: they are of different models"
        raise ValueError(msg)
    done = laid_over(below, above, left=x // CELL_PX, top=y // CELL_PX, mask=mask, resize=resize_source)
    return replace(destination, samples=done)


def _plane(mask: Mask) -> Image:
    """Masks [B, H, W] as pictures of one channel."""
    return Image(mask.reshape(-1, *mask.shape[-2:], 1))


def _with_channels(image: Image, count: int) -> Image:
    """Pictures with as many channels: transparency is dropped, or added as fully opaque; grey becomes coloured."""
    import torch

    if count > 1 and image.shape[-1] == 1:
        image = Image(image.expand(-1, -1, -1, 3))
    if count < image.shape[-1]:
        return Image(image[..., :count])
    if count > image.shape[-1]:
        return Image(torch.cat((image, torch.ones(*image.shape[:3], count - image.shape[-1])), -1))
    return image
