"""Nodes that save pictures as one moving picture."""

from typing import Annotated, Literal

from engine.schema import Range, node
from engine.types import Image, Run, Shown
from nodes.image_files import documents

Fps = Annotated[float, Range(0.01, 1000.0, step=0.01)]

EFFORTS = {"default": 4, "fastest": 0, "slowest": 6}
"""How hard WebP tries to make files small, 0..6."""


@node("SaveAnimatedWEBP", title="SaveAnimatedWEBP", category="image/animation", effect=True)
def save_webp(
    *,
    images: Image,
    filename_prefix: str = "ComfyUI",
    fps: Fps = 6.0,
    lossless: bool = True,
    quality: Annotated[int, Range(0, 100)] = 80,
    method: Literal["default", "fastest", "slowest"],
    run: Run,
) -> Shown:
    """Save pictures as one moving WebP file that carries its workflow.

    Args:
        images: The pictures, in order.
        filename_prefix: First part of its name, as of `SaveImage`.
        fps: Pictures a second.
        lossless: Whether every pixel is kept.
        quality: Of the pixels; of the compression where every pixel is kept.
        method: How long to take for a small file.
        run: Knows the output folder and the workflow.
    """
    from engine.media import Series, animated_webp_bytes

    effort = EFFORTS[method]
    content = animated_webp_bytes(images, documents(run), fps=fps, lossless=lossless, quality=quality, effort=effort)
    series = Series.of(run.folders.output, "output", filename_prefix, width=images.shape[2], height=images.shape[1])
    return Shown({"images": series.publish((content,), ".webp"), "animated": (True,)})


@node("SaveAnimatedPNG", title="SaveAnimatedPNG", category="image/animation", effect=True)
def save_png(
    *,
    images: Image,
    filename_prefix: str = "ComfyUI",
    fps: Fps = 6.0,
    compress_level: Annotated[int, Range(0, 9)] = 4,
    run: Run,
) -> Shown:
    """Save pictures as one moving PNG file that carries its workflow.

    Args:
        images: The pictures, in order.
        filename_prefix: First part of its name, as of `SaveImage`.
        fps: Pictures a second.
        compress_level: 0 is fast, 9 gives small files.
        run: Knows the output folder and the workflow.
    """
    from engine.media import Series, animated_png_bytes

    content = animated_png_bytes(images, documents(run), fps=fps, level=compress_level)
    series = Series.of(run.folders.output, "output", filename_prefix, width=images.shape[2], height=images.shape[1])
    return Shown({"images": series.publish((content,), ".png"), "animated": (True,)})
