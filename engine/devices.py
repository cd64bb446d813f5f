"""Devices: the only module that asks torch what there is.

Nothing is asked at import. `prepare` is called before transformers, diffusers or spandrel are imported: they import
torchvision where it is installed, and a torchvision that was built for another torch fails there.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import WeftError

if TYPE_CHECKING:
    import torch

Role = Literal["unet", "text", "vae"]
"""What a network is for; the number format differs."""

SPINS = 2000
"""How often a thread of torch's looks for work before it sleeps: some ten microseconds."""

_WAITING = frozenset({"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"})
"""What people set to decide that themselves."""

_BOXES = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_WINDOW = (
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w,"
    " SymInt groups, SymInt offset_groups, bool use_mask"
)
_TORCHVISION_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({_BOXES}, int sampling_ratio, bool aligned) -> Tensor",
    f"qroi_align({_BOXES}, int sampling_ratio, bool aligned) -> Tensor",
    f"roi_pool({_BOXES}) -> (Tensor, Tensor)",
    f"ps_roi_align({_BOXES}, int sampling_ratio) -> (Tensor, Tensor)",
    f"ps_roi_pool({_BOXES}) -> (Tensor, Tensor)",
    f"deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_WINDOW}) -> Tensor",
)
"""Schemas of torchvision's operators: https://github.com/pytorch/vision, torchvision/csrc/ops."""

_kept: list[Any] = []
"""Operator libraries: a definition lives only as long as its library object."""

_prepared = False
_preparing = threading.Lock()


def pick(name: str = "auto") -> torch.device:
    """The device that `name` means.

    Args:
        name: `auto` (the first accelerator, else the CPU), `cpu`, `mps`, `cuda`, `cuda:1`, ...

    Raises:
        WeftError: if there is no such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as cause:
        msg = f"cannot compute on {name!r}: no device has that name; use auto, cpu, mps or cuda:N"
        raise WeftError(msg) from cause
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = device.index or 0
        if index >= count:
            msg = f"cannot compute on {name!r}: torch {torch.__version__} sees {count} CUDA devices; use auto or cpu"
            raise WeftError(msg)
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        msg = f"cannot compute on {name!r}: this machine has no Metal device; use auto or cpu"
        raise WeftError(msg)
    return device


def pick_dtype(device: torch.device, role: Role, name: str = "auto") -> torch.dtype:
    """The number format for a network of `role` on `device`.

    On `auto` the CPU computes in float32, accelerators in float16; a VAE always in float32, as half precision shows in
    flat colours and overflows in some VAEs.

    Args:
        device: Where the network computes.
        role: What it is for.
        name: `auto`, `float32`, `float16` or `bfloat16`; anything but `auto` is taken as it is.

    Raises:
        WeftError: if `name` is no number format to compute in.
    """
    import torch

    named = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name in named:
        return named[name]
    if name != "auto":
        msg = f"cannot compute in {name!r}: use auto, {', '.join(named)}"
        raise WeftError(msg)
    return torch.float32 if device.type == "cpu" or role == "vae" else torch.float16


def free_bytes(device: torch.device) -> int | None:
    """Bytes that a new tensor on `device` may take, or None where that is unknown.

    On CUDA this counts what torch holds in reserve as free.
    """
    import torch

    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    table = Path("/proc/meminfo")
    if device.type != "cpu" or not table.exists():
        return None
    fields = dict(line.split(":", 1) for line in table.read_text("ascii").splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a device has no memory left."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "MPS backend out of memory" in text)


def release(device: torch.device) -> None:
    """Give memory that torch keeps in reserve on `device` back to it."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def share_cores() -> None:
    """Let torch's threads wait for each other a short time instead of a long one. To be called before torch is loaded.

    Threads that wait hold their cores. Where other programs want those, every step of a small model then waits for
    threads that do not run: three processes on two cores sampled some 20 times slower each than with a short wait, while
    a process alone loses about 15 percent with a model of 30 MB. What the environment says already stays.
    """
    if not _WAITING & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def prepare() -> None:
    """Make importing transformers, diffusers and spandrel safe, whether torchvision is absent, broken or sound.

    A torchvision whose compiled part does not fit this torch fails at import, as it registers against operators that
    nobody defined. Weft needs none of them, so their schemas are defined and the import is tried again; if that fails
    too, torchvision counts as absent for this process. Idempotent; threads wait for the first that calls.
    """
    global _prepared  # noqa: PLW0603 - whether this process was prepared is a fact about the process
    with _preparing:
        if not _prepared:
            _prepare()
            _prepared = True


def _prepare() -> None:
    if importlib.util.find_spec("torchvision") is None or _imports("torchvision"):
        return
    import torch
    from torch import library

    operators: Any = library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _TORCHVISION_OPERATORS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            operators.define(schema)
    _kept.append(operators)
    if not _imports("torchvision"):
        sys.modules["torchvision"] = None  # type: ignore[assignment] # the documented way to say "not importable"


def _imports(package: str) -> bool:
    """Whether `package` imports, however loudly; what a failed attempt left behind is removed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a torchvision without its codecs warns, which is an error in tests
            importlib.import_module(package)
    except Exception:  # noqa: BLE001 - a broken extension may raise anything; the caller repairs or hides it
        for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
            del sys.modules[name]
        return False
    return True
