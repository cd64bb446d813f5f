"""`weft explain`: what a run would do and why, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli import INVALID, OK, options
from engine.cli.console import counted, emit, paint, report_problems, table

if TYPE_CHECKING:
    from engine.plan import Plan, Step

_WORDS = {
    "first run": "no result is kept",
    "changed": "an input changed",
    "evicted": "its result was let go",
    "effect": "an output, runs every time",
    "forced": "asked for",
    "hit": "its result is kept",
    "twin": "another node does the same",
    "unneeded": "what needs it is kept",
    "lazy": "only if a node asks for it",
}


@click.command("explain", short_help="Show what would run and why.")
@click.argument("file", type=options.FILE)
@options.edits
@options.target
@options.as_json
@options.computing
def explain(
    file: str, sets: tuple[str, ...], seed: int | None, targets: tuple[str, ...], *, as_json: bool, **given: Any
) -> int:
    """Show what running the workflow FILE would do: which nodes would run, which are cached, and why."""
    from engine.errors import WorkflowInvalid
    from engine.formats.files import load

    source = "standard input" if file == "-" else file
    with options.engine(options.settings(given)) as engine:
        graph = load(file, engine.catalog)
        graph = options.edited(graph, engine.catalog, sets, seed)
        try:
            plan = engine.explain(graph, targets or None)
        except WorkflowInvalid as error:
            report_problems(error.problems, source, as_json=as_json)
            return INVALID
    if as_json:
        emit({"targets": plan.targets, "steps": [_record(step) for step in plan.every]})
    else:
        _print(plan)
    return OK


def _record(step: Step) -> dict[str, Any]:
    return {
        "node": step.node.id,
        "kind": step.node.kind.id,
        "title": step.node.title,
        "runs": step.runs,
        "reason": step.reason.value,
        "because": step.because,
        "key": step.key.hex(),
    }


def _print(plan: Plan) -> None:
    rows = [(s.node.id, s.node.kind.id, s.node.node.title, _state(s), _why(s)) for s in plan.every]
    print(table(rows, head=("node", "kind", "title", "", "why")))
    summary = f"{counted(len(plan.steps), 'node')} would run, {counted(len(plan.idle), 'node')} would not"
    print(paint(summary, dim=True))


def _state(step: Step) -> str:
    if step.runs:
        return "run"
    return {"hit": "cached", "twin": "shared", "unneeded": "idle", "lazy": "waits"}[step.reason.value]


def _why(step: Step) -> str:
    changes = step.changes
    return f"changed: {', '.join(changes)}" if changes else _WORDS[step.reason.value]
