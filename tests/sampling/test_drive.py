"""The loop: callbacks, cancellation, masks, inpainting models, what it leaves alone, and what it costs."""

from __future__ import annotations

import time

import pytest
import torch

from engine.errors import RunCancelled
from engine.sampling.drive import sample
from engine.sampling.names import SAMPLER_NAMES
from engine.sampling.noise import initial_noise
from engine.sampling.preview import preview
from engine.sampling.schedulers import sigmas
from engine.sampling.values import Guider, Sampler
from engine.types import LatentFormat, Model
from tests.sampling.denoisers import ContextModel, GaussianModel, close, conditioning, entry

SHAPE = (1, 4, 16, 16)

DRAWING = frozenset(
    {
        "euler_ancestral",
        "dpm_2_ancestral",
        "dpmpp_2s_ancestral",
        "ddpm",
        "lcm",
        "res_multistep_ancestral",
        "er_sde",
        "seeds_2",
        "seeds_3",
        "sa_solver",
        "sa_solver_pece",
        "euler_ancestral_cfg_pp",
        "dpmpp_2s_ancestral_cfg_pp",
        "res_multistep_ancestral_cfg_pp",
        *(name for name in SAMPLER_NAMES if name.endswith("_gpu")),
    }
)
"""Samplers that draw noise on the device, which the meta device cannot do."""


def run(model, *, sampler_name="euler", steps=6, latent=None, levels=None, **more):
    if levels is None:
        levels = sigmas(model.schedule, "karras", steps, sampler_name=sampler_name)
    latent = torch.zeros(SHAPE) if latent is None else latent
    settings = {"positive": conditioning(0.0), "negative": conditioning(0.0), "cfg": 1.0, "seed": 1} | more
    settings = {"noise": initial_noise(latent.shape, settings["seed"])} | settings
    guider = Guider.cfg(model, *(settings.pop(name) for name in ("positive", "negative", "cfg")))
    return sample(guider, latent=latent, sigmas=levels, sampler=Sampler(sampler_name), **settings)


def test_the_test_models_are_models():
    assert isinstance(GaussianModel(), Model)


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_each_step_is_reported_once(sampler):
    seen = []

    run(GaussianModel(), sampler_name=sampler, on_step=lambda *report: seen.append(report))

    if sampler == "dpm_adaptive":  # it passes levels without stopping there
        assert [step for step, *_ in seen] == sorted({step for step, *_ in seen})
        assert seen[0][:2] == (0, 6)
    else:
        assert [(step, total) for step, total, _ in seen] == [(i, 6) for i in range(6)]
    assert all(denoised.shape == SHAPE for *_, denoised in seen)


def test_a_callback_may_stop_the_run():
    model = GaussianModel()

    def stop(step, total, denoised):
        if step == 2:
            raise RunCancelled

    with pytest.raises(RunCancelled):
        run(model, on_step=stop)
    assert len(model.passes) == 3


def test_the_latent_is_not_touched():
    latent = torch.randn(SHAPE)
    before = latent.clone()

    run(GaussianModel(), latent=latent)

    assert torch.equal(latent, before)


def test_without_levels_the_latent_stays_as_it_is():
    latent, model = torch.randn(SHAPE), GaussianModel()

    assert torch.equal(run(model, latent=latent, levels=torch.empty(0)), latent)
    assert model.passes == []


def test_an_empty_latent_takes_the_channels_of_the_model():
    model = GaussianModel(latent_format=LatentFormat(channels=16), in_channels=16)

    assert run(model, latent=torch.zeros(1, 4, 8, 8), levels=torch.empty(0)).shape == (1, 16, 8, 8)


def test_a_step_from_level_zero_is_refused():
    with pytest.raises(ValueError, match="step 1 starts at noise level 0"):
        run(GaussianModel(), levels=torch.tensor([2.0, 0.0, 1.0]))


def test_a_picture_can_be_carried_back_to_noise():
    levels, latent = torch.logspace(-3, 1, 60), torch.full(SHAPE, 0.1)
    model = GaussianModel(latent_format=LatentFormat(scale=1.0))

    up = run(model, latent=latent, levels=levels, sampler_name="dpmpp_2m", noise=torch.zeros(SHAPE))
    down = run(model, latent=up, levels=levels.flip(0), sampler_name="dpmpp_2m", noise=torch.zeros(SHAPE))

    assert float(up.mean()) > 1.0
    assert close(down, latent, limit=0.01)


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde"])
def test_noise_is_not_added_on_the_way_up(sampler):
    with pytest.raises(ValueError, match="do not fall"):
        run(GaussianModel(), levels=torch.tensor([1.0, 2.0]), sampler_name=sampler)


