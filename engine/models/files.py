"""Model files: names, shapes and tensors, from bytes that nobody vouches for.

Reading a safetensors header costs no torch. Tensors come memory-mapped where the format allows. Pickles are read by
torch's restricted reader only; classes that old training tools left in them become inert stand-ins.
"""

from __future__ import annotations

import json
import math
import pickle
import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

HEADER_LIMIT_BYTES = 16 * 2**20
TENSOR_LIMIT = 50_000
SAFETENSORS_SUFFIXES = frozenset({".safetensors", ".sft"})

_ITEM_BITS: Mapping[str, int] = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8, "I8": 8, "U8": 8,
    "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip

_INERT_GLOBALS = (
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "_codecs.encode",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.types.DistributedType",
)
"""Names that published checkpoints mention beside their tensors; none is ever imported or called."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a header says about one tensor.

    Attributes:
        shape: Its sizes.
        dtype: Its number format as safetensors names it, such as `F16`.
    """

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        tensors: Name to shape and format, in file order.
        metadata: The file's own notes.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


class _Inert:
    """Stands in for a class or function that a pickle names: takes everything, does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Ignore everything."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


def read_header(path: Path) -> Header:
    """Read names, shapes and formats of a safetensors file, and check that its data is all there.

    Raises:
        ModelFileError: if the file is not safetensors, is cut short, or its header exceeds `HEADER_LIMIT_BYTES` or
            `TENSOR_LIMIT`.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length < 2 or length > size - 8:
                msg = "cannot read it as safetensors: no header at its start; it is cut short or of another format"
                raise ModelFileError(msg, file=str(path))
            if length > HEADER_LIMIT_BYTES:
                msg = f"cannot read it: its header claims {length} bytes, the limit is {HEADER_LIMIT_BYTES}"
                raise ModelFileError(msg, file=str(path))
            raw = file.read(length)
    except OSError as cause:
        msg = f"cannot read the file: {cause.strerror or cause}"
        raise ModelFileError(msg, file=str(path)) from cause
    return _parse_header(raw, path=path, data_bytes=size - 8 - length)


def _parse_header(raw: bytes, *, path: Path, data_bytes: int) -> Header:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            msg = "a name occurs twice"
            raise ValueError(msg)
        return names

    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as cause:
        msg = f"cannot read it as safetensors: its header is not JSON ({cause})"
        raise ModelFileError(msg, file=str(path)) from cause
    if not isinstance(entries, dict):
        msg = "cannot read it as safetensors: its header is not a JSON object"
        raise ModelFileError(msg, file=str(path))
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        msg = "cannot read it: its metadata is not a JSON object"
        raise ModelFileError(msg, file=str(path), key="__metadata__")
    if len(entries) > TENSOR_LIMIT:
        msg = f"cannot read it: it lists {len(entries)} tensors, the limit is {TENSOR_LIMIT}"
        raise ModelFileError(msg, file=str(path))
    tensors = {name: _tensor_info(name, entry, path=path, data_bytes=data_bytes) for name, entry in entries.items()}
    return Header(tensors, {str(k): str(v) for k, v in metadata.items()})


