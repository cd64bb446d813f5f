"""Nodes of custom sampling: each option reaches what it is for."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from engine.sampling.build import BUILDERS, Start, build
from engine.sampling.corrections import Projected, Rescale
from engine.sampling.schedule import ContinuousSchedule, DiscreteSchedule
from engine.sampling.values import Noise, Sampler
from engine.schema import Catalog
from engine.types import Latent, LatentFormat
from nodes import custom_sampling as cs
from nodes import guidance, model_sampling, samplers
from nodes import sigmas as sg
from tests.sampling.denoisers import ContextModel, GaussianModel, close, conditioning, levels, solved

SCHEDULE = DiscreteSchedule.scaled_linear()
RUN = SimpleNamespace(progress=lambda *_: None)

CHOSEN = {
    "euler_ancestral": samplers.euler_ancestral(eta=0.3, s_noise=0.9),
    "euler_ancestral_cfg_pp": samplers.euler_ancestral_cfg_pp(eta=0.3, s_noise=0.9),
    "euler_cfg_pp": samplers.euler_cfg_pp(version="regular"),
    "euler_pushed": samplers.euler_cfg_pp(version="alternative"),
    "lms": samplers.lms(order=2),
    "dpmpp_3m_sde": samplers.dpmpp_3m_sde(eta=0.3, s_noise=0.9, noise_device="cpu"),
    "dpmpp_3m_sde_gpu": samplers.dpmpp_3m_sde(noise_device="gpu"),
    "dpmpp_2m_sde": samplers.dpmpp_2m_sde(solver_type="heun", eta=0.3, s_noise=0.9, noise_device="cpu"),
    "dpmpp_2m_sde_gpu": samplers.dpmpp_2m_sde(solver_type="midpoint", noise_device="gpu"),
    "dpmpp_sde": samplers.dpmpp_sde(eta=0.3, s_noise=0.9, r=0.4, noise_device="cpu"),
    "dpmpp_sde_gpu": samplers.dpmpp_sde(noise_device="gpu"),
    "dpmpp_2s_ancestral": samplers.dpmpp_2s_ancestral(eta=0.3, s_noise=0.9),
    "dpm_adaptive": samplers.dpm_adaptive(order=2, rtol=0.1, eta=0.5),
    "er_sde": samplers.er_sde(solver_type="Reverse-time SDE", max_stage=2, eta=0.5, s_noise=0.9),
    "sa_solver": samplers.sa_solver(model=ContextModel(), corrector_order=0, use_pece=False, simple_order_2=True),
    "sa_solver_pece": samplers.sa_solver(model=ContextModel(), predictor_order=2, use_pece=True, simple_order_2=False),
    "lcm_upscaled": samplers.lcm_upscale(scale_ratio=2.0, scale_steps=1, upscale_method="bislerp"),
}
"""Sampler name to what a node makes of it."""


@pytest.mark.parametrize("name", CHOSEN)
def test_a_sampler_node_gives_a_sampler_that_runs(name):
    chosen = CHOSEN[name]

    result, _ = solved(build(chosen, Start(torch.ones(1, 4, 8, 8), (*levels(4), 0.0), 3, SCHEDULE)))

    assert chosen.name == name
    assert name in BUILDERS
    assert bool(torch.isfinite(result).all())
    assert result.shape[-1] == (16 if name == "lcm_upscaled" else 8)


def test_every_node_that_gives_a_sampler_is_tested_here():
    kinds = {kind.id for kind in Catalog.load("nodes") if [o.type for o in kind.outputs] == ["SAMPLER"]}

    functions = {value.name for value in CHOSEN.values()}
    assert len(kinds - {"KSamplerSelect"}) == len({name.removesuffix("_gpu").removesuffix("_pece") for name in functions}) - 1


def test_percentages_of_sa_solver_are_levels_of_the_model():
    chosen = samplers.sa_solver(
        model=ContextModel(), sde_start_percent=0.1, sde_end_percent=1.0, use_pece=False, simple_order_2=False
    )

    assert chosen.options["sde_start"] == SCHEDULE.percent_to_sigma(0.1)
    assert chosen.options["sde_end"] == 0.0


def test_guiders_ask_in_the_order_of_their_ports():
    model, sides = ContextModel(), [conditioning(value) for value in (7.0, 5.0, 1.0)]
    settings = {"noise": Noise(0, is_added=False), "sampler": Sampler("euler"), "sigmas": torch.tensor([2.0, 0.0]), "run": RUN}
    latent = Latent(torch.zeros(1, 4, 8, 8))

    dual = cs.dual_cfg_guider(
        model=model, cond1=sides[0], cond2=sides[1], negative=sides[2], cfg_conds=2.0, cfg_cond2_negative=3.0, style="regular"
    )
    perp = cs.perp_neg_guider(
        model=model, positive=sides[0], negative=sides[1], empty_conditioning=sides[2], cfg=2.0, neg_scale=1.0
    )

    assert close(cs.sample_advanced(guider=dual, latent_image=latent, **settings).output.samples, 1 + 4 * 3.0 + 2 * 2.0)
    assert close(cs.sample_advanced(guider=perp, latent_image=latent, **settings).output.samples, 1 + 6 * 2.0)


def test_noise_is_added_to_a_latent_as_its_model_was_trained():
    model = GaussianModel(latent_format=LatentFormat(scale=0.5))
    latent = Latent(torch.ones(2, 4, 8, 8), batch_index=(3, 3))
    noise = Noise(5)

    noisy = cs.add_noise(model=model, noise=noise, sigmas=torch.tensor([6.0, 4.0, 2.0]), latent_image=latent)
    only = cs.add_noise(model=model, noise=noise, sigmas=torch.tensor([4.0]), latent_image=latent)
    none = cs.add_noise(model=model, noise=cs.disable_noise(), sigmas=torch.tensor([4.0]), latent_image=latent)

    assert torch.equal(noisy.samples, only.samples)  # 6 - 2 is 4
    assert torch.equal(noisy.samples[0], noisy.samples[1])  # both from place 3 of a batch
    assert float((noisy.samples - 1.0).std()) == pytest.approx(4.0 / 0.5, rel=0.1)
    assert torch.equal(none.samples, latent.samples)
    assert cs.add_noise(model=model, noise=noise, sigmas=torch.empty(0), latent_image=latent) is latent


def test_percentages_of_the_way_are_noise_levels():
    model = ContextModel()

    assert sg.percent_to_sigma(model=model, sampling_percent=0.5).sigma_value == SCHEDULE.percent_to_sigma(0.5)
    assert sg.percent_to_sigma(model=model, sampling_percent=0.0).sigma_value > 1e6
    assert sg.percent_to_sigma(model=model, sampling_percent=0.0, return_actual_sigma=True).sigma_value == SCHEDULE.sigma_max
    assert sg.percent_to_sigma(model=model, sampling_percent=1.0, return_actual_sigma=True).sigma_value == SCHEDULE.sigma_min


def test_schedulers_take_their_ports():
    model = ContextModel()

    assert sg.polyexponential_levels(steps=4).tolist() == pytest.approx(sg.exponential_levels(steps=4).tolist())
    assert len(sg.laplace_levels(steps=4)) == 4
    assert len(sg.variance_preserving_levels(steps=4)) == 5
    assert sg.beta_levels(model=model, steps=4, alpha=1.0, beta=1.0)[0] == SCHEDULE.sigma_max
    assert sg.turbo_levels(model=model, steps=1).tolist() == pytest.approx([SCHEDULE.sigma_max, 0.0])
    assert len(sg.aligned_levels(model_type="SD1", steps=8, denoise=0.5)) == 5
    assert sg.extend(
        sigmas=torch.tensor([4.0, 2.0, 0.0]), steps=2, start_at_sigma=-1.0, end_at_sigma=3.0, spacing="linear"
    ).tolist() == [4.0, 3.0, 2.0, 0.0]


def test_rules_are_put_on_a_new_model():
    model = ContextModel()

    first = guidance.rescale_cfg(model=model, multiplier=0.5)
    second = guidance.adaptive_projected(model=first, eta=0.5, norm_threshold=2.0, momentum=-0.1)

    assert model.rules.combine is None
    assert second.rules.combine == Rescale(0.5)
    assert second.rules.pre == (Projected(0.5, 2.0, -0.1),)


def test_models_are_sampled_as_they_were_trained():
    model = ContextModel()

    velocity = model_sampling.discrete(model=model, sampling="v_prediction", zsnr=True).schedule
    distilled = model_sampling.discrete(model=model, sampling="lcm").schedule
    angle = model_sampling.continuous_v(model=model, sampling="v_prediction", sigma_max=300.0, sigma_min=0.1).schedule
    playground = model_sampling.continuous_edm(model=model, sampling="edm_playground_v2.5", sigma_max=80.0)

    assert (velocity.prediction, round(velocity.sigma_max)) == ("v", 4519)
    assert (distilled.prediction, len(distilled.sigmas)) == ("lcm", 50)
    assert isinstance(angle, ContinuousSchedule)
    assert float(angle.timestep(torch.tensor(1.0))) == pytest.approx(0.5)
    assert (playground.schedule.sigma_data, playground.latent_format.channels) == (0.5, 4)
    assert playground.latent_format.scale[0] == pytest.approx(0.5 / 8.4927)
    assert model_sampling.continuous_edm(model=model, sampling="eps").latent_format is model.latent_format


def test_flow_models_are_sampled_over_shifted_levels():
    model = ContextModel()

    sd3 = model_sampling.flow_sd3(model=model, shift=2.0).schedule
    aura = model_sampling.flow_aura(model=model).schedule
    flux = model_sampling.flow_flux(model=model, width=256, height=256).schedule
    cascade = model_sampling.cosine(model=model).schedule

    assert sd3.percent_to_sigma(0.5) == pytest.approx(2 / 3)
    assert (aura.shift, float(aura.timestep(torch.tensor(0.5)))) == (1.73, 0.5)
    assert (flux.shift, len(flux.sigmas)) == (pytest.approx(math.exp(0.5)), 10_000)
    assert (cascade.shift, cascade.is_flow) == (2.0, False)


def test_the_format_that_a_model_computes_in_is_chosen():
    model = ContextModel()

    assert model_sampling.compute_dtype(model=model, dtype="bf16").dtype == torch.bfloat16
    assert model_sampling.compute_dtype(model=model, dtype="default") is model
