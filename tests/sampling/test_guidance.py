"""Guidance: what is asked of the network, and how its answers are put together."""

from __future__ import annotations

import pytest
import torch

from engine.sampling.drive import sample
from engine.sampling.mix import Cfg, DualCfg, PerpNeg, perpendicular
from engine.sampling.values import Guider, Sampler
from engine.types import LatentFormat
from tests.sampling.denoisers import ContextModel, close, conditioning, entry

LATENT = torch.zeros(2, 4, 32, 48)


def sampled(model: ContextModel, positive, negative, *, cfg=1.0, levels=(2.0, 0.0), **more) -> torch.Tensor:
    settings = {"latent": LATENT, "noise": torch.zeros_like(LATENT), "sampler": Sampler("euler"), "seed": 0} | more
    return sample(Guider.cfg(model, positive, negative, cfg), sigmas=torch.tensor(levels), **settings)


def test_the_result_moves_away_from_the_negative_answer():
    result = sampled(ContextModel(), conditioning(3.0), conditioning(1.0), cfg=7.5)

    assert close(result, 1.0 + (3.0 - 1.0) * 7.5)


def test_both_answers_come_from_one_pass_with_the_negative_rows_first():
    model = ContextModel()

    sampled(model, conditioning(3.0), conditioning(1.0), cfg=7.5)

    assert model.passes == [(torch.Size([4, 4, 32, 48]), [1.0, 1.0, 3.0, 3.0])]


def test_the_negative_answer_is_not_asked_for_at_scale_one():
    model = ContextModel()

    assert close(sampled(model, conditioning(3.0), conditioning(1.0), cfg=1.0), 3.0)
    assert model.passes == [(torch.Size([2, 4, 32, 48]), [3.0, 3.0])]


def test_scale_zero_gives_the_negative_answer():
    assert close(sampled(ContextModel(), conditioning(3.0), conditioning(1.0), cfg=0.0), 1.0)


def test_several_entries_are_averaged():
    model = ContextModel()

    result = sampled(model, conditioning(3.0, 6.0), conditioning(1.0), cfg=2.0)

    assert close(result, 1.0 + (4.5 - 1.0) * 2.0)
    assert model.passes[0][1] == [1.0, 1.0, 6.0, 6.0, 3.0, 3.0]


def test_entries_weigh_as_strong_as_they_are():
    positive = conditioning(entry(3.0, strength=3.0), entry(7.0, strength=1.0))

    assert close(sampled(ContextModel(), positive, conditioning()), 4.0)


def test_contexts_of_different_length_are_repeated_into_one_pass():
    model = ContextModel()

    sampled(model, conditioning(entry(3.0, tokens=154)), conditioning(1.0), cfg=2.0)

    assert len(model.passes) == 1


def test_contexts_that_would_be_repeated_too_often_take_passes_of_their_own():
    model = ContextModel()

    result = sampled(model, conditioning(entry(3.0, tokens=77 * 5)), conditioning(1.0), cfg=2.0)

    assert len(model.passes) == 2
    assert close(result, 5.0)


def test_contexts_of_a_batch_belong_to_their_samples():
    tokens = torch.tensor([3.0, 5.0]).reshape(2, 1, 1).expand(2, 77, 3)
    entry_ = entry(0.0)

    result = sampled(ContextModel(), conditioning(type(entry_)(tokens)), conditioning())

    assert close(result[0], 3.0)
    assert close(result[1], 5.0)


def test_an_area_changes_only_its_place():
    positive = conditioning(3.0, entry(7.0, area=(32, 16, 0, 0)))
    model = ContextModel()

    result = sampled(model, positive, conditioning())

    assert close(result[..., 16:], 3.0)
    assert close(result[..., 0], 5.0)  # the outer edge has full weight
    assert close(result[..., 15], 3.0 + 4.0 * 0.25 / 1.25)  # the inner one a quarter: a ramp of 4 cells
    assert {shape[-1] for shape, _ in model.passes} == {48, 16}


