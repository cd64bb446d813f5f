"""Samplers: right order of convergence, right number of evaluations, nothing but their arguments."""

from __future__ import annotations

import math

import pytest
import torch

from engine.sampling.build import BUILDERS, Start, build
from engine.sampling.multistep import ipndm, lagrange_integrals, lms, res_multistep
from engine.sampling.names import AVAILABLE_SAMPLERS, SAMPLER_NAMES
from engine.sampling.noise import gaussian
from engine.sampling.samplers import ancestral_levels, dpmpp_2m, euler, euler_ancestral, heun
from engine.sampling.schedule import DiscreteSchedule
from engine.sampling.schedulers import sigmas
from engine.sampling.sde import dpmpp_2m_sde, dpmpp_3m_sde
from engine.sampling.singlestep import dpm_2, dpm_fast
from engine.sampling.unipc import uni_pc
from tests.sampling.denoisers import gaussian_solution, levels, solved

SCHEDULE = DiscreteSchedule.scaled_linear()
EVALUATIONS = {
    **dict.fromkeys(("heun", "dpmpp_sde", "dpmpp_sde_gpu", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "seeds_2"), 11),
    "seeds_3": 16,
    "heunpp2": 15,
}
"""Evaluations of six steps, where they are not six."""

ODE_SOLVERS = {
    "euler": (euler, 1),
    "heun": (heun, 2),
    "dpmpp_2m": (dpmpp_2m, 2),
    "dpm_2": (dpm_2, 2),
    "lms": (lms, 3),  # 4 but for its first steps
    "ipndm": (ipndm, 2),  # 4 for even steps, which these are not
    "res_multistep": (res_multistep, 2),
    "dpmpp_2m_sde": (lambda x, levels: dpmpp_2m_sde(x, levels, None, eta=0.0), 2),
    "dpmpp_2m_sde_heun": (lambda x, levels: dpmpp_2m_sde(x, levels, None, "heun", eta=0.0), 2),
    "dpmpp_3m_sde": (lambda x, levels: dpmpp_3m_sde(x, levels, None, eta=0.0), 2),  # 3 but for its first steps
    "uni_pc": (uni_pc, 2),  # 3 but for its last step, which is of first order
    "uni_pc_bh2": (lambda x, levels: uni_pc(x, levels, "bh2"), 2),
}


SOLVE_THE_SDE = (
    "euler_ancestral",
    "dpm_2_ancestral",
    "dpmpp_2s_ancestral",
    "dpmpp_sde",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun",
    "dpmpp_3m_sde",
    "ddpm",
    "res_multistep_ancestral",
    "er_sde",
    "seeds_2",
    "seeds_3",
)


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

    assert len(asked) == EVALUATIONS.get(name, 6)
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
def test_more_steps_converge_at_least_with_the_order_of_the_solver(name):
    """Halving the step divides the error by 2 ** order, for data whose exact solution is known."""
    solver, order = ODE_SOLVERS[name]
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64) * 10
    exact = gaussian_solution(x, 10.0, 0.1)

    errors = [float((solved(solver(x, levels(n)))[0] - exact).abs()) for n in (32, 64, 128)]

    for coarse, fine in ((errors[0], errors[1]), (errors[1], errors[2])):
        assert math.log2(coarse / fine) > order - 0.35


def test_dpm_fast_is_accurate():
    """Its last step is of first or second order, as the number of steps falls."""
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64) * 10

    for n in (30, 31, 32):
        error = (solved(dpm_fast(x, levels(n)))[0] - gaussian_solution(x, 10.0, 0.1)).abs()
        assert float(error) < 0.02 * float(x.mean()) * 0.05


def test_ancestral_sampling_without_fresh_noise_is_euler():
    x, visited = torch.ones(1, 1, 2, 2), levels(8)

    plain, _ = solved(euler(x, visited))
    ancestral, _ = solved(euler_ancestral(x, visited, gaussian(x, 0), eta=0.0))

    assert torch.equal(plain, ancestral)


@pytest.mark.parametrize("name", SOLVE_THE_SDE)
def test_stochastic_samplers_keep_the_spread_of_the_data(name):
    x = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 10

    begin = Start(x, (*levels(60), 0.0), 11, SCHEDULE)
    result, _ = solved(build(name, begin))

    assert float(result.std()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("name", [*SOLVE_THE_SDE, "lcm"])
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


def test_weights_of_uneven_steps_integrate_polynomials_exactly():
    nodes = [1.0, 1.7, 2.1, 4.0]

    weights = lagrange_integrals(nodes, 1.0, 0.4)

    for power in range(4):
        exact = (0.4 ** (power + 1) - 1.0) / (power + 1)
        assert sum(w * node**power for w, node in zip(weights, nodes, strict=True)) == pytest.approx(exact)
