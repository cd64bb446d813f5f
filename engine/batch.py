"""Many variations of workflows in one process, sharing models and results.

    variations = engine.batch.variations(["portrait.json"], engine.catalog, grid={"3.cfg": [4, 7], "3.steps": [10, 20]})
    records = engine.batch.run_batch(engine, variations, manifest=Path("output/manifest.jsonl"), resume=True)

`variations` says what is to be run, `arranged` in which order so that shared parts run once, `run_batch` runs it and
leaves a line in the manifest as each finishes.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import edits
from engine.errors import FormatError, NodeFailed, WeftError, WorkflowInvalid
from engine.fingerprint import digest
from engine.formats.files import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from engine.engine import Engine
    from engine.events import Sink
    from engine.execute import Cancellation
    from engine.graph import Graph
    from engine.plan import Step
    from engine.schema import Catalog

_LABEL = 60
"""How many characters of a value a label shows."""


class Text(str):
    """A value as text, read by the type of the port that it is for; what tables and command lines hold."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Variation:
    """One run of a batch.

    Attributes:
        index: Its place among those asked for, from 1; part of the names of its files.
        source: What the workflow is called.
        graph: What runs.
        key: Names what runs by its content: equal for equal graphs, whatever the order or the number of variations.
        settings: `NODE.INPUT` to value, for every input that the batch sets.
        labels: Where it stands: name of the axis to a label on it, for every axis of the batch.
    """

    index: int
    source: str
    graph: Graph
    key: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a variation: a line of the manifest.

    Attributes:
        variation: Its index.
        key: Its key.
        source: What the workflow is called.
        status: `completed`, `failed` or `invalid`.
        settings: `NODE.INPUT` to value.
        files: The files that it wrote.
        seconds: How long it took.
        ran: How many nodes ran.
        hits: How many nodes were known.
        error: What went wrong, empty if nothing did.
    """

    variation: int
    key: str
    source: str
    status: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    seconds: float = 0.0
    ran: int = 0
    hits: int = 0
    error: str = ""

    def json(self, root: Path | None = None) -> dict[str, Any]:
        """The record as a JSON object; files below `root` are named relative to it."""
        return {
            "variation": self.variation,
            "key": self.key,
            "workflow": self.source,
            "status": self.status,
            "set": dict(self.settings),
            "files": [_relative(path, root) for path in self.files],
            "seconds": round(self.seconds, 3),
            "ran": self.ran,
            "hits": self.hits,
            **({"error": self.error} if self.error else {}),
        }


class Manifest:
    """The records of a batch as lines of JSON, each on the disk before the next variation begins.

    Args:
        path: The file; made when the first record comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def finished(self) -> dict[str, Record]:
        """Key to the last record of every variation that was completed. A line cut off by a kill is passed over."""
        found: dict[str, Record] = {}
        if not self.path.is_file():
            return found
        for line in self.path.read_bytes().splitlines():
            try:
                row = json.loads(line)
                record = Record(
                    row["variation"],
                    row["key"],
                    row["workflow"],
                    row["status"],
                    row["set"],
                    tuple(self.path.parent / name for name in row["files"]),
                    row["seconds"],
                    row["ran"],
                    row["hits"],
                )
            except (ValueError, KeyError, TypeError):
                continue
            if record.status == "completed":
                found[record.key] = record
        return found

    def append(self, record: Record) -> None:
        """Write a record and wait until the disk has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record.json(self.path.parent), ensure_ascii=False, default=str).encode() + b"\n"
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line  # the last line was cut off by a kill
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def read_jobs(path: Path) -> list[dict[str, Any]]:
    """The rows of a table: CSV with `NODE.INPUT` as column titles, or a JSON object with such keys on each line.

    An empty cell leaves the input as it is.

    Raises:
        FormatError: naming file and line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as cause:
        msg = f"cannot read the table: {cause.strerror or cause}"
        raise FormatError(msg, source=str(path)) from cause
    except UnicodeDecodeError as cause:
        msg = f"not text: {cause.reason}"
        raise FormatError(msg, source=str(path), offset=cause.start) from cause
    if path.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        return [_job(line, path, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows: list[dict[str, Any]] = []
    reader = csv.DictReader(text.splitlines(keepends=True), skipinitialspace=True)
    for row in reader:
        if row.get(None) is not None:  # that is where csv puts what is too much
            msg = f"line {reader.line_num} has more cells than there are columns; put texts with commas in quotes"
            raise FormatError(msg, source=str(path))
        rows.append({name.strip(): Text(cell) for name, cell in row.items() if cell})
    return rows


def _job(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as cause:
        msg = f"line {number} is not JSON: {cause}"
        raise FormatError(msg, source=str(path)) from cause
    if not isinstance(row, dict):
        msg = f"line {number} is not an object of NODE.INPUT and values"
        raise FormatError(msg, source=str(path))
    return {name: edits.linked(value) for name, value in row.items()}


def variations(
    workflows: Iterable[Mapping[str, Any] | str | Path | Graph],
    catalog: Catalog,
    *,
    sets: Mapping[str, Any] | None = None,
    jobs: Sequence[Mapping[str, Any]] = (),
    grid: Mapping[str, Sequence[Any]] | None = None,
    seed: int | None = None,
    repeat: int = 1,
) -> tuple[Variation, ...]:
    """Every combination of workflow, row, point of the grid and repetition; what comes last varies fastest.

    Args:
        workflows: Parsed documents, paths, or graphs.
        catalog: The kinds, to know the types of ports and which of them are seeds.
        sets: `NODE.INPUT` to value, for all.
        jobs: Rows of `NODE.INPUT` to value, each a variation.
        grid: `NODE.INPUT` to the values that it takes.
        seed: For every seed that is not linked.
        repeat: How often, with successive seeds.

    Raises:
        FormatError: if a workflow is none.
        WeftError: if an edit names what a workflow does not have, or repetitions would be the same for want of a seed.
    """
    sources = [(_name(workflow, i), load(workflow, catalog)) for i, workflow in enumerate(workflows, 1)]
    names = _distinct([name for name, _ in sources])
    columns = {place: list(zip(values, _labels(values), strict=True)) for place, values in (grid or {}).items()}
    is_seed_known = len(sources) == 1 and not any(_is_seed(place) for place in [*columns, *(p for job in jobs for p in job)])
    found: list[Variation] = []
    seen: Counter[str] = Counter()
    for (source, graph), name in zip(sources, names, strict=True):
        base = graph if seed is None else edits.reseeded(graph, catalog, seed)
        for number, job in enumerate(jobs or ({},), 1):
            for point in itertools.product(*columns.values()):
                chosen = {place: value for place, (value, _) in zip(columns, point, strict=True)}
                wanted = _placed(base, catalog, source, {**(sets or {}), **job, **chosen})
                edited = edits.edited(base, wanted)
                labels = {"workflow": name} if len(sources) > 1 else {}
                labels |= {"row": _row_label(number, job)} if jobs else {}
                labels |= {place: label for place, (_, label) in zip(columns, point, strict=True)}
                for i in range(repeat):
                    final = edits.advanced(edited, catalog, i)
                    seeds = edits.seeds(final, catalog) if repeat > 1 or seed is not None else {}
                    if repeat > 1:
                        labels = {**labels, "seed": str(next(iter(seeds.values()), "")) if is_seed_known else f"+{i}"}
                    settings = {
                        str(p): final[p.node].inputs[p.input] for p in {**seeds, **wanted} if p.input in final[p.node].inputs
                    }
                    key = _content(final)
                    seen[key] += 1
                    key = key if seen[key] == 1 else f"{key}-{seen[key]}"
                    found.append(Variation(len(found) + 1, source, final, key, settings, labels))
    return tuple(found)


def arranged(rows: Sequence[Sequence[bytes]]) -> tuple[int, ...]:
    """An order in which rows that share keys stand together.

    The rows that share the most shared key come together, among them those that share the next, and so on: whatever
    keeps only the latest results computes each shared key once. Otherwise the given order is kept.

    Args:
        rows: For each variation the keys of its costly calls, sources first.

    Returns:
        Places in `rows`, each once.
    """
    order: list[int] = []
    groups = [list(range(len(rows)))]
    keys = [frozenset(row) for row in rows]
    while groups:
        group = groups.pop()
        if len(group) == 1:
            order.append(group[0])
            continue
        counts = Counter(key for i in group for key in keys[i])
        rank = {key: place for place, key in enumerate(dict.fromkeys(key for i in group for key in rows[i]))}
        parted: dict[bytes | int, list[int]] = {}
        for i in group:
            shared = [key for key in keys[i] if 1 < counts[key] < len(group)]
            best = min(shared, key=lambda key: (-counts[key], rank[key]), default=None)
            parted.setdefault(i if best is None else best, []).append(i)
        if len(parted) == 1 or len(parted) == len(group):
            order.extend(group)
        else:
            groups.extend(reversed(parted.values()))
    return tuple(order)


def run_batch(
    engine: Engine,
    wanted: Sequence[Variation],
    *,
    targets: Iterable[str] | None = None,
    manifest: Path | None = None,
    resume: bool = False,
    on_start: Callable[[Variation], None] | None = None,
    on_event: Sink | None = None,
    on_record: Callable[[Record], None] | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Record, ...]:
    """Run variations; one that fails does not stop the rest.

    Files of different variations have different names: the index of the variation is part of `filename_prefix`.

    Args:
        engine: Runs them, and keeps what they share.
        wanted: The variations.
        targets: Ids or titles of the nodes to compute; all output nodes when None.
        manifest: File that gets a line as each finishes.
        resume: Leave out what the manifest says is completed.
        on_start: Told which variation begins.
        on_event: Takes the events of every run.
        on_record: Told what became of each, in the order in which they finish; not of those left out.
        cancellation: Stops the batch at the next step.

    Returns:
        A record of every variation, those left out as well, in the order of `wanted`.

    Raises:
        RunCancelled: if the batch was cancelled; what finished is in the manifest.
    """
    book = Manifest(manifest) if manifest is not None else None
    done = book.finished() if book is not None and resume else {}
    records = {v.key: done[v.key] for v in wanted if v.key in done}
    nodes = tuple(targets) if targets is not None else None

    def settled(record: Record) -> None:
        records[record.key] = record
        if book is not None:
            book.append(record)
        if on_record is not None:
            on_record(record)

    todo: list[Variation] = []
    rows: list[tuple[bytes, ...]] = []
    for variation in wanted:
        if variation.key in done:
            continue
        try:
            plan = engine.explain(variation.graph, nodes)
        except (WeftError, OSError) as cause:
            settled(_record(variation, "invalid", error=str(cause)))
            continue
        todo.append(variation)
        rows.append(tuple(step.key for step in plan.every if _is_costly(step)))
    for i in arranged(rows):
        if on_start is not None:
            on_start(todo[i])
        settled(_run(engine, todo[i], nodes, on_event, cancellation))
    return tuple(records[v.key] for v in wanted)


def _run(
    engine: Engine,
    variation: Variation,
    targets: tuple[str, ...] | None,
    on_event: Sink | None,
    cancellation: Cancellation | None,
) -> Record:
    started = time.perf_counter()
    graph = named_apart(variation.graph, engine.catalog, variation.index)
    try:
        result = engine.run(graph, targets, on_event=on_event, cancellation=cancellation)
    except WorkflowInvalid as cause:
        return _record(variation, "invalid", error=str(cause), seconds=time.perf_counter() - started)
    except (WeftError, OSError) as cause:
        where = "" if isinstance(cause, NodeFailed) else f"{type(cause).__name__}: "
        return _record(variation, "failed", error=f"{where}{cause}", seconds=time.perf_counter() - started)
    report = result.report
    return _record(
        variation, "completed", files=result.files, seconds=report.seconds, ran=len(report.ran), hits=len(report.hits)
    )


def named_apart(graph: Graph, catalog: Catalog, index: int) -> Graph:
    """The graph with `index` appended to the `filename_prefix` of every output node."""
    for node_id, node in graph.nodes.items():
        kind = catalog.get(node.kind)
        if kind is None or not kind.effect or "filename_prefix" not in kind.inputs:
            continue
        prefix = node.inputs.get("filename_prefix", kind.inputs["filename_prefix"].default)
        if isinstance(prefix, str):
            graph = graph.set(node_id, filename_prefix=f"{prefix}_{index:04}")
    return graph


def _record(variation: Variation, status: str, **more: Any) -> Record:
    return Record(variation.index, variation.key, variation.source, status, variation.settings, **more)


def _is_costly(step: Step) -> bool:
    """Whether a call is worth keeping together: not an output, and not a constant that costs nothing to make again."""
    kind = step.node.kind
    return not kind.effect and (bool(step.node.links) or kind.has_files)


def _placed(graph: Graph, catalog: Catalog, source: str, given: Mapping[str, Any]) -> dict[edits.Place, Any]:
    """The inputs and values that `given` means in a graph."""
    try:
        wanted = {}
        for text, value in given.items():
            where = edits.place(graph, catalog, text)
            wanted[where] = edits.typed(graph, catalog, where, str(value)) if isinstance(value, Text) else value
    except WeftError as cause:
        msg = f"{source}: {cause}"
        raise WeftError(msg) from cause
    return wanted


def _content(graph: Graph) -> str:
    """A name for what a graph says, apart from titles."""
    return digest({i: [n.kind, dict(n.inputs), n.mode.value] for i, n in graph.nodes.items()}).hex()


def _name(workflow: object, number: int) -> str:
    return str(workflow) if isinstance(workflow, str | Path) else f"workflow {number}"


def _distinct(names: Sequence[str]) -> list[str]:
    """Short names for files: the stem, or the whole path where stems are equal."""
    stems = [Path(name).stem for name in names]
    return [stem if stems.count(stem) == 1 else name for stem, name in zip(stems, names, strict=True)]


def _label(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"


def _labels(values: Sequence[Any]) -> list[str]:
    """Labels of the values of an axis; equal ones are numbered."""
    labels = [_label(value) for value in values]
    seen: Counter[str] = Counter()
    for i, label in enumerate(labels):
        seen[label] += 1
        if seen[label] > 1:
            labels[i] = f"{label} #{seen[label]}"
    return labels


def _is_seed(place: str) -> bool:
    return place.rpartition(".")[2] in edits.SEED_INPUTS


def _row_label(number: int, job: Mapping[str, Any]) -> str:
    return f"{number}: " + ", ".join(_label(value) for value in job.values())


def _relative(path: Path, root: Path | None) -> str:
    if root is not None and path.resolve().is_relative_to(root.resolve()):
        return path.resolve().relative_to(root.resolve()).as_posix()
    return str(path.resolve())


def axes(wanted: Iterable[Variation]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every axis along which variations differ, with its labels in order."""
    labels: dict[str, dict[str, None]] = {}
    for variation in wanted:
        for axis, label in variation.labels.items():
            labels.setdefault(axis, {})[label] = None
    return ((axis, tuple(names)) for axis, names in labels.items() if len(names) > 1)
