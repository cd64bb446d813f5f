"""Names and sizes: the original layout in terms of the modules."""

from __future__ import annotations

import json

import architectures
import pytest
import torch
from reference import Reference, relative_error

from engine.models import checkpoint, files, layout, load_checkpoint, sd1

PARTS = {"unet": checkpoint.UNET_PREFIX, "vae": checkpoint.VAE_PREFIX, "text": sd1.FAMILY.towers[0].prefix}


def _random(shapes: architectures.Shapes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}


def test_the_generator_of_original_names_makes_the_reference_manifest():
    manifest = json.loads((Reference.find().folder / "sd15_tiny.manifest.json").read_text("utf-8"))
    channels = (32, 64, 128, 128)

    made = architectures.sd1(channels=channels, context=64, vae_channels=channels, text_layers=4)

    assert made == manifest


def test_a_published_checkpoint_has_the_known_number_of_tensors():
    names = list(architectures.sd1())

    counts = {part: sum(name.startswith(prefix) for name in names) for part, prefix in PARTS.items()}

    assert counts == {"unet": 686, "vae": 248, "text": 196}


def test_diffusers_converts_the_network_alike(tiny, tiny_tensors):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    theirs = convert_ldm_unet_checkpoint(dict(tiny_tensors), {"layers_per_block": 2})

    assert {n: t.shape for n, t in tiny.model.weights.tensors.items()} == {n: t.shape for n, t in theirs.items()}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in tiny.model.weights.tensors.items())


def test_diffusers_converts_the_vae_alike(tiny, tiny_tensors):
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    config = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    theirs = convert_ldm_vae_checkpoint(dict(tiny_tensors), config)

    ours = tiny.vae.weights.tensors
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_the_network_predicts_what_diffusers_built_from_a_config_predicts(tiny, tiny_tensors):
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    theirs = UNet2DConditionModel(block_out_channels=(32, 64, 128, 128), cross_attention_dim=64, attention_head_dim=8)
    theirs.load_state_dict(convert_ldm_unet_checkpoint(dict(tiny_tensors), {"layers_per_block": 2}))
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 64)

    ours = tiny.model.network(x, torch.tensor([3.0, 800.0]), context).sample
    expected = theirs(x, torch.tensor([3.0, 800.0]), context).sample

    assert relative_error(ours, expected) < 1e-5  # not equal to the bit: memory-mapped weights are aligned otherwise


@pytest.mark.parametrize("attention", [(0, 1, 2), (2,), (0, 2, 3), (3,)])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_original_names_come_back(attention, layers):
    names = list(architectures.unet((32, 64, 64, 96), layers, attention, 64, 4))
    in_modules = layout.unet_names(names)

    back = layout.original_unet_names(in_modules.values())

    assert [back[in_modules[name]] for name in names] == names


@pytest.mark.parametrize(
    "sizes",
    [
        {"channels": (64, 128, 128), "attention": (0, 2)},
        {"channels": (64, 128, 128), "attention": (2,), "vae_channels": (64, 64, 64, 128), "vae_layers": 1, "text_layers": 2},
        {"channels": (32, 64), "layers": 1, "attention": (0, 1), "in_channels": 9},
        {"channels": (32, 64, 64, 96, 96), "layers": 3, "attention": (1, 3), "vae_channels": (32, 64), "vae_layers": 3},
    ],
    ids=["three levels", "attention at the bottom", "two levels, inpainting", "five levels"],
)
def test_sizes_are_inferred_whatever_they_are(sizes, tmp_path):
    from safetensors.torch import save_file

    sizes = {"vae_channels": (32, 32), "vae_layers": 1, "text_layers": 1, "context": 64, **sizes}
    path = tmp_path / "model.safetensors"
    save_file(_random(architectures.sd1(**sizes)), path)

    loaded = load_checkpoint(path, device="cpu", dtype="float32")

    config = loaded.model.network.config
    side = 2 ** len(sizes["channels"])
    extra = {"concat": torch.zeros(1, 5, side, side)} if loaded.model.in_channels == 9 else {}
    tokens = loaded.text_encoder.encode("a face").entries[0].tokens
    made = loaded.model.denoised(torch.randn(1, 4, side, side), torch.ones(1), tokens, extra=extra)
    assert tuple(config.block_out_channels) == sizes["channels"]
    assert [kind.startswith("Cross") for kind in config.down_block_types] == [
        level in sizes["attention"] for level in range(len(sizes["channels"]))
    ]
    assert loaded.vae.factor == 2 ** (len(sizes["vae_channels"]) - 1)
    assert loaded.vae.decode(torch.zeros(1, 4, 4, 4)).shape == (1, 4 * loaded.vae.factor, 4 * loaded.vae.factor, 3)
    assert made.shape == (1, 4, side, side)
    assert made.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_a_file_of_published_size_loads(dtype, tmp_path):
    """Sparse on disk and memory-mapped: the whole of SD1.5 without its gigabytes."""
    path = tmp_path / "v1-5-pruned-emaonly.safetensors"
    _write_sparse(path, architectures.sd1(), dtype)

    loaded = load_checkpoint(path, device="cpu", dtype="float32")

    tokens = loaded.text_encoder.encode("a photograph of an astronaut riding a horse").entries[0].tokens
    assert sum(t.numel() for t in loaded.model.weights.tensors.values()) == 859_520_964
    assert sum(t.numel() for t in loaded.vae.weights.tensors.values()) == 83_653_863
    assert sum(t.numel() for t in loaded.text_encoder.weights.tensors.values()) == 123_060_480
    assert tokens.shape == (1, 77, 768)
    if dtype == "F32":
        stored = files.read_tensors(path)[f"{checkpoint.UNET_PREFIX}out.2.weight"]
        assert stored.shape == (4, 320, 3, 3)
        assert loaded.model.denoised(torch.ones(1, 4, 8, 8), torch.ones(1), tokens, extra={}).shape == (1, 4, 8, 8)


def _write_sparse(path, shapes: architectures.Shapes, dtype: str) -> None:
    import math

    header, end = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape) * (2 if dtype == "F16" else 4)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
