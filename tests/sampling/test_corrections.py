"""Corrections of guidance, against the formulas in numpy, or what the formulas are for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.sampling import corrections as c
from engine.sampling.drive import sample
from engine.sampling.mix import PerpNeg
from engine.sampling.rules import Moment, Rules
from engine.sampling.schedule import DiscreteSchedule
from engine.sampling.values import Guider, Sampler
from tests.sampling.denoisers import ContextModel, close, conditioning

SHAPE = (3, 4, 8, 10)


def moment(cfg: float = 5.0, sigma: float = 2.0, **answers: torch.Tensor) -> Moment:
    generator = torch.Generator().manual_seed(5)
    x, cond, uncond = (torch.randn(SHAPE, generator=generator) for _ in range(3))
    cond, uncond = answers.get("cond", cond), answers.get("uncond", uncond)
    return Moment(x, sigma, cfg, cond, uncond, uncond + (cond - uncond) * cfg, True, (0, 1), lambda *_: None)


def arrays(m: Moment) -> tuple[np.ndarray, ...]:
    return tuple(tensor.double().numpy() for tensor in (m.x, m.cond, m.uncond, m.denoised))


def lengths(latent: torch.Tensor) -> list[float]:
    return latent.flatten(1).norm(dim=1).tolist()


def test_a_share_of_nothing_rescaled_is_plain_guidance():
    m = moment()

    assert close(c.Rescale(0.0)(m), m.denoised)


def test_what_is_rescaled_has_the_spread_of_the_positive_answer():
    m = moment()
    schedule = DiscreteSchedule.scaled_linear("v")

    def velocity(denoised: torch.Tensor) -> torch.Tensor:
        """What a network that predicts v would have said, from the schedule's reading of it."""
        level = torch.tensor(m.sigma)
        nothing = schedule.denoised(torch.zeros(SHAPE), level, m.x)
        unit = schedule.denoised(torch.ones(SHAPE), level, m.x) - nothing
        return (denoised - nothing) / unit

    result = velocity(c.Rescale(1.0)(m))

    assert result.std((1, 2, 3)).tolist() == pytest.approx(velocity(m.cond).std((1, 2, 3)).tolist(), rel=1e-4)
    direction = torch.cosine_similarity(result.flatten(1), velocity(m.denoised).flatten(1))
    assert direction.tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_a_renormed_result_is_no_longer_than_allowed():
    m = moment()

    assert lengths(c.Renorm(100.0, 1.5)(m)) == pytest.approx([1.5 * length for length in lengths(m.cond)])
    assert close(c.Renorm(100.0, 0.0)(m), m.denoised)
    assert close(c.Renorm(100.0, 1e6)(m), m.denoised)
    assert torch.equal(c.Renorm(2.0, 1.0)(m), m.cond)


@pytest.mark.parametrize(("shape", "scales"), [("linear", [2.0, 3.5, 5.0]), ("triangle", [2.0, 5.0, 2.0])])
def test_each_frame_has_its_scale(shape, scales):
    m = moment()

    expected = torch.stack([u + (k - u) * s for u, k, s in zip(m.uncond, m.cond, scales, strict=True)])

    assert close(c.Spread(2.0, shape)(m), expected)


def test_perp_neg_as_a_rule_is_perp_neg_as_a_guider():
    sides = (conditioning(4.0), conditioning(7.0), conditioning(2.0))
    rules = Rules(combine=c.Perpendicular(sides[2], 1.5))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    settings = {
        "latent": torch.zeros(1, 4, 8, 8),
        "noise": noise,
        "sigmas": torch.tensor([2.0, 1.0, 0.0]),
        "sampler": Sampler("euler"),
        "seed": 1,
    }

    rule = sample(Guider.cfg(ContextModel().with_rules(rules), *sides[:2], 3.0), **settings)
    guider = sample(Guider(ContextModel(), sides, PerpNeg(3.0, 1.5)), **settings)

    assert close(rule, guider)


