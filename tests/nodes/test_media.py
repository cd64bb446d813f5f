"""Pictures in and out: what is read, what is refused, what is written."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import PIL.Image
import PIL.ImageSequence
import pytest
import torch

from engine import media
from engine.errors import FormatError, WeftError


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


def test_colours_are_read_as_shares_of_255(tmp_path):
    picture = PIL.Image.new("RGB", (3, 2), (255, 51, 0))

    image, mask = media.load_image(saved(tmp_path / "a.png", picture))

    assert image.shape == (1, 2, 3, 3)
    assert image.dtype == torch.float32
    assert image[0, 0, 0].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert mask.shape == (1, 64, 64)
    assert not mask.any()


def test_transparency_becomes_the_mask(tmp_path):
    picture = PIL.Image.new("RGBA", (3, 2), (255, 0, 0, 51))

    image, mask = media.load_image(saved(tmp_path / "a.png", picture))

    assert image.shape == (1, 2, 3, 3)
    assert mask.shape == (1, 2, 3)
    assert float(mask[0, 0, 0]) == pytest.approx(0.8)


def test_a_transparent_palette_counts_as_transparency(tmp_path):
    picture = PIL.Image.new("P", (3, 2), 1)
    picture.putpalette([0, 0, 0, 255, 255, 255])

    _, mask = media.load_image(saved(tmp_path / "a.png", picture, transparency=1))

    assert mask.shape == (1, 2, 3)
    assert bool((mask == 1).all())


def test_pictures_are_turned_upright(tmp_path):
    picture = PIL.Image.new("RGB", (4, 2))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees

    image, _ = media.load_image(saved(tmp_path / "a.jpg", picture, exif=exif))

    assert image.shape == (1, 4, 2, 3)


def test_every_frame_of_the_first_size_is_read(tmp_path):
    frames = [PIL.Image.new("RGB", (4, 2), (shade, 0, 0)) for shade in (0, 100, 255)]

    image, mask = media.load_image(
        saved(tmp_path / "a.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    )

    assert image.shape == (3, 2, 4, 3)
    assert len(mask) == 3
    assert image[:, 0, 0, 0].tolist() == pytest.approx([0, 100 / 255, 1])


def test_sixteen_bits_are_brought_to_eight(tmp_path):
    picture = PIL.Image.new("I;16", (2, 2), 128 * 255)

    image, _ = media.load_image(saved(tmp_path / "a.png", picture))

    assert image[0, 0, 0].tolist() == pytest.approx([128 / 255] * 3, abs=0.01)


def test_every_step_of_sixteen_bits_has_its_place(tmp_path):
    picture = PIL.Image.new("I;16", (4, 1))
    for x, value in enumerate((0, 255, 40_000, 65_535)):
        picture.putpixel((x, 0), value)

    image, mask = media.load_image(saved(tmp_path / "a.png", picture))

    assert image[0, 0, :, 0].tolist() == pytest.approx([0, 1 / 255, 156 / 255, 1], abs=0.003)
    assert not mask.any()


def test_sixteen_bits_of_each_colour_are_brought_to_eight(tmp_path):
    """Pillow cannot write such a file, so this one is put together by hand."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + struct.pack(">3H", 65_535, 51 * 257, 0) * 2
    path = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)

    image, _ = media.load_image(path)

    assert image[0, 0].tolist() == [pytest.approx([1.0, 0.2, 0.0])] * 2


def test_a_palette_has_an_opacity_for_each_colour(tmp_path):
    picture = PIL.Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(3):
        picture.putpixel((x, 0), x)

    image, mask = media.load_image(saved(tmp_path / "a.png", picture, transparency=bytes([0, 51, 255])))

    assert image[0, 0].tolist() == torch.eye(3).tolist()
    assert mask[0, 0].tolist() == pytest.approx([1.0, 0.8, 0.0])


