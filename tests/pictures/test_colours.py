"""Colours taken apart, and pictures of few colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.pictures import colours

PICTURE = torch.rand(2, 15, 19, 3, generator=torch.Generator().manual_seed(0))


def test_brightness_and_hue_can_be_put_together_again():
    torch.testing.assert_close(colours.of_ycbcr(colours.to_ycbcr(PICTURE)), PICTURE, atol=1e-6, rtol=0)


def test_primary_colours_have_the_values_of_the_standard():
    primaries = torch.eye(3)

    expected = [[0.299, 0.5 - 0.564 * 0.299, 0.5 + 0.713 * 0.701], [0.587, 0.5 - 0.564 * 0.587, 0.5 - 0.713 * 0.587]]
    torch.testing.assert_close(colours.to_ycbcr(primaries)[:2], torch.tensor(expected))
    torch.testing.assert_close(colours.to_ycbcr(torch.full((1, 3), 0.3)), torch.tensor([[0.3, 0.5, 0.5]]))


def test_what_no_screen_shows_is_cut_off():
    assert colours.of_ycbcr(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])).aminmax() == (0, 1)


@pytest.mark.parametrize("dither", ["none", "floyd-steinberg", "bayer-2", "bayer-16"])
@pytest.mark.parametrize("count", [2, 5, 256])
def test_a_picture_has_at_most_so_many_colours(dither, count):
    result = colours.quantized(PICTURE, count, dither)

    assert result.shape == PICTURE.shape
    for picture in result:
        assert len(torch.unique(picture.reshape(-1, 3), dim=0)) <= count


def test_without_dither_every_pixel_takes_a_near_colour():
    result = colours.quantized(PICTURE, 8, "none")[0].reshape(-1, 3)

    nearest = torch.cdist(PICTURE[0].reshape(-1, 3), torch.unique(result, dim=0)).amin(1)
    error = (PICTURE[0].reshape(-1, 3) - result).norm(dim=1)
    assert float((error - nearest).max()) < 0.04  # Pillow looks colours up in cells of four steps


def test_dither_keeps_the_mean_of_an_area():
    ramp = torch.linspace(0, 1, 64)[None, None, :, None].expand(1, 64, 64, 3)

    for dither in ("floyd-steinberg", "bayer-8"):
        error = colours.quantized(ramp, 4, dither).mean((1, 3)) - ramp.mean((1, 3))
        blocks = error.reshape(8, 8).mean(1)
        assert float(blocks[1:-1].abs().max()) < 0.05, dither
    assert float((colours.quantized(ramp, 4, "none") - ramp).mean((1, 3)).reshape(8, 8).mean(1).abs().max()) > 0.05


def test_thresholds_are_in_the_order_of_bayer():
    four = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]

    assert colours.bayer(4).tolist() == four
    assert sorted(colours.bayer(16).ravel().tolist()) == list(range(256))
    assert isinstance(colours.bayer(2), np.ndarray)
