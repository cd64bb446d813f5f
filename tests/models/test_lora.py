"""LoRA: new values that share what they do not change."""

from __future__ import annotations

import re

import pytest
import torch
from reference import Reference, relative_error
from safetensors.torch import load_file, save_file

from engine.errors import ModelFileError, UnsupportedModel, WeftError
from engine.models import apply_lora, load_checkpoint
from engine.models.weights import Patch


@pytest.fixture
def kohya(assets):
    return assets / "sd15_tiny_kohya_lora.safetensors"


@pytest.fixture
def peft(assets, kohya, tmp_path):
    """The same factors in PEFT naming without alpha, so twice as strong."""
    path = assets / "sd15_tiny_diffusers_lora.safetensors"
    if path.exists():
        return path
    pytest.skip("needs the whole set of reference assets")


def _parameters(value):
    return dict(value.network.named_parameters())


def _apply(tiny, path, *strengths):
    return apply_lora(tiny.model, tiny.text_encoder, path, *strengths)


def test_both_namings_give_the_same_weights(tiny, kohya, peft):
    model, text = _apply(tiny, kohya, 1.0, 1.0)
    same_model, same_text = _apply(tiny, peft, 0.5, 0.5)

    for one, other in ((model, same_model), (text, same_text)):
        others = _parameters(other)
        assert all(relative_error(t, others[n]) < 1e-6 for n, t in _parameters(one).items())


def test_a_weight_is_changed_by_strength_alpha_and_rank(tiny, kohya):
    factors = load_file(kohya)
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    stem = "lora_unet_" + layer.replace(".", "_")
    scale = 0.7 * float(factors[f"{stem}.alpha"]) / 4
    expected = tiny.model.weights.tensors[f"{layer}.weight"] + scale * (
        factors[f"{stem}.lora_up.weight"] @ factors[f"{stem}.lora_down.weight"]
    )

    model, _ = _apply(tiny, kohya, 0.7, 0.0)

    assert relative_error(_parameters(model)[f"{layer}.weight"], expected) < 1e-6


def test_the_original_stays_and_unchanged_weights_are_shared(tiny, kohya):
    before = {name: tensor.clone() for name, tensor in tiny.model.weights.tensors.items()}

    model, text = _apply(tiny, kohya)

    for value, original in ((model, tiny.model), (text, tiny.text_encoder)):
        changed = value.weights.patches[0].changes
        for name, tensor in _parameters(value).items():
            is_shared = tensor.data_ptr() == original.weights.tensors[name].data_ptr()
            assert is_shared == (name not in changed)
        assert original.weights.patches == ()
        assert value.weights.tensors is original.weights.tensors
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny.model.weights.tensors.items())


def test_two_loras_add_up(tiny, kohya):
    once, _ = _apply(tiny, kohya, 1.0, 0.0)
    twice, _ = apply_lora(once, None, kohya, 1.0, 0.0)
    double, _ = _apply(tiny, kohya, 2.0, 0.0)

    others = _parameters(double)
    assert all(relative_error(t, others[n]) < 1e-6 for n, t in _parameters(twice).items())
    assert len(twice.weights.patches) == 2


def test_strength_zero_leaves_a_part_as_it_is(tiny, kohya):
    assert _apply(tiny, kohya, 0.0, 0.0) == (tiny.model, tiny.text_encoder)
    assert _apply(tiny, kohya, 1.0, 0.0)[1] is tiny.text_encoder
    assert _apply(tiny, kohya, 0.0, 1.0)[0] is tiny.model


def test_without_a_text_encoder_its_part_is_left_out(tiny, kohya):
    model, text = apply_lora(tiny.model, None, kohya)

    assert text is None
    assert len(model.weights.patches) == 1


