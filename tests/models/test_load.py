"""Checkpoints and folders of every form give the same model; damaged ones say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import ModelFileError, UnsupportedModel, WeftError
from engine.models import checkpoint, load_checkpoint, load_text_encoder, load_unet, load_vae, sd1
from engine.types import Model, TextEncoder, Vae

UNET, VAE, TEXT = checkpoint.UNET_PREFIX, checkpoint.VAE_PREFIX, sd1.FAMILY.towers[0].prefix

CROSS_ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def _load(path, **options):
    return load_checkpoint(path, device="cpu", dtype="float32", **options)


def _assert_same(loaded, tiny, *, exact=True):
    same = torch.equal if exact else lambda a, b: torch.allclose(a, b, atol=1e-2)
    for one, other in ((loaded.model, tiny.model), (loaded.vae, tiny.vae), (loaded.text_encoder, tiny.text_encoder)):
        assert one.weights.tensors.keys() == other.weights.tensors.keys()
        assert all(same(one.weights.tensors[name], tensor) for name, tensor in other.weights.tensors.items())


def test_the_values_are_what_links_carry(tiny):
    assert isinstance(tiny.model, Model)
    assert isinstance(tiny.text_encoder, TextEncoder)
    assert isinstance(tiny.vae, Vae)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the memory map of the process")
def test_a_float32_file_is_not_copied(tiny, tiny_path):
    """Every weight of the network and the VAE, and of the modules that compute, lies in the mapping of the file."""
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    ranges = [
        tuple(int(end, 16) for end in line.split()[0].split("-")) for line in lines if line.endswith(str(tiny_path.resolve()))
    ]
    weights = [*tiny.model.weights.tensors.values(), *tiny.vae.weights.tensors.values()]
    used = [*tiny.model.network.parameters(), *tiny.vae.network.parameters()]

    assert all(any(start <= t.data_ptr() < end for start, end in ranges) for t in (*weights, *used))


EXTRAS = {
    "model_ema.decay": torch.tensor(0.99),
    "model_ema.diffusion_modelout2weight": torch.zeros(4, 32, 3, 3),
    "alphas_cumprod": torch.zeros(1000),
    "betas": torch.zeros(1000),
    "sqrt_one_minus_alphas_cumprod": torch.zeros(1000),
    "posterior_mean_coef1": torch.zeros(1000),
    "cond_stage_model.logit_scale": torch.tensor(4.6),
    f"{TEXT}text_model.embeddings.position_ids": torch.arange(77)[None],
    f"{VAE}loss.logvar": torch.zeros(1),
}


def test_what_real_files_carry_besides_does_no_harm(tiny, tiny_tensors, tmp_path):
    save_file({**tiny_tensors, **EXTRAS}, tmp_path / "x.safetensors")

    _assert_same(_load(tmp_path / "x.safetensors"), tiny)


def test_text_keys_without_text_model_are_read(tiny, tiny_tensors, tmp_path):
    save_file({n.replace("text_model.", ""): t for n, t in tiny_tensors.items()}, tmp_path / "x.safetensors")

    _assert_same(_load(tmp_path / "x.safetensors"), tiny)


def test_a_ckpt_is_read(tiny, tiny_tensors, tmp_path):
    torch.save({"state_dict": tiny_tensors, "global_step": 1}, tmp_path / "x.ckpt")

    _assert_same(_load(tmp_path / "x.ckpt"), tiny)


def test_a_half_precision_file_is_widened(tiny, tiny_tensors, tmp_path):
    save_file({n: t.half() for n, t in tiny_tensors.items()}, tmp_path / "x.safetensors")

    loaded = _load(tmp_path / "x.safetensors")

    assert {t.dtype for t in loaded.model.weights.tensors.values()} == {torch.float32}
    _assert_same(loaded, tiny, exact=False)


def test_a_named_dtype_holds_for_every_part(tiny_path):
    loaded = load_checkpoint(tiny_path, device="cpu", dtype="bfloat16")

    assert {loaded.model.dtype, loaded.text_encoder.dtype, loaded.vae.dtype} == {torch.bfloat16}
    assert loaded.text_encoder.encode("a (cat:1.2)").entries[0].tokens.isfinite().all()
    assert loaded.vae.decode(torch.zeros(1, 4, 4, 4)).dtype == torch.float32


def _old_attention(name):
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    return name


FOLDERS = {
    "safetensors": ("{stem}.safetensors", lambda t: t),
    "the fp16 variant only": ("{stem}.fp16.safetensors", lambda t: t.half()),
    "bin only": ("{bin}.bin", lambda t: t),
    "old attention names": ("{stem}.safetensors", lambda t: t),
}


@pytest.mark.parametrize("form", FOLDERS)
def test_a_diffusers_folder_gives_the_same_model(form, tiny, tmp_path):
    pattern, change = FOLDERS[form]
    rename = _old_attention if form == "old attention names" else str
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    for folder, stem, pickled, value in (
        ("unet", "diffusion_pytorch_model", "diffusion_pytorch_model", tiny.model),
        ("vae", "diffusion_pytorch_model", "diffusion_pytorch_model", tiny.vae),
        ("text_encoder", "model", "pytorch_model", tiny.text_encoder),
    ):
        prefix = "text_model." if folder == "text_encoder" else ""
        tensors = {prefix + rename(n).removeprefix("clip_l."): change(t).clone() for n, t in value.weights.tensors.items()}
        if prefix:
            tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        path = tmp_path / folder / pattern.format(stem=stem, bin=pickled)
        path.parent.mkdir()
        if path.suffix == ".bin":
            torch.save(tensors, path)
        else:
            save_file(tensors, path)

    _assert_same(_load(tmp_path), tiny, exact=form != "the fp16 variant only")


def test_a_folder_that_diffusers_saved_gives_the_same_model(tiny, tmp_path):
    tiny.model.network.save_pretrained(tmp_path / "unet")
    tiny.vae.network.save_pretrained(tmp_path / "vae", safe_serialization=False)

    loaded = _load(tmp_path)

    assert loaded.text_encoder is None
    assert all(torch.equal(loaded.vae.weights.tensors[n], t) for n, t in tiny.vae.weights.tensors.items())


def test_a_folder_without_a_network_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="cannot find the weights of 'unet'"):
        _load(tmp_path)


def test_parts_load_alone_from_any_layout(tiny, tiny_tensors, tmp_path):
    forms = {
        "checkpoint": {VAE: dict(tiny_tensors)},
        "original": {VAE: {n.removeprefix(VAE): t for n, t in tiny_tensors.items() if n.startswith(VAE)}},
        "modules": {VAE: dict(tiny.vae.weights.tensors)},
    }
    for name, form in forms.items():
        save_file({n: t.clone() for n, t in form[VAE].items()}, tmp_path / f"{name}.safetensors")
        vae = load_vae(tmp_path / f"{name}.safetensors", device="cpu")
        assert all(torch.equal(vae.weights.tensors[n], t) for n, t in tiny.vae.weights.tensors.items())


def test_network_and_text_encoder_load_alone(tiny, tiny_tensors, tmp_path):
    save_file({n.removeprefix(UNET): t for n, t in tiny_tensors.items() if n.startswith(UNET)}, tmp_path / "u.safetensors")
    save_file({n.removeprefix(TEXT): t for n, t in tiny_tensors.items() if n.startswith(TEXT)}, tmp_path / "t.safetensors")

    unet = load_unet(tmp_path / "u.safetensors", device="cpu")
    text = load_text_encoder(tmp_path / "t.safetensors", device="cpu")

    assert all(torch.equal(unet.weights.tensors[n], t) for n, t in tiny.model.weights.tensors.items())
    assert all(torch.equal(text.weights.tensors[n], t) for n, t in tiny.text_encoder.weights.tensors.items())


def test_a_checkpoint_without_vae_and_text_encoder_has_none(tiny_tensors, tmp_path):
    save_file({n: t for n, t in tiny_tensors.items() if n.startswith(UNET)}, tmp_path / "x.safetensors")

    loaded = _load(tmp_path / "x.safetensors")

    assert loaded.vae is None
    assert loaded.text_encoder is None


def test_every_tensor_that_does_not_fit_is_named_in_one_error(tiny_tensors, tmp_path):
    damaged = dict(tiny_tensors)
    del damaged[f"{UNET}time_embed.0.bias"]
    damaged[f"{UNET}surprise.weight"] = torch.zeros(1)
    damaged[f"{UNET}middle_block.0.in_layers.0.weight"] = torch.zeros(7)
    damaged[f"{UNET}out.2.bias"] = torch.zeros(4, dtype=torch.int32)
    save_file(damaged, tmp_path / "x.safetensors")

    with pytest.raises(ModelFileError) as error:
        _load(tmp_path / "x.safetensors")

    text = str(error.value)
    assert "4 tensors do not fit" in text
    assert "time_embedding.linear_1.bias is missing" in text
    assert "surprise.weight is unexpected" in text
    assert "mid_block.resnets.0.norm1.weight is [7] instead of [128]" in text
    assert "conv_out.bias holds torch.int32" in text


def test_an_error_names_ten_tensors_and_counts_the_rest(tiny_tensors, tmp_path):
    damaged = {n: t for n, t in tiny_tensors.items() if not n.startswith(f"{UNET}output_blocks.3.")}
    save_file(damaged, tmp_path / "x.safetensors")

    with pytest.raises(ModelFileError, match=r"tensors do not fit: (.* is missing; ){9}.* is missing and \d+ more"):
        _load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["input_blocks.0.0.weight", "time_embed.0.weight", "input_blocks.1.0.in_layers.2.weight"])
def test_a_tensor_that_sizes_are_read_from_is_named_when_it_is_missing(name, tiny_tensors, tmp_path):
    save_file({n: t for n, t in tiny_tensors.items() if n != UNET + name}, tmp_path / "x.safetensors")

    with pytest.raises(ModelFileError, match="is missing"):
        _load(tmp_path / "x.safetensors")


def test_a_name_that_asks_for_a_billion_blocks_is_refused(tiny_tensors, tmp_path):
    hostile = {f"{VAE}encoder.down.999999999.block.0.norm1.weight": torch.zeros(1)}
    save_file({**tiny_tensors, **hostile}, tmp_path / "x.safetensors")

    with pytest.raises(ModelFileError):
        _load(tmp_path / "x.safetensors")


def test_two_tensors_for_one_weight_are_refused(tiny_tensors, tmp_path):
    name = f"{TEXT}text_model.final_layer_norm.bias"
    twice = {**tiny_tensors, name.replace("text_model.", ""): tiny_tensors[name].clone()}
    save_file(twice, tmp_path / "x.safetensors")

    with pytest.raises(ModelFileError, match="two tensors mean the same weight"):
        _load(tmp_path / "x.safetensors")


def test_sizes_that_fit_no_network_are_refused(tiny_tensors, tmp_path):
    """A width that 32 groups do not divide."""
    odd = dict(tiny_tensors)
    odd[f"{VAE}encoder.down.0.block.0.conv1.weight"] = torch.zeros(33, 32, 3, 3)
    save_file(odd, tmp_path / "x.safetensors")

    with pytest.raises(ModelFileError, match=r"fit no network|do not fit"):
        _load(tmp_path / "x.safetensors")


def test_another_family_is_named(tmp_path):
    save_file(
        {"model.diffusion_model.joint_blocks.0.context_block.x": torch.zeros(1), f"{VAE}x": torch.zeros(1)},
        tmp_path / "x.safetensors",
    )

    with pytest.raises(UnsupportedModel, match="it is a Stable Diffusion 3 checkpoint, and that family is not supported yet"):
        _load(tmp_path / "x.safetensors")


def test_a_lora_is_no_checkpoint(assets):
    with pytest.raises(UnsupportedModel, match="as a checkpoint: it is a Stable Diffusion 1 LoRA"):
        _load(assets / "sd15_tiny_kohya_lora.safetensors")


def test_tensors_of_nothing_known_are_refused(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "x.safetensors")

    with pytest.raises(ModelFileError, match="belong to no model that Weft knows"):
        _load(tmp_path / "x.safetensors")


def test_an_inpainting_model_reads_nine_channels_and_asks_for_them(tiny_tensors, tmp_path):
    wide = dict(tiny_tensors)
    entry = wide[f"{UNET}input_blocks.0.0.weight"]
    wide[f"{UNET}input_blocks.0.0.weight"] = torch.cat([entry, torch.zeros(entry.shape[0], 5, 3, 3)], dim=1)
    save_file(wide, tmp_path / "x.safetensors")
    loaded = _load(tmp_path / "x.safetensors")
    x, sigma, tokens = torch.randn(1, 4, 8, 8), torch.ones(1), torch.randn(1, 77, 64)

    made = loaded.model.denoised(x, sigma, tokens, extra={"concat": torch.randn(1, 5, 8, 8)})

    assert loaded.model.in_channels == 9
    assert made.shape == x.shape
    with pytest.raises(WeftError, match="InpaintModelConditioning"):
        loaded.model.denoised(x, sigma, tokens, extra={})


def test_a_model_can_compute_in_another_format(tiny):
    """bfloat16 keeps 8 bits, so the answer moves by about a hundredth; the model it came from stays as it is."""
    half = tiny.model.with_dtype(torch.bfloat16)
    x, sigma = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.ones(1)
    tokens = torch.zeros(1, 77, tiny.model.weights.tensors[CROSS_ATTENTION].shape[1])

    whole, rounded = (model.denoised(x, sigma, tokens, extra={}) for model in (tiny.model, half))

    assert (half.dtype, tiny.model.dtype, rounded.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert not torch.equal(whole, rounded)
    assert float((whole - rounded).norm() / whole.norm()) < 0.05
    assert tiny.model.with_dtype(torch.float32) is tiny.model


def test_a_lora_of_another_family_is_a_problem_of_the_workflow(tmp_path):
    from reference import Reference

    from engine import Engine
    from engine.errors import WorkflowInvalid

    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15_tiny.safetensors"}},
        "2": {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["1", 0], "lora_name": "sdxl_tiny_kohya_lora.safetensors", "strength_model": 1.0},
        },
    }
    folders = {"models_dir": Reference.find().models(), "output_dir": tmp_path}
    with Engine(**folders, device="cpu") as engine, pytest.raises(WorkflowInvalid) as error:
        engine.run(prompt, ["2"])

    assert [problem.code for problem in error.value.problems] == ["unlike-files"]
    assert "sd15_tiny.safetensors is a Stable Diffusion 1 checkpoint" in str(error.value)
    assert "sdxl_tiny_kohya_lora.safetensors is an SDXL LoRA" in str(error.value)


@pytest.mark.parametrize(
    ("prompt", "titles"),
    [
        (
            {
                "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl_tiny.safetensors"}},
                "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
                "3": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "sd15_tiny_controlnet.safetensors"}},
                "4": {"class_type": "EmptyImage", "inputs": {}},
                "9": {
                    "class_type": "ControlNetApply",
                    "inputs": {"conditioning": ["2", 0], "control_net": ["3", 0], "image": ["4", 0], "strength": 1.0},
                },
            },
            ("sdxl_tiny.safetensors is an SDXL checkpoint", "is a Stable Diffusion 1 ControlNet"),
        ),
        (
            {
                "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15_tiny.safetensors"}},
                "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl_tiny.safetensors"}},
                "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["2", 1]}},
                "4": {"class_type": "EmptyLatentImage", "inputs": {}},
                "9": {
                    "class_type": "KSampler",
                    "inputs": {"model": ["1", 0], "positive": ["3", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
                    | {"seed": 0, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
                },
            },
            ("sd15_tiny.safetensors is a Stable Diffusion 1 checkpoint", "sdxl_tiny.safetensors is an SDXL checkpoint"),
        ),
    ],
    ids=["ControlNet", "words of another text encoder"],
)
def test_parts_of_two_families_are_a_problem_of_the_workflow(prompt, titles, tmp_path):
    from reference import Reference

    from engine import Engine
    from engine.errors import WorkflowInvalid

    folders = {"models_dir": Reference.find().models(), "output_dir": tmp_path}
    with Engine(**folders, device="cpu") as engine, pytest.raises(WorkflowInvalid) as error:
        engine.run(prompt, ["9"])

    assert [problem.code for problem in error.value.problems] == ["unlike-files"]
    assert all(title in str(error.value) for title in titles)
