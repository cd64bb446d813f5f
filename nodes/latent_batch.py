"""Nodes that take latents out of batches and repeat them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from engine.schema import Range, node
from engine.types import Latent

if TYPE_CHECKING:
    from torch import Tensor


@node("LatentFromBatch", title="Latent From Batch", category="latent/batch")
def from_batch(
    *,
    samples: Latent,
    batch_index: Annotated[int, Range(0, 63)] = 0,
    length: Annotated[int, Range(1, 64)] = 1,
) -> Latent:
    """Take some latents out of a batch. They keep the noise of their place, so that sampling them alone gives the same.

    Args:
        samples: The batch.
        batch_index: The first one to take, from 0; beyond the end it is the last.
        length: How many to take; fewer where the batch ends.
    """
    count = samples.samples.shape[0]
    first = min(batch_index, count - 1)
    taken = slice(first, first + min(length, count - first))
    places = samples.batch_index or tuple(range(count))
    mask = samples.noise_mask
    if mask is not None and mask.shape[0] != 1:
        mask = _rows(mask, count)[taken]
    return Latent(samples.samples[taken], mask, places[taken])


@node("RepeatLatentBatch", title="Repeat Latent Batch", category="latent/batch")
def repeat(*, samples: Latent, amount: Annotated[int, Range(1, 64)] = 1) -> Latent:
    """Repeat a batch of latents; each copy is sampled from noise of its own.

    Args:
        samples: The batch.
        amount: How many times it stands in the result.
    """
    batch = samples.samples
    mask = samples.noise_mask
    if mask is not None and mask.shape[0] > 1:
        mask = _rows(mask, batch.shape[0])
        mask = mask.repeat(amount, *(1,) * (mask.ndim - 1))
    places = samples.batch_index
    if places is not None:
        offset = max(places) - min(places) + 1
        places = tuple(place + i * offset for i in range(amount) for place in places)
    return replace(samples, samples=batch.repeat(amount, 1, 1, 1), noise_mask=mask, batch_index=places)


def _rows(mask: "Tensor", count: int) -> "Tensor":
    """`mask` repeated to at least `count` rows, and cut to them."""
    if mask.shape[0] >= count:
        return mask[:count]
    return mask.repeat(-(-count // mask.shape[0]), *(1,) * (mask.ndim - 1))[:count]
