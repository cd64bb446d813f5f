"""`weft run`: a workflow to its files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from engine.cli import FAILED, INTERRUPTED, INVALID, OK, options
from engine.cli.console import (
    complain,
    counted,
    emit,
    failure_json,
    is_terminal,
    lasting,
    paint,
    report_failure,
    report_problems,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.cli.save import Request
    from engine.engine import Engine
    from engine.errors import NodeFailed, Problem, WorkflowInvalid
    from engine.graph import Graph
    from engine.result import RunResult


@click.command("run", short_help="Run a workflow.")
@click.argument("file", type=options.FILE)
@options.edits
@options.target
@click.option(
    "--save",
    "saves",
    multiple=True,
    metavar="NODE[:PORT]=FILE",
    help="Also write the value of a port: .safetensors, .png, .json or .txt. May be repeated.",
)
@click.option("--keep-going", is_flag=True, help="When a node fails, complete what does not depend on it.")
@options.json_lines
@options.debug
@options.computing
def run(file: str, sets: tuple[str, ...], seed: int | None, targets: tuple[str, ...], saves: tuple[str, ...],
        *, keep_going: bool, as_json: bool | None, debug: bool, **given: Any) -> int:  # fmt: skip
    """Run the workflow FILE: JSON, a PNG or WebP picture that carries one, or - for standard input.

    Results are kept, so that the next run computes only what changed. Prints the files that were written.
    """
    from engine.cli.interrupt import Interrupts
    from engine.cli.progress import watcher
    from engine.errors import NodeFailed, RunCancelled, WorkflowInvalid
    from engine.execute import Cancellation
    from engine.formats.files import load

    json_output = not is_terminal(sys.stdout) if as_json is None else as_json
    chosen = options.settings(given)
    source = "standard input" if file == "-" else file
    with options.engine(chosen) as engine:
        graph = load(file, engine.catalog)
        graph = options.edited(graph, engine.catalog, sets, seed)
        requests = _requests(graph, engine, saves)
        try:
            wanted = _targets(graph, engine, targets, requests, source, as_json=json_output)
        except WorkflowInvalid as error:
            return _invalid(error, source, as_json=json_output)
        cancellation = Cancellation()
        watch = watcher(as_json=json_output, is_watched=is_terminal(sys.stderr))
        try:
            with Interrupts(cancellation, watch.close), watch:
                result = engine.run(graph, wanted, on_event=watch, cancellation=cancellation, keep_going=keep_going)
        except WorkflowInvalid as error:
            return _invalid(error, source, as_json=json_output)
        except NodeFailed as error:
            _failed([error], as_json=json_output, debug=debug)
            return FAILED
        except RunCancelled:
            complain("the run was stopped; what was computed is kept", level="stopped")
            return INTERRUPTED
        saved = _save(result, requests)
    _failed(list(result.failures.values()), as_json=json_output, debug=debug)
    _report(result, saved, as_json=json_output)
    return FAILED if result.failures else OK


def _requests(graph: Graph, engine: Engine, saves: tuple[str, ...]) -> list[Request]:
    if not saves:
        return []
    from engine.cli.save import request

    return [request(graph, engine.catalog, text) for text in saves]


def _targets(
    graph: Graph, engine: Engine, targets: tuple[str, ...], requests: Sequence[Request], source: str, *, as_json: bool
) -> list[str] | None:
    """What the run is for; None leaves it to the outputs of the workflow. Warnings are shown on the way.

    Raises:
        WorkflowInvalid: if only saving is asked for beside outputs, and something is wrong with the workflow.
    """
    from engine.validate import invalid

    checked = engine.check(graph)
    _tell([p for p in checked.problems if p.warning], source, as_json=as_json)
    extra = [r.node for r in requests]
    if targets:
        return [*targets, *extra]
    if not extra:
        return None
    errors = [p for p in checked.problems if not p.warning]
    if errors:
        raise invalid(errors, source)
    return list(dict.fromkeys([*checked.effects, *extra]))


def _invalid(error: WorkflowInvalid, source: str, *, as_json: bool) -> int:
    _tell(error.problems, source, as_json=as_json)
    return INVALID


def _tell(problems: Sequence[Problem], source: str, *, as_json: bool) -> None:
    """Problems for people, and for programs as well if they listen."""
    report_problems(problems, source, as_json=False)
    if as_json:
        report_problems(problems, source, as_json=True)


def _save(result: RunResult, requests: Sequence[Request]) -> list[str]:
    if not requests:
        return []
    from engine.cli.save import save

    known = {entry.node for entry in result.report if entry.state in {"ran", "hit"}}
    return [str(path) for wish in requests if wish.node in known for path in save(result.port(wish.node, wish.port), wish.path)]


def _failed(errors: Sequence[NodeFailed], *, as_json: bool, debug: bool) -> None:
    for error in errors:
        report_failure(error, debug=debug)
        if as_json:
            emit({"type": "failure", **failure_json(error, debug=debug)})


def _report(result: RunResult, saved: Sequence[str], *, as_json: bool) -> None:
    files = [*(str(path) for path in result.files), *saved]
    report = result.report
    if as_json:
        emit(
            {
                "type": "result",
                "status": "failed" if result.failures else "completed",
                "files": files,
                "ran": report.ran,
                "hits": report.hits,
                "seconds": round(report.seconds, 6),
            }
        )
        return
    for shown in result.shown.values():
        for text in shown.entries.get("text", ()):
            print(text)
    for path in files:
        print(path)
    for node_id, message in report.blocked.items():
        if message is not None:
            complain(f"node {node_id} did not run: {message}", level="warning")
    summary = f"{counted(len(report.ran), 'node')} ran, {len(report.hits)} known, {lasting(report.seconds)}"
    print(paint(summary, dim=True, stream=sys.stderr), file=sys.stderr)
