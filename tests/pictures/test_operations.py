"""Operations on latents."""

from __future__ import annotations

import pytest
import torch

from engine.fingerprint import digest
from engine.pictures.operations import ReinhardTonemap, Sharpen

LATENT = torch.randn(2, 4, 12, 10, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0])[:, None, None, None]


def test_the_tonemap_presses_lengths_and_keeps_directions():
    result = ReinhardTonemap(0.5)(LATENT)

    for before, after in zip(LATENT, result, strict=True):
        length = before.norm(dim=0)
        top = 0.5 * (length.mean() + 5 * length.std())
        torch.testing.assert_close(after.norm(dim=0), length * top / (length + top))
    torch.testing.assert_close(torch.cosine_similarity(result, LATENT), torch.ones(2, 12, 10))


@pytest.mark.parametrize("latent", [torch.zeros(1, 4, 2, 2), LATENT])
def test_a_tonemap_of_nothing_gives_nothing(latent):
    assert not ReinhardTonemap(0.0)(latent).any()


def test_sharpening_keeps_an_even_latent():
    even = torch.tensor([1.0, -2.0, 0.0, 3.0])[None, :, None, None].expand(1, 4, 8, 8)

    torch.testing.assert_close(Sharpen(3, 1.0, 2.0)(even), even)


@pytest.mark.parametrize("operation", [ReinhardTonemap(1.0), Sharpen(2, 1.0, 0.5)], ids=["tonemap", "sharpen"])
def test_operations_leave_their_argument_and_take_videos(operation):
    before = LATENT.clone()

    still = operation(LATENT)
    moving = operation(LATENT[:, :, None].repeat(1, 1, 3, 1, 1))

    assert torch.equal(LATENT, before)
    assert moving.shape == (2, 4, 3, 12, 10)
    torch.testing.assert_close(moving[:, :, 1], still, atol=0.05, rtol=0.01)  # of repeated frames the std is a little less


def test_operations_are_known_by_their_parameters():
    assert digest(Sharpen(2, 1.0, 0.5)) == digest(Sharpen(2, 1.0, 0.5)) != digest(Sharpen(2, 1.0, 0.6))
