"""`weft convert`: workflows from one format to the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from engine.cli import OK, options


@click.command("convert", short_help="Write a workflow in the other format.")
@click.argument("file", type=options.FILE)
@click.argument("output", type=click.Path(dir_okay=False))
@click.option("--to", type=click.Choice(["api", "ui"]), help="The format to write; the other than FILE's when not given.")
@options.places
def convert(file: str, output: str, *, to: str | None, **given: Any) -> int:
    """Write the workflow FILE to OUTPUT (- for standard output) in the API format or in the page's own.

    What is written in the page's own format opens in ComfyUI's page. A file that has no places for its nodes is laid out.
    """
    from engine.formats.api import write_api
    from engine.formats.files import load
    from engine.formats.ui import is_ui
    from engine.formats.ui_write import write_ui

    catalog = options.settings(given).catalog()
    graph = load(file, catalog)
    wanted = to or ("api" if is_ui(graph.extra.get("workflow")) else "ui")
    document = write_api(graph) if wanted == "api" else write_ui(graph, catalog)
    text = json.dumps(document, indent=2) + "\n"
    if output == "-":
        print(text, end="")
    else:
        Path(output).write_text(text, "utf-8")
    return OK
