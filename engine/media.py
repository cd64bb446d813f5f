"""Images and tensors: reading, resizing, 8-bit conversion, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import secrets
import struct
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import PIL.Image
import torch
from PIL import ExifTags, ImageOps, ImageSequence, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from engine.errors import FormatError, WeftError
from engine.folders import confine
from engine.types import Image, Mask, SavedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from pathlib import Path

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What is opened at all: a decoder that nobody needs is one that nobody can attack."""

MAX_PIXELS = 64_000_000
"""Pixels of one picture; a 10 kB file can claim a thousand times more than memory holds."""

MAX_SIDE_PX = 16_384
MAX_FRAMES = 1_000
MAX_FRAME_PIXELS = 512_000_000
"""Pixels of all frames together."""

NO_ALPHA_SIDE_PX = 64
"""Side of the empty mask of a picture without transparency, as the reference has it."""

PARALLEL = 1 - 1e-5
"""Cosine above which two directions count as equal, and below whose negative as opposite."""

Method: TypeAlias = Literal["nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp"]


def load_image(path: Path) -> tuple[Image, Mask]:
    """Read a picture, turned upright, with every frame that has the size of the first.

    Args:
        path: A file of one of `FORMATS`.

    Returns:
        The picture [B, H, W, 3], and [B, H, W] one minus its transparency; without any a mask of 64 x 64 zeros.

    Raises:
        FormatError: if it is no such file, is damaged, or is larger than the limits.
    """
    pictures: list[Tensor] = []
    masks: list[Tensor] = []
    for frame in _frames(path):
        upright = _scaled(ImageOps.exif_transpose(frame))
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")
        picture = _unit(upright.convert("RGB"))
        if pictures and picture.shape != pictures[0].shape:
            continue
        pictures.append(picture)
        if "A" in upright.getbands():
            masks.append(1.0 - _unit(upright.getchannel("A")))
        else:
            masks.append(torch.zeros(NO_ALPHA_SIDE_PX, NO_ALPHA_SIDE_PX))
    return Image(torch.stack(pictures)), Mask(torch.stack(masks))


def load_mask(path: Path, channel: str) -> Mask:
    """Read one channel of a picture's first frame as a mask.

    Args:
        path: A file of one of `FORMATS`.
        channel: `red`, `green`, `blue`, or `alpha`, which is inverted: transparent is 1.

    Returns:
        [1, H, W].

    Raises:
        FormatError: as `load_image`.
    """
    with contextlib.closing(_frames(path)) as frames:
        rgba = _scaled(ImageOps.exif_transpose(next(frames))).convert("RGBA")
    values = _unit(rgba.getchannel(channel[0].upper()))[None]
    return Mask(1.0 - values if channel == "alpha" else values)


def to_bytes(image: Tensor) -> Tensor:
    """[...] values in 0..1 to uint8 by truncation, as the reference does: 0.5 becomes 127."""
    return (image * 255.0).clamp(0.0, 255.0).to(torch.uint8)


def to_pil(picture: Tensor) -> PIL.Image.Image:
    """One picture [H, W, C] in 0..1, C of 1, 3 or 4, as 8-bit grey, RGB or RGBA."""
    pixels = to_bytes(picture).cpu().numpy()
    return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png_bytes(picture: Tensor, texts: Mapping[str, Any], *, level: int = 4) -> bytes:
    """One picture [H, W, C] in 0..1 as a PNG file.

    Args:
        picture: C is 1, 3 or 4.
        texts: Keyword to a JSON value; each becomes a tEXt chunk of ASCII JSON.
        level: Of zlib, 0..9.
    """
    info = PngInfo()
    for keyword, value in texts.items():
        info.add_text(keyword, json_text(value))
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, "PNG", pnginfo=info, compress_level=level)
    return buffer.getvalue()


