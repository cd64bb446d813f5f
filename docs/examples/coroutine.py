"""A coroutine node waits without holding up the others."""

import asyncio
import time

from engine import Catalog, Engine, Graph, Link, node


@node("Fetch", category="text")
async def fetch(name: str) -> str:
    """Stand in for a slow service.

    Args:
        name: What to ask it for.
    """
    await asyncio.sleep(0.3)
    return f"answer to {name}"


if __name__ == "__main__":
    graph = (
        Graph()
        .add("a", "Fetch", name="one")
        .add("b", "Fetch", name="two")
        .add("out", "StringConcatenate", string_a=Link("a"), string_b=Link("b"), delimiter="; ")
    )
    with Engine(catalog=Catalog.load("nodes") | Catalog([fetch])) as engine:
        started = time.perf_counter()
        assert engine.run(graph, ["out"]).value("out") == "answer to one; answer to two"
        assert time.perf_counter() - started < 0.6  # both waited at the same time
