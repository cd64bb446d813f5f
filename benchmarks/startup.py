"""Start-up of the command line: wall-clock and process CPU time, best and median of several runs.

    python benchmarks/startup.py [--runs 9]

The floor is `python -c pass`. CPU time (user + system) is what an idle core would take; wall-clock time also counts
what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NODES = 1000
LIMITS = {"weft --help": 0.12, "weft validate (1,000 nodes)": 0.3}


def workflow(count):
    """Short chains of texts that end in outputs, `count` nodes in all."""
    nodes = {}
    for i in range(count):
        if i % 8 == 7:
            nodes[str(i)] = {"class_type": "PreviewAny", "inputs": {"source": [str(i - 1), 0]}}
        else:
            first = [str(i - 1), 0] if i % 8 else f"text {i}"
            nodes[str(i)] = {
                "class_type": "StringConcatenate",
                "inputs": {"string_a": first, "string_b": "b", "delimiter": " "},
            }
    return nodes


def measured(command, runs):
    """(wall, cpu) seconds of each run, with compiled modules at hand, as an installed program has them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(runs):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    weft = [sys.executable, "-m", "engine"]
    os.chdir(Path(__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workflow.json"
        file.write_text(json.dumps(workflow(NODES)), "utf-8")
        cache = ["--cache-dir", str(Path(folder) / "cache")]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "weft --help": [*weft, "--help"],
            "weft validate (1,000 nodes)": [*weft, "validate", str(file)],
            "weft explain (1,000 nodes)": [*weft, "explain", str(file), *cache],
            "weft nodes": [*weft, "nodes"],
            "weft nodes KSampler": [*weft, "nodes", "KSampler"],
            "weft run (1,000 nodes)": [*weft, "run", str(file), "--no-json", *cache],
        }
        print(f"{'seconds':30} {'wall best':>10} {'median':>8} {'cpu best':>10} {'median':>8} {'limit':>8}")
        for name, command in commands.items():
            times = measured(command, runs)
            columns = [f(t[i] for t in times) for i in (0, 1) for f in (min, statistics.median)]
            limit = LIMITS.get(name)
            print(f"{name:30} {columns[0]:10.3f} {columns[1]:8.3f} {columns[2]:10.3f} {columns[3]:8.3f} {limit or '':>8}")


if __name__ == "__main__":
    main()
