"""Merging: a model whose weights are sums of its own and another one's.

A merge is a patch like any other. It refers to the other weights, patched as they are, and reads each of them when the
merged network is made; the other network itself is never built.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from engine.errors import UnsupportedModel
from engine.models.detect import TITLES
from engine.models.layout import original_unet_names
from engine.models.network import DiffusionModel
from engine.models.text import ClipTextEncoder
from engine.models.weights import Patch, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from engine.models.weights import Weights

    Shares = tuple[float, float]
    """What counts of a weight, and of the other one."""

Part = TypeVar("Part", DiffusionModel, ClipTextEncoder)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Blend:
    """The change own * W + share * V.

    Attributes:
        other: The weights that V is one of.
        name: Which one.
        own: Factor of the weight.
        share: Factor of the other one.
    """

    other: Weights
    name: str
    own: float
    share: float

    def __call__(self, weight: Tensor) -> Tensor:
        """The sum; where it is the other weight alone, that tensor itself."""
        value = self.other.value(self.name).to(weight.device)
        if self.own == 0:
            return value if self.share == 1 else value * self.share
        return (weight * self.own).add_(value, alpha=self.share)


def merged(part: Part, other: Part, shares: Shares | Callable[[Iterable[str]], Mapping[str, Shares]]) -> Part:
    """`part` with every weight mixed with that of `other`; everything else is that of `part`.

    A weight that has another shape in `other`, or is not there, stays as it is, with a warning.

    Args:
        part: A network or a text encoder.
        other: The same of another file.
        shares: What counts of each; or names of weights to that.

    Raises:
        UnsupportedModel: if they are of different families.
    """
    what = "denoising network" if isinstance(part, DiffusionModel) else "text encoder"
    if part.family != other.family:
        titles = " and ".join(TITLES.get(family, family) for family in (part.family, other.family))
        msg = f"cannot merge two {what}s of different families: {titles}"
        raise UnsupportedModel(msg)
    tensors, others = part.weights.tensors, other.weights.tensors
    fitting = [name for name, tensor in tensors.items() if name in others and others[name].shape == tensor.shape]
    if left := [name for name in tensors if name not in set(fitting)]:
        stay = "1 weight stays as it is" if len(left) == 1 else f"{len(left)} weights stay as they are"
        _log.warning("%s, the other %s has none of that shape: %s", stay, what, named(left))
    of = shares(tensors) if callable(shares) else dict.fromkeys(fitting, shares)
    changes = {name: Blend(other.weights, name, *of[name]) for name in fitting if of[name] != (1, 0)}
    return part.with_patch(Patch(changes, f"merge with {other.weights.source}")) if changes else part


def by_block(ratios: Mapping[str, float]) -> Callable[[Iterable[str]], Mapping[str, Shares]]:
    """Shares of a network's weights by what their original names begin with; the rest is the other model's.

    Args:
        ratios: Start of an original name, such as `input_blocks.1.`, to how much counts of the first model. The longest
            start counts; weights that none fits stay as they are.
    """
    return partial(_by_block, ratios)


def _by_block(ratios: Mapping[str, float], names: Iterable[str]) -> Mapping[str, Shares]:
    def shares(original: str) -> Shares:
        own = ratios[max((start for start in ratios if original.startswith(start)), key=len)]
        return own, 1 - own

    ratios = {"": 1.0, **ratios}
    return {name: shares(original) for name, original in original_unet_names(names).items()}
