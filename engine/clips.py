"""Moving pictures and sound: reading and writing their files with the libraries of FFmpeg."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np
import torch
from av.audio.resampler import AudioResampler

from engine.errors import FormatError, WeftError
from engine.media import MAX_FRAME_PIXELS, json_text, to_bytes
from engine.types import Audio, Image, Video

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

MAX_SOUND_SAMPLES = 500_000_000
"""Samples of all channels together."""

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Samples a second that Opus knows."""

FASTEST = 1_000_000
"""Denominators of frame rates go so far."""


class Parts(NamedTuple):
    """What a moving picture is made of."""

    images: Image
    audio: Audio | None
    fps: float
    bit_depth: int


def parts(video: Video) -> Parts:
    """The frames and the sound of a moving picture; of a file, the part that is meant.

    Raises:
        FormatError: if the file is no moving picture, damaged, or larger than memory should be.
    """
    if video.path is None:
        if video.images is None:
            msg = "the moving picture has neither a file nor pictures"
            raise WeftError(msg)
        return Parts(video.images, video.audio, float(video.fps), video.bit_depth)
    start, length = video.start_s, video.duration_s
    try:
        with av.open(str(video.path)) as container:
            stream = _video_stream(container, video.path)
            fps = float(stream.average_rate or stream.guessed_rate or 1)
            depth = max((part.bits for part in stream.format.components), default=8) if stream.format else 8
            images = _frames(container, stream, start, length, video.path)
    except (av.error.FFmpegError, OSError) as cause:
        msg = f"the moving picture cannot be read: {cause}"
        raise FormatError(msg, source=video.path.name) from cause
    sound = read_sound(video.path, is_needed=False)
    if sound is not None and (start or length):
        sound = cut(sound, start, length or None)
    return Parts(images, sound, fps, depth)


def length_s(video: Video) -> float:
    """How long a moving picture takes, in seconds.

    Raises:
        FormatError: if its file cannot be read.
    """
    if video.path is None:
        return len(video.images if video.images is not None else ()) / float(video.fps)
    if video.duration_s:
        return video.duration_s
    try:
        with av.open(str(video.path)) as container:
            stream = _video_stream(container, video.path)
            if stream.duration is not None and stream.time_base is not None:
                whole = float(stream.duration * stream.time_base)
            elif container.duration is not None:
                whole = container.duration / av.time_base
            else:
                whole = sum(1 for _ in container.decode(stream)) / float(stream.average_rate or 1)
    except (av.error.FFmpegError, OSError) as cause:
        msg = f"the moving picture cannot be read: {cause}"
        raise FormatError(msg, source=video.path.name) from cause
    return whole - video.start_s


def sliced(video: Video, start_s: float, duration_s: float, *, is_strict: bool) -> Video:
    """A part of a moving picture.

    Args:
        video: All of it.
        start_s: Where it begins; negative counts from the end.
        duration_s: How long it is; 0 goes to the end.
        is_strict: Refuse to give less than asked for.

    Raises:
        WeftError: if it would be empty, or shorter than asked for.
    """
    whole = length_s(video)
    start = max(0.0, whole + start_s) if start_s < 0 else start_s
    left = whole - start
    if left <= 0:
        msg = f"cannot begin at {start:g} s: the moving picture takes {whole:g} s"
        raise WeftError(msg)
    if is_strict and duration_s > left + 1e-3:
        msg = f"cannot take {duration_s:g} s from {start:g} s on: the moving picture takes {whole:g} s"
        raise WeftError(msg)
    length = min(duration_s, left) if duration_s else 0.0
    if video.path is not None:
        return replace(video, start_s=video.start_s + start, duration_s=length or (left if video.duration_s else 0.0))
    assert video.images is not None  # noqa: S101 - `length_s` counted them
    first = round(start * float(video.fps))
    count = max(1, round((length or left) * float(video.fps)))
    sound = cut(video.audio, start, length or None) if video.audio is not None else None
    return replace(video, images=Image(video.images[first : first + count]), audio=sound)


