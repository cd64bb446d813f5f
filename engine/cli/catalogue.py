"""`weft nodes`, `weft schema` and `weft models`: what there is to build workflows from."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from engine.cli import FAILED, OK, options
from engine.cli.complete import kinds
from engine.cli.console import Refused, complain, counted, paint, sized, table

if TYPE_CHECKING:
    from pathlib import Path

    from engine.folders import Folders
    from engine.schema import Catalog, Input, Kind, Part

SHOWN_CHOICES = 12
"""How many choices of an input the help text lists."""


@click.command("nodes", short_help="List the kinds of nodes, or describe one.")
@click.argument("kind", required=False, shell_complete=kinds)
@options.as_json
@options.places
def nodes(kind: str | None, *, as_json: bool, **given: Any) -> int:
    """List the kinds of nodes by category, or describe KIND: its inputs, ranges, choices and outputs.

    With --json, what the route /object_info of a server says.
    """
    chosen = options.settings(given)
    catalog = chosen.catalog()
    found = catalog.get(kind) if kind is not None else None
    if kind is not None and found is None:
        raise Refused(_unknown(kind, catalog))
    if as_json:
        from engine.formats.object_info import object_info

        folders = chosen.folders()
        wanted = catalog if found is None else (found,)
        print(json.dumps({k.id: object_info(k, folders) for k in wanted}, ensure_ascii=False, indent=2))
    elif found is not None:
        print(described(found, chosen.folders()))
    else:
        print(_listed(catalog))
    return OK


def _unknown(kind: str, catalog: Catalog) -> str:
    from difflib import get_close_matches

    near = (
        get_close_matches(kind, catalog.ids(), n=3, cutoff=0.5) or [i for i in catalog.ids() if kind.lower() in i.lower()][:8]
    )
    return f"there is no kind {kind!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _listed(catalog: Catalog) -> str:
    import shutil
    import textwrap

    categories: dict[str, list[Kind]] = {}
    for kind in catalog:
        categories.setdefault(kind.category, []).append(kind)
    width = max((len(kind.id) for kind in catalog), default=0)
    room = max(20, shutil.get_terminal_size().columns - width - 4)
    lines = []
    for category in sorted(categories):
        lines.append(paint(category, bold=True))
        for kind in categories[category]:
            sentence = textwrap.shorten(kind.help.split("\n\n", 1)[0], room, placeholder=" …")
            lines.append(f"  {kind.id.ljust(width)}  {sentence}")
        lines.append("")
    return "\n".join([*lines, counted(len(catalog), "kind")])


def described(kind: Kind, folders: Folders) -> str:
    """The help text of a kind, from its declaration."""
    import textwrap

    name = f"{kind.id} ({kind.title})" if kind.title != kind.id else kind.id
    marks = [
        word
        for word, is_so in (("output", kind.effect), ("deprecated", kind.deprecated), ("experimental", kind.experimental))
        if is_so
    ]
    lines = [paint(name, bold=True), f"{kind.category}{''.join(f', {mark}' for mark in marks)}", "", kind.help]
    parts = [*(kind.parts or kind.inputs.values()), *([kind.variadic] if kind.variadic is not None else [])]
    if parts:
        lines += ["", paint("Inputs", bold=True)]
        for part in parts:
            lines += _lines(part, folders, is_open=part is kind.variadic)
    if kind.outputs:
        lines += ["", paint("Outputs", bold=True)]
        for number, output in enumerate(kind.outputs):
            lines.append(f"  {number} {output.name}  {paint(output.type + (', a list' if output.is_list else ''), dim=True)}")
            lines += textwrap.wrap(output.help, 96, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _lines(part: Part, folders: Folders, *, is_open: bool = False, prefix: str = "", indent: str = "  ") -> list[str]:
    """What the help text says about a parameter, and about the inputs that its values bring."""
    import textwrap

    from engine.schema import Group, Input, Selection

    port = part if isinstance(part, Input) else part.port
    name = f"{prefix}{port.name}"
    more = " ..." if is_open else ""
    facts = _facts(port, folders)
    if isinstance(part, Group):
        keys = part.growing.keys
        more = f".{keys[0]}, .{keys[1]}, ..." if len(keys) > 1 else f".{keys[0]}"
        facts = f"{facts.removesuffix(', required')}, {part.growing.min} to {len(keys)} of them"
    lines = [f"{indent}{name}{more}  {paint(facts, dim=True)}"]
    lines += textwrap.wrap(port.help, 96, initial_indent=f"{indent}    ", subsequent_indent=f"{indent}    ")
    for option in part.options.values() if isinstance(part, Selection) else ():
        text = f"{json.dumps(option.key, ensure_ascii=False)}: {option.help}"
        lines += textwrap.wrap(text, 96, initial_indent=f"{indent}    ", subsequent_indent=f"{indent}      ")
        for inner in option.parts:
            lines += _lines(inner, folders, prefix=f"{name}.", indent=f"{indent}      ")
    return lines


def _facts(port: Input, folders: Folders) -> str:
    from engine.schema import MISSING

    facts = [port.type if port.is_widget else f"{port.type} from another node"]
    if port.range is not None:
        step = f" in steps of {port.range.step:g}" if port.range.step is not None else ""
        facts.append(f"{_number(port.range.min)} to {_number(port.range.max)}{step}")
    options_ = port.options(folders)
    if port.files is not None:
        facts.append(f"a file of {port.files.folder}")
    if options_ is not None:
        shown = ", ".join(options_[:SHOWN_CHOICES]) + (f", … ({len(options_)} in all)" if len(options_) > SHOWN_CHOICES else "")
        facts.append(f"one of: {shown}" if options_ else "there is none")
    if port.default is not MISSING:
        facts.append(f"default {json.dumps(port.default, ensure_ascii=False, default=str)}")
    elif port.required:
        facts.append("required")
    if port.lazy:
        facts.append("computed only if asked for")
    return ", ".join(facts)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


@click.command("schema", short_help="Print the JSON Schema of workflows, for editors.")
@options.places
def schema(**given: Any) -> int:
    """Print the JSON Schema of workflow files: kinds, inputs, ranges, and the model files that are there now.

    Editors complete and check a file that names it: {"$schema": "weft.schema.json", ...}.
    """
    from engine.formats.json_schema import workflow_schema

    chosen = options.settings(given)
    print(json.dumps(workflow_schema(chosen.catalog(), chosen.folders()), ensure_ascii=False, indent=2))
    return OK


@click.command("models", short_help="List the model files that are found, and their families.")
@click.argument("folder", required=False)
@click.option("--for", "workflow", type=options.FILE, help="List the models that this workflow names instead.")
@click.option("--download", is_flag=True, help="With --for: fetch those that are missing from the Hugging Face hub.")
@options.as_json
@options.places
def models(folder: str | None, *, workflow: str | None, download: bool, as_json: bool, **given: Any) -> int:
    """List the model files that are found and what they are; only those of FOLDER (checkpoints, loras, ...) if given.

    With --for, list the models that a workflow in the page's own format names, whether they are here, and where they can be
    downloaded.
    """
    from engine.folders import LEGACY_KEYS, MODEL_FOLDERS

    folders = options.settings(given).folders()
    if workflow is not None:
        return _named(workflow, folders, download=download, as_json=as_json)
    if download:
        msg = "--download needs --for FILE: the workflow says what to download"
        raise Refused(msg)
    wanted = tuple(dict.fromkeys([*MODEL_FOLDERS, *folders.extra, *folders.first]))
    if folder is not None:
        folder = LEGACY_KEYS.get(folder, folder)
        if folder not in wanted:
            msg = f"there is no model folder {folder!r}; there are {', '.join(wanted)}"
            raise Refused(msg)
        wanted = (folder,)
    records = [_model(folders, key, name) for key in wanted for name in folders.listing(key)]
    if as_json:
        print(json.dumps(records, ensure_ascii=False, indent=2))
        return OK
    if not records:
        print("no models found; name a folder that holds checkpoints/, loras/, ... with --models-dir", file=sys.stderr)
        return OK
    rows = [
        (r["folder"], r["name"], sized(r["bytes"]), r["title"] + ("" if r["supported"] else " (not supported yet)"))
        for r in records
    ]
    print(table(rows, head=("folder", "name", "size", "what it is"), right=(2,)))
    return OK


def _named(workflow: str, folders: Folders, *, download: bool, as_json: bool) -> int:
    """List, or fetch, the models that a workflow names."""
    from engine.errors import WeftError
    from engine.folders import LEGACY_KEYS
    from engine.formats.files import load
    from engine.formats.model_links import model_links
    from engine.models import download_file

    failed = False
    records = []
    for link in model_links(load(workflow).extra.get("workflow")):
        key = LEGACY_KEYS.get(link.folder, link.folder)
        record: dict[str, Any] = {"folder": key, "name": link.name, "state": "missing", "url": link.url}
        try:
            if folders.find(key, link.name) is not None:
                record["state"] = "here"
            elif download:
                target = folders.place(key, link.name)
                print(f"{link.url} -> {target}", file=sys.stderr)
                download_file(link.url, target, sha256=link.sha256)
                record["state"] = "downloaded"
        except WeftError as error:
            failed = True
            record["state"] = "failed"
            complain(str(error))
        records.append(record)
    if as_json:
        print(json.dumps(records, ensure_ascii=False, indent=2))
    elif records:
        rows = [(r["folder"], r["name"], r["state"], r["url"]) for r in records]
        print(table(rows, head=("folder", "name", "state", "where it can be downloaded")))
    else:
        print("the workflow does not say where its models can be downloaded", file=sys.stderr)
    return FAILED if failed else OK


def _model(folders: Folders, key: str, name: str) -> dict[str, Any]:
    from engine.errors import WeftError
    from engine.models.detect import Detected, detect

    path = folders.find(key, name)
    record: dict[str, Any] = {"folder": key, "name": name, "path": str(path), "bytes": _bytes(path) if path else 0}
    try:
        assert path is not None  # noqa: S101 - it was listed just now
        found = detect(path)
        if key == "upscale_models" and found.role == "unknown":
            found = Detected("unknown", "upscaler", found.sizes)  # of the many kinds, which one is told as it is loaded
    except (WeftError, OSError) as cause:
        return {**record, "family": "unknown", "role": "unknown", "title": f"unreadable: {cause}", "supported": False}
    sizes = dict(found.sizes)
    return {
        **record,
        "family": found.family,
        "role": found.role,
        "title": found.title,
        "supported": found.is_supported,
        "sizes": sizes,
    }


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
