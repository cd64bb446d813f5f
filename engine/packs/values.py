"""Values at the border: what nodes of packs expect, and what Weft keeps.

Packs know a latent as a dict, a conditioning as a list of [tensor, dict]; both are converted either way without loss.
Packs may change what they are given, so dicts and lists are handed out as copies; tensors are shared. Everything else
passes as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.types import Cond, Conditioning, Latent

_THEIRS = {"concat_latent": "concat_latent_image"}
"""Options of a conditioning that packs know under another name."""
_OURS = {theirs: ours for ours, theirs in _THEIRS.items()}
_EXTRA = "weft_extra"
"""Under which name the tensors of `Cond.extra` travel through a pack."""


@dataclass(frozen=True, slots=True)
class MoreLatent(Latent):
    """A latent about which a pack said more.

    Attributes:
        more: The further members of its dict.
    """

    more: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def to_pack(value: Any) -> Any:
    """A value as the nodes of packs expect it."""
    if isinstance(value, Latent):
        shell: dict[str, Any] = {"samples": value.samples}
        if value.noise_mask is not None:
            shell["noise_mask"] = value.noise_mask
        if value.batch_index is not None:
            shell["batch_index"] = list(value.batch_index)
        return shell | dict(value.more) if isinstance(value, MoreLatent) else shell
    if isinstance(value, Conditioning):
        return [_entry(cond) for cond in value.entries]
    return copied(value)


def copied(value: Any) -> Any:
    """A value with its dicts and lists copied, and what they hold shared."""
    if type(value) is dict:
        return {k: copied(v) for k, v in value.items()}
    if type(value) is list:
        return [copied(v) for v in value]
    return value


def from_pack(value: Any, type_name: str) -> Any:
    """A value as Weft keeps it.

    Args:
        value: What a node of a pack returned, or put into a subgraph.
        type_name: The type of the port; `*` is judged by the shape of the value.
    """
    is_open = type_name == "*"
    if type(value) is dict and (is_open or type_name == "LATENT") and hasattr(value.get("samples"), "shape"):
        return _latent(value)
    if type(value) is list and (is_open or type_name == "CONDITIONING") and _is_conditioning(value, is_open=is_open):
        return Conditioning(tuple(_cond(tokens, options) for tokens, options in value))
    return value


def _latent(shell: dict[str, Any]) -> Latent:
    more = dict(shell)
    samples, mask, places = more.pop("samples"), more.pop("noise_mask", None), more.pop("batch_index", None)
    index = None if places is None else tuple(int(place) for place in places)
    return MoreLatent(samples, mask, index, MappingProxyType(more)) if more else Latent(samples, mask, index)


def _is_conditioning(value: list[Any], *, is_open: bool) -> bool:
    pairs = all(isinstance(e, list | tuple) and len(e) == 2 and isinstance(e[1], Mapping) for e in value)
    return pairs and (not is_open or (bool(value) and all(hasattr(e[0], "shape") for e in value)))


def _entry(cond: Cond) -> list[Any]:
    options: dict[str, Any] = {"pooled_output": cond.pooled}
    options |= {_THEIRS.get(name, name): copied(value) for name, value in cond.options.items()}
    if cond.extra:
        options[_EXTRA] = dict(cond.extra)
    return [cond.tokens, options]


def _cond(tokens: Any, given: Mapping[str, Any]) -> Cond:
    options = dict(given)
    pooled, extra = options.pop("pooled_output", None), options.pop(_EXTRA, {})
    named = {_OURS.get(name, name): value for name, value in options.items()}
    return Cond(tokens, pooled, MappingProxyType(named), MappingProxyType(dict(extra)))
