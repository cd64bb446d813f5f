"""Moving pictures and sound, written and read back, against what went in."""

from __future__ import annotations

import json
import math

import av
import numpy as np
import pytest
import torch

from engine import Engine, Graph, Link
from engine.clips import at_rate, cut, length_s, parts, read_sound, sliced, sound_bytes, video_bytes
from engine.errors import FormatError, WeftError
from engine.types import Audio, Image, Video
from nodes import audio as sounds

GREYS = [0.1, 0.3, 0.5, 0.7, 0.9, 0.2]


def frames(width: int = 32, height: int = 16) -> Image:
    """Six frames, each of one grey."""
    return Image(torch.stack([torch.full((height, width, 3), grey) for grey in GREYS]))


def tone(seconds: float, rate: int = 48_000, channels: int = 2, pitch: float = 440.0) -> Audio:
    time = torch.arange(round(seconds * rate)) / rate
    return Audio((0.5 * torch.sin(2 * math.pi * pitch * time)).expand(1, channels, -1).contiguous(), rate)


def greys(image: Image) -> list[float]:
    return image.mean((1, 2, 3)).tolist()


def pitch(audio: Audio) -> float:
    """The strongest frequency, in Hz."""
    samples = audio.waveform[0, 0].numpy()
    return float(np.abs(np.fft.rfft(samples)).argmax() * audio.sample_rate / samples.size)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "h264"), ("mkv", "h264"), ("webm", "av1"), ("mp4", "av1"), ("webm", "vp9")]
)
def test_what_is_written_is_read_back(container, codec, tmp_path):
    video = Video(images=Image(frames(64, 64)), fps=3.0, audio=tone(2.0))
    path = tmp_path / f"a.{container}"
    path.write_bytes(video_bytes(video, {"prompt": {"1": "x"}}, container=container, codec=codec, crf=10))
    again = parts(Video(path=path))
    assert again.images.shape == (6, 64, 64, 3)
    assert greys(again.images) == pytest.approx(GREYS, abs=0.02)
    assert again.fps == pytest.approx(3.0)
    assert again.audio is not None
    assert pitch(again.audio) == pytest.approx(440, abs=2)
    assert again.audio.waveform.shape[-1] / again.audio.sample_rate == pytest.approx(2.0, abs=0.1)
    with av.open(str(path)) as file:
        metadata = {name.lower(): value for name, value in file.metadata.items()}
    assert json.loads(metadata["prompt"]) == {"1": "x"}


def test_odd_sizes_are_kept(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video_bytes(Video(images=frames(33, 17), fps=3.0), {}, container="mp4", codec="h264"))
    assert parts(Video(path=tmp_path / "a.mp4")).images.shape == (6, 17, 33, 3)


def test_a_file_that_is_in_the_wanted_form_is_not_encoded_again(tmp_path):
    first = video_bytes(Video(images=frames(), fps=3.0, audio=tone(1)), {"prompt": 1}, container="mp4", codec="h264", crf=40)
    (tmp_path / "a.mp4").write_bytes(first)
    (tmp_path / "b.mp4").write_bytes(video_bytes(Video(path=tmp_path / "a.mp4"), {"prompt": 2}, container="mp4", codec="h264"))
    one, two = (parts(Video(path=tmp_path / name)) for name in ("a.mp4", "b.mp4"))
    assert torch.equal(one.images, two.images)
    assert two.audio is not None
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert file.metadata["prompt"] == "2"


@pytest.mark.parametrize("is_file", [True, False])
def test_a_part_of_a_moving_picture(is_file, tmp_path):
    whole = Video(images=frames(), fps=2.0, audio=tone(3.0))
    if is_file:
        (tmp_path / "a.mp4").write_bytes(video_bytes(whole, {}, container="mp4", codec="h264", crf=5))
        whole = Video(path=tmp_path / "a.mp4")
    assert length_s(whole) == pytest.approx(3.0, abs=0.05)
    middle = parts(sliced(whole, 1.0, 1.0, is_strict=True))
    assert greys(middle.images) == pytest.approx(GREYS[2:4], abs=0.02)
    assert middle.audio is not None
    assert middle.audio.waveform.shape[-1] / middle.audio.sample_rate == pytest.approx(1.0, abs=0.05)
    assert greys(parts(sliced(whole, -1.0, 0.0, is_strict=False)).images) == pytest.approx(GREYS[4:], abs=0.02)
    assert greys(parts(sliced(whole, 2.0, 9.0, is_strict=False)).images) == pytest.approx(GREYS[4:], abs=0.02)
    inner = sliced(sliced(whole, 0.5, 2.0, is_strict=False), 0.5, 0.5, is_strict=True)
    assert greys(parts(inner).images) == pytest.approx(GREYS[2:3], abs=0.02)
    with pytest.raises(WeftError, match=r"cannot take 9 s"):
        sliced(whole, 2.0, 9.0, is_strict=True)
    with pytest.raises(WeftError, match="cannot begin"):
        sliced(whole, 4.0, 0.0, is_strict=False)


