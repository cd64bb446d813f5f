"""Nodes that make masks and turn them into pictures and back."""

from typing import Annotated, Literal

from engine.schema import Range, Widget, node
from engine.types import Image, Mask

Size = Annotated[int, Range(1, 16384, step=1)]
Place = Annotated[int, Range(0, 16384, step=1)]


@node("SolidMask", title="SolidMask", category="mask")
def solid(
    *,
    value: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0,
    width: Size = 512,
    height: Size = 512,
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


@node("ImageColorToMask", title="ImageColorToMask", category="mask")
def of_colour(*, image: Image, color: Annotated[int, Range(0, 0xFFFFFF, step=1), Widget(display="color")] = 0) -> Mask:
    """Set a mask where pictures have a colour.

    Args:
        image: The pictures.
        color: Red, green and blue as the three bytes of a number.
    """
    import torch

    levels = (image[..., :3].clamp(0.0, 1.0) * 255.0).round().to(torch.int64)
    wanted = torch.tensor([color >> shift & 0xFF for shift in (16, 8, 0)])
    return Mask((levels == wanted).all(-1).float())


@node("CropMask", title="CropMask", category="mask")
def crop(*, mask: Mask, x: Place = 0, y: Place = 0, width: Size = 512, height: Size = 512) -> Mask:
    """Cut a rectangle out of masks.

    Args:
        mask: The masks.
        x: Its left edge, in pixels.
        y: Its top edge, in pixels.
        width: Of the rectangle, in pixels.
        height: Of the rectangle, in pixels.
    """
    planes = mask.reshape(-1, *mask.shape[-2:])
    return Mask(planes[:, y : y + height, x : x + width])


@node("MaskComposite", title="MaskComposite", category="mask")
def composite(
    *,
    destination: Mask,
    source: Mask,
    x: Place = 0,
    y: Place = 0,
    operation: Literal["multiply", "add", "subtract", "and", "or", "xor"],
) -> Mask:
    """Change a part of a mask by another.

    Args:
        destination: The mask to change.
        source: What it is changed by.
        x: Left edge of the part, in pixels.
        y: Top edge of the part, in pixels.
        operation: How the two meet; `and`, `or` and `xor` round them first.
    """
    import torch

    result = destination.reshape(-1, *destination.shape[-2:]).clone()
    other = source.reshape(-1, *source.shape[-2:])
    part = result[:, y : y + other.shape[1], x : x + other.shape[2]]
    other = other[:, : part.shape[1], : part.shape[2]]
    if operation == "multiply":
        part.mul_(other)
    elif operation == "add":
        part.add_(other)
    elif operation == "subtract":
        part.sub_(other)
    else:
        meet = {"and": torch.logical_and, "or": torch.logical_or, "xor": torch.logical_xor}[operation]
        part.copy_(meet(part.round(), other.round()).float())
    return Mask(result.clamp(0.0, 1.0))


@node("GrowMask", title="GrowMask", category="mask")
def grow(*, mask: Mask, expand: Annotated[int, Range(-16384, 16384, step=1)] = 0, tapered_corners: bool = True) -> Mask:
    """Make masks wider or narrower.

    Args:
        mask: The masks.
        expand: By how many pixels; negative makes them narrower.
        tapered_corners: Whether corners stay rounded.
    """
    import torch

    sign = 1.0 if expand >= 0 else -1.0
    planes = mask.reshape(-1, 1, *mask.shape[-2:]) * sign
    for _ in range(abs(expand)):
        if tapered_corners:
            down = torch.nn.functional.max_pool2d(planes, (3, 1), 1, (1, 0))
            planes = torch.maximum(down, torch.nn.functional.max_pool2d(planes, (1, 3), 1, (0, 1)))
        else:
            planes = torch.nn.functional.max_pool2d(planes, 3, 1, 1)
    return Mask(planes[:, 0] * sign)


@node("FeatherMask", title="FeatherMask", category="mask")
def feather(*, mask: Mask, left: Place = 0, top: Place = 0, right: Place = 0, bottom: Place = 0) -> Mask:
    """Let masks fade out at their edges.

    Args:
        mask: The masks.
        left: Width of the ramp on the left, in pixels.
        top: Height of the ramp above, in pixels.
        right: Width of the ramp on the right, in pixels.
        bottom: Height of the ramp below, in pixels.
    """
    import torch

    planes = mask.reshape(-1, *mask.shape[-2:])
    height, width = planes.shape[-2:]

    def ramp(size: int, at_start: int, at_end: int) -> torch.Tensor:
        # A ramp is as long as the mask at most.
        at_start, at_end = min(at_start, size), min(at_end, size)
        weights = torch.ones(size)
        weights[:at_start] *= torch.arange(1, at_start + 1) / max(at_start, 1)
        # The reference counts -0, -1, -2, ... from the end: the lowest weight falls on the first row or column.
        places = -torch.arange(at_end) % size
        weights[places] *= torch.arange(1, at_end + 1) / max(at_end, 1)
        return weights

    return Mask(planes * ramp(height, top, bottom)[:, None] * ramp(width, left, right)[None, :])


@node("ThresholdMask", title="ThresholdMask", category="mask")
def threshold(*, mask: Mask, value: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.5) -> Mask:
    """Set masks fully where they are above a value, and nowhere else.

    Args:
        mask: The masks.
        value: The value.
    """
    return Mask((mask > value).float())
