"""Samplers: right order of convergence, right number of evaluations, nothing but their arguments."""

from __future__ import annotations

import math

import pytest
import torch

from engine.sampling.adams import sa_solver
from engine.sampling.build import BUILDERS, Start, build
from engine.sampling.cfg_pp import (
    dpmpp_2m_cfg_pp,
    euler_cfg_pp,
    euler_pushed,
    gradient_estimation_cfg_pp,
    res_multistep_cfg_pp,
)
from engine.sampling.multistep import deis, gradient_estimation, ipndm, ipndm_v, lagrange_integrals, lms, res_multistep
from engine.sampling.names import SAMPLER_NAMES
from engine.sampling.noise import gaussian
from engine.sampling.samplers import Denoise, ancestral_levels, dpmpp_2m, euler, euler_ancestral, heun
from engine.sampling.schedule import DiscreteSchedule
from engine.sampling.schedulers import sigmas
from engine.sampling.sde import dpmpp_2m_sde, dpmpp_3m_sde
from engine.sampling.singlestep import dpm_2, dpm_adaptive, dpm_fast
from engine.sampling.unipc import uni_pc
from engine.sampling.values import Sampler
from tests.sampling.denoisers import finished, gaussian_solution, levels, solved

SCHEDULE = DiscreteSchedule.scaled_linear()
EVALUATIONS = {
    **dict.fromkeys(("heun", "dpmpp_sde", "dpmpp_sde_gpu", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "seeds_2"), 11),
    **dict.fromkeys(("dpmpp_2s_ancestral_cfg_pp", "sa_solver_pece"), 11),
    "seeds_3": 16,
    "heunpp2": 15,
}
"""Evaluations of six steps, where they are not six."""

FIXED = tuple(name for name in SAMPLER_NAMES if name != "dpm_adaptive")
"""Samplers that take the steps they are given."""

ODE_SOLVERS = {
    "euler": (euler, 1),
    "heun": (heun, 2),
    "dpmpp_2m": (dpmpp_2m, 2),
    "dpm_2": (dpm_2, 2),
    "lms": (lms, 3),  # 4 but for its first steps
    "ipndm": (ipndm, 2),  # 4 for even steps, which these are not
    "ipndm_v": (ipndm_v, 2),
    "deis": (deis, 2.7),  # 3 but for its first steps, and no better than its quadrature
    "res_multistep": (res_multistep, 2),
    "sa_solver": (lambda x, levels: sa_solver(x, levels, None, lambda _: 0.0), 2),  # more but for its first steps
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
    "sa_solver",
    "sa_solver_pece",
    "euler_ancestral_cfg_pp",
    "res_multistep_ancestral_cfg_pp",
)

CFG_PP = {
    "euler": (euler, euler_cfg_pp),
    "euler, pushed": (euler, euler_pushed),
    "dpmpp_2m": (dpmpp_2m, dpmpp_2m_cfg_pp),
    "res_multistep": (res_multistep, res_multistep_cfg_pp),
    "gradient_estimation": (gradient_estimation, gradient_estimation_cfg_pp),
}
"""Samplers and their CFG++ relatives."""


def start(seed: int = 0, steps: int = 6, scheduler: str = "karras") -> Start:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(7)) * SCHEDULE.sigma_max
    return Start(x, tuple(sigmas(SCHEDULE, scheduler, steps).tolist()), seed, SCHEDULE)


def test_every_name_of_the_field_is_built():
    assert set(SAMPLER_NAMES) <= set(BUILDERS)
    assert set(BUILDERS) - set(SAMPLER_NAMES) == {"euler_pushed", "lcm_upscaled"}  # nodes of their own choose them
    assert len(SAMPLER_NAMES) == len(set(SAMPLER_NAMES))


def test_an_unknown_sampler_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'euler'"):
        build(Sampler("eular"), start())


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_the_same_seed_gives_the_same_latent(name):
    one, _ = solved(build(Sampler(name), start(seed=5)))
    two, _ = solved(build(Sampler(name), start(seed=5)))

    assert torch.equal(one, two)
    assert bool(torch.isfinite(one).all())


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_the_first_latent_is_not_touched(name):
    begin = start()
    before = begin.x.clone()

    solved(build(Sampler(name), begin))

    assert torch.equal(begin.x, before)