@pytest.mark.parametrize(("format_", "quality"), [("flac", ""), ("mp3", "V0"), ("mp3", "128k"), ("opus", "96k")])
def test_sounds_are_written_and_read_back(format_, quality, tmp_path):
    path = tmp_path / f"a.{format_}"
    path.write_bytes(sound_bytes(tone(1.0, rate=44_100), {"prompt": 1}, format_=format_, quality=quality)[0])
    again = read_sound(path)
    assert again is not None
    assert again.waveform.shape[:2] == (1, 2)
    assert pitch(again) == pytest.approx(440, abs=2)
    if format_ == "flac":
        assert again.sample_rate == 44_100
        assert torch.allclose(again.waveform, tone(1.0, rate=44_100).waveform, atol=2 / 32768)


def test_sounds_are_cut_joined_and_mixed():
    low, high = tone(1.0, pitch=200), tone(0.5, rate=24_000, channels=1, pitch=1000)
    assert torch.equal(cut(low, 0.25, 0.5).waveform, low.waveform[..., 12_000:36_000])
    assert torch.equal(sounds.trim(audio=low, start_index=-0.25, duration=60.0).waveform, low.waveform[..., 36_000:])
    with pytest.raises(ValueError, match="nothing is left"):
        sounds.trim(audio=low, start_index=2.0, duration=1.0)
    joined = sounds.concatenate(audio1=low, audio2=high)
    assert joined.waveform.shape == (1, 2, 72_000)
    assert pitch(cut(joined, 1.0, None)) == pytest.approx(1000, abs=5)
    assert pitch(cut(sounds.concatenate(audio1=low, audio2=high, direction="before"), 0.0, 0.5)) == pytest.approx(1000, abs=5)
    mixed = sounds.merge(audio1=low, audio2=low, merge_method="add")
    assert mixed.waveform.abs().max() <= 1.0
    assert sounds.merge(audio1=low, audio2=low, merge_method="subtract").waveform.abs().max() == 0
    assert torch.allclose(sounds.merge(audio1=low, audio2=low, merge_method="mean").waveform, low.waveform)
    assert torch.allclose(sounds.adjust(audio=low, volume=20).waveform, low.waveform * 10)
    assert at_rate(high, 48_000).waveform.shape[-1] == pytest.approx(24_000, abs=50)


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no picture")
    (tmp_path / "b.mp4").write_bytes(video_bytes(Video(images=frames(), fps=3.0), {}, container="mp4", codec="h264"))
    (tmp_path / "c.flac").write_bytes(sound_bytes(tone(0.1), {}, format_="flac")[0])
    with pytest.raises(FormatError, match="cannot be read"):
        parts(Video(path=tmp_path / "a.mp4"))
    with pytest.raises(FormatError, match="cannot be read"):
        read_sound(tmp_path / "a.mp4")
    with pytest.raises(FormatError, match="no sound"):
        read_sound(tmp_path / "b.mp4")
    with pytest.raises(FormatError, match="no moving picture"):
        parts(Video(path=tmp_path / "c.flac"))
    cut_short = (tmp_path / "b.mp4").read_bytes()[:200]
    (tmp_path / "d.mp4").write_bytes(cut_short)
    with pytest.raises(FormatError):
        parts(Video(path=tmp_path / "d.mp4"))


def test_a_workflow_takes_a_moving_picture_apart_and_saves_it(tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    (inputs / "a.mp4").write_bytes(
        video_bytes(Video(images=frames(), fps=3.0, audio=tone(2)), {}, container="mp4", codec="h264")
    )
    graph = Graph().add("load", "LoadVideo", file="a.mp4").add("part", "GetVideoComponents", video=Link("load"))
    graph = graph.add("dark", "ImageInvert", image=Link("part", "images"))
    graph = graph.add("make", "CreateVideo", images=Link("dark"), audio=Link("part", "audio"), fps=Link("part", "fps"))
    graph = graph.add("save", "SaveVideo", video=Link("make"), filename_prefix="v", format="auto", codec="auto")
    chosen = {"format": "webm", "format.codec": "av1", "format.codec.encoding": "re-encode", "format.codec.encoding.crf": 20.0}
    graph = graph.add("small", "SaveVideo", video=Link("load"), filename_prefix="w", **chosen)
    with Engine(input_dir=inputs, output_dir=outputs) as engine:
        engine.run(graph)
    assert sorted(path.name for path in outputs.iterdir()) == ["v_00001_.mp4", "w_00001_.webm"]
    again = parts(Video(path=outputs / "v_00001_.mp4"))
    assert greys(again.images) == pytest.approx([1 - grey for grey in GREYS], abs=0.03)
    assert again.audio is not None
    assert greys(parts(Video(path=outputs / "w_00001_.webm")).images) == pytest.approx(GREYS, abs=0.03)
