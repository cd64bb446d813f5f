"""Controls of the positive side reach the negative one where they ask for it."""

from __future__ import annotations

import torch

from engine.sampling.region import with_shared_controls
from engine.types import Cond


def entry(**options) -> Cond:
    return Cond(torch.zeros(1, 1, 1)).with_options(**options)


def controls(entries) -> list[tuple]:
    return [entry.options.get("controls", ()) for entry in entries]


def test_controls_that_ask_for_it_are_shared_in_turn():
    asking = [entry(controls=(name,), controls_negative=True) for name in "abc"]

    assert controls(with_shared_controls(asking, [entry(), entry(), entry()])) == [("a",), ("b",), ("c",)]
    assert controls(with_shared_controls(asking[:1], [entry(), entry()])) == [("a",), ()]
    assert controls(with_shared_controls(asking, [entry(), entry()])) == [("c",), ("b",)]


def test_controls_that_do_not_ask_stay_where_they_are():
    quiet = [entry(controls=("a",), controls_negative=False), entry(controls=("b",))]

    assert controls(with_shared_controls(quiet, [entry()])) == [()]


def test_a_side_that_is_steered_already_stays_as_it_is():
    asking, others = [entry(controls=("a",), controls_negative=True)], [entry(), entry(controls=("b",))]

    assert controls(with_shared_controls(asking, others)) == [(), ("b",)]


def test_entries_with_an_area_neither_give_nor_take():
    asking = [entry(controls=("a",), controls_negative=True, area=(1, 1, 0, 0)), entry(controls=("b",), controls_negative=True)]

    assert controls(with_shared_controls(asking, [entry(area=(1, 1, 0, 0)), entry()])) == [(), ("b",)]
    assert controls(with_shared_controls(asking, [entry(area=(1, 1, 0, 0))])) == [()]
