"""Merging: sums of the weights of two models, made when they are needed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from reference import Reference, relative_error

from engine import Catalog
from engine.errors import UnsupportedModel
from engine.models import apply_lora, load_checkpoint, merge_by_block, merge_models, merge_text_encoders
from engine.models.files import read_tensors
from engine.models.weights import Patch, Weights

KINDS = Catalog.load("nodes")
LIMIT = 1e-6


def call(kind, **inputs):
    return KINDS[kind].function(**inputs)


def other_of(part):
    """The same part with other weights: rows turned round, a little larger."""
    weights = part.weights
    tensors = {name: tensor.flip(0) * 1.5 for name, tensor in weights.tensors.items()}
    return replace(part, weights=Weights("other.safetensors", weights.skeleton, tensors, weights.precision))


@pytest.fixture(scope="module")
def other(tiny):
    return other_of(tiny.model)


@pytest.fixture(scope="module")
def other_text(tiny):
    return other_of(tiny.text_encoder)


def is_mixed(part, one, other, own, share, limit=LIMIT):
    mixed, first, second = (p.network.state_dict() for p in (part, one, other))
    return all(relative_error(mixed[name], own * first[name] + share * second[name]) < limit for name in mixed)


def test_models_are_mixed_in_a_ratio(tiny, other):
    assert is_mixed(call("ModelMergeSimple", model1=tiny.model, model2=other, ratio=0.7), tiny.model, other, 0.7, 0.3)


def test_models_are_added_and_subtracted(tiny, other):
    assert is_mixed(call("ModelMergeAdd", model1=tiny.model, model2=other), tiny.model, other, 1, 1)
    assert is_mixed(call("ModelMergeSubtract", model1=tiny.model, model2=other, multiplier=0.5), tiny.model, other, 0.5, -0.5)


def test_text_encoders_are_mixed_added_and_subtracted(tiny, other_text):
    one, half = tiny.text_encoder, 1e-3  # the weights of text encoders are limited to half precision

    assert is_mixed(call("CLIPMergeSimple", clip1=one, clip2=other_text, ratio=0.7), one, other_text, 0.7, 0.3, half)
    assert is_mixed(call("CLIPMergeAdd", clip1=one, clip2=other_text), one, other_text, 1, 1, half)
    assert is_mixed(call("CLIPMergeSubtract", clip1=one, clip2=other_text, multiplier=2.0), one, other_text, 2, -2, half)


def test_a_difference_added_to_its_base_is_the_model_again(tiny, other):
    difference = call("ModelMergeSubtract", model1=other, model2=tiny.model, multiplier=1.0)

    again = call("ModelMergeAdd", model1=tiny.model, model2=difference)

    ours, theirs = again.network.state_dict(), other.network.state_dict()
    assert all(relative_error(ours[name], theirs[name]) < LIMIT for name in ours)


def original_names(tiny_path, model):
    """Name of a weight to its original one, by its values in the file."""
    prefix = "model.diffusion_model."
    file = {name.removeprefix(prefix): tensor for name, tensor in read_tensors(tiny_path).items() if name.startswith(prefix)}
    by_value = {(tensor.numel(), tensor.flatten()[:4].tolist().__repr__()): name for name, tensor in file.items()}
    return {
        name: by_value[tensor.numel(), tensor.flatten()[:4].tolist().__repr__()]
        for name, tensor in model.weights.tensors.items()
    }


BLOCKS = {"input": 0.9, "middle": 0.5, "out": 0.2}


def test_a_ratio_for_each_part_of_the_network(tiny, tiny_path, other):
    mixed = call("ModelMergeBlocks", model1=tiny.model, model2=other, **BLOCKS).network.state_dict()

    originals = original_names(tiny_path, tiny.model)
    for name, tensor in tiny.model.weights.tensors.items():
        original = originals[name]
        start = next((start for start in BLOCKS if original.startswith(start)), "input")
        ratio = BLOCKS[start]
        assert relative_error(mixed[name], ratio * tensor + (1 - ratio) * other.weights.tensors[name]) < LIMIT, original


@pytest.mark.parametrize("kind", ["ModelMergeSD1", "ModelMergeSD2"])
def test_a_ratio_for_each_block(kind, tiny, tiny_path, other):
    names = [name for name in KINDS[kind].inputs if not name.startswith("model")]
    ratios = {name: 1 - n / 100 for n, name in enumerate(names, start=1)}

    mixed = call(kind, model1=tiny.model, model2=other, **ratios).network.state_dict()

    originals = original_names(tiny_path, tiny.model)
    seen = set()
    for name, tensor in tiny.model.weights.tensors.items():
        block = re.match(r"((?:input|output|middle)_blocks?\.\d+\.|\w+\.)", originals[name])[1]
        seen.add(block)
        expected = ratios[block] * tensor + (1 - ratios[block]) * other.weights.tensors[name]
        assert relative_error(mixed[name], expected) < LIMIT, originals[name]
    assert seen == set(names) - {"label_emb."}


def test_a_ratio_for_each_block_of_sdxl():
    path = Reference.find().models() / "checkpoints" / "sdxl_tiny.safetensors"
    model = load_checkpoint(path, device="cpu", dtype="float32").model
    other = other_of(model)
    names = [name for name in KINDS["ModelMergeSDXL"].inputs if not name.startswith("model")]
    ratios = {name: 1 - n / 100 for n, name in enumerate(names, start=1)}

    mixed = call("ModelMergeSDXL", model1=model, model2=other, **ratios).network.state_dict()

    originals = original_names(path, model)
    for name, tensor in model.weights.tensors.items():
        start = next(start for start in names if originals[name].startswith(start))
        assert relative_error(mixed[name], ratios[start] * tensor + (1 - ratios[start]) * other.weights.tensors[name]) < LIMIT


def test_the_longest_start_of_a_name_counts_and_the_rest_stays(tiny, other):
    mixed = merge_by_block(tiny.model, other, {"input_blocks.1": 0.5, "input_blocks.1.1.": 0.0}).network.state_dict()

    own, others = tiny.model.weights.tensors, other.weights.tensors
    resnet, entry = "down_blocks.0.resnets.0.conv1.weight", "down_blocks.0.attentions.0.proj_in.weight"
    assert relative_error(mixed[resnet], (own[resnet] + others[resnet]) / 2) < LIMIT
    assert mixed[entry].data_ptr() == others[entry].data_ptr()
    assert mixed["conv_in.weight"].data_ptr() == own["conv_in.weight"].data_ptr()


def test_patches_of_both_models_count(tiny, other, assets):
    kohya = assets / "sd15_tiny_kohya_lora.safetensors"
    first, _ = apply_lora(tiny.model, None, kohya, 0.5)
    second, _ = apply_lora(other, None, kohya, -1.0)

    assert is_mixed(merge_models(first, second, 0.4, 0.6), first, second, 0.4, 0.6)


def test_ratios_of_one_and_nothing_copy_nothing(tiny, other):
    assert merge_models(tiny.model, other, 1.0, 0.0) is tiny.model
    whole = merge_models(tiny.model, other, 0.0, 1.0).network.state_dict()
    assert all(tensor.data_ptr() == other.weights.tensors[name].data_ptr() for name, tensor in whole.items())


def test_what_is_no_weight_stays_that_of_the_first(tiny, other):
    marked = tiny.model.with_hook(object())

    assert merge_models(marked, other, 0.5, 0.5).hooks == marked.hooks
    assert merge_models(other, marked, 0.5, 0.5).hooks == ()
    skipping = tiny.text_encoder.with_clip_skip(-2)
    assert merge_text_encoders(skipping, tiny.text_encoder, 0.5, 0.5).clip_skip == -2


def test_a_merge_builds_no_network_until_it_is_used(tiny, other):
    untouched = replace(other, weights=replace(other.weights))

    merged = merge_models(tiny.model, untouched, 0.5, 0.5)
    assert merged.network is not None

    assert "network" not in vars(untouched.weights)
    assert set(merged.weights.changed) == set(tiny.model.weights.tensors)


def test_a_weight_of_another_shape_stays_as_it_is(tiny, caplog):
    path = Reference.find().models() / "checkpoints" / "sd15_inpaint_tiny.safetensors"
    inpainting = load_checkpoint(path, device="cpu", dtype="float32").model

    difference = call("ModelMergeSubtract", model1=inpainting, model2=tiny.model, multiplier=1.0)

    assert "1 weight stays as it is, the other denoising network has none of that shape: conv_in.weight" in caplog.text
    assert torch.equal(difference.network.conv_in.weight, inpainting.weights.tensors["conv_in.weight"])
    added = call("ModelMergeAdd", model1=difference, model2=tiny.model)
    ours, theirs = added.network.state_dict(), inpainting.network.state_dict()
    assert all(relative_error(ours[name], theirs[name]) < 1e-5 for name in ours)
    assert added.in_channels == 9


def test_models_of_different_families_are_refused(tiny):
    foreign = replace(tiny.model, family="sdxl"), replace(tiny.text_encoder, family="sdxl")

    with pytest.raises(UnsupportedModel, match="two denoising networks of different families: Stable Diffusion 1 and SDXL"):
        merge_models(tiny.model, foreign[0], 0.5, 0.5)
    with pytest.raises(UnsupportedModel, match="two text encoders of different families: Stable Diffusion 1 and SDXL"):
        merge_text_encoders(tiny.text_encoder, foreign[1], 0.5, 0.5)


def test_what_holds_no_weights_is_refused(tiny):
    with pytest.raises(UnsupportedModel, match="they hold no weights that could be mixed"):
        merge_models(tiny.model, object(), 0.5, 0.5)
    with pytest.raises(UnsupportedModel, match="they hold no weights that could be mixed"):
        merge_text_encoders(object(), tiny.text_encoder, 0.5, 0.5)


def test_a_patch_may_follow_a_merge(tiny, other):
    merged = merge_models(tiny.model, other, 0.5, 0.5).with_patch(Patch({"conv_in.bias": lambda weight: weight + 1}))

    own, others = (part.weights.tensors["conv_in.bias"] for part in (tiny.model, other))
    assert relative_error(merged.network.conv_in.bias, (own + others) / 2 + 1) < LIMIT