def test_a_latent_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="3 channels: the model's latents have 4"):
        run(GaussianModel(), latent=torch.ones(1, 3, 8, 8))


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_a_noise_mask_keeps_what_it_covers(sampler):
    latent = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1.0

    result = run(GaussianModel(), sampler_name=sampler, latent=latent, noise_mask=mask, steps=8)

    # The solver's last level is not exactly 0 for every sampler.
    assert close(result[..., 8:], latent[..., 8:], limit=0.1)
    assert not close(result[..., :8], latent[..., :8], limit=0.1)


def test_the_kept_part_is_shown_to_the_network_with_the_noise_of_the_level():
    seen = []

    class Recording(ContextModel):
        def denoised(self, x, sigma, context, *, extra, **_):
            seen.append((x, float(sigma[0])))
            return super().denoised(x, sigma, context, extra=extra)

    model = Recording()
    latent, noise = torch.full(SHAPE, 2.0), initial_noise(SHAPE, 1)
    run(model, latent=latent, noise_mask=torch.zeros(1, 1, 4, 4))

    for x, sigma in seen:
        torch.testing.assert_close(x, latent + noise * sigma)


def test_ddim_noises_the_kept_part_afresh():
    seen = []

    class Recording(ContextModel):
        def denoised(self, x, sigma, context, *, extra, **_):
            seen.append((x, float(sigma[0])))
            return super().denoised(x, sigma, context, extra=extra)

    run(Recording(), sampler_name="ddim", latent=torch.zeros(SHAPE), noise_mask=torch.zeros(1, 1, 4, 4), seed=7)

    x, sigma = seen[0]
    torch.testing.assert_close(x, initial_noise(SHAPE, 8) * sigma)


def test_the_last_seed_wraps_around():
    run(ContextModel(), sampler_name="ddim", noise_mask=torch.zeros(1, 1, 4, 4), seed=2**64 - 1)


def test_an_inpainting_model_sees_mask_and_picture():
    seen = []

    class Inpainting(ContextModel):
        def denoised(self, x, sigma, context, *, extra, **_):
            seen.append(extra["concat"])
            return super().denoised(x, sigma, context, extra=extra)

    model = Inpainting(in_channels=9)
    mask = torch.zeros(1, 16, 16)
    mask[..., :8] = 1.0
    shown = torch.full(SHAPE, 3.0)
    run(model, positive=conditioning(entry(0.0, concat_mask=mask, concat_latent=shown)))
    run(model, latent=torch.full(SHAPE, 2.0), noise_mask=mask[:, None])
    run(model)

    assert all(concat.shape == (1, 5, 16, 16) for concat in seen)
    assert torch.equal(seen[0][:, :1], mask[:, None])
    assert close(seen[0][:, 1:], 3.0)
    assert torch.equal(seen[6][:, :1], mask[:, None])
    assert close(seen[6][:, 1:], 2.0)
    assert close(seen[-1][:, 0], 1.0)


def test_a_preview_is_a_small_picture():
    format_ = LatentFormat(rgb=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)))
    latent = torch.tensor([-1.0, 0.0, 5.0, 9.0]).reshape(1, 4, 1, 1).expand(1, 4, 3, 2)

    picture = preview(latent, format_)

    assert picture is not None
    assert picture.shape == (1, 3, 2, 3)
    assert picture[0, 0, 0].tolist() == [0.0, 0.5, 1.0]
    assert preview(latent, LatentFormat()) is None


@pytest.mark.parametrize("sampler", sorted(set(SAMPLER_NAMES) - DRAWING - {"dpm_adaptive"}))
def test_nothing_waits_for_the_device(sampler):
    """Tensors of the meta device have no values: whoever reads one, as a synchronisation does, fails."""
    model = ContextModel(device=torch.device("meta"))
    positive = conditioning(1.0, entry(2.0, area=(8, 8, 0, 0)), entry(3.0, end_percent=0.4))

    result = run(
        model, sampler_name=sampler, positive=positive, cfg=7.5, noise_mask=torch.ones(1, 4, 4), on_step=lambda *_: None
    )

    assert result.shape == SHAPE


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "uni_pc"])
def test_sampling_costs_little_beside_its_network(sampler):
    """Half a millisecond of this thread's time: 2 percent of a network that takes 25 ms."""

    class Free(ContextModel):
        def denoised(self, x, sigma, context, *, extra, **_):
            return x

    model, steps = Free(), 50

    def seconds_per_step() -> float:
        began = time.thread_time()
        run(model, sampler_name=sampler, steps=steps, cfg=7.5, negative=conditioning(1.0), on_step=lambda *_: None)
        return (time.thread_time() - began) / steps

    assert min(seconds_per_step() for _ in range(5)) < 0.0005
