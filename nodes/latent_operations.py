"""Nodes that make operations on latents, and apply them."""

from dataclasses import replace
from typing import Annotated

from engine.schema import Range, node
from engine.types import Latent, LatentOperation


@node("LatentApplyOperation", category="latent/advanced/operations", experimental=True)
def apply_operation(*, samples: Latent, operation: LatentOperation) -> Latent:
    """Apply an operation to latents.

    Args:
        samples: The latents.
        operation: What to do with them.
    """
    return replace(samples, samples=operation(samples.samples))


@node("LatentOperationTonemapReinhard", category="latent/advanced/operations", experimental=True)
def tonemap_reinhard(*, multiplier: Annotated[float, Range(0.0, 100.0, step=0.01)] = 1.0) -> LatentOperation:
    """Press strong values of latents together, so that a high guidance scale does not burn pictures out.

    Args:
        multiplier: Of the strength that nothing exceeds; small ones press harder.
    """
    from engine.pictures.operations import ReinhardTonemap

    return ReinhardTonemap(multiplier)


@node("LatentOperationSharpen", category="latent/advanced/operations", experimental=True)
def sharpen(
    *,
    sharpen_radius: Annotated[int, Range(1, 31, step=1)] = 9,
    sigma: Annotated[float, Range(0.1, 10.0, step=0.1)] = 1.0,
    alpha: Annotated[float, Range(0.0, 5.0, step=0.01)] = 0.1,
) -> LatentOperation:
    """Sharpen latents.

    Args:
        sharpen_radius: Of the window that is compared with, in latent cells; smaller than the latent.
        sigma: Standard deviation of the window, in units of its radius.
        alpha: How much.
    """
    from engine.pictures.operations import Sharpen

    return Sharpen(sharpen_radius, sigma, alpha)
