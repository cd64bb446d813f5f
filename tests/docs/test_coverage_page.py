"""The page about published workflows says what is here."""

from __future__ import annotations

import pytest

from tests.docs.coverage_page import PAGE, folder, page


def test_the_page_is_up_to_date() -> None:
    if folder() is None:
        pytest.skip("the package comfyui-workflow-templates-json is not installed")
    text = PAGE.read_text("utf-8")
    assert page(text) == text, "python tests/docs/coverage_page.py writes it anew"
