"""Workflows inside pictures, as other programs write them."""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import FormatError
from engine.formats.api import MAX_BYTES
from engine.formats.files import Reader, load, loads, png_texts, webp_texts

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
    document = {"nodes": [{"id": 7, "type": "A", "widgets_values_named": {"text": "x"}}], "links": []}
    graph = loads(png(workflow=plain(document)))
    assert (graph.nodes["7"].kind, graph.nodes["7"].inputs) == ("A", {"text": "x"})


def test_a_png_that_holds_no_workflow():
    with pytest.raises(FormatError, match="carries no workflow"):
        loads(png())


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


def chunk(kind, body=b"", size=None):
    return struct.pack(">I4s", len(body) if size is None else size, kind) + body + b"\0\0\0\0"


def compressed(keyword, text):
    return chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(text, 1))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = chunk(b"tEXt", b"prompt\0" + json.dumps(PROMPT).encode())


def test_a_picture_larger_than_any_document_gives_its_workflow(tmp_path):
    path = tmp_path / "large.png"
    size = 10 * MAX_BYTES
    with path.open("wb") as file:  # the pixels are a hole
        file.write(SIGNATURE + struct.pack(">I4s", size, b"IDAT"))
        file.seek(size + 4, os.SEEK_CUR)
        file.write(TEXT + chunk(b"IEND"))
    assert load(path).nodes["1"].inputs == {"text": "ein Bär"}
    reader = Reader()
    assert reader.read(path) is reader.read(path)


def test_a_large_webp_gives_its_workflow(tmp_path):
    path = tmp_path / "large.webp"
    text = b"prompt:" + json.dumps(PROMPT).encode() + b"\0"
    with path.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WEBP" + struct.pack("<4sI", b"VP8L", 2 * MAX_BYTES))
        file.seek(2 * MAX_BYTES, os.SEEK_CUR)
        body = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0110, 2, len(text), 26) + b"\0\0\0\0" + text
        file.write(struct.pack("<4sI", b"EXIF", len(body)) + body)
    assert load(path).nodes["1"].inputs == {"text": "ein Bär"}


def test_a_picture_may_come_through_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(SIGNATURE + chunk(b"IDAT", b"\0" * 3_000_000) + TEXT))
    writer.start()
    assert load(path).nodes["1"].inputs == {"text": "ein Bär"}
    writer.join()


def test_a_picture_cut_off_after_its_text_gives_its_workflow():
    assert list(loads(SIGNATURE + TEXT + chunk(b"IDAT", b"\0" * 10, size=1000)).nodes) == ["1"]


def test_texts_that_are_no_workflow_are_not_inflated(monkeypatch):
    other = compressed(b"Comment", b" " * 1000)
    monkeypatch.setattr("zlib.decompressobj", lambda: pytest.fail("inflated a comment"))
    assert list(png_texts(SIGNATURE + other + TEXT)) == ["prompt"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_texts_share_one_limit(count):
    bomb = compressed(b"prompt", b" " * (MAX_BYTES // 2 + 1))
    data = SIGNATURE + bomb * count
    if count == 1:
        assert len(png_texts(data)["prompt"]) == MAX_BYTES // 2 + 1
    else:
        with pytest.raises(FormatError, match="more than 16,777,216 bytes"):
            png_texts(data)


def test_a_compressed_text_that_is_cut_off():
    whole = compressed(b"prompt", json.dumps(PROMPT).encode())
    body = whole[8:-10]
    with pytest.raises(FormatError, match="compressed text of the PNG is damaged"):
        png_texts(SIGNATURE + chunk(b"zTXt", body))


def webp(entries, text):
    start = 10 + 12 * entries
    rows = struct.pack("<HHII", 0x0110, 2, len(text), start) * entries
    body = b"II*\0" + struct.pack("<IH", 8, entries) + rows + text
    return b"RIFF\0\0\0\0WEBP" + struct.pack("<4sI", b"EXIF", len(body)) + body


def test_entries_that_share_their_bytes_share_one_limit():
    text = b"prompt:" + b" " * (MAX_BYTES // 8)
    assert len(webp_texts(webp(7, text))["prompt"]) == MAX_BYTES // 8
    with pytest.raises(FormatError, match="more than 16,777,216 bytes"):
        webp_texts(webp(9, text))


def test_entries_that_are_no_workflow_are_not_copied():
    assert webp_texts(webp(60_000, b"comment:" + b" " * (MAX_BYTES // 8))) == {}  # takes minutes where they are


def test_only_the_first_entries_of_a_webp_are_read():
    data = webp(300, b"prompt:{}")
    assert set(webp_texts(data)) == {"prompt"}
    place = data.index(struct.pack("<HH", 0x0110, 2))
    nothing = struct.pack("<HHII", 0x0110, 7, 0, 0)
    assert webp_texts(data[:place] + nothing * 256 + data[place + 12 * 256 :]) == {}


def safetensors(**metadata: str) -> bytes:
    header = json.dumps({"__metadata__": metadata, "x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0"


@pytest.mark.parametrize("name", ["a.latent", "model.safetensors"])
def test_a_saved_latent_or_model_carries_its_workflow(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(
        safetensors(prompt=json.dumps({"1": {"class_type": "A", "inputs": {"n": 1}}}), workflow=json.dumps(WORKFLOW))
    )
    for graph in (load(path), Reader().read(path), loads(path.read_bytes())):
        assert graph.nodes["1"].inputs == {"n": 1}
        assert graph.extra["workflow"] == WORKFLOW


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (safetensors(), "carries no workflow"),
        (safetensors(prompt="x")[:40], "cut off inside its header"),
        ((1 << 40).to_bytes(8, "little") + b"{" + b" " * 20, "more than"),
        ((20).to_bytes(8, "little") + b"{" + b" " * 20, "not JSON"),
    ],
)
def test_a_damaged_latent_is_refused(data, message):
    with pytest.raises(FormatError, match=message):
        loads(data)
