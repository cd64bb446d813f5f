"""Canny's detector, step by step in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from engine.pictures.edges import canny


def slow(picture, low, high):
    """[H, W] brightness in float64 to edges, one pixel after another."""
    places = np.arange(-2, 3)
    window = np.exp(-(places[:, None] ** 2 + places**2) / 2)
    smooth = ndimage.correlate(picture, window / window.sum(), mode="mirror")
    down, right = ndimage.sobel(smooth, 0, mode="nearest"), ndimage.sobel(smooth, 1, mode="nearest")
    slope = np.sqrt(right**2 + down**2 + 1e-6)
    ringed = np.pad(slope, 1)
    thin = np.zeros_like(slope)
    for (i, j), value in np.ndenumerate(slope):
        angle = np.round(np.arctan2(down[i, j], right[i, j]) / (np.pi / 4)) * np.pi / 4
        y, x = round(np.sin(angle)), round(np.cos(angle))
        if value > ringed[i + 1 + y, j + 1 + x] and value > ringed[i + 1 - y, j + 1 - x]:
            thin[i, j] = value
    edges = np.zeros_like(slope)
    front = list(zip(*np.nonzero(thin > high), strict=True))
    while front:
        i, j = front.pop()
        if 0 <= i < len(thin) and 0 <= j < len(thin[0]) and thin[i, j] > low and not edges[i, j]:
            edges[i, j] = 1
            front += [(i + y, j + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return edges


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.3), (0.05, 0.9), (0.4, 0.8)])
def test_edges_are_those_of_the_slow_way(low, high):
    smooth = torch.nn.functional.avg_pool2d(torch.rand(3, 1, 30, 40, generator=torch.Generator().manual_seed(0)), 5, 1, 2)
    pictures = (smooth - smooth.min()) / (smooth.max() - smooth.min())

    got = canny(pictures, low, high)

    expected = np.stack([slow(picture[0].double().numpy(), low, high) for picture in pictures])
    assert got.shape == (3, 1, 30, 40)
    assert 0 < expected.sum() < expected.size / 2
    assert np.array_equal(got[:, 0].numpy(), expected)


def test_a_step_is_one_line():
    step = torch.zeros(1, 3, 9, 12)
    step[..., 6:] = 1

    edges = canny(step, 0.1, 0.2)[0, 0]

    assert edges.sum(1).tolist() in ([1.0] * 9, [0.0] * 9)  # both pixels beside the step may rise alike
    tilted = canny(step + torch.linspace(0, 0.1, 12), 0.1, 0.2)[0, 0]
    assert bool(((tilted.sum(1) == 1) | (tilted.sum(1) == 0)).all())


def test_colours_count_by_their_brightness_and_opacity_does_not():
    picture = torch.rand(1, 4, 20, 20, generator=torch.Generator().manual_seed(1))
    grey = (picture[:, :3] * torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)

    assert torch.equal(canny(picture, 0.1, 0.2), canny(grey, 0.1, 0.2))


@pytest.mark.parametrize("size", [(1, 1), (2, 5)])
def test_a_tiny_picture_is_no_error(size):
    assert canny(torch.rand(1, 1, *size), 0.1, 0.2).shape == (1, 1, *size)


def test_thresholds_the_wrong_way_round_are_an_error():
    with pytest.raises(ValueError, match=r"a low threshold of 0\.8 above the high one of 0\.4"):
        canny(torch.zeros(1, 1, 8, 8), 0.8, 0.4)
