"""The engine that reference workflows run in, and the count of those that agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.parity.reference import ERRORS, Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine import Engine

TESTED = "test_a_workflow_gives_the_reference_values"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    from engine import Engine

    reference = Reference.find()
    with Engine(
        models_dir=reference.models(),
        input_dir=reference.folder / "assets",
        output_dir=tmp_path_factory.mktemp("output"),
        device="cpu",
        dtype="float32",
    ) as engine:
        yield engine


@pytest.fixture(scope="session")
def measured() -> Iterator[dict[str, float]]:
    """Name of a case to its relative error; kept for the page that lists them."""
    errors: dict[str, float] = {}
    yield errors
    ERRORS.parent.mkdir(parents=True, exist_ok=True)
    earlier = json.loads(ERRORS.read_text("utf-8")) if ERRORS.exists() else {}
    ERRORS.write_text(json.dumps({**earlier, **errors}, indent=1, sort_keys=True), "utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many reference workflows agree."""
    counts = {
        state: sum(TESTED in report.nodeid and report.when == "call" for report in terminalreporter.stats.get(state, []))
        for state in ("passed", "failed")
    }
    if run := sum(counts.values()):
        known = len(Reference.find().cases)
        terminalreporter.write_line(f"parity: {counts['passed']} of {run} reference workflows agree ({known} are known)")
