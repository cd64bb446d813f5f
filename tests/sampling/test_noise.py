"""Noise: the same numbers for the same seed, everywhere."""

from __future__ import annotations

import math

import pytest
import torch

from engine.sampling.noise import brownian, gaussian, initial_noise, starting_latent
from engine.sampling.schedule import DiscreteSchedule

FIRST_VALUES = {
    0: (-1.12584, -1.15236, -0.25058, -0.43388),
    1: (-1.52560, -0.75023, -0.65398, -1.60948),
    42: (1.92692, 1.48728, 0.90072, -2.10552),
}
SCHEDULE = DiscreteSchedule.scaled_linear()


@pytest.mark.parametrize("seed", FIRST_VALUES)
def test_the_first_values_of_a_seed(seed):
    first = initial_noise((1, 4, 64, 64), seed).flatten()[:4]

    assert first.tolist() == pytest.approx(FIRST_VALUES[seed], abs=1e-5)


def test_only_the_low_32_bits_of_a_seed_count():
    shape = (1, 4, 8, 8)

    assert torch.equal(initial_noise(shape, 5), initial_noise(shape, 5 + 2**32))
    assert torch.equal(initial_noise(shape, 2**64 - 1), initial_noise(shape, 2**32 - 1))


def test_a_place_in_a_batch_keeps_its_noise():
    batch = initial_noise((3, 4, 8, 8), 9)

    assert torch.equal(initial_noise((2, 4, 8, 8), 9, batch_index=(1, 2)), batch[1:])
    assert torch.equal(initial_noise((2, 4, 8, 8), 9, batch_index=(2, 2)), batch[[2, 2]])


def test_noise_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()

    initial_noise((1, 4, 8, 8), 3)
    gaussian(torch.zeros(1, 4, 8, 8), 3)(2.0, 1.0)
    brownian(torch.zeros(1, 4, 8, 8), (2.0, 1.0, 0.0), 3)(2.0, 1.0)

    assert torch.equal(before, torch.get_rng_state())


def test_on_the_cpu_the_first_step_draws_the_initial_noise_again():
    x = torch.zeros(2, 4, 8, 8)

    assert torch.equal(gaussian(x, 4)(2.0, 1.0), initial_noise(x.shape, 4))


def test_brownian_noise_has_unit_variance_whatever_the_move():
    draw = brownian(torch.zeros(8, 4, 32, 32), (14.0, 7.0, 0.1, 0.0), 1)

    assert float(draw(14.0, 7.0).std()) == pytest.approx(1.0, rel=0.02)
    assert float(draw(0.2, 0.1).std()) == pytest.approx(1.0, rel=0.02)


def test_brownian_moves_add_up():
    draw = brownian(torch.zeros(1, 4, 8, 8), (14.0, 7.0, 1.0, 0.0), 1)

    parts = draw(14.0, 7.0) * math.sqrt(7.0) + draw(7.0, 1.0) * math.sqrt(6.0)

    torch.testing.assert_close(draw(14.0, 1.0) * math.sqrt(13.0), parts, atol=1e-4, rtol=1e-4)


def test_a_start_at_the_top_takes_the_variance_of_training():
    noise, empty = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    top = SCHEDULE.sigma_max

    assert float(starting_latent(SCHEDULE, noise, top, empty).max()) == pytest.approx(math.sqrt(1 + top**2))
    assert float(starting_latent(SCHEDULE, noise, 8.0, empty).max()) == pytest.approx(8.0)
