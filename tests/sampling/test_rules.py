"""Rules: what a model changes about guidance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from engine.sampling.drive import sample
from engine.sampling.rules import Moment, Rules
from engine.sampling.values import Guider, Sampler
from tests.sampling.denoisers import ContextModel, close, conditioning, entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engine.sampling.guidance import Passes
    from engine.types import NoiseSchedule

LATENT = torch.zeros(1, 4, 8, 8)


def sampled(rules: Rules, *, cfg=2.0, model=None, positive=None, negative=None, **more) -> Tensor:
    settings = {"levels": (4.0, 2.0, 1.0, 0.0), "latent": LATENT, "noise_mask": None} | more
    model = (model or ContextModel()).with_rules(rules)
    return sample(
        Guider.cfg(model, positive or conditioning(3.0), negative or conditioning(1.0), cfg),
        latent=settings["latent"],
        noise=torch.zeros_like(LATENT),
        sigmas=torch.tensor(settings["levels"]),
        sampler=Sampler("euler"),
        seed=0,
        noise_mask=settings["noise_mask"],
    )


def test_rules_apply_before_in_place_of_and_after_the_guidance():
    rules = Rules(
        pre=(lambda m: replace(m, cond=m.cond + 1.0),),
        combine=lambda m: m.cond * 10.0 + m.uncond,
        post=(lambda m: m.denoised + m.cfg,),
    )

    assert close(sampled(rules), 4.0 * 10.0 + 1.0 + 2.0)


def test_later_rules_come_after_earlier_ones():
    first = Rules(post=(lambda m: m.denoised * 2.0,), combine=lambda m: m.cond)
    second = Rules(post=(lambda m: m.denoised + 1.0,), combine=lambda m: m.uncond)

    assert close(sampled(first.then(second)), 1.0 * 2.0 + 1.0)
    assert close(sampled(second.then(first)), (3.0 + 1.0) * 2.0)


def test_rules_see_zeros_where_the_negative_answer_is_not_asked_for():
    model = ContextModel()

    assert close(sampled(Rules(post=(lambda m: m.denoised + m.uncond,)), cfg=1.0, model=model), 3.0)
    assert all(rows == [3.0] for _, rows in model.passes)


def test_a_rule_can_keep_the_negative_answer():
    rules = Rules(post=(lambda m: m.uncond,), keeps_negative=True)

    assert close(sampled(rules, cfg=1.0), 1.0)


def test_a_rule_can_ask_again_for_either_side():
    model = ContextModel()

    def again(moment: Moment) -> Passes:
        positive = yield from moment.positive()
        negative = yield from moment.negative(moment.x + 1.0)
        return positive * 10.0 + negative

    result = sampled(Rules(post=(again,)), model=model, levels=(2.0, 0.0))

    assert close(result, 31.0)
    assert [rows for _, rows in model.passes] == [[1.0, 3.0], [3.0], [1.0]]


def test_a_rule_can_ask_for_a_conditioning_that_does_not_guide():
    model, other = ContextModel(), conditioning(9.0)

    def again(moment: Moment) -> Passes:
        return (yield from moment.other(other))

    result = sampled(Rules(combine=again), model=model, levels=(4.0, 2.0, 0.0))

    assert close(result, 9.0)
    assert [rows for _, rows in model.passes] == [[1.0, 3.0], [9.0]] * 2


def test_asking_again_averages_the_entries_of_that_side():
    def again(moment: Moment) -> Passes:
        return (yield from moment.positive())

    left = torch.zeros(1, 8, 8)
    left[..., :4] = 1.0
    positive = conditioning(3.0, entry(7.0, mask=left))

    result = sampled(Rules(post=(again,)), positive=positive)

    assert close(result[..., :4], 5.0)
    assert close(result[..., 4:], 3.0)


def test_hooks_go_along_with_the_pass_that_a_rule_asks_for():
    seen = []

    class Hooked(ContextModel):
        def denoised(self, *arguments: Tensor, hooks: tuple[str, ...] = (), **more: object) -> Tensor:
            seen.append(hooks)
            return super().denoised(*arguments, **more)

    def again(moment: Moment) -> Passes:
        return (yield from moment.positive(hooks=("mine",)))

    sampled(Rules(post=(again,)), model=Hooked(), levels=(2.0, 0.0))

    assert seen == [(), ("mine",)]


@dataclass
class Counting:
    """Adds the number of its calls."""

    calls: list[float] = field(default_factory=list)

    def begun(self) -> Counting:
        return Counting()

    def __call__(self, moment: Moment) -> Tensor:
        self.calls.append(moment.sigma)
        return moment.denoised + len(self.calls)


def test_what_a_rule_remembers_ends_with_the_sampling():
    rules = Rules(post=(Counting(),))

    assert close(sampled(rules, cfg=1.0), 6.0)
    assert close(sampled(rules, cfg=1.0), 6.0)


def test_a_rule_changes_the_noise_mask_from_level_to_level():
    seen = []

    def narrowing(mask: Tensor, sigma: float, levels: Sequence[float], schedule: NoiseSchedule) -> Tensor:
        seen.append((sigma, tuple(levels)))
        return torch.zeros_like(mask) if sigma < 2.0 else mask

    result = sampled(Rules(mask=narrowing), cfg=1.0, noise_mask=torch.ones(1, 8, 8))

    assert seen == [(sigma, (4.0, 2.0, 1.0, 0.0)) for sigma in (4.0, 2.0, 1.0)]
    assert close(result, 0.0)  # the last level keeps the latent
