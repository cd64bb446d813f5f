"""Values of ports as Python gets them."""

from __future__ import annotations

import torch

from engine import Catalog, Engine, Graph, node
from engine.types import Cond, Conditioning, Image, Latent


@node("Picture")
def picture() -> Image:
    """A picture."""
    with torch.inference_mode():
        return Image(torch.full((1, 2, 2, 3), 0.5))


@node("Noise")
def noise() -> Latent:
    """A latent."""
    return Latent(torch.ones(1, 4, 2, 2), torch.zeros(1, 1, 2, 2))


@node("Words")
def words() -> Conditioning:
    """A conditioning."""
    return Conditioning((Cond(torch.zeros(1, 77, 3), torch.ones(1, 3)), Cond(torch.zeros(1, 77, 3))))


def value(kind):
    with Engine(catalog=Catalog([picture, noise, words])) as engine:
        return engine.run(Graph().add("x", kind), ["x"]).value("x", 0)


def test_a_picture_is_a_tensor_that_names_itself():
    found = value("Picture")
    assert isinstance(found, torch.Tensor)
    assert list(found.tensors()) == ["tensor"]
    assert type(found.tensors()["tensor"]) is torch.Tensor
    assert type(found * 2) is torch.Tensor
    assert found.mean().item() == 0.5


def test_a_latent_has_its_fields():
    found = value("Noise")
    assert isinstance(found, Latent)
    assert {name: tuple(t.shape) for name, t in found.tensors().items()} == {
        "samples": (1, 4, 2, 2),
        "noise_mask": (1, 1, 2, 2),
    }


def test_a_conditioning_counts_its_entries():
    assert list(value("Words").tensors()) == ["cond0", "pooled_output0", "cond1"]
