"""Same workflow, checkpoint and seed: the numbers of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from reference import Reference, relative_error

if TYPE_CHECKING:
    from engine import Engine

REFERENCE = Reference.find()

LATENT_LIMIT = 1e-4
IMAGE_LIMIT = 1e-3


@pytest.mark.parametrize("name", REFERENCE.supported)
def test_a_workflow_gives_the_reference_values(name: str, engine: Engine) -> None:
    case, expected = REFERENCE.cases[name], REFERENCE.expected(name)

    result = engine.run(case.prompt, targets=[case.node])
    got = result.port(case.node, case.slot).tensors()

    errors = {field: relative_error(got[field], value) if field in got else None for field, value in expected.items()}
    limit = IMAGE_LIMIT if case.is_image else LATENT_LIMIT
    assert all(error is not None and error <= limit for error in errors.values()), errors
