"""Whatever a file holds for a layer: it is refused with a sentence, or it changes the weight."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

ROLES = (
    "up", "down", "mid", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a",
    "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "a1", "a2", "b1", "b2", "oft_blocks", "rescale",
    "difference", "replacement",
)  # fmt: skip
KINDS = (
    ("up", "down"), ("up", "down", "mid"), ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ROLES[3:9],
    ("lokr_w1", "lokr_w2"), ("lokr_w1", "lokr_w2_a", "lokr_w2_b"), ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"),
    ("lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_t2"), ("a1", "a2", "b1", "b2"), ("oft_blocks",), ("oft_blocks", "rescale"),
    ("difference",), ("replacement",),
)  # fmt: skip

side = st.sampled_from([0, 1, 2, 2, 2, 4])
shape = st.lists(side, min_size=1, max_size=4).map(tuple)
roles = st.sampled_from(KINDS).map(set) | st.sets(st.sampled_from(ROLES), max_size=5)


@settings(deadline=None, max_examples=600)
@given(data=st.data(), wanted=st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=4).map(tuple))
def test_it_fits_or_is_refused(data, wanted):
    import torch

    from engine.models.adapters import adapted

    factors = {role: torch.ones(data.draw(shape)) for role in sorted(data.draw(roles))}
    factors = {role: tensor[None] if tensor.ndim < 2 else tensor for role, tensor in factors.items()}
    if data.draw(st.booleans()):
        factors["alpha"] = torch.tensor(data.draw(st.sampled_from([0.0, 1.0])))
    if data.draw(st.booleans()):
        factors["magnitude"] = torch.ones(data.draw(shape))

    try:
        change = adapted(factors, wanted, 0.5)
    except ValueError:
        return
    assert change(torch.zeros(wanted)).shape == wanted
