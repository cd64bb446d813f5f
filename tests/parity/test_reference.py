"""Same workflow, checkpoint and seed: the numbers of the reference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from engine.errors import WorkflowInvalid
from engine.result import tensors_of
from tests.parity.reference import Reference, called, relative_error

if TYPE_CHECKING:
    from engine import Engine

REFERENCE = Reference.find()

LATENT_LIMIT = 1e-4
IMAGE_LIMIT = 1e-3

OUT_OF_RANGE = {
    "sd15/conditioning/area": "its area is narrower than the port allows",
    "sd15/controlnet/with_area": "its area is lower than the port allows",
}
"""Cases that validation refuses; the vectors were made by calling the nodes."""


@pytest.mark.parametrize("name", REFERENCE.supported)
def test_a_workflow_gives_the_reference_values(name: str, engine: Engine, measured: dict[str, float]) -> None:
    case, expected = REFERENCE.cases[name], REFERENCE.expected(name)

    if name in OUT_OF_RANGE:
        with pytest.raises(WorkflowInvalid):
            engine.run(case.prompt, targets=[case.node])
        got = tensors_of(called(case.prompt, case.node, engine)[case.slot])
    else:
        got = engine.run(case.prompt, targets=[case.node]).port(case.node, case.slot).tensors()

    errors = {field: relative_error(got[field], value) if field in got else None for field, value in expected.items()}
    measured[name] = max(math.inf if error is None else error for error in errors.values())
    limit = IMAGE_LIMIT if case.is_image else LATENT_LIMIT
    assert all(error is not None and error <= limit for error in errors.values()), errors
