"""Does a picture show what its prompt says? Colours read in known places, compared with those of drawings.

The places are where the painter puts the thing in nearly every drawing; the reference colours are the medians over
drawings. The same reading scores drawings (how good the classifier is) and generated pictures (how good the model is).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.portrait import captions
from tools.portrait.paint import Portrait, pictures, portrait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROMPT_SEED = 5_000_000
_REFERENCE_SEED = 3_000_000
_REFERENCES = 600
Box = tuple[slice, slice]
# Rows and columns in the 128 x 128 picture.
PLACES: dict[str, tuple[Box, ...]] = {
    "background": ((slice(2, 24), slice(2, 22)), (slice(2, 24), slice(106, 126))),
    "hair": ((slice(22, 30), slice(52, 77)),),
    "hair under a hat": ((slice(42, 54), slice(32, 37)), (slice(42, 54), slice(92, 97))),
    "skin": ((slice(69, 75), slice(45, 52)), (slice(69, 75), slice(77, 84))),
    "skin above a beard": ((slice(62, 67), slice(48, 81)),),
    "skin between a beard and glasses": ((slice(46, 51), slice(60, 69)), (slice(63, 68), slice(60, 69))),
    "shirt": ((slice(119, 127), slice(40, 89)),),
}
SCORED = ("background", "hair", "shirt", "skin")


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of sRGB in 0..255, last axis the channels.

    Source: CIE 15:2004, 8.2.1.
    """
    x = np.asarray(rgb, float) / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def place(p: Portrait, attribute: str) -> str:
    """Where `attribute` is read in a picture of `p`: what is worn moves the place."""
    if attribute == "hair" and p.hat != "none":
        return "hair under a hat"
    if attribute == "skin" and p.beard == "beard":
        return "skin above a beard" if p.eyewear == "none" else "skin between a beard and glasses"
    return attribute


def reading(picture: np.ndarray, p: Portrait, attribute: str) -> np.ndarray:
    """The median L*a*b* colour where `attribute` shows in a picture of `p`, [3].

    Args:
        picture: [128, 128, 3] uint8.
        p: What the picture should show; a hat moves the place where hair is read.
        attribute: One of `SCORED`.
    """
    pixels = np.concatenate([picture[box].reshape(-1, 3) for box in PLACES[place(p, attribute)]])
    return np.median(lab(pixels), axis=0)


def shows(p: Portrait, attribute: str) -> str | None:
    """The value of a scored attribute, or None where there is nothing to see (bald)."""
    return None if attribute == "hair" and p.style == "bald" else str(getattr(p, attribute))


@functools.cache
def _references() -> dict[str, dict[str, np.ndarray]]:
    """Median colour of each value of each scored attribute over drawings, for each place."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    seeds = range(_REFERENCE_SEED, _REFERENCE_SEED + _REFERENCES)
    for seed, picture in zip(seeds, pictures(seeds), strict=True):
        p = portrait(seed)
        for attribute in SCORED:
            value = shows(p, attribute)
            if value is not None:
                found.setdefault(place(p, attribute), {}).setdefault(value, []).append(reading(picture, p, attribute))
    return {where: {value: np.median(seen, axis=0) for value, seen in values.items()} for where, values in found.items()}


def classify(picture: np.ndarray, p: Portrait, attribute: str) -> str:
    """The value of `attribute` whose colour in drawings is nearest to what the picture shows."""
    seen = reading(picture, p, attribute)
    options = _references()[place(p, attribute)]
    return min(options, key=lambda value: float(np.sum((options[value] - seen) ** 2)))


@dataclass(frozen=True)
class Prompt:
    """A random prompt of the grammar and the portrait it speaks of."""

    text: str
    said: dict[str, str]
    portrait: Portrait


def prompts(n: int, seed: int = PROMPT_SEED) -> list[Prompt]:
    """Random prompts; the same seed gives the same ones."""
    rng = np.random.default_rng([seed, 11])
    out = []
    for i in range(n):
        p = portrait(seed + i)
        said = captions.caption(p, rng)
        out.append(Prompt(said.text, dict(said.said), p))
    return out


def drawn_accuracy(n: int, seed: int = PROMPT_SEED) -> dict[str, float]:
    """Share of drawings in which the classifier reads each scored attribute rightly."""
    seeds = range(seed, seed + n)
    return _share([(picture, portrait(s), set(SCORED)) for s, picture in zip(seeds, pictures(seeds), strict=True)])


def generated_accuracy(asked: Sequence[Prompt], made: Sequence[np.ndarray]) -> dict[str, float]:
    """Share of generated pictures that show what the prompt said, per attribute; what was not said is not counted.

    A hat is only said to be there by the prompt; hair is read beneath it then.
    """
    return _share([(picture, q.portrait, {a for a in SCORED if a in q.said}) for q, picture in zip(asked, made, strict=True)])


def _share(rows: Sequence[tuple[np.ndarray, Portrait, set[str]]]) -> dict[str, float]:
    right: dict[str, list[bool]] = {attribute: [] for attribute in SCORED}
    for picture, p, counted in rows:
        for attribute in SCORED:
            value = shows(p, attribute)
            if attribute in counted and value is not None:
                right[attribute].append(classify(picture, p, attribute) == value)
    return {attribute: float(np.mean(seen)) for attribute, seen in right.items()}


def generate(
    sample: Callable[[Sequence[str], Sequence[int]], np.ndarray], asked: Sequence[Prompt], *, batch: int = 20, seed: int = 0
) -> list[np.ndarray]:
    """One picture for each prompt; `sample` maps texts and seeds to [n, 128, 128, 3] uint8."""
    made: list[np.ndarray] = []
    for i in range(0, len(asked), batch):
        part = asked[i : i + batch]
        made.extend(sample([q.text for q in part], [seed + i + k for k in range(len(part))]))
    return made
