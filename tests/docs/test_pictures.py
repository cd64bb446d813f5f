"""The pictures of the documentation are what the workflows paint; they carry them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.formats.files import png_texts

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda p: p.stem)
def test_a_picture_carries_the_example_as_it_is(workflow: Path) -> None:
    carried = png_texts((ROOT / "docs" / "images" / f"{workflow.stem}.png").read_bytes())["prompt"]
    assert json.loads(carried) == json.loads(workflow.read_text("utf-8")), "scripts/pictures paints it anew"
