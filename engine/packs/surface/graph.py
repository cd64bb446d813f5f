"""`comfy_execution.graph` and `comfy_execution.graph_utils`: subgraphs that nodes become, and values that stop a branch."""

from __future__ import annotations

from typing import Any

from engine.packs.prompt import Prompt, is_link
from engine.packs.scene import scene
from engine.types import Blocked

ExecutionBlocker = Blocked
DynamicPrompt = Prompt

__all__ = ["DynamicPrompt", "ExecutionBlocker", "GraphBuilder", "Node", "add_graph_prefix", "is_link"]


class Node:
    """A node of a subgraph.

    Args:
        id: Its id.
        class_type: Its kind.
        inputs: Values, and links as `[id, index]`.
    """

    def __init__(self, id: str, class_type: str, inputs: dict[str, Any]) -> None:  # noqa: A002 - packs call it so
        self.id = id
        self.class_type = class_type
        self.inputs = inputs
        self.override_display_id: str | None = None

    def out(self, index: int) -> list[Any]:
        """A link to an output."""
        return [self.id, index]

    def set_input(self, key: str, value: Any) -> None:
        """Set an input; None removes it."""
        if value is None:
            self.inputs.pop(key, None)
        else:
            self.inputs[key] = value

    def get_input(self, key: str) -> Any:
        """The value of an input, or None."""
        return self.inputs.get(key)

    def set_override_display_id(self, override_display_id: str) -> None:
        """Say which node of the page stands for this one."""
        self.override_display_id = override_display_id

    def serialize(self) -> dict[str, Any]:
        """The node in the API format."""
        record: dict[str, Any] = {"class_type": self.class_type, "inputs": self.inputs}
        if self.override_display_id is not None:
            record["override_display_id"] = self.override_display_id
        return record


class GraphBuilder:
    """Builds a subgraph.

    Args:
        prefix: What the ids start with; a number that this call has not used yet when None.
    """

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = self.alloc_prefix() if prefix is None else prefix
        self.nodes: dict[str, Node] = {}
        self.id_gen = 1

    @classmethod
    def set_default_prefix(cls, prefix_root: str, call_index: int, graph_index: int = 0) -> None:
        """Nothing to do: the engine makes the ids of each call unique."""

    @classmethod
    def alloc_prefix(cls, *_: object) -> str:
        """A prefix that this call has not used yet."""
        return f"{next(scene().graphs)}."

    def node(self, class_type: str, id: str | None = None, **inputs: Any) -> Node:  # noqa: A002 - packs call it so
        """Add a node; the one with this id where there is one."""
        if id is None:
            id = str(self.id_gen)  # noqa: A001 - the parameter
            self.id_gen += 1
        full = self.prefix + id
        if full not in self.nodes:
            self.nodes[full] = Node(full, class_type, inputs)
        return self.nodes[full]

    def lookup_node(self, id: str) -> Node | None:  # noqa: A002 - packs call it so
        """The node with an id, or None."""
        return self.nodes.get(self.prefix + id)

    def finalize(self) -> dict[str, Any]:
        """The subgraph in the API format."""
        return {node_id: node.serialize() for node_id, node in self.nodes.items()}

    def replace_node_output(self, node_id: str, index: int, new_value: Any) -> None:
        """Put a value, or another link, in the place of every link to an output; None removes them."""
        full = self.prefix + node_id
        for node in self.nodes.values():
            for key, value in list(node.inputs.items()):
                if is_link(value) and value[0] == full and value[1] == index:
                    node.set_input(key, new_value)

    def remove_node(self, id: str) -> None:  # noqa: A002 - packs call it so
        """Remove a node."""
        del self.nodes[self.prefix + id]


def add_graph_prefix(graph: dict[str, Any], outputs: Any, prefix: str) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """A subgraph and its outputs with a prefix before every id."""

    def moved(value: Any) -> Any:
        return [prefix + value[0], value[1]] if is_link(value) else value

    nodes = {
        prefix + node_id: {**record, "inputs": {n: moved(v) for n, v in record.get("inputs", {}).items()}}
        for node_id, record in graph.items()
    }
    return nodes, tuple(moved(value) for value in outputs)
