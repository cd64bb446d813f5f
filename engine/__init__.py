"""Weft: a node-graph workflow engine for diffusion models.

from engine import Engine

with Engine(models_dir="models", output_dir="output") as engine:
result = engine.run("workflows/portrait.json")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.engine import Engine
    from engine.errors import NodeFailed, Problem, RunCancelled, WeftError, WorkflowInvalid
    from engine.execute import Cancellation
    from engine.formats.files import load
    from engine.graph import Graph, Link, Mode, Node
    from engine.result import Report, RunResult
    from engine.schema import Catalog, node

__version__ = "0.1.0"

_HOMES = {
    "Cancellation": "engine.execute",
    "Catalog": "engine.schema",
    "Engine": "engine.engine",
    "Graph": "engine.graph",
    "Link": "engine.graph",
    "Mode": "engine.graph",
    "Node": "engine.graph",
    "NodeFailed": "engine.errors",
    "Problem": "engine.errors",
    "Report": "engine.result",
    "RunCancelled": "engine.errors",
    "RunResult": "engine.result",
    "WeftError": "engine.errors",
    "WorkflowInvalid": "engine.errors",
    "load": "engine.formats.files",
    "node": "engine.schema",
}

__all__ = [
    "Cancellation",
    "Catalog",
    "Engine",
    "Graph",
    "Link",
    "Mode",
    "Node",
    "NodeFailed",
    "Problem",
    "Report",
    "RunCancelled",
    "RunResult",
    "WeftError",
    "WorkflowInvalid",
    "load",
    "node",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        msg = f"module 'engine' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
