"""What reading workflows in the page's own format costs: everything that the field publishes, and one of 10,000 nodes.

    python benchmarks/formats.py [--repeat 5]

Prints seconds for all published workflows (package `comfyui-workflow-templates-json`) and milliseconds for the median one,
parsing included, beside what parsing the JSON alone takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path

from engine import Catalog
from engine.formats.files import loads
from engine.formats.ui import is_ui


def corpus() -> list[bytes]:
    """The published workflows."""
    found = importlib.util.find_spec("comfyui_workflow_templates_json")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install comfyui-workflow-templates-json==0.1.123")
    folder = Path(found.submodule_search_locations[0]) / "templates"
    return [data for path in sorted(folder.glob("*.json")) if is_ui(json.loads(data := path.read_bytes()))]


def large(nodes: int) -> bytes:
    """A chain of samplers, each with its widgets."""
    records = [
        {
            "id": i,
            "type": "KSampler",
            "pos": [i, 0],
            "inputs": [{"name": "latent_image", "type": "LATENT", "link": i or None}],
            "outputs": [{"name": "LATENT", "type": "LATENT", "links": [i + 1]}],
            "widgets_values": [i, "randomize", 20, 8, "euler", "normal", 1],
        }
        for i in range(nodes)
    ]
    links = [[i, i - 1, 0, i, 0, "LATENT"] for i in range(1, nodes)]
    return json.dumps({"nodes": records, "links": links, "version": 0.4}).encode()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    catalog = Catalog.load()
    files = corpus()
    chain = large(10_000)
    rows: dict[str, list[tuple[float, float]]] = {}

    def timed(name: str, data: list[bytes]) -> None:
        taken = []
        for one in data:
            started = time.perf_counter()
            json.loads(one)
            parsed = time.perf_counter()
            loads(one, catalog)
            taken.append((time.perf_counter() - parsed, parsed - started))
        rows.setdefault(name, []).append((sum(t for t, _ in taken), sum(t for _, t in taken)))
        if len(data) > 1:
            median = statistics.median(t for t, _ in taken)
            rows.setdefault("the median file", []).append((median, statistics.median(t for _, t in taken)))

    for _ in range(repeat):
        timed(f"{len(files)} published files", files)
        timed("10,000 nodes", [chain])
    print(f"{'milliseconds':24}{'read':>12}{'JSON alone':>12}")
    for name, values in rows.items():
        ours, alone = (statistics.median(column) * 1e3 for column in zip(*values, strict=True))
        print(f"{name:24}{ours:12.1f}{alone:12.1f}")


if __name__ == "__main__":
    main()
