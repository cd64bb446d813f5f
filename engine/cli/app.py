"""The command `weft` and its subcommands."""

from __future__ import annotations

import click

import engine
from engine.cli.batch import batch
from engine.cli.catalogue import models, nodes, schema
from engine.cli.complete import completion
from engine.cli.convert import convert
from engine.cli.doctor import doctor
from engine.cli.explain import explain
from engine.cli.run import run
from engine.cli.validate import validate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(engine.__version__, prog_name="weft", message="%(prog)s %(version)s")
def weft() -> None:
    """Run node-graph workflows of diffusion models.

    Exit codes: 0 ok, 1 something failed, 2 the workflow or the arguments are invalid, 130 interrupted.
    """


for command in (run, batch, validate, explain, convert, nodes, schema, models, doctor, completion):
    weft.add_command(command)
