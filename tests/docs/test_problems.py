"""Every problem code has its paragraph, and every paragraph its code."""

from __future__ import annotations

import re
from pathlib import Path

from engine.validate import COMFY_CODES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "problems.md").read_text("utf-8")


def test_the_headings_are_the_codes() -> None:
    assert set(re.findall(r"^## (.+)$", TEXT, re.MULTILINE)) == {*COMFY_CODES, "unknown-input"}


def test_the_codes_of_clients_are_named() -> None:
    named = dict(re.findall(r"^## (.+)\n\n\[`(\w+)`\]", TEXT, re.MULTILINE))
    assert named == dict(COMFY_CODES)


def test_no_other_code_is_reported() -> None:
    source = (ROOT / "engine" / "validate.py").read_text("utf-8")
    reported = set(re.findall(r'(?:Problem|_report)\(\s*"([a-z-]+)"', source))
    assert reported <= {*COMFY_CODES, "unknown-input"}