@pytest.mark.parametrize("name", FIXED)
def test_the_number_of_evaluations(name):
    _, asked = solved(build(Sampler(name), start(steps=6)))

    assert len(asked) == EVALUATIONS.get(name, 6)
    assert asked[0] == start().sigmas[0]


@pytest.mark.parametrize("name", FIXED)
def test_steps_are_numbered_from_zero(name):
    steps, numbers = build(Sampler(name), start(steps=5)), []
    try:
        request = next(steps)
        while True:
            numbers.append(request.step)
            denoised = request.x * 0.5
            request = steps.send(torch.stack((denoised, denoised)) if request.with_negative else denoised)
    except StopIteration:
        assert list(dict.fromkeys(numbers)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_few_steps_are_enough_to_finish(name, steps):
    result, _ = solved(build(Sampler(name), start(steps=steps)))

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


@pytest.mark.parametrize("order", [2, 3])
def test_dpm_adaptive_is_as_accurate_as_it_is_told_to_be(order):
    """A smaller tolerance leaves a smaller error, and costs more evaluations."""
    x = torch.full((1, 1, 1, 1), 10.0, dtype=torch.float64)
    exact, errors, costs = gaussian_solution(x, 10.0, 0.1), [], []

    for rtol in (0.05, 0.005, 0.0005):
        result, asked = solved(dpm_adaptive(x, [10.0, 0.1], order=order, rtol=rtol, atol=1e-6))
        assert asked[0] == 10.0
        errors.append(float((result / exact - 1.0).abs()))
        costs.append(len(asked))

    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01
    assert costs == sorted(set(costs))


def test_dpm_adaptive_counts_the_levels_that_it_has_passed():
    steps, seen = dpm_adaptive(torch.ones(1, 1, 1, 1), [10.0, 5.0, 1.0, 0.1, 0.0]), []
    try:
        request = next(steps)
        while True:
            seen.append((request.sigma, request.step))
            request = steps.send(request.x * 0.5)
    except StopIteration:
        assert [step for _, step in seen] == sorted(step for _, step in seen)
        assert seen[0] == (10.0, 0)
        assert seen[-1][1] == 2


@pytest.mark.parametrize("name", CFG_PP)
def test_cfg_pp_is_the_plain_sampler_where_both_answers_agree(name):
    plain, cfg_pp = CFG_PP[name]
    x, visited = torch.ones(1, 1, 2, 2, dtype=torch.float64) * 10, [*levels(8), 0.0]

    torch.testing.assert_close(solved(cfg_pp(x, visited))[0], solved(plain(x, visited))[0])


@pytest.mark.parametrize("name", [name for name in SAMPLER_NAMES if name.endswith("cfg_pp")])
def test_cfg_pp_ends_at_the_guided_answer_on_the_noise_of_the_negative_one(name):
    """One step to half the level: x' = D + (x - D_u) / 2, without fresh noise."""
    options = {"eta": 0.0} if "ancestral" in name else {}
    x = torch.full((1, 1, 1, 1), 8.0)
    answers = torch.stack((torch.full_like(x, 3.0), torch.full_like(x, 1.0)))

    end = finished(build(Sampler(name, options), Start(x, (4.0, 2.0), 0, SCHEDULE)), lambda _: answers)

    assert float(end) == pytest.approx(3.0 + (8.0 - 1.0) / 2)


def test_deis_weighs_slopes_by_diffusion_time():
    """With slopes that are polynomials of that time, the way is their integral; here by an independent rule."""
    from scipy.integrate import quad

    rise, first = 2 * (math.log1p(0.002**2) / 1e-3 - math.log1p(80.0**2)) / (1e-3 - 1.0), 0.0
    first = math.log1p(80.0**2) - rise / 2

    def sigma(time: float) -> float:
        return math.sqrt(math.expm1(rise / 2 * time**2 + first * time))

    times = [0.9, 0.7, 0.6, 0.45]
    visited = [sigma(time) for time in times]
    x = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    asked = []

    def answer(request: Denoise) -> torch.Tensor:
        asked.append(request.x)
        time = times[request.step]
        return request.x - request.sigma * (2.0 + 3.0 * time - time**2)

    end = finished(deis(x, visited), answer)

    exact = quad(lambda s: _slope_at(s, rise, first), visited[2], visited[3])[0]
    assert float(end - asked[2]) == pytest.approx(exact, rel=3e-4)


def _slope_at(sigma: float, rise: float, first: float) -> float:
    time = (math.sqrt(first**2 + 2 * rise * math.log1p(sigma**2)) - first) / rise
    return 2.0 + 3.0 * time - time**2


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_sa_solver_integrates_polynomials_of_lambda_exactly(count, tau):
    from scipy.integrate import quad

    from engine.sampling.adams import _weights

    known, start, end = [0.3, 0.7, 1.2, 1.6][:count], 1.6, 2.1
    a = 1.0 + tau**2

    weights = _weights(known, start, end, tau, simple=False, corrects=False)

    for power in range(count):
        exact = quad(lambda place, power=power: a * math.exp(a * (place - end)) * place**power, start, end)[0]
        assert sum(w * place**power for w, place in zip(weights, known, strict=True)) == pytest.approx(exact)


def test_the_simple_weights_of_sa_solver_are_close_to_the_exact_ones():
    from engine.sampling.adams import _weights

    for corrects, known, (start, end) in ((False, [0.9, 1.0], (1.0, 1.1)), (True, [1.0, 1.1], (1.0, 1.1))):
        simple = _weights(known, start, end, 1.0, simple=True, corrects=corrects)
        exact = _weights(known, start, end, 1.0, simple=False, corrects=corrects)
        assert simple == pytest.approx(exact, abs=0.02)
        assert sum(simple) == pytest.approx(sum(exact))


def test_options_change_a_sampler():
    begin = start(seed=1)
    plain, _ = solved(build(Sampler("euler"), begin))

    assert torch.equal(solved(build(Sampler("euler_ancestral", {"eta": 0.0}), begin))[0], plain)
    assert torch.equal(solved(build(Sampler("lms", {"order": 1}), begin))[0].isfinite(), plain.isfinite())
    torch.testing.assert_close(solved(build(Sampler("lms", {"order": 1}), begin))[0], plain)
    torch.testing.assert_close(solved(build(Sampler("er_sde", {"solver": "ODE", "order": 1}), begin))[0], plain)
    torch.testing.assert_close(
        solved(build(Sampler("sa_solver", {"eta": 0.0, "predictor_order": 1, "corrector_order": 0}), begin))[0], plain
    )


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "er_sde", "seeds_3", "dpmpp_sde"])
def test_less_noise_leaves_a_narrower_spread(name):
    x = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 10
    begin = Start(x, (*levels(30), 0.0), 11, SCHEDULE)

    usual, less = (solved(build(Sampler(name, {"s_noise": amount}), begin))[0].std() for amount in (1.0, 0.5))

    assert float(less) < 0.9 * float(usual)


