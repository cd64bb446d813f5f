"""Weights: modules that are cheap to make, and share what no patch changes."""

from __future__ import annotations

import types

import pytest
import torch
from reference import relative_error
from torch import nn

from engine.cache.sizes import size_bytes
from engine.models.weights import Patch, fill

PARTS = ("model", "text_encoder", "vae")


@pytest.mark.parametrize("part", PARTS)
def test_a_module_holds_the_tensors_themselves(part, tiny):
    weights = getattr(tiny, part).weights
    held = weights.network.state_dict(keep_vars=True)

    assert {name: tensor.data_ptr() for name, tensor in held.items()} == {n: t.data_ptr() for n, t in weights.tensors.items()}
    assert not any(tensor.requires_grad for tensor in held.values())
    assert not any(module.training for module in weights.network.modules())


@pytest.mark.parametrize("part", PARTS)
def test_two_modules_have_no_part_in_common(part, tiny):
    weights = getattr(tiny, part).weights
    name = next(iter(weights.tensors))
    other = weights.with_patch(Patch({name: lambda weight: weight + 1}))

    assert not set(weights.network.modules()) & set(other.network.modules())
    assert not set(weights.network.modules()) & set(weights.skeleton().modules())
    assert all(tensor.is_meta for tensor in weights.skeleton().state_dict().values())


@pytest.mark.parametrize("part", PARTS)
def test_modules_refer_to_each_other_as_children_only(part, tiny):
    def below(value):
        if isinstance(value, dict):
            value = value.values()
        if isinstance(value, types.MethodType):
            return isinstance(value.__self__, nn.Module)
        if isinstance(value, list | tuple | set) or hasattr(value, "mapping"):
            return any(isinstance(item, nn.Module) for item in value)
        return isinstance(value, nn.Module)

    for module in getattr(tiny, part).weights.network.modules():
        assert not [name for name, value in vars(module).items() if name != "_modules" and below(value)]


def test_a_hook_on_a_module_stays_its_own(tiny):
    weights = tiny.model.weights
    other = weights.with_patch(Patch({"conv_in.bias": lambda weight: weight + 1}))

    with_hook = weights.network.conv_in.register_forward_hook(lambda *_: None)

    assert len(weights.network.conv_in._forward_hooks) == 1
    assert not other.network.conv_in._forward_hooks
    assert not weights.skeleton().conv_in._forward_hooks
    with_hook.remove()


class Tied(nn.Module):
    """A layer that occurs twice, and a buffer that files hold and one that they do not."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.again = self.first
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("own", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.again(self.first(x)) * self.scale


def test_a_layer_that_occurs_twice_stays_one():
    linear, scale = nn.Linear(2, 2), torch.tensor([2.0, 3.0])
    tensors = {f"{n}.{k}": t for n in ("first", "again") for k, t in linear.state_dict().items()} | {"scale": scale}

    def build():
        with torch.device("meta"):
            return Tied()

    weights = fill(build, tensors, file="x", part="thing", device=torch.device("cpu"), dtype=torch.float32)

    x = torch.randn(3, 2)
    assert weights.network.first is weights.network.again
    assert relative_error(weights.network(x), linear(linear(x)) * scale) < 1e-6
    assert weights.network.own.is_meta


def test_the_memory_of_a_patch_is_known_before_it_is_used(tiny):
    changes = {name: lambda weight: weight + 1 for name in ("conv_in.weight", "conv_out.weight")}
    patched = tiny.model.with_patch(Patch(changes))
    tensors = tiny.model.weights.tensors

    more = size_bytes(patched) - size_bytes(tiny.model)

    extra = tensors["conv_in.weight"].nbytes + tensors["conv_out.weight"].nbytes
    assert extra <= more < extra + 10_000
    assert patched.weights.nbytes == tiny.model.weights.nbytes + extra


def test_a_weight_is_limited_to_the_precision_after_all_patches(tiny):
    name = "clip_l.final_layer_norm.bias"
    encoder = tiny.text_encoder
    for _ in range(2):
        encoder = encoder.with_patch(Patch({name: lambda weight: weight + 1e-4}))

    expected = (encoder.weights.tensors[name] + 1e-4 + 1e-4).half().float()
    assert torch.equal(encoder.network.clip_l.final_layer_norm.bias, expected)


def test_every_clip_skip_shares_the_network(tiny):
    assert tiny.text_encoder.with_clip_skip(-2).network is tiny.text_encoder.network
