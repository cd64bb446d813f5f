"""Weights of one network: shared tensors, patches on top, and the module that they fill.

A patch never touches the tensors that it starts from. Weights with patches have their own module, which holds the shared
tensors themselves and new ones only where a patch changes something; so a LoRA costs the memory of what it changes, and
taking it off costs nothing. Modules are copies of one skeleton, which is built once.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import ModelFileError, WeftError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
            float32 of the same shape: a new tensor, or one that nobody will write to.
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


class Made:
    """What patches make anew. It says its size, so that whoever keeps values knows what they hold."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of one network, what changes them, and how to build it. Immutable.

    Attributes:
        source: The file that they came from.
        skeleton: Gives the module on the meta device, in the layout of `tensors`: always the same one, only ever copied.
        tensors: Name to tensor, all on one device and in one format; shared between values.
        precision: A narrower format whose numbers the weights are limited to, or None.
        patches: What changes the tensors, in order.
        made: What the patches make anew once the network is built.
    """

    source: str
    skeleton: Callable[[], Module]
    tensors: Mapping[str, Tensor]
    precision: torch.dtype | None = None
    patches: tuple[Patch, ...] = ()
    made: Made = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Note how much the patches make."""
        object.__setattr__(self, "made", Made(sum(self.tensors[name].nbytes for name in self.changed)))

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the weights that patches change."""
        return tuple(dict.fromkeys(name for patch in self.patches for name in patch.changes))

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
        """Bytes of the tensors and of those that patches make; a memory-mapped file counts with what is used of it."""
        return self.made.nbytes + sum(tensor.nbytes for tensor in self.tensors.values())

    def with_patch(self, patch: Patch) -> Weights:
        """These weights with `patch` after those that they have.

        Raises:
            WeftError: if the patch names a weight that is not there.
        """
        if unknown := [name for name in patch.changes if name not in self.tensors]:
            msg = f"cannot patch the network of {self.source}: it has no weight {unknown[0]!r}"
            raise WeftError(msg)
        return replace(self, patches=(*self.patches, patch))

    def with_dtype(self, dtype: torch.dtype) -> Weights:
        """These weights in another number format; the patches stay."""
        return replace(self, tensors={name: tensor.to(dtype) for name, tensor in self.tensors.items()})

    def value(self, name: str) -> Tensor:
        """One weight with the patches applied, in order: float32, on the device of the tensors; not to be written to."""
        weight = self.tensors[name].float()
        for patch in self.patches:
            if (change := patch.changes.get(name)) is not None:
                weight = change(weight)
        return weight

    def baked(self) -> dict[str, Tensor]:
        """Every weight with the patches applied, in the format that its numbers are limited to."""
        import torch

        kind = self.precision or self.dtype
        with torch.no_grad():
            changed = {name: self.value(name) for name in self.changed}
        return {name: changed.get(name, tensor).to(kind) for name, tensor in self.tensors.items()}

    @functools.cached_property
    def network(self) -> Any:
        """The module, made at first use and kept as long as these weights; unpatched tensors are shared, not copied.

        Buffers that no file holds stay on the meta device.
        """
        import torch

        tensors = dict(self.tensors)
        with torch.no_grad():
            for name in self.changed:
                tensors[name] = self.value(name).to(self.precision or self.dtype).to(self.dtype)
        return _filled(self.skeleton(), tensors)


def _filled(skeleton: Module, tensors: Mapping[str, Tensor]) -> Module:
    """A copy of `skeleton` with `tensors` themselves as its parameters and persistent buffers."""
    from torch.nn import Parameter

    module = _copied(skeleton, {})
    for path, part in module.named_modules(remove_duplicate=False):
        for held in (part._parameters, part._buffers):  # noqa: SLF001 - load_state_dict does the same, twenty times slower
            for name, old in held.items():
                tensor = tensors.get(f"{path}.{name}" if path else name)
                if old is not None and tensor is not None:
                    held[name] = Parameter(tensor, requires_grad=False) if isinstance(old, Parameter) else tensor
    return module


def _copied(module: Module, done: dict[int, Module]) -> Module:
    """`module` and its children as new modules, so that what is set on them stays theirs; tensors are shared.

    `tests/models/test_weights.py` fails for networks whose modules refer to each other by other ways than as children.
    """
    if id(module) not in done:
        new = done[id(module)] = module.__new__(type(module))
        state = {name: value.copy() if type(value) in _OWN else value for name, value in vars(module).items()}
        state["_modules"] = {name: child and _copied(child, done) for name, child in module._modules.items()}  # noqa: SLF001
        vars(new).update(state)
    return done[id(module)]


_OWN: tuple[type[Any], ...] = (dict, OrderedDict, list, set)
"""Containers that each copy of a module has for itself: hooks, parameters, settings."""


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
    skeleton = functools.cache(lambda: build().requires_grad_(requires_grad=False).eval())
    try:
        expected = {name: tuple(tensor.shape) for name, tensor in skeleton().state_dict().items()}
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
    return Weights(file, skeleton, ready, precision)


def mismatch(problems: list[str], *, file: str, part: str, noun: str = "tensor") -> ModelFileError:
    """One error for every tensor (or layer) of a `part` that is not as it should be."""
    count = f"{len(problems)} {noun}{'s do' if len(problems) > 1 else ' does'} not fit"
    return ModelFileError(f"cannot load the {part}: {count}: {named(problems)}", file=file)


def named(things: list[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(things) - NAMED_LIMIT} more" if len(things) > NAMED_LIMIT else ""
    return "; ".join(things[:NAMED_LIMIT]) + more


def meta_module(make: Callable[..., Any], *arguments: Any, **options: Any) -> Module:
    """`make(...)` without memory for its weights."""
    import torch

    with torch.device("meta"):
        module: Module = make(*arguments, **options)
    return module
