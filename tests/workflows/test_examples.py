"""Every example workflow runs on what ships with the package, paints something, and can be run again from its picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from engine import Engine
from engine.formats.files import load, png_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

WORKFLOWS = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"))

PICTURES = {"variations": 4, "two_prompts": 2}
"""How many pictures a workflow paints, where it is not one."""

SIDE_PX = 128
"""How wide and high they are."""

MIN_SPREAD = 20
"""Of the brightness of a picture that shows something, as a standard deviation of 0..255."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    root = tmp_path_factory.mktemp("workflows")
    with Engine(input_dir=root / "input", output_dir=root / "output", verify=True) as engine:
        yield engine


def pixels(path: Path) -> NDArray[np.int16]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.int16)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_it_paints_pictures_that_can_be_run_again(path: Path, engine: Engine) -> None:
    files = engine.run(path).files
    assert len(files) == PICTURES.get(path.stem, 1)
    painted = [pixels(file) for file in files]
    for picture in painted:
        assert picture.shape == (SIDE_PX, SIDE_PX, 3)
        assert picture.std() > MIN_SPREAD
        assert np.abs(np.diff(picture, axis=1)).mean() < MIN_SPREAD  # a picture, not noise
    for other in painted[1:]:
        assert (other != painted[0]).mean() > 0.05

    assert "prompt" in png_texts(files[0].read_bytes())
    with Engine(output_dir=engine.folders.output / "again") as fresh:
        again = fresh.run(files[0]).files
    assert len(again) == len(files)
    assert all(np.array_equal(pixels(file), picture) for file, picture in zip(again, painted, strict=True))


def changed(a: NDArray[np.int16], b: NDArray[np.int16]) -> NDArray[np.float64]:
    """How far two pictures are apart at each pixel."""
    return np.abs(a - b).mean(axis=2)


def example(name: str) -> Path:
    return next(p for p in WORKFLOWS if p.stem == name)


def test_inpainting_changes_what_the_mask_covers_and_hardly_anything_else(engine: Engine) -> None:
    found = engine.run(example("inpaint"))
    before = found.value("Picture")[0].mul(255).round().numpy().astype(np.int16)
    covered = found.value("Mask")[0].numpy() > 0.5
    difference = changed(pixels(found.files[0]), before)
    assert difference[covered].mean() > 3 * difference[~covered].mean()


def test_img2img_keeps_more_of_the_picture_the_less_it_replaces(engine: Engine) -> None:
    found = engine.run(example("img2img"), overrides={"Sampler.denoise": 0.2})
    before = found.value("Picture")[0].mul(255).round().numpy().astype(np.int16)
    slight = changed(pixels(found.files[0]), before).mean()
    strong = changed(pixels(engine.run(example("img2img")).files[0]), before).mean()
    assert slight < strong


def test_the_lora_changes_the_picture_and_strength_nought_does_not(engine: Engine) -> None:
    asked = load(example("lora"))["3"].inputs["text"]
    plain = pixels(engine.run(example("portrait"), overrides={"Prompt.text": asked}).files[0])
    styled = pixels(engine.run(example("lora")).files[0])
    without = engine.run(example("lora"), overrides={"Style.strength_model": 0.0, "Style.strength_clip": 0.0})
    assert changed(plain, styled).mean() > 5
    assert np.array_equal(pixels(without.files[0]), plain)


def test_combining_and_averaging_prompts_give_different_pictures(engine: Engine) -> None:
    average, combined = (pixels(file) for file in engine.run(example("two_prompts")).files)
    assert changed(average, combined).mean() > 1
