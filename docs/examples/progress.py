"""Progress and cancellation: a parameter of type `Run` is not a port."""

from engine import Cancellation, Catalog, Engine, Graph, RunCancelled, node
from engine.events import NodeProgress
from engine.types import Run


@node("Count", category="logic")
def count(to: int, run: Run) -> int:
    """Count, and say how far it is.

    Args:
        to: Where to stop.
        run: Is told how far it is; raises if somebody stopped the run.
    """
    total = 0
    for number in range(to):
        total += number
        run.progress(number + 1, to)
    return total


if __name__ == "__main__":
    cancellation = Cancellation()

    def watch(event: object) -> None:
        """Stop half-way."""
        if isinstance(event, NodeProgress) and event.done == 5:
            cancellation.set()

    with Engine(catalog=Catalog([count])) as engine:
        graph = Graph().add("out", "Count", to=10)
        try:
            engine.run(graph, ["out"], on_event=watch, cancellation=cancellation)
        except RunCancelled:
            print("stopped at 5 of 10")
        assert engine.run(graph, ["out"]).value("out") == 45
