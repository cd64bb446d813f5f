"""What the kinds that change and steer a model put on it."""

from __future__ import annotations

import pytest
import torch

from engine.errors import UnsupportedModel
from engine.models import load_checkpoint, load_control_net
from engine.models.attention_guidance import PerturbedAttention, SelfAttention
from engine.models.control import Control
from engine.models.controlnet import KINDS
from engine.models.deep_shrink import DeepShrink
from engine.models.free_u import FreeU
from engine.models.hyper_tile import HyperTile
from engine.models.token_merging import TokenMerging
from engine.sampling.noise import lots
from engine.types import Cond, Conditioning, Image
from nodes import controlnet, model_patches
from tests.parity.reference import Reference, relative_error

PICTURE = Image(torch.rand(1, 16, 16, 3))


class Net:
    """A control network that remembers its kind."""

    family, source = "sd1", "net.safetensors"

    def __init__(self, kind=None) -> None:
        self.kind = kind

    def with_kind(self, kind):
        return Net(kind)


def prompt(*names: str) -> Conditioning:
    return Conditioning(tuple(Cond(torch.zeros(1, 1, 1)).with_options(name=name) for name in names))


def controls(conditioning: Conditioning) -> list[tuple]:
    return [entry.options.get("controls", ()) for entry in conditioning.entries]


@pytest.mark.parametrize("apply", [controlnet.apply_advanced, controlnet.apply_with_vae], ids=["advanced", "with vae"])
def test_both_sides_share_one_control(apply):
    net = Net()

    options = {"vae": None, "image": PICTURE, "strength": 0.5, "start_percent": 0.1, "end_percent": 0.7}
    positive, negative = apply(positive=prompt("a", "b"), negative=prompt("c"), control_net=net, **options)

    (control,) = controls(negative)[0]
    assert controls(positive) == [(control,), (control,)]
    assert (control.net, control.strength, control.start_percent, control.end_percent) == (net, 0.5, 0.1, 0.7)
    assert control.image is PICTURE
    assert [entry.options["name"] for entry in positive.entries] == ["a", "b"]


def test_controls_come_after_those_that_are_there():
    options = {"control_net": Net(), "image": PICTURE}

    once = controlnet.apply_advanced(positive=prompt("a"), negative=prompt("b"), **options)
    twice = controlnet.apply_advanced(positive=once.positive, negative=once.negative, strength=0.3, **options)

    assert controls(twice.positive) == controls(twice.negative)
    assert controls(twice.positive)[0][:1] == controls(once.positive)[0]
    assert [control.strength for control in controls(twice.positive)[0]] == [1.0, 0.3]


def test_the_old_node_asks_for_the_negative_side_too():
    steered = controlnet.apply_old(conditioning=prompt("a", "b"), control_net=Net(), image=PICTURE, strength=0.8)

    assert all(entry.options["controls_negative"] for entry in steered.entries)
    assert all(isinstance(control, Control) and control.strength == 0.8 for (control,) in controls(steered))


def test_no_strength_leaves_conditionings_as_they_are():
    plain, options = prompt("a"), {"control_net": Net(), "image": PICTURE, "strength": 0.0}

    assert controlnet.apply_old(conditioning=plain, **options) is plain
    assert controlnet.apply_advanced(positive=plain, negative=plain, **options) == (plain, plain)


def test_kinds_of_picture_are_numbered_as_listed():
    chosen = [controlnet.set_union_type(control_net=Net(), type=kind).kind for kind in ("auto", *KINDS)]

    assert chosen == [None, *range(8)]


