"""Sizes of pictures and masks, against what is worked out by hand and by Pillow."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from engine.media import avif_bytes, png16_bytes
from nodes import resizing
from nodes.image_transform import from_batch
from nodes.resizing import (
    Dimensions,
    Height,
    Longer,
    Match,
    Multiple,
    Multiplier,
    Shorter,
    Total,
    Width,
    batch,
    crop,
    measured,
    resize,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("way", "size"),
    [
        (Dimensions(64, 48), (64, 48)),
        (Dimensions(150, 0), (150, 100)),
        (Dimensions(0, 100), (150, 100)),
        (Dimensions(0, 0), (300, 200)),
        (Multiplier(0.5), (150, 100)),
        (Longer(150), (150, 100)),
        (Shorter(100), (150, 100)),
        (Width(30), (30, 20)),
        (Height(20), (30, 20)),
        (Total(0.01), (125, 84)),
        (Match(noise(1, 7, 9, 3)), (9, 7)),
        (Match(noise(2, 7, 9)), (9, 7)),
        (Multiple(64), (256, 192)),
    ],
)
def test_sizes_follow_from_the_way(way, size):
    assert measured(300, 200, way) == size
    image = resize(input=noise(2, 200, 300, 3), resize_type=way, scale_method="bilinear").resized
    assert image.shape == (2, size[1], size[0], 3)
    mask = resize(input=noise(2, 200, 300), resize_type=way, scale_method="area").resized
    assert mask.shape == (2, size[1], size[0])


def test_a_tall_picture_is_measured_by_its_other_side():
    assert measured(200, 300, Longer(150)) == (100, 150)
    assert measured(200, 300, Shorter(100)) == (100, 150)


def test_values_are_those_of_the_method():
    image = noise(1, 8, 12, 3)
    halves = resize(input=image, resize_type=Multiplier(0.5), scale_method="area").resized
    expected = image.reshape(1, 4, 2, 6, 2, 3).mean((2, 4))
    assert torch.allclose(halves, expected, atol=1e-6)
    cut = resize(input=image, resize_type=Dimensions(8, 8, "center"), scale_method="nearest-exact").resized
    assert torch.equal(cut, image[:, :, 2:10])
    mask = resize(input=image[..., 0], resize_type=Dimensions(8, 8, "center"), scale_method="nearest-exact").resized
    assert torch.equal(mask, image[:, :, 2:10, 0])


def test_nothing_is_resized_to_nothing():
    with pytest.raises(ValueError, match="0 x 0"):
        resize(input=noise(1, 8, 8, 3), resize_type=Multiple(64))


@pytest.mark.parametrize(
    ("aspect", "megapixels", "multiple", "size"),
    [
        ("1:1 (Square)", 1.0, 8, (1024, 1024)),
        ("16:9 (Widescreen)", 0.4, 32, (864, 480)),
        ("9:16 (Portrait Widescreen)", 1.0, 8, (768, 1368)),
        ("21:9 (Ultrawide)", 1.0, 64, (1536, 640)),
    ],
)
def test_a_resolution_is_chosen(aspect, megapixels, multiple, size):
    found = resizing.resolution(aspect_ratio=aspect, megapixels=megapixels, multiple=multiple)
    assert found == size
    wide, high = map(int, aspect.partition(" ")[0].split(":"))
    assert abs(found.width - (megapixels * 2**20 * wide / high) ** 0.5) <= multiple / 2
    assert abs(found.height - (megapixels * 2**20 * high / wide) ** 0.5) <= multiple / 2


def test_pictures_are_put_into_one_batch():
    one, two = noise(2, 4, 6, 3), noise(1, 4, 6, 4)
    grey, large = noise(1, 4, 6, 1), noise(1, 8, 12, 3)
    found = batch(images={"image0": one, "image1": two, "image2": grey, "image5": large})
    assert found.shape == (5, 4, 6, 4)
    assert torch.equal(found[:2, ..., :3], one)
    assert found[:2, ..., 3].eq(1).all()
    assert torch.equal(found[2:3], two)
    assert torch.equal(found[3:4, ..., :3], grey.expand(-1, -1, -1, 3))
    halves = torch.nn.functional.interpolate(large.movedim(-1, 1), (4, 6), mode="bilinear").movedim(1, -1)
    assert torch.allclose(found[4:, ..., :3], halves)


def test_a_region_is_cut_out():
    image = noise(1, 8, 12, 3)
    assert torch.equal(crop(image=image, crop_region={"x": 2, "y": 1, "width": 5, "height": 99}), image[:, 1:, 2:7])
    assert crop(image=image, crop_region={"x": 99, "y": 99, "width": 0, "height": 0}).shape == (1, 1, 1, 3)
    with pytest.raises(ValueError, match="has no x"):
        crop(image=image, crop_region={"x": 2})


def test_pictures_are_counted_from_the_end():
    image = noise(5, 2, 2, 3)
    assert torch.equal(from_batch(image=image, batch_index=-1, length=1), image[4:])
    assert torch.equal(from_batch(image=image, batch_index=-2, length=4), image[3:])
    assert torch.equal(from_batch(image=image, batch_index=-9, length=1), image[:1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_files_of_16_bits_hold_every_value(channels, tmp_path):
    import av

    picture = noise(5, 7, channels)
    (tmp_path / "a.png").write_bytes(png16_bytes(picture, {"prompt": {"1": "x"}}))
    with PIL.Image.open(tmp_path / "a.png") as file:
        assert file.text == {"prompt": '{"1": "x"}'}
        file.load()
    with av.open(str(tmp_path / "a.png")) as container:  # another decoder
        frame = next(container.decode(video=0))
    form = {1: "gray16be", 3: "rgb48be", 4: "rgba64be"}[channels]
    assert frame.format.name == form
    values = np.frombuffer(bytes(frame.planes[0]), ">u2").reshape(5, -1)[:, : 7 * channels].reshape(5, 7, channels)
    assert np.array_equal(values, np.rint(picture.numpy().astype(np.float64) * 65535))


def test_avif_files_move_and_carry_their_workflow(tmp_path):
    pictures = noise(3, 8, 8, 3).round()
    (tmp_path / "a.avif").write_bytes(avif_bytes(pictures, {"prompt": {"1": "x"}}, crf=1, fps=4.0))
    with PIL.Image.open(tmp_path / "a.avif") as file:
        assert file.n_frames == 3
        assert file.getexif()[0x110] == 'prompt:{"1": "x"}'
    flat = torch.full((1, 16, 16, 3), 0.5)
    (tmp_path / "b.avif").write_bytes(avif_bytes(flat, {}, crf=18))
    with PIL.Image.open(tmp_path / "b.avif") as file:
        assert np.abs(np.asarray(file).astype(int) - 127).max() <= 2
