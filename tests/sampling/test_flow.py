"""Flows: their levels against published values, and every sampler on data whose exact solution is known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from engine.sampling import schedulers
from engine.sampling.build import BY_SIGNAL_TO_NOISE, FLOW_BUILDERS, Start, build
from engine.sampling.drive import sample
from engine.sampling.flow import FLUX_LENGTH, FlowSchedule, as_blends, flow_middle, flow_split, shift_for_size
from engine.sampling.names import SAMPLER_NAMES
from engine.sampling.samplers import Denoise, euler
from engine.sampling.schedule import CosineSchedule
from engine.sampling.values import Guider, Sampler
from engine.types import NoiseSchedule
from tests.sampling.denoisers import ContextModel, close, conditioning, finished

SPREAD = 0.5
SD3 = FlowSchedule(3.0)

GOLDEN = {
    ("simple", "SD3"): "1.0000 0.9643 0.9231 0.8750 0.8182 0.7500 0.6667 0.5625 0.4286 0.2500 0.0000",
    ("normal", "SD3"): "1.0000 0.9601 0.9133 0.8577 0.7904 0.7073 0.6022 0.4649 0.2780 0.0089 0.0000",
    ("simple", "Flux"): "1.0000 0.9660 0.9266 0.8805 0.8257 0.7595 0.6780 0.5751 0.4412 0.2598 0.0000",
}

ORDERS = {"euler": 1, "heun": 2, "dpmpp_2m": 2, "lms": 2, "ipndm_v": 2, "uni_pc": 2, "res_multistep": 2}
"""Solvers of the ODE and their order."""

STOCHASTIC = sorted((BY_SIGNAL_TO_NOISE - {"euler_cfg_pp"}) | set(FLOW_BUILDERS))


def gaussian(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The exact clean latent for data that is normal around 0."""
    share = (1.0 - sigma) * SPREAD**2 / ((1.0 - sigma) ** 2 * SPREAD**2 + sigma**2)
    return x * share


def answered(request: Denoise) -> torch.Tensor:
    denoised = gaussian(request.x, request.sigma)
    return torch.stack((denoised, denoised)) if request.with_negative else denoised


def width(sigma: float) -> float:
    return math.sqrt((1.0 - sigma) ** 2 * SPREAD**2 + sigma**2)


@pytest.mark.parametrize(("scheduler", "model"), GOLDEN)
def test_ten_steps_of_a_flow(scheduler, model):
    schedule = SD3 if model == "SD3" else FlowSchedule(math.exp(1.15), 1.0, FLUX_LENGTH)

    levels = schedulers.sigmas(schedule, scheduler, 10)

    assert " ".join(f"{level:.4f}" for level in levels.tolist()) == GOLDEN[scheduler, model]


def test_flows_are_schedules():
    assert isinstance(SD3, NoiseSchedule)
    assert (SD3.sigma_max, SD3.percent_to_sigma(0.0), SD3.percent_to_sigma(1.0)) == (1.0, 1.0, 0.0)
    assert SD3.percent_to_sigma(0.5) == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    assert SD3.timestep(torch.tensor(0.25)) == 250.0
    with pytest.raises(ValueError, match="cannot shift"):
        FlowSchedule(0.0)


def test_a_perfect_flow_stands_for_the_clean_latent():
    clean, noise = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(1)).unbind()
    sigma = torch.tensor([0.1, 0.5, 0.9])

    x = SD3.noised(noise, sigma, clean)

    torch.testing.assert_close(SD3.denoised(noise - clean, sigma, x), clean)
    torch.testing.assert_close(SD3.settled(SD3.noised(torch.zeros_like(clean), torch.tensor(0.3), clean), 0.3), clean)
    assert SD3.network_input(x, sigma) is x


def test_the_shift_grows_with_the_picture():
    assert math.log(shift_for_size(256, 256, 0.5, 1.15)) == pytest.approx(0.5)
    assert math.log(shift_for_size(1024, 1024, 0.5, 1.15)) == pytest.approx(1.15)
    assert math.log(shift_for_size(512, 1088, 0.5, 1.15)) == pytest.approx(0.5 + 0.65 * (2176 - 256) / 3840)