def test_hooks_carry_what_was_asked_for(tiny):
    model = tiny.model

    free = model_patches.free_u_v2(model=model, b1=1.1, b2=1.2, s1=0.5, s2=0.6)
    shrunk = model_patches.deep_shrink(
        model=free, start_percent=0.1, end_percent=0.5, downscale_method="area", upscale_method="bislerp"
    )

    levels = [model.schedule.percent_to_sigma(percent) for percent in (0.1, 0.5)]
    first, second = shrunk.hooks
    assert first == FreeU(32, (1.1, 1.2), (0.5, 0.6), by_structure=True)
    assert second == DeepShrink(3, 2.0, *levels, keeps_skip=True, shrink="area", grow="bislerp")
    assert model.hooks == ()
    assert model_patches.free_u(model=model).hooks == (FreeU(32, (1.1, 1.2), (0.9, 0.2)),)


def test_rules_carry_what_was_asked_for(tiny):
    model = model_patches.perturbed_attention(model=tiny.model, scale=2.5)
    model = model_patches.self_attention(model=model, scale=-1.0, blur_sigma=3.0)
    model = model_patches.hyper_tile(model=model, tile_size=128, max_depth=2, scale_depth=True)
    model = model_patches.merge_tokens(model=model, ratio=0.4)

    assert model.rules.post == (PerturbedAttention(2.5), SelfAttention(-1.0, 3.0))
    assert model.rules.hooks == (HyperTile(128, 2, 2, scales=True), TokenMerging(0.4))


def changed(before, after) -> dict[str, float]:
    """Name of each weight that is another, to its factor."""
    factors = {}
    for name in before.tensors:
        old, new = before.value(name), after.value(name)
        if not torch.equal(old, new):
            largest = old.abs().argmax()
            factors[name] = round(float(new.flatten()[largest] / old.flatten()[largest]), 4)
            torch.testing.assert_close(new, old * factors[name])
    return factors


def test_attentions_within_a_picture_are_scaled_apart_from_those_over_time(tiny):
    model = tiny.model

    scaled = model_patches.multiply_temporal_attention(
        model=model, self_structural=0.5, self_temporal=3.0, cross_structural=1.5, cross_temporal=4.0
    )

    factors = changed(model.weights, scaled.weights)
    assert {name for name in model.weights.tensors if ".to_out.0." in name} == set(factors)
    assert all(factor == (0.5 if ".attn1." in name else 1.5) for name, factor in factors.items())


def test_a_text_encoders_attention_is_scaled_layer_by_layer(tiny):
    text = tiny.text_encoder

    scaled = model_patches.multiply_text_attention(clip=text, q=1.5, out=0.5)

    factors = changed(text.weights, scaled.weights)
    ends = {name.split(".self_attn.")[1] for name in factors}
    assert ends == {"q_proj.weight", "q_proj.bias", "out_proj.weight", "out_proj.bias"}
    assert all(factor == (1.5 if "q_proj" in name else 0.5) for name, factor in factors.items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_everything_works_in_short_formats(tiny, tiny_path, dtype):
    path = Reference.find().models() / "controlnet" / "sd15_tiny_controlnet.safetensors"
    noise = torch.Generator().manual_seed(1)
    x, context = torch.randn(1, 4, 16, 16, generator=noise), torch.randn(1, 77, 64, generator=noise)
    picture = torch.rand(1, 64, 64, 3, generator=noise)

    def answer(model, dtype):
        model = model_patches.free_u(model=model)
        model = model_patches.deep_shrink(model=model, downscale_method="bislerp", upscale_method="bicubic")
        control = Control(load_control_net(path, device="cpu", dtype=dtype), picture)
        hooks = tuple(hook.begun(lots(x.shape, 1)) for hook in (TokenMerging(0.4), HyperTile(32, 2, 1, scales=False)))
        return model.denoised(x, torch.tensor([14.0]), context, extra={}, controls=(control,), hooks=hooks)

    short = load_checkpoint(tiny_path, device="cpu", dtype=dtype).model
    assert relative_error(answer(short, dtype), answer(tiny.model, "float32")) < 0.1


def test_what_is_no_network_of_ours_is_refused():
    with pytest.raises(UnsupportedModel, match="it holds no network"):
        model_patches.free_u(model=object())
    with pytest.raises(UnsupportedModel, match="it holds no weights"):
        model_patches.multiply_text_attention(clip=object())
