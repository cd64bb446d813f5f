"""Train with several single-threaded processes that average their gradients.

On few cores this is faster than one process with as many threads: threads wait for one another at every operation,
processes once a step.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Team:
    """The processes that train one model; alone where there is no process group."""

    def __init__(self) -> None:
        self.size = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0

    def generator(self, seed: int, step: int) -> torch.Generator:
        """Randomness of this process from `step` on."""
        return torch.Generator().manual_seed(seed + 1_000 * self.rank + 1_000_000 * step)

    @property
    def leads(self) -> bool:
        """Whether this process prints and saves."""
        return self.rank == 0

    def average(self, params: Iterable[nn.Parameter], progress: float) -> float:
        """Replace gradients by their mean over the team.

        Returns:
            The progress of the first process, so that all stop at the same step.
        """
        if self.size == 1:
            return progress
        grads = [p.grad for p in params if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in grads), torch.tensor([progress if self.leads else 0.0])])
        dist.all_reduce(flat)
        told = float(flat[-1])
        for g, mean in zip(grads, (flat[:-1] / self.size).split([g.numel() for g in grads]), strict=True):
            g.copy_(mean.view_as(g))
        return told


def run(workers: int, stage: Callable[..., None], *args: Any, **options: Any) -> None:
    """Run a training stage in `workers` processes (in this one if it is one)."""
    if workers == 1:
        stage(*args, **options)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_worker, (workers, port, stage, args, options), nprocs=workers)


def _worker(
    rank: int, size: int, port: int, stage: Callable[..., None], args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    stage(*args, **options)
    dist.destroy_process_group()