def _tensor_info(name: str, entry: object, *, path: Path, data_bytes: int) -> TensorInfo:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), _sizes(fields.get("shape")), _sizes(fields.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2:
        msg = "cannot read it: a header entry lacks dtype, shape or data_offsets"
        raise ModelFileError(msg, file=str(path), key=name)
    if dtype not in _ITEM_BITS:
        msg = f"cannot read it: unknown number format {dtype!r}"
        raise ModelFileError(msg, file=str(path), key=name)
    start, end = offsets
    if (end - start) * 8 != math.prod(shape) * _ITEM_BITS[dtype]:
        msg = f"cannot read it: {end - start} bytes do not hold {dtype} {list(shape)}"
        raise ModelFileError(msg, file=str(path), key=name)
    if end > data_bytes:
        msg = f"cannot read it: it ends {end - data_bytes} bytes too early; copy or download it again"
        raise ModelFileError(msg, file=str(path), key=name)
    return TensorInfo(shape, dtype)


def _sizes(value: Any) -> tuple[int, ...] | None:
    """`value` if it is a list of sizes, else None."""
    return tuple(value) if isinstance(value, list) and all(type(n) is int and 0 <= n < 2**48 for n in value) else None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a model file, on the CPU, memory-mapped where the format allows.

    Args:
        path: `.safetensors`, or what torch saved (`.ckpt`, `.pt`, `.pth`, `.bin`); a `state_dict` inside is unwrapped.

    Raises:
        ModelFileError: if it cannot be read, or is a pickle that wants to run code.
    """
    if path.suffix.lower() in SAFETENSORS_SUFFIXES:
        return read_safetensors(path)
    return _named_tensors(read_pickle(path), path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, whatever its suffix, on the CPU, memory-mapped.

    Raises:
        ModelFileError: if it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    header = read_header(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in header.tensors}
    except (SafetensorError, OSError, TypeError, KeyError) as cause:
        msg = f"cannot read its tensors: {cause}"
        raise ModelFileError(msg, file=str(path)) from cause


def read_pickle(path: Path) -> Any:
    """What torch saved in `path`, read without running any code from it.

    Raises:
        ModelFileError: if it cannot be read, or names anything but tensors and plain data.
    """
    import torch

    try:
        is_zip = _is_plain_zip(path)
        inert: list[Any] = [(_Inert, name) for name in _INERT_GLOBALS]
        with torch.serialization.safe_globals(inert), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickle protocols that it may not read: then it raises
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)
    except pickle.UnpicklingError as cause:
        msg = f"refused: it is a pickle that may run code when it is read ({_short(cause)}); use a .safetensors file"
        raise ModelFileError(msg, file=str(path)) from cause
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as cause:
        msg = f"cannot read it as a file that torch saved: {_short(cause)}"
        raise ModelFileError(msg, file=str(path)) from cause


def _is_plain_zip(path: Path) -> bool:
    """Whether `path` is a zip as torch writes it; a compressed one is refused, as a small file could grow large."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                msg = "refused: it is a compressed archive; torch stores its entries as they are"
                raise ModelFileError(msg, file=str(path), key=entry.filename)
    return True


def _short(cause: Exception) -> str:
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    telling = next((line for line in lines if "GLOBAL" in line or "global" in line), lines[0] if lines else repr(cause))
    return telling[:300]


def _named_tensors(saved: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a saved dictionary, looking inside `state_dict` and its like."""
    import torch

    for wrapper in ("state_dict", "model_state_dict", "params_ema", "params-ema", "params", "model", "net", "module"):
        if isinstance(saved, dict) and isinstance(saved.get(wrapper), dict):
            saved = saved[wrapper]
            break
    tensors = (
        {name: value.detach() for name, value in saved.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
        if isinstance(saved, dict)
        else {}
    )
    if not tensors:
        msg = "cannot find tensors in it: expected a dictionary of tensors or one under 'state_dict'"
        raise ModelFileError(msg, file=str(path))
    if len(tensors) > TENSOR_LIMIT:
        msg = f"cannot read it: it lists {len(tensors)} tensors, the limit is {TENSOR_LIMIT}"
        raise ModelFileError(msg, file=str(path))
    return tensors


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name to shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def read_part(folder: Path, part: str) -> dict[str, Tensor]:
    """Every tensor of one part of a diffusers folder, such as `unet`.

    The full-precision file is preferred to the variant `fp16`, safetensors to `.bin`; shards are joined by their index.

    Raises:
        ModelFileError: if there is no file of weights, a shard is missing, or one cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for file in _part_files(folder, part):
        tensors |= read_tensors(file)
    return tensors


def part_shapes(folder: Path, part: str) -> dict[str, tuple[int, ...]]:
    """Name to shape of one part of a diffusers folder; torch-free where it is kept as safetensors.

    Raises:
        ModelFileError: as `read_part`.
    """
    found: dict[str, tuple[int, ...]] = {}
    for file in _part_files(folder, part):
        if file.suffix in SAFETENSORS_SUFFIXES:
            found |= {name: info.shape for name, info in read_header(file).tensors.items()}
        else:
            found |= shapes(read_tensors(file))
    return found


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a diffusers folder; empty where there is no such file.

    Raises:
        ModelFileError: if it cannot be read, or is no object.
    """
    path = folder / name
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        msg = f"cannot read the settings: {cause}"
        raise ModelFileError(msg, file=str(path)) from cause
    if not isinstance(settings, dict):
        msg = "cannot read the settings: they are not a JSON object"
        raise ModelFileError(msg, file=str(path))
    return settings


def part_choices(part: str) -> Iterator[tuple[str, str]]:
    """Where the weights of `part` may be, best first: (name in the folder, pattern of the shards if it is an index)."""
    for suffix, stems in (
        ("safetensors", ("diffusion_pytorch_model", "model")),
        ("bin", ("diffusion_pytorch_model", "pytorch_model")),
    ):
        for variant in ("", ".fp16"):
            for stem in stems:
                yield f"{part}/{stem}{variant}.{suffix}", ""
                yield f"{part}/{stem}.{suffix}.index{variant}.json", f"{part}/{stem}{variant}-*.{suffix}"
                yield f"{part}/{stem}{variant}.{suffix}.index.json", f"{part}/{stem}{variant}-*.{suffix}"


def _part_files(folder: Path, part: str) -> tuple[Path, ...]:
    """The files that hold the weights of `part`: the best choice that is there."""
    for name, shards in part_choices(part):
        if (folder / name).is_file():
            return _shards(folder / name) if shards else (folder / name,)
    msg = f"cannot find the weights of {part!r} in this folder: expected {part}/*.safetensors or {part}/*.bin"
    raise ModelFileError(msg, file=str(folder))


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names; they must lie beside it."""
    try:
        names = json.loads(index.read_text("utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        msg = f"cannot read the index of shards: {cause!r}"
        raise ModelFileError(msg, file=str(index)) from cause
    shards = []
    for name in sorted({str(name) for name in names}):
        if "/" in name or "\\" in name or name in {"", ".", ".."} or not (index.parent / name).is_file():
            msg = f"cannot read the shard {name!r}: there is no such file beside the index"
            raise ModelFileError(msg, file=str(index), key=name)
        shards.append(index.parent / name)
    return tuple(shards)
