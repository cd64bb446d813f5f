"""The workflow as nodes of packs look at it while it runs: `DYNPROMPT`."""

from __future__ import annotations

from typing import Any

from engine.fingerprint import Bound
from engine.graph import Link


def is_link(value: Any) -> bool:
    """Whether a value is a link in the API format: an id and the index of an output."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
        and not isinstance(value[1], bool)
    )


class Prompt:
    """The nodes of a run, with the parts of subgraphs that came while running.

    Args:
        run: The handle of the run.
    """

    def __init__(self, run: Any) -> None:
        self._run = run

    def get_node(self, node_id: str) -> dict[str, Any]:
        """A node in the API format.

        Raises:
            KeyError: if there is none.
        """
        node = self._run.nodes[node_id]
        inputs: dict[str, Any] = {}
        for name, value in node.node.inputs.items():
            if name in node.links:
                inputs[name] = [*node.links[name]]
            elif isinstance(value, Bound):
                inputs[name] = value.value
            elif not isinstance(value, Link):
                inputs[name] = value
        return {"class_type": node.kind.id, "inputs": inputs, "_meta": {"title": node.title}}

    def has_node(self, node_id: str) -> bool:
        """Whether there is a node with this id."""
        return node_id in self._run.nodes

    def all_node_ids(self) -> set[str]:
        """The ids of all nodes."""
        return set(self._run.nodes)

    def get_original_prompt(self) -> dict[str, Any]:
        """The workflow in the API format, without parts of subgraphs."""
        prompt: dict[str, Any] = self._run.documents["prompt"]
        return prompt

    def get_real_node_id(self, node_id: str) -> str:
        """The id of the workflow's own node that a node is, or is part of."""
        original = self.get_original_prompt()
        while node_id not in original and "." in node_id:
            node_id = node_id.rpartition(".")[0]
        return node_id

    def get_parent_node_id(self, node_id: str) -> str | None:
        """The id of the workflow's own node that a node is part of; None if it is none."""
        return None if node_id in self.get_original_prompt() else self.get_real_node_id(node_id)

    get_display_node_id = get_real_node_id
