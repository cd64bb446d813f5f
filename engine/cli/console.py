"""What people read: colours, aligned tables, problems, errors. Plain text; progress bars are in `progress`."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

    from engine.errors import NodeFailed, Problem

_COLOURS = {"error": "red", "warning": "yellow", "stopped": "yellow"}


class Refused(click.ClickException):
    """Arguments that are well-formed but name what is not there."""

    exit_code = 2

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Say so on standard error."""
        complain(self.message)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches `stream`."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def paint(text: str, colour: str | None = None, *, bold: bool = False, dim: bool = False, stream: TextIO | None = None) -> str:
    """`text` in colour where a terminal shows it and nobody said `NO_COLOR`."""
    if os.environ.get("NO_COLOR") or not is_terminal(stream or sys.stdout):
        return text
    return click.style(text, fg=colour, bold=bold or None, dim=dim or None)


def complain(message: str, *, level: str = "error") -> None:
    """Write a message about what went wrong to standard error."""
    print(f"{paint(level, _COLOURS.get(level), bold=True, stream=sys.stderr)}: {message}", file=sys.stderr)


class Complaints(logging.Handler):
    """Writes what Weft's modules log to standard error, as the command line says things."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        complain(record.getMessage(), level=record.levelname.lower())


COMPLAINTS = Complaints()


def emit(record: Mapping[str, Any]) -> None:
    """Write a record as a line of JSON to standard output."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def problem_line(problem: Problem, source: str) -> str:
    """A problem as one line: file, level, code, place, what would help."""
    level = "warning" if problem.warning else "error"
    hint = f" ({problem.hint})" if problem.hint else ""
    head = paint(f"{level}[{problem.code}]", _COLOURS[level], bold=True, stream=sys.stderr)
    return f"{source}: {head} {problem.message}{hint}"


def problem_json(problem: Problem, source: str) -> dict[str, Any]:
    """A problem as a JSON object."""
    return {
        "type": "problem",
        "file": source,
        "level": "warning" if problem.warning else "error",
        "code": problem.code,
        "node": problem.node,
        "title": problem.title,
        "input": problem.port,
        "message": problem.message,
        "hint": problem.hint,
        "details": dict(problem.details) if problem.details is not None else None,
    }


def report_problems(problems: Iterable[Problem], source: str, *, as_json: bool) -> None:
    """Write problems: lines for people to standard error, and records to standard output if asked for."""
    for problem in problems:
        if as_json:
            emit(problem_json(problem, source))
        else:
            print(problem_line(problem, source), file=sys.stderr)


def report_failure(error: NodeFailed, *, debug: bool) -> None:
    """Write what is known of a node that raised to standard error."""
    name = f"{error.kind} {error.title!r}" if error.title and error.title != error.kind else error.kind
    complain(f"node {error.node} ({name}) failed: {type(error.cause).__name__}: {error.cause}")
    if error.inputs:
        given = ", ".join(f"{k}={v}" for k, v in error.inputs.items())
        print(f"  inputs: {given}", file=sys.stderr)
    if debug:
        import traceback

        print("".join(traceback.format_exception(error.cause)), end="", file=sys.stderr)
    else:
        print("  --debug shows where in the code", file=sys.stderr)


def failure_json(error: NodeFailed, *, debug: bool = False) -> dict[str, Any]:
    """A node's failure as a JSON object."""
    record = {
        "node": error.node,
        "kind": error.kind,
        "title": error.title,
        "inputs": error.inputs,
        "cause": type(error.cause).__name__,
        "message": str(error.cause),
    }
    if debug:
        import traceback

        record["traceback"] = "".join(traceback.format_exception(error.cause))
    return record


def table(rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), right: Sequence[int] = ()) -> str:
    """Rows as lines with aligned columns; the last column is as wide as it likes.

    Args:
        rows: Cells.
        head: Titles of the columns.
        right: Columns that are aligned at their right.
    """
    every = [list(head), *map(list, rows)] if head else [list(row) for row in rows]
    if not every:
        return ""
    widths = [max(len(row[i]) for row in every) for i in range(len(every[0]))]
    lines = []
    for number, row in enumerate(every):
        cells = [cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        line = "  ".join(cells).rstrip()
        lines.append(paint(line, bold=True) if head and not number else line)
    return "\n".join(lines)


def counted(number: int, what: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def sized(count_bytes: float) -> str:
    """Bytes in words: `3.97 GiB`."""
    size = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def lasting(seconds: float) -> str:
    """Seconds in words: `0.42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
