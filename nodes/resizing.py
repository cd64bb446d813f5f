"""Nodes that bring pictures and masks to a size, and that choose sizes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeVar, cast

from engine.schema import Growing, Range, Widget, node, option
from engine.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor

MEGAPIXEL = 1024 * 1024

PictureOrMask = TypeVar("PictureOrMask", Image, Mask)
Side = Annotated[int, Range(0, 8192, step=1)]
Crop = Literal["disabled", "center"]
Method = Literal["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]

ASPECTS = {
    "1:1 (Square)": (1, 1),
    "2:3 (Portrait Photo)": (2, 3),
    "3:2 (Photo)": (3, 2),
    "3:4 (Portrait Standard)": (3, 4),
    "4:3 (Standard)": (4, 3),
    "9:16 (Portrait Widescreen)": (9, 16),
    "16:9 (Widescreen)": (16, 9),
    "21:9 (Ultrawide)": (21, 9),
}
"""What `ResolutionSelector` offers: name to width and height."""


class Resolution(NamedTuple):
    """A size in pixels."""

    width: int
    height: int


class Resized(NamedTuple, Generic[PictureOrMask]):
    """Pictures or masks of a new size."""

    resized: PictureOrMask


class Pictures(NamedTuple):
    """Pictures."""

    images: Image


@option("scale dimensions")
class Dimensions(NamedTuple):
    """To a width and a height.

    Attributes:
        width: In pixels; 0 follows from the height.
        height: In pixels; 0 follows from the width.
        crop: `center` cuts to the new aspect ratio first, `disabled` stretches.
    """

    width: Side = 512
    height: Side = 512
    crop: Crop = "center"


@option("scale by multiplier")
class Multiplier(NamedTuple):
    """As many times as large.

    Attributes:
        multiplier: How many times, along each side.
    """

    multiplier: Annotated[float, Range(0.01, 8.0, step=0.01)] = 1.0


@option("scale longer dimension")
class Longer(NamedTuple):
    """Until the longer side has a length.

    Attributes:
        longer_size: Of the longer side, in pixels.
    """

    longer_size: Side = 512


@option("scale shorter dimension")
class Shorter(NamedTuple):
    """Until the shorter side has a length.

    Attributes:
        shorter_size: Of the shorter side, in pixels.
    """

    shorter_size: Side = 512


@option("scale width")
class Width(NamedTuple):
    """To a width, in their aspect ratio.

    Attributes:
        width: In pixels.
    """

    width: Side = 512


@option("scale height")
class Height(NamedTuple):
    """To a height, in their aspect ratio.

    Attributes:
        height: In pixels.
    """

    height: Side = 512


@option("scale total pixels")
class Total(NamedTuple):
    """To a number of pixels, in their aspect ratio.

    Attributes:
        megapixels: How many times 1024 x 1024 pixels.
    """

    megapixels: Annotated[float, Range(0.01, 16.0, step=0.01)] = 1.0


@option("match size")
class Match(NamedTuple):
    """To the size of others.

    Attributes:
        match: Pictures or masks of that size.
        crop: `center` cuts to the new aspect ratio first, `disabled` stretches.
    """

    match: Image | Mask
    crop: Crop = "center"


@option("scale to multiple")
class Multiple(NamedTuple):
    """To sides that a number divides, at most as long as before; what is too much for the aspect ratio is cut off evenly.

    Attributes:
        multiple: The number.
    """

    multiple: Annotated[int, Range(1, 8192, step=1)] = 8


Way = Dimensions | Multiplier | Longer | Shorter | Width | Height | Total | Match | Multiple


@node("ResizeImageMaskNode", title="Resize Image/Mask", category="transform")
def resize(*, input: PictureOrMask, resize_type: Way, scale_method: Method = "area") -> Resized[PictureOrMask]:  # noqa: A002 - as workflows say
    """Resize pictures or masks.

    Args:
        input: The pictures or masks.
        resize_type: What decides their new size.
        scale_method: How values between pixels are found; `lanczos` goes through 8 bits.

    Returns:
        resized: What came in, in its new size.
    """
    from engine.media import resized

    is_picture = input.ndim == 4
    samples: Tensor = input.movedim(-1, 1) if is_picture else input[:, None]
    size = measured(samples.shape[3], samples.shape[2], resize_type)
    if min(size) < 1:
        msg = f"cannot resize to {size[0]} x {size[1]} pixels"
        raise ValueError(msg)
    crop = "center" if isinstance(resize_type, Multiple) else getattr(resize_type, "crop", "disabled")
    found = resized(samples, *size, scale_method, crop)
    return Resized(cast("PictureOrMask", found.movedim(1, -1) if is_picture else found[:, 0]))


def measured(width: int, height: int, way: Way) -> Resolution:
    """The new size of pictures of `width` x `height` pixels."""
    match way:
        case Dimensions(0, 0):
            return Resolution(width, height)
        case Dimensions(wide, high):
            return Resolution(wide or max(1, round(width * high / height)), high or max(1, round(height * wide / width)))
        case Match(other):
            shape = other.shape
            return Resolution(shape[2], shape[1])
        case Multiple(step):
            return Resolution(width // step * step, height // step * step)
        case Multiplier(factor):
            return Resolution(round(width * factor), round(height * factor))
        case Total(megapixels):
            factor = (megapixels * MEGAPIXEL / (width * height)) ** 0.5
            return Resolution(round(width * factor), round(height * factor))
        case Longer(size):
            is_wide = width >= height
        case Shorter(size):
            is_wide = width < height
        case Width(size) | Height(size):
            is_wide = isinstance(way, Width)
    return Resolution(size, round(height * size / width)) if is_wide else Resolution(round(width * size / height), size)


@node("ResolutionSelector", title="Resolution Selector", category="utils")
def resolution(
    *,
    aspect_ratio: Literal[
        "1:1 (Square)",
        "2:3 (Portrait Photo)",
        "3:2 (Photo)",
        "3:4 (Portrait Standard)",
        "4:3 (Standard)",
        "9:16 (Portrait Widescreen)",
        "16:9 (Widescreen)",
        "21:9 (Ultrawide)",
    ] = "1:1 (Square)",
    megapixels: Annotated[float, Range(0.1, 16.0, step=0.1)] = 1.0,
    multiple: Annotated[int, Range(8, 128, step=4)] = 8,
) -> Resolution:
    """Choose a size by aspect ratio and number of pixels.

    Args:
        aspect_ratio: Width to height.
        megapixels: How many times 1024 x 1024 pixels, about.
        multiple: Both sides are the nearest multiple of this.

    Returns:
        width: In pixels.
        height: In pixels.
    """
    wide, high = ASPECTS[aspect_ratio]
    unit = (megapixels * MEGAPIXEL / (wide * high)) ** 0.5
    return Resolution(*(max(1, round(side * unit / multiple)) * multiple for side in (wide, high)))


@node("ResizeImagesByLongerEdge", title="Resize Images by Longer Edge", category="image/transform", deprecated=True)
def resize_longer(*, images: Image, longer_edge: Annotated[int, Range(1, 8192)] = 1024) -> Pictures:
    """Resize pictures until their longer side has a length.

    Args:
        images: The pictures.
        longer_edge: Of the longer side, in pixels.
    """
    return Pictures(resize(input=images, resize_type=Longer(longer_edge), scale_method="lanczos").resized)


@node("BatchImagesNode", title="Batch Images", category="image")
def batch(*, images: Annotated[Mapping[str, Image], Growing("image")]) -> Image:
    """Put pictures into one batch.

    Args:
        images: The pictures. The first ones give the size; others are resized and cut to it. Where some are transparent, the
            others become opaque ones of four channels.
    """
    import torch

    from engine.media import resized

    batches: list[Tensor] = list(images.values())
    high, wide = batches[0].shape[1:3]
    channels = max(one.shape[-1] for one in batches)
    alike = []
    for one in batches:
        sized = one
        if one.shape[1:3] != (high, wide):
            sized = resized(one.movedim(-1, 1), wide, high, "bilinear", "center").movedim(1, -1)
        if sized.shape[-1] == 1 < channels:
            sized = sized.expand(-1, -1, -1, min(channels, 3))
        alike.append(torch.cat((sized, torch.ones(*sized.shape[:3], channels - sized.shape[-1])), -1))
    return Image(torch.cat(alike))


@node("ImageCropV2", title="Crop Image", category="image/transform")
def crop(*, image: Image, crop_region: Annotated[Any, Widget(widgetType="BOUNDING_BOX")]) -> Image:
    """Cut a rectangle out of pictures.

    Args:
        image: The pictures.
        crop_region: Its `x`, `y`, `width` and `height` in pixels; what lies outside the pictures is left out, and at least one
            pixel remains.
    """
    try:
        x, y, width, height = (int(crop_region[name]) for name in ("x", "y", "width", "height"))
    except (TypeError, KeyError, ValueError) as cause:
        msg = f"cannot crop to {crop_region!r:.80}: it has no x, y, width and height"
        raise ValueError(msg) from cause
    left, top = min(max(x, 0), image.shape[2] - 1), min(max(y, 0), image.shape[1] - 1)
    return Image(image[:, top : top + max(height, 1), left : left + max(width, 1)])
