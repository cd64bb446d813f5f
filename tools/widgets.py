"""Write what the widgets of the field's kinds are, from what a server of the field says of them.

    python -m tools.widgets object_info.json

The file is the answer of `/object_info`, of ComfyUI v0.3.64 for the one that is shipped. Interfaces only: names, types,
defaults.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine.formats.widgets import Widget, of_object_info

TARGET = Path(__file__).resolve().parents[1] / "engine" / "assets" / "widgets.json"

ADDED = {"SaveGLB": (Widget("image", "STRING", ""),)}
"""Widgets that the page adds to a kind and sends."""


def main() -> None:
    """Read and write."""
    kinds: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    found = {name: (*of_object_info(info), *ADDED.get(name, ())) for name, info in sorted(kinds.items())}
    TARGET.write_text(json.dumps({k: [_short(w) for w in v] for k, v in found.items()}, separators=(",", ":")) + "\n", "utf-8")


def _short(widget: Widget) -> list[Any]:
    """A widget without the defaults at its end."""
    fields = list(widget)
    for default in (False, 0):
        if fields[-1] is default or (fields[-1] == default and type(fields[-1]) is type(default)):
            fields.pop()
        else:
            break
    return fields


if __name__ == "__main__":
    main()
