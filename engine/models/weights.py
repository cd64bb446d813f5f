"""Weights of one network: shared tensors, patches on top, and the module that they fill.

A patch never touches the tensors that it starts from. A value with patches builds its own module, which holds the
shared tensors themselves and new ones only where a patch changes something; so a LoRA costs the memory of what it
changes, and taking it off costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import torch
    from torch import Tensor
    from torch.nn import Module

NAMED_LIMIT = 10
"""How many tensors a message names."""


class Change(Protocol):
    """What a patch does to one weight."""

    def __call__(self, weight: Tensor) -> Tensor:
        """The changed weight.

        Args:
            weight: float32, on the device of the network; not to be written to.

        Returns:
            float32 of the same shape, a new tensor.
        """


@dataclass(frozen=True, eq=False)
class Patch:
    """Changes to the weights of one network.

    Attributes:
        changes: Name of a weight to what happens to it.
        label: What it is, for messages.
    """

    changes: Mapping[str, Change]
    label: str = ""


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of one network and how to build it.

    Attributes:
        source: The file that they came from.
        build: Makes the module on the meta device, in the layout of `tensors`.
        tensors: Name to tensor, all on one device and in one format.
        precision: A narrower format whose numbers the weights are limited to, or None.
    """

    source: str
    build: Callable[[], Module]
    tensors: Mapping[str, Tensor]
    precision: torch.dtype | None = None

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.tensors.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Their number format."""
        return next(iter(self.tensors.values())).dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors; a memory-mapped file counts with the tensors that are used."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def module(self, patches: Iterable[Patch] = ()) -> Module:
        """The network with `patches` applied in order; unpatched weights are shared, not copied.

        Buffers that no file holds stay on the meta device.
        """
        import torch

        patched: dict[str, Tensor] = {}
        with torch.no_grad():
            for patch in patches:
                for name, change in patch.changes.items():
                    patched[name] = change(patched[name] if name in patched else self.tensors[name].float())
        changed = {name: tensor.to(self.precision or self.dtype).to(self.dtype) for name, tensor in patched.items()}
        module = self.build()
        module.load_state_dict({**self.tensors, **changed}, assign=True)
        return module.requires_grad_(requires_grad=False).eval()


def fill(
    build: Callable[[], Module],
    tensors: Mapping[str, Tensor],
    *,
    file: str,
    part: str,
    device: torch.device,
    dtype: torch.dtype,
    precision: torch.dtype | None = None,
) -> Weights:
    """Check `tensors` against the module that `build` makes, and bring them to `device` and `dtype` one by one.

    A tensor that already is there is taken as it is, so a memory-mapped float32 file is not copied on the CPU.
    With `precision` the numbers are rounded to that format first.

    A [C, D, 1, 1] tensor serves a [C, D] weight: original files keep some linear layers as 1x1 convolutions.

    Raises:
        ModelFileError: naming every missing, unexpected and mis-shaped tensor.
    """
    try:
        expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    except (ValueError, ZeroDivisionError, RuntimeError) as cause:
        msg = f"cannot build the {part}: the sizes of its tensors fit no network ({cause})"
        raise ModelFileError(msg, file=file) from cause
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unexpected" for name in tensors if name not in expected]
    ready: dict[str, Tensor] = {}
    for name, shape in expected.items():
        if (tensor := tensors.get(name)) is None:
            continue
        if tuple(tensor.shape) == (*shape, 1, 1):
            tensor = tensor.reshape(shape)
        if tuple(tensor.shape) != shape:
            problems.append(f"{name} is {list(tensor.shape)} instead of {list(shape)}")
        elif not tensor.is_floating_point():
            problems.append(f"{name} holds {tensor.dtype} instead of floating-point numbers")
        elif not problems:
            ready[name] = tensor.to(device, precision or dtype).to(dtype)
    if problems:
        raise mismatch(problems, file=file, part=part)
    return Weights(file, build, ready, precision)


def mismatch(problems: list[str], *, file: str, part: str, noun: str = "tensor") -> ModelFileError:
    """One error for every tensor (or layer) of a `part` that is not as it should be."""
    more = f" and {len(problems) - NAMED_LIMIT} more" if len(problems) > NAMED_LIMIT else ""
    count = f"{len(problems)} {noun}{'s do' if len(problems) > 1 else ' does'} not fit"
    return ModelFileError(f"cannot load the {part}: {count}: {'; '.join(problems[:NAMED_LIMIT])}{more}", file=file)


def meta_module(make: Callable[..., Any], *arguments: Any, **options: Any) -> Module:
    """`make(...)` without memory for its weights."""
    import torch

    with torch.device("meta"):
        module: Module = make(*arguments, **options)
    return module
