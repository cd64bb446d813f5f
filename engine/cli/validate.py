"""`weft validate`: everything that is wrong with workflows, without running them."""

from __future__ import annotations

from typing import Any

import click

from engine.cli import INVALID, OK, options
from engine.cli.console import complain, counted, emit, report_problems


@click.command("validate", short_help="List everything that is wrong with workflows.")
@click.argument("files", nargs=-1, required=True, type=options.FILE)
@options.as_json
@options.places
def validate(files: tuple[str, ...], *, as_json: bool, **given: Any) -> int:
    """List everything that is wrong with the workflows FILES, all at once.

    The exit code is 2 if any has an error; warnings alone leave it at 0.
    """
    from engine.errors import FormatError, WorkflowInvalid
    from engine.formats.files import load
    from engine.validate import check

    chosen = options.settings(given)
    catalog, folders = chosen.catalog(), chosen.folders()
    bad = 0
    for file in files:
        source = "standard input" if file == "-" else file
        try:
            graph = load(file, catalog)
        except FormatError as error:
            bad += 1
            if as_json:
                emit({"type": "problem", "file": source, "level": "error", "code": "format", "message": str(error)})
            else:
                complain(str(error))
            continue
        checked = check(graph, catalog, folders)
        problems = list(checked.problems)
        try:
            checked.require(None, source=source)
        except WorkflowInvalid as error:
            problems.extend(p for p in error.problems if p not in checked.problems)
        is_sound = all(problem.warning for problem in problems)
        bad += not is_sound
        report_problems(problems, source, as_json=as_json)
        if as_json:
            emit({"type": "file", "file": source, "valid": is_sound, "nodes": len(graph)})
        elif is_sound:
            print(f"{source}: ok, {counted(len(graph), 'node')}")
    return INVALID if bad else OK