def video_bytes(
    video: Video, texts: Mapping[str, Any], *, container: str, codec: str, crf: float | None = None, keep: bool = True
) -> bytes:
    """A moving picture as a file.

    Args:
        video: The moving picture.
        texts: Keyword to a JSON value; they become its metadata.
        container: `mp4`, `mkv` or `webm`.
        codec: `h264`, `av1` or `vp9`.
        crf: Quality, lower is better; the codec's own when None.
        keep: Whether a file that is in this form already is taken as it is, without encoding it again.
    """
    format_ = {"mkv": "matroska"}.get(container, container)
    written = {keyword: json_text(value) for keyword, value in texts.items()}
    if keep and video.path is not None and not video.start_s and not video.duration_s:
        copied = _copied(video.path, format_, codec, written)
        if copied is not None:
            return copied
    images, audio, fps, _ = parts(video)
    buffer = io.BytesIO()
    options = {"movflags": "use_metadata_tags"} if container == "mp4" else {}
    with av.open(buffer, "w", format=format_, options=options) as out:
        out.metadata.update(written)
        rate = Fraction(fps).limit_denominator(FASTEST)
        name = {"h264": "libx264", "av1": "libsvtav1", "vp9": "libvpx-vp9"}[codec]
        settings = {} if crf is None else {"crf": f"{crf:g}"}
        if codec == "vp9" and crf is not None:
            settings["b"] = "0"
        stream = out.add_stream(name, rate=rate, options=settings)
        assert isinstance(stream, av.VideoStream)  # noqa: S101 - by its name
        stream.width, stream.height = images.shape[2], images.shape[1]
        is_odd = images.shape[1] % 2 or images.shape[2] % 2
        stream.pix_fmt = "yuv444p" if is_odd and codec != "av1" else "yuv420p"
        sound = _sound_stream(out, audio, "aac" if container == "mp4" else "libopus", {}) if audio is not None else None
        for picture in images:
            rgb = np.ascontiguousarray(_rgb(to_bytes(picture)).numpy())
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode(None))
        if audio is not None and sound is not None:
            most = round(len(images) / fps * audio.sample_rate)
            _encode_sound(out, sound, replace(audio, waveform=audio.waveform[..., :most]))
    return buffer.getvalue()


def read_sound(path: Path, *, is_needed: bool = True) -> Audio | None:
    """The sound of a file, its first track.

    Args:
        path: A file of sound, or a moving picture.
        is_needed: Whether a file without sound is an error.

    Raises:
        FormatError: if it cannot be read, or has no sound though it is needed.
    """
    pieces: list[np.ndarray[Any, Any]] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                if is_needed:
                    msg = "the file has no sound"
                    raise FormatError(msg, source=path.name)
                return None
            stream = container.streams.audio[0]
            rate, count = stream.rate, 0
            resampler = AudioResampler(format="fltp")
            for frame in (*container.decode(stream), None):
                for piece in resampler.resample(frame):
                    pieces.append(piece.to_ndarray())
                    count += pieces[-1].size
                    if count > MAX_SOUND_SAMPLES:
                        msg = f"the sound has more than {MAX_SOUND_SAMPLES:,} samples"
                        raise FormatError(msg, source=path.name)
            channels = stream.channels
    except (av.error.FFmpegError, OSError) as cause:
        msg = f"the sound cannot be read: {cause}"
        raise FormatError(msg, source=path.name) from cause
    joined = np.concatenate(pieces, axis=1) if pieces else np.zeros((channels, 0), np.float32)
    return Audio(torch.from_numpy(joined.astype(np.float32))[None], rate)


def sound_bytes(audio: Audio, texts: Mapping[str, Any], *, format_: str, quality: str = "") -> tuple[bytes, ...]:
    """Sounds as files, one for each of the batch.

    Args:
        audio: The sounds.
        texts: Keyword to a JSON value; they become metadata.
        format_: `flac`, `mp3` or `opus`.
        quality: `V0` (MP3 of variable rate), or bits a second such as `128k`.
    """
    codec = {"flac": "flac", "mp3": "libmp3lame", "opus": "libopus"}[format_]
    options = {"flags": "+qscale", "global_quality": "0"} if quality == "V0" else {}
    if quality.endswith("k"):
        options = {"b": quality}
    files = []
    for waveform in audio.waveform:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=format_) as out:
            out.metadata.update({keyword: json_text(value) for keyword, value in texts.items()})
            one = Audio(waveform[None], audio.sample_rate)
            _encode_sound(out, _sound_stream(out, one, codec, options), one)
        files.append(buffer.getvalue())
    return tuple(files)


def cut(audio: Audio, start_s: float, duration_s: float | None) -> Audio:
    """A part of a sound; negative starts count from the end, and None goes to the end. It may be empty."""
    count = audio.waveform.shape[-1]
    start = round(start_s * audio.sample_rate)
    start = min(max(start + count if start < 0 else start, 0), count)
    end = count if duration_s is None else min(start + round(duration_s * audio.sample_rate), count)
    return replace(audio, waveform=audio.waveform[..., start:end])


