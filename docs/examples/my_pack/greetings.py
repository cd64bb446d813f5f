"""Nodes that greet."""

from typing import Literal

from engine import node


@node("Greet", category="text")
def greet(name: str, language: Literal["en", "de"] = "en") -> str:
    """Greet somebody.

    Args:
        name: Whom.
        language: In which language.
    """
    return f"{'Hello' if language == 'en' else 'Hallo'}, {name}!"
