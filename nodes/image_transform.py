"""Nodes that turn, cut, batch and blend pictures."""

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

from engine.schema import Choice, Range, node
from engine.types import Image

if TYPE_CHECKING:
    from torch import Tensor

    from engine.media import Method

Size = Annotated[int, Range(1, 16384, step=1)]
Side = Annotated[int, Range(0, 16384, step=1)]
Place = Annotated[int, Range(0, 16384, step=1)]

MEGAPIXEL = 1024 * 1024

PAINTS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}
"""Colours of space between pictures."""


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


@node("ImageScaleToMaxDimension", title="ImageScaleToMaxDimension", category="image/upscaling")
def scale_to_largest(
    *,
    image: Image,
    upscale_method: Annotated[str, Choice(("area", "lanczos", "bilinear", "nearest-exact", "bilinear", "bicubic"))],
    largest_size: Side = 512,
) -> Image:
    """Resize pictures until their longer side has a length, in their aspect ratio.

    Args:
        image: The pictures.
        upscale_method: How values between pixels are found.
        largest_size: Of the longer side, in pixels.
    """
    from engine.media import resized

    if largest_size == 0:
        msg = "cannot resize pictures to a largest size of 0 pixels"
        raise ValueError(msg)
    height, width = image.shape[1:3]
    longer = max(height, width)
    high, wide = (max(1, round(side / longer * largest_size)) for side in (height, width))
    return Image(resized(image.movedim(-1, 1), wide, high, cast("Method", upscale_method)).movedim(1, -1))


@node("ResizeAndPadImage", title="ResizeAndPadImage", category="image/transform")
def resize_and_pad(
    *,
    image: Image,
    target_width: Size = 512,
    target_height: Size = 512,
    padding_color: Literal["white", "black"],
    interpolation: Literal["area", "bicubic", "nearest-exact", "bilinear", "lanczos"],
) -> Image:
    """Resize pictures to fit inside a size, in their aspect ratio, and fill the rest with a border.

    Args:
        image: The pictures; they end up in the middle.
        target_width: Of the result, in pixels.
        target_height: Of the result, in pixels.
        padding_color: Of the border.
        interpolation: How values between pixels are found.
    """
    import torch

    from engine.media import resized

    height, width = image.shape[1:3]
    factor = min(target_width / width, target_height / height)
    wide, high = max(1, int(width * factor)), max(1, int(height * factor))
    small = resized(image.movedim(-1, 1), wide, high, interpolation).movedim(1, -1)
    left, top = (target_width - wide) // 2, (target_height - high) // 2
    shade = PAINTS[padding_color][0]
    result = torch.full((len(image), target_height, target_width, image.shape[-1]), shade)
    result[:, top : top + high, left : left + wide] = small
    return Image(result)


@node("ImageStitch", title="Image Stitch", category="image/transform")
def stitch(
    *,
    image1: Image,
    direction: Literal["right", "down", "left", "up"] = "right",
    match_image_size: bool = True,
    spacing_width: Annotated[int, Range(0, 1024, step=2)] = 0,
    spacing_color: Literal["white", "black", "red", "green", "blue"] = "white",
    image2: Image | None = None,
) -> Image:
    """Put pictures beside each other.

    Args:
        image1: The first pictures.
        direction: Where the second ones go.
        match_image_size: Whether to resize the second ones so that the sides that meet are of one length; otherwise the
            shorter side gets a border of the spacing's white or black.
        spacing_width: Width of the space between them, in pixels; the next even number.
        spacing_color: Of the space.
        image2: The second pictures; without them the first pass as they are.
    """
    import torch

    if image2 is None:
        return image1
    across = direction in {"left", "right"}
    one, two = _alike(image1, image2)
    along, side = (2, 1) if across else (1, 2)
    if match_image_size:
        two = _with_side(two, one.shape[1], one.shape[2], across=across)
    else:
        border = PAINTS[spacing_color][0] if spacing_color in {"white", "black"} else 0.0
        longest = max(one.shape[side], two.shape[side])
        one, two = _bordered(one, side, longest, border), _bordered(two, side, longest, border)
    parts = [one, two] if direction in {"right", "down"} else [two, one]
    if spacing_width:
        paint = torch.tensor((*PAINTS[spacing_color], 1.0))[: one.shape[-1]]
        shape = list(one.shape)
        shape[along] = spacing_width + spacing_width % 2
        parts.insert(1, paint.expand(shape))
    return Image(torch.cat(parts, along))


@node("RebatchImages", title="Rebatch Images", category="image/batch")
def rebatch(*, images: list[Image], batch_size: Annotated[int, Range(1, 4096)] = 1) -> list[Image]:
    """Regroup pictures into batches of a size.

    Args:
        images: A list of batches.
        batch_size: How many pictures a batch holds; fewer where the list ends, or where pictures of another size follow.

    Returns:
        IMAGE: The batches as a list.
    """
    from itertools import groupby

    import torch

    batches = []
    for _, alike in groupby(images, lambda batch: batch.shape[1:]):
        group = torch.cat(list(alike))
        batches += [Image(group[start : start + batch_size]) for start in range(0, len(group), batch_size)]
    return batches


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
    batch_index: Annotated[int, Range(-4096, 4095)] = 0,
    length: Annotated[int, Range(1, 4096)] = 1,
) -> Image:
    """Take some pictures out of a batch.

    Args:
        image: The batch.
        batch_index: The first one to take, from 0; beyond the end it is the last; negative counts from the end.
        length: How many to take; fewer where the batch ends.
    """
    first = max(0, batch_index + len(image)) if batch_index < 0 else min(batch_index, len(image) - 1)
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


def _alike(one: Image, two: Image) -> "tuple[Tensor, Tensor]":
    """Two batches with as many pictures and channels: the last picture is repeated, missing channels are 1."""
    import torch

    count, channels = max(len(one), len(two)), max(one.shape[-1], two.shape[-1])

    def grown(batch: "Tensor") -> "Tensor":
        long = torch.cat((batch, batch[-1:].expand(count - len(batch), -1, -1, -1)))
        return torch.cat((long, torch.ones(*long.shape[:3], channels - long.shape[-1])), -1)

    return grown(one), grown(two)


def _with_side(pictures: "Tensor", height: int, width: int, *, across: bool) -> "Tensor":
    """Pictures resized in their aspect ratio to a height, or to a width where they do not stand beside each other."""
    from engine.media import resized

    aspect = pictures.shape[2] / pictures.shape[1]
    wide, high = (int(height * aspect), height) if across else (width, int(width / aspect))
    return resized(pictures.movedim(-1, 1), max(1, wide), max(1, high), "lanczos").movedim(1, -1)


def _bordered(pictures: "Tensor", axis: int, size: int, shade: float) -> "Tensor":
    """Pictures with an even border on both ends of an axis, the odd pixel at the end."""
    import torch

    before = (size - pictures.shape[axis]) // 2
    after = size - pictures.shape[axis] - before
    pad = (0, 0, 0, 0, before, after) if axis == 1 else (0, 0, before, after)
    return torch.nn.functional.pad(pictures, pad, value=shade)
