"""Nodes that read, cut, make and save moving pictures."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from engine.schema import FileChoice, Range, Widget, node, option
from engine.types import Audio, Image, Latent, Run, Shown, Video
from nodes.image_files import documents

EXTENSIONS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".gif")
"""Files that may be moving pictures."""

CONTAINERS = {"h264": "mp4", "av1": "webm"}
"""What `auto` is for a codec."""


@option("auto")
class AutoEncoding(NamedTuple):
    """Keep what is encoded that way already."""


@option("re-encode")
class Again(NamedTuple):
    """Encode it again in any case.

    Attributes:
        crf: Lower values give better pictures and larger files.
    """

    crf: Annotated[float, Range(0.0, 63.0, step=1.0)] = 23.0


@option("auto")
class AutoCodec(NamedTuple):
    """What is encoded already stays as it is; else H.264, or AV1 in a WebM file."""


@option("h264")
class H264(NamedTuple):
    """H.264, which everything plays.

    Attributes:
        encoding: Whether to encode again.
    """

    encoding: AutoEncoding | Again = AutoEncoding()


@option("av1")
class Av1(NamedTuple):
    """AV1, for small files.

    Attributes:
        encoding: Whether to encode again.
    """

    encoding: AutoEncoding | Again = AutoEncoding()


Codec = AutoCodec | H264 | Av1


@option("auto")
class AutoFormat(NamedTuple):
    """MP4, or WebM for AV1.

    Attributes:
        codec: How the pictures are encoded.
    """

    codec: Codec = AutoCodec()


@option("mp4")
class Mp4(NamedTuple):
    """MP4.

    Attributes:
        codec: How the pictures are encoded.
    """

    codec: Codec = AutoCodec()


@option("mkv")
class Mkv(NamedTuple):
    """Matroska.

    Attributes:
        codec: How the pictures are encoded.
    """

    codec: Codec = AutoCodec()


@option("webm")
class Webm(NamedTuple):
    """WebM.

    Attributes:
        codec: How the pictures are encoded.
    """

    codec: AutoCodec | Av1 = AutoCodec()


class Components(NamedTuple):
    """What a moving picture is made of."""

    images: Image
    audio: Audio | None
    fps: float
    bit_depth: int
    color_space: Literal["sRGB"]


class Saved(NamedTuple):
    """A moving picture that was saved."""

    video: Video
    shown: Shown


@node("LoadVideo", title="Load Video", category="image/video")
def load(
    *, file: Annotated[Path, FileChoice("input", upload="video", extensions=EXTENSIONS), Widget(video_upload=True)]
) -> Video:
    """Read a moving picture. Its frames are read when something needs them.

    Args:
        file: A file of the input folder.
    """
    return Video(path=file)


@node("GetVideoComponents", title="Get Video Components", category="image/video")
def components(*, video: Video) -> Components:
    """Take a moving picture apart.

    Args:
        video: The moving picture.

    Returns:
        images: Its frames.
        audio: Its sound; nothing where it has none.
        fps: Frames a second.
        bit_depth: Bits of a colour in the file.
        color_space: Always `sRGB`.

    Differs: colours of more than 8 bits are brought to 8, and to sRGB.
    """
    from engine.clips import parts

    images, audio, fps, depth = parts(video)
    return Components(images, audio, fps, depth, "sRGB")


@node("CreateVideo", title="Create Video", category="image/video")
def create(
    *,
    images: Image,
    fps: Annotated[float, Range(1.0, 120.0, step=1.0)] = 30.0,
    audio: Audio | None = None,
    bit_depth: Annotated[int | str, Widget(optional=True, widgetType="COMBO", options=["auto", 8])] = "auto",
    color_space: Annotated[Literal["sRGB"], Widget(optional=True)] = "sRGB",  # noqa: ARG001 - of the workflow format
    codec: Annotated[Literal["none", "auto"], Widget(optional=True)] = "none",  # noqa: ARG001 - of the workflow format
) -> Video:
    """Make pictures into a moving picture.

    Args:
        images: The pictures, in order.
        fps: Pictures a second.
        audio: The sound beside them.
        bit_depth: Bits of a colour: `auto` or 8.
        color_space: Of the pictures.
        codec: Kept for files that name it: encoding is done when the moving picture is saved.

    Differs: 8 bits and sRGB alone, no HDR.
    """
    if bit_depth not in {"auto", "8", 8}:
        msg = f"cannot make a moving picture of {bit_depth!r} bits a colour: 8 are supported"
        raise ValueError(msg)
    return Video(images=images, fps=fps, audio=audio)


@node("Video Slice", title="Video Slice", category="image/video")
def cut(
    *,
    video: Video,
    start_time: Annotated[float, Range(-1e5, 1e5, step=0.001)] = 0.0,
    duration: Annotated[float, Range(0.0, 1e9, step=0.001)] = 0.0,
    strict_duration: bool = False,
) -> Video:
    """Take a part of a moving picture, with its sound.

    Args:
        video: The moving picture.
        start_time: Where the part begins, in seconds; negative counts from the end.
        duration: How long it is, in seconds; 0 goes to the end.
        strict_duration: Whether it is an error if less is left; otherwise the part is shorter then.
    """
    from engine.clips import sliced

    return sliced(video, start_time, duration, is_strict=strict_duration)


@node("SaveVideo", title="Save Video", category="image/video", effect=True)
def save(
    *,
    video: Video,
    filename_prefix: Annotated[str, Widget(multiline=False)] = "video/ComfyUI",
    format: AutoFormat | Mp4 | Mkv | Webm = AutoFormat(),  # noqa: A002, B008 - the name that workflows use; it is immutable
    codec: Annotated[Literal["auto", "h264", "av1"], Widget(optional=True)] = "auto",
    run: Run,
) -> Saved:
    """Save a moving picture as a file that carries its workflow.

    Args:
        video: The moving picture.
        filename_prefix: First part of its name, as of `SaveImage`.
        format: What kind of file.
        codec: How the pictures are encoded where `format` leaves it open, as older files say it.
        run: Knows the output folder and the workflow.

    Returns:
        video: The moving picture as it came.

    Differs: 8 bits and sRGB alone, no HDR. H.264 of odd sizes has colours for every pixel, which not all players show.
    """
    from engine.clips import video_bytes
    from engine.media import Series

    chosen = {"AutoCodec": codec, "H264": "h264", "Av1": "av1"}[type(format.codec).__name__]
    if chosen == "auto":
        chosen = "av1" if isinstance(format, Webm) else "h264"
    container = CONTAINERS[chosen] if isinstance(format, AutoFormat) else type(format).__name__.lower()
    encoding = None if isinstance(format.codec, AutoCodec) else format.codec.encoding
    crf = encoding.crf if isinstance(encoding, Again) else None
    content = video_bytes(video, documents(run), container=container, codec=chosen, crf=crf, keep=crf is None)
    images = video.images
    height, width = images.shape[1:3] if images is not None else (0, 0)
    series = Series.of(run.folders.output, "output", filename_prefix, width=width, height=height)
    return Saved(video, Shown({"images": series.publish((content,), f".{container}"), "animated": (True,)}))


@node("SaveWEBM", title="SaveWEBM", category="image/video", effect=True, experimental=True)
def save_webm(
    *,
    images: Image,
    filename_prefix: Annotated[str, Widget(multiline=False)] = "ComfyUI",
    codec: Literal["vp9", "av1"],
    fps: Annotated[float, Range(0.01, 1000.0, step=0.01)] = 24.0,
    crf: Annotated[float, Range(0, 63.0, step=1)] = 32.0,
    run: Run,
) -> Shown:
    """Save pictures as one moving picture in a WebM file that carries its workflow.

    Args:
        images: The pictures, in order.
        filename_prefix: First part of its name, as of `SaveImage`.
        codec: How they are encoded.
        fps: Pictures a second.
        crf: Lower values give better pictures and larger files.
        run: Knows the output folder and the workflow.
    """
    from engine.clips import video_bytes
    from engine.media import Series

    content = video_bytes(Video(images=images, fps=fps), documents(run), container="webm", codec=codec, crf=crf)
    series = Series.of(run.folders.output, "output", filename_prefix, width=images.shape[2], height=images.shape[1])
    return Shown({"images": series.publish((content,), ".webm"), "animated": (True,)})


@node("TrimVideoLatent", title="TrimVideoLatent", category="latent/video")
def trim_latent(*, samples: Latent, trim_amount: Annotated[int, Range(0, 99999)] = 0) -> Latent:
    """Take frames off the beginning of latents of moving pictures.

    Args:
        samples: The latents.
        trim_amount: How many frames of the latent.
    """
    from dataclasses import replace

    if samples.samples.ndim != 5:
        msg = f"cannot trim latents of shape {list(samples.samples.shape)}: they have no frames"
        raise ValueError(msg)
    return replace(samples, samples=samples.samples[:, :, trim_amount:], noise_mask=None)
