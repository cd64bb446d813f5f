"""Rules of guidance: what a model carries to change how answers become one denoised latent. Never imports torch.

At each noise level the network answers the positive and the negative conditioning. Then, in this order,

1. the rules in `pre` change the answers,
2. the rule `combine` makes one latent of them, in place of D_u + (D_c - D_u) * cfg,
3. the rules in `post` change that latent; they may ask the network again.

A rule is a plain function of a `Moment`. One that remembers something from step to step has a method `begun`, which
gives a fresh one for each sampling, so that a model stays the value that it is:

    def blurred(moment: Moment) -> Tensor:
        return blur(moment.denoised)

    def perturbed(moment: Moment) -> Passes:
        worse = yield from moment.positive(hooks=(my_hook,))
        return moment.denoised + (moment.cond - worse) * 3.0

    model.with_rules(Rules(post=(blurred, perturbed)))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engine.sampling.guidance import Passes
    from engine.types import Conditioning, NoiseSchedule

R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What rules see of one noise level.

    Attributes:
        x: [B, C, h, w] the noisy latent in model space.
        sigma: Its noise level.
        cfg: Guidance scale.
        cond: [B, C, h, w] the denoised latent for the positive conditioning.
        uncond: [B, C, h, w] that for the negative one; zeros where `cfg` is 1 and it was not asked for.
        denoised: [B, C, h, w] the result so far; `cond` until the answers are combined.
        has_negative: Whether `uncond` was asked for.
        sides: Places of the positive and of the negative conditioning among those that guide.
        ask: (place or another conditioning, x, hooks) to the passes that answer; `positive`, `negative` and `other` call
            it.
    """

    x: Tensor
    sigma: float
    cfg: float
    cond: Tensor
    uncond: Tensor
    denoised: Tensor
    has_negative: bool
    sides: tuple[int, int]
    ask: Callable[[int | Conditioning, Tensor, tuple[Any, ...]], Passes]

    def positive(self, x: Tensor | None = None, *, hooks: tuple[Any, ...] = ()) -> Passes:
        """Ask the network again for the positive conditioning.

        Args:
            x: [B, C, h, w] another noisy latent at the same level.
            hooks: Changes to the network for these passes alone.
        """
        return self.ask(self.sides[0], self.x if x is None else x, hooks)

    def negative(self, x: Tensor | None = None, *, hooks: tuple[Any, ...] = ()) -> Passes:
        """Ask the network again for the negative conditioning; as `positive`."""
        return self.ask(self.sides[1], self.x if x is None else x, hooks)

    def other(self, conditioning: Conditioning, x: Tensor | None = None, *, hooks: tuple[Any, ...] = ()) -> Passes:
        """Ask the network for a conditioning that does not guide; as `positive`."""
        return self.ask(conditioning, self.x if x is None else x, hooks)


Pre: TypeAlias = Callable[[Moment], Moment]
"""Gives the moment with other answers."""

Combine: TypeAlias = Callable[[Moment], "Tensor | Passes"]
"""Makes one denoised latent of both answers; as a generator it may ask the network again."""

Post: TypeAlias = Callable[[Moment], "Tensor | Passes"]
"""Changes the denoised latent; as a generator it may ask the network again."""

MaskRule: TypeAlias = Callable[["Tensor", float, "Sequence[float]", "NoiseSchedule"], "Tensor"]
"""(noise mask [B, 1, h, w], level, all levels of the sampling, trained levels) to the mask at that level."""


@runtime_checkable
class Remembering(Protocol):
    """A rule that remembers something from one step to the next."""

    def begun(self) -> Any:
        """The same rule with nothing remembered, for one sampling."""


Draw: TypeAlias = Callable[[int, "tuple[int, ...]"], "Tensor"]
"""(n, shape) to whole numbers from 0 to n - 1, int64 on the CPU, the next ones of a sampling."""


class Drawing(Protocol):
    """A change to the network that draws lots while it runs."""

    def begun(self, draw: Draw) -> Any:
        """The hook itself, for one sampling."""


def no_lots(below: int, shape: tuple[int, ...]) -> Tensor:
    """For samplings whose model draws none.

    Raises:
        ValueError: always.
    """
    msg = f"cannot draw {shape} numbers below {below}: nobody draws lots in this sampling"
    raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a model changes about guidance.

    Attributes:
        pre: Change the answers, in order.
        combine: Makes one latent of the answers; None for classifier-free guidance.
        post: Change the result, in order.
        mask: Changes the noise mask from level to level.
        keeps_negative: Whether the negative conditioning is asked for even where the scale is 1.
        hooks: Make the hooks of every pass; for those that draw lots, which begin anew with each sampling.
    """

    pre: tuple[Pre, ...] = ()
    combine: Combine | None = None
    post: tuple[Post, ...] = ()
    mask: MaskRule | None = None
    keeps_negative: bool = False
    hooks: tuple[Drawing, ...] = ()

    def then(self, later: Rules) -> Rules:
        """These rules with later ones after them; there is one `combine` and one `mask`, and the last counts."""
        return Rules(
            pre=self.pre + later.pre,
            combine=later.combine or self.combine,
            post=self.post + later.post,
            mask=later.mask or self.mask,
            keeps_negative=self.keeps_negative or later.keeps_negative,
            hooks=self.hooks + later.hooks,
        )

    def begun(self, draw: Draw = no_lots) -> Rules:
        """These rules with nothing remembered, for one sampling; its hooks draw from `draw`."""
        return Rules(
            pre=tuple(map(_begun, self.pre)),
            combine=_begun(self.combine),
            post=tuple(map(_begun, self.post)),
            mask=self.mask,
            keeps_negative=self.keeps_negative,
            hooks=tuple(hook.begun(draw) for hook in self.hooks),
        )


NO_RULES = Rules()


def _begun(rule: R) -> R:
    fresh: R = rule.begun() if isinstance(rule, Remembering) else rule
    return fresh
