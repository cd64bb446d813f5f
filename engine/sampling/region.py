"""Conditioning entries made concrete for one latent: context rows, place, weight and active noise levels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from engine.sampling.space import cells, rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.types import Cond, NoiseSchedule

Area: TypeAlias = tuple[int, int, int, int]
"""A rectangle in latent cells: height, width, top, left."""

FEATHER = 8
"""Width in latent cells of the ramp at the inner edges of an area."""

SMALLEST_BOUNDS = 8
"""Latent cells that the bounds of a mask span at least, along each side."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One conditioning entry for a latent of B samples.

    Attributes:
        context: [B, T, D] cross-attention context on the model's device.
        extra: Further tensors of the family, B rows each.
        area: Where the network runs; None for everywhere.
        weight: Weight of its answer: a number, or [B, 1, h, w] over the area.
        first_sigma: Highest noise level at which it is active.
        last_sigma: Lowest noise level at which it is active.
        controls: What steers the network from beside it.
    """

    context: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    area: Area | None = None
    weight: float | Tensor = 1.0
    first_sigma: float = float("inf")
    last_sigma: float = 0.0
    controls: tuple[Any, ...] = ()

    def is_active(self, sigma: float) -> bool:
        """Whether it takes part at noise level `sigma`."""
        return self.last_sigma <= sigma <= self.first_sigma

    def crop(self, x: Tensor) -> Tensor:
        """The part of `x` where it applies, as a view."""
        return _cut(x, self.area)


def regions(
    sides: Sequence[Sequence[Cond]], shape: Sequence[int], schedule: NoiseSchedule, device: torch.device
) -> tuple[tuple[Region, ...], ...]:
    """Make lists of entries concrete, so that all cover the same areas.

    Args:
        sides: The entries of each conditioning that guides.
        shape: Of the latent, (B, C, h, w).
        schedule: Gives the noise levels of timestep ranges.
        device: Where the network computes.

    Returns:
        The regions of each. For every area in one list that another lacks, the other has gained a region with that area,
        taken from its smallest entry that contains it.
    """
    height, width = int(shape[-2]), int(shape[-1])
    placed = [[_placed(cond, height, width) for cond in side] for side in sides]
    for side in placed:
        for cond in tuple(side):
            for other in placed:
                if other is not side:
                    _cover(other, cond)
    return tuple(tuple(_region(cond, shape, schedule, device) for cond in side) for side in placed)


def with_shared_controls(positive: Sequence[Cond], others: Sequence[Cond]) -> list[Cond]:
    """`others` steered by the controls of `positive` that ask for it, unless one of them is steered already.

    The controls of the first such entry go to the first of `others`, those of the next to the next, and so on around.
    Entries with an area are left alone.
    """
    asking = [cond for cond in positive if cond.options.get("controls_negative") and "area" not in cond.options]
    free = [i for i, cond in enumerate(others) if "area" not in cond.options]
    if not free or any(others[i].options.get("controls") for i in free):
        return list(others)
    shared = list(others)
    for n, cond in enumerate(asking):
        place = free[n % len(free)]
        shared[place] = others[place].with_options(controls=cond.options.get("controls", ()))
    return shared


def _placed(cond: Cond, height: int, width: int) -> Cond:
    """`cond` with its area in latent cells, and its mask [B, h, w] at the size of the latent."""
    options = dict(cond.options)
    area = options.get("area")
    if area is not None and area[0] == "percentage":
        _, tall, wide, top, left = area
        options["area"] = (
            max(1, round(tall * height)),
            max(1, round(wide * width)),
            round(top * height),
            round(left * width),
        )
    mask = options.get("mask")
    if mask is not None:
        mask = cells(mask, height, width)[:, 0]
        options["mask"] = mask
        if options.get("set_area_to_bounds"):
            options["area"] = _bounds(mask)
    return replace(cond, options=options)


def _bounds(mask: Tensor) -> Area:
    """The rectangle around everything that `mask` [B, h, w] covers."""
    covered = mask.abs().amax(dim=0) > 0
    down, across = covered.any(dim=1).nonzero().flatten().tolist(), covered.any(dim=0).nonzero().flatten().tolist()
    if not down:
        return (SMALLEST_BOUNDS, SMALLEST_BOUNDS, 0, 0)
    return (
        max(SMALLEST_BOUNDS, down[-1] - down[0] + 1),
        max(SMALLEST_BOUNDS, across[-1] - across[0] + 1),
        down[0],
        across[0],
    )


def _cover(others: list[Cond], cond: Cond) -> None:
    """Append to `others` an entry with the area of `cond`, unless there is one."""
    area = cond.options.get("area")
    if area is None:
        return
    whole = (float("inf"), float("inf"), 0, 0)
    around = [other for other in others if _contains(other.options.get("area") or whole, area)]
    if not around:
        return
    nearest = min(around, key=lambda other: _size(other.options.get("area") or whole))
    if nearest.options.get("area") != area:
        others.append(replace(nearest, options=cond.options))


def _contains(outer: Sequence[float], inner: Sequence[float]) -> bool:
    return all(
        outer[axis + 2] <= inner[axis + 2] and outer[axis] + outer[axis + 2] >= inner[axis] + inner[axis + 2] for axis in (0, 1)
    )


def _size(area: Sequence[float]) -> float:
    return area[0] * area[1]


def _region(cond: Cond, shape: Sequence[int], schedule: NoiseSchedule, device: torch.device) -> Region:
    batch, (height, width) = int(shape[0]), (int(shape[-2]), int(shape[-1]))
    options = cond.options
    area = options.get("area")
    if area is not None:
        tall, wide, top, left = area
        area = (min(tall, height - top), min(wide, width - left), top, left)
        if area[0] < 1 or area[1] < 1:
            msg = f"a conditioning area at row {top}, column {left} lies outside the latent of {height} x {width} cells"
            raise ValueError(msg)
    extra = {name: _cut(rows(value.to(device), batch), area) for name, value in cond.extra.items()}
    if cond.pooled is not None:
        extra["pooled"] = rows(cond.pooled.to(device), batch)
    start, end = options.get("start_percent"), options.get("end_percent")
    return Region(
        context=rows(cond.tokens.to(device), batch),
        extra=extra,
        area=None if area == (height, width, 0, 0) else area,
        weight=_weight(options, area, shape, device),
        first_sigma=float("inf") if start is None else schedule.percent_to_sigma(start),
        last_sigma=0.0 if end is None else schedule.percent_to_sigma(end),
        controls=options.get("controls", ()),
    )


def _cut(tensor: Tensor, area: Area | None) -> Tensor:
    """The part of a map [B, C, h, w] that lies in `area`; other tensors stay whole."""
    if area is None or tensor.ndim != 4:
        return tensor
    height, width, top, left = area
    return tensor[:, :, top : top + height, left : left + width]


def _weight(options: Mapping[str, object], area: Area | None, shape: Sequence[int], device: torch.device) -> float | Tensor:
    """The weight of an entry: strength times mask, or times a ramp at the inner edges of its area."""
    height, width = int(shape[-2]), int(shape[-1])
    strength = float(options.get("strength", 1.0))  # type: ignore[arg-type]
    mask = options.get("mask")
    tall, wide, top, left = area or (height, width, 0, 0)
    if isinstance(mask, Tensor):
        amount = mask.to(device) * (strength * float(options.get("mask_strength", 1.0)))  # type: ignore[arg-type]
        return rows(amount[:, None, top : top + tall, left : left + wide], int(shape[0]))
    if area is None:
        return strength
    down = _ramp(tall, at_start=top > 0, at_end=top + tall < height)
    across = _ramp(wide, at_start=left > 0, at_end=left + wide < width)
    return (strength * down[:, None] * across[None, :]).to(device)[None, None]


def _ramp(size: int, *, at_start: bool, at_end: bool) -> Tensor:
    """[size] ones that rise linearly at the chosen ends."""
    ramp = torch.ones(size)
    length = min(FEATHER, size // 4)
    rise = torch.arange(1, length + 1) / length if length else torch.empty(0)
    if at_start:
        ramp[:length] *= rise
    if at_end:
        ramp[size - length :] *= rise.flip(0)
    return ramp
