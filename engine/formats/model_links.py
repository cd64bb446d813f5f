"""Where the models that a workflow names can be downloaded, as far as its file says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from engine.formats.ui import is_ui

if TYPE_CHECKING:
    from collections.abc import Iterator


class ModelLink(NamedTuple):
    """A model that a workflow names.

    Attributes:
        folder: The model folder that it belongs in, such as `checkpoints`.
        name: Its name there.
        url: Where it can be downloaded.
        sha256: Digest of its content, or None.
    """

    folder: str
    name: str
    url: str
    sha256: str | None = None


def model_links(document: Any) -> tuple[ModelLink, ...]:
    """The models that a document in the page's own format names, each once; none for any other value."""
    if not is_ui(document):
        return ()
    found: dict[tuple[str, str], ModelLink] = {}
    for record in _records(document):
        folder, name, url = (record.get(member) for member in ("directory", "name", "url"))
        if isinstance(folder, str) and isinstance(name, str) and isinstance(url, str):
            digest = record.get("hash") if str(record.get("hash_type", "")).lower() == "sha256" else None
            link = ModelLink(folder, name, url, digest.lower() if isinstance(digest, str) else None)
            found.setdefault((link.folder, link.name), link)
    return tuple(found.values())


def _records(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What nodes, at any level, and the document itself say about models."""
    front: list[Any] = [document]
    while front:
        level = front.pop()
        if not isinstance(level, dict):
            continue
        yield from (m for m in _list(level.get("models")) if isinstance(m, dict))
        for node in _list(level.get("nodes")):
            properties = node.get("properties") if isinstance(node, dict) else None
            if isinstance(properties, dict):
                yield from (m for m in _list(properties.get("models")) if isinstance(m, dict))
        definitions = level.get("definitions")
        if isinstance(definitions, dict):
            front.extend(_list(definitions.get("subgraphs")))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
