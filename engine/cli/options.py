"""Options that several commands share, and what they come to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.cli.complete import assignments, nodes
from engine.cli.console import Refused, complain

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.engine import Engine
    from engine.graph import Graph
    from engine.schema import Catalog
    from engine.settings import Settings

F = TypeVar("F", bound="Callable[..., Any]")

FILE = click.Path(dir_okay=False, allow_dash=True)
FOLDER = click.Path(file_okay=False)

_PLACES = (
    click.option("--models-dir", "models", multiple=True, type=FOLDER, metavar="DIR", help="Model root; may be repeated. [./models]"),
    click.option("--extra-model-paths", "extra_model_paths", multiple=True, type=click.Path(dir_okay=False), metavar="FILE",
                 help="An extra_model_paths.yaml; one beside a model root is read anyway."),
    click.option("--input-dir", type=FOLDER, metavar="DIR", help="Where LoadImage looks. [./input]"),
    click.option("--nodes", multiple=True, metavar="MODULE", help="Further package or .py file that declares nodes."),
    click.option("--packs", multiple=True, type=FOLDER, metavar="DIR",
                 help="Folder of node packs for ComfyUI, run as they are; 'none' loads none. [./custom_nodes]"),
)  # fmt: skip

_COMPUTING = (
    click.option("--out", "output_dir", type=FOLDER, metavar="DIR", help="Where files are written. [./output]"),
    click.option(
        "--cache-dir", type=FOLDER, metavar="DIR", help="Where results are kept between runs. [the user's cache folder]"
    ),
    click.option("--no-cache", is_flag=True, help="Keep no results between runs."),
    click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps. [auto]"),
    click.option("--dtype", type=click.Choice(["auto", "float32", "float16", "bfloat16"]), help="What to compute in. [auto]"),
)

_EDITS = (
    click.option("--set", "sets", multiple=True, metavar="NODE.INPUT=VALUE", shell_complete=assignments,
                 help="Set an input; NODE is an id or a unique title. May be repeated."),
    click.option("--seed", type=click.IntRange(0, (1 << 64) - 1), metavar="N", help="Set every seed that is not linked."),
)  # fmt: skip

target = click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NODE",
    shell_complete=nodes,
    help="Compute this node instead of the outputs; may be repeated.",
)
json_lines = click.option(
    "--json/--no-json",
    "as_json",
    default=None,
    help="Write JSON lines, or never; the default is to do so unless a terminal shows the output.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
debug = click.option("--debug", is_flag=True, help="Show the traceback of what failed.")


def places(command: F) -> F:
    """Options for where things are."""
    return _all(command, _PLACES)


def computing(command: F) -> F:
    """Options for where things are and how to compute."""
    return _all(command, (*_COMPUTING, *_PLACES))


def edits(command: F) -> F:
    """Options that edit the workflow."""
    return _all(command, _EDITS)


def _all(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def settings(given: dict[str, Any]) -> Settings:
    """The settings that the shared options of a command come to."""
    from engine.settings import settle

    return settle(
        models=given.get("models", ()),
        input_dir=given.get("input_dir"),
        output_dir=given.get("output_dir"),
        cache_dir=given.get("cache_dir"),
        is_cached=not given.get("no_cache"),
        extra_model_paths=given.get("extra_model_paths", ()),
        device=given.get("device"),
        dtype=given.get("dtype"),
        nodes=given.get("nodes", ()),
        packs=given.get("packs", ()),
    )


def engine(chosen: Settings) -> Engine:
    """An engine for these settings. A cache folder that cannot be written costs the cache, not the run."""
    from dataclasses import replace

    from engine.engine import Engine

    cache = chosen.cache_dir()
    if cache is not None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            is_open = os.access(cache, os.W_OK)
        except OSError:
            is_open = False
        if not is_open:
            complain(f"results are not kept: {cache} cannot be written; name another folder with --cache-dir", level="warning")
            chosen = replace(chosen, is_cached=False)
    return Engine(**chosen.arguments())


def edited(graph: Graph, catalog: Catalog, sets: tuple[str, ...], seed: int | None) -> Graph:
    """The graph as `--set` and `--seed` change it; `--set` has the last word.

    Raises:
        Refused: if they name what is not there.
    """
    from engine import edits as edit
    from engine.errors import WeftError

    try:
        if seed is not None:
            graph = edit.reseeded(graph, catalog, seed)
        return edit.edited(graph, dict(edit.assigned(graph, catalog, text) for text in sets))
    except WeftError as cause:
        raise Refused(str(cause)) from cause
