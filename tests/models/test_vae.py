"""Pictures to latents and back."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from reference import Reference, relative_error

from engine.errors import OutOfMemory, WeftError
from engine.models.tiling import tiled

REFERENCE = Reference.find()


@pytest.fixture(params=["64x64", "100x75"])
def size(request):
    return request.param


@pytest.fixture
def picture(assets, size):
    image = PIL.Image.open(assets / f"pattern_{size}.png").convert("RGB")
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None]


def test_a_picture_gives_the_reference_latent(picture, size, tiny):
    expected = REFERENCE.expected(f"sd15/vae_encode/{size}")["samples"]

    assert relative_error(tiny.vae.encode(picture), expected) < 1e-4


def test_a_latent_gives_the_reference_picture(picture, size, tiny):
    expected = REFERENCE.expected(f"sd15/vae_roundtrip/{size}")["tensor"]

    assert relative_error(tiny.vae.decode(tiny.vae.encode(picture)), expected) < 1e-4


def test_tiles_give_the_reference_latent(assets, tiny):
    """The last tile of a row is what remains; shifted inside instead, this fails."""
    name = "sd15/vae2/encode_tiled"
    if name not in REFERENCE.cases:
        pytest.skip("needs the whole set of reference vectors")
    image = PIL.Image.open(assets / "pattern_100x75.png").convert("RGB")
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None].movedim(3, 1)
    picture = torch.nn.functional.interpolate(pixels, size=(136, 200), mode="bilinear").movedim(1, 3)

    got = tiny.vae.encode_tiled(picture, tile_px=64, overlap_px=16)

    assert relative_error(got, REFERENCE.expected(name)["samples"]) < 1e-4


def test_the_latent_is_the_mean_that_diffusers_gives(tiny):
    picture = torch.rand(1, 32, 32, 3)

    theirs = tiny.vae.network.encode(picture.movedim(3, 1) * 2 - 1).latent_dist.mean

    assert relative_error(tiny.vae.encode(picture), theirs) < 1e-6


def test_a_picture_is_cropped_centrally(tiny):
    picture = torch.rand(1, 37, 46, 3)

    assert torch.equal(tiny.vae.encode(picture), tiny.vae.encode(picture[:, 2:34, 3:43]))


def test_alpha_is_dropped_and_grey_is_grey(tiny):
    picture = torch.rand(1, 16, 16, 4)

    assert torch.equal(tiny.vae.encode(picture), tiny.vae.encode(picture[..., :3]))
    assert torch.equal(tiny.vae.encode(picture[..., :1]), tiny.vae.encode(picture[..., :1].expand(-1, -1, -1, 3)))


def test_a_batch_is_its_samples(tiny):
    samples = torch.randn(3, 4, 4, 4)

    made = tiny.vae.decode(samples)

    assert made.shape == (3, 32, 32, 3)
    assert made.dtype == torch.float32
    assert 0 <= made.min() <= made.max() <= 1
    assert torch.equal(made[1:2], tiny.vae.decode(samples[1:2]))


def test_inputs_stay_as_they_are(tiny):
    picture, samples = torch.rand(1, 16, 16, 3), torch.randn(1, 4, 2, 2)
    before = picture.clone(), samples.clone()

    tiny.vae.encode(picture)
    tiny.vae.decode(samples)

    assert torch.equal(picture, before[0])
    assert torch.equal(samples, before[1])


def test_shapes_that_make_no_sense_say_so(tiny):
    with pytest.raises(WeftError, match=r"expected \[B, H, W, C\]"):
        tiny.vae.encode(torch.rand(3, 16, 16))
    with pytest.raises(WeftError, match="needs 8 px a side"):
        tiny.vae.encode(torch.rand(1, 4, 16, 3))
    with pytest.raises(WeftError, match="is it the VAE of another family"):
        tiny.vae.decode(torch.randn(1, 16, 4, 4))
    with pytest.raises(WeftError, match="in steps of 16 px"):
        tiny.vae.encode_tiled(torch.rand(1, 64, 64, 3), tile_px=40, overlap_px=8)


class _FullAbove(torch.nn.Module):
    """A module that has memory for inputs of at most `cells` along a side."""

    def __init__(self, module, cells):
        super().__init__()
        self.module, self.cells, self.calls = module, cells, 0

    def forward(self, x):
        self.calls += 1
        if max(x.shape[2:]) > self.cells:
            raise torch.OutOfMemoryError("full")
        return self.module(x)


def _with_little_memory(vae, cells):
    small = replace(vae, weights=replace(vae.weights))
    small.network.decoder = _FullAbove(small.network.decoder, cells)
    return small


def test_without_memory_for_the_whole_tiles_are_used(tiny, caplog):
    samples = torch.randn(1, 4, 2, 136)
    small = _with_little_memory(tiny.vae, 128)

    with caplog.at_level(logging.WARNING):
        made = small.decode(samples)

    assert torch.equal(made, tiny.vae.decode_tiled(samples))
    assert small.network.decoder.calls > 1
    assert "tile by tile" in caplog.text


def test_without_memory_for_a_tile_the_error_says_what_was_attempted(tiny):
    small = _with_little_memory(tiny.vae, 1)

    with pytest.raises(OutOfMemory, match=r"cannot decode \[1, 4, 8, 8\] latents on cpu: no memory left") as error:
        small.decode(torch.randn(1, 4, 8, 8))

    assert error.value.free_bytes is None or error.value.free_bytes > 0


@pytest.mark.parametrize(("height", "width"), [(5, 5), (8, 8), (9, 30), (31, 17)])
def test_tiles_of_a_pointwise_function_leave_no_seams(height, width):
    x = torch.randn(2, 3, height, width)

    made = tiled(
        lambda t: t.repeat_interleave(2, 2).repeat_interleave(2, 3) * 3, x, tile=(8, 12), overlap=3, scale=2, channels=3
    )

    assert torch.allclose(made, x.repeat_interleave(2, 2).repeat_interleave(2, 3) * 3, atol=1e-5)


def test_tiles_that_overlap_by_their_whole_side_are_refused():
    with pytest.raises(WeftError, match="use larger tiles or less overlap"):
        tiled(lambda t: t, torch.zeros(1, 1, 32, 32), tile=(8, 8), overlap=8, scale=1, channels=1)
