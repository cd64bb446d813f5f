"""Nodes that filter pictures: blur, edges, shapes, colours, noise."""

from typing import Annotated, Literal, NamedTuple

from engine.schema import Range, Widget, node
from engine.types import Image

Radius = Annotated[int, Range(1, 31, step=1)]


class Components(NamedTuple):
    """Brightness and hue of pictures, each as a grey picture."""

    Y: Image
    U: Image
    V: Image


@node("ImageBlur", category="image/postprocessing")
def blur(*, image: Image, blur_radius: Radius = 1, sigma: Annotated[float, Range(0.1, 10.0, step=0.1)] = 1.0) -> Image:
    """Blur pictures.

    Args:
        image: The pictures.
        blur_radius: How far pixels are mixed; smaller than the pictures.
        sigma: Standard deviation of the mix, in units of the radius.
    """
    from engine.pictures.filters import blurred

    return Image(blurred(image.movedim(-1, 1), blur_radius, sigma).movedim(1, -1))


@node("ImageSharpen", category="image/postprocessing")
def sharpen(
    *,
    image: Image,
    sharpen_radius: Radius = 1,
    sigma: Annotated[float, Range(0.1, 10.0, step=0.01)] = 1.0,
    alpha: Annotated[float, Range(0.0, 5.0, step=0.01)] = 1.0,
) -> Image:
    """Sharpen pictures.

    Args:
        image: The pictures.
        sharpen_radius: How far pixels are compared; smaller than the pictures.
        sigma: Standard deviation of what they are compared with, in units of the radius.
        alpha: How much.
    """
    from engine.pictures.filters import sharpened

    return Image(sharpened(image.movedim(-1, 1), sharpen_radius, sigma, alpha).clamp(0.0, 1.0).movedim(1, -1))


@node("ImageQuantize", category="image/postprocessing")
def quantize(
    *,
    image: Image,
    colors: Annotated[int, Range(1, 256, step=1)] = 256,
    dither: Literal["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"],
) -> Image:
    """Show pictures in few colours.

    Args:
        image: The pictures; transparency is dropped.
        colors: How many.
        dither: How colours between are shown: not at all, by passing the error on, or by a pattern of so many pixels.
    """
    from engine.pictures.colours import quantized

    return Image(quantized(image, colors, dither))


@node("Morphology", title="ImageMorphology", category="image/postprocessing")
def morphology(
    *,
    image: Image,
    operation: Literal["erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat"],
    kernel_size: Annotated[int, Range(3, 999, step=1)] = 3,
) -> Image:
    """Grow or shrink what is bright in pictures.

    Args:
        image: The pictures.
        operation: `erode` shrinks, `dilate` grows; `open` takes away what is small and bright, `close` what is small and
            dark; `gradient`, `top_hat` and `bottom_hat` show the differences.
        kernel_size: Side of the window, in pixels.
    """
    from engine.pictures.filters import morphed

    return Image(morphed(image.movedim(-1, 1), operation, kernel_size).movedim(1, -1))


@node("Canny", category="image/preprocessors")
def find_edges(
    *,
    image: Image,
    low_threshold: Annotated[float, Range(0.01, 0.99, step=0.01)] = 0.4,
    high_threshold: Annotated[float, Range(0.01, 0.99, step=0.01)] = 0.8,
) -> Image:
    """Draw the edges in pictures, white on black.

    Args:
        image: The pictures.
        low_threshold: Slope of edges that are drawn where they lead on from stronger ones.
        high_threshold: Slope of edges that are always drawn; not below the low one.
    """
    from engine.pictures.edges import canny

    edges = canny(image.movedim(-1, 1), low_threshold, high_threshold)
    return Image(edges.expand(-1, 3, -1, -1).movedim(1, -1).contiguous())


@node("ImageRGBToYUV", category="image/batch")
def to_yuv(*, image: Image) -> Components:
    """Take pictures apart into brightness and hue.

    Args:
        image: The pictures; transparency is dropped.

    Returns:
        Y: Brightness.
        U: Blue minus brightness, around 0.5.
        V: Red minus brightness, around 0.5.
    """
    from engine.pictures.colours import to_ycbcr

    planes = to_ycbcr(image.expand(*image.shape[:3], max(3, image.shape[3])))
    y, u, v = (Image(planes[..., i : i + 1].repeat(1, 1, 1, 3)) for i in range(3))
    return Components(y, u, v)


@node("ImageYUVToRGB", category="image/batch")
def of_yuv(*, Y: Image, U: Image, V: Image) -> Image:
    """Put pictures together from brightness and hue; the mean of the channels of each counts.

    Args:
        Y: Brightness.
        U: Blue minus brightness, around 0.5.
        V: Red minus brightness, around 0.5.
    """
    import torch

    from engine.pictures.colours import of_ycbcr

    if not Y.shape[:3] == U.shape[:3] == V.shape[:3]:
        sizes = ", ".join(f"{len(part)} of {part.shape[2]} x {part.shape[1]}" for part in (Y, U, V))
        msg = f"cannot put pictures together from parts of different sizes ({sizes} pixels)"
        raise ValueError(msg)
    return Image(of_ycbcr(torch.cat([part.mean(-1, keepdim=True) for part in (Y, U, V)], -1)))


@node("ImageAddNoise", title="ImageAddNoise", category="image")
def add_noise(
    *,
    image: Image,
    seed: Annotated[int, Range(0, 2**64 - 1), Widget(control_after_generate=True)] = 0,
    strength: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.5,
) -> Image:
    """Add Gaussian noise to pictures.

    Args:
        image: The pictures.
        seed: Of the noise; the same seed gives the same noise.
        strength: Its standard deviation.
    """
    import torch

    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return Image((image + strength * noise).clamp(0.0, 1.0))
