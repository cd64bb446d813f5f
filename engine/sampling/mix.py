"""How the answers to several conditionings become one: classifier-free guidance and its relatives. Never imports torch.

A mix says which conditionings it asks for, and puts their answers together. It guides one side by another through the
function that it is given, because the rules of a model apply there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from engine.sampling.guidance import Forward

Mixed: TypeAlias = Generator["Forward", "Tensor", "tuple[Tensor, Tensor | None]"]
"""Returns the denoised latent, and the answer that it was guided away from, where that was asked for."""

Guided: TypeAlias = Callable[[int, int, float], Mixed]
"""(side to move towards, side to move away from, scale) to the guided latent by the rules of the model."""

Corrected: TypeAlias = Callable[["Tensor", int, int, float], Mixed]
"""(latent, side to move towards, side to move away from, scale) to what the last rules of the model make of it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a mix works with.

    Attributes:
        of: Side to its answer [B, C, h, w]; sides that were not asked for are absent.
        guided: Guides one side by another.
        corrected: Applies the last rules to a latent that was made in another way.
    """

    of: Mapping[int, Tensor]
    guided: Guided
    corrected: Corrected


class Mix(Protocol):
    """A way of guiding."""

    def sides(self, *, every: bool) -> tuple[int, ...]:
        """Which conditionings to ask for, by place; with `every` also those that the scales make needless."""

    def mixed(self, answers: Answers) -> Mixed:
        """The denoised latent."""


@dataclass(frozen=True, slots=True)
class Cfg:
    """Classifier-free guidance: D_u + (D_c - D_u) * scale, of (positive, negative).

    Attributes:
        scale: At 1 the negative conditioning is not asked for.

    Source: Ho and Salimans 2022, arXiv:2207.12598, eq. 6.
    """

    scale: float

    def sides(self, *, every: bool) -> tuple[int, ...]:
        """Both, or the positive one alone."""
        return (0, 1) if every or not _is_one(self.scale) else (0,)

    def mixed(self, answers: Answers) -> Mixed:
        """The positive answer guided by the negative one."""
        return (yield from answers.guided(0, 1, self.scale))


@dataclass(frozen=True, slots=True)
class DualCfg:
    """Two scales over (first, second, negative), as pictures are edited by instruction.

    Attributes:
        first: How far to move from the second conditioning to the first.
        second: How far to move from the negative conditioning to the second.
        nested: Whether the move from the negative one starts at the result of the other, not beside it.

    Source: Brooks et al. 2022 (InstructPix2Pix), arXiv:2211.09800, eq. 3.
    """

    first: float
    second: float
    nested: bool = False

    def sides(self, *, every: bool) -> tuple[int, ...]:
        """All three, but what scales of 1 cancel."""
        if every or self.nested or not _is_one(self.second):
            return (0, 1, 2)
        return (0,) if _is_one(self.first) else (0, 1)

    def mixed(self, answers: Answers) -> Mixed:
        """The sum of both moves, or one upon the other."""
        if self.nested:
            inner, uncond = yield from answers.guided(0, 1, self.first)
            return answers.of[2] + (inner - answers.of[2]) * self.second, uncond
        if 1 not in answers.of:
            return answers.of[0], None
        outer, uncond = yield from answers.guided(1, 2, self.second)
        return outer + (answers.of[0] - answers.of[1]) * self.first, uncond


@dataclass(frozen=True, slots=True)
class PerpNeg:
    """Moves away from the part of (positive, negative, empty)'s negative that does not oppose the positive.

    Attributes:
        scale: Of the whole guidance.
        negative: Of the negative part.

    Source: Armandpour et al. 2023 (Perp-Neg), arXiv:2304.04968, eq. 8.
    """

    scale: float
    negative: float = 1.0

    def sides(self, *, every: bool) -> tuple[int, ...]:
        """All three."""
        del every
        return (0, 1, 2)

    def mixed(self, answers: Answers) -> Mixed:
        """The empty answer, moved along the positive one and across the negative one."""
        positive, negative, empty = (answers.of[side] for side in range(3))
        denoised = perpendicular(positive, negative, empty, self.scale, self.negative)
        return (yield from answers.corrected(denoised, 0, 1, self.scale))


def perpendicular(positive: Tensor, negative: Tensor, empty: Tensor, scale: float, negative_scale: float) -> Tensor:
    """`empty` moved towards `positive`, and away from what of `negative` is at right angles to that.

    Source: Armandpour et al. 2023 (Perp-Neg), arXiv:2304.04968, eq. 8; the angle is that of the whole batch.
    """
    towards, away = positive - empty, negative - empty
    across = away - (away * towards).sum() / towards.square().sum() * towards
    return empty + (towards - across * negative_scale) * scale


def _is_one(scale: Any) -> bool:
    return math.isclose(scale, 1.0)
