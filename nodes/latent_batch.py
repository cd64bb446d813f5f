"""Nodes that take latents out of batches and repeat them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from engine.schema import Range, node
from engine.types import Latent

if TYPE_CHECKING:
    from torch import Tensor

CELL_PX = 8
"""Pixels of a mask for each latent cell, along one side."""


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


@node("RebatchLatents", title="Rebatch Latents", category="latent/batch")
def rebatch(*, latents: list[Latent], batch_size: Annotated[int, Range(1, 4096)] = 1) -> list[Latent]:
    """Regroup latents into batches of a size. Each keeps the noise of its place.

    Args:
        latents: A list of batches.
        batch_size: How many latents a batch holds; fewer where the list ends, or where latents of another size follow.

    Returns:
        LATENT: The batches as a list.
    """
    from itertools import groupby

    import torch

    batches = []
    first = 0
    for shape, alike in groupby(latents, lambda batch: batch.samples.shape[1:]):
        group = list(alike)
        samples = torch.cat([batch.samples for batch in group])
        is_masked = any(batch.noise_mask is not None for batch in group)
        masks = torch.cat([_mask_px(batch, shape) for batch in group]) if is_masked else None
        places: list[int] = []
        for batch in group:
            places += batch.batch_index or range(first, first + len(batch.samples))
            first += len(batch.samples)
        for start in range(0, len(samples), batch_size):
            taken = slice(start, start + batch_size)
            mask = masks[taken] if masks is not None else None
            # A mask that covers everything is none.
            batches.append(Latent(samples[taken], None if mask is None or (mask == 1).all() else mask, tuple(places[taken])))
    return batches


def _mask_px(batch: Latent, shape: "tuple[int, ...]") -> "Tensor":
    """The mask of a batch for each latent, in pixels: [B, 1, H, W]; ones without one."""
    import torch

    count, size = len(batch.samples), (shape[-2] * CELL_PX, shape[-1] * CELL_PX)
    if batch.noise_mask is None:
        return torch.ones(count, 1, *size)
    mask = batch.noise_mask.reshape(-1, 1, *batch.noise_mask.shape[-2:])
    if tuple(mask.shape[-2:]) != size:
        mask = torch.nn.functional.interpolate(mask, size, mode="bilinear")
    return _rows(mask, count)


def _rows(mask: "Tensor", count: int) -> "Tensor":
    """`mask` repeated to at least `count` rows, and cut to them."""
    if mask.shape[0] >= count:
        return mask[:count]
    return mask.repeat(-(-count // mask.shape[0]), *(1,) * (mask.ndim - 1))[:count]


@node("LatentCutToBatch", title="LatentCutToBatch", category="latent/batch")
def cut_to_batch(*, samples: Latent, dim: Literal["t", "x", "y"], slice_size: Annotated[int, Range(1, 16384)] = 1) -> Latent:
    """Cut latents into slices, each of which becomes one of a batch; the slices of one latent follow each other.

    Args:
        samples: The latents.
        dim: Along which side: the frames of moving pictures, the width or the height. Latents without frames stay as they
            are where frames are to be cut.
        slice_size: Cells or frames of a slice; what is left at the end is dropped. Never more than there are.
    """
    whole = samples.samples
    axes = {"y": whole.ndim - 2, "x": whole.ndim - 1, "t": 2 if whole.ndim == 5 else 0}
    axis = axes[dim]
    if not axis:
        return samples
    size = min(slice_size, whole.shape[axis])
    count = whole.shape[axis] // size
    first = whole.movedim(axis, 1)[:, : count * size]
    return Latent(first.reshape(len(whole) * count, size, *first.shape[2:]).movedim(1, axis))
