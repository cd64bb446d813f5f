"""The page about parity says what is compared."""

from __future__ import annotations

import re

from tests.docs.parity_page import PAGE, page
from tests.parity.reference import Reference
from tests.parity.test_reference import IMAGE_LIMIT, LATENT_LIMIT

ROW = re.compile(r"^\| `([^`]+/[^`]+)` \| (\S+) \|$", re.MULTILINE)


def test_the_page_says_what_is_compared_and_what_differs() -> None:
    text = PAGE.read_text("utf-8")
    assert page(text) == text, "python tests/docs/parity_page.py writes it anew"


def test_the_page_lists_every_workflow_and_each_within_its_limit() -> None:
    reference = Reference.find()
    listed = {name: float(error) for name, error in ROW.findall(PAGE.read_text("utf-8"))}
    assert listed.keys() == set(reference.supported), "run tests/parity, then python tests/docs/parity_page.py"
    assert all(error <= (IMAGE_LIMIT if reference.cases[name].is_image else LATENT_LIMIT) for name, error in listed.items())
