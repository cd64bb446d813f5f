"""Prompts to conditioning."""

from __future__ import annotations

import logging

import pytest
import torch
from reference import Reference, relative_error
from safetensors.torch import save_file

from engine.errors import ModelFileError, WeftError
from engine.folders import Folders
from engine.models import embedding, embedding_finder, load_checkpoint

REFERENCE = Reference.find()
ENCODED = [
    name
    for name, case in REFERENCE.cases.items()
    if name.startswith("sd15/") and case.prompt[case.node]["class_type"] == "CLIPTextEncode"
]


@pytest.mark.parametrize("name", ENCODED)
def test_a_prompt_gives_the_reference_conditioning(name, tiny, assets):
    """Fails without the weights' rounding to float16: the reference keeps text encoders so."""
    case = REFERENCE.cases[name]
    text = case.prompt[case.node]["inputs"]["text"]

    def find(wanted):
        return next((path for path in (assets / wanted, assets / f"{wanted}.safetensors") if path.exists()), None)

    got = tiny.text_encoder.encode(text, find_embedding=find).tensors()

    for field, expected in REFERENCE.expected(name).items():
        assert relative_error(got[field], expected) < 1e-5


def test_hidden_states_are_those_of_transformers(tiny, tiny_tensors):
    from transformers import CLIPTextConfig, CLIPTextModel

    theirs = CLIPTextModel(
        CLIPTextConfig(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=1)
    ).eval()
    prefix = "cond_stage_model.transformer.text_model."
    own = {n.removeprefix(prefix): t.half().float() for n, t in tiny_tensors.items() if n.startswith(prefix)}
    theirs.load_state_dict(own)
    ids = torch.tensor([[49406, 320, 2368, *[49407] * 74]])
    states = theirs(ids, output_hidden_states=True)

    for layer in (-1, -2, -3):
        expected = theirs.final_layer_norm(states.hidden_states[layer])
        got = tiny.text_encoder.with_clip_skip(layer).encode("a cat").entries[0]
        assert relative_error(got.tokens, expected) < 1e-5
        assert relative_error(got.pooled, states.pooler_output) < 1e-5


def test_clip_skip_beyond_the_first_layer_is_the_last(tiny):
    plain, beyond = tiny.text_encoder, tiny.text_encoder.with_clip_skip(-20)

    assert torch.equal(plain.encode("a cat").entries[0].tokens, beyond.encode("a cat").entries[0].tokens)


def test_clip_skip_makes_a_new_value_and_shares_the_weights(tiny):
    skipped = tiny.text_encoder.with_clip_skip(-2)

    assert tiny.text_encoder.clip_skip is None
    assert skipped.weights is tiny.text_encoder.weights


def test_layers_count_from_the_end(tiny):
    with pytest.raises(WeftError, match="layers count from the end"):
        tiny.text_encoder.with_clip_skip(1)


def test_conditioning_is_float32_on_the_cpu(tiny):
    entry = tiny.text_encoder.encode("a (cat:1.2)").entries[0]

    assert (entry.tokens.dtype, entry.tokens.device.type, tuple(entry.tokens.shape)) == (torch.float32, "cpu", (1, 77, 64))
    assert entry.pooled.shape == (1, 64)


def test_a_neutral_weight_changes_nothing(tiny):
    plain, weighted = (tiny.text_encoder.encode(text).entries[0].tokens for text in ("a cat", "a (cat:1.0)"))

    assert torch.equal(plain, weighted)


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "embeddings" / "sub").mkdir(parents=True)
    return Folders(models=(tmp_path,))


def _tokens(tiny, text, folders):
    return tiny.text_encoder.encode(text, find_embedding=embedding_finder(folders)).entries[0].tokens


@pytest.mark.parametrize(
    ("file", "layout"),
    [
        ("x.safetensors", lambda v: {"emb_params": v}),
        ("x.safetensors", lambda v: {"clip_g": torch.zeros(1, 128), "clip_l": v}),
        ("sub/x.safetensors", lambda v: {"emb_params": v}),
        ("x.pt", lambda v: {"string_to_param": {"*": v}, "string_to_token": {"*": 265}, "name": "x"}),
        ("x.bin", lambda v: {"<x>": v[0]}),
    ],
    ids=["safetensors", "of two encoders", "below", "A1111", "diffusers"],
)
def test_every_layout_of_an_embedding_is_read(file, layout, tiny, folders):
    """The vectors of the word `cat` stand for the word."""
    table = tiny.text_encoder.weights.tensors["clip_l.embeddings.token_embedding.weight"]
    path = folders.of("embeddings")[0] / file
    saved = layout(table[2368:2369].clone())
    if path.suffix == ".safetensors":
        save_file(saved, path)
    else:
        torch.save(saved, path)

    got = _tokens(tiny, "a embedding:x sits", folders)

    assert torch.equal(got, tiny.text_encoder.encode("a cat sits").entries[0].tokens)


