"""Guidance: one denoised latent out of the network's answers to several conditionings."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from engine.sampling.rules import NO_RULES, Moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.sampling.region import Area, Region
    from engine.sampling.rules import Rules

POSITIVE, NEGATIVE = 0, 1
"""The sides of guidance."""

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

    members: tuple[tuple[int, Region], ...]
    context: Tensor
    extra: Mapping[str, Tensor]
    area: Area | None
    controls: tuple[Any, ...]

    def is_plain(self, sides: Sequence[int]) -> bool:
        """Whether it is one region of each of `sides`, the last first, all everywhere and of even weight."""
        return (
            [side for side, _ in self.members] == [*reversed(sides)]
            and self.area is None
            and not any(isinstance(region.weight, Tensor) for _, region in self.members)
        )


class Guidance:
    """Classifier-free guidance over two lists of regions.

    Each list's answer is the mean of its regions' answers, weighted by strength and place; the result is
    D_u + (D_c - D_u) * cfg, unless rules say otherwise. Regions whose shapes agree go through the network in one pass,
    negative ones first.

    Source: Ho and Salimans 2022, arXiv:2207.12598, eq. 6.
    """

    def __init__(self, positive: Sequence[Region], negative: Sequence[Region], cfg: float, rules: Rules = NO_RULES) -> None:
        """Keep what is guided by.

        Args:
            positive: Regions to move towards.
            negative: Regions to move away from; not evaluated where `cfg` is 1, unless somebody needs their answer.
            cfg: Guidance scale.
            rules: What the model changes about guidance.
        """
        self._cfg = cfg
        self._rules = None if rules == NO_RULES else rules.begun()
        self._asks = (POSITIVE,) if math.isclose(cfg, 1.0) and not rules.keeps_negative else (POSITIVE, NEGATIVE)
        self._regions = (*((POSITIVE, region) for region in positive), *((NEGATIVE, region) for region in negative))
        self._batches: dict[tuple[int, ...], tuple[_Batch, ...]] = {}

    def denoised(self, x: Tensor, sigma: float, *, with_negative: bool = False) -> Passes:
        """The guided denoised latent of `x` at a noise level.

        Args:
            x: [B, C, h, w] noisy latent.
            sigma: Its level.
            with_negative: Whether the answer to the negative conditioning is wanted too.

        Returns:
            [B, C, h, w], or with the negative answer [2, B, C, h, w]: first the guided one, then the negative one.
        """
        sides = (POSITIVE, NEGATIVE) if with_negative else self._asks
        cond, *others = yield from self._answers(x, sigma, sides)
        uncond = others[0] if others else None
        if self._rules is not None:
            denoised, uncond = yield from self._ruled(self._rules, x, sigma, cond, uncond)
        else:
            denoised = cond if uncond is None else torch.add(uncond, cond - uncond, alpha=self._cfg)
        return torch.stack((denoised, uncond)) if with_negative and uncond is not None else denoised

    def _ruled(
        self, rules: Rules, x: Tensor, sigma: float, cond: Tensor, uncond: Tensor | None
    ) -> Generator[Forward, Tensor, tuple[Tensor, Tensor]]:
        """The result by the rules of the model, and the negative answer as they left it."""

        def ask(side: int, x: Tensor, hooks: tuple[Any, ...]) -> Passes:
            (answer,) = yield from self._answers(x, sigma, (side,), hooks)
            return answer

        moment = Moment(x, sigma, self._cfg, cond, torch.zeros_like(cond) if uncond is None else uncond, cond, ask)
        for pre in rules.pre:
            moment = pre(moment)
        cond, uncond = moment.cond, moment.uncond
        combined = rules.combine(moment) if rules.combine else torch.add(uncond, cond - uncond, alpha=self._cfg)
        for post in rules.post:
            changed = post(replace(moment, denoised=combined))
            combined = (yield from changed) if isinstance(changed, Generator) else changed
        return combined, uncond

    def _answers(
        self, x: Tensor, sigma: float, sides: Sequence[int], hooks: tuple[Any, ...] = ()
    ) -> Generator[Forward, Tensor, tuple[Tensor, ...]]:
        """For each of `sides` the mean answer of its regions."""
        active = tuple(i for i, (side, region) in enumerate(self._regions) if side in sides and region.is_active(sigma))
        batches = self._batches.get(active)
        if batches is None:
            batches = self._batches[active] = _batched([self._regions[i] for i in active])
        if len(batches) == 1 and batches[0].is_plain(sides):
            answers = yield _forward(batches[0], x, sigma, hooks)
            return tuple(answers.chunk(len(sides)))[::-1]
        totals = {side: (torch.zeros_like(x), torch.full_like(x, TINY)) for side in sides}
        for batch in batches:
            answers = yield _forward(batch, x, sigma, hooks)
            for (side, region), answer in zip(batch.members, answers.chunk(len(batch.members)), strict=True):
                total, weights = totals[side]
                region.crop(total).add_(answer * region.weight)
                region.crop(weights).add_(region.weight)
        return tuple(total / weights for total, weights in totals.values())


def _batched(sides: Sequence[tuple[int, Region]]) -> tuple[_Batch, ...]:
    """Group regions that can share a pass; later ones come first in their group, so negative ones do."""
    groups: list[list[tuple[int, Region]]] = []
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


def _batch(members: Sequence[tuple[int, Region]]) -> _Batch:
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


def _forward(batch: _Batch, x: Tensor, sigma: float, hooks: tuple[Any, ...]) -> Forward:
    count = len(batch.members)
    if batch.area is None:
        joined = x if count == 1 else x.repeat(count, 1, 1, 1)
    else:
        joined = torch.cat([region.crop(x) for _, region in batch.members])
    level = torch.full((joined.shape[0],), sigma, device=x.device)
    return Forward(joined, level, batch.context, batch.extra, batch.controls, hooks)
