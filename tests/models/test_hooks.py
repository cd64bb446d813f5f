"""What changes the U-Net while it runs, against diffusers' own and against closed forms."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel

from engine.errors import ModelFileError
from engine.media import resized
from engine.models.attention_guidance import Attended, Identity, PerturbedAttention, SelfAttention, blurred
from engine.models.deep_shrink import DeepShrink
from engine.models.free_u import FreeU, low_scaled
from engine.models.hooks import Hook
from engine.models.hypernetwork import load
from engine.models.multiply import multiplied
from engine.models.unet import Residuals, UNet, attention

LEVELS = {
    "sample_size": 16,
    "block_out_channels": (32, 64, 128),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}

TIMESTEP = torch.tensor([801.0, 13.0])


@pytest.fixture(scope="module")
def module() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**LEVELS).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def call():
    noise = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 16, 16, generator=noise), TIMESTEP, torch.randn(2, 5, 24, generator=noise)


@pytest.mark.parametrize(("level", "width"), [(0, 128), (1, 64)])
def test_free_u_is_that_of_diffusers(level, width):
    from diffusers.utils.torch_utils import apply_freeu

    h, skip = torch.randn(2, width, 8, 16), torch.randn(2, 96, 8, 16)

    expected = apply_freeu(level, h.clone(), skip, s1=0.9, s2=0.2, b1=1.3, b2=1.4)
    got = FreeU(32, (1.3, 1.4), (0.9, 0.2)).before_output(h, skip, None)

    torch.testing.assert_close(got, expected)


def test_free_u_scales_half_of_the_features_where_the_width_is_a_chosen_one():
    h, skip = torch.randn(2, 128, 6, 4), torch.randn(2, 64, 6, 4)

    scaled, filtered = FreeU(32, (1.5, 2.0), (0.9, 0.2)).before_output(h, skip, None)

    assert torch.equal(scaled[:, :64], h[:, :64] * 1.5)
    assert torch.equal(scaled[:, 64:], h[:, 64:])
    torch.testing.assert_close(filtered, low_scaled(skip, 0.9))
    narrow = torch.randn(2, 32, 6, 4)
    assert FreeU(32, (1.5, 2.0), (0.9, 0.2)).before_output(narrow, skip, None) == (narrow, skip)


def test_the_later_free_u_scales_most_where_the_mean_is_largest():
    h = torch.zeros(1, 64, 1, 3)
    h[0, :, 0] = torch.tensor([1.0, 2.0, 3.0])

    scaled, _ = FreeU(32, (1.0, 1.4), (1.0, 1.0), by_structure=True).before_output(h, h, None)

    torch.testing.assert_close(scaled[0, 0, 0], torch.tensor([1.0, 2.0 * 1.2, 3.0 * 1.4]))
    torch.testing.assert_close(scaled[0, 63, 0], torch.tensor([1.0, 2.0, 3.0]))


def test_low_frequencies_are_the_mean_and_its_neighbours():
    """With numpy's transform: the mean, and what turns once less than zero along an axis."""
    import numpy as np

    x = torch.randn(1, 2, 8, 6)

    spectrum = np.fft.fft2(x.double().numpy())
    for down in (0, -1):
        for across in (0, -1):
            spectrum[..., down, across] *= 0.3
    expected = torch.from_numpy(np.fft.ifft2(spectrum).real).float()

    torch.testing.assert_close(low_scaled(x, 0.3), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(low_scaled(x, 1.0), x, rtol=1e-4, atol=1e-5)


def shrink(*, keeps_skip: bool, last_sigma: float = 0.0) -> DeepShrink:
    return DeepShrink(1, 2.0, 10.0, last_sigma, keeps_skip, "bicubic", "bislerp")


class Sizes(Hook):
    """Notes the size of what enters and leaves blocks."""

    def __init__(self) -> None:
        self.skips: list[int] = []
        self.up: list[tuple[int, int]] = []

    def after_input(self, h, at):
        self.skips.append(h.shape[-1])
        return h

    def before_output(self, h, skip, at):
        self.up.append((h.shape[-1], skip.shape[-1]))
        return h, skip


@pytest.mark.parametrize("keeps_skip", [True, False])
def test_deep_shrink_makes_all_that_is_below_smaller(module, call, keeps_skip):
    sizes = Sizes()
    UNet(module)(*call, hooks=(shrink(keeps_skip=keeps_skip), sizes), sigma=5.0)

    assert sizes.skips == ([16, 16, 4, 4, 2, 2] if keeps_skip else [16, 8, 4, 4, 2, 2])
    assert all(one == other for one, other in sizes.up)


def test_deep_shrink_is_over_below_its_last_level(module, call):
    plain = UNet(module)(*call, sigma=1.0)

    assert torch.equal(UNet(module)(*call, hooks=(shrink(keeps_skip=True, last_sigma=2.0),), sigma=1.0), plain)
    assert not torch.equal(UNet(module)(*call, hooks=(shrink(keeps_skip=True, last_sigma=2.0),), sigma=3.0), plain)


def test_deep_shrink_resizes_as_asked():
    h = torch.randn(1, 3, 9, 12)
    at = SimpleNamespace(block=1)

    small = shrink(keeps_skip=True).after_skip(h, at)

    assert torch.equal(small, resized(h, 6, 4, "bicubic"))
    grown, _ = shrink(keeps_skip=True).before_output(small, h, None)
    assert torch.equal(grown, resized(small, 12, 9, "bislerp"))


def test_residuals_of_another_size_are_left_out_where_maps_are_shrunk(module, call):
    added = Residuals(output=tuple(torch.randn(2, width, 16, 16) for width in (32, 32)))
    wrong = Residuals(output=(*added.output, torch.randn(2, 32, 8, 8)))
    hooks = (shrink(keeps_skip=True),)

    expected = UNet(module)(*call, residuals=added, hooks=hooks, sigma=5.0)

    assert torch.equal(UNet(module)(*call, residuals=wrong, hooks=hooks, sigma=5.0), expected)


def test_perturbed_attention_is_that_of_diffusers(module, call):
    """Diffusers' processor replaces rows of the attention map by the identity."""
    from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

    middle = module.mid_block.attentions[0].transformer_blocks[0].attn1
    usual = middle.processor
    middle.set_processor(PAGIdentitySelfAttnProcessor2_0())
    try:
        # Its rows come in two halves, of which the second is perturbed.
        doubled = tuple(torch.cat((part, part)) for part in call)
        expected = module(*doubled, return_dict=False)[0][2:]
    finally:
        middle.set_processor(usual)

    got = UNet(module)(*call, hooks=(Identity(),))

    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, UNet(module)(*call), atol=1e-4)


