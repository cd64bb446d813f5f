"""Nodes that compute with latents."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from engine.schema import Range, node
from engine.types import Latent

if TYPE_CHECKING:
    from torch import Tensor


@node("LatentAdd", category="latent/advanced")
def add(*, samples1: Latent, samples2: Latent) -> Latent:
    """Add two latents.

    Args:
        samples1: The first; gives the size.
        samples2: The second; resized to the first.
    """
    return replace(samples1, samples=samples1.samples + _fitted(samples1, samples2))


@node("LatentSubtract", category="latent/advanced")
def subtract(*, samples1: Latent, samples2: Latent) -> Latent:
    """Take one latent from another.

    Args:
        samples1: What is taken from; gives the size.
        samples2: What is taken; resized to the first.
    """
    return replace(samples1, samples=samples1.samples - _fitted(samples1, samples2))


@node("LatentMultiply", category="latent/advanced")
def multiply(*, samples: Latent, multiplier: Annotated[float, Range(-10.0, 10.0, step=0.01)] = 1.0) -> Latent:
    """Multiply a latent by a number.

    Args:
        samples: The latent.
        multiplier: The number.
    """
    return replace(samples, samples=samples.samples * multiplier)


@node("LatentInterpolate", category="latent/advanced")
def interpolate(*, samples1: Latent, samples2: Latent, ratio: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0) -> Latent:
    """Mix two latents: their directions are mixed, and their lengths.

    Args:
        samples1: The latent at ratio 1; gives the size.
        samples2: The latent at ratio 0; resized to the first.
        ratio: Share of `samples1`.
    """
    one, two = samples1.samples, _fitted(samples1, samples2)
    length_one, length_two = one.norm(dim=1, keepdim=True), two.norm(dim=1, keepdim=True)
    mixed = _direction(one, length_one) * ratio + _direction(two, length_two) * (1.0 - ratio)
    mixed = _direction(mixed, mixed.norm(dim=1, keepdim=True))
    return replace(samples1, samples=mixed * (length_one * ratio + length_two * (1.0 - ratio)))


@node("LatentBatch", category="latent/batch")
def batch(*, samples1: Latent, samples2: Latent) -> Latent:
    """Put latents into one batch.

    Args:
        samples1: The first; they give the size.
        samples2: The others; resized to the first.
    """
    import torch

    one, two = samples1.samples, _resized(samples1, samples2)
    places = [s.batch_index or tuple(range(len(s.samples))) for s in (samples1, samples2)]
    return replace(samples1, samples=torch.cat((one, two)), batch_index=places[0] + places[1])


@node("LatentBatchSeedBehavior", category="latent/advanced")
def seed_behavior(*, samples: Latent, seed_behavior: Literal["random", "fixed"] = "fixed") -> Latent:
    """Decide whether the latents of a batch are sampled from noise of their own.

    Args:
        samples: The batch.
        seed_behavior: `random`: each from its own. `fixed`: all from that of the first.
    """
    if seed_behavior == "random":
        return replace(samples, batch_index=None)
    first = samples.batch_index[0] if samples.batch_index else 0
    return replace(samples, batch_index=(first,) * len(samples.samples))


@node("LatentConcat", category="latent/advanced")
def concat(*, samples1: Latent, samples2: Latent, dim: Literal["x", "-x", "y", "-y", "t", "-t"]) -> Latent:
    """Put latents beside each other.

    Args:
        samples1: The first.
        samples2: The second; repeated or cut to as many.
        dim: Along which axis: width, height, or frames (of latents that are no videos, channels); `-` puts the second
            one before the first.
    """
    import torch

    one, two = samples1.samples, samples2.samples.to(samples1.samples)
    axis = _axis(dim, one.ndim)
    count = len(one)
    two = two.repeat(-(-count // len(two)), *(1,) * (two.ndim - 1))[:count]
    rest = [tuple(size for i, size in enumerate(part.shape) if i != axis) for part in (one, two)]
    if rest[0] != rest[1]:
        msg = f"cannot put latents {list(one.shape)} and {list(two.shape)} together along {dim}: their other sides differ"
        raise ValueError(msg)
    return replace(samples1, samples=torch.cat((two, one) if dim.startswith("-") else (one, two), axis))


@node("LatentCut", category="latent/advanced")
def cut(
    *,
    samples: Latent,
    dim: Literal["x", "y", "t"],
    index: Annotated[int, Range(-16384, 16384, step=1)] = 0,
    amount: Annotated[int, Range(1, 16384, step=1)] = 1,
) -> Latent:
    """Cut a piece out of latents.

    Args:
        samples: The latents.
        dim: Along which axis: width, height, or frames (of latents that are no videos, channels).
        index: Where the piece begins, in cells; negative counts from the end. Beyond the end it is the last cell.
        amount: How many cells; fewer where the latent ends.
    """
    axis = _axis(dim, samples.samples.ndim)
    size = samples.samples.shape[axis]
    first = min(index, size - 1) if index >= 0 else max(index + size, 0)
    return replace(samples, samples=samples.samples.narrow(axis, first, min(amount, size - first)))


def _axis(dim: str, ndim: int) -> int:
    """The axis of a latent that a letter means."""
    return ndim - {"x": 1, "y": 2, "t": 3}[dim[-1]]


def _resized(like: Latent, other: Latent) -> "Tensor":
    """The samples of `other` in the size, and on the device, of those of `like`."""
    from engine.media import resized

    samples = other.samples.to(like.samples)
    height, width = like.samples.shape[-2:]
    if tuple(samples.shape[-2:]) == (height, width):
        return samples
    return resized(samples, width, height, "bilinear", "center")


def _fitted(like: Latent, other: Latent) -> "Tensor":
    """The samples of `other` in the size of those of `like`, repeated or cut to as many."""
    samples, count = _resized(like, other), len(like.samples)
    return samples.repeat(-(-count // len(samples)), 1, 1, 1)[:count]


def _direction(vectors: "Tensor", lengths: "Tensor") -> "Tensor":
    """Vectors [B, C, h, w] divided by their lengths; those without length stay 0."""
    return vectors / lengths.where(lengths > 0, 1.0)
