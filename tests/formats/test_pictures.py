"""Workflows inside pictures, as other programs write them."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import FormatError
from engine.formats.files import loads

PROMPT = {"1": {"class_type": "A", "inputs": {"text": "ein Bär"}, "is_changed": [1]}}
WORKFLOW = {"nodes": [], "links": [], "version": 0.4}


def png(**texts):
    info = PngInfo()
    for name, text in texts.items():
        text(info, name)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def plain(value):
    return lambda info, name: info.add_text(name, json.dumps(value))


@pytest.mark.parametrize(
    "add",
    [
        plain(PROMPT),
        lambda info, name: info.add_text(name, json.dumps(PROMPT), zip=True),
        lambda info, name: info.add_itxt(name, json.dumps(PROMPT, ensure_ascii=False)),
        lambda info, name: info.add_itxt(name, json.dumps(PROMPT, ensure_ascii=False), zip=True),
    ],
    ids=["tEXt", "zTXt", "iTXt", "compressed iTXt"],
)
def test_a_png(add):
    graph = loads(png(prompt=add, workflow=plain(WORKFLOW)))
    assert graph.nodes["1"].inputs == {"text": "ein Bär"}
    assert graph.extra["workflow"] == WORKFLOW


def test_a_png_with_nan():
    data = png(prompt=lambda info, name: info.add_text(name, '{"1": {"class_type": "A", "inputs": {}, "is_changed": [NaN]}}'))
    assert list(loads(data).nodes) == ["1"]


def test_a_png_that_holds_only_the_other_format():
    with pytest.raises(FormatError, match="only a workflow in the page's own format"):
        loads(png(workflow=plain(WORKFLOW)))


def test_a_png_whose_text_is_no_json():
    with pytest.raises(FormatError, match=r"\(prompt\): not JSON"):
        loads(png(prompt=lambda info, name: info.add_text(name, "{oops")))


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_webp(order):
    exif = Image.Exif()
    exif.endian = "<" if order == "little" else ">"
    exif[0x0110] = "prompt:" + json.dumps(PROMPT)
    exif[0x010F] = "workflow:" + json.dumps(WORKFLOW)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "WEBP", exif=exif, lossless=True)
    graph = loads(buffer.getvalue())
    assert graph.nodes["1"].inputs == {"text": "ein Bär"}
    assert graph.extra["workflow"] == WORKFLOW


def test_every_truncation_of_a_picture_is_a_format_error_or_a_workflow():
    data = png(prompt=plain(PROMPT))
    for size in range(8, len(data)):
        try:
            loads(data[:size])
        except FormatError:
            continue


def test_a_webp_with_damaged_exif():
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(PROMPT)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "WEBP", exif=exif, lossless=True)
    data = buffer.getvalue()
    start = data.index(b"EXIF") + 8
    for byte in range(start, min(start + 40, len(data))):
        spoiled = data[:byte] + bytes([data[byte] ^ 0xFF]) + data[byte + 1 :]
        try:
            loads(spoiled)
        except FormatError:
            continue
