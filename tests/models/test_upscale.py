"""Networks that enlarge pictures."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from reference import relative_error
from safetensors.torch import save_file
from upscalers import compact, doubled, enlarged, rrdb

from engine.errors import ModelFileError, OutOfMemory, RunCancelled, UnsupportedModel, WeftError
from engine.models import upscale

NOISE = torch.Generator().manual_seed(0)


def saved(path, tensors):
    save_file(tensors, path)
    return path


def picture(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def channels_first(function, weights, image):
    return function(weights, image.movedim(3, 1)).movedim(1, 3)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return upscale.load(saved(tmp_path_factory.mktemp("models") / "compact.safetensors", compact()), device="cpu")


def test_an_esrgan_enlarges_as_its_paper_says(tmp_path):
    weights = rrdb(blocks=2)
    image = picture(2, 20, 31, 3)

    network = upscale.load(saved(tmp_path / "a.safetensors", weights), device="cpu")
    result = network.upscale(image)

    assert (network.scale, network.device, result.dtype) == (4, torch.device("cpu"), torch.float32)
    assert network.nbytes == sum(tensor.nbytes for tensor in weights.values())
    assert relative_error(result, channels_first(enlarged, weights, image)) < 1e-5
    assert float(result.std()) > 0.01


@pytest.mark.parametrize("wrap", [lambda t: {"params_ema": t}, lambda t: {"params-ema": t}, lambda t: {"net": t}, lambda t: t])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_files_of_training_tools_are_unwrapped(wrap, prefix, tmp_path):
    torch.save(wrap({f"{prefix}{name}": tensor for name, tensor in compact().items()}), tmp_path / "a.pth")

    result = upscale.load(tmp_path / "a.pth", device="cpu").upscale(picture(1, 6, 8, 3))

    assert relative_error(result, channels_first(doubled, compact(), picture(1, 6, 8, 3))) < 1e-5


def test_tiles_of_a_large_picture_fit_together(small):
    """Three convolutions see three pixels far: further from the edges of tiles nothing may differ."""
    image = picture(1, 530, 700, 3)
    told = []

    result = small.upscale(image, lambda done, total: told.append((done, total)))

    expected = channels_first(doubled, compact(), image)
    assert told == [(i, 4) for i in (1, 2, 3, 4)]  # at 0 and 480 along both sides
    assert relative_error(result, expected) < 1e-2
    inside = torch.ones(530, 700, dtype=torch.bool)
    for seam in (480, 512):
        inside[seam - 3 : seam + 3] = False
        inside[:, seam - 3 : seam + 3] = False
    inside = inside.repeat_interleave(2, 0).repeat_interleave(2, 1)
    torch.testing.assert_close(result[0][inside], expected[0][inside], atol=1e-5, rtol=0)


@pytest.fixture
def swinir():
    from spandrel.architectures.SwinIR import SwinIR

    with warnings.catch_warnings(), torch.random.fork_rng(), torch.no_grad():
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(0)
        size = {"img_size": 64, "window_size": 8, "depths": [2], "embed_dim": 12, "num_heads": [2], "upscale": 2}
        module = SwinIR(**size, upsampler="pixelshuffledirect")
        module.upsample[0].bias.fill_(0.5)  # so that the result lies within the range of pictures
    return module.eval()


def test_a_swinir_is_recognised_and_tiled(tmp_path, monkeypatch, swinir):
    image = picture(1, 48, 64, 3)
    with torch.inference_mode():
        whole = swinir(image.movedim(3, 1)).clamp(0, 1).movedim(1, 3)

    network = upscale.load(saved(tmp_path / "a.safetensors", dict(swinir.state_dict())), device="cpu")

    assert network.descriptor.architecture.name == "SwinIR"
    assert relative_error(network.upscale(image), whole) < 1e-5
    monkeypatch.setattr(upscale, "TILE_PX", 40)
    monkeypatch.setattr(upscale, "OVERLAP_PX", 8)
    tiled = network.upscale(image)
    assert tiled.shape == whole.shape == (1, 96, 128, 3)
    assert relative_error(tiled, whole) < 0.05
    assert not torch.equal(tiled, whole)
    odd = network.upscale(image[:, :37, :51])  # no multiple of the window
    assert odd.shape == (1, 74, 102, 3)


class Full:
    """A descriptor on a device that has no room for large tiles."""

    def __init__(self, inner, limit_px):
        self.inner, self.limit_px, self.sides = inner, limit_px, []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, tile):
        self.sides.append(max(tile.shape[2:]))
        if self.sides[-1] > self.limit_px:
            raise torch.OutOfMemoryError
        return self.inner(tile)


def test_tiles_are_halved_where_they_do_not_fit(small, caplog):
    image = picture(1, 300, 520, 3)
    full = Full(small.descriptor, limit_px=256)

    with caplog.at_level(logging.WARNING):
        result = upscale.UpscaleNetwork("here", full).upscale(image)

    assert full.sides[0] == 512
    assert max(full.sides[1:]) == 256
    assert "tiles of 512 px" in caplog.text
    assert relative_error(result, channels_first(doubled, compact(), image)) < 1e-2


def test_without_room_for_the_smallest_tile_it_says_so(small):
    full = Full(small.descriptor, limit_px=100)

    with pytest.raises(OutOfMemory, match="cannot upscale on cpu: no memory left for tiles of 128 px"):
        upscale.UpscaleNetwork("here", full).upscale(picture(1, 200, 200, 3))
    assert full.sides == [200, 200, 128]


class Broken(Full):
    """A descriptor that fails."""

    def __call__(self, tile):
        raise RuntimeError("shapes differ")


def test_another_error_passes(small):
    with pytest.raises(RuntimeError, match="shapes differ"):
        upscale.UpscaleNetwork("here", Broken(small.descriptor, limit_px=0)).upscale(picture(1, 8, 8, 3))


def test_it_can_be_cancelled_between_tiles(small):
    def cancel(done, total):
        raise RunCancelled

    with pytest.raises(RunCancelled):
        small.upscale(picture(2, 8, 8, 3), cancel)


def test_alpha_is_dropped_and_grey_is_grey(small):
    image = picture(1, 8, 8, 4)

    assert torch.equal(small.upscale(image), small.upscale(image[..., :3]))
    assert torch.equal(small.upscale(image[..., :1]), small.upscale(image[..., :1].expand(-1, -1, -1, 3)))


def test_a_network_for_grey_pictures_takes_only_those(tmp_path):
    network = upscale.load(saved(tmp_path / "grey.safetensors", compact(channels=1)), device="cpu")

    assert network.upscale(picture(1, 8, 8, 1)).shape == (1, 16, 16, 1)
    with pytest.raises(WeftError, match=r"pictures of 3 channels with .*grey\.safetensors: the network takes 1"):
        network.upscale(picture(1, 8, 8, 3))


@pytest.mark.parametrize(("dtype", "computes"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_it_computes_in_float32_unless_told_otherwise(dtype, computes, tmp_path):
    network = upscale.load(saved(tmp_path / "a.safetensors", compact()), device="cpu", dtype=dtype)

    assert network.descriptor.dtype == computes
    assert network.upscale(picture(1, 8, 8, 3)).dtype == torch.float32


def test_an_architecture_that_bears_no_half_precision_computes_in_float32(tmp_path, swinir):
    network = upscale.load(saved(tmp_path / "a.safetensors", dict(swinir.state_dict())), device="cpu", dtype="float16")

    assert not network.descriptor.supports_half
    assert network.descriptor.dtype == torch.float32


def test_what_is_no_upscaling_network_is_refused(tmp_path, tiny_path):
    with pytest.raises(UnsupportedModel, match="its 1 tensors belong to no upscaling network that spandrel knows"):
        upscale.load(saved(tmp_path / "a.safetensors", {"x": torch.zeros(1)}), device="cpu")
    with pytest.raises(UnsupportedModel, match="no upscaling network"):
        upscale.load(tiny_path, device="cpu")


def test_a_damaged_network_is_a_file_error(tmp_path):
    weights = compact() | {"body.2.weight": torch.zeros(3, 3, 3, 3)}

    with pytest.raises(ModelFileError, match="cannot make an upscaling network of its tensors") as error:
        upscale.load(saved(tmp_path / "a.safetensors", weights), device="cpu")
    assert len(str(error.value)) < 600
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="cannot read it as safetensors"):
        upscale.load(tmp_path / "b.safetensors", device="cpu")


def test_without_spandrel_it_says_so(tmp_path):
    path = saved(tmp_path / "a.safetensors", compact())
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise ImportError('libcudart.so.99')")
    code = f"""
from pathlib import Path
from engine.errors import WeftError
from engine.models import upscale
try:
    upscale.load(Path({str(path)!r}), device="cpu")
except WeftError as error:
    assert "spandrel, which knows upscaling networks, cannot be imported" in str(error), error
else:
    raise AssertionError
"""
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {[str(tmp_path), root]!r}\n{code}"], check=True)
