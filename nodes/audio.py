"""Nodes that read, cut, mix and save sound."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from engine.schema import FileChoice, Range, Widget, node, option
from engine.types import Audio, Run, Shown
from nodes.image_files import documents

EXTENSIONS = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".mp4", ".webm", ".mkv", ".mov")
"""Files that may hold sound."""

FAR = 2**64 - 1


class Saved(NamedTuple):
    """A sound that was saved."""

    audio: Audio
    shown: Shown


class Channels(NamedTuple):
    """The two sides of a sound."""

    left: Audio
    right: Audio


@option("flac")
class Flac(NamedTuple):
    """FLAC, without loss."""


@option("mp3")
class Mp3(NamedTuple):
    """MP3.

    Attributes:
        quality: `V0` is of variable rate and best; the others are bits a second.
    """

    quality: Literal["V0", "128k", "320k"] = "V0"


@option("opus")
class Opus(NamedTuple):
    """Opus.

    Attributes:
        quality: Bits a second.
    """

    quality: Literal["64k", "96k", "128k", "192k", "320k"] = "128k"


@node("LoadAudio", title="Load Audio", category="audio")
def load(
    *, audio: Annotated[Path, FileChoice("input", upload="audio", extensions=EXTENSIONS), Widget(audio_upload=True)]
) -> Audio:
    """Read the sound of a file.

    Args:
        audio: A file of the input folder: sound, or a moving picture with sound.
    """
    from engine.clips import read_sound

    sound = read_sound(audio)
    assert sound is not None  # noqa: S101 - a file without sound is an error
    return sound


@node("SaveAudio", title="Save Audio (FLAC)", category="audio", effect=True)
def save_flac(*, audio: Audio, filename_prefix: str = "audio/ComfyUI", run: Run) -> Shown:
    """Save sounds as FLAC files, without loss beyond 16 bits, that carry their workflow.

    Args:
        audio: The sounds.
        filename_prefix: First part of their names, as of `SaveImage`.
        run: Knows the output folder and the workflow.
    """
    return _saved(audio, filename_prefix, run, "flac")


@node("SaveAudioMP3", title="Save Audio (MP3)", category="audio", effect=True)
def save_mp3(
    *, audio: Audio, filename_prefix: str = "audio/ComfyUI", quality: Literal["V0", "128k", "320k"] = "V0", run: Run
) -> Shown:
    """Save sounds as MP3 files that carry their workflow.

    Args:
        audio: The sounds.
        filename_prefix: First part of their names, as of `SaveImage`.
        quality: `V0` is of variable rate and best; the others are bits a second.
        run: Knows the output folder and the workflow.
    """
    return _saved(audio, filename_prefix, run, "mp3", quality)


@node("SaveAudioOpus", title="Save Audio (Opus)", category="audio", effect=True)
def save_opus(
    *,
    audio: Audio,
    filename_prefix: str = "audio/ComfyUI",
    quality: Literal["64k", "96k", "128k", "192k", "320k"] = "128k",
    run: Run,
) -> Shown:
    """Save sounds as Opus files that carry their workflow.

    Args:
        audio: The sounds.
        filename_prefix: First part of their names, as of `SaveImage`.
        quality: Bits a second.
        run: Knows the output folder and the workflow.
    """
    return _saved(audio, filename_prefix, run, "opus", quality)


@node("SaveAudioAdvanced", title="Save Audio (Advanced)", category="audio", effect=True)
def save(
    *,
    audio: Audio,
    filename_prefix: str = "audio/ComfyUI",
    format: Flac | Mp3 | Opus = Flac(),  # noqa: A002, B008 - the name that workflows use; it is immutable
    run: Run,
) -> Saved:
    """Save sounds as files that carry their workflow.

    Args:
        audio: The sounds.
        filename_prefix: First part of their names, as of `SaveImage`.
        format: What kind of file.
        run: Knows the output folder and the workflow.

    Returns:
        audio: The sounds as they came.
    """
    quality = "" if isinstance(format, Flac) else format.quality
    return Saved(audio, _saved(audio, filename_prefix, run, type(format).__name__.lower(), quality))


@node("PreviewAudio", title="Preview Audio", category="audio", effect=True)
def preview(*, audio: Audio, run: Run) -> Shown:
    """Let people listen; the files are kept among the temporary ones.

    Args:
        audio: The sounds.
        run: Knows the temporary folder and the workflow.
    """
    import secrets
    import string

    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))
    return _saved(audio, f"ComfyUI_temp_{letters}", run, "flac", is_temporary=True)


@node("TrimAudioDuration", title="Trim Audio Duration", category="audio")
def trim(
    *,
    audio: Audio,
    start_index: Annotated[float, Range(-FAR, FAR, step=0.01)] = 0.0,
    duration: Annotated[float, Widget(min=0.0, step=0.01)] = 60.0,
) -> Audio:
    """Take a part of a sound.

    Args:
        audio: The sound.
        start_index: Where the part begins, in seconds; negative counts from the end.
        duration: How long it is, in seconds; less where the sound ends.
    """
    from engine.clips import cut

    found = cut(audio, start_index, duration)
    if not found.waveform.shape[-1]:
        length = audio.waveform.shape[-1] / audio.sample_rate
        msg = f"nothing is left of {length:g} s from {start_index:g} s on for {duration:g} s"
        raise ValueError(msg)
    return found


@node("SplitAudioChannels", title="Split Audio Channels", category="audio")
def split(*, audio: Audio) -> Channels:
    """Take the left and the right side of a sound.

    Args:
        audio: The sound, of two channels.
    """
    if audio.waveform.shape[1] != 2:
        msg = f"cannot split a sound of {audio.waveform.shape[1]} channels into two"
        raise ValueError(msg)
    return Channels(*(Audio(audio.waveform[:, i : i + 1], audio.sample_rate) for i in range(2)))


@node("AudioConcat", title="Audio Concat", category="audio")
def concatenate(*, audio1: Audio, audio2: Audio, direction: Literal["after", "before"] = "after") -> Audio:
    """Put two sounds one behind the other.

    Args:
        audio1: The first sound.
        audio2: The second; sounds of one channel become stereo, and the lower sample rate is raised to the other.
        direction: Whether the second comes `after` or `before` the first.
    """
    import torch

    one, two = _alike(audio1, audio2)
    order = (one, two) if direction == "after" else (two, one)
    return Audio(torch.cat([part.waveform for part in order], dim=2), one.sample_rate)


@node("AudioMerge", title="Audio Merge", category="audio")
def merge(*, audio1: Audio, audio2: Audio, merge_method: Literal["add", "mean", "subtract", "multiply"]) -> Audio:
    """Lay two sounds over each other.

    Args:
        audio1: The first sound; it gives the length.
        audio2: The second, cut or filled up with silence to that length.
        merge_method: How samples are put together; what is louder than 1 then makes the whole quieter.
    """
    import torch

    one, two = _alike(audio1, audio2)
    first, count = one.waveform, one.waveform.shape[-1]
    second = two.waveform[..., :count]
    second = torch.nn.functional.pad(second, (0, count - second.shape[-1]))
    if merge_method == "multiply":
        mixed = first * second
    elif merge_method == "mean":
        mixed = (first + second) / 2
    else:
        mixed = first + second if merge_method == "add" else first - second
    loudest = mixed.abs().max() if mixed.numel() else torch.tensor(0.0)
    return Audio(mixed / loudest if loudest > 1 else mixed, one.sample_rate)


@node("AudioAdjustVolume", title="Audio Adjust Volume", category="audio")
def adjust(*, audio: Audio, volume: Annotated[int, Range(-100, 100)] = 1) -> Audio:
    """Make a sound louder or quieter.

    Args:
        audio: The sound.
        volume: By how many decibels; 6 about doubles its height.
    """
    return Audio(audio.waveform * 10 ** (volume / 20), audio.sample_rate)


@node("EmptyAudio", title="Empty Audio", category="audio")
def silence(
    *,
    duration: Annotated[float, Range(0.0, FAR, step=0.01)] = 60.0,
    sample_rate: int = 44100,
    channels: Annotated[int, Range(1, 2)] = 2,
) -> Audio:
    """Silence.

    Args:
        duration: How long, in seconds.
        sample_rate: Samples a second.
        channels: 1 or 2.
    """
    import torch

    from engine.clips import MAX_SOUND_SAMPLES

    count = round(duration * sample_rate)
    if sample_rate < 1 or count * channels > MAX_SOUND_SAMPLES:
        msg = f"cannot make {duration:g} s of silence at {sample_rate} samples a second: the limit is {MAX_SOUND_SAMPLES:,} samples"
        raise ValueError(msg)
    return Audio(torch.zeros(1, channels, count), sample_rate)


def _saved(audio: Audio, prefix: str, run: Run, format_: str, quality: str = "", *, is_temporary: bool = False) -> Shown:
    from engine.clips import sound_bytes
    from engine.media import Series

    root, type_ = (run.folders.temp, "temp") if is_temporary else (run.folders.output, "output")
    contents = sound_bytes(audio, documents(run), format_=format_, quality=quality)
    return Shown({"audio": Series.of(root, type_, prefix).publish(contents, f".{format_}")})


def _alike(one: Audio, two: Audio) -> tuple[Audio, Audio]:
    """Two sounds of equal rate and as many channels."""
    from engine.clips import at_rate

    rate = max(one.sample_rate, two.sample_rate)
    channels = max(one.waveform.shape[1], two.waveform.shape[1])
    first, second = (at_rate(sound, rate).waveform for sound in (one, two))
    wide = [w.expand(-1, channels, -1) if w.shape[1] == 1 else w for w in (first, second)]
    return Audio(wide[0], rate), Audio(wide[1], rate)
