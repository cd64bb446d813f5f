"""`weft batch`: many workflows and variations in one process."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli import FAILED, INTERRUPTED, OK, options
from engine.cli.complete import assignments
from engine.cli.console import Refused, complain, counted, emit, is_terminal, lasting, paint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.batch import Record, Variation
    from engine.engine import Engine
    from engine.events import Event


@click.command("batch", short_help="Run many workflows and variations.")
@click.argument("files", nargs=-1, required=True, type=options.FILE)
@click.option(
    "--jobs",
    type=click.Path(dir_okay=False),
    metavar="TABLE",
    help="CSV with NODE.INPUT columns, or JSON lines with such keys; each row is a variation.",
)
@click.option(
    "--grid",
    "grid",
    multiple=True,
    metavar="NODE.INPUT=A,B,C",
    shell_complete=assignments,
    help="Try these values, combined with every other --grid; in quotes where they hold commas. May be repeated.",
)
@click.option("--repeat", type=click.IntRange(1), default=1, metavar="N", help="Run each N times, with successive seeds.")
@options.edits
@options.target
@click.option("--sheet", type=click.Path(dir_okay=False), metavar="FILE", help="Draw a contact sheet with labelled axes.")
@click.option(
    "--manifest",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where each variation leaves a line. [OUT/manifest.jsonl]",
)
@click.option("--resume", is_flag=True, help="Leave out what the manifest says is completed.")
@click.option("--dry-run", is_flag=True, help="List the variations and run nothing.")
@options.json_lines
@options.computing
def batch(*, files: tuple[str, ...], jobs: str | None, grid: tuple[str, ...], repeat: int, sets: tuple[str, ...], seed: int | None,
          targets: tuple[str, ...], sheet: str | None, manifest: str | None,
          resume: bool, dry_run: bool, as_json: bool | None, **given: Any) -> int:  # fmt: skip
    """Run the workflows FILES in every variation asked for, in one process that shares models and results.

    They are ordered so that shared parts run once. One that fails does not stop the rest. As each finishes it leaves a
    line in the manifest; after an interruption, --resume goes on from there.
    """
    from engine import batch as batches
    from engine.errors import RunCancelled, WeftError
    from engine.execute import Cancellation

    json_output = not is_terminal(sys.stdout) if as_json is None else as_json
    chosen = options.settings(given)
    book = Path(manifest) if manifest is not None else chosen.output / "manifest.jsonl"
    with options.engine(chosen) as engine:
        try:
            wanted = batches.variations(
                files,
                engine.catalog,
                sets=dict(_assignment(text, "--set") for text in sets),
                jobs=batches.read_jobs(Path(jobs)) if jobs is not None else (),
                grid=dict(_axis(text) for text in grid),
                seed=seed,
                repeat=repeat,
            )
        except WeftError as cause:
            raise Refused(str(cause)) from cause
        if dry_run:
            _list(wanted, as_json=json_output)
            return OK
        cancellation = Cancellation()
        watch = _Lines() if json_output else _Bars(len(wanted)) if is_terminal(sys.stderr) else _Plain()
        try:
            records = _watched(engine, wanted, watch, cancellation, targets=targets or None, manifest=book, resume=resume)
        except RunCancelled:
            complain(f"the batch was stopped; {book} says what is done, --resume goes on", level="stopped")
            return INTERRUPTED
    if sheet is not None:
        _draw(Path(sheet), wanted, records)
    return _report(records, watch, book, sheet, as_json=json_output)


def _assignment(text: str, option: str) -> tuple[str, Any]:
    from engine.batch import Text

    left, equals, right = text.partition("=")
    if not equals:
        msg = f"{option} {text!r} is not NODE.INPUT=VALUE"
        raise Refused(msg)
    return left.strip(), Text(right)


def _axis(text: str) -> tuple[str, list[Any]]:
    """`NODE.INPUT` and the values of a `--grid`: a JSON array, or a line of CSV."""
    import csv

    from engine.batch import Text

    place, values = _assignment(text, "--grid")
    try:
        parsed = json.loads(values)
    except ValueError:
        parsed = None
    if isinstance(parsed, list):
        return place, parsed
    cells = next(csv.reader([values], skipinitialspace=True), [])
    if not cells or not all(cells):
        msg = f"--grid {text!r}: a value is empty"
        raise Refused(msg)
    return place, [Text(cell) for cell in cells]


def _list(wanted: Sequence[Variation], *, as_json: bool) -> None:
    for v in wanted:
        if as_json:
            emit({"variation": v.index, "key": v.key, "workflow": v.source, "set": dict(v.settings)})
        else:
            print(_line(v.index, v.source, v.settings))
    if not as_json:
        print(paint(counted(len(wanted), "variation"), dim=True))


def _line(index: int, source: str, settings: Any) -> str:
    return f"{index:04}  {source}  {', '.join(f'{k}={v}' for k, v in settings.items())}"


def _watched(engine: Engine, wanted: Sequence[Variation], watch: _Plain, cancellation: Any, **more: Any) -> tuple[Record, ...]:
    from engine.batch import run_batch
    from engine.cli.interrupt import Interrupts

    with Interrupts(cancellation, watch.close), watch:
        return run_batch(
            engine, wanted, on_start=watch.begin, on_event=watch.event, on_record=watch.end, cancellation=cancellation, **more
        )


def _draw(path: Path, wanted: Sequence[Variation], records: Sequence[Record]) -> None:
    from engine.sheet import layout, save_sheet

    save_sheet(path, layout(wanted, records))


def _report(records: Sequence[Record], watch: _Plain, book: Path, sheet: str | None, *, as_json: bool) -> int:
    bad = [r for r in records if r.status != "completed"]
    kept = len(records) - watch.count
    seconds = time.perf_counter() - watch.started
    if as_json:
        record = {"type": "result", "completed": len(records) - len(bad), "failed": len(bad), "already_done": kept}
        emit({**record, "manifest": str(book), "sheet": sheet, "seconds": round(seconds, 3)})
    else:
        if sheet is not None:
            print(sheet)
        done = f"{counted(len(records) - len(bad), 'variation')} completed, {len(bad)} failed"
        before = f", {kept} of them before" if kept else ""
        print(paint(f"{done}{before}, {lasting(seconds)}; {book}", dim=True, stream=sys.stderr), file=sys.stderr)
    return FAILED if bad else OK


class _Plain:
    """Says what became of each variation: its files on standard output, errors on standard error."""

    def __init__(self) -> None:
        self.count = 0
        self.started = time.perf_counter()

    def __enter__(self) -> None:
        """Nothing to open."""

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def begin(self, variation: Variation) -> None:
        """A variation begins."""

    def event(self, event: Event, /) -> None:
        """Something happened in it."""

    def end(self, record: Record) -> None:
        """A variation has finished."""
        self.count += 1
        for path in record.files:
            print(str(path))
        if record.error:
            complain(f"variation {record.variation} ({record.source}): {record.error}")


class _Lines(_Plain):
    """What became of each variation as a line of JSON."""

    def end(self, record: Record) -> None:
        """Write the record."""
        self.count += 1
        emit({"type": "variation", **record.json()})


class _Bars(_Plain):
    """A bar for the batch with the time that is left, and the bars of the variation that runs."""

    def __init__(self, total: int) -> None:
        super().__init__()
        from engine.cli.progress import Bars

        self._bars = Bars(total)

    def __enter__(self) -> None:
        """Draw the bars."""
        self._bars.__enter__()

    def __exit__(self, *_: object) -> None:
        """Remove the bars."""
        self._bars.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bars.close()

    def event(self, event: Event, /) -> None:
        """Show the event."""
        self._bars(event)

    def end(self, record: Record) -> None:
        """Move the bar on."""
        super().end(record)
        self._bars.variation_done()
