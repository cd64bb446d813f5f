"""The portrait model: the painter it learned from, the shipped file, and whether it paints what it is asked to."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from engine import Engine
from tools.portrait import captions, data, export, paint, sample, score, text

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "engine" / "assets" / "models" / "checkpoints" / "portrait.safetensors"
CLIP = ROOT / "engine" / "assets" / "clip"


WORKFLOW = ROOT / "workflows" / "portrait.json"


@functools.cache
def _painter() -> sample.Painter:
    """The file read by other code than the engine's."""
    return sample.Painter(FILE, CLIP)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("portrait")
    with Engine(input_dir=folder, output_dir=folder, device="cpu") as engine:
        yield engine


def _paint(engine: Engine, texts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """Pictures by the example workflow with its own settings, [n, 128, 128, 3] uint8."""
    made = []
    for prompt, seed in zip(texts, seeds, strict=True):
        result = engine.run(WORKFLOW, targets=["6"], overrides={"2.text": prompt, "5.seed": seed})
        made.append((result.value("6", "IMAGE")[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    return np.stack(made)


def test_a_drawing_follows_from_its_seed() -> None:
    first, again, other = paint.pictures([4, 4, 5])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (128, 128, 3)


def test_captions_say_only_what_the_drawing_shows() -> None:
    rng = np.random.default_rng(0)
    for seed in range(300):
        p = paint.portrait(seed)
        said = captions.caption(p, rng).said
        assert all(value in captions.ATTRIBUTES[name] for name, value in said.items())
        for name in ("background", "hair", "style", "skin", "shirt", "garment", "eyes", "expression", "eyewear", "beard"):
            assert said.get(name, getattr(p, name)) == getattr(p, name)


def test_captions_vary_and_fit_the_encoder() -> None:
    tokens = text.tokenizer(CLIP)
    rng = np.random.default_rng(0)
    found = {captions.caption(paint.portrait(3), rng).text for _ in range(100)}
    assert len(found) > 95
    assert max(len(tokens(t)["input_ids"]) for t in found) <= text.LENGTH


def test_the_classifier_reads_drawings() -> None:
    accuracy = score.drawn_accuracy(300)
    assert all(share >= 0.99 for share in accuracy.values()), accuracy


def test_the_file_is_small_half_precision_and_laid_out_like_sd1() -> None:
    assert FILE.stat().st_size <= 32_000_000
    with safe_open(str(FILE), "pt") as file:
        keys = set(file.keys())
        assert all(str(file.get_tensor(k).dtype) == "torch.float16" for k in keys)
        assert all(bool(file.get_tensor(k).isfinite().all()) for k in keys)
        assert file.get_slice(export.TEXT + "text_model.embeddings.token_embedding.weight").get_shape()[0] == 49408
        assert file.get_slice(export.UNET + "input_blocks.0.0.weight").get_shape()[1] == 4
        assert file.get_slice(export.VAE + "decoder.conv_in.weight").get_shape()[1] == 4
    assert all(k.startswith((export.UNET, export.VAE, export.TEXT)) for k in keys)
    for name in ("time_embed.0.weight", "middle_block.1.transformer_blocks.0.attn2.to_k.weight", "out.2.weight"):
        assert export.UNET + name in keys
    for name in ("encoder.down.0.block.0.conv1.weight", "decoder.up.3.upsample.conv.weight", "quant_conv.weight"):
        assert export.VAE + name in keys


def test_the_autoencoder_keeps_drawings() -> None:
    held = data.to_signed(data.held_out(32))
    assert data.psnr(_painter().roundtrip(held), held).mean() >= 29


def test_the_engine_and_other_code_paint_the_same(engine: Engine) -> None:
    prompt = "portrait of a woman with red hair, blue background, smiling"
    ours = _paint(engine, [prompt], [3])[0].astype(float)
    theirs = _painter()([prompt], [3], negative="blurry, low quality")[0].astype(float)
    assert np.abs(ours - theirs).mean() < 2


def test_seeds_give_different_faces_and_the_same_seed_the_same(engine: Engine) -> None:
    prompt = "portrait of a woman with red hair and glasses, blue background, smiling"
    a, b, c = (_paint(engine, [prompt], [seed])[0].astype(float) for seed in (1, 2, 1))
    assert np.array_equal(a, c)
    face = (slice(30, 95), slice(36, 92))
    assert np.abs(a[face] - b[face]).mean() > 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_random_prompts_are_followed(engine: Engine) -> None:
    asked = score.prompts(200)
    made = score.generate(functools.partial(_paint, engine), asked)
    accuracy = score.generated_accuracy(asked, made)
    least = {"background": 0.97, "hair": 0.95, "shirt": 0.80, "skin": 0.70}
    assert all(accuracy[name] >= share for name, share in least.items()), accuracy