@pytest.mark.parametrize("r", [0.3, 0.5, 0.8])
def test_dpmpp_sde_solves_the_sde_wherever_its_inner_answer_lies(r):
    x = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 10

    result, _ = solved(build(Sampler("dpmpp_sde", {"r": r}), Start(x, (*levels(60), 0.0), 11, SCHEDULE)))

    assert float(result.std()) == pytest.approx(0.5, rel=0.05)


def test_ancestral_sampling_without_fresh_noise_is_euler():
    x, visited = torch.ones(1, 1, 2, 2), levels(8)

    plain, _ = solved(euler(x, visited))
    ancestral, _ = solved(euler_ancestral(x, visited, gaussian(x, 0), eta=0.0))

    assert torch.equal(plain, ancestral)


@pytest.mark.parametrize("name", SOLVE_THE_SDE)
def test_stochastic_samplers_keep_the_spread_of_the_data(name):
    x = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 10

    begin = Start(x, (*levels(60), 0.0), 11, SCHEDULE)
    result, _ = solved(build(Sampler(name), begin))

    assert float(result.std()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("name", [*SOLVE_THE_SDE, "lcm"])
def test_stochastic_samplers_depend_on_the_seed(name):
    one, _ = solved(build(Sampler(name), start(seed=1)))
    two, _ = solved(build(Sampler(name), start(seed=2)))

    assert not torch.equal(one, two)


def test_the_brownian_path_of_a_few_steps_leads_where_that_of_many_does():
    few, _ = solved(build(Sampler("dpmpp_sde"), start(seed=1, steps=40)))
    many, _ = solved(build(Sampler("dpmpp_sde"), start(seed=1, steps=80)))
    other, _ = solved(build(Sampler("dpmpp_sde"), start(seed=2, steps=80)))

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
