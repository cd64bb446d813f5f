"""Hooks that draw lots: token merging and tiles, against brute force."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import UNet2DConditionModel

from engine.models.hooks import Place
from engine.models.hyper_tile import HyperTile, cut, joined
from engine.models.token_merging import Merging, TokenMerging
from engine.models.unet import UNet, attention
from engine.sampling.guidance import Guidance
from engine.sampling.mix import Cfg
from engine.sampling.noise import lots
from engine.sampling.region import Region
from engine.sampling.rules import Rules, no_lots


def at(height: int, width: int, *, halved: int = 0, attention: str = "self") -> Place:
    return Place("input", 1, 1.0, (height, width), (height >> halved, width >> halved), 0, attention)


def firsts(below: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def brute(tokens: torch.Tensor, chosen: list[int], height: int, width: int, count: int):
    """What one row of tokens is merged to, as lists: (merged tokens, for each token its place among them)."""
    squares = [(y, x) for y in range(height // 2) for x in range(width // 2)]
    stays = []
    for (y, x), choice in zip(squares, chosen, strict=True):
        stays.append((2 * y + choice // 2) * width + 2 * x + choice % 2)
    stays.sort()
    kept = [i for i in range(height * width) if i not in stays]
    unit = [token / token.norm() for token in tokens]
    best = {i: max(stays, key=lambda j: float(unit[i] @ unit[j])) for i in kept}
    ranked = sorted(kept, key=lambda i: -float(unit[i] @ unit[best[i]]))
    gone, single = ranked[:count], ranked[count:]
    merged, places = [tokens[i] for i in single], {i: n for n, i in enumerate(single)}
    for j in stays:
        group = [j, *(i for i in gone if best[i] == j)]
        places |= dict.fromkeys(group, len(merged))
        merged.append(torch.stack([tokens[i] for i in group]).mean(0))
    return torch.stack(merged), places


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7)])
def test_tokens_are_merged_with_those_most_like_them(height, width):
    noise = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, height * width, 5, generator=noise)
    chosen = torch.randint(4, (height // 2, width // 2, 1), generator=noise)

    merging = Merging.of(tokens, chosen, height, width, 8)
    merged, restored = merging.merged(tokens), merging.restored(merging.merged(tokens))

    assert merged.shape == (2, height * width - 8, 5)
    for row in range(2):
        expected, places = brute(tokens[row], chosen.flatten().tolist(), height, width, 8)
        assert sorted(merged[row].sum(-1).tolist()) == pytest.approx(sorted(expected.sum(-1).tolist()), abs=1e-5)
        whole = torch.stack([expected[places[i]] for i in range(height * width)])
        torch.testing.assert_close(restored[row], whole, rtol=1e-4, atol=1e-5)


def test_merging_is_for_self_attention_at_full_resolution():
    hook = TokenMerging(0.5).begun(firsts)
    q, context = torch.randn(1, 16, 4), torch.randn(1, 3, 4)

    merged, k, v = hook.attention_inputs(q, q, q, at(4, 4))
    assert merged.shape == (1, 8, 4)
    assert k is q
    assert v is q
    assert hook.after_attention(merged, at(4, 4)).shape == (1, 16, 4)
    assert hook.attention_inputs(q, context, context, at(4, 4, attention="cross"))[0] is q
    assert hook.after_attention(q, at(4, 4, attention="cross")) is q
    assert hook.attention_inputs(q, q, q, at(8, 8, halved=1))[0] is q
    assert hook.after_attention(q, at(8, 8, halved=1)) is q


def test_at_most_three_quarters_are_merged():
    hook = TokenMerging(1.0).begun(firsts)
    q = torch.randn(1, 16, 4)

    assert hook.attention_inputs(q, q, q, at(4, 4))[0].shape == (1, 4, 4)


def test_nothing_is_drawn_where_nothing_is_merged():
    q = torch.randn(1, 16, 4)

    assert TokenMerging(0.0).begun(no_lots).attention_inputs(q, q, q, at(4, 4))[0] is q
    with pytest.raises(ValueError, match="nobody draws lots"):
        TokenMerging(0.5).begun(no_lots).attention_inputs(q, q, q, at(4, 4))


def test_tiles_are_parts_of_the_map():
    tokens = torch.arange(24.0).reshape(1, 24, 1)  # 4 x 6

    tiles = cut(tokens, (4, 6), (2, 3))

    assert tiles[1, :, 0].tolist() == [2.0, 3.0, 8.0, 9.0]
    assert tiles[3, :, 0].tolist() == [12.0, 13.0, 18.0, 19.0]
    assert torch.equal(joined(tiles, (4, 6), (2, 3)), tokens)


def test_attention_stays_within_tiles():
    hook = HyperTile(32, 1, 0, scales=False).begun(no_lots)
    q = torch.randn(2, 8 * 12, 6)

    parts = hook.attention_inputs(q, q, q, at(8, 12))
    got = hook.after_attention(attention(*parts, 2), at(8, 12))

    row, column = torch.arange(96) // 12 // 4, torch.arange(96) % 12 // 4
    same = (row[:, None] == row) & (column[:, None] == column)
    heads = q.view(2, 96, 2, 3).transpose(1, 2)
    shares = (heads @ heads.transpose(-1, -2) / math.sqrt(3)).masked_fill(~same, -math.inf).softmax(-1)
    expected = (shares @ heads).transpose(1, 2).reshape(2, 96, 6)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tiling", "halved", "tiles"),
    [
        (HyperTile(256, 2, 0, scales=False), 0, 1),  # 32 cells at least: there are 16
        (HyperTile(1, 1, 0, scales=False), 0, 16),  # 32 pixels are 4 cells
        (HyperTile(64, 1, 0, scales=False), 0, 4),
        (HyperTile(32, 1, 0, scales=False), 1, 1),  # not so deep
        (HyperTile(32, 1, 1, scales=False), 1, 4),
        (HyperTile(32, 1, 1, scales=True), 1, 1),
    ],
)
def test_tiles_are_as_large_as_asked(tiling, halved, tiles):
    q = torch.randn(1, (16 >> halved) ** 2, 2)

    part, _, _ = tiling.begun(firsts).attention_inputs(q, q, q, at(16, 16, halved=halved))

    assert part.shape[0] == tiles


def test_the_size_of_tiles_is_drawn_from_all_but_the_largest():
    drawn = []

    def last(below: int, shape: tuple[int, ...]) -> torch.Tensor:
        drawn.append(below)
        return torch.full(shape, below - 1)

    q = torch.randn(1, 16 * 16, 2)
    part, _, _ = HyperTile(32, 3, 0, scales=False).begun(last).attention_inputs(q, q, q, at(16, 16))

    assert drawn == [2, 2]  # 4, 8 or 16 cells
    assert part.shape[0] == 4


def test_prompts_and_other_sizes_are_not_cut():
    hook = HyperTile(32, 1, 0, scales=False).begun(firsts)
    q, context = torch.randn(1, 256, 2), torch.randn(1, 3, 2)

    assert hook.attention_inputs(q, context, context, at(16, 16, attention="cross"))[0] is q
    assert hook.after_attention(q, at(16, 16, attention="cross")) is q
    assert hook.attention_inputs(q[:, :255], context, context, at(16, 16))[0].shape == (1, 255, 2)


@pytest.mark.parametrize("hook", [TokenMerging(0.4), HyperTile(32, 2, 1, scales=False)], ids=["merging", "tiles"])
def test_a_network_runs_with_it_and_equal_lots_give_equal_answers(hook):
    torch.manual_seed(0)
    module = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()
    x, context = torch.randn(2, 4, 16, 24), torch.randn(2, 5, 24)
    call = (x, torch.tensor([500.0, 500.0]), context)

    def answer(seed: int) -> torch.Tensor:
        return UNet(module)(*call, hooks=(hook.begun(lots(x.shape, seed)),))

    plain = UNet(module)(*call)
    assert answer(1).shape == plain.shape
    assert not torch.allclose(answer(1), plain, atol=1e-4)
    assert torch.equal(answer(1), answer(1))


def test_lots_follow_the_noise_of_the_same_seed():
    generator = torch.Generator().manual_seed(9)
    torch.randn(1, 4, 8, 8, generator=generator)
    expected = [torch.randint(4, (3, 2), generator=generator), torch.randint(7, (1,), generator=generator)]

    draw = lots((1, 4, 8, 8), 9)

    assert torch.equal(draw(4, (3, 2)), expected[0])
    assert torch.equal(draw(7, (1,)), expected[1])


def test_every_sampling_begins_its_hooks_anew_and_gives_them_to_every_pass():
    begun = []

    class Lots:
        def begun(self, draw):
            begun.append(draw)
            return f"hook {len(begun)}"

    rules = Rules(hooks=(Lots(),)).then(Rules(keeps_negative=True))
    sides = [[Region(torch.zeros(1, 1, 1))], [Region(torch.zeros(1, 1, 1))]]
    asked = []
    for _ in range(2):
        guidance = Guidance(sides, Cfg(7.0), rules, draw=firsts)
        for sigma in (2.0, 1.0):
            passes = guidance.denoised(torch.zeros(1, 4, 2, 2), sigma)
            request = next(passes)
            asked.append(request.hooks)
            with pytest.raises(StopIteration):
                passes.send(torch.zeros_like(request.x))

    assert begun == [firsts, firsts]
    assert asked == [("hook 1",), ("hook 1",), ("hook 2",), ("hook 2",)]
