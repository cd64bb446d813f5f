"""Guidance: one denoised latent out of the network's answers to several conditionings."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from engine.sampling.mix import Answers
from engine.sampling.rules import NO_RULES, Moment, no_lots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.sampling.mix import Mix, Mixed
    from engine.sampling.region import Area, Region
    from engine.sampling.rules import Draw, Rules
    from engine.types import Conditioning

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
    """One denoised latent out of the answers to several lists of regions.

    Each list's answer is the mean of its regions' answers, weighted by strength and place. Regions whose shapes agree go
    through the network in one pass, negative ones first. A mix makes one latent of the answers; where it guides one side
    by another, the rules of the model apply.
    """

    def __init__(
        self,
        sides: Sequence[Sequence[Region]],
        mix: Mix,
        rules: Rules = NO_RULES,
        place: Callable[[Conditioning], Sequence[Region]] | None = None,
        draw: Draw = no_lots,
    ) -> None:
        """Keep what is guided by.

        Args:
            sides: For each conditioning its regions, in the order that `mix` counts them.
            mix: Makes one latent of the answers.
            rules: What the model changes about guidance.
            place: Makes regions of a further conditioning that a rule asks for.
            draw: Gives the lots that the model draws.
        """
        self._mix, self._place = mix, place
        self.rules = None if rules == NO_RULES else rules.begun(draw)
        self._hooks = self.rules.hooks if self.rules else ()
        self._asks_all = rules.keeps_negative
        self._regions = [(side, region) for side, regions in enumerate(sides) for region in regions]
        self._batches: dict[tuple[int, ...], tuple[_Batch, ...]] = {}
        self._others: list[Conditioning] = []
        self._count = len(sides)

    def denoised(self, x: Tensor, sigma: float, *, with_negative: bool = False) -> Passes:
        """The guided denoised latent of `x` at a noise level.

        Args:
            x: [B, C, h, w] noisy latent.
            sigma: Its level.
            with_negative: Whether the answer to the negative conditioning is wanted too.

        Returns:
            [B, C, h, w], or with the negative answer [2, B, C, h, w]: first the guided one, then the negative one.
        """
        sides = self._mix.sides(every=with_negative or self._asks_all)
        of = dict(zip(sides, (yield from self._answers(x, sigma, sides)), strict=True))
        level = _Level(self, x, sigma, of)
        denoised, uncond = yield from self._mix.mixed(Answers(of, level.guided, level.corrected))
        return torch.stack((denoised, uncond)) if with_negative and uncond is not None else denoised

    @property
    def is_bound(self) -> bool:
        """Whether it holds places or maps of one size of latents: areas, masks, pictures beside the latent."""
        return any(
            region.area is not None
            or isinstance(region.weight, Tensor)
            or any(value.ndim == 4 for value in region.extra.values())
            for _, region in self._regions
        )

    def asked(self, what: int | Conditioning, x: Tensor, sigma: float, hooks: tuple[Any, ...]) -> Passes:
        """The answer to one conditioning: the place of one that guides, or another one."""
        side = what if isinstance(what, int) else self._side(what)
        (answer,) = yield from self._answers(x, sigma, (side,), hooks)
        return answer

    def _side(self, conditioning: Conditioning) -> int:
        """The place of a further conditioning, made concrete when it is first asked for."""
        known = next((i for i, other in enumerate(self._others) if other is conditioning), None)
        if known is None:
            if self._place is None:
                msg = "cannot ask for another conditioning: this guidance cannot place one"
                raise ValueError(msg)
            known = len(self._others)
            self._others.append(conditioning)
            self._regions += [(self._count + known, region) for region in self._place(conditioning)]
        return self._count + known

    def _answers(
        self, x: Tensor, sigma: float, sides: Sequence[int], hooks: tuple[Any, ...] = ()
    ) -> Generator[Forward, Tensor, tuple[Tensor, ...]]:
        """For each of `sides` the mean answer of its regions."""
        active = tuple(i for i, (side, region) in enumerate(self._regions) if side in sides and region.is_active(sigma))
        batches = self._batches.get(active)
        if batches is None:
            batches = self._batches[active] = _batched([self._regions[i] for i in active])
        if len(batches) == 1 and batches[0].is_plain(sides):
            answers = yield _forward(batches[0], x, sigma, (*self._hooks, *hooks))
            return tuple(answers.chunk(len(sides)))[::-1]
        totals = {side: (torch.zeros_like(x), torch.full_like(x, TINY)) for side in sides}
        for batch in batches:
            answers = yield _forward(batch, x, sigma, (*self._hooks, *hooks))
            for (side, region), answer in zip(batch.members, answers.chunk(len(batch.members)), strict=True):
                total, weights = totals[side]
                region.crop(total).add_(answer * region.weight)
                region.crop(weights).add_(region.weight)
        return tuple(total / weights for total, weights in totals.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """The answers at one noise level, and what guides by them."""

    guidance: Guidance
    x: Tensor
    sigma: float
    of: Mapping[int, Tensor]

    def guided(self, positive: int, negative: int, scale: float) -> Mixed:
        """One side guided by another, by the rules of the model."""
        cond, uncond, rules = self.of[positive], self.of.get(negative), self.guidance.rules
        if rules is None:
            return cond if uncond is None else _guided(cond, uncond, scale), uncond
        moment = self._moment(cond, positive, negative, scale)
        for pre in rules.pre:
            moment = pre(moment)
        combined = rules.combine(moment) if rules.combine else _guided(moment.cond, moment.uncond, scale)
        moment = replace(moment, denoised=(yield from _passed(combined)))
        return (yield from self._after(moment))

    def corrected(self, denoised: Tensor, positive: int, negative: int, scale: float) -> Mixed:
        """What the last rules make of a latent."""
        return (yield from self._after(self._moment(denoised, positive, negative, scale)))

    def _moment(self, denoised: Tensor, positive: int, negative: int, scale: float) -> Moment:
        cond = self.of[positive]
        has_negative = negative in self.of
        uncond = self.of[negative] if has_negative else torch.zeros_like(cond)

        def ask(what: int | Conditioning, x: Tensor, hooks: tuple[Any, ...]) -> Passes:
            return self.guidance.asked(what, x, self.sigma, hooks)

        return Moment(self.x, self.sigma, scale, cond, uncond, denoised, has_negative, (positive, negative), ask)

    def _after(self, moment: Moment) -> Mixed:
        rules = self.guidance.rules
        for post in rules.post if rules else ():
            moment = replace(moment, denoised=(yield from _passed(post(moment))))
        return moment.denoised, moment.uncond


def _guided(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    return torch.add(uncond, cond - uncond, alpha=scale)


def _passed(result: Tensor | Passes) -> Passes:
    """What a rule gave: a latent, or passes that end in one."""
    return (yield from result) if isinstance(result, Generator) else result


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
        controls=tuple(control.among(len(members)) for control in members_regions[0].controls),
    )


def _forward(batch: _Batch, x: Tensor, sigma: float, hooks: tuple[Any, ...]) -> Forward:
    count = len(batch.members)
    if batch.area is None:
        joined = x if count == 1 else x.repeat(count, 1, 1, 1)
    else:
        joined = torch.cat([region.crop(x) for _, region in batch.members])
    level = torch.full((joined.shape[0],), sigma, device=x.device)
    return Forward(joined, level, batch.context, batch.extra, batch.controls, hooks)
