"""Guidance: one denoised latent out of the network's answers to several conditionings."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.sampling.region import Area, Region

TINY = 1e-37
"""What the sum of weights starts from, so that places without any answer become 0."""

LONGEST_REPEAT = 4
"""Contexts of different lengths share a pass only if none is repeated more often."""


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """A request for one pass of the network; rows of several requests may be joined.

    Attributes:
        x: [R, C, h, w] noisy latents in model space.
        sigma: [R] noise level of each row.
        context: [R, T, D] cross-attention context.
        extra: Further tensors of the family, R rows each.
        controls: What steers the network from beside it in this pass.
        hooks: Changes to the network for this pass alone.
    """

    x: Tensor
    sigma: Tensor
    context: Tensor
    extra: Mapping[str, Tensor]
    controls: tuple[Any, ...] = ()
    hooks: tuple[Any, ...] = ()


Passes: TypeAlias = Generator[Forward, Tensor, Tensor]
"""Yields requests for the network, is sent its answers, returns a latent."""


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Regions that share one pass, in the order of their rows, with everything that does not change between steps."""

    members: tuple[tuple[bool, Region], ...]
    context: Tensor
    extra: Mapping[str, Tensor]
    area: Area | None
    controls: tuple[Any, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is one negative and one positive region, both everywhere and of even weight."""
        return (
            [positive for positive, _ in self.members] == [False, True]
            and self.area is None
            and not any(isinstance(region.weight, Tensor) for _, region in self.members)
        )


class Guidance:
    """Classifier-free guidance over two lists of regions.

    Each list's answer is the mean of its regions' answers, weighted by strength and place; the result is
    D_u + (D_c - D_u) * cfg. Regions whose shapes agree go through the network in one pass, negative ones first.

    Source: Ho and Salimans 2022, arXiv:2207.12598, eq. 6.
    """

    def __init__(self, positive: Sequence[Region], negative: Sequence[Region], cfg: float) -> None:
        """Keep what is guided by.

        Args:
            positive: Regions to move towards.
            negative: Regions to move away from; not evaluated where `cfg` is 1.
            cfg: Guidance scale.
        """
        self._cfg = cfg
        self._skips_negative = math.isclose(cfg, 1.0)
        sides = [(True, region) for region in positive]
        if not self._skips_negative:
            sides += [(False, region) for region in negative]
        self._sides = tuple(sides)
        self._batches: dict[tuple[bool, ...], tuple[_Batch, ...]] = {}

    def denoised(self, x: Tensor, sigma: float) -> Passes:
        """The guided denoised latent of `x` [B, C, h, w] at level `sigma`."""
        active = tuple(region.is_active(sigma) for _, region in self._sides)
        batches = self._batches.get(active)
        if batches is None:
            members = [side for side, is_active in zip(self._sides, active, strict=True) if is_active]
            batches = self._batches[active] = _batched(members)
        if len(batches) == 1 and batches[0].is_plain:
            uncond, cond = (yield _forward(batches[0], x, sigma)).chunk(2)
            return self._guided(cond, uncond)
        return (yield from self._averaged(batches, x, sigma))

    def _averaged(self, batches: Sequence[_Batch], x: Tensor, sigma: float) -> Passes:
        totals = {side: (torch.zeros_like(x), torch.full_like(x, TINY)) for side in (True, False)}
        for batch in batches:
            answers = yield _forward(batch, x, sigma)
            for (side, region), answer in zip(batch.members, answers.chunk(len(batch.members)), strict=True):
                total, weights = totals[side]
                region.crop(total).add_(answer * region.weight)
                region.crop(weights).add_(region.weight)
        cond, uncond = (total / weights for total, weights in (totals[True], totals[False]))
        return cond if self._skips_negative else self._guided(cond, uncond)

    def _guided(self, cond: Tensor, uncond: Tensor) -> Tensor:
        return torch.add(uncond, cond - uncond, alpha=self._cfg)


def _batched(sides: Sequence[tuple[bool, Region]]) -> tuple[_Batch, ...]:
    """Group regions that can share a pass; later ones come first in their group, so negative ones do."""
    groups: list[list[tuple[bool, Region]]] = []
    for side in sides:
        group = next((group for group in groups if _agree(group[0][1], side[1])), None)
        if group is None:
            groups.append([side])
        else:
            group.append(side)
    return tuple(_batch(group[::-1]) for group in groups)


def _agree(one: Region, other: Region) -> bool:
    """Whether two regions can share a pass."""
    tokens, others = one.context.shape[1], other.context.shape[1]
    return (
        (one.area or ())[:2] == (other.area or ())[:2]
        and one.controls == other.controls
        and one.context.shape[2:] == other.context.shape[2:]
        and math.lcm(tokens, others) <= LONGEST_REPEAT * min(tokens, others)
        and {name: value.shape for name, value in one.extra.items()}
        == {name: value.shape for name, value in other.extra.items()}
    )


def _batch(members: Sequence[tuple[bool, Region]]) -> _Batch:
    members_regions = [region for _, region in members]
    tokens = math.lcm(*(region.context.shape[1] for region in members_regions))
    contexts = [region.context.repeat(1, tokens // region.context.shape[1], 1) for region in members_regions]
    return _Batch(
        members=tuple(members),
        context=torch.cat(contexts),
        extra={name: torch.cat([region.extra[name] for region in members_regions]) for name in members_regions[0].extra},
        area=members_regions[0].area,
        controls=members_regions[0].controls,
    )


def _forward(batch: _Batch, x: Tensor, sigma: float) -> Forward:
    count = len(batch.members)
    if batch.area is None:
        joined = x if count == 1 else x.repeat(count, 1, 1, 1)
    else:
        joined = torch.cat([region.crop(x) for _, region in batch.members])
    level = torch.full((joined.shape[0],), sigma, device=x.device)
    return Forward(joined, level, batch.context, batch.extra, batch.controls)
