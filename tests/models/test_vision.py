"""Models that describe pictures, against transformers and torch's own attention."""

from __future__ import annotations

import pytest
import torch
from reference import relative_error
from safetensors.torch import save_file

from engine.errors import ModelFileError, UnsupportedModel, WeftError
from engine.models import load_clip_vision, load_style_model
from engine.models.vision import prepared
from engine.types import ClipVisionOutput, Image

SIDE = 28


def theirs(layers=2, act="quick_gelu"):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=16,
        image_size=SIDE,
        patch_size=14,
        projection_dim=32,
        hidden_act=act,
    )
    return CLIPVisionModelWithProjection(config).eval()


def open_clip(module) -> dict[str, torch.Tensor]:
    """The weights of `module` as OpenCLIP names and joins them, written by hand."""
    state = module.state_dict()
    inner = "vision_model."
    found = {
        "visual.class_embedding": state[f"{inner}embeddings.class_embedding"],
        "visual.positional_embedding": state[f"{inner}embeddings.position_embedding.weight"],
        "visual.conv1.weight": state[f"{inner}embeddings.patch_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
    }
    for end, name in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        found |= {f"visual.{end}.{part}": state[f"{inner}{name}.{part}"] for part in ("weight", "bias")}
    for n in range(module.config.num_hidden_layers):
        old, new = f"{inner}encoder.layers.{n}", f"visual.transformer.resblocks.{n}"
        for part in ("weight", "bias"):
            found[f"{new}.attn.in_proj_{part}"] = torch.cat([state[f"{old}.self_attn.{x}_proj.{part}"] for x in "qkv"])
            for a, b in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                found[f"{new}.{b}.{part}"] = state[f"{old}.{a}.{part}"]
            found[f"{new}.attn.out_proj.{part}"] = state[f"{old}.self_attn.out_proj.{part}"]
    return {name: tensor.clone() for name, tensor in found.items()}


@pytest.mark.parametrize("layout", ["transformers", "open_clip", "open_clip, deep"])
def test_a_picture_is_described_as_by_transformers(layout, tmp_path):
    """The deep ones of OpenCLIP have another activation."""
    module = theirs(25, "gelu") if "deep" in layout else theirs()
    path = tmp_path / "v.safetensors"
    save_file(module.state_dict() if layout == "transformers" else open_clip(module), path)
    image = Image(torch.rand(2, SIDE, SIDE, 3))

    got = load_clip_vision(path, device="cpu", dtype="float32").encode(image)

    expected = module(prepared(image, SIDE, is_cropped=True), output_hidden_states=True)
    assert relative_error(got.embeds, expected.image_embeds) < 1e-5
    assert relative_error(got.states, expected.last_hidden_state) < 1e-5
    assert relative_error(got.penultimate, expected.hidden_states[-2]) < 1e-5


def test_a_picture_is_prepared_as_the_processor_of_transformers_does():
    """Up to the rounding of its 8-bit resampling."""
    from transformers import CLIPImageProcessor

    image = torch.rand(1, 56, 70, 3)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, use_fast=False)

    expected = processor((image[0] * 255).round().byte().numpy(), return_tensors="pt")["pixel_values"]
    got = prepared(Image((image * 255).round() / 255), SIDE, is_cropped=True)

    assert got.shape == (1, 3, SIDE, SIDE)
    assert (got - expected).abs().max() < 0.06


def test_a_whole_picture_is_squeezed():
    image = torch.zeros(1, 2 * SIDE, SIDE, 3)
    image[:, :SIDE] = 1.0

    cropped, whole = (prepared(Image(image), SIDE, is_cropped=crop) for crop in (True, False))

    assert cropped.shape == whole.shape == (1, 3, SIDE, SIDE)
    assert torch.allclose(whole[:, :, : SIDE // 2 - 2], whole[:, :, :1], atol=0.1)


def test_a_text_encoder_is_no_vision_model(tmp_path):
    save_file({"text_model.embeddings.token_embedding.weight": torch.zeros(4, 4)}, tmp_path / "x.safetensors")

    with pytest.raises(UnsupportedModel, match="as a CLIP vision model"):
        load_clip_vision(tmp_path / "x.safetensors", device="cpu")


def style_tensors(width=32, context=16, words=3, layers=2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def some(*shape):
        return torch.randn(shape, generator=generator) * 0.2

    tensors = {"style_embedding": some(1, words, width), "proj": some(width, context)}
    for end in ("ln_pre", "ln_post"):
        tensors |= {f"{end}.weight": 1 + some(width), f"{end}.bias": some(width)}
    for n in range(layers):
        block = f"transformer_layes.{n}"
        tensors |= {f"{block}.attn.in_proj_weight": some(3 * width, width), f"{block}.attn.in_proj_bias": some(3 * width)}
        tensors |= {f"{block}.attn.out_proj.weight": some(width, width), f"{block}.attn.out_proj.bias": some(width)}
        tensors |= {f"{block}.mlp.c_fc.weight": some(4 * width, width), f"{block}.mlp.c_fc.bias": some(4 * width)}
        tensors |= {f"{block}.mlp.c_proj.weight": some(width, 4 * width), f"{block}.mlp.c_proj.bias": some(width)}
        for norm in ("ln_1", "ln_2"):
            tensors |= {f"{block}.{norm}.weight": 1 + some(width), f"{block}.{norm}.bias": some(width)}
    return tensors


def test_a_style_gives_the_words_that_torchs_attention_gives(tmp_path):
    tensors = style_tensors()
    save_file(tensors, tmp_path / "style.safetensors")
    states = torch.randn(1, 5, 32)

    got = load_style_model(tmp_path / "style.safetensors", device="cpu").tokens(ClipVisionOutput(states, states, states[:, 0]))

    def norm(name, x):
        return torch.nn.functional.layer_norm(x, (32,), tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    x = norm("ln_pre", torch.cat((states, tensors["style_embedding"]), dim=1))
    for n in range(2):
        block = f"transformer_layes.{n}"
        attention = torch.nn.MultiheadAttention(32, 8, batch_first=True)
        attention.load_state_dict(
            {k.removeprefix(f"{block}.attn."): v for k, v in tensors.items() if k.startswith(f"{block}.attn.")}
        )
        normed = norm(f"{block}.ln_1", x)
        x = x + attention(normed, normed, normed, need_weights=False)[0]
        wide = norm(f"{block}.ln_2", x) @ tensors[f"{block}.mlp.c_fc.weight"].T + tensors[f"{block}.mlp.c_fc.bias"]
        quick = wide / (1 + (-1.702 * wide).exp())
        x = x + quick @ tensors[f"{block}.mlp.c_proj.weight"].T + tensors[f"{block}.mlp.c_proj.bias"]
    assert relative_error(got, norm("ln_post", x[:, 5:]) @ tensors["proj"]) < 1e-5


def test_a_style_of_another_description_is_refused(tmp_path):
    save_file(style_tensors(), tmp_path / "style.safetensors")
    states = torch.zeros(1, 5, 16)

    with pytest.raises(WeftError, match="use the CLIP vision model that it was made for"):
        load_style_model(tmp_path / "style.safetensors", device="cpu").tokens(ClipVisionOutput(states, states, states[:, 0]))


def test_a_style_model_that_lacks_a_tensor_is_refused(tmp_path):
    tensors = style_tensors()
    del tensors["transformer_layes.1.mlp.c_fc.bias"]
    save_file(tensors, tmp_path / "style.safetensors")

    with pytest.raises(ModelFileError, match=r"transformer_layes\.1\.mlp\.c_fc\.bias"):
        load_style_model(tmp_path / "style.safetensors", device="cpu")
