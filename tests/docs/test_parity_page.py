"""The page about parity says what is tested."""

from __future__ import annotations

from tests.docs.parity_page import PAGE, page


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text("utf-8")
    assert page(text) == text, "python tests/docs/parity_page.py writes it anew"
