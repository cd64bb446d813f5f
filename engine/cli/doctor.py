"""`weft doctor`: versions, devices, folders, memory. A probe that fails says so and stops no other."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli import OK, options
from engine.cli.console import counted, lasting, paint, sized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.settings import Settings

PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "safetensors", "numpy", "pillow", "torchsde", "networkx",
            "aiohttp", "huggingface_hub", "click", "rich")  # fmt: skip


@click.command("doctor", short_help="Check versions, devices, folders and memory.")
@options.as_json
@options.computing
def doctor(*, as_json: bool, **given: Any) -> int:
    """Show versions, devices, folders and free memory: what to look at, or to send along, when something is wrong."""
    chosen = options.settings(given)
    sections: dict[str, Callable[[Settings], Iterator[tuple[str, str]]]] = {
        "versions": _versions,
        "devices": _devices,
        "memory": _memory,
        "folders": _folders,
        "nodes": _nodes,
        "environment": _environment,
    }
    found = {name: facts for name, probe in sections.items() if (facts := _probed(probe, chosen))}
    if as_json:
        print(json.dumps({name: dict(facts) for name, facts in found.items()}, ensure_ascii=False, indent=2))
        return OK
    width = max(len(label) for facts in found.values() for label, _ in facts)
    for name, facts in found.items():
        print(paint(name, bold=True))
        for label, text in facts:
            print(f"  {label.ljust(width)}  {text}")
    return OK


def _probed(probe: Callable[[Settings], Iterator[tuple[str, str]]], chosen: Settings) -> list[tuple[str, str]]:
    """What a probe finds, and how far it came if it fails."""
    facts: list[tuple[str, str]] = []
    try:
        facts.extend(probe(chosen))
    except Exception as cause:  # noqa: BLE001 - a broken library may raise anything, and that is what one wants to see
        facts.append(("problem", f"{type(cause).__name__}: {cause}"))
    return facts


def _versions(_: Settings) -> Iterator[tuple[str, str]]:
    import importlib.metadata
    import platform

    import engine

    yield "weft", f"{engine.__version__} ({Path(engine.__file__).parent})"
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "system", platform.platform()
    for package in PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"


def _devices(chosen: Settings) -> Iterator[tuple[str, str]]:
    from engine.devices import pick, pick_dtype

    yield "cpu", f"{os.cpu_count()} cores"
    import torch

    yield "cpu threads", str(torch.get_num_threads())
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        yield f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {sized(free)} of {sized(total)} free"
    yield "cuda", f"built for {torch.version.cuda}" if torch.version.cuda else "this torch is built without it"
    yield "mps", "available" if torch.backends.mps.is_available() else "none"
    device = pick(chosen.device)
    yield "chosen", f"{device}, networks in {str(pick_dtype(device, 'unet', chosen.dtype)).removeprefix('torch.')}"


def _memory(chosen: Settings) -> Iterator[tuple[str, str]]:
    import shutil

    if hasattr(os, "sysconf"):
        yield "machine", sized(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    table = Path("/proc/meminfo")
    if table.exists():
        fields = dict(line.split(":", 1) for line in table.read_text("ascii").splitlines() if ":" in line)
        yield "free now", sized(int(fields["MemAvailable"].split()[0]) * 1024)
    for label, folder in (("disk of outputs", chosen.output), ("disk of cache", chosen.cache_dir())):
        if folder is not None:
            there = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
            yield label, f"{sized(shutil.disk_usage(there).free)} free"


def _folders(chosen: Settings) -> Iterator[tuple[str, str]]:
    from engine.folders import EMBEDDED_MODELS, MODEL_FOLDERS

    for root in chosen.models:
        yield "models", _state(root)
    if not chosen.models:
        yield "models", "none; name one with --models-dir or WEFT_MODELS_DIR"
    yield "embedded models", _state(EMBEDDED_MODELS)
    for path in chosen.extra_model_paths:
        yield "extra model paths", _state(path)
    folders = chosen.folders()
    for key in MODEL_FOLDERS:
        count = len(folders.listing(key))
        if count:
            yield f"  {key}", f"{count} in {', '.join(map(str, folders.of(key)))}"
    yield "input", _state(chosen.input)
    yield "output", _state(chosen.output, is_written=True)
    cache = chosen.cache_dir()
    if cache is None:
        yield "cache", "off"
    else:
        held = sum(p.stat().st_size for p in cache.rglob("*") if p.is_file()) if cache.is_dir() else 0
        yield "cache", f"{_state(cache, is_written=True)}, {sized(held)} kept"
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser()) / "hub"
    offline = ", offline" if os.environ.get("HF_HUB_OFFLINE") else ""
    yield "Hugging Face cache", _state(Path(hub)) + offline


def _state(path: Path, *, is_written: bool = False) -> str:
    if not path.exists():
        return f"{path} (not there{' yet' if is_written else ''})"
    if is_written and not os.access(path, os.W_OK):
        return f"{path} (cannot be written)"
    return str(path)


def _nodes(chosen: Settings) -> Iterator[tuple[str, str]]:
    base = chosen.own_catalog()
    loaded = chosen.loaded(base) if chosen.packs else None
    yield "kinds", str(len(base if loaded is None else loaded.catalog))
    for name in chosen.nodes:
        yield "package", name
    for folder in chosen.packs:
        yield "packs", _state(folder)
    for pack in loaded.packs if loaded is not None else ():
        said = (
            f"left out: {pack.error}"
            if pack.error is not None
            else f"{counted(len(pack.kinds), 'kind')}, {lasting(pack.seconds)}"
        )
        yield f"  {pack.name}", "; ".join([said, *pack.warnings])


def _environment(_: Settings) -> Iterator[tuple[str, str]]:
    shown = ("WEFT_", "HF_", "CUDA_", "PYTORCH_", "OMP_NUM_THREADS", "NO_COLOR")
    for name in sorted(os.environ):
        if name.startswith(shown) and "TOKEN" not in name:
            yield name, os.environ[name]
