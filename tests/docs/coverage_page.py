"""What of `docs/coverage.md` follows from the code: `python tests/docs/coverage_page.py` writes it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"
SHOWN = 60
"""How many missing kinds the page lists."""


@cache
def folder() -> Path | None:
    """Where the published workflows are; None where their package is not installed."""
    found = importlib.util.find_spec("comfyui_workflow_templates_json")
    places = found.submodule_search_locations if found is not None else None
    return Path(places[0]) / "templates" if places else None


@cache
def local() -> dict[str, dict[str, Any]]:
    """The published workflows that use no remote service, by name: those that their index does not mark as closed."""
    from engine.formats.ui import is_ui

    place = folder()
    assert place is not None
    index = json.loads((place / "index.json").read_bytes())
    closed = {entry["name"] for group in index for entry in group["templates"] if entry.get("openSource") is False}
    parsed = {path.stem: json.loads(path.read_bytes()) for path in sorted(place.glob("*.json")) if path.stem not in closed}
    return {name: document for name, document in parsed.items() if is_ui(document)}


@cache
def missing() -> dict[str, frozenset[str]]:
    """Name of a workflow to the kinds that it has and we have not."""
    from engine.formats.ui import read_ui
    from engine.schema import Catalog

    catalog = Catalog.load("nodes")
    graphs = {name: read_ui(document, catalog) for name, document in local().items()}
    return {name: frozenset(n.kind for n in graph.nodes.values() if n.kind not in catalog) for name, graph in graphs.items()}


@cache
def foreign() -> frozenset[str]:
    """The workflows whose kinds are all here, but that load a text encoder of a family that is not."""
    from engine.folders import Folders
    from engine.formats.ui import read_ui
    from engine.schema import Catalog
    from engine.validate import check

    catalog = Catalog.load("nodes")
    found = set()
    for name, document in local().items():
        if not missing()[name]:
            problems = check(read_ui(document, catalog), catalog, Folders()).problems
            if any(problem.code == "not-a-choice" and problem.port == "type" for problem in problems):
                found.add(name)
    return frozenset(found)


def summary() -> str:
    """How many workflows have all their kinds."""
    lacking = Counter(len(kinds) for kinds in missing().values())
    rows = [
        ("use no remote service", len(missing())),
        ("have all their kinds here", lacking[0]),
        ("... but load a text encoder of a family that is not here", len(foreign())),
        ("lack one", lacking[1]),
        ("lack two", lacking[2]),
        ("lack more", sum(count for number, count in lacking.items() if number > 2)),
    ]
    return "\n".join(["| of the published workflows | |", "|---|---|", *(f"| {what} | {count} |" for what, count in rows)])


def wanted() -> str:
    """The missing kinds that most workflows have."""
    files = Counter(kind for kinds in missing().values() for kind in kinds)
    alone = Counter(next(iter(kinds)) for kinds in missing().values() if len(kinds) == 1)
    ranked = sorted(files, key=lambda kind: (-files[kind], kind))[:SHOWN]
    rows = [f"| `{kind}` | {files[kind]} | {alone[kind] or ''} |" for kind in ranked]
    return "\n".join(["| kind | workflows that have it | that lack nothing else |", "|---|---|---|", *rows])


def complete() -> str:
    """The workflows that lack nothing."""
    return "\n".join(f"- {name}" for name, kinds in missing().items() if not kinds and name not in foreign())


def page(text: str) -> str:
    """The page with its parts brought up to date."""
    for mark, content in (("summary", summary()), ("wanted", wanted()), ("complete", complete())):
        text = re.sub(
            rf"(<!-- begin {mark} -->\n).*?(<!-- end {mark} -->)",
            lambda m, content=content: f"{m[1]}{content}\n{m[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
