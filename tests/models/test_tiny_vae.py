"""Quick autoencoders, against diffusers; and pixels as they are."""

from __future__ import annotations

import pytest
import torch
from reference import relative_error
from safetensors.torch import save_file

from engine.errors import WeftError
from engine.folders import Folders
from engine.models import load_tiny_vae, load_vae, tiny_vaes
from engine.types import Image, Vae


@pytest.fixture
def theirs():
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    return AutoencoderTiny(encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4).eval()


@pytest.fixture
def folders(theirs, tmp_path):
    """Encoder and decoder as published: the decoder counts a clamp without tensors as its first layer."""
    folder = tmp_path / "vae_approx"
    folder.mkdir()
    for side, ahead in (("encoder", 0), ("decoder", 1)):
        tensors = {}
        for name, tensor in getattr(theirs, side).layers.state_dict().items():
            number, rest = name.split(".", 1)
            tensors[f"{int(number) + ahead}.{rest}"] = tensor.clone()
        save_file(tensors, folder / f"taesdxl_{side}.safetensors")
    save_file({"1.weight": torch.zeros(1)}, folder / "taesd_decoder.safetensors")
    return Folders(models=(tmp_path,))


def test_only_whole_pairs_are_listed(folders):
    assert list(tiny_vaes(folders)) == ["taesdxl", "pixel_space"]


def test_the_latents_are_those_of_the_vae_that_it_stands_in_for(theirs, folders):
    vae = load_tiny_vae("taesdxl", *tiny_vaes(folders)["taesdxl"], device="cpu", dtype="float32")
    picture, latent = Image(torch.rand(1, 32, 48, 3)), torch.randn(1, 4, 4, 6)

    encoded, decoded = vae.encode(picture), vae.decode(latent)

    assert isinstance(vae, Vae)
    assert relative_error(encoded, theirs.encoder(picture.movedim(3, 1) * 2 - 1) / 0.13025) < 1e-5
    expected = theirs.decoder(latent * 0.13025)
    assert relative_error(decoded, ((expected + 1) / 2).clamp(0, 1).movedim(1, 3)) < 1e-5


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_both_sides_may_be_in_one_file(layout, theirs, tmp_path):
    tensors = {"vae_scale": torch.tensor(0.5)}
    for name, tensor in theirs.state_dict().items():
        side, _, number, rest = name.split(".", 3)
        original = f"taesd_{side}.{int(number) + (side == 'decoder')}.{rest}"
        tensors[original if layout == "original" else name] = tensor.clone()
    save_file(tensors, tmp_path / "x.safetensors")
    latent = torch.randn(1, 4, 4, 4)

    got = load_vae(tmp_path / "x.safetensors", device="cpu", dtype="float32").decode(latent)

    assert relative_error(got, ((theirs.decoder(latent * 0.5) + 1) / 2).clamp(0, 1).movedim(1, 3)) < 1e-5


def test_pixels_come_back_as_they_were():
    vae = load_tiny_vae("pixel_space")
    picture = Image(torch.rand(2, 5, 7, 3))

    assert isinstance(vae, Vae)
    assert vae.encode(picture).shape == (2, 3, 5, 7)
    assert torch.allclose(vae.decode(vae.encode(picture)), picture, atol=1e-6)
    with pytest.raises(WeftError, match=r"expected \[B, 3, H, W\]"):
        vae.decode(torch.zeros(1, 4, 8, 8))