def test_the_other_list_gains_the_area():
    model = ContextModel()

    sampled(model, conditioning(3.0, entry(7.0, area=(32, 16, 0, 0))), conditioning(1.0), cfg=2.0)

    small = [rows for shape, rows in model.passes if shape[-1] == 16]
    assert small == [[1.0, 1.0, 7.0, 7.0]]


def test_an_area_in_percent_follows_the_size_of_the_latent():
    model = ContextModel()

    sampled(model, conditioning(entry(7.0, area=("percentage", 0.5, 0.25, 0.5, 0.75))), conditioning())

    assert model.passes[0][0] == torch.Size([2, 4, 16, 12])


def test_places_that_no_entry_covers_become_zero():
    result = sampled(ContextModel(), conditioning(entry(7.0, area=(32, 16, 0, 0))), conditioning())

    assert close(result[..., 16:], 0.0)


def test_an_area_outside_the_latent_is_an_error():
    with pytest.raises(ValueError, match="outside the latent of 32 x 48"):
        sampled(ContextModel(), conditioning(entry(7.0, area=(8, 8, 40, 0))), conditioning())


def test_a_mask_weighs_place_by_place():
    mask = torch.zeros(1, 32, 48)
    mask[..., :24] = 1.0

    result = sampled(ContextModel(), conditioning(3.0, entry(7.0, mask=mask, mask_strength=3.0)), conditioning())

    assert close(result[..., :24], 6.0)
    assert close(result[..., 24:], 3.0)


def test_a_mask_is_resized_to_the_latent():
    result = sampled(ContextModel(), conditioning(3.0, entry(7.0, mask=torch.ones(1, 8, 8))), conditioning())

    assert close(result, 5.0)


def test_the_bounds_of_a_mask_limit_what_the_network_sees():
    mask = torch.zeros(1, 32, 48)
    mask[:, 4:20, 8:11] = 1.0
    model = ContextModel()

    result = sampled(model, conditioning(3.0, entry(7.0, mask=mask, set_area_to_bounds=True)), conditioning())

    assert model.passes[1][0][-2:] == (16, 8)
    assert close(result[..., 4:20, 8:11], 5.0)
    assert close(result[..., 4:20, 11:16], 3.0)


def test_an_entry_is_active_only_in_its_range():
    model = ContextModel()
    positive = conditioning(entry(3.0, end_percent=0.5), entry(7.0, start_percent=0.5))
    half = model.schedule.percent_to_sigma(0.5)

    sampled(model, positive, conditioning(), levels=(2 * half, half / 2, 0.0))

    assert [rows for _, rows in model.passes] == [[3.0, 3.0], [7.0, 7.0]]


def test_further_tensors_go_along_with_their_rows():
    pooled = type(entry(0.0))(torch.zeros(1, 77, 3), torch.zeros(1, 5))

    sampled(ContextModel(), conditioning(pooled), conditioning(pooled), cfg=2.0)  # the model checks the rows


def test_sampling_happens_in_the_scale_of_the_model():
    model = ContextModel(latent_format=LatentFormat(scale=0.5, shift=1.0))

    assert close(sampled(model, conditioning(3.0), conditioning()), 3.0 / 0.5 + 1.0)


def mixed(mix, *sides, model=None, **more) -> torch.Tensor:
    guider = Guider(model or ContextModel(), tuple(map(conditioning, sides)), mix)
    settings = {"latent": LATENT, "noise": torch.zeros_like(LATENT), "sampler": Sampler("euler"), "seed": 0} | more
    return sample(guider, sigmas=torch.tensor([2.0, 0.0]), **settings)


def test_two_scales_add_their_moves():
    model = ContextModel()

    result = mixed(DualCfg(2.0, 3.0), 7.0, 5.0, 1.0, model=model)

    assert close(result, 1.0 + (5.0 - 1.0) * 3.0 + (7.0 - 5.0) * 2.0)
    assert [rows for _, rows in model.passes] == [[1.0, 1.0, 5.0, 5.0, 7.0, 7.0]]


def test_two_nested_scales_move_one_after_the_other():
    assert close(mixed(DualCfg(2.0, 3.0, nested=True), 7.0, 5.0, 1.0), 1.0 + (5.0 + (7.0 - 5.0) * 2.0 - 1.0) * 3.0)