def test_recording_attention_leaves_it_as_it_is(module, call):
    attended = Attended()

    got = UNet(module)(*call, hooks=(attended,))

    torch.testing.assert_close(got, UNet(module)(*call), rtol=1e-4, atol=1e-5)
    (shares,) = attended.maps
    assert shares.shape == (2, 4, 4)
    torch.testing.assert_close(shares.sum((1, 2)), torch.full((2,), 16.0))


def test_attention_is_what_the_formula_says():
    q, k, v = torch.randn(2, 7, 12), torch.randn(2, 5, 12), torch.randn(2, 5, 12)

    rows = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        shares = (q[..., part] @ k[..., part].transpose(1, 2) / 2.0).softmax(dim=-1)
        rows.append(shares @ v[..., part])

    torch.testing.assert_close(attention(q, k, v, 3), torch.cat(rows, dim=-1), rtol=1e-5, atol=1e-6)


def answered(rule, moment, answers):
    """What a rule makes of a moment, when the network gives `answers` in turn; and what it asked."""
    asked = []
    passes = rule(moment)
    given = iter(answers)
    try:
        asked.append(next(passes))
        while True:
            asked.append(passes.send(next(given)))
    except StopIteration as end:
        return end.value, asked


class Asked:
    """A moment whose questions are handed out as they are."""

    def __init__(self, **parts) -> None:
        self.__dict__.update(parts)

    def positive(self, x=None, *, hooks=()):
        return (yield ("positive", x, hooks))

    def negative(self, x=None, *, hooks=()):
        return (yield ("negative", x, hooks))


