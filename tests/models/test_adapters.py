"""Adapters: each formula against one that is written down another way, with numpy and scipy or layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import relative_error
from scipy.linalg import block_diag
from torch.nn.functional import conv2d, linear

from engine.models.adapters import KINDS, adapted

LIMIT = 1e-5


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(1)


def made(rng, **shapes):
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def changed(weight, factors, strength=1.0):
    return adapted(factors, tuple(weight.shape), strength)(weight)


def delta_of(factors, shape):
    """The change alone, of a weight of zeros."""
    return changed(torch.zeros(shape), factors)


def convolved(x, *weights):
    """What a chain of convolutions makes; the picture keeps its size."""
    for weight in weights:
        x = conv2d(x, weight, padding=weight.shape[2] // 2)
    return x


def test_lora_is_two_layers_one_after_the_other(rng):
    weight, x = torch.randn(6, 5, generator=rng), torch.randn(7, 5, generator=rng)
    factors = made(rng, up=(6, 3), down=(3, 5)) | {"alpha": torch.tensor(1.5)}

    got = linear(x, changed(weight, factors, -0.7))

    expected = linear(x, weight) - 0.7 * 1.5 / 3 * linear(linear(x, factors["down"]), factors["up"])
    assert relative_error(got, expected) < LIMIT


@pytest.mark.parametrize("side", [1, 3])
def test_locon_is_two_convolutions_one_after_the_other(rng, side):
    weight, x = torch.randn(6, 5, side, side, generator=rng), torch.randn(1, 5, 8, 8, generator=rng)
    factors = made(rng, up=(6, 3, 1, 1), down=(3, 5, side, side))

    got = convolved(x, changed(weight, factors, 2.0))

    expected = convolved(x, weight) + 2 * convolved(x, factors["down"], factors["up"])
    assert relative_error(got, expected) < LIMIT


def test_locon_with_a_core_is_three_convolutions(rng):
    weight, x = torch.randn(6, 5, 3, 3, generator=rng), torch.randn(1, 5, 8, 8, generator=rng)
    factors = made(rng, up=(6, 2, 1, 1), mid=(2, 4, 3, 3), down=(4, 5, 1, 1)) | {"alpha": torch.tensor(2.0)}

    got = convolved(x, changed(weight, factors))

    expected = convolved(x, weight) + 2 / 4 * convolved(x, factors["down"], factors["mid"], factors["up"])
    assert relative_error(got, expected) < LIMIT


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3)])
def test_loha_is_a_product_number_by_number(rng, shape):
    columns = int(np.prod(shape[1:]))
    factors = made(rng, hada_w1_a=(6, 2), hada_w1_b=(2, columns), hada_w2_a=(6, 2), hada_w2_b=(2, columns))
    factors["alpha"] = torch.tensor(3.0)
    weight = torch.randn(shape, generator=rng)
    plain = {name: tensor.double().numpy() for name, tensor in factors.items()}

    expected = np.empty((6, columns))
    for o in range(6):
        for i in range(columns):
            first = sum(plain["hada_w1_a"][o, r] * plain["hada_w1_b"][r, i] for r in range(2))
            second = sum(plain["hada_w2_a"][o, r] * plain["hada_w2_b"][r, i] for r in range(2))
            expected[o, i] = 3 / 2 * first * second

    got = changed(weight, factors, 0.5)
    assert relative_error(got - weight, 0.5 * torch.from_numpy(expected).reshape(shape)) < LIMIT


def test_loha_with_cores_is_a_product_of_chains(rng):
    factors = made(rng, hada_w1_a=(2, 6), hada_w1_b=(2, 5), hada_w2_a=(2, 6), hada_w2_b=(2, 5))
    factors |= made(rng, hada_t1=(2, 2, 3, 3), hada_t2=(2, 2, 3, 3))
    x = torch.zeros(1, 5, 3, 3)

    def chain(n):
        """The weight of three convolutions, read from what they make of single points."""
        outer, core, first = factors[f"hada_w{n}_a"].T, factors[f"hada_t{n}"], factors[f"hada_w{n}_b"]
        weight = torch.empty(6, 5, 3, 3)
        for i in range(5):
            point = x.clone()
            point[0, i, 1, 1] = 1
            weight[:, i] = convolved(point, first[:, :, None, None], core, outer[:, :, None, None])[0].flip(1, 2)
        return weight

    assert relative_error(delta_of(factors, (6, 5, 3, 3)), chain(1) * chain(2)) < LIMIT


LOKR = {
    "both whole": ({"lokr_w1": (3, 2), "lokr_w2": (4, 5)}, 1.0),
    "the first in factors": ({"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 2), "lokr_w2": (4, 5)}, 3 / 2),
    "the second in factors": ({"lokr_w1": (3, 2), "lokr_w2_a": (4, 6), "lokr_w2_b": (6, 5)}, 3 / 6),
    "both in factors": ({"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 5)}, 3 / 2),
}


@pytest.mark.parametrize("form", LOKR)
def test_lokr_is_a_kronecker_product(rng, form):
    shapes, scale = LOKR[form]
    factors = made(rng, **shapes)
    plain = {name: tensor.double().numpy() for name, tensor in factors.items()}
    halves = [plain.get(f"lokr_w{n}", plain.get(f"lokr_w{n}_a", 1) @ plain[f"lokr_w{n}_b"] if f"lokr_w{n}_b" in plain else None)
              for n in (1, 2)]  # fmt: skip

    got = delta_of(factors | {"alpha": torch.tensor(3.0)}, (12, 10))

    assert relative_error(got, torch.from_numpy(scale * np.kron(*halves))) < LIMIT


@pytest.mark.parametrize("form", ["whole", "factors", "core"])
def test_lokr_of_a_convolution(rng, form):
    first = torch.randn(3, 2, generator=rng)
    if form == "whole":
        factors = made(rng, lokr_w2=(4, 5, 3, 3))
        second = factors["lokr_w2"]
    elif form == "factors":
        factors = made(rng, lokr_w2_a=(4, 2), lokr_w2_b=(2, 5 * 9))
        second = (factors["lokr_w2_a"] @ factors["lokr_w2_b"]).reshape(4, 5, 3, 3)
    else:
        factors = made(rng, lokr_w2_a=(2, 4), lokr_w2_b=(2, 5), lokr_t2=(2, 2, 3, 3))
        a, b, core = (factors[name].double().numpy() for name in ("lokr_w2_a", "lokr_w2_b", "lokr_t2"))
        second = torch.from_numpy(np.einsum("ro,rskl,si->oikl", a, core, b))

    got = delta_of(factors | {"lokr_w1": first}, (12, 10, 3, 3))

    # w1 spreads blocks of w2 over the channels; places of the kernel are left alone
    expected = torch.empty(12, 10, 3, 3)
    for o in range(3):
        for i in range(2):
            expected[4 * o : 4 * o + 4, 5 * i : 5 * i + 5] = first[o, i] * second
    assert relative_error(got, expected) < LIMIT


@pytest.mark.parametrize("order", ["now", "early"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3)])
def test_glora_changes_what_goes_in_and_what_comes_out(rng, shape, order):
    kernel = shape[2:]
    weight = torch.randn(shape, generator=rng)
    one = [1] * len(kernel)
    a_in, a_out = torch.randn(2, 5, *one, generator=rng), torch.randn(5, 2, *one, generator=rng)
    b_in, b_out = torch.randn(2, 5, *kernel, generator=rng), torch.randn(6, 2, *one, generator=rng)
    names = ("a2", "a1", "b2", "b1") if order == "now" else ("a1", "a2", "b1", "b2")
    factors = dict(zip(names, (a_in, a_out, b_in, b_out), strict=True)) | {"alpha": torch.tensor(1.0)}
    x = torch.randn(1, 5, 8, 8, generator=rng) if kernel else torch.randn(7, 5, generator=rng)
    run = (
        convolved
        if kernel
        else lambda x, *weights: linear(x, weights[0]) if len(weights) == 1 else run(run(x, weights[0]), *weights[1:])
    )

    got = run(x, changed(weight, factors))

    expected = run(x, weight) + 0.5 * run(run(x, a_in, a_out), weight) + 0.5 * run(x, b_in, b_out)
    assert relative_error(got, expected) < LIMIT


def cayley(block):
    skew = block - block.T
    return (np.eye(len(block)) + skew) @ np.linalg.inv(np.eye(len(block)) - skew)


@pytest.mark.parametrize("shape", [(12, 5), (12, 5, 3, 3)])
def test_oft_rotates_blocks_of_rows(rng, shape):
    weight, blocks = torch.randn(shape, generator=rng), torch.randn(3, 4, 4, generator=rng)
    rotation = block_diag(*(cayley(block).T for block in blocks.double().numpy()))

    got = changed(weight, {"oft_blocks": blocks})

    assert np.allclose(rotation @ rotation.T, np.eye(12))
    assert relative_error(got, torch.from_numpy(rotation @ weight.double().numpy().reshape(12, -1)).reshape(shape)) < LIMIT
    assert relative_error(changed(weight, {"oft_blocks": blocks}, 0.3) - weight, 0.3 * (got - weight)) < LIMIT


def test_oft_rescales_rows_and_bounds_the_rotation(rng):
    weight, blocks = torch.randn(12, 5, generator=rng), torch.randn(3, 4, 4, generator=rng)
    rescale = torch.rand(12, 1, generator=rng)
    skew = (blocks - blocks.transpose(1, 2)).double().numpy()
    bound = 0.1 * 12
    shorter = skew * bound / np.linalg.norm(skew)
    rotation = block_diag(*(cayley(block / 2).T for block in shorter))

    got = changed(weight, {"oft_blocks": blocks, "rescale": rescale, "alpha": torch.tensor(0.1)})

    assert bound < np.linalg.norm(skew)
    assert relative_error(got, rescale * torch.from_numpy(rotation @ weight.double().numpy())) < LIMIT


def stage_matrix(blocks, stage):
    """One stage of a butterfly as a whole matrix: a block takes rows `apart` away from each other in pairs."""
    count, size, _ = blocks.shape
    apart = 2**stage * (size // 2)
    order = [
        2 * apart * pair + apart * half + k
        for pair in range(count * size // (2 * apart))
        for k in range(apart)
        for half in (0, 1)
    ]
    taken = np.eye(count * size)[order]
    return taken.T @ block_diag(*(cayley(block) for block in blocks)) @ taken


@pytest.mark.parametrize("shape", [(16, 5), (16, 5, 3, 3)])
def test_boft_rotates_stage_by_stage(rng, shape):
    weight, blocks = torch.randn(shape, generator=rng), torch.randn(3, 4, 4, 4, generator=rng)
    rescale = torch.rand(16, *[1] * (len(shape) - 1), generator=rng)
    whole = np.eye(16)
    for stage in range(3):
        whole = stage_matrix(blocks[stage].double().numpy(), stage) @ whole

    got = changed(weight, {"oft_blocks": blocks, "rescale": rescale})

    expected = torch.from_numpy(whole @ weight.double().numpy().reshape(16, -1)).reshape(shape)
    assert relative_error(got, rescale * expected) < LIMIT
    assert torch.equal(changed(weight, {"oft_blocks": blocks}, 0.0), weight)


def test_a_difference_is_added(rng):
    weight, difference = torch.randn(6, 5, generator=rng), torch.randn(6, 5, 1, 1, generator=rng)

    assert torch.equal(changed(weight, {"difference": difference}, 2.0), weight + 2 * difference[:, :, 0, 0])


def test_a_replacement_takes_the_place_of_the_weight(rng):
    weight, other = torch.randn(6, generator=rng), torch.randn(6, generator=rng)

    assert relative_error(changed(weight, {"replacement": other}), other) < 1e-6
    assert relative_error(changed(weight, {"replacement": other}, 0.5), (weight + other) / 2) < 1e-6


PLAIN = {"up": (6, 2), "down": (2, 45)}


@pytest.mark.parametrize("axis", ["rows", "columns", "a list of rows"])
def test_dora_gives_rows_or_columns_their_length(rng, axis):
    weight, factors = torch.randn(6, 5, 3, 3, generator=rng), made(rng, **PLAIN)
    shape = {"rows": (6, 1, 1, 1), "columns": (1, 5, 1, 1), "a list of rows": (6,)}[axis]
    factors["magnitude"] = torch.rand(shape, generator=rng) + 1

    got = changed(weight, factors)

    direction = (weight + (factors["up"] @ factors["down"]).reshape(weight.shape)).double().numpy()
    for n, length in enumerate(factors["magnitude"].flatten().tolist()):
        ours, theirs = (got[:, n], direction[:, n]) if axis == "columns" else (got[n], direction[n])
        assert relative_error(ours, torch.from_numpy(theirs / np.linalg.norm(theirs) * length)) < LIMIT
    assert relative_error(changed(weight, factors, 0.4), weight + 0.4 * (got - weight)) < LIMIT


def test_dora_of_any_kind(rng):
    weight = torch.randn(12, 10, generator=rng)
    factors = made(rng, lokr_w1=(3, 2), lokr_w2=(4, 5)) | {"magnitude": torch.ones(12, 1)}

    assert torch.allclose(changed(weight, factors).norm(dim=1), torch.ones(12), atol=1e-5)


MADE = {
    "LowRank": {"up": (16, 2), "down": (2, 8)},
    "Hadamard": {"hada_w1_a": (16, 2), "hada_w1_b": (2, 8), "hada_w2_a": (16, 2), "hada_w2_b": (2, 8)},
    "Kronecker": {"lokr_w1": (4, 2), "lokr_w2": (4, 4)},
    "Generalized": {"a1": (8, 2), "a2": (2, 8), "b1": (16, 2), "b2": (2, 8)},
    "Rotation": {"oft_blocks": (4, 4, 4)},
    "Butterfly": {"oft_blocks": (2, 4, 4, 4)},
    "Difference": {"difference": (16, 8)},
    "Replacement": {"replacement": (16, 8)},
}


def test_every_kind_is_in_the_table():
    assert [kind.__name__ for kind in KINDS] == list(MADE)


@pytest.mark.parametrize("kind", MADE)
def test_strength_zero_is_no_change_and_the_weight_is_left_alone(rng, kind):
    weight, factors = torch.randn(16, 8, generator=rng), made(rng, **MADE[kind])
    before = {name: tensor.clone() for name, tensor in [*factors.items(), ("weight", weight)]}

    assert torch.allclose(changed(weight, factors, 0.0), weight, atol=1e-6)
    assert not torch.allclose(changed(weight, factors, 0.5), weight, atol=1e-3)

    assert all(torch.equal(before[name], tensor) for name, tensor in [*factors.items(), ("weight", weight)])


@pytest.mark.parametrize("kind", MADE)
def test_half_precision_factors_are_computed_in_single(rng, kind):
    weight = torch.randn(16, 8, generator=rng)
    factors = {name: tensor.half() for name, tensor in made(rng, **MADE[kind]).items()}

    got = changed(weight, factors)

    assert got.dtype == torch.float32
    assert relative_error(got, changed(weight, {name: tensor.float() for name, tensor in factors.items()})) < 1e-7


@pytest.mark.parametrize("kind", MADE)
def test_factors_of_another_size_are_refused_with_all_sizes(rng, kind):
    factors = made(rng, **MADE[kind])

    with pytest.raises(ValueError, match=r"do not make \[14, 8\]") as error:
        adapted(factors, (14, 8), 1.0)

    assert all(str(list(tensor.shape)) in str(error.value) for tensor in factors.values())


BROKEN = {
    "up alone": ({"up": (6, 2)}, "lacks down"),
    "three of LoHa": ({"hada_w1_a": (6, 2), "hada_w1_b": (2, 5), "hada_w2_a": (6, 2)}, "lacks hada_w2_b"),
    "kinds mixed": ({"up": (6, 2), "down": (2, 5), "oft_blocks": (3, 2, 2)}, "down, oft_blocks, up: no kind of adapter"),
    "flat blocks": ({"oft_blocks": (6, 2)}, "oft_blocks: no kind of adapter is made of these"),
    "alpha alone": ({"alpha": ()}, "alpha: no kind of adapter is made of these"),
    "a magnitude of another size": ({"up": (6, 2), "down": (2, 5), "magnitude": (7, 1)}, r"magnitude \[7, 1\] does not fit \[6, 5\]"),
    "factors that do not fit each other": ({"lokr_w1": (3, 1), "lokr_w2_a": (2, 2), "lokr_w2_b": (3, 5)}, "do not fit each other"),
    "no rank": ({"up": (6, 0), "down": (0, 5)}, "its factors have rank 0"),
    "rescale of another size": ({"oft_blocks": (3, 2, 2), "rescale": (5, 1)}, r"rescale \[5, 1\] do not make \[6, 5\]"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_missing_or_too_much_is_said(rng, what):
    shapes, message = BROKEN[what]

    with pytest.raises(ValueError, match=message):
        adapted(made(rng, **shapes), (6, 5), 1.0)
