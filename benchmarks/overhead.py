"""What the engine costs for each node, end to end: read, validate, plan, run, events, on nodes that do nothing.

    python benchmarks/overhead.py [--repeat 7]

Prints microseconds a node (median of the repeats, each in a fresh engine) for a first run, the same file again, the file
with one leaf edited, and the same two as edits of a graph in memory. Beside it stands a bare loop that calls the same
functions in order, so that the machine's speed can be divided out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from engine import Catalog, Engine, node
from engine.formats.files import load


@node("Add")
def add(*, a: int = 0, b: int = 0) -> int:
    """Add two numbers.

    Args:
        a: One.
        b: Other.
    """
    return a + b


@node("Sum", effect=True)
def total(**parts: int) -> int:
    """Add any number of numbers.

    Args:
        parts: The numbers.
    """
    return sum(parts.values())


def workflow(nodes: int, wide: int) -> dict[str, dict]:
    """A workflow of `nodes` nodes in `wide` chains that meet in one output."""
    graph: dict[str, dict] = {}
    for i in range(nodes - 1):
        a = i if i < wide else [str(i - wide), 0]
        graph[str(i)] = {"class_type": "Add", "inputs": {"a": a, "b": i}}
    ends = {f"p{j}": [str(nodes - 2 - j), 0] for j in range(min(wide, nodes - 1))}
    graph["out"] = {"class_type": "Sum", "inputs": ends}
    return graph


def bare(nodes: int, wide: int) -> float:
    """Seconds that the same calls take in a plain loop."""
    started = time.perf_counter()
    values: list[int] = []
    for i in range(nodes - 1):
        values.append(add(a=i if i < wide else values[i - wide], b=i))
    total(**{f"p{j}": values[-1 - j] for j in range(wide)})
    return time.perf_counter() - started


def measure(nodes: int, wide: int, repeat: int, folder: Path) -> dict[str, float]:
    """Median microseconds a node for each situation."""
    document = workflow(nodes, wide)
    path, edited = folder / "first.json", folder / "edited.json"
    path.write_text(json.dumps(document))
    document[str(nodes - 2)]["inputs"]["b"] = -5
    edited.write_text(json.dumps(document))
    taken: dict[str, list[float]] = {}
    for _ in range(repeat):
        engine = Engine(catalog=Catalog([add, total]))
        events: list[object] = []

        def timed(name: str, workflow: object, engine: Engine = engine, events: list[object] = events) -> None:
            started = time.perf_counter()
            engine.run(workflow, on_event=events.append)  # type: ignore[arg-type]
            taken.setdefault(name, []).append((time.perf_counter() - started) / nodes * 1e6)

        timed("first run", path)
        timed("same file", path)
        timed("edited file", edited)
        graph = load(path)
        engine.run(graph)
        timed("same graph", graph)
        timed("edited graph", graph.set(str(nodes - 2), b=-7))
        taken.setdefault("bare loop", []).append(bare(nodes, wide) / nodes * 1e6)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            f"{nodes} nodes, {shape}": measure(nodes, wide, repeat, Path(folder))
            for nodes in (1_000, 10_000)
            for shape, wide in (("50 wide", 50), ("one chain", 1))
        }
    names = list(next(iter(rows.values())))
    print(f"{'us a node':24}" + "".join(f"{n:>14}" for n in names))
    for title, row in rows.items():
        print(f"{title:24}" + "".join(f"{row[n]:14.2f}" for n in names))


if __name__ == "__main__":
    main()