def test_perturbed_attention_moves_away_from_the_worse_answer():
    cond, denoised, worse = (torch.full((1, 4, 8, 8), value) for value in (3.0, 5.0, 2.0))

    result, asked = answered(PerturbedAttention(2.0), Asked(cond=cond, denoised=denoised), [worse])

    assert torch.equal(result, torch.full_like(cond, 5.0 + (3.0 - 2.0) * 2.0))
    assert asked == [("positive", None, (Identity(),))]
    assert answered(PerturbedAttention(0.0), Asked(cond=cond, denoised=denoised), [])[0] is denoised


def test_a_blur_is_that_of_scipy():
    from scipy.ndimage import correlate1d

    x = torch.randn(1, 2, 9, 12)
    steps = torch.arange(-4, 5.0, dtype=torch.float64)
    weights = torch.exp(-(steps**2) / (2 * 1.5**2))
    weights = (weights / weights.sum()).numpy()

    expected = correlate1d(correlate1d(x.double().numpy(), weights, axis=2, mode="mirror"), weights, axis=3, mode="mirror")

    torch.testing.assert_close(blurred(x, 1.5), torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-5)
    assert blurred(x, 0.0) is x


def test_small_latents_cannot_be_blurred():
    tiny = torch.zeros(1, 4, 4, 16)

    assert answered(SelfAttention(1.0, 2.0), Asked(x=tiny, denoised=tiny), [])[0] is tiny


HYPER = {
    "activation_func": "relu",
    "activate_output": False,
    "is_layer_norm": True,
}


def stack(width: int, seed: int) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    sizes = {"linear.0": (width * 2, width), "linear.2": (width * 2,), "linear.3": (width, width * 2)}
    tensors = {}
    for name, size in sizes.items():
        tensors[f"{name}.weight"] = torch.randn(size, generator=noise)
        tensors[f"{name}.bias"] = torch.randn(size[0], generator=noise)
    return tensors


def through(layers, x):
    x = torch.relu(x @ layers["linear.0.weight"].T + layers["linear.0.bias"])
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    x = x * layers["linear.2.weight"] + layers["linear.2.bias"]
    return x @ layers["linear.3.weight"].T + layers["linear.3.bias"]


def test_a_hypernetwork_adds_to_keys_and_values_of_its_widths(tmp_path):
    parts = {8: (stack(8, 1), stack(8, 2)), 24: (stack(24, 3), stack(24, 4))}
    torch.save({**HYPER, **parts}, tmp_path / "hyper.pt")
    model = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
    q, context = torch.randn(1, 5, 8), torch.randn(1, 3, 24)

    hook = load(tmp_path / "hyper.pt", 0.5, model)
    same, k, v = hook.attention_inputs(q, context, context, None)

    assert same is q
    torch.testing.assert_close(k, context + through(parts[24][0], context) * 0.5, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(v, context + through(parts[24][1], context) * 0.5, rtol=1e-4, atol=1e-4)
    unknown = torch.randn(1, 3, 16)
    assert hook.attention_inputs(q, unknown, unknown, None)[1] is unknown


def test_a_hypernetwork_that_leads_nowhere_is_refused(tmp_path):
    model = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
    torn = stack(8, 1)
    del torn["linear.3.weight"]
    torch.save({8: (torn, torn)}, tmp_path / "torn.pt")
    with pytest.raises(ModelFileError, match="width 8 do not lead back"):
        load(tmp_path / "torn.pt", 1.0, model)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ModelFileError, match="no layers for any width"):
        load(tmp_path / "other.pt", 1.0, model)
    torch.save({8: (stack(8, 1),) * 2, "activation_func": "softplus"}, tmp_path / "strange.pt")
    with pytest.raises(ModelFileError, match="activation 'softplus'"):
        load(tmp_path / "strange.pt", 1.0, model)


def test_a_factor_scales_weight_and_bias_of_the_layers_that_it_names():
    names = ["a.attn1.to_q.weight", "a.attn1.to_out.0.weight", "a.attn1.to_out.0.bias", "a.attn2.to_q.weight", "a.norm.weight"]

    patch = multiplied(names, {"attn1.to_q": 1.0, "attn1.to_out.0": 0.5}, "test")

    assert list(patch.changes) == ["a.attn1.to_out.0.weight", "a.attn1.to_out.0.bias"]
    assert torch.equal(patch.changes["a.attn1.to_out.0.bias"](torch.ones(2)), torch.full((2,), 0.5))
