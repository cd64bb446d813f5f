"""Controls: pictures that steer a denoising network through another network beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

from engine.errors import UnsupportedModel
from engine.models.detect import TITLES

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.network import DiffusionModel
    from engine.models.unet import Residuals
    from engine.types import NoiseSchedule

FACTOR = 8
"""Pixels of the picture for each latent cell, along one side."""

KEPT_SIZES = 8
"""For how many sizes of latent what a picture gives is kept."""


class SideNetwork(Protocol):
    """What a control asks to steer by: a ControlNet, a T2I-adapter, or what makes a ControlNet of a model."""

    port_type: ClassVar[str] = "CONTROL_NET"

    @property
    def family(self) -> str:
        """Family of the networks that it was made for."""

    @property
    def source(self) -> str:
        """The file that it came from."""

    def with_kind(self, kind: int | None) -> SideNetwork:
        """The same for pictures of a kind, by its number; one that knows a single kind takes no notice.

        Raises:
            UnsupportedModel: if it does not know that kind.
        """

    def upon(self, model: DiffusionModel) -> Steering:
        """What steers `model`."""


class Steering(Protocol):
    """A network that steers."""

    def shown(self, image: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
        """What it makes of pictures [B, C, H, W] for latents of `height` x `width` cells: B rows each."""

    def residuals(
        self, shown: tuple[Tensor, ...], x: Tensor, timestep: Tensor, context: Tensor, vector: Tensor | None
    ) -> Residuals:
        """What it adds in one pass.

        Args:
            shown: What it made of the pictures, one row or R rows each.
            x: [R, C, h, w] scaled latents.
            timestep: [R].
            context: [R, T, D].
            vector: [R, A] or None.
        """


class Kept:
    """What a picture gave, by the size of the latent."""

    __slots__ = ("by_size",)

    def __init__(self) -> None:
        self.by_size: dict[tuple[int, int], tuple[Tensor, ...]] = {}


@dataclass(frozen=True, eq=False)
class Control:
    """A picture that steers by a network: a value in `Cond.options["controls"]`.

    Attributes:
        net: The network.
        image: [B, H, W, C] pictures, of any size; latent i of a batch is steered by picture i modulo B.
        strength: Factor of what is added.
        start_percent: Share of sampling after which it begins.
        end_percent: Share of sampling after which it ends.
        groups: How many conditionings follow one another in the rows of a pass.
    """

    net: SideNetwork
    image: Tensor
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    groups: int = 1
    _kept: Kept = field(default_factory=Kept, repr=False)

    def among(self, groups: int) -> Control:
        """The same for passes of the rows of several conditionings, one after another."""
        return self if groups == self.groups else replace(self, groups=groups)

    def require(self, family: str) -> None:
        """Raise unless it was made for networks of `family`.

        Raises:
            UnsupportedModel: naming both families.
        """
        if self.net.family != family:
            made, asked = (TITLES.get(name, name) for name in (self.net.family, family))
            msg = f"cannot steer a {asked} model by {self.net.source}: it was made for {made}; use a network of one family"
            raise UnsupportedModel(msg)

    def is_active(self, schedule: NoiseSchedule, sigma: float) -> bool:
        """Whether it takes part in a pass at noise level `sigma`."""
        return schedule.percent_to_sigma(self.end_percent) <= sigma <= schedule.percent_to_sigma(self.start_percent)

    def residuals(
        self, model: DiffusionModel, x: Tensor, timestep: Tensor, context: Tensor, vector: Tensor | None
    ) -> Residuals:
        """What it adds to the network in one pass; see `hooks.Control.residuals`."""
        net = self.net.upon(model)
        shown = tuple(self._rows(part, x.shape[0]) for part in self._shown(net, x.shape[-2], x.shape[-1]))
        return net.residuals(shown, x, timestep, context, vector).scaled(self.strength, x.dtype)

    def hook(self, x: Tensor) -> None:
        """It leaves the network itself as it is."""

    def _shown(self, net: Steering, height: int, width: int) -> tuple[Tensor, ...]:
        kept = self._kept.by_size
        if (height, width) not in kept:
            while len(kept) >= KEPT_SIZES:
                kept.pop(next(iter(kept)), None)
            kept[height, width] = net.shown(self.image[..., :3].movedim(-1, 1), height, width)
        return kept[height, width]

    def _rows(self, part: Tensor, count: int) -> Tensor:
        """`part` [B, ...] for `count` rows: B is repeated to the rows of one conditioning, that to the others."""
        if part.shape[0] == 1:
            return part
        each = count // self.groups
        part = part.repeat(-(-each // part.shape[0]), 1, 1, 1)[:each]
        return part.repeat(self.groups, 1, 1, 1)
