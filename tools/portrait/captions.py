"""Say what a portrait shows, in many ways.

`caption` writes one of many phrasings and reports what it said, so that text and picture can be scored against each
other. Attributes are left out at random, words are exchanged for synonyms, the order is shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.portrait import paint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

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
    telling = _Telling(p, rng)
    telling.hair()
    telling.face()
    telling.worn()
    telling.clothes()
    telling.background()
    rng.shuffle(telling.having)
    rng.shuffle(telling.wearing)
    text = _list(telling, rng) if telling.chance(0.5) else _sentence(telling, rng)
    return Caption(text, telling.said)


class _Telling:
    """The phrases of one caption while it is made, by where they go in a sentence."""

    def __init__(self, p: Portrait, rng: np.random.Generator) -> None:
        self.p = p
        self.rng = rng
        self.said: dict[str, str] = {}
        self.adjectives: list[str] = []
        self.having: list[str] = []
        self.wearing: list[str] = []
        self.trailing: list[str] = []
        self.behind = ""
        self.subject = self.pick(ANYONE)
        if self.chance(0.85):
            self.said["gender"] = "woman" if p.woman else "man"
            self.subject = self.pick(WOMEN if p.woman else MEN)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def hair(self) -> None:
        """Colour and style, together or apart."""
        p = self.p
        if p.style == "bald":
            if self.chance(0.92):
                self.said["style"] = "bald"
                if self.chance(0.6):
                    self.adjectives.append("bald")
                else:
                    self.having.append(self.pick(("a bald head", "no hair")))
            return
        colour, style = self.chance(0.88), self.chance(0.7)
        if colour:
            self.said["hair"] = p.hair
        if style:
            self.said["style"] = p.style
        word = self.pick(HAIR_WORDS[p.hair])
        if p.style in ("bob", "bun") and style:
            noun = p.style
            if colour and self.chance(0.5):
                self.having.append(self.pick((f"{word} hair in a {noun}", f"{noun} of {word} hair", f"{word} {noun} hair")))
            else:
                self.having.append(f"a {word} {noun}" if colour else self.pick((f"a {noun}", f"hair in a {noun}")))
        elif style:
            how = self.pick(STYLE_WORDS[p.style])
            if colour and p.hair in HAIR_NOUNS and self.chance(0.12):
                self.adjectives.append(self.pick(HAIR_NOUNS[p.hair]))
                self.having.append(f"{how} hair")
            elif colour:
                self.having.append(f"{how} {word} hair" if self.chance(0.65) else f"{word} {how} hair")
            else:
                self.having.append(f"{how} hair")
        elif colour and p.hair in HAIR_NOUNS and self.chance(0.2):
            self.adjectives.append(self.pick(HAIR_NOUNS[p.hair]))
        elif colour:
            self.having.append(f"{word} hair")

    def face(self) -> None:
        """Skin, eyes, expression, beard."""
        p = self.p
        if self.chance(0.78):
            self.said["skin"] = p.skin
            word = self.pick(SKIN_WORDS[p.skin])
            if self.chance(0.25):
                self.adjectives.append(f"{word} skinned")
            else:
                skin = f"{word} skin"
                self.having.append(self.pick((skin, skin, skin, f"a {word} complexion", f"{word} skin tone")))
        if self.chance(0.12 if p.eyewear == "sunglasses" else 0.5):
            self.said["eyes"] = p.eyes
            self.having.append(f"{p.eyes} eyes")
        if self.chance(0.72):
            self.said["expression"] = p.expression
            where = self.rng.random()
            if where < 0.4:
                self.adjectives.insert(0, self.pick(EXPRESSION_WORDS[p.expression]))
            elif where < 0.75:
                self.trailing.append(self.pick(EXPRESSION_WORDS[p.expression]))
            else:
                self.trailing.append(self.pick(EXPRESSION_PHRASES[p.expression]))
        if p.beard != "none" and self.chance(0.88):
            self.said["beard"] = p.beard
            if p.beard == "beard" and self.chance(0.3):
                self.adjectives.append("bearded")
            else:
                self.having.append("a " + self.pick(BEARD_WORDS[p.beard]))
        elif p.beard == "none" and self.chance(0.03):
            self.said["beard"] = "none"
            self.having.append("no beard")

    def worn(self) -> None:
        """Earrings, glasses, hat."""
        p = self.p
        if p.earrings and self.chance(0.6):
            self.said["earrings"] = "yes"
            self.wearing.append(self.pick(("earrings", "gold earrings")))
        if p.eyewear != "none" and self.chance(0.92):
            self.said["eyewear"] = p.eyewear
            (self.wearing if self.chance(0.7) else self.having).append(self.pick(EYEWEAR_WORDS[p.eyewear]))
        elif p.eyewear == "none" and self.chance(0.04):
            self.said["eyewear"] = "none"
            self.having.append("no glasses")
        if p.hat != "none" and self.chance(0.94):
            named = self.chance(0.85)
            self.said["hat"] = p.hat if named else "any"
            hat = self.pick(HAT_WORDS[p.hat]) if named else "hat"
            if self.chance(0.7):
                self.said["hat_colour"] = p.hat_colour
                hat = f"{self.pick(SHIRT_WORDS[p.hat_colour])} {hat}"
            (self.wearing if self.chance(0.8) else self.having).append(f"a {hat}")
        elif p.hat == "none" and self.chance(0.03):
            self.said["hat"] = "none"
            self.having.append("no hat")

    def clothes(self) -> None:
        """The shirt's colour and kind."""
        p = self.p
        if self.chance(0.82):
            self.said["shirt"] = p.shirt
            garment = self.pick(ANY_GARMENT)
            if self.chance(0.5):
                self.said["garment"] = p.garment
                garment = self.pick(GARMENT_WORDS[p.garment])
            phrase = f"{self.pick(SHIRT_WORDS[p.shirt])} {garment}"
            self.wearing.append(phrase if garment == "clothes" else f"a {phrase}")
        elif self.chance(0.4):
            self.said["garment"] = p.garment
            self.wearing.append("a " + self.pick(GARMENT_WORDS[p.garment]))

    def background(self) -> None:
        """The colour behind."""
        if self.chance(0.9):
            self.said["background"] = self.p.background
            word = self.pick(BACKGROUND_WORDS[self.p.background])
            self.behind = self.pick((f"{word} background",) * 4 + (f"{word} backdrop", f"{word} wall"))


