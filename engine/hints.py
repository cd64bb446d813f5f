"""What would help: the nearest known names. Bounded, so that a hostile document costs no more than a sound one."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

SUGGESTIONS = 3
"""How many near names a hint offers."""

MAX_SEARCHES = 50
"""How many names of one document are searched for near ones; a document with more problems has another problem."""

MAX_NAME = 100
"""A longer name is no misspelling."""

MAX_LISTED = 12
"""How many names can be read at a glance."""

MAX_SHORT = 60


class Hints:
    """Finds near names, at most `MAX_SEARCHES` times."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], str | None] = {}

    def near(self, name: str, names: Collection[str]) -> str | None:
        """A hint that says which of `names` may have been meant, or None."""
        if len(name) > MAX_NAME:
            return None
        place = (name, id(names))
        if place not in self._known:
            if len(self._known) >= MAX_SEARCHES:
                return None
            self._known[place] = _near(name, names)
        return self._known[place]


def short(value: Any) -> str:
    """A value as a piece of a line."""
    text = repr(value)
    return text if len(text) <= MAX_SHORT else f"{text[: MAX_SHORT - 3]}..."


def _near(name: str, names: Collection[str]) -> str | None:
    found = get_close_matches(name, names, n=SUGGESTIONS, cutoff=0.5)
    if not found:
        folded = {n.lower(): n for n in names}
        found = [folded[m] for m in get_close_matches(name.lower(), list(folded), n=SUGGESTIONS, cutoff=0.5)]
    if found:
        return f"did you mean {' or '.join(map(repr, found))}?"
    if 0 < len(names) <= MAX_LISTED:
        return f"there are {', '.join(map(repr, names))}"
    return None
