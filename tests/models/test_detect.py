"""What a file is, by its names and shapes."""

from __future__ import annotations

import json
import subprocess
import sys

import architectures
import pytest
import torch
from reference import Reference
from safetensors.torch import save_file

from engine.models.detect import detect, of_shapes, tell

UNET = "model.diffusion_model."

FILES = {
    "SD1": ({n: tuple(s) for n, s in architectures.sd1().items()}, "sd1", "checkpoint"),
    "SD2": (
        {
            f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3),
            f"{UNET}input_blocks.1.1.proj_in.weight": (320, 320),
            "cond_stage_model.model.token_embedding.weight": (49408, 1024),
        },
        "sd2",
        "checkpoint",
    ),
    "SDXL": (
        {
            f"{UNET}label_emb.0.0.weight": (1280, 2816),
            f"{UNET}input_blocks.4.1.transformer_blocks.1.norm1.weight": (640,),
            "conditioner.embedders.1.model.token_embedding.weight": (49408, 1280),
        },
        "sdxl",
        "checkpoint",
    ),
    "SDXL refiner": (
        {
            f"{UNET}label_emb.0.0.weight": (1536, 2560),
            "conditioner.embedders.0.model.token_embedding.weight": (49408, 1280),
        },
        "sdxl-refiner",
        "checkpoint",
    ),
    "SDXL in diffusers' layout": (
        {
            "conv_in.weight": (320, 4, 3, 3),
            "down_blocks.0.resnets.0.time_emb_proj.weight": (320, 1280),
            "add_embedding.linear_1.weight": (1280, 2816),
            "down_blocks.1.attentions.0.transformer_blocks.1.norm1.weight": (640,),
        },
        "sdxl",
        "unet",
    ),
    "SD3": (
        {
            f"{UNET}joint_blocks.0.context_block.attn.qkv.weight": (1, 1),
            "first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3),
        },
        "sd3",
        "checkpoint",
    ),
    "FLUX": ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "flux", "unet"),
    "T5": ({"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)}, "t5", "text_encoder"),
    "CLIP": ({"text_model.embeddings.token_embedding.weight": (49408, 768)}, "clip", "text_encoder"),
    "CLIP vision": ({"vision_model.encoder.layers.0.mlp.fc1.weight": (1, 1)}, "clip", "clip_vision"),
    "VAE": ({n: tuple(s) for n, s in architectures.vae((128, 256, 512, 512), 2).items()}, "sd1", "vae"),
    "VAE of 16 channels": ({n: tuple(s) for n, s in architectures.vae((32,), 1, 16).items()}, "unknown", "vae"),
    "TAESD": ({"decoder.layers.1.weight": (64, 4, 3, 3)}, "taesd", "vae"),
    "half of TAESD": ({f"{n}.conv.0.weight": (64, 64, 3, 3) for n in (3, 4, 5)}, "taesd", "vae"),
    "style model": (
        {"style_embedding": (1, 8, 1024), "proj": (1024, 768), "ln_pre.weight": (1024,)},
        "unknown",
        "style_model",
    ),
    "ControlNet": ({"control_model.input_hint_block.0.weight": (16, 3, 3, 3)}, "sd1", "controlnet"),
    "ControlNet of diffusers": ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)}, "sd1", "controlnet"),
    "embedding": ({"emb_params": (2, 768)}, "sd1", "embedding"),
    "SDXL embedding": ({"clip_g": (2, 1280), "clip_l": (2, 768)}, "sdxl", "embedding"),
    "swinir": (
        {"layers.0.residual_group.blocks.0.attn.relative_position_bias_table": (225, 6), "conv_first.weight": (180, 3, 3, 3)},
        "swinir",
        "upscaler",
    ),
    "compact": ({"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,)}, "compact", "upscaler"),
    "upscaler": ({"model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)}, "esrgan", "upscaler"),
    "FLUX LoRA": ({"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (16, 3072)}, "flux", "lora"),
    "SD2 LoRA": (
        {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 1024)},
        "sd2",
        "lora",
    ),
    "IP-Adapter": ({"ip_adapter.1.to_k_ip.weight": (320, 768)}, "unknown", "ip_adapter"),
    "nothing known": ({"a": (3,), "b": (4,)}, "unknown", "unknown"),
    "nothing": ({}, "unknown", "unknown"),
}


@pytest.mark.parametrize(("shapes", "family", "role"), FILES.values(), ids=FILES)
def test_a_file_is_recognised(shapes, family, role):
    found = of_shapes(shapes)

    assert (found.family, found.role) == (family, role)


def test_telling_sizes_are_kept(tiny_path, assets):
    assert detect(tiny_path).sizes == {"tensors": 1002, "in_channels": 4, "context": 64}
    assert detect(assets / "sd15_tiny_kohya_lora.safetensors").sizes == {"tensors": 216, "rank": 4, "context": 64}
    assert detect(assets / "tiny_ti.safetensors").sizes == {"tensors": 1, "width": 64}


def test_reference_files_are_recognised():
    for manifest in Reference.find().folder.glob("*.manifest.json"):
        shapes = {name: tuple(shape) for name, shape in json.loads(manifest.read_text("utf-8")).items()}
        found = of_shapes(shapes)
        assert found.family == ("sdxl" if "sdxl" in manifest.name else "sd1")
        assert found.role == ("controlnet" if "controlnet" in manifest.name else "checkpoint")


def test_a_file_tells_only_what_is_certain(tmp_path):
    """A LoRA that changes no attention to words may be of any family with such layers."""
    to_k = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    files = {
        "one": ({to_k: torch.zeros(4, 768)}, {"context": 768}),
        "of the refiner": ({to_k: torch.zeros(4, 1280), "lora_te2_x.lora_up.weight": torch.zeros(1, 1)}, {"context": 1280}),
        "unclear": ({"lora_unet_x_attn1_to_k.lora_down.weight": torch.zeros(4, 320)}, {}),
        "of two encoders": ({"lora_te2_x.lora_down.weight": torch.zeros(4, 1280)}, {"family": "sdxl"}),
        "vae": ({"decoder.conv_in.weight": torch.zeros(8, 16, 3, 3), "encoder.conv_in.weight": torch.zeros(1)},
                {"latent_channels": 16}),
        "embedding": ({"emb_params": torch.zeros(2, 768)}, {}),
        "tiny": ({"decoder.layers.1.weight": torch.zeros(1)}, {}),
    }  # fmt: skip
    for name, (tensors, values) in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        assert tell(tmp_path / f"{name}.safetensors").values == values, name


def test_a_header_is_read_again_only_where_the_file_changed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"emb_params": torch.zeros(2, 768)}, path)
    first = tell(path)

    assert tell(path) is first
    save_file({"emb_params": torch.zeros(3, 768)}, path)
    assert tell(path) is not first


def test_damaged_files_and_pickles_tell_nothing(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    torch.save({}, tmp_path / "x.ckpt")

    assert tell(tmp_path / "x.safetensors") is None
    assert tell(tmp_path / "x.ckpt") is None
    assert tell(tmp_path / "absent.safetensors") is None


def test_titles_read_as_sentences_do(tiny_path):
    assert str(detect(tiny_path)) == "a Stable Diffusion 1 checkpoint"
    assert str(of_shapes(FILES["SDXL"][0])) == "an SDXL checkpoint"
    assert str(of_shapes(FILES["VAE of 16 channels"][0])) == "a VAE"
    assert str(of_shapes({})) == "an unknown file"


def test_what_weft_loads_is_supported(tiny_path):
    assert detect(tiny_path).is_supported
    for name in ("CLIP", "CLIP vision", "TAESD", "style model", "SD2", "SDXL refiner"):
        assert of_shapes(FILES[name][0]).is_supported, name
    assert not of_shapes(FILES["FLUX"][0]).is_supported
    assert of_shapes(FILES["ControlNet"][0]).is_supported
    assert not of_shapes({}).is_supported


def test_a_pickle_and_a_folder_are_recognised(tiny, tmp_path):
    torch.save({"state_dict": {n: torch.zeros(1) for n in FILES["upscaler"][0]}}, tmp_path / "x.pth")
    (tmp_path / "unet").mkdir()
    unet = {n: t.clone() for n, t in tiny.model.weights.tensors.items()}
    save_file(unet, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")

    assert detect(tmp_path / "x.pth").role == "upscaler"
    assert (detect(tmp_path).family, detect(tmp_path).role) == ("sd1", "checkpoint")


@pytest.mark.slow
def test_after_preloading_a_model_loads_without_further_libraries(tiny_path):
    code = f"""
import sys
from pathlib import Path
from engine import models
models.preload()
before = {{name.split(".")[0] for name in sys.modules}}
loaded = models.load_checkpoint(Path({str(tiny_path)!r}), device="cpu")
loaded.model.network, loaded.text_encoder.network, loaded.vae.network
added = {{name.split(".")[0] for name in sys.modules}} - before
assert added <= {{"safetensors", "_safetensors_rust"}}, added
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_recognising_a_file_imports_no_torch(tiny_path):
    code = f"""
import sys
from pathlib import Path
from engine import devices, models
from engine.models import architecture, checkpoint, detect, download, embedding, families, files, layout, lora, network
from engine.models import prompt, text, vector
from engine.models import tiling, tokenizer, vae, weights
assert models.detect(Path({str(tiny_path)!r})).family == "sd1"
heavy = {{"torch", "numpy", "PIL", "diffusers", "transformers", "tokenizers", "huggingface_hub"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