def _write(tmp_path, tensors):
    save_file(tensors, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_a_convolution_is_changed(tiny, tmp_path):
    name, stem = "down_blocks.0.resnets.0.conv1.weight", "lora_unet_down_blocks_0_resnets_0_conv1"
    weight = tiny.model.weights.tensors[name]
    up, down = torch.randn(32, 4, 1, 1), torch.randn(4, 32, 3, 3)
    path = _write(tmp_path, {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down})

    model, _ = _apply(tiny, path)

    x = torch.randn(1, 32, 8, 8)
    conv = torch.nn.functional.conv2d
    expected = conv(x, weight, padding=1) + conv(conv(x, down, padding=1), up)
    assert relative_error(conv(x, _parameters(model)[name], padding=1), expected) < 1e-5


def test_a_convolution_with_three_factors_is_changed(tiny, tmp_path):
    name, stem = "mid_block.resnets.0.conv2.weight", "lora_unet_mid_block_resnets_0_conv2"
    weight = tiny.model.weights.tensors[name]
    up, mid, down = torch.randn(128, 4, 1, 1), torch.randn(4, 4, 3, 3), torch.randn(4, 128, 1, 1)
    factors = {"lora_up": up, "lora_mid": mid, "lora_down": down}
    path = _write(tmp_path, {f"{stem}.{kind}.weight": t for kind, t in factors.items()})

    model, _ = _apply(tiny, path)

    x = torch.randn(1, 128, 8, 8)
    conv = torch.nn.functional.conv2d
    expected = conv(x, weight, padding=1) + conv(conv(conv(x, down), mid, padding=1), up)
    assert relative_error(conv(x, _parameters(model)[name], padding=1), expected) < 1e-5


ORIGINAL = "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0"
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
SPELLINGS = {
    "kohya": ("lora_unet_" + LAYER.replace(".", "_") + ".lora_down.weight", "lora_up"),
    "kohya, original": ("lora_unet_" + ORIGINAL.replace(".", "_") + ".lora_down.weight", "lora_up"),
    "of a checkpoint": (f"diffusion_model.{ORIGINAL}.lora_down.weight", "lora_up"),
    "PEFT": (f"unet.{LAYER}.lora_A.weight", "lora_B"),
    "PEFT with an adapter name": (f"unet.{LAYER}.lora_A.default.weight", "lora_B"),
    "saved by PEFT": (f"base_model.model.{LAYER}.lora_A.weight", "lora_B"),
    "diffusers": (f"unet.{LAYER}.lora.down.weight", "lora.up"),
    "attention processors": ("unet." + LAYER.replace("attn1.to_out.0", "attn1.processor.to_out_lora.down.weight"), "lora.up"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_layer_is_understood(spelling, tiny, tmp_path):
    down_name, up_word = SPELLINGS[spelling]
    down_word = {"lora_up": "lora_down", "lora_B": "lora_A", "lora.up": "lora.down"}[up_word]
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    path = _write(tmp_path, {down_name: down, down_name.replace(down_word, up_word): up})

    model, _ = _apply(tiny, path)

    assert list(model.weights.patches[0].changes) == [f"{LAYER}.weight"]


MISFITS = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight": torch.zeros(4, 99),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight": torch.zeros(32, 4),
    "lora_unet_surprise.lora_down.weight": torch.zeros(4, 32),
    "lora_unet_surprise.lora_up.weight": torch.zeros(32, 4),
    "lora_unet_mid_block_resnets_0_conv1.lora_down.weight": torch.zeros(4, 128, 3, 3),
    "lora_unet_conv_norm_out.diff_b": torch.zeros(3),
    "lora_unet_x.surprise": torch.zeros(1),
    "lora_unet_y.alpha": torch.zeros(2),
    "lora_unet_y.lora_up.weight": torch.zeros(2),
}
PROBLEMS = (
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q: up [32, 4], down [4, 99] do not make [32, 32]",
    "lora_unet_surprise is no layer of this model",
    "lora_unet_mid_block_resnets_0_conv1: lacks up",
    "lora_unet_conv_norm_out: difference [3] do not make [32]",
    "lora_unet_x.surprise is no part of a LoRA",
    "lora_unet_y.alpha is [2] instead of one number",
    "lora_unet_y.lora_up.weight is [2] instead of a matrix",
)


def test_where_nothing_fits_every_layer_is_named_in_one_error(tiny, tmp_path):
    with pytest.raises(ModelFileError, match="cannot load the LoRA: 7 layers do not fit") as error:
        _apply(tiny, _write(tmp_path, MISFITS))

    assert all(problem in str(error.value) for problem in PROBLEMS)


def test_what_does_not_fit_is_left_out_with_a_warning(tiny, kohya, tmp_path, caplog):
    model, text = _apply(tiny, _write(tmp_path, {**load_file(kohya), **MISFITS}))

    expected, _ = _apply(tiny, kohya)
    left_out = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert set(model.weights.patches[0].changes) == set(expected.weights.patches[0].changes) - {left_out}
    assert text.weights.patches
    (warning,) = caplog.messages
    assert warning.startswith("x.safetensors: 7 of its layers are left out: ")
    assert all(problem in warning for problem in PROBLEMS)


def test_many_layers_that_do_not_fit_are_counted(tiny, kohya, tmp_path, caplog):
    more = {f"lora_unet_{n}.alpha": torch.ones(()) for n in range(12)}

    _apply(tiny, _write(tmp_path, {**load_file(kohya), **more}))

    assert "12 of its layers are left out" in caplog.text
    assert "lora_unet_7 is no layer of this model and 2 more" in caplog.text


def test_a_lora_of_another_family_is_refused(tiny, tmp_path):
    stem = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    path = _write(tmp_path, {f"{stem}.lora_down.weight": torch.zeros(4, 64), f"{stem}.lora_up.weight": torch.zeros(256, 4)})

    with pytest.raises(UnsupportedModel, match="it is an SDXL LoRA, and the model is Stable Diffusion 1"):
        _apply(tiny, path)


NORM, CONV = "down_blocks.0.resnets.0.norm1", "down_blocks.0.resnets.0.conv1"


def test_one_file_may_hold_every_kind_of_change(tiny, tmp_path):
    rng = torch.Generator().manual_seed(1)
    query, key = LAYER.replace("to_out.0", "to_q"), LAYER.replace("to_out.0", "to_k")
    parts = {
        f"{query}.hada_w1_a": (32, 2), f"{query}.hada_w1_b": (2, 32), f"{query}.hada_w2_a": (32, 2),
        f"{query}.hada_w2_b": (2, 32), f"{query}.dora_scale": (1, 32), f"{key}.lokr_w1": (4, 4), f"{key}.lokr_w2": (8, 8),
        f"{LAYER}.a1.weight": (32, 2), f"{LAYER}.a2.weight": (2, 32), f"{LAYER}.b1.weight": (32, 2),
        f"{LAYER}.b2.weight": (2, 32), f"{LAYER}.diff_b": (32,), f"{NORM}.w_norm": (32,), f"{NORM}.b_norm": (32,),
        f"{CONV}.diff": (32, 32, 3, 3), "conv_in.oft_blocks": (4, 8, 8), "conv_in.alpha": (),
        "conv_in.diff_b": (32,), "conv_out.diff_b": (4,), "conv_out.alpha": (), "conv_norm_out.set_weight": (32,),
    }  # fmt: skip
    tensors = {
        "lora_unet_" + layer.replace(".", "_") + "." + role: torch.rand(shape, generator=rng)
        for name, shape in parts.items()
        for layer, role in [re.fullmatch(r"(.+?)\.((?:[ab][12]\.weight)|\w+)", name).groups()]
    }

    model, _ = _apply(tiny, _write(tmp_path, tensors), 0.5)

    changed = _parameters(model)
    before = tiny.model.weights.tensors
    assert {name for name, tensor in changed.items() if not torch.equal(tensor, before[name])} == {
        f"{query}.weight", f"{key}.weight", f"{LAYER}.weight", f"{LAYER}.bias", f"{NORM}.weight", f"{NORM}.bias",
        f"{CONV}.weight", "conv_in.weight", "conv_in.bias", "conv_out.bias", "conv_norm_out.weight",
    }  # fmt: skip
    stem = "lora_unet_" + key.replace(".", "_")
    kron = torch.kron(tensors[f"{stem}.lokr_w1"], tensors[f"{stem}.lokr_w2"])
    assert relative_error(changed[f"{key}.weight"], before[f"{key}.weight"] + 0.5 * kron) < 1e-6
    bias = tensors["lora_unet_down_blocks_0_resnets_0_norm1.b_norm"]
    assert relative_error(changed[f"{NORM}.bias"], before[f"{NORM}.bias"] + 0.5 * bias) < 1e-6


def test_a_checkpoint_is_no_lora(tiny, tiny_path):
    with pytest.raises(ModelFileError, match="cannot apply it as a LoRA: it is a Stable Diffusion 1 checkpoint"):
        _apply(tiny, tiny_path)


def test_a_model_of_another_kind_is_refused(kohya):
    with pytest.raises(UnsupportedModel, match="hold no weights that a LoRA could change"):
        apply_lora(object(), None, kohya)


def test_a_patch_of_an_unknown_weight_is_refused(tiny):
    with pytest.raises(WeftError, match="it has no weight 'surprise'"):
        tiny.model.with_patch(Patch({"surprise": lambda weight: weight}))
    with pytest.raises(WeftError, match="it has no weight 'surprise'"):
        tiny.text_encoder.with_patch(Patch({"surprise": lambda weight: weight}))


XL_LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
XL_MODEL = {
    "kohya": "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    "kohya, of diffusers": "lora_unet_" + XL_LAYER.replace(".", "_"),
    "diffusers": f"unet.{XL_LAYER}",
    "of a checkpoint": "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
    "LyCORIS": "lycoris_" + XL_LAYER.replace(".", "_"),
}
XL_TEXT = {
    "kohya": ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_te2_text_model_encoder_layers_0_mlp_fc1"),
    "diffusers": ("text_encoder.text_model.encoder.layers.0.mlp.fc1", "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"),
    "of a checkpoint": tuple(
        f"text_encoders.{name}.transformer.text_model.encoder.layers.0.mlp.fc1" for name in ("clip_l", "clip_g")
    ),
}


@pytest.fixture(scope="module")
def xl():
    return load_checkpoint(Reference.find().models() / "checkpoints" / "sdxl_tiny.safetensors", device="cpu", dtype="float32")


def _pair(layer, rows, columns):
    return {f"{layer}.lora_down.weight": torch.rand(2, columns), f"{layer}.lora_up.weight": torch.rand(rows, 2)}


@pytest.mark.parametrize("spelling", XL_MODEL)
def test_layers_of_sdxl_are_found_under_every_name(spelling, xl, tmp_path):
    model, _ = apply_lora(xl.model, xl.text_encoder, _write(tmp_path, _pair(XL_MODEL[spelling], 128, 128)))

    assert list(model.weights.patches[0].changes) == [f"{XL_LAYER}.weight"]


@pytest.mark.parametrize("spelling", XL_TEXT)
def test_the_text_encoders_of_sdxl_are_told_apart(spelling, xl, tmp_path):
    first, second = XL_TEXT[spelling]
    path = _write(tmp_path, {**_pair(first, 256, 64), **_pair(second, 512, 128)})

    _, text = apply_lora(xl.model, xl.text_encoder, path)

    layer = "encoder.layers.0.mlp.fc1.weight"
    assert list(text.weights.patches[0].changes) == [f"clip_l.{layer}", f"clip_g.{layer}"]


def test_a_file_for_few_steps_has_layers_everywhere(xl, tmp_path):
    """As LCM-LoRA is written: diffusers' names in kohya's way, with every kind of layer of the network."""
    weights = xl.model.weights.tensors
    tensors = {}
    for name, weight in weights.items():
        if name.endswith(".weight") and weight.ndim > 1:
            stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            tensors[f"{stem}.lora_down.weight"] = torch.rand(2, *weight.shape[1:])
            tensors[f"{stem}.lora_up.weight"] = torch.rand(weight.shape[0], 2, *[1] * (weight.ndim - 2))
            tensors[f"{stem}.alpha"] = torch.tensor(1.0)

    model, _ = apply_lora(xl.model, None, _write(tmp_path, tensors))

    assert set(model.weights.patches[0].changes) == {n for n, w in weights.items() if n.endswith(".weight") and w.ndim > 1}