def at_rate(audio: Audio, rate: int) -> Audio:
    """The same sound with another number of samples a second."""
    if audio.sample_rate == rate:
        return audio
    layout = _layout(audio)
    waveforms = []
    for waveform in audio.waveform:
        resampler = AudioResampler(format="fltp", layout=layout, rate=rate)
        frames = [
            piece
            for frame in (*_sound_frames(waveform, audio.sample_rate, layout), None)
            for piece in resampler.resample(frame)
        ]
        waveforms.append(torch.from_numpy(np.concatenate([frame.to_ndarray() for frame in frames], axis=1)))
    return Audio(torch.stack(waveforms), rate)


def _video_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        msg = "the file has no moving picture"
        raise FormatError(msg, source=path.name)
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _frames(container: Any, stream: Any, start_s: float, duration_s: float, path: Path) -> Image:
    pictures: list[Tensor] = []
    pixels = 0
    if start_s:
        container.seek(int(start_s * av.time_base))
    first = float((stream.start_time or 0) * stream.time_base)
    half = 0.5 / float(stream.average_rate or 1)
    for frame in container.decode(stream):
        time = (frame.time or 0.0) - first
        if time + half <= start_s:
            continue
        if duration_s and time + half > start_s + duration_s:
            break
        pixels += frame.width * frame.height
        if pixels > MAX_FRAME_PIXELS:
            msg = f"the moving picture has more than {MAX_FRAME_PIXELS:,} pixels in all frames; take a shorter part of it"
            raise FormatError(msg, source=path.name)
        rgb = torch.from_numpy(frame.to_ndarray(format="rgb24"))
        pictures.append(rgb.rot90(frame.rotation // 90 % 4, (0, 1)).contiguous())
    if not pictures:
        msg = "the moving picture has no frames there"
        raise FormatError(msg, source=path.name)
    return Image(torch.stack(pictures).float() / 255.0)


def _rgb(picture: Tensor) -> Tensor:
    """[H, W, C] with C of 3: grey is spread, transparency dropped."""
    return picture.expand(-1, -1, 3) if picture.shape[-1] == 1 else picture[..., :3]


def _copied(path: Path, format_: str, codec: str, texts: Mapping[str, str]) -> bytes | None:
    """The file with other metadata; None if it is not in this form already."""
    buffer = io.BytesIO()
    options = {"movflags": "use_metadata_tags"} if format_ == "mp4" else {}
    try:
        with av.open(str(path)) as source:
            stream = _video_stream(source, path)
            if stream.codec_context.name not in {codec, {"av1": "libdav1d"}.get(codec)} or format_ not in source.format.name:
                return None
            with av.open(buffer, "w", format=format_, options=options) as out:
                out.metadata.update({**source.metadata, **texts})
                kept = [stream, *source.streams.audio[:1]]
                streams = {one.index: out.add_stream_from_template(one) for one in kept}
                for packet in source.demux(kept):
                    if packet.dts is not None:
                        packet.stream = streams[packet.stream.index]
                        out.mux(packet)
    except (av.error.FFmpegError, OSError) as cause:
        msg = f"the moving picture cannot be read: {cause}"
        raise FormatError(msg, source=path.name) from cause
    return buffer.getvalue()


def _layout(audio: Audio) -> str:
    channels = audio.waveform.shape[1]
    known = {1: "mono", 2: "stereo", 6: "5.1"}
    if channels not in known:
        msg = f"cannot write a sound of {channels} channels; 1, 2 and 6 are known"
        raise WeftError(msg)
    return known[channels]


def _sound_stream(out: Any, audio: Audio, codec: str, options: dict[str, str]) -> Any:
    rate = audio.sample_rate
    if codec == "libopus":
        rate = next((known for known in OPUS_RATES if known >= rate), OPUS_RATES[-1])
    return out.add_stream(codec, rate=rate, layout=_layout(audio), options=options)


def _encode_sound(out: Any, stream: Any, audio: Audio) -> None:
    """Encode the first sound of a batch; the encoder resamples to what it takes."""
    for frame in _sound_frames(audio.waveform[0], audio.sample_rate, _layout(audio)):
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _sound_frames(waveform: Tensor, rate: int, layout: str) -> Iterator[av.AudioFrame]:
    """[C, T] samples in frames of a second."""
    samples = waveform.detach().cpu().float().numpy()
    edges = [*range(0, samples.shape[1], rate), samples.shape[1]]
    for start, end in pairwise(edges):
        if end > start:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, start:end]), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            yield frame
