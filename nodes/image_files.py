"""Nodes that read and write picture files."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from engine.schema import FileChoice, Range, Widget, node, option
from engine.types import Image, Mask, Run, Shown, Svg

SAVED_LEVEL = 4
"""zlib level of saved pictures: smaller files take longer."""


class Picture(NamedTuple):
    """What a picture file holds."""

    IMAGE: Image
    MASK: Mask


class SavedPictures(NamedTuple):
    """Pictures that were saved."""

    images: Image
    shown: Shown


@node("LoadImage", title="Load Image", category="image")
def load(*, image: Annotated[Path, FileChoice("input", upload="image"), Widget(image_upload=True)]) -> Picture:
    """Read a picture file.

    Args:
        image: A file of the input folder; with ` [output]` or ` [temp]` appended, of that folder.

    Returns:
        IMAGE: The picture, turned upright; every frame of a moving one.
        MASK: Where it is transparent.
    """
    from engine.media import load_image

    return Picture(*load_image(image))


@node("LoadImageOutput", title="Load Image (from Outputs)", category="image", experimental=True)
def load_output(
    *,
    image: Annotated[
        Path,
        FileChoice("output", upload="image"),
        Widget(
            image_upload=True,
            image_folder="output",
            remote={"route": "/internal/files/output", "refresh_button": True, "control_after_refresh": "first"},
        ),
    ],
) -> Picture:
    """Read a picture file that was saved before.

    Args:
        image: A file of the output folder.

    Returns:
        IMAGE: The picture, turned upright; every frame of a moving one.
        MASK: Where it is transparent.
    """
    return load(image=image)


@node("LoadImageMask", title="Load Image (as Mask)", category="mask")
def load_as_mask(
    *,
    image: Annotated[Path, FileChoice("input", upload="image"), Widget(image_upload=True)],
    channel: Literal["alpha", "red", "green", "blue"],
) -> Mask:
    """Read one channel of a picture file as a mask.

    Args:
        image: A file of the input folder; with ` [output]` or ` [temp]` appended, of that folder.
        channel: Which channel; `alpha` is inverted, so that the mask is set where the picture is transparent.
    """
    from engine.media import load_mask

    return load_mask(image, channel)


@node("SaveImage", title="Save Image", category="image", effect=True)
def save(*, images: Image, filename_prefix: str = "ComfyUI", run: Run) -> SavedPictures:
    """Save pictures as PNG files that carry their workflow.

    Args:
        images: The pictures.
        filename_prefix: First part of their names, before a number. `/` makes folders; `%year%`, `%month%`, `%day%`,
            `%hour%`, `%minute%`, `%second%`, `%width%`, `%height%` and `%batch_num%` are filled in.
        run: Knows the output folder and the workflow.

    Returns:
        images: The pictures as they came.
    """
    from engine.media import Series

    series = Series.of(run.folders.output, "output", filename_prefix, width=images.shape[2], height=images.shape[1])
    return SavedPictures(images, Shown({"images": series.write(images, documents(run), level=SAVED_LEVEL)}))


@option("png")
class Png(NamedTuple):
    """PNG, without loss.

    Attributes:
        bit_depth: Of a colour.
        input_color_space: Of the pictures.
    """

    bit_depth: Literal["8-bit", "16-bit"] = "8-bit"
    input_color_space: Literal["sRGB"] = "sRGB"


@option("still images")
class Still(NamedTuple):
    """Each picture in a file of its own."""


@option("animated")
class Moving(NamedTuple):
    """All pictures as one moving picture.

    Attributes:
        fps: Pictures a second.
        loop_count: How often it plays; 0 never ends.
    """

    fps: Annotated[float, Range(0.01, 1000.0, step=0.01)] = 6.0
    loop_count: Annotated[int, Range(0, 1000)] = 0


@option("avif")
class Avif(NamedTuple):
    """AVIF, small files.

    Attributes:
        bit_depth: Of a colour.
        input_color_space: Of the pictures.
        crf: Lower values give better pictures and larger files.
        save_mode: One file for each picture, or one for all.
    """

    bit_depth: Literal["auto", "8-bit YUV420"] = "auto"
    input_color_space: Literal["sRGB"] = "sRGB"
    crf: Annotated[int, Range(1, 63)] = 18
    save_mode: Still | Moving = Still()


@node("SaveImageAdvanced", title="Save Image (Advanced)", category="image", effect=True)
def save_advanced(
    *,
    images: Image,
    filename_prefix: str = "ComfyUI",
    format: Png | Avif = Png(),  # noqa: A002, B008 - the name that workflows use; it is immutable
    run: Run,
) -> SavedPictures:
    """Save pictures as files of several kinds that carry their workflow.

    Args:
        images: The pictures.
        filename_prefix: First part of their names, as of `SaveImage`.
        format: What kind of file.
        run: Knows the output folder and the workflow.

    Returns:
        images: The pictures as they came.

    Differs: no EXR, and 8 bits and sRGB alone in AVIF. AVIF files keep transparency.
    """
    from engine.media import Series, avif_bytes, png16_bytes

    series = Series.of(run.folders.output, "output", filename_prefix, width=images.shape[2], height=images.shape[1])
    texts = documents(run)
    if isinstance(format, Avif):
        is_moving = isinstance(format.save_mode, Moving) and len(images) > 1
        batches = [images] if is_moving else [images[i : i + 1] for i in range(len(images))]
        fps, loops = format.save_mode if isinstance(format.save_mode, Moving) else (1.0, 0)
        files = series.publish((avif_bytes(one, texts, crf=format.crf, fps=fps, loops=loops) for one in batches), ".avif")
        return SavedPictures(images, Shown({"images": files, **({"animated": (True,)} if is_moving else {})}))
    if format.bit_depth == "16-bit":
        return SavedPictures(images, Shown({"images": series.publish((png16_bytes(one, texts) for one in images), ".png")}))
    return SavedPictures(images, Shown({"images": series.write(images, texts, level=SAVED_LEVEL)}))


@node("SaveSVGNode", title="SaveSVGNode", category="image/save", effect=True)
def save_svg(*, svg: Svg, filename_prefix: str = "svg/ComfyUI", run: Run) -> Shown:
    """Save drawings as SVG files that carry their workflow.

    Args:
        svg: The drawings.
        filename_prefix: First part of their names, as of `SaveImage`.
        run: Knows the output folder and the workflow.
    """
    from engine.media import Series, svg_bytes

    texts = documents(run)
    series = Series.of(run.folders.output, "output", filename_prefix)
    return Shown({"images": series.publish((svg_bytes(drawing, texts) for drawing in svg.documents), ".svg")})


def documents(run: Run) -> dict[str, Any]:
    """What picture files carry: the workflow as it ran, and as people drew it where that is known."""
    return {
        "prompt": run.documents["prompt"],
        **{name: document for name, document in run.documents.items() if name != "prompt"},
    }
