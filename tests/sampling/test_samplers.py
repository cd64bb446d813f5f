"""Samplers: right order of convergence, right number of evaluations, nothing but their arguments."""

from __future__ import annotations

import math

import pytest
import torch

from engine.sampling.build import BUILDERS, Start, build
from engine.sampling.names import AVAILABLE_SAMPLERS, SAMPLER_NAMES
from engine.sampling.noise import gaussian
from engine.sampling.samplers import ancestral_levels, dpmpp_2m, euler, euler_ancestral, heun
from engine.sampling.schedule import DiscreteSchedule
from engine.sampling.schedulers import sigmas
from engine.sampling.unipc import uni_pc
from tests.sampling.denoisers import gaussian_solution, levels, solved

SCHEDULE = DiscreteSchedule.scaled_linear()
EVALUATIONS_PER_STEP = {"heun": 2, "dpmpp_sde": 2}

ODE_SOLVERS = {
    "euler": (euler, 1),
    "heun": (heun, 2),
    "dpmpp_2m": (dpmpp_2m, 2),
    "uni_pc": (uni_pc, 2),  # 3 but for its last step, which is of first order
    "uni_pc_bh2": (lambda x, levels: uni_pc(x, levels, "bh2"), 2),
}


def start(seed: int = 0, steps: int = 6, scheduler: str = "karras") -> Start:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(7)) * SCHEDULE.sigma_max
    return Start(x, tuple(sigmas(SCHEDULE, scheduler, steps).tolist()), seed, SCHEDULE)


def test_the_names_are_those_that_are_built():
    assert set(BUILDERS) == set(AVAILABLE_SAMPLERS)
    assert len(SAMPLER_NAMES) == len(set(SAMPLER_NAMES))
    assert set(AVAILABLE_SAMPLERS) <= set(SAMPLER_NAMES)


def test_a_sampler_that_is_not_built_is_refused_by_name():
    missing = next(name for name in SAMPLER_NAMES if name not in AVAILABLE_SAMPLERS)

    with pytest.raises(ValueError, match=f"'{missing}' is not built yet"):
        build(missing, start())


def test_an_unknown_sampler_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'euler'"):
        build("eular", start())


@pytest.mark.parametrize("name", AVAILABLE_SAMPLERS)
def test_the_same_seed_gives_the_same_latent(name):
    one, _ = solved(build(name, start(seed=5)))
    two, _ = solved(build(name, start(seed=5)))

    assert torch.equal(one, two)
    assert bool(torch.isfinite(one).all())


@pytest.mark.parametrize("name", AVAILABLE_SAMPLERS)
def test_the_first_latent_is_not_touched(name):
    begin = start()
    before = begin.x.clone()

    solved(build(name, begin))

    assert torch.equal(begin.x, before)


@pytest.mark.parametrize("name", AVAILABLE_SAMPLERS)
def test_the_number_of_evaluations(name):
    _, asked = solved(build(name, start(steps=6)))

    per_step = EVALUATIONS_PER_STEP.get(name, 1)
    assert len(asked) == 6 * per_step - (per_step - 1)
    assert asked[0] == start().sigmas[0]


@pytest.mark.parametrize("name", AVAILABLE_SAMPLERS)
def test_steps_are_numbered_from_zero(name):
    steps, numbers = build(name, start(steps=5)), []
    try:
        request = next(steps)
        while True:
            numbers.append(request.step)
            request = steps.send(request.x * 0.5)
    except StopIteration:
        assert list(dict.fromkeys(numbers)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", AVAILABLE_SAMPLERS)
def test_few_steps_are_enough_to_finish(name, steps):
    result, _ = solved(build(name, start(steps=steps)))

    assert bool(torch.isfinite(result).all())


@pytest.mark.parametrize("name", ODE_SOLVERS)
def test_more_steps_converge_with_the_order_of_the_solver(name):
    """Halving the step divides the error by 2 ** order, for data whose exact solution is known."""
    solver, order = ODE_SOLVERS[name]
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64) * 10
    exact = gaussian_solution(x, 10.0, 0.1)

    errors = [float((solved(solver(x, levels(n)))[0] - exact).abs()) for n in (32, 64, 128)]

    for coarse, fine in ((errors[0], errors[1]), (errors[1], errors[2])):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)


def test_ancestral_sampling_without_fresh_noise_is_euler():
    x, visited = torch.ones(1, 1, 2, 2), levels(8)

    plain, _ = solved(euler(x, visited))
    ancestral, _ = solved(euler_ancestral(x, visited, gaussian(x, 0), eta=0.0))

    assert torch.equal(plain, ancestral)


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_sde"])
def test_stochastic_samplers_keep_the_spread_of_the_data(name):
    x = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 10

    begin = Start(x, (*levels(60), 0.0), 11, SCHEDULE)
    result, _ = solved(build(name, begin))

    assert float(result.std()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_sde", "lcm"])
def test_stochastic_samplers_depend_on_the_seed(name):
    one, _ = solved(build(name, start(seed=1)))
    two, _ = solved(build(name, start(seed=2)))

    assert not torch.equal(one, two)


def test_the_brownian_path_of_a_few_steps_leads_where_that_of_many_does():
    few, _ = solved(build("dpmpp_sde", start(seed=1, steps=40)))
    many, _ = solved(build("dpmpp_sde", start(seed=1, steps=80)))
    other, _ = solved(build("dpmpp_sde", start(seed=2, steps=80)))

    assert float((few - many).norm()) < 0.5 * float((other - many).norm())


def test_a_move_splits_into_a_fall_and_fresh_noise_of_the_same_level():
    down, up = ancestral_levels(2.0, 1.0)

    assert down**2 + up**2 == pytest.approx(1.0)
    assert ancestral_levels(2.0, 1.0, eta=0.0) == (1.0, 0.0)
    assert ancestral_levels(2.0, 0.0) == (0.0, 0.0)