@pytest.mark.parametrize(
    ("scales", "asked", "expected"),
    [
        ((2.0, 1.0), [5.0, 5.0, 7.0, 7.0], 9.0),
        ((1.0, 1.0), [7.0, 7.0], 7.0),
        ((1.0, 2.0), [1.0, 1.0, 5.0, 5.0, 7.0, 7.0], 11.0),
    ],
)
def test_conditionings_that_two_scales_cancel_are_not_asked_for(scales, asked, expected):
    model = ContextModel()

    assert close(mixed(DualCfg(*scales), 7.0, 5.0, 1.0, model=model), expected)
    assert model.passes[0][1] == asked


def test_perp_neg_avoids_only_what_lies_across():
    """All answers are constant, so the negative one lies along the positive one and has no part across."""
    assert close(mixed(PerpNeg(3.0, 5.0), 4.0, 7.0, 2.0), 2.0 + (4.0 - 2.0) * 3.0)


def test_the_part_across_is_at_right_angles():
    generator = torch.Generator().manual_seed(0)
    positive, negative, empty = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(3))

    across = (perpendicular(positive, negative, empty, 1.0, 0.0) - perpendicular(positive, negative, empty, 1.0, 1.0)).flatten()

    assert float(across @ (positive - empty).flatten()) == pytest.approx(0.0, abs=1e-3)
    kept = (negative - empty).flatten() - across
    assert float(torch.cosine_similarity(kept, (positive - empty).flatten(), dim=0).abs()) == pytest.approx(1.0)


def test_a_sampler_can_ask_for_the_negative_answer_at_scale_one():
    model = ContextModel()

    mixed(Cfg(1.0), 3.0, 1.0, model=model, sampler=Sampler("euler_cfg_pp"))

    assert model.passes[0][1] == [1.0, 1.0, 3.0, 3.0]


def test_the_noise_that_cfg_pp_keeps_is_that_of_the_negative_answer():
    guider = Guider.cfg(ContextModel(), conditioning(3.0), conditioning(1.0), 2.0)
    start = torch.ones_like(LATENT)

    result = sample(
        guider,
        latent=LATENT,
        noise=start,
        sigmas=torch.tensor([4.0, 2.0]),
        sampler=Sampler("euler_cfg_pp"),
        seed=0,
    )

    assert close(result, 5.0 + (4.0 - 1.0) / 2.0)


def test_latents_grow_while_they_are_sampled():
    sizes = []

    def resized(latent: torch.Tensor, width: int, height: int) -> torch.Tensor:
        sizes.append((width, height))
        return torch.nn.functional.interpolate(latent, (height, width))

    options = {"ratio": 1.5, "steps": 2, "resized": resized}
    result = sample(
        Guider.cfg(ContextModel(), conditioning(3.0), conditioning(1.0), 1.0),
        latent=LATENT,
        noise=LATENT,
        sigmas=torch.tensor([4.0, 2.0, 1.0, 0.0]),
        sampler=Sampler("lcm_upscaled", options),
        seed=0,
    )

    assert sizes == [(60, 40), (72, 48)]
    assert result.shape == (2, 4, 48, 72)
    assert close(result, 3.0)


@pytest.mark.parametrize("bound", [{"noise_mask": torch.ones(1, 8, 8)}, {"positive": entry(3.0, mask=torch.ones(1, 8, 8))}])
def test_a_latent_with_masks_cannot_grow(bound):
    guider = Guider.cfg(ContextModel(), conditioning(bound.pop("positive", 3.0)), conditioning(1.0), 1.0)
    options = {"ratio": 2.0, "resized": lambda latent, width, height: latent.new_zeros(2, 4, height, width)}

    with pytest.raises(ValueError, match="cannot enlarge a latent of 32 x 48 cells"):
        sample(
            guider,
            latent=LATENT,
            noise=LATENT,
            sigmas=torch.tensor([4.0, 2.0, 1.0, 0.0]),
            sampler=Sampler("lcm_upscaled", options),
            seed=0,
            **bound,
        )