def test_the_negative_answer_is_fitted_to_the_positive_one():
    m = moment()
    x, cond, uncond, denoised = arrays(m)

    fit = np.stack([np.vdot(x[i] - cond[i], x[i] - uncond[i]) / np.vdot(x[i] - uncond[i], x[i] - uncond[i]) for i in range(3)])
    fit = fit.reshape(3, 1, 1, 1)

    assert close(c.ZeroStar()(m), torch.tensor(denoised + uncond * (fit - 1) + 5.0 * uncond * (1 - fit)), 1e-4)


def test_a_negative_answer_that_fits_needs_no_correction():
    m = moment(uncond=moment().cond)

    assert close(c.ZeroStar()(m), m.denoised)


def test_no_place_becomes_stronger_than_the_positive_answer():
    m = replace(moment(), denoised=moment().cond * torch.linspace(0.0, 2.0, 10))

    result = c.Norm(1.0)(m)

    assert bool((result.norm(dim=1) <= m.cond.norm(dim=1) + 1e-5).all())
    kept = m.denoised.norm(dim=1) <= m.cond.norm(dim=1)
    assert bool(kept.any())
    assert close(result.movedim(1, -1)[kept], m.denoised.movedim(1, -1)[kept])
    assert close(c.Norm(0.5)(m), result / 2)


def test_mahiro_leans_by_the_similarity_of_signed_roots():
    m = moment()
    _, cond, uncond, denoised = arrays(m)
    leap = cond * 5.0
    one, two = (np.sqrt(np.abs(a)) * np.sign(a) for a in (uncond * 5.0, (leap + denoised) / 2))
    similarity = ((one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)).mean()
    share = 2 * (similarity + 1)

    assert close(c.Mahiro()(m), torch.tensor((share * denoised + (4 - share) * leap) / 4), 1e-4)


def test_noise_is_divided():
    m = moment()

    assert close((m.x - c.EpsilonScale(1.25)(m)) * 1.25, m.x - m.denoised)


def test_projected_guidance_of_all_parts_without_limit_is_plain_guidance_one_scale_higher():
    """The rule adds the guidance once for the scale to multiply, and once divided by it."""
    m = moment()

    changed = c.Projected(1.0, 0.0, 0.0)(m)

    assert close(changed.cond - m.uncond, (m.cond - m.uncond) * (1 + 1 / 5))


def test_projected_guidance_lies_across_the_positive_answer_and_is_limited():
    m = moment()

    changed = c.Projected(0.0, 3.0, 0.0)(m)

    guidance = changed.cond - m.uncond - (m.cond - m.uncond) / 5.0
    assert torch.cosine_similarity(guidance.flatten(1), m.cond.flatten(1)).tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    assert max(lengths(guidance)) <= 3.0 + 1e-4


def test_projected_guidance_remembers_until_the_level_rises():
    rule, first, second = c.Projected(1.0, 0.0, 0.5), moment(sigma=2.0), moment(sigma=1.0)
    plain = first.cond - first.uncond

    steps = [rule(first), rule(second), rule(moment(sigma=4.0))]

    for step, factor in zip(steps, (1.0, 1.5, 1.0), strict=True):
        assert close(step.cond - first.uncond, plain * (factor + 1 / 5))
    assert rule.begun() == rule
    assert close(rule.begun()(second).cond, steps[0].cond)


def test_damping_keeps_what_lies_along_the_main_direction():
    m = moment()
    x, cond, uncond, _ = arrays(m)

    changed = c.Damped()(m)

    for i in range(3):
        both = np.stack([(x[i] - uncond[i]).ravel(), (x[i] - cond[i]).ravel()])
        values, vectors = np.linalg.eigh(both @ both.T)  # the main direction by the small matrix
        main = vectors[:, -1] @ both / math.sqrt(values[-1])
        expected = x[i].ravel() - main * (main @ both[0])
        assert close(changed.uncond[i].flatten(), torch.tensor(expected), 1e-4)