def png16_bytes(picture: Tensor, texts: Mapping[str, Any], *, level: int = 4) -> bytes:
    """One picture [H, W, C] in 0..1 as a PNG file of 16 bits a channel, each rounded to the nearest value.

    Args:
        picture: C is 1, 3 or 4.
        texts: As of `png_bytes`.
        level: Of zlib, 0..9.

    Source: PNG Specification, 3rd edition, sections 5 and 11: chunks IHDR, tEXt, IDAT, IEND; filter type 2 (up).
    """
    height, width, channels = picture.shape
    values = (picture.clamp(0, 1).double() * 65535).round().cpu().numpy().astype(">u2")
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(height, width * channels * 2)
    differences = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8))
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), differences], axis=1)
    colour = {1: 0, 3: 2, 4: 6}[channels]
    texted = [(b"tEXt", f"{keyword}\0{json_text(value)}".encode("latin-1")) for keyword, value in texts.items()]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        *texted,
        (b"IDAT", zlib.compress(filtered.tobytes(), level)),
        (b"IEND", b""),
    ]
    packed = (struct.pack(">I", len(d)) + tag + d + struct.pack(">I", zlib.crc32(tag + d)) for tag, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def avif_bytes(pictures: Tensor, texts: Mapping[str, Any], *, crf: int, fps: float = 1.0, loops: int = 0) -> bytes:
    """Pictures as one AVIF file of 8 bits a channel, moving where there are several.

    Args:
        pictures: [B, H, W, C] in 0..1, C is 1, 3 or 4.
        texts: Keyword to a JSON value, as in WebP files.
        crf: 1 is best, 63 smallest; the encoder's quality falls with it from 100 to 0.
        fps: Pictures a second.
        loops: How often it plays; 0 never ends.
    """
    first, *rest = map(to_pil, pictures)
    frames: dict[str, Any] = (
        {"save_all": True, "append_images": rest, "duration": int(1000 / fps), "loop": loops} if rest else {}
    )
    quality = round(100 * (63 - crf) / 62)
    buffer = io.BytesIO()
    first.save(buffer, "AVIF", exif=_exif(texts), quality=quality, subsampling="4:2:0", **frames)
    return buffer.getvalue()


def animated_png_bytes(pictures: Tensor, texts: Mapping[str, Any], *, fps: float, level: int = 4) -> bytes:
    """Pictures as the frames of one animated PNG file.

    Args:
        pictures: [B, H, W, C] in 0..1, C is 1, 3 or 4.
        texts: Keyword to a JSON value; each becomes a private chunk `comf` behind the frames, as the reference writes it.
        fps: Frames a second; a frame takes whole milliseconds.
        level: Of zlib, 0..9.
    """
    info = PngInfo()
    for keyword, value in texts.items():
        info.add(b"comf", f"{keyword}\0{json_text(value)}".encode("latin-1"), after_idat=True)
    first, *rest = map(to_pil, pictures)
    buffer = io.BytesIO()
    first.save(buffer, "PNG", pnginfo=info, compress_level=level, save_all=True, append_images=rest, duration=int(1000 / fps))
    return buffer.getvalue()


def animated_webp_bytes(
    pictures: Tensor, texts: Mapping[str, Any], *, fps: float, lossless: bool = True, quality: int = 80, effort: int = 4
) -> bytes:
    """Pictures as the frames of one WebP file.

    Args:
        pictures: [B, H, W, C] in 0..1, C is 1, 3 or 4.
        texts: Keyword to a JSON value; they become EXIF entries `keyword:JSON`: `prompt` is the camera's model, the others
            stand from its maker downwards, as in the reference.
        fps: Frames a second; a frame takes whole milliseconds.
        lossless: Whether every pixel is kept.
        quality: 0..100; of the pixels, or of the compression where it is lossless.
        effort: 0 is fast, 6 gives small files.
    """
    exif = _exif(texts)
    first, *rest = map(to_pil, pictures)
    frames = {"save_all": True, "append_images": rest, "duration": int(1000 / fps)}
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", exif=exif, lossless=lossless, quality=quality, method=effort, **frames)
    return buffer.getvalue()


def _exif(texts: Mapping[str, Any]) -> PIL.Image.Exif:
    """Entries `keyword:JSON`: `prompt` is the camera's model, the others stand from its maker downwards."""
    exif = PIL.Image.Exif()
    for i, (keyword, value) in enumerate(item for item in texts.items() if item[0] != "prompt"):
        exif[ExifTags.Base.Make - i] = f"{keyword}:{json_text(value)}"
    if "prompt" in texts:
        exif[ExifTags.Base.Model] = f"prompt:{json_text(texts['prompt'])}"
    return exif


def svg_bytes(document: bytes, texts: Mapping[str, Any]) -> bytes:
    """A drawing that carries texts.

    Args:
        document: An SVG file in UTF-8.
        texts: Keyword to a JSON value; together they become one JSON object in a `metadata` element.

    Raises:
        FormatError: if there is no `svg` element to put it in.
    """
    if not texts:
        return document
    opening = re.search(rb"<svg(?=[\s>])(?:[^>\"']|\"[^\"]*\"|'[^']*')*(?<!/)>", document)
    if opening is None:
        msg = "cannot put the workflow into the drawing: it has no opening <svg> tag"
        raise FormatError(msg, source="SVG")
    # Of all of JSON, only a text can hold a `>`, and there it may be written so.
    text = json_text(texts).replace("]]>", "]]\\u003e").encode("ascii")
    metadata = b"\n<metadata>\n<![CDATA[\n" + text + b"\n]]>\n</metadata>"
    return document[: opening.end()] + metadata + document[opening.end() :]


def json_text(value: Any) -> str:
    """`value` as ASCII JSON, with null for the numbers that JSON does not have."""
    return json.dumps(_finite(value), allow_nan=False)


def resized(samples: Tensor, width: int, height: int, method: Method, crop: str = "disabled") -> Tensor:
    """Resize pictures or latents.

    Args:
        samples: [B, C, H, W] float32.
        width: New W.
        height: New H.
        method: `lanczos` goes through 8-bit pictures, `bislerp` is for latents; the others are plain interpolation
            without anti-aliasing.
        crop: `center` first cuts the samples to the new aspect ratio; `disabled` stretches them.

    Returns:
        [B, C, height, width], dtype of `samples`.
    """
    if crop == "center":
        samples = _cropped(samples, width / height)
    if method == "bislerp":
        return _bislerp(samples, width, height)
    if method == "lanczos":
        return _lanczos(samples, width, height)
    return torch.nn.functional.interpolate(samples, (height, width), mode=method)


def publish(folder: Path, name: str, content: bytes | Callable[[Path], None]) -> bool:
    """Write a file so that it appears whole or not at all, and never over another one.

    Args:
        folder: Existing folder.
        name: Of the file.
        content: All of it, or what writes it to a path.

    Returns:
        False if there is a file of that name already; nothing is written then.
    """
    hidden = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        if callable(content):
            content(hidden)
        else:
            hidden.write_bytes(content)
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            (folder / name).hardlink_to(hidden)
        except FileExistsError:
            return False
        except OSError:
            # Some network and removable file systems have no hard links.
            if (folder / name).exists():
                return False
            hidden.rename(folder / name)
    finally:
        hidden.unlink(missing_ok=True)
    return True


@dataclass(frozen=True, slots=True)
class Series:
    """Numbered files that share a prefix: `prefix_00001_.png`, `prefix_00002_.png`, ...

    Attributes:
        root: The folder that prefixes are relative to.
        type: Which root it is: `output` or `temp`.
        folder: Where the files go.
        stem: First part of their names; `%batch_num%` is filled in for each.
    """

    root: Path
    type: str
    folder: Path
    stem: str

    @classmethod
    def of(cls, root: Path, type_: str, prefix: str, *, width: int = 0, height: int = 0, now: datetime | None = None) -> Series:
        """The series that a prefix means; makes its folder.

        Args:
            root: The folder that the prefix is relative to.
            type_: Which root it is: `output` or `temp`.
            prefix: May name sub-folders, and hold `%width%`, `%height%`, `%year%`, `%month%`, `%day%`, `%hour%`,
                `%minute%`, `%second%` and, in the last part, `%batch_num%`.
            width: Of the first picture, in pixels; 0 where there is none.
            height: Of the first picture, in pixels; 0 where there is none.
            now: The local time; the clock's when None.

        Raises:
            WeftError: if the prefix leads outside the root.
        """
        now = now or datetime.now().astimezone()
        values = {"width": str(width), "height": str(height), "year": str(now.year)}
        values |= {unit: f"{getattr(now, unit):02}" for unit in ("month", "day", "hour", "minute", "second")}
        filled = re.sub(r"%(\w+)%", lambda match: values.get(match[1], match[0]), prefix).replace("\\", "/")
        parent, _, stem = filled.rpartition("/")
        confine(root, filled or ".")
        folder = root / parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            msg = f"cannot save under {prefix!r}: its folder cannot be made ({cause.strerror})"
            raise WeftError(msg) from cause
        return cls(root, type_, folder, stem)

    def next_number(self) -> int:
        """One more than the highest number in use."""
        start = f"{self.stem}_"
        names = (path.name for path in self.folder.iterdir())
        used = [re.split("[_.]", name[len(start) :], maxsplit=1)[0] for name in names if name.startswith(start)]
        return 1 + max((int(digits) for digits in used if digits.isascii() and digits.isdecimal()), default=0)

    def write(self, pictures: Tensor, texts: Mapping[str, Any], *, level: int = 4) -> tuple[SavedFile, ...]:
        """Write a batch of pictures as PNG files.

        Args:
            pictures: [B, H, W, C] in 0..1.
            texts: Keyword to a JSON value, for every file.
            level: Of zlib, 0..9.
        """
        return self.publish((png_bytes(picture, texts, level=level) for picture in pictures), ".png")

    def publish(
        self, contents: Iterable[bytes | Callable[[Path], None]], suffix: str, *, tail: str = "_"
    ) -> tuple[SavedFile, ...]:
        """Write the next files of the series.

        Args:
            contents: All of each file, or what writes it to a path.
            suffix: Of their names, with the dot.
            tail: What follows the number.
        """
        number = self.next_number()
        saved = []
        for i, content in enumerate(contents):
            stem = self.stem.replace("%batch_num%", str(i))
            # Somebody else may have taken the number meanwhile: the next free one it is.
            while not publish(self.folder, f"{stem}_{number:05}{tail}{suffix}", content):
                number += 1
            name = f"{stem}_{number:05}{tail}{suffix}"
            subfolder = self.folder.relative_to(self.root).as_posix()
            saved.append(SavedFile(self.folder / name, name, "" if subfolder == "." else subfolder, self.type))
            number += 1
        return tuple(saved)


def _frames(path: Path) -> Generator[PIL.Image.Image, None, None]:
    """The frames of a file whose header is within the limits."""
    try:
        with PIL.Image.open(path, formats=FORMATS) as file:
            count = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
            pixels = file.width * file.height
            if pixels > MAX_PIXELS or max(file.size) > MAX_SIDE_PX or count > MAX_FRAMES or pixels * count > MAX_FRAME_PIXELS:
                msg = (
                    f"cannot open a picture of {file.width} x {file.height} pixels and {count} frames: the limits are "
                    f"{MAX_PIXELS // 10**6} megapixels, {MAX_SIDE_PX} pixels a side and {MAX_FRAMES} frames"
                )
                raise FormatError(msg, source=path.name)
            for frame in ImageSequence.Iterator(file) if count > 1 else (file,):
                frame.load()  # decodes here, where a damaged file is caught
                yield frame
    except UnidentifiedImageError as cause:
        msg = f"not a picture of a known format ({', '.join(FORMATS)})"
        raise FormatError(msg, source=path.name) from cause
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as cause:
        msg = f"the picture cannot be read: {cause}"
        raise FormatError(msg, source=path.name) from cause


def _scaled(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Pictures of more than 8 bits brought to the range of 8."""
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda value: value * (1 / 255))
    return picture


def _unit(picture: PIL.Image.Image) -> Tensor:
    """8-bit pixels as float32 in 0..1."""
    return torch.from_numpy(np.array(picture).astype(np.float32) / 255.0)


def _finite(value: Any) -> Any:
    """`value` with null for the numbers that JSON does not have; old files hold such."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def _cropped(samples: Tensor, aspect: float) -> Tensor:
    """The middle of `samples` [B, C, H, W] with the given width / height."""
    height, width = samples.shape[-2:]
    old = width / height
    x = round((width - width * (aspect / old)) / 2) if old > aspect else 0
    y = round((height - height * (old / aspect)) / 2) if old < aspect else 0
    return samples[..., y : height - y, x : width - x]


def _lanczos(samples: Tensor, width: int, height: int) -> Tensor:
    pictures = [to_pil(picture).resize((width, height), PIL.Image.Resampling.LANCZOS) for picture in samples.movedim(1, -1)]
    scaled = [_unit(picture).reshape(height, width, -1).movedim(-1, 0) for picture in pictures]
    return torch.stack(scaled).to(samples.device, samples.dtype)


def _bislerp(samples: Tensor, width: int, height: int) -> Tensor:
    """Interpolate along the width, then the height: directions on the sphere, lengths linearly."""
    across = _slerped(samples.float().movedim(1, -1), 2, width)
    return _slerped(across, 1, height).movedim(-1, 1).to(samples.dtype)


def _slerped(vectors: Tensor, axis: int, size: int) -> Tensor:
    """[B, H, W, C] vectors interpolated along one axis to a new size.

    Source: Shoemake 1985, "Animating rotation with quaternion curves", the slerp formula.
    """
    old = vectors.shape[axis]
    places = ((torch.arange(size, device=vectors.device) + 0.5) * (old / size) - 0.5).clamp(0, old - 1)
    low = places.floor().long()
    one = vectors.index_select(axis, low)
    two = vectors.index_select(axis, (low + 1).clamp(max=old - 1))
    share = places.frac().reshape([-1 if i == axis else 1 for i in range(4)])
    length_one, length_two = one.norm(dim=-1, keepdim=True), two.norm(dim=-1, keepdim=True)
    # A zero vector has no direction; dividing by 1 leaves it zero.
    unit_one, unit_two = one / length_one.where(length_one > 0, 1.0), two / length_two.where(length_two > 0, 1.0)
    cosine = (unit_one * unit_two).sum(dim=-1, keepdim=True)
    angle = cosine.clamp(-1.0, 1.0).acos()
    sine = angle.sin()
    turned = ((1 - share) * angle).sin() / sine * unit_one + (share * angle).sin() / sine * unit_two
    result = turned * (length_one * (1 - share) + length_two * share)
    result = torch.where(cosine > PARALLEL, one, result)
    return torch.where(cosine < -PARALLEL, one * (1 - share) + two * share, result)
