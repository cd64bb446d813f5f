"""GLIGEN's layers against diffusers' own network that has them built in."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from engine import Engine
from engine.errors import ModelFileError, UnsupportedModel
from engine.models import load_gligen
from engine.models.gligen import Box, Boxes
from engine.models.layout import original_unet_names
from engine.models.unet import UNet
from tests.parity.reference import Reference

WIDTH = 24


def gated(context: int = WIDTH, channels: tuple[int, ...] = (32, 64)) -> UNet2DConditionModel:
    torch.manual_seed(0)
    levels = len(channels)
    module = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=channels,
        layers_per_block=2 if levels == 4 else 1,
        cross_attention_dim=context,
        attention_head_dim=8,
        attention_type="gated",
        down_block_types=(*("CrossAttnDownBlock2D",) * (levels - 1), "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * (levels - 1)),
    )
    for name, parameter in module.named_parameters():
        if "alpha_" in name or "null_" in name:
            torch.nn.init.normal_(parameter)
    return module.eval().requires_grad_(requires_grad=False)


def written(module, path):
    """The layers alone, under the names of the published files."""
    tensors = module.state_dict()
    names = original_unet_names(tensors)
    kept = {
        names[name]: tensor.clone() for name, tensor in tensors.items() if ".fuser." in name or name.startswith("position_net")
    }
    assert any(name.startswith("input_blocks.1.1.transformer_blocks.0.fuser.") for name in kept)
    path.parent.mkdir(exist_ok=True)
    save_file(kept, path)
    return path


@pytest.fixture(scope="module")
def module():
    return gated()


@pytest.fixture
def layers(module, tmp_path):
    return load_gligen(written(module, tmp_path / "gligen.safetensors"), device="cpu", dtype="float32")


def test_objects_steer_as_in_diffusers_own_network(module, layers):
    x, context = torch.randn(2, 4, 8, 16), torch.randn(2, 5, WIDTH)
    prompts = torch.randn(2, 1, WIDTH)
    boxes = Boxes(layers, ()).with_box(Box(prompts[0], 4, 8, 2, 4)).with_box(Box(prompts[1], 8, 4, 0, 12))
    call = (x, torch.tensor([800.0, 20.0]), context)
    told = {
        "boxes": torch.zeros(2, 30, 4),
        "masks": torch.zeros(2, 30),
        "positive_embeddings": torch.zeros(2, 30, WIDTH),
    }
    told["boxes"][:, 0] = torch.tensor([0.25, 0.25, 0.75, 0.75])
    told["boxes"][:, 1] = torch.tensor([0.75, 0.0, 1.0, 1.0])
    told["masks"][:, :2] = 1
    told["positive_embeddings"][:, :2] = prompts[:, 0]

    expected = module(*call, cross_attention_kwargs={"gligen": told}, return_dict=False)[0]
    got = UNet(module)(*call, hooks=(boxes.hook(x),))

    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(UNet(module)(*call), expected, atol=1e-3)


def test_no_more_objects_than_a_network_knows(layers):
    boxes = Boxes(layers, ())
    for _ in range(30):
        boxes = boxes.with_box(Box(torch.zeros(1, WIDTH), 1, 1, 0, 0))

    with pytest.raises(UnsupportedModel, match="it knows 30 at most"):
        boxes.with_box(Box(torch.zeros(1, WIDTH), 1, 1, 0, 0))
    with pytest.raises(UnsupportedModel, match="reads prompts of 24 numbers, the text encoder makes 768"):
        Boxes(layers, ()).with_box(Box(torch.zeros(1, 768), 1, 1, 0, 0))
    with pytest.raises(UnsupportedModel, match="cannot steer a SDXL model"):
        boxes.require("sdxl")


def test_other_files_are_refused(tmp_path, tiny_path):
    with pytest.raises(ModelFileError, match="no gated attentions"):
        load_gligen(tiny_path)


def test_boxes_reach_sampling(tmp_path):
    """With the tiny model, whose text is 64 wide: a workflow with a box gives another latent than one without."""
    models = tmp_path / "models"
    models.mkdir()
    for folder in Reference.find().models().iterdir():
        (models / folder.name).symlink_to(folder)
    written(gated(64, (32, 64, 128, 128)), models / "gligen" / "tiny.safetensors")
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15_tiny.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a room", "clip": ["1", 1]}},
        "3": {"class_type": "GLIGENLoader", "inputs": {"gligen_name": "tiny.safetensors"}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    }
    previous = ["2", 0]
    for n, text in (("6", "a cat"), ("7", "a dog")):
        box = {"clip": ["1", 1], "gligen_textbox_model": ["3", 0], "text": text, "width": 32, "height": 32, "x": 16, "y": 8}
        prompt[n] = {"class_type": "GLIGENTextBoxApply", "inputs": {"conditioning_to": previous, **box}}
        previous = [n, 0]
    samplers = {"a": ["2", 0], "b": ["6", 0], "c": ["7", 0]}
    for n, positive in samplers.items():
        settings = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
        links = {"model": ["1", 0], "positive": positive, "negative": ["2", 0], "latent_image": ["4", 0]}
        prompt[n] = {"class_type": "KSampler", "inputs": {**settings, **links}}

    with Engine(models_dir=models, device="cpu", dtype="float32") as engine:
        result = engine.run(prompt, targets=list(samplers))
        none, one, two = (result.value(n).samples for n in samplers)

    assert not torch.allclose(none, one, atol=1e-3)
    assert not torch.allclose(one, two, atol=1e-3)
