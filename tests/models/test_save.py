"""What is saved has the names of the original, and loads again as it was."""

from __future__ import annotations

import json

import pytest
import torch
from reference import Reference

from engine import Engine
from engine.errors import UnsupportedModel
from engine.models import apply_lora, files, load_checkpoint, load_text_encoder, load_vae, save
from engine.models.tiny_vae import PixelSpace

REFERENCE = Reference.find()
UNSAVED = {"conditioner.embedders.1.model.logit_scale"}


@pytest.fixture(scope="module", params=["sd15_tiny", "sdxl_tiny"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(name):
    return load_checkpoint(REFERENCE.models() / "checkpoints" / f"{name}.safetensors", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def changed(name, loaded):
    """The same with a LoRA."""
    path = REFERENCE.folder / "assets" / f"{name}_kohya_lora.safetensors"
    return apply_lora(loaded.model, loaded.text_encoder, path, 0.8, 0.6)


def saved(tmp_path, tensors, **texts):
    path = tmp_path / "saved.safetensors"
    save.write(path, tensors, texts)
    return path


def state(value):
    """Every weight as it computes."""
    return dict(value.network.state_dict())


def same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_a_checkpoint_has_the_names_and_shapes_of_the_original(name, loaded):
    manifest = json.loads((REFERENCE.folder / f"{name}.manifest.json").read_text("utf-8"))

    made = save.checkpoint_tensors(loaded.model, loaded.text_encoder, loaded.vae)

    expected = {key: shape for key, shape in manifest.items() if key not in UNSAVED}
    assert {key: list(tensor.shape) for key, tensor in made.items()} == expected


def test_a_checkpoint_loads_again_with_its_changes(loaded, changed, tmp_path):
    model, encoder = changed
    path = saved(tmp_path, save.checkpoint_tensors(model, encoder, loaded.vae))

    again = load_checkpoint(path, device="cpu", dtype="float32")

    same(state(again.model), state(model))
    same(state(again.text_encoder), state(encoder))
    same(state(again.vae), state(loaded.vae))
    assert any(not torch.equal(t, state(loaded.model)[key]) for key, t in state(model).items())


def test_a_vae_loads_again(loaded, tmp_path):
    same(state(load_vae(saved(tmp_path, save.vae_tensors(loaded.vae)), device="cpu")), state(loaded.vae))


def test_text_encoders_load_again_from_a_file_each(loaded, changed, tmp_path):
    paths = []
    for tower, tensors in save.text_tensors(changed[1]).items():
        (tmp_path / tower).mkdir()
        paths.append(saved(tmp_path / tower, tensors))

    again = load_text_encoder(*paths, device="cpu", dtype="float32")

    same(state(again), state(changed[1]))


def test_a_model_that_predicts_velocity_is_marked(loaded, tmp_path):
    from engine.sampling.schedule import DiscreteSchedule

    for schedule, marks in (
        (DiscreteSchedule.scaled_linear(), set()),
        (DiscreteSchedule.scaled_linear("v"), {"v_pred"}),
        (DiscreteSchedule.scaled_linear("v", zero_terminal_snr=True), {"v_pred", "ztsnr"}),
    ):
        model = loaded.model.with_schedule(schedule)
        path = saved(tmp_path, save.checkpoint_tensors(model))
        again = load_checkpoint(path, device="cpu").model.schedule
        assert {"v_pred", "ztsnr"} & files.read_header(path).tensors.keys() == marks
        assert (again.prediction, again.sigma_max) == (schedule.prediction, schedule.sigma_max)


@pytest.mark.parametrize("name", ["sdxl_tiny"], indirect=True)
def test_levels_of_a_model_that_was_trained_on_any_are_kept(loaded, tmp_path):
    from engine.sampling.schedule import ContinuousSchedule

    model = loaded.model.with_schedule(ContinuousSchedule(0.002, 120.0, "v"))

    again = load_checkpoint(saved(tmp_path, save.checkpoint_tensors(model)), device="cpu").model.schedule

    assert (again.prediction, again.lowest, again.highest) == ("v", pytest.approx(0.002), 120.0)


def test_metadata_says_what_sdxl_is(name, loaded):
    texts = save.metadata({"prompt": {"1": {}}, "workflow": None}, loaded.model, title="ComfyUI 1")

    assert texts["prompt"] == '{"1": {}}'
    assert "workflow" not in texts
    if name == "sd15_tiny":
        assert texts.keys() == {"prompt"}
    else:
        assert texts["modelspec.architecture"] == "stable-diffusion-xl-v1-base"
        assert texts["modelspec.sai_model_spec"] == "1.0.0"
        assert texts["modelspec.predict_key"] == "epsilon"
        assert texts["modelspec.title"] == "ComfyUI 1"


def test_what_has_no_weights_is_refused(loaded):
    with pytest.raises(UnsupportedModel, match="cannot save PixelSpace"):
        save.checkpoint_tensors(loaded.model, None, PixelSpace())


@pytest.mark.parametrize("name", ["sdxl_tiny"], indirect=True)
def test_a_text_encoder_of_another_family_is_refused(loaded, tiny):
    with pytest.raises(UnsupportedModel, match="have no place for clip_l, clip_g"):
        save.checkpoint_tensors(tiny.model, loaded.text_encoder)


def test_the_nodes_save_what_loads_again_by_name_and_samples_alike(tmp_path):
    checkpoint = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15_tiny.safetensors"}}
    adapter = {"lora_name": "sd15_tiny_kohya_lora.safetensors", "strength_model": 1.0, "strength_clip": 1.0}
    steps = {"seed": 1, "steps": 2, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}

    def drawn(loader, prompt):
        """A workflow that ends in a picture, node 9, from what node `loader` gives."""
        text = {"text": "a cat", "clip": [loader, 1]}
        sizes = {"width": 64, "height": 64, "batch_size": 1}
        sources = {"model": [loader, 0], "positive": ["5", 0], "negative": ["5", 0], "latent_image": ["6", 0]}
        return prompt | {
            "5": {"class_type": "CLIPTextEncode", "inputs": text},
            "6": {"class_type": "EmptyLatentImage", "inputs": sizes},
            "7": {"class_type": "KSampler", "inputs": steps | sources},
            "9": {"class_type": "VAEDecode", "inputs": {"samples": ["7", 0], "vae": ["1", 2]}},
        }

    first = {"1": checkpoint, "2": {"class_type": "LoraLoader", "inputs": adapter | {"model": ["1", 0], "clip": ["1", 1]}}}
    parts = {"model": ["2", 0], "clip": ["2", 1], "vae": ["1", 2]}
    first["3"] = {"class_type": "CheckpointSave", "inputs": parts | {"filename_prefix": "checkpoints/mine"}}
    folders = {"models_dir": REFERENCE.models(), "output_dir": tmp_path}
    with Engine(**folders, device="cpu", dtype="float32") as engine:
        result = engine.run(drawn("2", first), ["3", "9"])
        again = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "mine_00001_.safetensors"}}}
        loaded = engine.run(drawn("1", again), ["9"])

    assert [path.name for path in result.files] == ["mine_00001_.safetensors"]
    assert torch.equal(result.value("9"), loaded.value("9"))
    header = files.read_header(tmp_path / "checkpoints" / "mine_00001_.safetensors")
    assert json.loads(header.metadata["prompt"])["2"]["class_type"] == "LoraLoader"