@pytest.mark.parametrize("name", ORDERS)
def test_more_steps_converge_with_the_order_of_the_solver(name):
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    exact = x * width(0.1) / width(0.9)
    errors = []
    for n in (32, 64, 128):
        start = Start(x, tuple(torch.linspace(0.9, 0.1, n + 1, dtype=torch.float64).tolist()), 0, SD3)
        errors.append(float((finished(build(Sampler(name), start), answered) - exact).abs()))

    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) > ORDERS[name] - 0.35


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_keep_the_spread_of_the_data(name):
    x = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    levels = (*torch.linspace(1.0, 0.02, 60).tolist(), 0.0)

    result = finished(build(Sampler(name), Start(x, levels, 11, SD3)), answered)

    assert float(result.std()) == pytest.approx(SPREAD, rel=0.06)


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_every_sampler_comes_from_pure_noise_to_a_latent(name):
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    levels = tuple(schedulers.sigmas(SD3, "simple", 5).tolist())

    result = finished(build(Sampler(name), Start(x, levels, 11, SD3)), answered)

    assert bool(torch.isfinite(result).all())


def test_blends_and_sums_are_the_same_way():
    """Euler is exact for a constant answer, so it leads to the same place in either form."""
    x, clean = torch.full((1, 1, 1, 1), 0.8), torch.full((1, 1, 1, 1), 0.3)
    start = Start(x, (0.8, 0.5, 0.2), 0, SD3)
    sums = start.as_sums()

    asked = []

    def answer(request: Denoise) -> torch.Tensor:
        asked.append((float(request.x), request.sigma))
        return clean

    through_sums = finished(as_blends(euler(sums.x, sums.sigmas), 0.2), answer)

    assert float(through_sums) == pytest.approx(float(finished(euler(x, start.sigmas), lambda _: clean)))
    assert asked[0] == pytest.approx((0.8, 0.8))
    assert [sigma for _, sigma in asked] == pytest.approx([0.8, 0.5])
    assert [sums.level(sigma) for sigma in sums.sigmas] == pytest.approx(start.sigmas)


def test_the_noise_of_a_path_is_that_of_the_flow_s_own_levels():
    x = torch.zeros(1, 4, 8, 8)
    start = Start(x, (0.8, 0.5, 0.2), 7, SD3)
    sums = start.as_sums()

    assert torch.equal(sums.brownian()(*sums.sigmas[:2]), start.brownian()(0.8, 0.5))


def test_a_split_keeps_the_clean_part_and_the_level():
    """Down by the flow, then scaled and noised: the clean part is 1 - below, the noise has the level below."""
    for eta in (0.0, 0.4, 1.0):
        down, kept, up = flow_split(0.8, 0.5, eta)
        assert (1.0 - down) * kept == pytest.approx(0.5)
        assert (down * kept) ** 2 + up**2 == pytest.approx(0.25)
    assert flow_split(0.8, 0.5, 0.0) == pytest.approx((0.5, 1.0, 0.0))


def test_the_middle_is_half_way_in_the_signal_to_noise_ratio():
    middle = flow_middle(0.8, 0.2)

    assert middle == pytest.approx(0.5)
    assert flow_middle(1.0, 0.5) == 0.9999


def test_a_flow_is_sampled_from_noise_and_handed_on_at_full_size():
    model = ContextModel().with_schedule(SD3)
    settings = {
        "latent": torch.ones(1, 4, 8, 8),
        "noise": torch.full((1, 4, 8, 8), 2.0),
        "sampler": Sampler("euler"),
        "seed": 0,
    }
    guider = Guider.cfg(model, conditioning(3.0), conditioning(1.0), 1.0)

    whole = sample(guider, sigmas=torch.tensor([1.0, 0.5, 0.0]), **settings)
    part = sample(guider, sigmas=torch.tensor([0.8, 0.4]), **settings)

    assert close(whole, 3.0)
    start = 0.8 * 2.0 + 0.2 * 1.0
    assert close(part, (3.0 + (start - 3.0) * 0.4 / 0.8) / 0.6)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_the_cosine_schedule_is_that_of_diffusers(shift):
    from diffusers import DDPMWuerstchenScheduler

    theirs = DDPMWuerstchenScheduler()
    ours = CosineSchedule(shift)
    times = torch.tensor([0.1, 0.4, 0.75, 0.95])

    share = theirs._alpha_cumprod(times, torch.device("cpu"))

    torch.testing.assert_close(ours.sigma(times), ((1 - share) / share).sqrt() * shift, rtol=1e-4, atol=1e-5)
    assert len(ours.sigmas) == 10_000
    assert bool((ours.sigmas.diff() >= 0).all())
    if shift == 1.0:
        torch.testing.assert_close(ours.timestep(ours.sigma(times)), times, rtol=1e-4, atol=1e-5)
    assert ours.percent_to_sigma(0.6) == pytest.approx(float(ours.sigma(torch.tensor(0.4))))