def test_a_negative_answer_along_the_positive_one_is_not_damped():
    first = moment()
    m = moment(uncond=first.x - (first.x - first.cond) * 0.5)

    assert close(c.Damped()(m).uncond, m.uncond, 1e-4)


def test_low_and_high_frequencies_are_scaled_apart():
    """A constant is of low frequency; what changes its sign from cell to cell is of the highest."""
    flat = torch.ones(SHAPE)
    checks = flat.clone()
    checks[..., ::2] = -1.0
    nothing = torch.zeros(SHAPE)

    rule = c.Frequencies(2.0, 3.0, 2)

    assert close(rule(moment(cond=flat, uncond=nothing)).cond, flat * 2.0)
    assert close(rule(moment(cond=checks, uncond=nothing)).cond, checks * 3.0)
    assert close(c.Frequencies(2.0, 3.0, 100)(moment(cond=checks, uncond=nothing)).cond, checks * 2.0)


@pytest.mark.parametrize("rule", [c.Damped(), c.Frequencies(2.0, 3.0, 2)])
def test_what_compares_both_answers_waits_for_both(rule):
    m = replace(moment(), has_negative=False)

    assert rule(m) is m


def test_an_operation_is_applied_to_the_guidance():
    m = moment()

    assert close(c.Operated(lambda latent: latent * 3.0)(m).cond, m.uncond + (m.cond - m.uncond) * 3.0)


def test_a_grey_mask_opens_step_by_step():
    schedule = DiscreteSchedule.scaled_linear()
    levels = schedule.sigmas[[999, 749, 499, 249]].tolist()
    mask = torch.tensor([0.0, 0.3, 0.6, 1.0]).reshape(1, 1, 2, 2)

    opened = [c.Differential()(mask, level, (*levels, 0.0), schedule).flatten().tolist() for level in levels]

    assert opened == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]]
    half = c.Differential(0.5)(mask, levels[2], levels, schedule).flatten().tolist()
    assert half == pytest.approx([0.0, 0.15, 0.8, 1.0])  # a third of the way is left


@pytest.mark.parametrize("rule", [c.Rescale(0.7), c.Renorm(100.0, 1.0), c.Spread(1.0, "linear"), c.Projected(1.0, 0.0, 0.0)])
def test_equal_rules_are_equal(rule):
    assert rule == type(rule)(**{name: getattr(rule, name) for name in rule.__slots__ if not name.startswith("_")})


RULES = [
    c.Rescale(0.7),
    c.Renorm(100.0, 1.0),
    c.Spread(1.0, "triangle"),
    c.ZeroStar(),
    c.Norm(1.0),
    c.Mahiro(),
    c.EpsilonScale(1.01),
    c.Projected(0.5, 2.0, 0.3),
    c.Damped(),
    c.Frequencies(1.0, 1.25, 2),
    c.Operated(lambda latent: latent * 2.0),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_rule_never_waits_for_the_device(rule):
    """The meta device has no numbers to wait for: looking at one there is an error."""
    x = torch.empty(SHAPE, device="meta")
    m = Moment(x, 2.0, 5.0, x, x, x, True, (0, 1), lambda *_: None)

    for sigma in (2.0, 1.0):
        result = rule(replace(m, sigma=sigma))
        latent = result.cond if isinstance(result, Moment) else result
        assert (latent.shape, latent.device.type) == (torch.Size(SHAPE), "meta")


def test_a_mask_opens_without_waiting_for_the_device():
    mask = torch.empty(1, 1, 8, 8, device="meta")

    opened = c.Differential(0.5)(mask, 3.0, (10.0, 3.0, 0.0), DiscreteSchedule.scaled_linear())

    assert (opened.shape, opened.device.type) == (mask.shape, "meta")
