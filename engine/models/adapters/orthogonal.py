"""OFT and BOFT: rotations of a weight's rows.

A skew-symmetric matrix Q gives the rotation (I + Q)(I - Q)^-1. OFT rotates rows in blocks that follow each other; BOFT in
several stages of blocks that lie ever further apart, as a butterfly network does. Alpha is no scale here: times the number
of rows it bounds the size of Q where it is above 0.

Source: Qiu et al. 2023, arXiv:2306.07280, section 3 (Cayley's parametrization, constraint); Liu et al. 2023,
arXiv:2311.06243, section 4 (butterfly). Order of rows and blocks: as LyCORIS stores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from engine.models.adapters.change import here, misfit

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.adapters.change import Factors

_ROLES = frozenset({"oft_blocks", "rescale"})


@dataclass(frozen=True, eq=False)
class Rotation:
    """OFT: block k of the rows becomes transpose(R[k]) times itself.

    Attributes:
        blocks: [K, b, b]; Q is each block minus its transpose.
        rescale: [O, 1, ...] factors of the rows, or None.
        limit: Upper bound of the norm of all Q together; 0 is none.
    """

    ROLES: ClassVar = _ROLES
    NEEDED: ClassVar = frozenset({"oft_blocks"})

    blocks: Tensor
    rescale: Tensor | None
    limit: float

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether there are blocks of one stage."""
        return "oft_blocks" in factors and factors["oft_blocks"].ndim == 3

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> Rotation:
        """Make it for a weight of `shape`."""
        blocks, rescale = factors["oft_blocks"], factors.get("rescale")
        count, rows, columns = blocks.shape
        if rows != columns or count * rows != shape[0]:
            raise misfit(shape, oft_blocks=blocks)
        return cls(blocks, _per_row(rescale, shape), _limit(factors, shape))

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains."""
        import torch

        rotations = _rotations(here(self.blocks, weight), self.limit)
        turned = torch.einsum("knm,kni->kmi", rotations, weight.reshape(*self.blocks.shape[:2], -1)).reshape(weight.shape)
        if self.rescale is not None:
            turned = turned * here(self.rescale, weight)
        return (turned - weight).mul_(strength)


@dataclass(frozen=True, eq=False)
class Butterfly:
    """BOFT: stage after stage of rotations.

    Attributes:
        blocks: [S, K, b, b]; Q is each block minus its transpose.
        rescale: [O, 1, ...] factors of the rows, or None.
        limit: Upper bound of the norm of all Q together; 0 is none.
    """

    ROLES: ClassVar = _ROLES
    NEEDED: ClassVar = frozenset({"oft_blocks"})

    blocks: Tensor
    rescale: Tensor | None
    limit: float

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether there are blocks of several stages."""
        return "oft_blocks" in factors and factors["oft_blocks"].ndim == 4

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> Butterfly:
        """Make it for a weight of `shape`."""
        blocks, rescale = factors["oft_blocks"], factors.get("rescale")
        stages, count, rows, columns = blocks.shape
        reach = 2**stages * (rows // 2)
        if rows != columns or rows % 2 or count * rows != shape[0] or shape[0] % max(reach, 1):
            raise misfit(shape, oft_blocks=blocks)
        return cls(blocks, _per_row(rescale, shape), _limit(factors, shape))

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains; each stage goes `strength` of its way."""
        import torch

        stages, count, rows, _ = self.blocks.shape
        identity = torch.eye(rows, device=weight.device)
        rotations = torch.lerp(identity, _rotations(here(self.blocks, weight), self.limit), strength)
        turned = weight.flatten(1) if weight.ndim > 1 else weight[:, None]
        for stage in range(stages):
            apart = 2**stage * (rows // 2)
            paired = turned.reshape(-1, 2, apart, turned.shape[1]).transpose(1, 2).reshape(count, rows, -1)
            turned = (rotations[stage] @ paired).reshape(-1, apart, 2, paired.shape[2]).transpose(1, 2).flatten(0, 2)
        turned = turned.reshape(weight.shape)
        if self.rescale is not None:
            turned = turned * here(self.rescale, weight)
        return turned - weight


def _rotations(blocks: Tensor, limit: float) -> Tensor:
    """[..., b, b] rotations of `blocks`."""
    import torch

    skew = blocks - blocks.transpose(-1, -2)
    if limit > 0 and (size := float(skew.norm())) > limit:
        skew = skew * (limit / size)
    identity = torch.eye(skew.shape[-1], device=skew.device)
    made: Tensor = torch.linalg.solve(identity - skew, identity + skew, left=False)
    return made


def _per_row(rescale: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    if rescale is None:
        return None
    if rescale.numel() != shape[0]:
        raise misfit(shape, rescale=rescale)
    return rescale.reshape(-1, *[1] * (len(shape) - 1))


def _limit(factors: Factors, shape: tuple[int, ...]) -> float:
    alpha = factors.get("alpha")
    return float(alpha) * shape[0] if alpha is not None else 0.0
