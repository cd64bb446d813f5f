"""A LoRA out of a difference: applied, it gives the difference again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reference import Reference, relative_error
from safetensors import safe_open

from engine import Engine, Graph, Link, NodeFailed
from engine.errors import UnsupportedModel, WeftError
from engine.models import apply_lora, load_checkpoint, merge_models, merge_text_encoders
from engine.models.extract import factors, lora_bytes
from engine.models.weights import Weights

HALF = 2e-3
"""What float16 costs, in factors and in the weights of text encoders."""


def silent(*_):
    """Nobody watches."""


def extracted(tmp_path, model, text, **options):
    settings = {"rank": 4, "form": "standard", "bias": True, "texts": {}, "progress": silent}
    path = tmp_path / "x.safetensors"
    path.write_bytes(lora_bytes(model, text, **settings | options))
    return path


def names_in(path):
    with safe_open(path, "pt") as file:
        return sorted(file.keys())


def gains(part, base):
    """What each changed weight gains."""
    ours, theirs = part.network.state_dict(), base.network.state_dict()
    return {name: ours[name] - theirs[name] for name in ours if not torch.equal(ours[name], theirs[name])}


@pytest.mark.parametrize("name", ["sd15_tiny", "sdxl_tiny"])
def test_a_lora_comes_back(name, assets, tmp_path):
    checkpoint = load_checkpoint(
        Reference.find().models() / "checkpoints" / f"{name}.safetensors", device="cpu", dtype="float32"
    )
    model, text = checkpoint.model, checkpoint.text_encoder
    changed = apply_lora(model, text, assets / f"{name}_kohya_lora.safetensors")

    path = extracted(tmp_path, merge_models(changed[0], model, 1, -1), merge_text_encoders(changed[1], text, 1, -1))

    again = apply_lora(model, text, path)
    for got, part, base in zip(again, changed, (model, text), strict=True):
        expected, found = gains(part, base), gains(got, base)
        assert set(found) == set(expected)
        limit = HALF if base is model else 10 * HALF
        assert all(relative_error(found[n], expected[n]) < limit for n in expected)


def differing(model):
    """A model whose every weight differs a little, and the difference."""
    rng = torch.Generator().manual_seed(1)
    tensors = {name: tensor + 0.01 * torch.randn(tensor.shape, generator=rng) for name, tensor in model.weights.tensors.items()}
    other = replace(model, weights=Weights("x", model.weights.skeleton, tensors))
    return other, merge_models(other, model, 1.0, -1.0)


def test_full_differences_come_back_with_biases_and_norms(tiny, tmp_path):
    other, difference = differing(tiny.model)

    path = extracted(tmp_path, difference, None, form="full_diff")

    again = gains(apply_lora(tiny.model, None, path)[0], tiny.model)
    expected = gains(other, tiny.model)
    assert set(again) == set(tiny.model.weights.tensors)
    assert all(relative_error(again[name], expected[name]) < HALF for name in expected)


@pytest.mark.parametrize("form", ["standard", "full_diff"])
def test_biases_and_norms_may_be_left_out(form, tiny, tmp_path):
    _, difference = differing(tiny.model)

    path = extracted(tmp_path, difference, None, form=form, bias=False)

    again = gains(apply_lora(tiny.model, None, path)[0], tiny.model)
    assert set(again) == {name for name, tensor in tiny.model.weights.tensors.items() if tensor.ndim > 1}


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (6, 5, 3, 3)])
def test_factors_are_the_nearest_of_their_rank(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    for rank in range(1, 5):
        up, down = factors(weight, rank)
        rest = torch.linalg.svdvals(weight.flatten(1).double())[rank:]
        missed = weight.flatten(1) - up.flatten(1) @ down.flatten(1)
        assert (up.shape[1], down.shape[0]) == (rank, rank)
        assert float(missed.norm()) == pytest.approx(float(rest.norm()), rel=1e-5)  # no other pair misses less

    up, down = factors(weight, 1000)
    assert relative_error((up.flatten(1) @ down.flatten(1)).reshape(shape), weight) < 1e-5


def test_progress_is_told_for_every_weight(tiny, assets, tmp_path):
    changed, _ = apply_lora(tiny.model, None, assets / "sd15_tiny_kohya_lora.safetensors")
    told = []

    extracted(tmp_path, merge_models(changed, tiny.model, 1, -1), None, progress=lambda *step: told.append(step))

    count = len(tiny.model.weights.tensors)
    assert told == [(n, count) for n in range(count + 1)]


def test_nothing_is_an_error(tiny):
    options = {"rank": 4, "form": "standard", "bias": True, "texts": {}, "progress": silent}

    with pytest.raises(WeftError, match="link the difference of two models"):
        lora_bytes(None, None, **options)
    with pytest.raises(WeftError, match="the difference is zero everywhere"):
        lora_bytes(merge_models(tiny.model, tiny.model, 1, -1), None, **options)
    with pytest.raises(UnsupportedModel, match="they hold no weights"):
        lora_bytes(object(), None, **options)


def test_a_workflow_saves_a_lora(tmp_path):
    reference = Reference.find()
    graph = Graph().add("base", "CheckpointLoaderSimple", ckpt_name="sd15_tiny.safetensors")
    graph = graph.add(
        "lora",
        "LoraLoader",
        model=Link("base", "MODEL"),
        clip=Link("base", "CLIP"),
        lora_name="sd15_tiny_kohya_lora.safetensors",
    )
    graph = graph.add("less", "ModelMergeSubtract", model1=Link("lora", "MODEL"), model2=Link("base", "MODEL"))
    saving = graph.add("save", "LoraSave", model_diff=Link("less"), lora_type="standard", rank=4)
    with Engine(models_dir=reference.models(), output_dir=tmp_path, device="cpu", dtype="float32") as engine:
        (file,) = engine.run(saving).files
        with pytest.raises(NodeFailed, match="link the difference"):
            engine.run(graph.add("save", "LoraSave", lora_type="standard"))

    assert file == tmp_path / "loras" / "ComfyUI_extracted_lora_00001_.safetensors"
    assert {name.rpartition(".lora_")[2] for name in names_in(file)} == {"up.weight", "down.weight"}
    with safe_open(file, "pt") as opened:
        assert "ModelMergeSubtract" in opened.metadata()["prompt"]