def test_an_opaque_palette_has_no_mask(tmp_path):
    picture = PIL.Image.new("P", (3, 2), 1)
    picture.putpalette([0, 0, 0, 255, 51, 0])

    image, mask = media.load_image(saved(tmp_path / "a.png", picture))

    assert image[0, 1, 2].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert mask.shape == (1, 64, 64)


def test_grey_may_be_transparent_too(tmp_path):
    image, mask = media.load_image(saved(tmp_path / "a.png", PIL.Image.new("LA", (3, 2), (51, 204))))

    assert image[0, 0, 0].tolist() == pytest.approx([0.2] * 3)
    assert mask.unique().tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_mask_is_turned_with_the_picture(orientation, tmp_path):
    upright = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(orientation))
    stored = {
        1: upright,
        2: upright.flip(1),
        3: upright.flip(0, 1),
        4: upright.flip(0),
        5: upright.transpose(0, 1),
        6: upright.rot90(1),
        7: upright.transpose(0, 1).flip(0, 1),
        8: upright.rot90(-1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", media.to_pil(stored), exif=exif)

    image, mask = media.load_image(path)

    torch.testing.assert_close(image[0], upright[..., :3], atol=1 / 255, rtol=0)
    torch.testing.assert_close(mask[0], 1 - upright[..., 3], atol=1 / 255, rtol=0)
    assert torch.equal(media.load_mask(path, "alpha"), mask)


@pytest.mark.parametrize(("channel", "value"), [("red", 1.0), ("green", 0.2), ("blue", 0.0), ("alpha", 0.8)])
def test_one_channel_as_a_mask(channel, value, tmp_path):
    picture = PIL.Image.new("RGBA", (3, 2), (255, 51, 0, 51))

    mask = media.load_mask(saved(tmp_path / "a.png", picture), channel)

    assert mask.shape == (1, 2, 3)
    assert float(mask[0, 0, 0]) == pytest.approx(value)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    path = saved(tmp_path / "a.png", PIL.Image.new("1", (9000, 9000)))

    with pytest.raises(FormatError, match=r"9000 x 9000 pixels and 1 frames: the limits are 64 megapixels"):
        media.load_image(path)


def test_a_long_picture_is_refused(tmp_path):
    path = saved(tmp_path / "a.png", PIL.Image.new("1", (16385, 1)))

    with pytest.raises(FormatError, match="16384 pixels a side"):
        media.load_image(path)


def test_too_many_frames_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(media, "MAX_FRAMES", 2)
    frames = [PIL.Image.new("L", (2, 2), shade) for shade in (0, 100, 255)]

    with pytest.raises(FormatError, match="3 frames"):
        media.load_image(saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS\0\1" + bytes(40)])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(content)

    with pytest.raises(FormatError, match=r"a\.png: not a picture of a known format"):
        media.load_image(path)


def test_a_truncated_picture_is_refused(tmp_path):
    path = saved(tmp_path / "a.png", PIL.Image.effect_noise((64, 64), 50))
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(FormatError, match="cannot be read"):
        media.load_image(path)


def test_eight_bits_are_cut_not_rounded():
    assert media.to_bytes(torch.tensor([0.5, 0.1, 0.25, 1.0, -1.0, 2.0])).tolist() == [127, 25, 63, 255, 0, 255]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_channels_become_modes(channels, mode):
    assert media.to_pil(torch.zeros(2, 3, channels)).mode == mode


def test_a_png_carries_its_workflow_as_ascii_text(tmp_path):
    workflow = {"nodes": [{"title": "Bild für Zoë"}], "odd": [float("nan"), float("inf")]}
    path = tmp_path / "a.png"
    path.write_bytes(media.png_bytes(torch.zeros(2, 2, 3), {"prompt": {"1": {}}, "workflow": workflow}))

    with PIL.Image.open(path) as file:
        texts = file.text
    assert texts["prompt"] == '{"1": {}}'
    assert texts["workflow"].isascii()
    assert json.loads(texts["workflow"]) == {"nodes": workflow["nodes"], "odd": [None, None]}


def series(root, prefix, **values):
    settings = {"width": 640, "height": 480, "now": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)} | values
    return media.Series.of(root, "output", prefix, **settings)


def test_files_are_numbered_on_from_the_highest(tmp_path):
    for name in ("a_00007_.png", "a_x_.png", "a_12_.webp", "ab_00090_.png", "a.png"):
        (tmp_path / name).touch()

    files = series(tmp_path, "a").write(torch.zeros(2, 4, 4, 3), {})

    assert [file.filename for file in files] == ["a_00013_.png", "a_00014_.png"]
    assert files[0].json() == {"filename": "a_00013_.png", "subfolder": "", "type": "output"}
    assert all(file.path.exists() for file in files)


def test_a_prefix_is_filled_in(tmp_path):
    files = series(tmp_path, "%year%/%month%-%day%/%width%x%height% %hour%%minute%%second% %batch_num% %other%").write(
        torch.zeros(2, 4, 4, 3), {}
    )

    assert [file.subfolder for file in files] == ["2026/03-04"] * 2
    assert files[1].filename == "640x480 050607 1 %other%_00002_.png"
    assert files[1].path == tmp_path / "2026" / "03-04" / files[1].filename


@pytest.mark.parametrize("prefix", ["../a", "a/../../b", "/a", "..\\a", "C:\\a", "a\0b"])
def test_a_prefix_does_not_lead_outside(prefix, tmp_path):
    root = tmp_path / "output"
    root.mkdir()

    with pytest.raises(WeftError, match="outside its folder"):
        series(root, prefix)
    assert list(tmp_path.iterdir()) == [root]


def test_a_link_does_not_lead_outside(tmp_path):
    root = tmp_path / "output"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)

    with pytest.raises(WeftError, match="outside its folder"):
        series(root, "link/a")


def test_a_prefix_below_a_file_is_an_error(tmp_path):
    (tmp_path / "a").touch()

    with pytest.raises(WeftError, match="its folder cannot be made"):
        series(tmp_path, "a/b")


def test_files_written_at_the_same_time_do_not_replace_each_other(tmp_path):
    pictures = torch.zeros(4, 4, 4, 3)
    threads = [threading.Thread(target=series(tmp_path, "a").write, args=(pictures, {})) for _ in range(6)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a_{i:05}_.png" for i in range(1, 25)]


def test_a_file_that_is_there_is_never_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    assert not media.publish(tmp_path, "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_without_hard_links_files_are_renamed(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)

    assert media.publish(tmp_path, "a", b"new")
    assert not media.publish(tmp_path, "a", b"newer")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp"])
def test_resizing_keeps_what_is_even(method):
    even = torch.full((2, 3, 8, 6), 0.2)

    result = media.resized(even, 12, 5, method)

    assert result.shape == (2, 3, 5, 12)
    torch.testing.assert_close(result, torch.full((2, 3, 5, 12), 0.2), atol=1e-6, rtol=0)


def test_the_middle_is_kept_where_the_aspect_ratio_changes():
    image = torch.arange(12.0).reshape(1, 1, 1, 12).expand(1, 1, 4, 12)

    assert media.resized(image, 4, 4, "nearest-exact", "center")[0, 0, 0].tolist() == [4, 5, 6, 7]
    assert media.resized(image.mT, 4, 4, "nearest-exact", "center")[0, 0, :, 0].tolist() == [4, 5, 6, 7]


def test_bislerp_keeps_the_length_of_what_it_turns():
    two = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)  # a right angle between neighbours

    result = media.resized(two, 8, 1, "bislerp")

    torch.testing.assert_close(result.norm(dim=1), torch.ones(1, 1, 8))


def test_bislerp_goes_straight_between_opposites_and_survives_zeros():
    opposites = torch.tensor([1.0, -1.0, 0.0, 0.0]).reshape(1, 1, 1, 4)

    result = media.resized(opposites, 8, 2, "bislerp")

    assert bool(torch.isfinite(result).all())
    assert float(result.abs().max()) <= 1.0
