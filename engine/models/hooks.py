"""Changes to a network while it runs: what a hook may do, and where.

A hook is a frozen value: a model carries it (`DiffusionModel.with_hook`), or a single pass does. It overrides the methods
that it needs; the others are never called. Nothing is kept between passes, and the shared module is never touched, so
that models with different hooks may run side by side.

Places are counted as in the original checkpoints: input blocks from 0, which is the first convolution, down to the
middle, then output blocks from 0. A level's resampling is an input block of its own on the way down, and belongs to the
last output block of its level on the way up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.network import DiffusionModel
    from engine.models.unet import Residuals
    from engine.types import NoiseSchedule

Side = Literal["input", "middle", "output"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the network, and in which pass.

    Attributes:
        side: On the way down, at the bottom, or on the way up.
        block: Number of the block on its side; 0 in the middle.
        sigma: Noise level of the pass.
        size: (h, w) of the latent.
        cells: (h', w') of the maps at the place.
        transformer: Number of the transformer block within the block.
        attention: `self` or `cross`; empty outside attention.
    """

    side: Side
    block: int
    sigma: float
    size: tuple[int, int]
    cells: tuple[int, int]
    transformer: int = 0
    attention: Literal["self", "cross", ""] = ""


class Hook:
    """A change to a network while it runs. Subclasses are frozen and override what they need.

    Where several hooks change the same, they do so in order; where several replace the same attention, the last does.
    """

    def is_active(self, sigma: float) -> bool:  # noqa: ARG002 - subclasses look at it
        """Whether it takes part in a pass at noise level `sigma`."""
        return True

    def after_input(self, h: Tensor, at: Place) -> Tensor:
        """What an input block gives [R, C, h', w'], both for the next block and for the skip."""
        raise NotImplementedError

    def after_skip(self, h: Tensor, at: Place) -> Tensor:
        """What the next block is given after an input block [R, C, h', w']; the skip is kept already."""
        raise NotImplementedError

    def before_output(self, h: Tensor, skip: Tensor, at: Place) -> tuple[Tensor, Tensor]:
        """What an output block is given: [R, C, h', w'] from below, and the skip [R, C', h', w']."""
        raise NotImplementedError

    def attention_inputs(self, q: Tensor, k: Tensor, v: Tensor, at: Place) -> tuple[Tensor, Tensor, Tensor]:
        """What queries [R, T, D], keys and values [R, T', D'] are projected from."""
        raise NotImplementedError

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int, at: Place) -> Tensor | None:
        """Attention over projected [R, T, D] queries, keys and values, in place of the usual; None for the usual."""
        raise NotImplementedError

    def between_attentions(self, tokens: Tensor, at: Place) -> Tensor:
        """The tokens [R, T, D] after self-attention and before the attention to the prompt."""
        raise NotImplementedError

    def after_attention(self, out: Tensor, at: Place) -> Tensor:
        """What an attention adds to the tokens [R, T, D]."""
        raise NotImplementedError


def overrides(hook: Hook, method: str) -> bool:
    """Whether `hook` does anything in `method`."""
    return getattr(type(hook), method) is not getattr(Hook, method)


class Control(Protocol):
    """What steers a network from beside it: a value in `Cond.options["controls"]`."""

    def require(self, family: str) -> None:
        """Raise unless it was made for networks of `family`.

        Raises:
            UnsupportedModel: naming both families.
        """

    def is_active(self, schedule: NoiseSchedule, sigma: float) -> bool:
        """Whether it takes part in a pass at noise level `sigma`."""

    def residuals(
        self, model: DiffusionModel, x: Tensor, timestep: Tensor, context: Tensor, vector: Tensor | None
    ) -> Residuals:
        """What it adds to the network in one pass.

        Args:
            model: The model that is steered.
            x: [R, C, h, w] scaled latents, without what inpainting models read beside them.
            timestep: [R] what the network is told of the noise.
            context: [R, T, D] cross-attention context.
            vector: [R, A] what the network's additional embedding is given, or None.
        """

    def hook(self, x: Tensor) -> Hook | None:
        """How it changes the network itself in a pass over latents `x` [R, C, h, w], if it does."""
