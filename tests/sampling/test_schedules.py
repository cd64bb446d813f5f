"""Noise levels: the trained table and the nine schedulers, against published values."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from engine.sampling import schedulers
from engine.sampling.names import SCHEDULER_NAMES
from engine.sampling.schedule import ContinuousSchedule, DiscreteSchedule
from engine.types import LatentFormat, NoiseSchedule

GOLDEN = {
    "normal": "14.6146 7.8399 4.6092 2.9183 1.9502 1.3449 0.9324 0.6250 0.3687 0.0292",
    "sgm_uniform": "14.6146 8.3072 5.0924 3.3251 2.2797 1.6156 1.1629 0.8319 0.5712 0.3437",
    "simple": "14.6146 8.3028 5.0878 3.3211 2.2765 1.6129 1.1606 0.8299 0.5693 0.3417",
    "ddim_uniform": "8.3907 5.1344 3.3478 2.2929 1.6237 1.1682 0.8357 0.5741 0.3462 0.0413",
    "karras": "14.6146 9.1029 5.4784 3.1686 1.7494 0.9141 0.4469 0.2014 0.0819 0.0292",
    "exponential": "14.6146 7.3249 3.6712 1.8400 0.9222 0.4622 0.2317 0.1161 0.0582 0.0292",
    "beta": "14.6146 11.5428 7.3718 4.3728 2.6152 1.6183 1.0273 0.6549 0.3955 0.1991",
    "linear_quadratic": "14.6146 14.5416 14.4685 14.3954 14.3223 14.2493 13.6208 11.8817 9.0318 5.0713",
    "kl_optimal": "14.6146 4.2324 2.3937 1.5971 1.1330 0.8152 0.5729 0.3725 0.1953 0.0292",
}
KARRAS_20 = (
    "14.6146 11.7254 9.3402 7.3836 5.7894 4.4998 3.4647 2.6408 1.9909 1.4832 "
    "1.0908 0.7909 0.5647 0.3964 0.2730 0.1842 0.1213 0.0779 0.0485 0.0292"
)


@pytest.fixture(scope="module")
def schedule() -> DiscreteSchedule:
    return DiscreteSchedule.scaled_linear()


def rounded(levels: torch.Tensor) -> str:
    return " ".join(f"{level:.4f}" for level in levels.tolist())


def test_a_discrete_schedule_is_a_noise_schedule(schedule):
    assert isinstance(schedule, NoiseSchedule)


def test_the_trained_levels_of_stable_diffusion(schedule):
    assert schedule.sigmas.shape == (1000,)
    assert schedule.sigma_min == pytest.approx(0.0291672, abs=1e-7)
    assert schedule.sigma_max == pytest.approx(14.614642, abs=1e-6)
    assert bool((schedule.sigmas.diff() > 0).all())


def test_zero_terminal_snr_ends_in_almost_pure_noise():
    schedule = DiscreteSchedule.scaled_linear("v", zero_terminal_snr=True)

    assert schedule.sigma_max == pytest.approx(4518.76, abs=0.01)
    assert schedule.sigmas[0] == DiscreteSchedule.scaled_linear().sigmas[0]


def test_every_trained_level_is_its_own_timestep(schedule):
    assert schedule.timestep(schedule.sigmas).tolist() == list(range(1000))
    torch.testing.assert_close(schedule.sigma(torch.arange(1000.0)), schedule.sigmas)


def test_levels_between_two_timesteps_are_interpolated_in_log_space(schedule):
    middle = schedule.sigma(torch.tensor([10.5]))

    assert float(middle) == pytest.approx(math.sqrt(float(schedule.sigmas[10] * schedule.sigmas[11])))


def test_timesteps_outside_the_range_are_clamped(schedule):
    assert schedule.sigma(torch.tensor([-5.0, 2000.0])).tolist() == pytest.approx([schedule.sigma_min, schedule.sigma_max])


def test_percent_counts_from_noise_to_picture(schedule):
    assert schedule.percent_to_sigma(0.0) > schedule.sigma_max
    assert schedule.percent_to_sigma(1.0) == 0.0
    assert schedule.percent_to_sigma(0.5) == pytest.approx(float(schedule.sigma(torch.tensor(499.5))))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_a_perfect_prediction_recovers_the_clean_latent(prediction):
    schedule = DiscreteSchedule.scaled_linear(prediction)
    generator = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(3, 4, 5, 5, generator=generator) for _ in range(2))
    sigma = torch.tensor([0.1, 1.0, 10.0])

    x = schedule.noised(noise, sigma, clean)
    alpha = (1 + sigma**2).rsqrt().reshape(-1, 1, 1, 1)
    output = noise if prediction == "eps" else alpha * noise - alpha * sigma.reshape(-1, 1, 1, 1) * clean

    torch.testing.assert_close(schedule.denoised(output, sigma, x), clean, atol=1e-5, rtol=1e-4)


def test_the_network_sees_about_unit_variance(schedule):
    x = schedule.noised(torch.ones(1, 1, 1, 1), torch.tensor(3.0), torch.zeros(1, 1, 1, 1))

    assert float(schedule.network_input(x, torch.tensor([3.0]))) == pytest.approx(3 / math.sqrt(10))


def test_a_start_at_the_top_has_the_variance_of_training(schedule):
    x = schedule.noised(torch.ones(1, 1, 1, 1), torch.tensor(3.0), torch.zeros(1, 1, 1, 1), max_denoise=True)

    assert float(x) == pytest.approx(math.sqrt(10))


@pytest.mark.parametrize("name", GOLDEN)
def test_ten_steps_of_a_scheduler(name, schedule):
    levels = schedulers.sigmas(schedule, name, 10)

    assert rounded(levels) == f"{GOLDEN[name]} 0.0000"


def test_twenty_karras_steps(schedule):
    assert rounded(schedulers.karras(20, schedule.sigma_min, schedule.sigma_max)) == f"{KARRAS_20} 0.0000"


@pytest.mark.parametrize("steps", [1, 2, 3, 20, 31, 1000])
@pytest.mark.parametrize("name", SCHEDULER_NAMES)
def test_levels_fall_to_zero(name, steps, schedule):
    if (name, steps) == ("kl_optimal", 1):
        pytest.skip("its formula is 0 / 0 for one step")

    levels = schedulers.sigmas(schedule, name, steps)

    assert levels.dtype == torch.float32
    assert levels[-1] == 0.0
    assert bool((levels.diff() < 0).all())


def test_one_kl_optimal_step_is_refused(schedule):
    with pytest.raises(ValueError, match="at least 2"):
        schedulers.sigmas(schedule, "kl_optimal", 1)


def test_a_part_of_the_way_takes_the_last_levels_of_a_longer_schedule(schedule):
    part = schedulers.sigmas(schedule, "karras", 10, denoise=0.5)

    assert part.tolist() == schedulers.sigmas(schedule, "karras", 20)[-11:].tolist()


def test_nothing_to_denoise_gives_no_levels(schedule):
    assert len(schedulers.sigmas(schedule, "karras", 10, denoise=0.0)) == 0


@pytest.mark.parametrize("sampler", ["uni_pc", "uni_pc_bh2", "dpm_2", "dpm_2_ancestral"])
def test_some_samplers_drop_the_second_last_level(sampler, schedule):
    levels = schedulers.sigmas(schedule, "normal", 10, sampler_name=sampler)

    longer = schedulers.sigmas(schedule, "normal", 11).tolist()
    assert levels.tolist() == [*longer[:-2], 0.0]


def test_a_window_takes_some_of_the_steps(schedule):
    levels = schedulers.sigmas(schedule, "karras", 10)

    assert schedulers.window(levels, 2, 5, leftover_noise=True).tolist() == levels[2:6].tolist()
    assert schedulers.window(levels, 2, 5, leftover_noise=False).tolist() == [*levels[2:5].tolist(), 0.0]
    assert schedulers.window(levels, 0, 10000, leftover_noise=False).tolist() == levels.tolist()
    assert len(schedulers.window(levels, 10, 10000, leftover_noise=False)) == 0


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(steps, schedule):
    with pytest.raises(ValueError, match="at least 1"):
        schedulers.sigmas(schedule, "normal", steps)


def test_an_unknown_scheduler_is_refused_with_the_nearest_name(schedule):
    with pytest.raises(ValueError, match="did you mean 'karras'"):
        schedulers.sigmas(schedule, "karas", 10)


def test_polyexponential_levels_of_power_one_are_exponential():
    torch.testing.assert_close(schedulers.polyexponential(9, 0.03, 14.6), schedulers.exponential(9, 0.03, 14.6))
    squared = schedulers.polyexponential(3, 0.25, 16.0, rho=2.0)
    assert squared.tolist() == pytest.approx([16.0, 0.25 * 64.0**0.25, 0.25, 0.0])


def test_laplace_levels_are_quantiles():
    from scipy.stats import laplace

    levels = schedulers.laplace(11, 0.03, 14.6, mu=0.3, beta=0.7)

    quantiles = [math.exp(laplace.ppf(1 - i / 10, loc=0.3, scale=0.7)) for i in range(1, 10)]
    assert len(levels) == 11
    assert levels[[0, -1]].tolist() == pytest.approx([14.6, 0.03])
    assert levels[1:-1].tolist() == pytest.approx(quantiles, rel=1e-4)


def test_variance_preserving_levels_follow_the_integral_of_their_rate():
    """sigma**2 + 1 is e to the integral of the rate, which grows from 0.1 to 20."""
    levels = schedulers.variance_preserving(5, 19.9, 0.1, 0.2)

    for level, time in zip(levels, (1.0, 0.8, 0.6, 0.4, 0.2), strict=False):
        steps = torch.linspace(0, time, 10_001, dtype=torch.float64)
        integral = torch.trapezoid(0.1 + 19.9 * steps, steps)
        assert float(level) ** 2 + 1 == pytest.approx(math.exp(integral), rel=1e-4)
    assert levels[-1] == 0.0


def test_turbo_levels_are_every_hundredth_trained_one():
    schedule = DiscreteSchedule.scaled_linear()

    torch.testing.assert_close(schedulers.turbo(schedule, 2), torch.cat([schedule.sigmas[[999, 899]], torch.zeros(1)]))
    torch.testing.assert_close(schedulers.turbo(schedule, 3, denoise=0.2)[:-1], schedule.sigmas[[199, 99]])
    assert schedulers.turbo(schedule, 1, denoise=0.0).tolist() == [0.0]


@pytest.mark.parametrize("model_type", schedulers.ALIGN_YOUR_STEPS)
def test_optimised_levels_keep_their_ends_and_lie_between_those_published(model_type):
    table = schedulers.ALIGN_YOUR_STEPS[model_type]

    twice = schedulers.align_your_steps(model_type, 20)

    assert len(twice) == 21
    assert twice[:-1:2].tolist() == pytest.approx(table[:-1])
    assert [float(twice[2 * i + 1]) for i in range(10)] == pytest.approx([math.sqrt(a * b) for a, b in pairwise(table)])
    assert schedulers.align_your_steps(model_type, 10, 0.3).tolist() == pytest.approx([*table[7:10], 0.0])
    assert len(schedulers.align_your_steps(model_type, 10, 0.0)) == 0


def test_steps_are_divided_within_limits():
    levels = torch.tensor([8.0, 4.0, 2.0, 0.0])

    assert schedulers.extended(levels, 2, -1.0, 4.0).tolist() == [8.0, 6.0, 4.0, 3.0, 2.0, 0.0]
    assert schedulers.extended(levels, 2, 4.0, 0.0).tolist() == [8.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert schedulers.extended(levels, 1, -1.0, 0.0).tolist() == levels.tolist()
    late, early = (schedulers.extended(levels, 3, -1.0, 8.0, spacing)[1:3].tolist() for spacing in ("cosine", "sine"))
    assert late == pytest.approx([6.0, 8.0 - 4.0 * math.sqrt(3) / 2])
    assert early == pytest.approx([8.0 - 4.0 * (1 - math.sqrt(3) / 2), 6.0])
    assert len(schedulers.extended(torch.empty(0), 2, -1.0, 0.0)) == 0


@pytest.mark.parametrize("data", [1.0, 0.5])
@pytest.mark.parametrize(
    ("prediction", "output"),
    [
        ("eps", lambda clean, noise, x, sigma, data: noise),
        ("x0", lambda clean, noise, x, sigma, data: clean),
        ("img_to_img", lambda clean, noise, x, sigma, data: clean),
        ("rflow", lambda clean, noise, x, sigma, data: noise - clean),
        ("v", lambda clean, noise, x, sigma, data: (data**2 * noise - sigma * clean) / data / (sigma**2 + data**2) ** 0.5),
        ("edm", lambda clean, noise, x, sigma, data: (sigma * clean - data**2 * noise) / data / (sigma**2 + data**2) ** 0.5),
    ],
)
def test_an_output_without_error_stands_for_the_clean_latent(prediction, output, data):
    generator = torch.Generator().manual_seed(2)
    clean, noise = torch.randn(2, 2, 4, 8, 8, generator=generator).unbind()
    schedule = ContinuousSchedule(0.01, 100.0, prediction, data)
    for sigma in (0.1, 1.0, 30.0):
        level = torch.full((2,), sigma)
        x = schedule.noised(noise, level, clean)

        result = schedule.denoised(output(clean, noise, x, sigma, data), level, x)

        torch.testing.assert_close(result, clean, atol=1e-4, rtol=1e-3)


def test_the_networks_of_karras_are_read_as_diffusers_reads_them():
    from diffusers import EDMEulerScheduler

    theirs = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    ours = ContinuousSchedule(0.002, 80.0, "edm", 0.5)
    x, output = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2)).unbind()
    for sigma in (0.01, 1.0, 50.0):
        level = torch.tensor(sigma)
        torch.testing.assert_close(ours.network_input(x, level), theirs.precondition_inputs(x, level))
        torch.testing.assert_close(ours.denoised(output, level, x), theirs.precondition_outputs(x, output, level))
        torch.testing.assert_close(ours.timestep(level), theirs.precondition_noise(level).reshape(()))


def test_consistency_models_are_read_as_diffusers_reads_them():
    from diffusers import LCMScheduler

    theirs = LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    ours = DiscreteSchedule.scaled_linear("lcm").every(20)
    assert ours.timestep(ours.sigmas).tolist() == list(range(19, 1000, 20))
    torch.testing.assert_close(ours.sigma(torch.tensor([19.0, 999.0])), ours.sigmas[[0, -1]])
    x, output = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2)).unbind()
    for timestep in (19, 499, 999):
        level = ours.sigma(torch.tensor(float(timestep)))
        skip, out = theirs.get_scalings_for_boundary_condition_discrete(timestep)
        torch.testing.assert_close(ours.denoised(output, level, x), skip * x + out * (x - level * output))


def test_a_distilled_schedule_spans_the_same_way():
    whole, few = DiscreteSchedule.scaled_linear(), DiscreteSchedule.scaled_linear().every(20)

    assert len(few.sigmas) == 50
    assert few.sigma_max == whole.sigma_max
    assert few.percent_to_sigma(0.5) == pytest.approx(whole.percent_to_sigma(0.5), rel=1e-3)


@pytest.mark.parametrize("time", ["log", "angle", "flow"])
def test_continuous_timesteps_and_levels_are_inverse(time):
    schedule = ContinuousSchedule(0.002, 120.0, "v", time=time)

    assert len(schedule.sigmas) == 1000
    assert (schedule.sigma_min, schedule.sigma_max) == pytest.approx((0.002, 120.0), rel=1e-5)
    torch.testing.assert_close(schedule.sigma(schedule.timestep(schedule.sigmas)), schedule.sigmas, rtol=2e-3, atol=1e-6)
    assert isinstance(schedule, NoiseSchedule)


def test_continuous_levels_fall_evenly_in_their_logarithm():
    schedule = ContinuousSchedule(0.01, 100.0, "eps")

    assert schedule.percent_to_sigma(0.5) == pytest.approx(1.0)
    assert schedule.percent_to_sigma(0.0) > 1e6
    assert schedule.percent_to_sigma(1.0) == 0.0


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
def test_a_range_of_levels_that_does_not_fall_is_an_error(lowest, highest):
    with pytest.raises(ValueError, match="cannot sample from noise level"):
        ContinuousSchedule(lowest, highest, "eps")


def test_latents_may_be_scaled_channel_by_channel():
    from engine.sampling.space import from_model_space, to_model_space

    latent = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    form = LatentFormat(channels=2, scale=(0.5, 0.25), shift=(1.0, -2.0))

    scaled = to_model_space(latent, form)

    torch.testing.assert_close(scaled[:, 1], (latent[:, 1] + 2.0) * 0.25)
    torch.testing.assert_close(from_model_space(scaled, form), latent)
    assert not to_model_space(torch.zeros(1, 2, 3, 3), form).any()


def test_levels_of_gits_are_those_published_or_interpolated():
    table = schedulers.GITS[0.95]

    assert schedulers.gits(0.95, 7).tolist() == pytest.approx([*table[:-1], 0.0])
    assert schedulers.gits(0.95, 14)[:-1:2].tolist() == pytest.approx(table[:-1])
    assert schedulers.gits(0.95, 7, 0.5).tolist() == pytest.approx([*table[3:-1], 0.0])
    with pytest.raises(ValueError, match=r"known for 0\.95 only"):
        schedulers.gits(1.2, 10)
