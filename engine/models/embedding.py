"""Textual inversions: vectors that stand for a word of a prompt."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from engine.errors import ModelFileError, WeftError
from engine.models import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from engine.folders import Folders

SUFFIXES = (".safetensors", ".pt", ".bin")


def finder(folders: Folders) -> Callable[[str], Path | None]:
    """Look names of embeddings up in the embeddings folders.

    A name is tried as a path below each folder, then as a file name in any folder below; as it is, then with the usual
    suffixes. A name that leads outside the folders finds nothing.
    """

    def find(name: str) -> Path | None:
        for candidate in (name, *(name + suffix for suffix in SUFFIXES)):
            try:
                path = folders.find("embeddings", candidate)
            except WeftError:
                return None
            if path is not None and path.is_file():
                return path
        wanted = {name, *(name + suffix for suffix in SUFFIXES)}
        below = (file for file in folders.listing("embeddings") if PurePosixPath(file).name in wanted)
        first = next(below, None)
        return folders.find("embeddings", first) if first else None

    return find


def vectors(path: Path, *, encoder: str = "clip_l") -> Tensor:
    """Read the vectors of a textual inversion.

    Args:
        path: A `.safetensors`, `.pt` or `.bin` file, of any of the layouts in use.
        encoder: Which encoder's vectors to take where the file holds several.

    Returns:
        [V, D] float32 on the CPU.

    Raises:
        ModelFileError: if the file cannot be read or holds no vectors.
    """
    import torch

    if path.suffix.lower() in files.SAFETENSORS_SUFFIXES:
        saved: Any = files.read_tensors(path)
    else:
        saved = files.read_pickle(path)
    chosen = _chosen(saved, encoder)
    if not isinstance(chosen, torch.Tensor) or chosen.ndim not in {1, 2} or not chosen.is_floating_point():
        msg = f"cannot use it as an embedding: it holds no vectors for {encoder}"
        raise ModelFileError(msg, file=str(path))
    return chosen.detach().float().reshape(-1, chosen.shape[-1])


def _chosen(saved: Any, encoder: str) -> Any:
    """The tensor for `encoder`: under `string_to_param`, under its own name, or the first."""
    if not isinstance(saved, dict) or not saved:
        return saved
    inner = saved.get("string_to_param")
    if isinstance(inner, dict) and inner:
        return next(iter(inner.values()))
    if encoder in saved:
        return saved[encoder]
    if "bundled" in saved:
        return saved["bundled"]
    return next(iter(saved.values()))
