"""Nodes that make latents, decode them, and change their size and place."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from engine.schema import Range, node
from engine.types import Image, Latent, Vae

if TYPE_CHECKING:
    from torch import Tensor

CELL_PX = 8
"""Pixels of a picture for each latent cell, along one side, that ports count with."""

SMALLEST_PX = 64
"""Least side of an upscaled latent, in pixels."""

UpscaleMethod = Literal["nearest-exact", "bilinear", "area", "bicubic", "bislerp"]
Crop = Literal["disabled", "center"]
Place = Annotated[int, Range(0, 16384, step=8)]


@node("VAEDecode", title="VAE Decode", category="latent", alike=("samples", "vae"))
def decode(*, samples: Latent, vae: Vae) -> Image:
    """Turn latents into pictures.

    Args:
        samples: The latents.
        vae: Of the model that made them.
    """
    return vae.decode(samples.samples)


@node("VAEEncode", title="VAE Encode", category="latent")
def encode(*, pixels: Image, vae: Vae) -> Latent:
    """Turn pictures into latents.

    Args:
        pixels: The pictures; their middle is used where a side is no multiple of 8 pixels, and transparency is dropped.
        vae: Of the model that is to sample them.
    """
    return Latent(vae.encode(Image(pixels[..., :3])))


@node("VAEDecodeTiled", title="VAE Decode (Tiled)", category="_for_testing", alike=("samples", "vae"))
def decode_tiled(
    *,
    samples: Latent,
    vae: Vae,
    tile_size: Annotated[int, Range(64, 4096, step=32)] = 512,
    overlap: Annotated[int, Range(0, 4096, step=32)] = 64,
    temporal_size: Annotated[int, Range(8, 4096, step=4)] = 64,  # noqa: ARG001 - there are no videos yet
    temporal_overlap: Annotated[int, Range(4, 4096, step=4)] = 8,  # noqa: ARG001 - there are no videos yet
) -> Image:
    """Turn latents into pictures tile by tile, which needs less memory.

    Args:
        samples: The latents.
        vae: Of the model that made them.
        tile_size: Side of a tile, in pixels of the picture.
        overlap: Width of the blend between tiles, in pixels; a quarter of a tile at most.
        temporal_size: Frames of a tile; for videos only.
        temporal_overlap: Frames that tiles share; for videos only.
    """
    cells = tile_size // vae.factor
    return vae.decode_tiled(samples.samples, tile=cells, overlap=min(overlap // vae.factor, cells // 4))


@node("VAEEncodeTiled", title="VAE Encode (Tiled)", category="_for_testing")
def encode_tiled(
    *,
    pixels: Image,
    vae: Vae,
    tile_size: Annotated[int, Range(64, 4096, step=64)] = 512,
    overlap: Annotated[int, Range(0, 4096, step=32)] = 64,
    temporal_size: Annotated[int, Range(8, 4096, step=4)] = 64,  # noqa: ARG001 - there are no videos yet
    temporal_overlap: Annotated[int, Range(4, 4096, step=4)] = 8,  # noqa: ARG001 - there are no videos yet
) -> Latent:
    """Turn pictures into latents tile by tile, which needs less memory.

    Args:
        pixels: The pictures; transparency is dropped.
        vae: Of the model that is to sample them.
        tile_size: Side of a tile, in pixels.
        overlap: Width of the blend between tiles, in pixels.
        temporal_size: Frames of a tile; for videos only.
        temporal_overlap: Frames that tiles share; for videos only.
    """
    return Latent(vae.encode_tiled(Image(pixels[..., :3]), tile_px=tile_size, overlap_px=overlap))


@node("EmptyLatentImage", title="Empty Latent Image", category="latent")
def empty(
    *,
    width: Annotated[int, Range(16, 16384, step=8)] = 512,
    height: Annotated[int, Range(16, 16384, step=8)] = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
) -> Latent:
    """An empty latent, to sample a new picture from.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        batch_size: Number of pictures to make at once.
    """
    import torch

    return Latent(torch.zeros(batch_size, 4, height // CELL_PX, width // CELL_PX))


@node("LatentUpscale", title="Upscale Latent", category="latent")
def upscale(
    *,
    samples: Latent,
    upscale_method: UpscaleMethod,
    width: Place = 512,
    height: Place = 512,
    crop: Crop,
) -> Latent:
    """Resize latents.

    Args:
        samples: The latents.
        upscale_method: How values between cells are found; `bislerp` keeps their strength.
        width: New width in pixels; 0 keeps the aspect ratio.
        height: New height in pixels; 0 keeps the aspect ratio. Both 0 changes nothing.
        crop: Whether to cut the middle out where the aspect ratio changes, or to stretch.
    """
    from engine.media import resized

    if width == 0 and height == 0:
        return samples
    cells_high, cells_wide = samples.samples.shape[-2:]
    high = max(SMALLEST_PX, height or round(cells_high * width / cells_wide))
    wide = max(SMALLEST_PX, width or round(cells_wide * height / cells_high))
    return replace(samples, samples=resized(samples.samples, wide // CELL_PX, high // CELL_PX, upscale_method, crop))


@node("LatentUpscaleBy", title="Upscale Latent By", category="latent")
def upscale_by(
    *,
    samples: Latent,
    upscale_method: UpscaleMethod,
    scale_by: Annotated[float, Range(0.01, 8.0, step=0.01)] = 1.5,
) -> Latent:
    """Resize latents by a factor.

    Args:
        samples: The latents.
        upscale_method: How values between cells are found; `bislerp` keeps their strength.
        scale_by: The factor.
    """
    from engine.media import resized

    height, width = samples.samples.shape[-2:]
    wide, high = round(width * scale_by), round(height * scale_by)
    return replace(samples, samples=resized(samples.samples, wide, high, upscale_method))


@node("LatentFlip", title="Flip Latent", category="latent/transform")
def flip(*, samples: Latent, flip_method: Literal["x-axis: vertically", "y-axis: horizontally"]) -> Latent:
    """Mirror latents.

    Args:
        samples: The latents.
        flip_method: Upside down, or left to right.
    """
    axis = -2 if flip_method.startswith("x") else -1
    return replace(samples, samples=samples.samples.flip(axis))


@node("LatentRotate", title="Rotate Latent", category="latent/transform")
def rotate(*, samples: Latent, rotation: Literal["none", "90 degrees", "180 degrees", "270 degrees"]) -> Latent:
    """Turn latents clockwise.

    Args:
        samples: The latents.
        rotation: By how much.
    """
    quarters = {"none": 0, "90 degrees": 1, "180 degrees": 2, "270 degrees": 3}[rotation]
    return replace(samples, samples=samples.samples.rot90(quarters, (3, 2)))


@node("LatentCrop", title="Crop Latent", category="latent/transform")
def crop_latent(
    *,
    samples: Latent,
    width: Annotated[int, Range(64, 16384, step=8)] = 512,
    height: Annotated[int, Range(64, 16384, step=8)] = 512,
    x: Place = 0,
    y: Place = 0,
) -> Latent:
    """Cut a rectangle out of latents.

    Args:
        samples: The latents.
        width: Of the rectangle, in pixels.
        height: Of the rectangle, in pixels.
        x: Its left edge, in pixels; at least 64 pixels remain.
        y: Its top edge, in pixels; at least 64 pixels remain.
    """
    cells = samples.samples
    smallest = SMALLEST_PX // CELL_PX
    left = max(0, min(x // CELL_PX, cells.shape[-1] - smallest))
    top = max(0, min(y // CELL_PX, cells.shape[-2] - smallest))
    return replace(samples, samples=cells[..., top : top + height // CELL_PX, left : left + width // CELL_PX])


@node("LatentComposite", title="Latent Composite", category="latent")
def composite(*, samples_to: Latent, samples_from: Latent, x: Place = 0, y: Place = 0, feather: Place = 0) -> Latent:
    """Lay one latent over another.

    Args:
        samples_to: What lies below; gives the size.
        samples_from: What lies on top; what reaches beyond is cut off.
        x: Left edge of the upper one, in pixels.
        y: Top edge of the upper one, in pixels.
        feather: Width of the blend at edges inside the lower one, in pixels.
    """
    below = samples_to.samples
    top, left, ramp = y // CELL_PX, x // CELL_PX, feather // CELL_PX
    upper = samples_from.samples.to(below)[..., : max(0, below.shape[-2] - top), : max(0, below.shape[-1] - left)]
    high, wide = upper.shape[-2:]
    share = (
        _ramp(high, ramp, at_start=top > 0, at_end=top + high < below.shape[-2])[:, None]
        * _ramp(wide, ramp, at_start=left > 0, at_end=left + wide < below.shape[-1])[None, :]
    ).to(below)
    result = below.clone()
    place = result[..., top : top + high, left : left + wide]
    place.copy_(upper * share + place * (1.0 - share))
    return replace(samples_to, samples=result)


@node("LatentBlend", title="Latent Blend", category="_for_testing")
def blend(*, samples1: Latent, samples2: Latent, blend_factor: Annotated[float, Range(0, 1, step=0.01)] = 0.5) -> Latent:
    """Mix two latents linearly.

    Args:
        samples1: The latent at factor 1.
        samples2: The latent at factor 0; resized to `samples1`.
        blend_factor: Share of `samples1` in the mix.
    """
    from engine.media import resized

    one, two = samples1.samples, samples2.samples.to(samples1.samples)
    if one.shape != two.shape:
        two = resized(two, one.shape[-1], one.shape[-2], "bicubic", "center")
    return replace(samples1, samples=one * blend_factor + two * (1.0 - blend_factor))


def _ramp(size: int, length: int, *, at_start: bool, at_end: bool) -> "Tensor":
    """[size] ones that rise linearly over `length` cells at the chosen ends."""
    import torch

    places = torch.arange(1, size + 1)
    ramp = torch.ones(size)
    if length and at_start:
        ramp = ramp * (places / length).clamp(max=1.0)
    if length and at_end:
        ramp = ramp * (places.flip(0) / length).clamp(max=1.0)
    return ramp
