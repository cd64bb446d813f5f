"""Blur, sharpening and morphology against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from engine.pictures import filters

PICTURE = torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(0))


def window(radius, sigma):
    """The square Gaussian window, whose coordinates run from -1 to 1."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, 2 * radius + 1)] * 2)
    weights = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return weights / weights.sum()


@pytest.mark.parametrize(("radius", "sigma"), [(1, 1.0), (3, 0.4), (9, 10.0), (16, 0.1)])
def test_blur_is_a_convolution_with_mirrored_edges(radius, sigma):
    expected = ndimage.convolve(PICTURE.double().numpy(), window(radius, sigma)[None, None], mode="mirror")

    torch.testing.assert_close(filters.blurred(PICTURE, radius, sigma).double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_sharpening_adds_what_blur_takes_away():
    difference = PICTURE - filters.blurred(PICTURE, 2, 0.7)

    torch.testing.assert_close(filters.sharpened(PICTURE, 2, 0.7, 0.25), PICTURE + 2.5 * difference)
    assert torch.equal(filters.sharpened(PICTURE, 2, 0.7, 0.0), PICTURE)


def test_a_window_wider_than_the_picture_is_an_error():
    with pytest.raises(ValueError, match="cannot filter 23 x 17 cells with a radius of 17"):
        filters.blurred(PICTURE, 17, 1.0)


GREY = {
    "erode": ndimage.grey_erosion,
    "dilate": ndimage.grey_dilation,
    "open": ndimage.grey_opening,
    "close": ndimage.grey_closing,
    "gradient": ndimage.morphological_gradient,
    "top_hat": ndimage.white_tophat,
    "bottom_hat": ndimage.black_tophat,
}


@pytest.mark.parametrize("operation", GREY)
@pytest.mark.parametrize("size", [3, 7])
def test_morphology_is_that_of_scipy_inside_the_picture(operation, size):
    """scipy mirrors at the edges: as far as two windows reach in, it may differ."""
    got = filters.morphed(PICTURE, operation, size)

    expected = GREY[operation](PICTURE.numpy(), size=(1, 1, size, size))
    inside = (..., slice(size, -size), slice(size, -size))
    torch.testing.assert_close(got[inside], torch.from_numpy(expected)[inside])


@pytest.mark.parametrize("size", [2, 3, 6, 40])
def test_what_lies_outside_does_not_count(size):
    before, after = size // 2, size - size // 2 - 1
    rows, columns = PICTURE.shape[-2:]
    expected = torch.empty_like(PICTURE)
    for i in range(rows):
        for j in range(columns):
            window = (..., slice(max(0, i - before), i + after + 1), slice(max(0, j - before), j + after + 1))
            expected[..., i, j] = PICTURE[window].amin((-2, -1))

    assert torch.equal(filters.morphed(PICTURE, "erode", size), expected)
    turned = filters.morphed(1 - PICTURE.flip(-1, -2), "dilate", size).flip(-1, -2)
    assert torch.equal(turned, 1 - expected)


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_opening_only_takes_away_and_closing_only_adds_and_once(size):
    opened, closed = filters.morphed(PICTURE, "open", size), filters.morphed(PICTURE, "close", size)

    assert bool((opened <= PICTURE).all())
    assert bool((closed >= PICTURE).all())
    assert torch.equal(filters.morphed(opened, "open", size), opened)
    assert torch.equal(filters.morphed(closed, "close", size), closed)
