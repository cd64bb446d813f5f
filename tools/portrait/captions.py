"""Say what a portrait shows, in many ways.

`caption` writes one of many phrasings and reports what it said, so that text and picture can be scored against each
other. Attributes are left out at random, words are exchanged for synonyms, the order is shuffled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tools.portrait import paint
from tools.portrait.paint import Portrait

BACKGROUND_WORDS: Mapping[str, Sequence[str]] = {
    "blue": ("blue", "blue", "blue", "light blue", "sky blue", "azure"),
    "green": ("green", "green", "green", "light green", "mint"),
    "yellow": ("yellow", "yellow", "yellow", "bright yellow", "lemon"),
    "pink": ("pink", "pink", "pink", "rose"),
    "purple": ("purple", "purple", "purple", "violet", "lavender", "lilac"),
    "orange": ("orange", "orange", "orange", "peach"),
    "white": ("white", "white", "white", "plain white", "ivory"),
    "grey": ("grey", "gray", "grey", "gray"),
}
HAIR_WORDS: Mapping[str, Sequence[str]] = {
    "black": ("black", "black", "black", "jet black", "raven"),
    "brown": ("brown", "brown", "brown", "chestnut"),
    "blonde": ("blonde", "blond", "blonde", "golden", "yellow"),
    "red": ("red", "red", "red", "ginger", "auburn", "copper"),
    "white": ("white", "grey", "gray", "silver"),
    "blue": ("blue",),
    "pink": ("pink",),
}
HAIR_NOUNS: Mapping[str, Sequence[str]] = {
    "brown": ("brunette",),
    "blonde": ("blonde", "blond"),
    "red": ("redhead", "ginger", "redhaired"),
}
STYLE_WORDS: Mapping[str, Sequence[str]] = {
    "short": ("short", "short", "cropped"),
    "long": ("long", "long", "straight long", "flowing"),
    "curly": ("curly", "curly", "wavy", "frizzy"),
    "spiky": ("spiky", "spiky", "punk"),
}
SKIN_WORDS: Mapping[str, Sequence[str]] = {
    "pale": ("pale", "light", "fair"),
    "tan": ("tan", "tanned", "olive"),
    "brown": ("brown",),
    "dark": ("dark", "dark", "deep dark"),
}
SHIRT_WORDS: Mapping[str, Sequence[str]] = {
    "red": ("red", "red", "scarlet"),
    "blue": ("blue", "blue", "navy"),
    "green": ("green",),
    "yellow": ("yellow",),
    "white": ("white",),
    "black": ("black",),
    "purple": ("purple", "purple", "violet"),
}
GARMENT_WORDS: Mapping[str, Sequence[str]] = {
    "t-shirt": ("t-shirt", "tshirt", "tee"),
    "v-neck": ("v-neck", "v-neck shirt", "v-neck top"),
    "turtleneck": ("turtleneck", "turtleneck sweater", "sweater", "jumper", "pullover"),
    "collar": ("collared shirt", "button shirt", "polo shirt", "shirt with a collar"),
}
ANY_GARMENT = ("shirt", "shirt", "shirt", "top", "clothes")
EXPRESSION_WORDS: Mapping[str, Sequence[str]] = {
    "smiling": ("smiling", "smiling", "happy", "smile", "friendly"),
    "laughing": ("laughing", "laughing", "grinning", "joyful", "cheerful"),
    "neutral": ("neutral", "serious", "calm"),
    "sad": ("sad", "sad", "unhappy", "frowning", "upset"),
    "surprised": ("surprised", "surprised", "shocked", "amazed", "astonished"),
}
EXPRESSION_PHRASES: Mapping[str, Sequence[str]] = {
    "smiling": ("with a smile", "with a happy smile", "smiling"),
    "laughing": ("with a big grin", "laughing", "with a big laugh", "with a wide grin"),
    "neutral": ("with a neutral expression", "with a serious face", "neutral expression"),
    "sad": ("with a sad face", "looking sad", "with a frown", "sad expression"),
    "surprised": ("with an open mouth", "looking surprised", "with a surprised face", "surprised expression"),
}
EYEWEAR_WORDS: Mapping[str, Sequence[str]] = {
    "glasses": ("glasses", "glasses", "spectacles", "eyeglasses"),
    "sunglasses": ("sunglasses", "sunglasses", "shades", "dark glasses"),
}
HAT_WORDS: Mapping[str, Sequence[str]] = {
    "cap": ("cap", "cap", "baseball cap"),
    "beanie": ("beanie", "beanie", "knitted hat", "winter hat"),
}
BEARD_WORDS: Mapping[str, Sequence[str]] = {
    "beard": ("beard", "full beard"),
    "moustache": ("moustache", "mustache"),
}
WOMEN = ("woman", "woman", "woman", "lady", "girl", "female")
MEN = ("man", "man", "man", "guy", "boy", "gentleman", "male")
ANYONE = ("person", "person", "face", "character", "human")
OPENERS = (
    "portrait of", "a portrait of", "portrait of", "picture of", "a picture of", "drawing of", "a drawing of", "an illustration of",
    "illustration of", "a photo of", "photo of", "painting of", "a painting of", "headshot of", "close up of", "cartoon of", "avatar of",
)  # fmt: skip
EMBELLISHMENTS = (
    "digital art", "flat illustration", "vector art", "highly detailed", "best quality", "masterpiece", "beautiful", "cute", "cartoon style",
    "soft light", "simple", "colorful", "4k", "high quality", "young", "studio portrait", "centered", "minimalist",
)  # fmt: skip
JUNK = (
    "ugly", "blurry", "low quality", "deformed", "bad anatomy", "watermark", "text", "worst quality", "noise", "distorted", "extra fingers",
    "cropped out", "signature", "jpeg artifacts", "dull",
)  # fmt: skip

ATTRIBUTES: Mapping[str, Sequence[str]] = {
    "gender": ("woman", "man"),
    "background": tuple(paint.BACKGROUNDS),
    "hair": tuple(paint.HAIR_COLOURS),
    "style": paint.STYLES,
    "skin": tuple(paint.SKINS),
    "shirt": tuple(paint.SHIRTS),
    "garment": paint.GARMENTS,
    "eyes": tuple(paint.EYES),
    "expression": paint.EXPRESSIONS,
    "eyewear": paint.EYEWEAR,
    "hat": (*paint.HATS, "any"),
    "hat_colour": tuple(paint.SHIRTS),
    "beard": paint.BEARDS,
    "earrings": ("yes",),
}
"""What a caption may say, and the values; `said` holds a value for each attribute that was mentioned."""


@dataclass(frozen=True)
class Caption:
    """A phrasing and what it says."""

    text: str
    said: Mapping[str, str]


def caption(p: Portrait, rng: np.random.Generator) -> Caption:
    """One of the many ways to describe a portrait."""
    said: dict[str, str] = {}

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    adjectives: list[str] = []
    having: list[str] = []
    wearing: list[str] = []
    trailing: list[str] = []

    subject = pick(ANYONE)
    if chance(0.85):
        said["gender"] = "woman" if p.woman else "man"
        subject = pick(WOMEN if p.woman else MEN)

    # Hair: colour and style, together or apart.
    if p.style == "bald":
        if chance(0.92):
            said["style"] = "bald"
            if chance(0.6):
                adjectives.append("bald")
            else:
                having.append(pick(("a bald head", "no hair")))
    else:
        colour = chance(0.88)
        style = chance(0.7)
        if colour:
            said["hair"] = p.hair
        if style:
            said["style"] = p.style
        word = pick(HAIR_WORDS[p.hair])
        if p.style in ("bob", "bun") and style:
            noun = p.style
            if colour and chance(0.5):
                having.append(pick((f"{word} hair in a {noun}", f"{noun} of {word} hair", f"{word} {noun} hair")))
            else:
                having.append(f"a {word} {noun}" if colour else pick((f"a {noun}", f"hair in a {noun}")))
        elif style:
            how = pick(STYLE_WORDS[p.style])
            if colour and p.hair in HAIR_NOUNS and chance(0.12):
                adjectives.append(pick(HAIR_NOUNS[p.hair]))
                having.append(f"{how} hair")
            elif colour:
                having.append(f"{how} {word} hair" if chance(0.65) else f"{word} {how} hair")
            else:
                having.append(f"{how} hair")
        elif colour and p.hair in HAIR_NOUNS and chance(0.2):
            adjectives.append(pick(HAIR_NOUNS[p.hair]))
        elif colour:
            having.append(f"{word} hair")

    if chance(0.78):
        said["skin"] = p.skin
        word = pick(SKIN_WORDS[p.skin])
        if chance(0.25):
            adjectives.append(f"{word} skinned")
        else:
            having.append(pick((f"{word} skin", f"{word} skin", f"{word} skin", f"a {word} complexion", f"{word} skin tone")))
    if chance(0.12 if p.eyewear == "sunglasses" else 0.5):
        said["eyes"] = p.eyes
        having.append(f"{p.eyes} eyes")
    if chance(0.72):
        said["expression"] = p.expression
        where = rng.random()
        if where < 0.4:
            adjectives.insert(0, pick(EXPRESSION_WORDS[p.expression]))
        elif where < 0.75:
            trailing.append(pick(EXPRESSION_WORDS[p.expression]))
        else:
            trailing.append(pick(EXPRESSION_PHRASES[p.expression]))
    if p.beard != "none" and chance(0.88):
        said["beard"] = p.beard
        if p.beard == "beard" and chance(0.3):
            adjectives.append("bearded")
        else:
            having.append("a " + pick(BEARD_WORDS[p.beard]))
    elif p.beard == "none" and chance(0.03):
        said["beard"] = "none"
        having.append("no beard")
    if p.earrings and chance(0.6):
        said["earrings"] = "yes"
        wearing.append(pick(("earrings", "gold earrings")))
    if p.eyewear != "none" and chance(0.92):
        said["eyewear"] = p.eyewear
        (wearing if chance(0.7) else having).append(pick(EYEWEAR_WORDS[p.eyewear]))
    elif p.eyewear == "none" and chance(0.04):
        said["eyewear"] = "none"
        having.append("no glasses")
    if p.hat != "none" and chance(0.94):
        named = chance(0.85)
        said["hat"] = p.hat if named else "any"
        hat = pick(HAT_WORDS[p.hat]) if named else "hat"
        if chance(0.7):
            said["hat_colour"] = p.hat_colour
            hat = f"{pick(SHIRT_WORDS[p.hat_colour])} {hat}"
        (wearing if chance(0.8) else having).append(f"a {hat}")
    elif p.hat == "none" and chance(0.03):
        said["hat"] = "none"
        having.append("no hat")
    if chance(0.82):
        said["shirt"] = p.shirt
        garment = pick(ANY_GARMENT)
        if chance(0.5):
            said["garment"] = p.garment
            garment = pick(GARMENT_WORDS[p.garment])
        phrase = f"{pick(SHIRT_WORDS[p.shirt])} {garment}"
        wearing.append(phrase if garment == "clothes" else f"a {phrase}")
    elif chance(0.4):
        said["garment"] = p.garment
        wearing.append("a " + pick(GARMENT_WORDS[p.garment]))

    background = ""
    if chance(0.9):
        said["background"] = p.background
        word = pick(BACKGROUND_WORDS[p.background])
        background = pick((f"{word} background",) * 4 + (f"{word} backdrop", f"{word} wall"))

    rng.shuffle(having)
    rng.shuffle(wearing)
    if chance(0.5):
        text = _list(subject, adjectives, having, wearing, trailing, background, rng)
    else:
        text = _sentence(subject, adjectives, having, wearing, trailing, background, rng)
    return Caption(text, said)


def _bare(phrase: str) -> str:
    for article in ("a ", "an ", "with a ", "with an ", "with "):
        if phrase.startswith(article):
            return phrase[len(article) :]
    return phrase


def _list(
    subject: str, adjectives: list[str], having: list[str], wearing: list[str], trailing: list[str], background: str, rng: np.random.Generator
) -> str:
    """`portrait of a woman, red hair, glasses, blue background`."""
    kind = rng.random()
    opener = OPENERS[int(rng.integers(len(OPENERS)))]
    head = f"{opener} a {subject}" if kind < 0.55 else f"{subject} portrait" if kind < 0.62 else subject
    if kind < 0.55 and adjectives and rng.random() < 0.5:
        head = f"{opener} a {adjectives.pop(0)} {subject}"
    rest = [_bare(s) if rng.random() < 0.8 else s for s in (*adjectives, *having, *wearing, *trailing)]
    if background:
        rest.append(background)
    if rng.random() < 0.25:
        rest.append(EMBELLISHMENTS[int(rng.integers(len(EMBELLISHMENTS)))])
    rng.shuffle(rest)
    parts = [head, *rest]
    if rng.random() < 0.12:
        rng.shuffle(parts)
    return ", ".join(parts)


def _join(items: Sequence[str], rng: np.random.Generator) -> str:
    if len(items) < 2:
        return "".join(items)
    if rng.random() < 0.3:
        return " and ".join(items)
    return ", ".join(items[:-1]) + (", and " if rng.random() < 0.3 else " and ") + items[-1]


def _sentence(
    subject: str, adjectives: list[str], having: list[str], wearing: list[str], trailing: list[str], background: str, rng: np.random.Generator
) -> str:
    """`a portrait of a smiling woman with red hair and pale skin, wearing a blue shirt, on a pink background`."""
    opener = OPENERS[int(rng.integers(len(OPENERS)))] + " " if rng.random() < 0.8 else ""
    text = f"{opener}a {' '.join([*adjectives, subject])}"
    groups: list[str] = []
    if wearing and having and rng.random() < 0.25:  # the shirt among the rest, as many people write
        mixed = [*having, *wearing]
        groups.append("with " + _join(mixed, rng))
    else:
        if having:
            groups.append("with " + _join(having, rng))
        if wearing:
            groups.append(("wearing ", "wearing ", "in ")[int(rng.integers(3))] + _join(wearing, rng))
        if rng.random() < 0.2:
            groups.reverse()
    groups += trailing
    if background:
        article = ("on a ", "on a ", "in front of a ", "against a ", "with a ", "")[int(rng.integers(6))]
        if rng.random() < 0.12 and not text.startswith("a "):
            text = f"{background}, {text}"
        else:
            groups.append(article + background)
    for i, group in enumerate(groups):
        text += (" " if i == 0 and rng.random() < 0.8 else ", ") + group
    if rng.random() < 0.2:
        text += ", " + EMBELLISHMENTS[int(rng.integers(len(EMBELLISHMENTS)))]
    return text + ("." if rng.random() < 0.1 else "")


def junk(rng: np.random.Generator) -> str:
    """A caption that says nothing about the picture, as negative prompts do."""
    n = int(rng.integers(1, 6))
    return ", ".join(str(w) for w in rng.choice(JUNK, n, replace=False))


def words() -> list[str]:
    """Every phrase the grammar is made of, to list the tokens that need a row of their own."""
    tables = (
        BACKGROUND_WORDS, HAIR_WORDS, HAIR_NOUNS, STYLE_WORDS, SKIN_WORDS, SHIRT_WORDS, GARMENT_WORDS, EXPRESSION_WORDS,
        EXPRESSION_PHRASES, EYEWEAR_WORDS, HAT_WORDS, BEARD_WORDS,
    )  # fmt: skip
    found = [w for table in tables for options in table.values() for w in options]
    found += [*ANY_GARMENT, *WOMEN, *MEN, *ANYONE, *OPENERS, *EMBELLISHMENTS, *paint.EYES]
    found += [
        "bald", "a bald head", "no hair", "hair in a bob", "bun of hair", "skinned", "skin tone", "a complexion", "eyes", "bearded", "no beard",
        "gold earrings", "no glasses", "hat", "no hat", "wearing a", "in a", "and", "with", "with a background", "on a backdrop", "in front of a wall",
        "against a", "dressed in", "portrait", ", , and a.", "an", "the", "she has", "he is", "has", "is",
    ]  # fmt: skip
    return found
