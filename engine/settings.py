"""Where things are and what to compute on: defaults, overruled by `WEFT_*` variables, overruled by what is asked for.

| variable | meaning |
|---|---|
| `WEFT_MODELS_DIR` | model roots, separated like `PATH`; `./models` if it is there |
| `WEFT_INPUT_DIR` | where `LoadImage` looks; `./input` |
| `WEFT_OUTPUT_DIR` | where files are written; `./output` |
| `WEFT_CACHE_DIR` | where results are kept between runs; the user's cache folder; `none` keeps nothing |
| `WEFT_EXTRA_MODEL_PATHS` | `extra_model_paths.yaml` files, separated like `PATH` |
| `WEFT_DEVICE`, `WEFT_DTYPE` | what to compute on and in; `auto` |
| `WEFT_NODES` | further packages or `.py` files that declare nodes, separated like `PATH` |
| `WEFT_PACKS` | folders of node packs written for ComfyUI, separated like `PATH`; `./custom_nodes` if it is there; `none` loads none |

Where models come from repositories, `HF_HOME`, `HF_HUB_OFFLINE` and the like mean what they mean everywhere.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.folders import Folders
    from engine.schema import Catalog

_log = logging.getLogger(__name__)

EXTRA_MODEL_PATHS = "extra_model_paths.yaml"
"""Read without being named where it lies beside a models root, as it does in the folders that users already have."""

_NO_CACHE = frozenset({"none", "off", "0"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What an engine is made with.

    Attributes:
        models: Model roots, searched in order.
        input: Where `LoadImage` looks.
        output: Where files are written.
        cache: Where results are kept between processes; None means the user's cache folder.
        is_cached: Whether results are kept between processes at all.
        extra_model_paths: `extra_model_paths.yaml` files.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto`, `float32`, `float16`, `bfloat16`.
        nodes: Packages or `.py` files that declare nodes beside Weft's own.
        packs: Folders of node packs written for ComfyUI.
    """

    models: tuple[Path, ...] = ()
    input: Path = Path("input")
    output: Path = Path("output")
    cache: Path | None = None
    is_cached: bool = True
    extra_model_paths: tuple[Path, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    nodes: tuple[str, ...] = ()
    packs: tuple[Path, ...] = ()

    def cache_dir(self) -> Path | None:
        """Where results are kept between processes, or None."""
        if not self.is_cached:
            return None
        if self.cache is not None:
            return self.cache
        import platformdirs

        return Path(platformdirs.user_cache_dir("weft", appauthor=False)) / "results"

    def catalog(self) -> Catalog:
        """The kinds that can be used; what is wrong with packs is logged.

        Raises:
            DeclarationError: if a package that was asked for cannot be imported, or two of them declare the same kind.
        """
        catalog = self.own_catalog()
        if not self.packs:
            return catalog
        loaded = self.loaded(catalog)
        for warning in loaded.warnings:
            _log.warning("%s", warning)
        found: Catalog = loaded.catalog
        return found

    def own_catalog(self) -> Catalog:
        """The kinds that were made for Weft: its own, those of installed packages, those that were asked for.

        Raises:
            DeclarationError: if a package that was asked for cannot be imported, or two of them declare the same kind.
        """
        from engine.schema import Catalog

        catalog = Catalog.load("nodes")
        for name in dict.fromkeys([*_installed(), *self.nodes]):
            catalog = catalog | _declared(name)
        return catalog

    def loaded(self, base: Catalog) -> Any:
        """The packs with the kinds that they add to `base`, see `engine.packs.Loaded`."""
        packs = importlib.import_module("engine.packs")  # by name, as the catalogue loads nodes: the core knows no pack
        return packs.load(self.packs, self.folders(), base)

    def folders(self) -> Folders:
        """The folders, for what needs no engine.

        Raises:
            FormatError: if an `extra_model_paths.yaml` cannot be read.
        """
        from engine.folders import gather

        return gather(self.models, self.input, self.output, extra_model_paths=self.extra_model_paths)

    def arguments(self) -> dict[str, Any]:
        """What to call `Engine` with."""
        return {
            "models_dir": self.models,
            "input_dir": self.input,
            "output_dir": self.output,
            "cache_dir": self.cache_dir(),
            "extra_model_paths": self.extra_model_paths,
            "device": self.device,
            "dtype": self.dtype,
            "catalog": self.catalog(),
        }


def settle(
    environment: Mapping[str, str] | None = None,
    *,
    models: Iterable[str | Path] = (),
    input_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    is_cached: bool = True,
    extra_model_paths: Iterable[str | Path] = (),
    device: str | None = None,
    dtype: str | None = None,
    nodes: Iterable[str] = (),
    packs: Iterable[str | Path] = (),
) -> Settings:
    """The settings that follow from what is asked for, then the environment, then what is there.

    Args:
        environment: The variables; those of the process when None.
        models: Model roots; empty leaves the choice to the environment.
        input_dir: Where `LoadImage` looks.
        output_dir: Where files are written.
        cache_dir: Where results are kept between processes.
        is_cached: Whether they are kept at all.
        extra_model_paths: `extra_model_paths.yaml` files.
        device: What to compute on.
        dtype: What to compute in.
        nodes: Further packages that declare nodes; they add to those of the environment.
        packs: Folders of node packs; empty leaves the choice to the environment.
    """
    env = os.environ if environment is None else environment
    roots = [Path(m).expanduser() for m in models] or [Path(m).expanduser() for m in _split(env.get("WEFT_MODELS_DIR"))]
    if not roots and Path("models").is_dir():
        roots = [Path("models")]
    extra = [Path(p).expanduser() for p in extra_model_paths or _split(env.get("WEFT_EXTRA_MODEL_PATHS"))]
    for root in roots:
        beside = root.resolve().parent / EXTRA_MODEL_PATHS
        if beside.is_file() and beside not in {p.resolve() for p in extra}:
            extra.append(beside)
    kept = env.get("WEFT_CACHE_DIR") if cache_dir is None else str(cache_dir)
    return Settings(
        models=tuple(roots),
        input=Path(input_dir or env.get("WEFT_INPUT_DIR") or "input").expanduser(),
        output=Path(output_dir or env.get("WEFT_OUTPUT_DIR") or "output").expanduser(),
        cache=Path(kept).expanduser() if kept and kept.lower() not in _NO_CACHE else None,
        is_cached=is_cached and (kept or "").lower() not in _NO_CACHE,
        extra_model_paths=tuple(extra),
        device=device or env.get("WEFT_DEVICE") or "auto",
        dtype=dtype or env.get("WEFT_DTYPE") or "auto",
        nodes=tuple(dict.fromkeys([*_split(env.get("WEFT_NODES")), *nodes])),
        packs=_pack_folders(env.get("WEFT_PACKS"), packs),
    )


def _pack_folders(variable: str | None, named: Iterable[str | Path]) -> tuple[Path, ...]:
    """The folders of packs: those that are named, else those of the environment, else the one that is there."""
    chosen = list(named) or _split(variable)
    if any(str(name).lower() == "none" for name in chosen):
        return ()
    if not chosen and Path("custom_nodes").is_dir():
        chosen = ["custom_nodes"]
    return tuple(dict.fromkeys(Path(name).expanduser() for name in chosen))


def _split(text: str | None) -> list[str]:
    return [part for part in (text or "").split(os.pathsep) if part]


def _installed() -> list[str]:
    """The packages that installed distributions offer as nodes: entry points of the group `weft.nodes`."""
    from importlib.metadata import entry_points

    return [point.module for point in entry_points(group="weft.nodes")]


def _declared(name: str) -> Catalog:
    """The kinds of a package by import name, or of a `.py` file or package folder by path."""
    from engine.schema import Catalog

    path = Path(name)
    module = name
    if path.suffix == ".py" or os.sep in name:
        if not path.exists():
            msg = f"cannot load nodes from {name!r}: there is no such file"
            raise DeclarationError(msg)
        folder = str(path.resolve().parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        module = path.stem
    try:
        importlib.import_module(module)
    except ImportError as cause:
        msg = f"cannot load nodes from {name!r}: {cause}"
        raise DeclarationError(msg) from cause
    return Catalog.load(module)
