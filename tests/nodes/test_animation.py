"""Moving pictures and drawings that are saved with their workflow."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import PIL.Image
import pytest
import torch

from engine import Catalog, Engine, Graph, Link
from engine.errors import FormatError
from engine.formats.files import load
from engine.media import animated_png_bytes, animated_webp_bytes, load_image, svg_bytes
from engine.schema import node
from engine.types import Image, Svg

SAVERS = {"SaveAnimatedWEBP": {"method": "fastest"}, "SaveAnimatedPNG": {}}

FRAMES = torch.arange(3.0)[:, None, None, None].expand(3, 8, 12, 3) / 4


@node("GiveFrames")
def give_frames(step: float) -> Image:
    """Three frames, each brighter than the one before.

    Args:
        step: By how much.
    """
    return Image(torch.arange(3.0)[:, None, None, None].expand(3, 8, 12, 3) * step)


@pytest.fixture
def engine(tmp_path):
    with Engine(catalog=Catalog.load() | Catalog([give_frames]), output_dir=tmp_path / "output") as engine:
        yield engine


@pytest.mark.parametrize("kind", SAVERS)
def test_a_moving_picture_holds_every_frame_and_its_workflow(kind, engine):
    graph = Graph().add("make", "GiveFrames", step=0.25)
    graph = graph.add("save", kind, images=Link("make"), filename_prefix="%width%/moving", fps=8.0, **SAVERS[kind])

    result = engine.run(graph)

    (path,) = result.files
    assert path.parent.name == "12"
    assert path.name == f"moving_00001_.{kind[-4:].lower().removeprefix('d')}"
    assert result.shown["save"].json()["animated"] == [True]
    frames, _ = load_image(path)
    torch.testing.assert_close(frames, (give_frames(0.25) * 255).floor() / 255)
    with PIL.Image.open(path) as file:
        file.load()
        assert file.info["duration"] == 125
    again = load(path)
    assert {i: (n.kind, dict(n.inputs)) for i, n in again.nodes.items()} == {
        i: (n.kind, dict(n.inputs)) for i, n in graph.nodes.items()
    }


def test_what_a_moving_webp_says_is_where_the_reference_says_it(tmp_path):
    texts = {"prompt": {"1": {"class_type": "A", "inputs": {"text": "Zoë"}}}, "workflow": {"nodes": []}, "other": [1]}
    path = tmp_path / "a.webp"
    path.write_bytes(animated_webp_bytes(FRAMES, texts, fps=6))

    with PIL.Image.open(path) as file:
        exif = file.getexif()
        assert file.n_frames == 3
    assert exif[0x0110] == "prompt:" + json.dumps(texts["prompt"])
    assert (exif[0x010F], exif[0x010E]) == ('workflow:{"nodes": []}', "other:[1]")
    assert load(path).extra["workflow"] == {"nodes": []}


def test_what_a_moving_png_says_stands_behind_its_frames(tmp_path):
    texts = {"prompt": {"1": {"class_type": "A", "inputs": {}}}, "workflow": {"nodes": [{"title": "Zoë"}]}}
    path = tmp_path / "a.png"
    path.write_bytes(content := animated_png_bytes(FRAMES, texts, fps=6))

    assert content.rindex(b"fdAT") < content.index(b'comfprompt\0{"1"') < content.index(b"comfworkflow\0")
    assert load(path).extra["workflow"] == texts["workflow"]


@pytest.mark.parametrize("write", [animated_png_bytes, animated_webp_bytes])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_one_frame_and_any_channels_will_do(write, channels, tmp_path):
    (tmp_path / "a").write_bytes(write(FRAMES[1:2, ..., :1].expand(-1, -1, -1, channels), {}, fps=1000))

    picture, mask = load_image(tmp_path / "a")

    assert picture.shape == (1, 8, 12, 3)
    assert picture.unique().tolist() == pytest.approx([63 / 255])
    if channels == 4:
        assert mask.unique().tolist() == pytest.approx([192 / 255])


def test_losing_pixels_makes_smaller_files():
    noise = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    sizes = [
        len(animated_webp_bytes(noise, {}, fps=6, lossless=lossless, quality=quality))
        for lossless, quality in ((True, 80), (False, 80), (False, 10))
    ]
    assert sizes == sorted(sizes, reverse=True)


@node("Draw")
def draw() -> Svg:
    """Two drawings."""
    return Svg(
        (
            b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' id='a>b'><g/></svg>",
            b"<svg><text>\xc3\xab</text></svg>",
        )
    )


def test_a_drawing_carries_its_workflow(tmp_path):
    catalog = Catalog.load() | Catalog([draw])
    graph = Graph().add("1", "Draw").add("2", "SaveSVGNode", svg=Link("1"), filename_prefix="a]]><b>")
    with Engine(catalog=catalog, output_dir=tmp_path) as engine:
        files = engine.run(graph).files

    assert [file.suffix for file in files] == [".svg", ".svg"]
    for file, name in zip(files, ("{http://www.w3.org/2000/svg}metadata", "metadata"), strict=True):
        root = ET.fromstring(file.read_bytes())  # noqa: S314 - it was written here
        assert root[0].tag == name
        prompt = json.loads(root[0].text)["prompt"]
        assert prompt["2"]["inputs"]["filename_prefix"] == "a]]><b>"
        assert len(root) == 2


@pytest.mark.parametrize("document", [b"", b"<svgx></svgx>", b"<svg/>", b"<html></html>"])
def test_what_is_no_drawing_cannot_carry_one(document):
    with pytest.raises(FormatError, match="no opening <svg> tag"):
        svg_bytes(document, {"prompt": {}})
    assert svg_bytes(document, {}) == document
