"""Our forward pass gives what the module's own gives, and changes to it do what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import UNet2DConditionModel

from engine.models.hooks import Hook, Place
from engine.models.unet import Residuals, UNet

if TYPE_CHECKING:
    from torch import Tensor

SMALL = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}

VARIANTS = {
    "plain": {},
    "inpaint": {"in_channels": 9},
    "vector": {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 16 + 6 * 4,
        "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
}

SIZES = ((8, 8), (7, 12), (16, 6))

TIMESTEP = torch.tensor([801.0, 13.0])


def built(variant: str = "plain") -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**{**SMALL, **VARIANTS[variant]}).eval().requires_grad_(requires_grad=False)


def given(module: UNet2DConditionModel, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two rows of noise, and their context."""
    noise = torch.Generator().manual_seed(1)
    return torch.randn(2, module.config.in_channels, *size, generator=noise), torch.randn(2, 5, 24, generator=noise)


@dataclass(frozen=True)
class Nothing(Hook):
    """Steps in everywhere, and changes nothing."""

    def after_input(self, h, at):
        return h

    def after_skip(self, h, at):
        return h

    def before_output(self, h, skip, at):
        return h, skip

    def attention_inputs(self, q, k, v, at):
        return q, k, v

    def attend(self, q, k, v, heads, at):
        return None

    def after_attention(self, out, at):
        return out


@pytest.mark.parametrize("hooks", [(), (Nothing(),)], ids=["plain", "hooked"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pass_is_bit_identical_to_the_modules_own(variant, size, hooks):
    module = built(variant)
    x, context = given(module, size)
    options, vector = {}, None
    if variant == "vector":
        pooled, numbers = torch.randn(2, 16), torch.arange(12.0).reshape(2, 6)
        options["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": numbers}
        vector = torch.cat((pooled, module.add_time_proj(numbers.flatten()).reshape(2, -1)), dim=1)

    expected = module(x, TIMESTEP, context, return_dict=False, **options)[0]

    assert torch.equal(UNet(module)(x, TIMESTEP, context, vector=vector, hooks=hooks), expected)


def test_a_network_with_an_additional_embedding_says_when_it_is_given_nothing():
    module = built("vector")
    with pytest.raises(ValueError, match="sizes and pooled text"):
        UNet(module)(*with_timestep(module))


def with_timestep(module, size=(8, 8)):
    x, context = given(module, size)
    return x, TIMESTEP, context


def test_residuals_are_added_as_the_module_adds_those_of_a_controlnet():
    module = built()
    unet, call = UNet(module), with_timestep(module)
    skips: list[Tensor] = []
    unet(*call, hooks=(Watch(skips),))
    noise = torch.Generator().manual_seed(2)
    down = tuple(torch.randn(skip.shape, generator=noise) for skip in skips)
    middle = torch.randn(2, 64, 4, 4, generator=noise)

    expected = module(*call, down_block_additional_residuals=down, mid_block_additional_residual=middle, return_dict=False)[0]
    got = unet(*call, residuals=Residuals(output=down, middle=middle))

    assert len(down) == 6
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    halves = Residuals(output=down[:3]) + Residuals(output=(None, None, None, *down[3:]), middle=middle)
    assert torch.equal(unet(*call, residuals=halves), got)


def test_residuals_are_added_as_the_module_adds_those_of_an_adapter():
    module = built()
    call = with_timestep(module)
    features = [torch.randn(2, 32, 8, 8), torch.randn(2, 64, 4, 4)]

    expected = module(*call, down_intrablock_additional_residuals=list(features), return_dict=False)[0]
    got = UNet(module)(*call, residuals=Residuals(input=(None, None, features[0], None, None, features[1])))

    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@dataclass(frozen=True, eq=False)
class Watch(Hook):
    """Keeps every skip."""

    seen: list[Tensor]

    def after_input(self, h, at):
        self.seen.append(h)
        return h


@dataclass(frozen=True, eq=False)
class Visit(Hook):
    """Writes down where it was."""

    seen: list[Place]

    def after_input(self, h, at):
        self.seen.append(at)
        return h

    def before_output(self, h, skip, at):
        self.seen.append(at)
        return h, skip

    def after_attention(self, out, at):
        self.seen.append(at)
        return out


def test_blocks_are_counted_as_in_the_original_checkpoints():
    module, seen = built("vector"), []
    pooled = torch.randn(2, 40)
    UNet(module)(*with_timestep(module), vector=pooled, hooks=(Visit(seen),), sigma=2.5)

    assert {(at.size, at.sigma) for at in seen} == {((8, 8), 2.5)}
    assert [at.block for at in seen if at.side == "input" and not at.attention] == list(range(6))
    assert [at.block for at in seen if at.side == "output" and not at.attention] == list(range(6))
    attended = [(at.side, at.block, at.transformer) for at in seen if at.attention == "cross"]
    levels = [("input", 4), ("input", 5), ("middle", 0), ("output", 0), ("output", 1), ("output", 2)]
    assert attended == [(side, block, n) for side, block in levels for n in (0, 1)]


@dataclass(frozen=True)
class Scale(Hook):
    """Scales what one attention adds, over a range of noise levels."""

    factor: float
    above: float = 0.0

    def is_active(self, sigma):
        return sigma >= self.above

    def after_attention(self, out, at):
        return out * self.factor if (at.side, at.attention) == ("middle", "self") else out


def test_hooks_work_in_order_and_only_within_their_range():
    module = built()
    unet, call = UNet(module), with_timestep(module)
    plain = unet(*call, sigma=1.0)

    assert not torch.equal(unet(*call, hooks=(Scale(2.0),), sigma=1.0), plain)
    assert torch.equal(unet(*call, hooks=(Scale(2.0, above=1.5),), sigma=1.0), plain)
    assert torch.equal(unet(*call, hooks=(Scale(2.0), Scale(0.5)), sigma=1.0), plain)


def test_a_model_with_a_hook_shares_the_module_and_leaves_the_model_as_it_is(tiny):
    x, sigma, context = torch.randn(1, 4, 8, 8), torch.tensor([3.0]), torch.randn(1, 77, 64)
    before = tiny.model.denoised(x, sigma, context, extra={})

    hooked = tiny.model.with_hook(Scale(3.0))

    assert hooked.network is tiny.model.network
    assert not torch.equal(hooked.denoised(x, sigma, context, extra={}), before)
    assert torch.equal(tiny.model.denoised(x, sigma, context, extra={}), before)
    passed = tiny.model.denoised(x, sigma, context, extra={}, hooks=(Scale(3.0),))
    assert torch.equal(hooked.denoised(x, sigma, context, extra={}), passed)
