"""Control networks give what diffusers' modules give, and steer as they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from diffusers.models.adapter import FullAdapter, FullAdapterXL, LightAdapter
from safetensors.torch import load_file, save_file

from engine.errors import ModelFileError, UnsupportedModel
from engine.models import detect, load_control_net
from engine.models.architecture import control_sizes
from engine.models.control import Control
from engine.models.layout import original_unet_names
from engine.sampling.schedule import DiscreteSchedule

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

LEVELS = {
    "block_out_channels": (32, 64),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
}
HINT = {"conditioning_embedding_out_channels": (4, 8, 8, 16)}
WIDE = {
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": (1, 2),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 40,
}

TIMESTEP = torch.tensor([801.0, 13.0])
SIZE = (8, 12)


def randomised(module):
    """`module` with every weight random, also those that training starts from zero."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        spread = 0.5 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.05
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1 and parameter.mean() == 1), std=spread)
    return module.eval().requires_grad_(requires_grad=False)


def given(channels: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Latents and context of two rows, and a picture of another size than they need."""
    noise = torch.Generator().manual_seed(1)
    x = torch.randn(2, channels, *SIZE, generator=noise)
    return x, torch.randn(2, 5, 24, generator=noise), torch.rand(1, 64, 96, 3, generator=noise)


def loaded(module, path: Path, **options):
    save_file(module.state_dict(), path)
    return load_control_net(path, device="cpu", dtype="float32", **options)


def shown(picture: Tensor) -> Tensor:
    return picture.movedim(-1, 1)


def original(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ControlNet's tensors under the names of the original files."""
    names = original_unet_names(tensors)
    last = 2 * max(int(name.split(".")[2]) for name in tensors if name.startswith("controlnet_cond_embedding.blocks.")) + 4
    renamed = {}
    for name, tensor in tensors.items():
        new = names[name]
        parts = name.split(".")
        if name.startswith("controlnet_down_blocks."):
            new = f"zero_convs.{parts[1]}.0.{parts[2]}"
        elif name.startswith("controlnet_mid_block."):
            new = f"middle_block_out.0.{parts[1]}"
        elif name.startswith("controlnet_cond_embedding."):
            number = {"conv_in": 0, "conv_out": last}.get(parts[1], 2 + 2 * int(parts[2]) if parts[1] == "blocks" else 0)
            new = f"input_hint_block.{number}.{parts[-1]}"
        renamed[f"control_model.{new}"] = tensor
    return renamed


def same(got, expected_skips, expected_middle) -> None:
    assert len(got.output) == len(expected_skips)
    for one, other in zip((*got.output, got.middle), (*expected_skips, expected_middle), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_a_controlnet_gives_the_residuals_of_diffusers_module(tmp_path, layout):
    module = randomised(ControlNetModel(**LEVELS, **HINT))
    tensors = module.state_dict() if layout == "diffusers" else original(module.state_dict())
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    x, context, picture = given()

    net = load_control_net(path, device="cpu", dtype="float32")
    got = Control(net, picture, strength=0.6).residuals(None, x, TIMESTEP, context, None)

    assert net.family == "sd1"
    assert str(detect(path)) == "a Stable Diffusion 1 ControlNet"
    hint = shown(picture).repeat(2, 1, 1, 1)
    same(got, *module(x, TIMESTEP, context, hint, conditioning_scale=0.6, return_dict=False))


def test_a_controlnet_of_sdxl_reads_the_vector(tmp_path):
    module = randomised(ControlNetModel(**WIDE, **HINT))
    x, context, picture = given()
    pooled, numbers = torch.randn(2, 16), torch.arange(12.0).reshape(2, 6)
    vector = torch.cat((pooled, module.add_time_proj(numbers.flatten()).reshape(2, -1)), dim=1)

    net = loaded(module, tmp_path / "net.safetensors")
    got = Control(net, picture).residuals(None, x, TIMESTEP, context, vector)

    assert net.family == "sdxl"
    added = {"text_embeds": pooled, "time_ids": numbers}
    hint = shown(picture).repeat(2, 1, 1, 1)
    same(got, *module(x, TIMESTEP, context, hint, added_cond_kwargs=added, return_dict=False))


def test_a_small_controlnet_of_sdxl_attends_nowhere(tmp_path):
    small = {**WIDE, "down_block_types": ("DownBlock2D", "DownBlock2D"), "mid_block_type": "UNetMidBlock2D"}
    module = randomised(ControlNetModel(**small, **HINT))
    x, context, picture = given()
    pooled, numbers = torch.randn(2, 16), torch.arange(12.0).reshape(2, 6)
    vector = torch.cat((pooled, module.add_time_proj(numbers.flatten()).reshape(2, -1)), dim=1)

    net = loaded(module, tmp_path / "net.safetensors")
    got = Control(net, picture).residuals(None, x, TIMESTEP, context, vector)

    assert net.family == "sdxl"
    added = {"text_embeds": pooled, "time_ids": numbers}
    hint = shown(picture).repeat(2, 1, 1, 1)
    same(got, *module(x, TIMESTEP, context, hint, added_cond_kwargs=added, return_dict=False))


PUBLISHED = {
    "SD 1.5": ({"cross_attention_dim": 768, "attention_head_dim": 8}, 8),
    "SD 2.1": ({"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}, None),
    "SDXL": (
        {
            "block_out_channels": (320, 640, 1280),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        None,
    ),
}
"""Configurations of published ControlNets, and attention heads that the family is known by."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_sizes_of_published_networks_are_found_from_their_tensors(name):
    config, heads = PUBLISHED[name]
    with torch.device("meta"):
        published = ControlNetModel(**config)
    shapes = {key: tuple(tensor.shape) for key, tensor in published.state_dict().items()}

    found = control_sizes(shapes).config(heads)

    with torch.device("meta"):
        again = ControlNetModel(**found)
    assert {key: tuple(tensor.shape) for key, tensor in again.state_dict().items()} == shapes
    attentions = [(one.heads, one.inner_dim) for one in published.modules() if hasattr(one, "heads")]
    assert [(one.heads, one.inner_dim) for one in again.modules() if hasattr(one, "heads")] == attentions


def test_a_shuffling_controlnet_adds_the_same_everywhere(tmp_path):
    module = randomised(ControlNetModel(**LEVELS, **HINT, global_pool_conditions=True))
    x, context, picture = given()

    net = loaded(module, tmp_path / "control_v11e_sd15_shuffle.safetensors")

    expected = module(x, TIMESTEP, context, shown(picture).repeat(2, 1, 1, 1), return_dict=False)
    same(Control(net, picture).residuals(None, x, TIMESTEP, context, None), *expected)


@pytest.mark.parametrize("kind", [1, 3])
def test_a_controlnet_of_many_kinds_is_told_the_kind(tmp_path, kind):
    wide = {**WIDE, "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 16 + 6 * 256}
    union = {"num_control_type": 6, "num_trans_channel": 64, "num_proj_channel": 64}
    module = randomised(ControlNetUnionModel(**wide, **HINT, **union))
    x, context, picture = given()
    pooled, numbers = torch.randn(2, 16), torch.arange(12.0).reshape(2, 6)
    vector = torch.cat((pooled, module.add_time_proj(numbers.flatten()).reshape(2, -1)), dim=1)

    net = loaded(module, tmp_path / "union.safetensors")
    got = Control(net.with_kind(kind), picture).residuals(None, x, TIMESTEP, context, vector)

    expected = module(
        x,
        TIMESTEP,
        context,
        controlnet_cond=[shown(picture).repeat(2, 1, 1, 1)],
        control_type=torch.nn.functional.one_hot(torch.tensor([kind, kind]), 6).float(),
        control_type_idx=[kind],
        added_cond_kwargs={"text_embeds": pooled, "time_ids": numbers},
        return_dict=False,
    )
    same(got, *expected)
    plain = Control(net, picture).residuals(None, x, TIMESTEP, context, vector)
    assert not torch.allclose(plain.middle, got.middle)
    with pytest.raises(UnsupportedModel, match="cannot show a tile picture"):
        net.with_kind(6)


def adapter_tensors(module, layout: str) -> dict[str, Tensor]:
    if layout == "diffusers":
        return {f"adapter.{name}": tensor for name, tensor in module.state_dict().items()}
    renamed = {}
    for name, tensor in module.state_dict().items():
        parts = name.split(".")
        if isinstance(module, LightAdapter):
            renamed[name.replace(".resnets.", ".body.")] = tensor
        elif parts[0] == "body":
            first = 2 * int(parts[1])
            tail = f"{first}.in_conv" if parts[2] == "in_conv" else f"{first + int(parts[3])}.{parts[4]}"
            renamed[f"body.{tail}.{parts[-1]}"] = tensor
        else:
            renamed[name] = tensor
    return renamed


ADAPTERS = {
    "full": (lambda: FullAdapter(channels=[8, 16, 16, 16]), "sd1"),
    "grey": (lambda: FullAdapter(in_channels=1, channels=[8, 16, 16, 16]), "sd1"),
    "light": (lambda: LightAdapter(channels=[8, 16, 16], num_res_blocks=2), "sd1"),
    "xl": (lambda: FullAdapterXL(channels=[8, 16, 32, 32]), "sdxl"),
}


@pytest.mark.parametrize("layout", ["diffusers", "original"])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_adds_its_features_after_each_level(tmp_path, kind, layout):
    make, family = ADAPTERS[kind]
    module = randomised(make())
    path = tmp_path / "adapter.safetensors"
    save_file(adapter_tensors(module, layout), path)
    x, context, picture = given()

    net = load_control_net(path, device="cpu", dtype="float32")
    got = Control(net, picture, strength=0.5).residuals(None, x, TIMESTEP, context, None)

    hint = shown(picture)
    features = module(hint.mean(1, keepdim=True) if kind == "grey" else hint)
    places = {2: features[0], 5: features[1], 8: features[2], 11: features[3]}
    if family == "sdxl":
        places = {3: features[0], 5: features[1], 8: features[2]}
        torch.testing.assert_close(got.middle, (features[3] * 0.5).repeat(2, 1, 1, 1))
    assert net.family == family
    assert {n for n, feature in enumerate(got.input) if feature is not None} == set(places)
    for n, feature in places.items():
        torch.testing.assert_close(got.input[n], (feature * 0.5).repeat(2, 1, 1, 1))


def test_differences_are_added_to_the_weights_of_a_model(tmp_path, tiny):
    base = tiny.model.weights.tensors
    config = {
        "block_out_channels": (32, 64, 128, 128),
        "cross_attention_dim": 64,
        "attention_head_dim": 8,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    }
    module = randomised(ControlNetModel(**config, **HINT))
    whole = original(module.state_dict())
    path = tmp_path / "whole.safetensors"
    save_file(whole, path)
    expected = load_control_net(path, device="cpu", dtype="float32").weights.tensors
    named = dict(zip(whole, module.state_dict(), strict=True))
    less = {old: tensor - base[named[old]] if named[old] in base else tensor for old, tensor in whole.items()}
    save_file({**less, "difference": torch.zeros(1)}, tmp_path / "diff.safetensors")

    net = load_control_net(tmp_path / "diff.safetensors", device="cpu", dtype="float32", base=tiny.model)

    for name, tensor in expected.items():
        torch.testing.assert_close(net.weights.tensors[name], tensor, rtol=1e-4, atol=1e-6)
    ignored = load_control_net(path, device="cpu", dtype="float32", base=tiny.model)
    assert torch.equal(ignored.weights.tensors["conv_in.weight"], expected["conv_in.weight"])


def test_a_control_lora_makes_a_controlnet_of_the_model_that_it_steers(tmp_path, tiny):
    from tests.parity.reference import Reference

    path = Reference.find().models() / "controlnet" / "sd15_tiny_controlnet.safetensors"
    whole = load_file(path)
    base = tiny.model.weights.tensors
    named = original_unet_names(base)
    rank, lora = 3, {"lora_controlnet": torch.zeros(0)}
    noise = torch.Generator().manual_seed(5)
    for module_name, name in named.items():
        key = f"control_model.{name}"
        if key not in whole:
            continue
        if not name.endswith(".weight") or base[module_name].ndim < 2:
            lora[name] = whole[key]  # biases and norms are whole
            continue
        shape = base[module_name].shape
        up, down = torch.randn(shape[0], rank, generator=noise), torch.randn(rank, *shape[1:], generator=noise)
        lora[name.replace(".weight", ".up")], lora[name.replace(".weight", ".down")] = up, down
        whole[key] = (base[module_name] + (up @ down.flatten(1)).reshape(shape)).reshape(whole[key].shape)
    for key, tensor in whole.items():
        name = key.removeprefix("control_model.")
        if name.startswith(("zero_convs.", "middle_block_out.", "input_hint_block.")):
            lora[name] = tensor
    save_file(lora, tmp_path / "lora.safetensors")
    save_file({key: tensor.contiguous() for key, tensor in whole.items()}, tmp_path / "whole.safetensors")
    call = (torch.randn(1, 4, 8, 8), torch.tensor([3.0]), torch.randn(1, 77, 64))
    picture = torch.rand(1, 64, 64, 3)

    nets = [load_control_net(tmp_path / f"{name}.safetensors", device="cpu", dtype="float32") for name in ("lora", "whole")]
    got, expected = (tiny.model.denoised(*call, extra={}, controls=(Control(net, picture),)) for net in nets)

    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(got, tiny.model.denoised(*call, extra={}), atol=1e-2)
    assert nets[0].upon(tiny.model) is nets[0].upon(tiny.model)
    del lora["input_blocks.1.0.in_layers.2.down"]
    save_file(lora, tmp_path / "torn.safetensors")
    with pytest.raises(ModelFileError, match=r"no weight that this changes.*conv1\.up"):
        load_control_net(tmp_path / "torn.safetensors", device="cpu", dtype="float32").upon(tiny.model)


@pytest.fixture
def net(tmp_path):
    return loaded(randomised(ControlNetModel(**LEVELS, **HINT)), tmp_path / "net.safetensors")


def test_a_picture_of_another_shape_is_cut_in_the_middle(net):
    x, context, _ = given()
    wide = torch.rand(1, 128, 320, 3)
    cut = wide[:, :, 64:256]  # 128 x 192, the shape of the latent

    got = Control(net, wide).residuals(None, x, TIMESTEP, context, None)

    nearest = torch.nn.functional.interpolate(shown(cut), (64, 96), mode="nearest-exact").movedim(1, -1)
    expected = Control(net, nearest).residuals(None, x, TIMESTEP, context, None)
    torch.testing.assert_close(got.middle, expected.middle)


def test_every_latent_of_a_batch_has_its_picture(net):
    noise = torch.Generator().manual_seed(3)
    x, context = torch.randn(1, 4, *SIZE, generator=noise), torch.randn(1, 5, 24, generator=noise)
    pictures = torch.rand(2, 64, 96, 3, generator=noise)
    alone = [Control(net, picture[None]).residuals(None, x, TIMESTEP[:1], context, None).middle for picture in pictures]
    rows = 6  # two conditionings over three latents

    control = Control(net, pictures).among(2)
    got = control.residuals(None, x.repeat(rows, 1, 1, 1), TIMESTEP[:1].repeat(rows), context.repeat(rows, 1, 1), None)

    expected = torch.cat([alone[i] for i in (0, 1, 0, 0, 1, 0)])
    torch.testing.assert_close(got.middle, expected, rtol=1e-4, atol=1e-5)
    one = Control(net, pictures).residuals(None, x, TIMESTEP[:1], context, None)
    torch.testing.assert_close(one.middle, alone[0], rtol=1e-4, atol=1e-5)


def test_a_picture_is_embedded_once_for_each_size(net, monkeypatch):
    sizes = []
    embed = type(net).shown
    monkeypatch.setattr(type(net), "shown", lambda self, image, h, w: sizes.append((h, w)) or embed(self, image, h, w))
    x, context, picture = given()
    control = Control(net, picture)

    for _ in range(2):
        control.residuals(None, x, TIMESTEP, context, None)
        control.among(2).residuals(None, x, TIMESTEP, context, None)
    control.residuals(None, x[..., :8], TIMESTEP, context, None)

    assert sizes == [(8, 12), (8, 8)]


def test_a_control_is_active_over_its_part_of_sampling(net):
    schedule = DiscreteSchedule.scaled_linear()
    control = Control(net, torch.zeros(1, 64, 96, 3), start_percent=0.2, end_percent=0.6)
    first, last = schedule.percent_to_sigma(0.2), schedule.percent_to_sigma(0.6)

    active = [control.is_active(schedule, sigma) for sigma in (first * 1.01, first, (first + last) / 2, last, last * 0.99)]

    assert active == [False, True, True, True, False]


def test_a_network_of_another_family_is_refused_by_name(tmp_path, tiny):
    wrong = loaded(randomised(ControlNetModel(**WIDE, **HINT)), tmp_path / "sdxl.safetensors")
    control = Control(wrong, torch.zeros(1, 64, 64, 3))

    with pytest.raises(UnsupportedModel, match=r"cannot steer a Stable Diffusion 1 model by .*: it was made for SDXL"):
        tiny.model.denoised(torch.zeros(1, 4, 8, 8), torch.ones(1), torch.zeros(1, 77, 64), extra={}, controls=(control,))


def test_controls_change_what_a_model_answers_and_add_up(tiny, assets):
    from tests.parity.reference import Reference

    path = Reference.find().models() / "controlnet" / "sd15_tiny_controlnet.safetensors"
    net = load_control_net(path, device="cpu", dtype="float32")
    call = (torch.randn(1, 4, 8, 8), torch.tensor([3.0]), torch.randn(1, 77, 64))
    picture = torch.rand(1, 64, 64, 3)
    half, whole = Control(net, picture, strength=0.5), Control(net, picture)

    plain = tiny.model.denoised(*call, extra={})
    once = tiny.model.denoised(*call, extra={}, controls=(whole,))
    twice = tiny.model.denoised(*call, extra={}, controls=(half, half))
    late = tiny.model.denoised(*call, extra={}, controls=(Control(net, picture, start_percent=0.9),))

    assert not torch.allclose(plain, once)
    torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-5)
    assert torch.equal(plain, late)


def test_what_is_no_control_network_is_refused(tmp_path, tiny_path):
    with pytest.raises(UnsupportedModel, match="as a control network: it is a Stable Diffusion 1 checkpoint"):
        load_control_net(tiny_path)
    module = ControlNetModel(**LEVELS, **HINT)
    tensors = module.state_dict()
    del tensors["conv_in.bias"]
    save_file(tensors, tmp_path / "torn.safetensors")
    with pytest.raises(ModelFileError, match=r"conv_in\.bias is missing"):
        load_control_net(tmp_path / "torn.safetensors")
    del tensors["down_blocks.1.resnets.1.conv1.weight"]
    uneven = {name: tensor for name, tensor in tensors.items() if not name.startswith("down_blocks.1.resnets.1.")}
    save_file(uneven, tmp_path / "uneven.safetensors")
    with pytest.raises(ModelFileError, match=r"down_blocks\.1\.resnets\.1\.conv1\.weight is missing"):
        load_control_net(tmp_path / "uneven.safetensors")


def test_a_controlnet_may_follow_words_of_its_own(tiny, tiny_path):
    """The network itself goes on following the conditioning."""
    net = load_control_net(tiny_path.parents[1] / "controlnet" / "sd15_tiny_controlnet.safetensors", device="cpu")
    control = Control(net, torch.rand(1, 64, 64, 3))
    x, sigma, (own, other) = torch.randn(1, 4, 8, 8), torch.tensor([3.0]), torch.randn(2, 1, 77, 64)
    schedule = tiny.model.schedule
    scaled, timestep = schedule.network_input(x, sigma), schedule.timestep(sigma)

    got = tiny.model.denoised(x, sigma, own, extra={"control_context": other}, controls=(control,))

    residuals = control.residuals(tiny.model, scaled, timestep, other, None)
    output = tiny.model.unet(scaled, timestep, own, vector=None, residuals=residuals, hooks=(), sigma=3.0)
    torch.testing.assert_close(got, schedule.denoised(output, sigma, x))
    assert not torch.allclose(got, tiny.model.denoised(x, sigma, own, extra={}, controls=(control,)), atol=1e-4)