def _bare(phrase: str) -> str:
    for article in ("a ", "an ", "with a ", "with an ", "with "):
        if phrase.startswith(article):
            return phrase[len(article) :]
    return phrase


def _list(told: _Telling, rng: np.random.Generator) -> str:
    """`portrait of a woman, red hair, glasses, blue background`."""
    subject, adjectives = told.subject, told.adjectives
    kind = rng.random()
    opener = OPENERS[int(rng.integers(len(OPENERS)))]
    head = f"{opener} a {subject}" if kind < 0.55 else f"{subject} portrait" if kind < 0.62 else subject
    if kind < 0.55 and adjectives and rng.random() < 0.5:
        head = f"{opener} a {adjectives.pop(0)} {subject}"
    said = (*adjectives, *told.having, *told.wearing, *told.trailing)
    rest = [_bare(phrase) if rng.random() < 0.8 else phrase for phrase in said]
    if told.behind:
        rest.append(told.behind)
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


def _sentence(told: _Telling, rng: np.random.Generator) -> str:
    """`a portrait of a smiling woman with red hair and pale skin, wearing a blue shirt, on a pink background`."""
    having, wearing, background = told.having, told.wearing, told.behind
    opener = OPENERS[int(rng.integers(len(OPENERS)))] + " " if rng.random() < 0.8 else ""
    text = f"{opener}a {' '.join([*told.adjectives, told.subject])}"
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
    groups += told.trailing
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
