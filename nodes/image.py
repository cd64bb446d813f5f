"""Nodes that make pictures and change their size."""

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from engine.schema import Range, Widget, node
from engine.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor

ScaleMethod = Literal["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
Border = Annotated[int, Range(0, 16384, step=8)]
Side = Annotated[int, Range(0, 16384, step=1)]


class Padded(NamedTuple):
    """Pictures with a border, and where the border is."""

    IMAGE: Image
    MASK: Mask


@node("ImageScale", title="Upscale Image", category="image/upscaling")
def scale(
    *,
    image: Image,
    upscale_method: ScaleMethod,
    width: Side = 512,
    height: Side = 512,
    crop: Literal["disabled", "center"],
) -> Image:
    """Resize pictures.

    Args:
        image: The pictures.
        upscale_method: How values between pixels are found.
        width: New width in pixels; 0 keeps the aspect ratio.
        height: New height in pixels; 0 keeps the aspect ratio. Both 0 changes nothing.
        crop: Whether to cut the middle out where the aspect ratio changes, or to stretch.
    """
    from engine.media import resized

    if width == 0 and height == 0:
        return image
    rows, columns = image.shape[1:3]
    high = height or max(1, round(rows * width / columns))
    wide = width or max(1, round(columns * height / rows))
    return Image(resized(image.movedim(-1, 1), wide, high, upscale_method, crop).movedim(1, -1))


@node("ImageScaleBy", title="Upscale Image By", category="image/upscaling")
def scale_by_factor(
    *,
    image: Image,
    upscale_method: ScaleMethod,
    scale_by: Annotated[float, Range(0.01, 8.0, step=0.01)] = 1.0,
) -> Image:
    """Resize pictures by a factor.

    Args:
        image: The pictures.
        upscale_method: How values between pixels are found.
        scale_by: The factor.
    """
    from engine.media import resized

    rows, columns = image.shape[1:3]
    wide, high = round(columns * scale_by), round(rows * scale_by)
    return Image(resized(image.movedim(-1, 1), wide, high, upscale_method).movedim(1, -1))


@node("ImageInvert", title="Invert Image", category="image")
def invert(*, image: Image) -> Image:
    """Turn colours into their opposites.

    Args:
        image: The pictures.
    """
    return Image(1.0 - image)


@node("ImageBatch", title="Batch Images", category="image")
def batch(*, image1: Image, image2: Image) -> Image:
    """Put pictures into one batch.

    Args:
        image1: The first pictures; they give the size.
        image2: The others; resized and cut to that size.
    """
    import torch

    from engine.media import resized

    if image1.shape[-1] != image2.shape[-1]:
        msg = f"cannot batch pictures of {image1.shape[-1]} and of {image2.shape[-1]} channels"
        raise ValueError(msg)
    others: Tensor = image2
    if image1.shape[1:3] != image2.shape[1:3]:
        high, wide = image1.shape[1:3]
        others = resized(image2.movedim(-1, 1), wide, high, "bilinear", "center").movedim(1, -1)
    return Image(torch.cat((image1, others)))


@node("EmptyImage", title="EmptyImage", category="image")
def empty_image(
    *,
    width: Annotated[int, Range(1, 16384, step=1)] = 512,
    height: Annotated[int, Range(1, 16384, step=1)] = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
    color: Annotated[int, Range(0, 0xFFFFFF, step=1), Widget(display="color")] = 0,
) -> Image:
    """Pictures of one colour.

    Args:
        width: In pixels.
        height: In pixels.
        batch_size: How many.
        color: Red, green and blue as the three bytes of a number.
    """
    import torch

    rgb = torch.tensor([(color >> shift & 0xFF) / 255 for shift in (16, 8, 0)])
    return Image(rgb.expand(batch_size, height, width, 3).contiguous())


@node("ImagePadForOutpaint", title="Pad Image for Outpainting", category="image")
def pad_for_outpaint(
    *,
    image: Image,
    left: Border = 0,
    top: Border = 0,
    right: Border = 0,
    bottom: Border = 0,
    feathering: Side = 40,
) -> Padded:
    """Add a grey border to pictures, to be sampled.

    Args:
        image: The pictures.
        left: Width of the border on the left, in pixels.
        top: Height of the border above, in pixels.
        right: Width of the border on the right, in pixels.
        bottom: Height of the border below, in pixels.
        feathering: How far the mask reaches into the pictures, fading out, in pixels.
    """
    import torch

    count, height, width, channels = image.shape
    bordered = torch.full((count, height + top + bottom, width + left + right, channels), 0.5)
    bordered[:, top : top + height, left : left + width] = image
    inside = torch.zeros(height, width)
    if feathering > 0 and 2 * feathering < min(height, width):
        far = torch.full((1,), float(max(height, width)))
        rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
        distance = torch.minimum(
            torch.minimum(rows if top else far, height - rows if bottom else far),
            torch.minimum(columns if left else far, width - columns if right else far),
        )
        inside = ((feathering - distance) / feathering).clamp(min=0.0).square().expand(height, width)
    mask = torch.ones(1, bordered.shape[1], bordered.shape[2])
    mask[0, top : top + height, left : left + width] = inside
    return Padded(Image(bordered), Mask(mask))
