"""Nodes that turn, cut, batch and blend pictures."""

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from engine.schema import Range, node
from engine.types import Image

if TYPE_CHECKING:
    from torch import Tensor

Size = Annotated[int, Range(1, 16384, step=1)]
Place = Annotated[int, Range(0, 16384, step=1)]

MEGAPIXEL = 1024 * 1024


class Measures(NamedTuple):
    """Size of pictures, and how many they are."""

    width: int
    height: int
    batch_size: int


@node("ImageFlip", title="ImageFlip", category="image/transform")
def flip(*, image: Image, flip_method: Literal["x-axis: vertically", "y-axis: horizontally"]) -> Image:
    """Mirror pictures.

    Args:
        image: The pictures.
        flip_method: Upside down, or left to right.
    """
    return Image(image.flip(1 if flip_method.startswith("x") else 2))


@node("ImageRotate", title="ImageRotate", category="image/transform")
def rotate(*, image: Image, rotation: Literal["none", "90 degrees", "180 degrees", "270 degrees"]) -> Image:
    """Turn pictures clockwise.

    Args:
        image: The pictures.
        rotation: By how much.
    """
    quarters = {"none": 0, "90 degrees": 1, "180 degrees": 2, "270 degrees": 3}[rotation]
    return Image(image.rot90(quarters, (2, 1)))


@node("ImageCrop", title="Image Crop", category="image/transform")
def crop(*, image: Image, width: Size = 512, height: Size = 512, x: Place = 0, y: Place = 0) -> Image:
    """Cut a rectangle out of pictures.

    Args:
        image: The pictures.
        width: Of the rectangle, in pixels.
        height: Of the rectangle, in pixels.
        x: Its left edge, in pixels; at least one pixel remains.
        y: Its top edge, in pixels; at least one pixel remains.
    """
    left, top = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    return Image(image[:, top : top + height, left : left + width])


@node("ImageScaleToTotalPixels", category="image/upscaling")
def scale_to_total(
    *,
    image: Image,
    upscale_method: Literal["nearest-exact", "bilinear", "area", "bicubic", "lanczos"],
    megapixels: Annotated[float, Range(0.01, 16.0, step=0.01)] = 1.0,
) -> Image:
    """Resize pictures to a number of pixels, in their aspect ratio.

    Args:
        image: The pictures.
        upscale_method: How values between pixels are found.
        megapixels: How many times 1024 x 1024 pixels.
    """
    from engine.media import resized

    height, width = image.shape[1:3]
    factor = (megapixels * MEGAPIXEL / (height * width)) ** 0.5
    return Image(resized(image.movedim(-1, 1), round(width * factor), round(height * factor), upscale_method).movedim(1, -1))


@node("RepeatImageBatch", title="RepeatImageBatch", category="image/batch")
def repeat(*, image: Image, amount: Annotated[int, Range(1, 4096)] = 1) -> Image:
    """Repeat a batch of pictures.

    Args:
        image: The pictures.
        amount: How many times they stand in the result.
    """
    return Image(image.repeat(amount, 1, 1, 1))


@node("ImageFromBatch", title="ImageFromBatch", category="image/batch")
def from_batch(
    *,
    image: Image,
    batch_index: Annotated[int, Range(0, 4095)] = 0,
    length: Annotated[int, Range(1, 4096)] = 1,
) -> Image:
    """Take some pictures out of a batch.

    Args:
        image: The batch.
        batch_index: The first one to take, from 0; beyond the end it is the last.
        length: How many to take; fewer where the batch ends.
    """
    first = min(batch_index, len(image) - 1)
    return Image(image[first : first + length])


@node("GetImageSize", title="Get Image Size", category="image")
def size_of(*, image: Image) -> Measures:
    """Measure pictures.

    Args:
        image: The pictures.
    """
    return Measures(image.shape[2], image.shape[1], image.shape[0])


@node("ImageBlend", category="image/postprocessing")
def blend(
    *,
    image1: Image,
    image2: Image,
    blend_factor: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.5,
    blend_mode: Literal["normal", "multiply", "screen", "overlay", "soft_light", "difference"],
) -> Image:
    """Lay one picture over another.

    Args:
        image1: What lies below; gives the size.
        image2: What lies on top; resized and cut to the size of the first.
        blend_factor: Share of the result of `blend_mode` against `image1`.
        blend_mode: How the two meet.

    Source: W3C Compositing and Blending Level 1, section 9.
    """
    from engine.media import resized

    below, above = image1, image2
    if below.shape[1:3] != above.shape[1:3]:
        height, width = below.shape[1:3]
        above = Image(resized(above.movedim(-1, 1), width, height, "bicubic", "center").movedim(1, -1))
    blended = _blended(below, above, blend_mode)
    return Image((below * (1.0 - blend_factor) + blended * blend_factor).clamp(0.0, 1.0))


def _blended(below: "Tensor", above: "Tensor", mode: str) -> "Tensor":
    if mode == "normal":
        return above
    if mode == "multiply":
        return below * above
    if mode == "screen":
        return 1.0 - (1.0 - below) * (1.0 - above)
    if mode == "overlay":
        return (2.0 * below * above).where(below <= 0.5, 1.0 - 2.0 * (1.0 - below) * (1.0 - above))
    if mode == "difference":
        return below - above
    bright = (((16.0 * below - 12.0) * below + 4.0) * below).where(below <= 0.25, below.sqrt())
    darkened = below - (1.0 - 2.0 * above) * below * (1.0 - below)
    return darkened.where(above <= 0.5, below + (2.0 * above - 1.0) * (bright - below))
