"""Text encoders and networks from files of their own."""

from __future__ import annotations

import pytest
import torch
from reference import Reference
from safetensors.torch import save_file

from engine.errors import UnsupportedModel
from engine.models import files, load_checkpoint, load_text_encoder, load_unet

PREFIXES = {"l": "conditioner.embedders.0.transformer.", "g": "conditioner.embedders.1.model."}


@pytest.fixture(scope="module")
def whole():
    path = Reference.find().models() / "checkpoints" / "sdxl_tiny.safetensors"
    return path, load_checkpoint(path, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def towers(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    tensors = files.read_tensors(whole[0])
    for name, prefix in PREFIXES.items():
        own = {n.removeprefix(prefix): t.clone() for n, t in tensors.items() if n.startswith(prefix)}
        save_file(own, folder / f"{name}.safetensors")
    in_transformers = {
        (n if n.startswith("text_projection") else f"text_model.{n}"): t.clone()
        for name, t in whole[1].text_encoder.weights.tensors.items()
        if (n := name.removeprefix("clip_g.")) != name
    }
    save_file(in_transformers, folder / "g_transformers.safetensors")
    return folder


@pytest.mark.parametrize("order", [("l", "g"), ("g", "l"), ("l", "g_transformers")])
def test_two_files_make_the_encoder_of_sdxl_in_any_order(order, whole, towers):
    paths = [towers / f"{name}.safetensors" for name in order]

    got = load_text_encoder(*paths, device="cpu", dtype="float32")

    expected = whole[1].text_encoder
    assert got.family == "sdxl"
    assert got.weights.tensors.keys() == expected.weights.tensors.keys()
    assert all(torch.equal(got.weights.tensors[name], tensor) for name, tensor in expected.weights.tensors.items())


@pytest.mark.parametrize(("name", "family"), [("l", "sd1"), ("g", "sdxl-refiner")])
def test_one_file_makes_the_encoder_of_the_family_that_has_it_alone(name, family, towers):
    assert load_text_encoder(towers / f"{name}.safetensors", device="cpu").family == family


def test_two_files_of_the_same_encoder_are_refused(towers):
    with pytest.raises(UnsupportedModel, match="no family has clip_l from 2 files"):
        load_text_encoder(towers / "l.safetensors", towers / "l.safetensors", device="cpu")


@pytest.mark.parametrize("precision", ["float8_e4m3fn", "float8_e5m2"])
def test_a_network_may_be_rounded(precision, whole):
    plain = whole[1].model.weights.tensors

    rounded = load_unet(whole[0], device="cpu", dtype="float32", precision=precision).weights.tensors

    kind = getattr(torch, precision)
    assert all(torch.equal(rounded[name], tensor.to(kind).float()) for name, tensor in plain.items())
    assert {tensor.dtype for tensor in rounded.values()} == {torch.float32}