def test_commas_after_an_embedding_are_words(tiny, folders):
    table = tiny.text_encoder.weights.tensors["clip_l.embeddings.token_embedding.weight"]
    save_file({"emb_params": table[2368:2369].clone()}, folders.of("embeddings")[0] / "x.safetensors")

    got = _tokens(tiny, "embedding:x, sits", folders)

    assert torch.equal(got, tiny.text_encoder.encode("cat, sits").entries[0].tokens)


def test_several_vectors_take_several_places(tiny, folders):
    table = tiny.text_encoder.weights.tensors["clip_l.embeddings.token_embedding.weight"]
    save_file({"emb_params": table[[320, 2368]].clone()}, folders.of("embeddings")[0] / "x.safetensors")

    got = _tokens(tiny, "embedding:x sits", folders)

    assert torch.equal(got, tiny.text_encoder.encode("a cat sits").entries[0].tokens)


@pytest.mark.parametrize("name", ["nothing", "../outside", "/etc/passwd"])
def test_an_unknown_embedding_is_left_out_with_a_warning(name, tiny, folders, caplog):
    with caplog.at_level(logging.WARNING):
        got = _tokens(tiny, f"a embedding:{name} cat", folders)

    assert torch.equal(got, tiny.text_encoder.encode("a cat").entries[0].tokens)
    assert name in caplog.text


def test_an_embedding_of_another_width_is_refused(tiny, folders):
    save_file({"emb_params": torch.zeros(1, 768)}, folders.of("embeddings")[0] / "x.safetensors")

    with pytest.raises(ModelFileError, match="768 wide, and the text encoder of Stable Diffusion 1 reads 64; use one"):
        _tokens(tiny, "a embedding:x cat", folders)


@pytest.fixture(scope="module")
def xl():
    return load_checkpoint(Reference.find().models() / "checkpoints" / "sdxl_tiny.safetensors", device="cpu", dtype="float32")


def _tables(xl):
    return {name: xl.text_encoder.weights.tensors[f"{name}.embeddings.token_embedding.weight"] for name in ("clip_l", "clip_g")}


@pytest.mark.parametrize("words", [[2368], [320, 2368]], ids=["one vector", "two vectors"])
def test_each_text_encoder_takes_its_own_vectors(words, xl, folders):
    saved = {name: table[words].clone() for name, table in _tables(xl).items()}
    save_file(saved, folders.of("embeddings")[0] / "x.safetensors")

    got = _tokens(xl, "embedding:x sits", folders)

    expected = {1: "cat sits", 2: "a cat sits"}[len(words)]
    assert torch.equal(got, xl.text_encoder.encode(expected).entries[0].tokens)


@pytest.mark.parametrize("name", ["clip_l", "clip_g"])
def test_vectors_for_one_text_encoder_are_left_out_of_the_other_with_a_warning(name, xl, folders, caplog):
    save_file({name: _tables(xl)[name][2368:2369].clone()}, folders.of("embeddings")[0] / "x.safetensors")

    got = _tokens(xl, "a embedding:x sits", folders)

    other = {"clip_l": "clip_g", "clip_g": "clip_l"}[name]
    expected = xl.text_encoder.encode({name: "a cat sits", other: "a sits"}).entries[0].tokens
    assert torch.equal(got, expected)
    assert f"no vectors for the text encoder {other}, which does without" in caplog.text


def test_vectors_for_neither_text_encoder_are_refused(xl, folders):
    save_file({"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)}, folders.of("embeddings")[0] / "x.safetensors")

    with pytest.raises(ModelFileError, match="768 and 1280 wide, and the text encoder of SDXL reads 64 and 128"):
        _tokens(xl, "embedding:x", folders)


def test_a_file_without_vectors_is_no_embedding(tmp_path):
    torch.save({"name": "x"}, tmp_path / "x.pt")

    with pytest.raises(ModelFileError, match="holds no vectors"):
        embedding.vectors(tmp_path / "x.pt")
