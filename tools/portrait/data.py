"""The painted pictures on disk: shards of a thousand seeds, drawn once and read by every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tools.portrait.paint import pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SHARD = 1000
HELD_OUT_SEED = 1_000_000


def draw(folder: Path, shards: Sequence[int]) -> None:
    """Draw the missing shards; shard k holds the portraits of seeds 1000 k to 1000 k + 999."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in shards:
        path = folder / f"{k:03d}.npy"
        if path.exists():
            continue
        part = path.with_suffix(".part.npy")
        np.save(part, pictures(range(k * SHARD, (k + 1) * SHARD)))
        part.replace(path)
        print(f"drawn {path.name}", flush=True)


def shard(folder: Path, k: int) -> Tensor:
    """One finished shard, [1000, 3, 128, 128] uint8."""
    return torch.from_numpy(np.load(folder / f"{k:03d}.npy")).permute(0, 3, 1, 2).contiguous()


def load(folder: Path) -> tuple[Tensor, list[int]]:
    """All finished shards.

    Returns:
        Pictures, [n, 3, 128, 128] uint8, and the seed of each.

    Raises:
        FileNotFoundError: if no shard was drawn.
    """
    paths = sorted(p for p in folder.glob("*.npy") if p.stem.isdigit())
    if not paths:
        msg = f"no painted shards in {folder}; run `python -m tools.portrait paint` first"
        raise FileNotFoundError(msg)
    stacks = [torch.from_numpy(np.load(p)).permute(0, 3, 1, 2).contiguous() for p in paths]
    seeds = [int(p.stem) * SHARD + i for p in paths for i in range(SHARD)]
    return torch.cat(stacks), seeds


def held_out(n: int) -> Tensor:
    """Drawings no training stage sees, [n, 3, 128, 128] uint8."""
    return torch.from_numpy(pictures(range(HELD_OUT_SEED, HELD_OUT_SEED + n))).permute(0, 3, 1, 2).contiguous()


def to_signed(pictures_u8: Tensor) -> Tensor:
    """uint8 pixels to float32 in [-1, 1], same shape."""
    return pictures_u8.float() / 127.5 - 1


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal to noise in dB per picture of two batches in [-1, 1], [n]."""
    mse = ((a.clamp(-1, 1) - b.clamp(-1, 1)) ** 2).flatten(1).mean(1)
    return 10 * torch.log10(4 / mse)
