"""Draw portraits: a seeded, varied vector painter whose attributes are known.

A picture is described by a `Portrait` (plain data: what a caption may name) and a seed from which every unnamed
detail follows (face shape, placement, light). `paint` is a pure function of that description. Coordinates are in
pixels of the 128 x 128 picture; shapes are drawn at four times that size and reduced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SIZE_PX = 128
_SCALE = 4

Rgb = tuple[float, float, float]

BACKGROUNDS: Mapping[str, Rgb] = {
    "blue": (112, 168, 232),
    "green": (136, 196, 112),
    "yellow": (252, 216, 96),
    "pink": (248, 168, 196),
    "purple": (158, 128, 214),
    "orange": (248, 154, 82),
    "white": (242, 240, 236),
    "grey": (150, 156, 166),
}
HAIR_COLOURS: Mapping[str, Rgb] = {
    "black": (44, 38, 48),
    "brown": (112, 68, 42),
    "blonde": (238, 194, 92),
    "red": (204, 70, 34),
    "white": (214, 214, 220),
    "blue": (58, 104, 208),
    "pink": (242, 104, 168),
}
SKINS: Mapping[str, Rgb] = {
    "pale": (254, 224, 204),
    "tan": (228, 170, 124),
    "brown": (164, 104, 68),
    "dark": (104, 68, 54),
}
SHIRTS: Mapping[str, Rgb] = {
    "red": (214, 54, 58),
    "blue": (52, 92, 190),
    "green": (60, 148, 84),
    "yellow": (246, 202, 60),
    "white": (244, 242, 238),
    "black": (48, 46, 56),
    "purple": (126, 78, 176),
}
EYES: Mapping[str, Rgb] = {"brown": (112, 66, 34), "blue": (56, 128, 214), "green": (62, 150, 84)}
STYLES = ("short", "long", "curly", "bob", "bun", "spiky", "bald")
EXPRESSIONS = ("smiling", "laughing", "neutral", "sad", "surprised")
EYEWEAR = ("none", "glasses", "sunglasses")
HATS = ("none", "cap", "beanie")
BEARDS = ("none", "beard", "moustache")
GARMENTS = ("t-shirt", "v-neck", "turtleneck", "collar")


@dataclass(frozen=True)
class Portrait:
    """What a picture shows; every field but `seed` is something a caption may name."""

    seed: int
    woman: bool
    background: str
    hair: str
    style: str
    skin: str
    shirt: str
    garment: str
    eyes: str
    expression: str
    eyewear: str
    hat: str
    hat_colour: str
    beard: str
    earrings: bool


def portrait(seed: int) -> Portrait:
    """The portrait of a seed: attributes drawn at random, colours uniformly."""
    rng = np.random.default_rng([seed, 1])

    def pick(options: Sequence[str], weights: Sequence[float] | None = None) -> str:
        p = None if weights is None else np.asarray(weights) / sum(weights)
        return str(rng.choice(list(options), p=p))

    woman = bool(rng.random() < 0.5)
    style = pick(STYLES, (1, 4, 2, 2.6, 2, 0.4, 0.05) if woman else (4, 1.2, 2, 0.5, 0.7, 2.6, 0.7))
    hat = pick(HATS, (6, 1, 1))
    if style in ("bun", "spiky", "bald"):
        hat = "none"
    return Portrait(
        seed=seed,
        woman=woman,
        background=pick(list(BACKGROUNDS)),
        hair=pick(list(HAIR_COLOURS)),
        style=style,
        skin=pick(list(SKINS)),
        shirt=pick(list(SHIRTS)),
        garment=pick(GARMENTS),
        eyes=pick(list(EYES)),
        expression=pick(EXPRESSIONS, (3, 2, 2, 1.5, 1.5)),
        eyewear=pick(EYEWEAR, (5, 2.4, 1.4)),
        hat=hat,
        hat_colour=pick(list(SHIRTS)),
        beard="none" if woman else pick(BEARDS, (5, 3, 2)),
        earrings=bool(woman and rng.random() < 0.4),
    )


def _mix(a: Sequence[float], b: Sequence[float], t: float) -> Rgb:
    """Colour `t` of the way from `a` to `b`."""
    return tuple(float(x + (y - x) * t) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _light(c: Sequence[float], t: float = 0.3) -> Rgb:
    return _mix(c, (255, 250, 240), t)


def _dark(c: Sequence[float], t: float = 0.3) -> Rgb:
    return _mix(c, (38, 18, 44), t)


def _rgb(c: Sequence[float]) -> tuple[int, int, int]:
    r, g, b = (round(min(255.0, max(0.0, v))) for v in c)
    return r, g, b


def _spline(points: Sequence[tuple[float, float]], *, closed: bool, steps: int = 8) -> np.ndarray:
    """Catmull-Rom curve through the points, [n, 2]."""
    p = np.asarray(points, float)
    q = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    a, b, c, d = (q[i : len(q) - 3 + i, None] for i in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def _oval(cx: float, cy: float, rx: float, ry: float, power: float = 2.0, n: int = 40) -> np.ndarray:
    """A superellipse, [n, 2]."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    c, s = np.cos(t), np.sin(t)
    e = 2 / power
    return np.stack([cx + rx * np.sign(c) * np.abs(c) ** e, cy + ry * np.sign(s) * np.abs(s) ** e], 1)


def _soft_disc() -> Image.Image:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    fall = np.clip(1 - np.sqrt(x**2 + y**2), 0, 1)
    return Image.fromarray((255 * (fall * fall * (3 - 2 * fall))).astype(np.uint8))


_SOFT = _soft_disc()


class _Canvas:
    """A large picture with shapes filled flat, by a corner-to-corner shade, or by a soft spot."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (SIZE_PX * _SCALE,) * 2)
        self.draw = ImageDraw.Draw(self.image)
        self.turn: Callable[[np.ndarray], np.ndarray] = lambda p: p

    def _place(self, points: np.ndarray | Sequence[tuple[float, float]]) -> np.ndarray:
        return self.turn(np.asarray(points, float)) * _SCALE

    def fill(self, points: np.ndarray | Sequence[tuple[float, float]], colour: Sequence[float]) -> None:
        self.draw.polygon([tuple(p) for p in self._place(points)], fill=_rgb(colour))

    def shade(
        self,
        points: np.ndarray | Sequence[tuple[float, float]],
        grid: Sequence[Sequence[Sequence[float]]],
    ) -> None:
        """Fill with a small grid of colours (rows of columns) stretched smoothly over the shape's box."""
        p = self._place(points)
        x0, y0 = np.floor(p.min(0)).astype(int)
        x1, y1 = np.ceil(p.max(0)).astype(int) + 1
        size = (max(1, int(x1 - x0)), max(1, int(y1 - y0)))
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon([tuple(q) for q in p - (x0, y0)], fill=255)
        cells = np.asarray(grid, float)
        small = Image.fromarray(np.clip(np.rint(cells), 0, 255).astype(np.uint8))
        height, width = cells.shape[:2]
        # Sample between cell centres, so that the first and last colours are reached at the edges.
        box = (
            0.5 if width > 1 else 0,
            0.5 if height > 1 else 0,
            width - (0.5 if width > 1 else 0),
            height - (0.5 if height > 1 else 0),
        )
        self.image.paste(small.resize(size, Image.Resampling.BILINEAR, box=box), (int(x0), int(y0)), mask)

    def glow(self, cx: float, cy: float, rx: float, ry: float, colour: Sequence[float], strength: float) -> None:
        """A soft spot of colour that fades to nothing at its radius."""
        x, y = self._place([(cx, cy)])[0]
        size = (max(1, round(2 * rx * _SCALE)), max(1, round(2 * ry * _SCALE)))
        mask = _SOFT.resize(size, Image.Resampling.BILINEAR).point(lambda v: v * strength)
        self.image.paste(_rgb(colour), (round(x - rx * _SCALE), round(y - ry * _SCALE)), mask)

    def stroke(
        self, points: np.ndarray | Sequence[tuple[float, float]], width: float, colour: Sequence[float], *, smooth: bool = True
    ) -> None:
        """A line with round ends."""
        curve = _spline(list(points), closed=False) if smooth else np.asarray(points, float)
        p = self._place(curve)
        self.draw.line([tuple(q) for q in p], fill=_rgb(colour), width=max(1, round(width * _SCALE)), joint="curve")
        r = width * _SCALE / 2
        for x, y in (p[0], p[-1]):
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=_rgb(colour))

    def ring(self, points: np.ndarray, width: float, colour: Sequence[float]) -> None:
        """A closed line."""
        p = self._place(np.concatenate([points, points[:2]]))
        self.draw.line([tuple(q) for q in p], fill=_rgb(colour), width=round(width * _SCALE), joint="curve")


@dataclass(frozen=True)
class _Face:
    """The unnamed geometry of one head, pixels; and its colours."""

    cx: float
    cy: float
    w: float
    h: float
    taper: float
    eye_y: float
    eye_dx: float
    eye_size: float
    mouth_y: float
    mouth_w: float
    side: int
    skin: Rgb
    hair: Rgb

    def outline(self) -> np.ndarray:
        t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        c, s = np.cos(t), np.sin(t)
        down = np.clip(s, 0, 1)
        x = self.w * np.sign(c) * np.abs(c) ** 0.88 * (1 - self.taper * down**2)
        return np.stack([self.cx + x, self.cy + self.h * s], 1)


def paint(p: Portrait) -> Image.Image:
    """Draw a portrait.

    Returns:
        A 128 x 128 RGB picture; the same description always gives the same pixels.
    """
    rng = np.random.default_rng([p.seed, 2])

    def near(colour: Rgb, spread: float) -> Rgb:
        shift = rng.normal(0, spread) + rng.normal(0, spread * 0.5, 3)
        return tuple(float(v) for v in np.clip(np.asarray(colour) + shift, 0, 255))  # type: ignore[return-value]

    def spread(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    f = _Face(
        cx=64 + spread(-2.5, 2.5),
        cy=58.6 + spread(-1.2, 1.8),
        w=spread(22.5, 25.5) + (0 if p.woman else 1.2),
        h=spread(29, 32.5),
        taper=spread(0.26, 0.36) if p.woman else spread(0.12, 0.26),
        eye_y=spread(0.5, 3.5),
        eye_dx=spread(9.8, 11.8),
        eye_size=spread(0.92, 1.12) * (1.06 if p.woman else 0.97),
        mouth_y=spread(17.2, 19.8),
        mouth_w=spread(7.8, 10.2),
        side=1 if rng.random() < 0.5 else -1,
        skin=near(SKINS[p.skin], 3),
        hair=near(HAIR_COLOURS[p.hair], 4),
    )
    c = _Canvas()
    _background(c, near(BACKGROUNDS[p.background], 3), rng)

    angle = np.deg2rad(rng.normal(0, 2.6))
    pivot = np.array([f.cx, 92.0])
    zoom = spread(1.08, 1.15)
    spin = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def turn(q: np.ndarray) -> np.ndarray:
        return zoom * (q - pivot) @ spin + pivot

    fringe = int(rng.integers(3))
    c.turn = turn
    _hair_behind(c, p, f, rng)
    c.turn = lambda q: q
    shirt = near(SHIRTS[p.shirt], 4)
    _body(c, p, f, shirt, rng)
    c.turn = turn
    _head(c, p, f)
    _features(c, p, f, rng)
    if p.beard != "none":
        _beard(c, p, f)
    _mouth(c, p, f)
    if p.style != "bald":
        _hair_front(c, p, f, fringe, rng)
    if p.earrings:
        for s in (-1, 1):
            x, y = f.cx + s * (f.w + 2.2), f.cy + 15.5
            c.fill(_oval(x, y, 2.5, 3.0), (250, 204, 70))
            c.fill(_oval(x - 0.7, y - 0.9, 0.9, 0.9), (255, 244, 190))
    if p.eyewear != "none":
        _eyewear(c, p, f, rng)
    if p.hat != "none":
        _hat(c, p, f, near(SHIRTS[p.hat_colour], 4))
    return c.image.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)


def _background(c: _Canvas, colour: Rgb, rng: np.random.Generator) -> None:
    square = [(0, 0), (128, 0), (128, 128), (0, 128)]
    a, b = _light(colour, 0.18), _dark(colour, 0.1)
    if rng.random() < 0.5:
        a, b = b, a
    m = _mix(a, b, 0.5)
    if rng.random() < 0.5:
        c.shade(square, [[a], [b]])
    else:
        c.shade(square, [[a, m], [m, b]])
    kind = rng.random()
    if kind < 0.4:
        c.glow(64, 58, 78, 78, _light(colour, 0.75), 0.75)
    elif kind < 0.7:
        r = rng.uniform(47, 54)
        x, y = 64 + rng.uniform(-3, 3), 60 + rng.uniform(-4, 4)
        c.shade(_oval(x, y, r, r, n=90), [[_light(colour, 0.42)], [_light(colour, 0.22)]])


def _body(c: _Canvas, p: Portrait, f: _Face, shirt: Rgb, rng: np.random.Generator) -> None:
    x = 64 + (f.cx - 64) * 0.6
    half = rng.uniform(46, 51) + (0 if p.woman else 5)
    top = rng.uniform(96.5, 99)
    nw = 9.2 if p.woman else 11.2
    neck = f.skin
    light, dark = _light(shirt, 0.16), _dark(shirt, 0.22)

    def shoulders() -> np.ndarray:
        left = [(x - half - 3, 132), (x - half + 1, 117), (x - half + 12, 107.5), (x - 22, top + 3), (x - nw - 2, top - 3)]
        return np.concatenate([_spline(left, closed=False), _spline([(2 * x - a, b) for a, b in reversed(left)], closed=False)])

    c.shade(shoulders(), [[light, light, shirt], [light, shirt, dark], [shirt, dark, dark]])
    # Neck with the shadow of the chin.
    if p.garment == "turtleneck":
        c.shade([(x - nw, 74), (x + nw, 74), (x + nw, 98), (x - nw, 98)], [[_dark(neck, 0.3)], [_dark(neck, 0.16)]])
        collar = _spline(
            [(x - nw - 3.5, 92), (x, 94.5), (x + nw + 3.5, 92), (x + nw + 5, 103), (x, 107), (x - nw - 5, 103)], closed=True
        )
        c.shade(collar, [[_light(shirt, 0.22), shirt], [shirt, _dark(shirt, 0.18)]])
        c.stroke([(x - nw - 4, 103.2), (x, 106.6), (x + nw + 4, 103.2)], 1.3, _dark(shirt, 0.3))
        return
    depth = {"t-shirt": 108.0, "v-neck": 117.0, "collar": 111.0}[p.garment]
    if p.garment == "t-shirt":
        hole = _spline(
            [(x - nw - 3, 94), (x - nw - 1, 101), (x, depth), (x + nw + 1, 101), (x + nw + 3, 94), (x, 90)], closed=True
        )
        c.ring(hole, 4.2, _dark(shirt, 0.28))
    else:
        hole = np.array([(x - nw - 2, 94), (x - nw - 0.5, 99), (x, depth), (x + nw + 0.5, 99), (x + nw + 2, 94)])
        c.ring(hole, 3.6, _dark(shirt, 0.28))
    c.shade(hole, [[_dark(neck, 0.2)], [neck]])
    c.shade(
        [(x - nw, 72), (x + nw, 72), (x + nw + 0.8, 98), (x, 101), (x - nw - 0.8, 98)],
        [[_dark(neck, 0.36)], [_dark(neck, 0.28)], [_dark(neck, 0.08)]],
    )
    if p.garment == "collar":
        for s in (-1, 1):
            flap = [(x + s * (nw - 0.5), 92), (x + s * (nw + 6), 97.5), (x + s * 14.5, 112), (x + s * 0.6, 111)]
            c.shade(flap, [[_light(shirt, 0.3)], [_light(shirt, 0.1)]])
            c.stroke(
                [(x + s * (nw + 6), 98.5), (x + s * 14.5, 112), (x + s * 0.8, 111.4)], 1.2, _dark(shirt, 0.34), smooth=False
            )
        for y in (117.5, 125):
            c.fill(_oval(x, y, 1.7, 1.7), _dark(shirt, 0.45) if sum(shirt) > 240 else _light(shirt, 0.5))


def _head(c: _Canvas, p: Portrait, f: _Face) -> None:
    light, dark = _light(f.skin, 0.22), _dark(f.skin, 0.2)
    covered = p.style in ("long", "bob", "curly")
    if not covered:
        for s in (-1, 1):
            x, y = f.cx + s * (f.w + 0.8), f.cy + 6
            c.shade(_oval(x, y, 4.4, 6.6), [[f.skin], [_dark(f.skin, 0.12)]])
            c.fill(_oval(x + s * 0.5, y + 0.3, 2.0, 3.8), _dark(f.skin, 0.22))
    s = f.skin
    rows = [[light, light, s], [light, s, s], [light, s, _mix(s, dark, 0.5)], [s, s, dark]]
    if f.side < 0:
        rows = [list(reversed(r)) for r in rows]
    c.shade(f.outline(), rows)
    blush = _mix(f.skin, (236, 70, 80), 0.42)
    for sign in (-1, 1):
        c.glow(f.cx + sign * 13.5, f.cy + 12.5, 8, 6.5, blush, 0.85 if p.woman else 0.55)


def _features(c: _Canvas, p: Portrait, f: _Face, rng: np.random.Generator) -> None:
    ink = _dark(_mix(f.hair, (46, 30, 34), 0.2 if p.hair == "black" else 0.55), 0.2)
    lid = (44, 28, 36)
    gaze = rng.uniform(-0.9, 0.9)
    y = f.cy + f.eye_y
    k = f.eye_size
    iris = EYES[p.eyes]
    wide = {"surprised": 1.14, "laughing": 0.82}.get(p.expression, 1.0)
    brow_y = y - 9.6 - {"surprised": 2.6, "laughing": 0.8}.get(p.expression, 0.0) + rng.uniform(-0.6, 0.8)
    brow_w = (2.0 if p.woman else 3.0) * rng.uniform(0.85, 1.15)
    for s in (-1, 1):
        x = f.cx + s * f.eye_dx
        rx, ry = 5.6 * k, 4.7 * k * wide
        c.glow(x, y - 2, 8.5, 7.5, _dark(f.skin, 0.3), 0.35)
        c.fill(_oval(x, y, rx, ry, 2.2), (252, 250, 248))
        c.fill(_oval(x + gaze, y + 0.2, 3.6 * k, 3.8 * k * min(wide, 1.0)), _dark(iris, 0.25))
        c.fill(_oval(x + gaze, y + 0.7, 2.9 * k, 2.9 * k * min(wide, 1.0)), _light(iris, 0.12))
        c.fill(_oval(x + gaze, y + 0.2, 1.8 * k, 1.9 * k), (20, 14, 20))
        c.fill(_oval(x + gaze - 1.1, y - 1.2, 1.15, 1.15), (255, 255, 255))
        arch = [
            (x - rx - 0.2, y - 0.4),
            (x - rx * 0.55, y - ry * 0.86),
            (x, y - ry - 0.2),
            (x + rx * 0.55, y - ry * 0.86),
            (x + rx + 0.2, y - 0.4),
        ]
        c.stroke(arch, 1.9 if p.woman else 1.5, lid)
        if p.woman:
            c.stroke([(x + s * rx * 0.7, y - ry * 0.7), (x + s * (rx + 2.3), y - ry * 0.75)], 1.6, lid, smooth=False)
        inner, outer = {"sad": (-2.2, 2.0), "surprised": (0.2, 0.2), "neutral": (0.4, 0.0)}.get(p.expression, (0.0, 0.6))
        brow = [
            (x - s * 5.6, brow_y + inner + 0.8),
            (x, brow_y - 1.2 + 0.5 * (inner + outer)),
            (x + s * 6.2, brow_y + outer + 0.6),
        ]
        c.stroke(brow, brow_w, ink)
    # Nose: a soft side, a tip and its light.
    ny = f.cy + f.eye_y + rng.uniform(8.6, 10.4)
    nw = rng.uniform(2.6, 3.8)
    shade = _dark(f.skin, 0.34)
    c.glow(f.cx + f.side * 2.4, ny - 3.5, 4, 8, shade, 0.4)
    c.stroke(
        [(f.cx - nw, ny + 0.2), (f.cx - nw * 0.4, ny + 1.9), (f.cx + nw * 0.4, ny + 1.9), (f.cx + nw, ny + 0.2)], 1.7, shade
    )
    c.glow(f.cx - f.side * 0.6, ny - 1.5, 3.2, 3.6, _light(f.skin, 0.7), 0.75)


def _mouth(c: _Canvas, p: Portrait, f: _Face) -> None:
    x, y, w = f.cx, f.cy + f.mouth_y, f.mouth_w
    lips = _mix(f.skin, (206, 40, 66), 0.72 if p.woman else 0.42)
    lips = _dark(lips, 0.05 if p.woman else 0.22)
    deep = (104, 22, 36)
    if p.expression == "smiling":
        curve = _spline(
            [(x - w, y - 2.2), (x - w * 0.5, y + 1.2), (x, y + 2.2), (x + w * 0.5, y + 1.2), (x + w, y - 2.2)], closed=False
        )
        lower = _spline(
            [(x + w, y - 2.2), (x + w * 0.5, y + 4.0), (x, y + 5.4), (x - w * 0.5, y + 4.0), (x - w, y - 2.2)], closed=False
        )
        c.fill(np.concatenate([curve, lower]), lips)
        c.stroke(curve, 1.6, _dark(lips, 0.45))
    elif p.expression == "laughing":
        w = w * 1.12
        top = [(x - w, y - 2.6), (x - w * 0.5, y - 1.6), (x, y - 1.2), (x + w * 0.5, y - 1.6), (x + w, y - 2.6)]
        low = [(x + w, y - 2.6), (x + w * 0.66, y + 4.4), (x, y + 7.4), (x - w * 0.66, y + 4.4), (x - w, y - 2.6)]
        mouth = np.concatenate([_spline(top, closed=False), _spline(low, closed=False)])
        c.fill(mouth, deep)
        c.fill(_oval(x, y + 5.2, w * 0.5, 2.2), (226, 92, 104))
        teeth = np.concatenate(
            [
                _spline(top, closed=False),
                _spline([(x + w * 0.82, y + 0.4), (x, y + 2.2), (x - w * 0.82, y + 0.4)], closed=False),
            ]
        )
        c.fill(teeth, (252, 250, 246))
        c.ring(mouth, 1.4, lips)
    elif p.expression == "surprised":
        c.fill(_oval(x, y + 2.0, 4.9, 6.3), lips)
        c.fill(_oval(x, y + 2.0, 3.3, 4.7), deep)
        c.fill(_oval(x, y + 5.0, 2.3, 1.5), (226, 92, 104))
    else:
        bend = -3.2 if p.expression == "sad" else 0.0
        w = w * 0.86
        mid = [
            (x - w, y + 0.4 - bend),
            (x - w * 0.5, y + 0.4 - bend * 0.2),
            (x, y + 0.5),
            (x + w * 0.5, y + 0.4 - bend * 0.2),
            (x + w, y + 0.4 - bend),
        ]
        up = [(x + w * 0.35, y - 1.9), (x, y - 1.4), (x - w * 0.35, y - 1.9)]
        low = [(x + w * 0.5, y + 2.9 - bend * 0.15), (x, y + 3.6), (x - w * 0.5, y + 2.9 - bend * 0.15)]
        c.fill(np.concatenate([_spline(mid, closed=False), _spline([mid[-1], *up, mid[0]], closed=False)]), _dark(lips, 0.08))
        c.fill(np.concatenate([_spline(mid, closed=False), _spline([mid[-1], *low, mid[0]], closed=False)]), _light(lips, 0.12))
        c.stroke(mid, 1.5, _dark(lips, 0.5))


def _beard(c: _Canvas, p: Portrait, f: _Face) -> None:
    hair = _dark(f.hair, 0.08)
    x, y = f.cx, f.cy + f.mouth_y
    if p.beard == "beard":
        w = f.w
        outer = [(x - w - 0.3, f.cy + 6), (x - w * 0.95, f.cy + 17), (x - w * 0.66, f.cy + 28), (x, f.cy + f.h + 4.5)]
        inner = [(x, y - 5.4), (x - w * 0.46, y - 4.2), (x - w * 0.70, f.cy + 12.5), (x - w * 0.87, f.cy + 6)]
        right = [(2 * x - a, b) for a, b in outer]
        rinner = [(2 * x - a, b) for a, b in inner]
        points = np.concatenate(
            [
                _spline([*outer, *reversed(right[:-1])], closed=False),
                _spline([*reversed(rinner), *inner[1:]], closed=False),
            ]
        )
        c.shade(points, [[hair, hair], [_light(hair, 0.08), hair], [_dark(hair, 0.15), _dark(hair, 0.25)]])
    for s in (-1, 1):
        c.fill(
            _spline(
                [(x, y - 6.4), (x + s * 5, y - 6.2), (x + s * 11, y - 1.0), (x + s * 5.5, y - 2.6), (x, y - 3.0)], closed=True
            ),
            _dark(hair, 0.1),
        )


def _crown(f: _Face, grow: float, reach: float, top: float = 0.0) -> np.ndarray:
    """The outline of hair over the skull, from the left side at `reach` below the centre over the top to the right."""
    t = np.linspace(np.pi - np.arcsin(np.clip(-reach / f.h, -1, 1)), 2 * np.pi + np.arcsin(np.clip(-reach / f.h, -1, 1)), 40)
    t = np.linspace(np.pi, 2 * np.pi, 40) if reach <= 0 else t
    x = f.cx + (f.w + grow) * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.85
    y = f.cy + (f.h + grow + top) * np.sin(t)
    y = np.where(np.sin(t) > 0, f.cy + f.h * np.sin(t), y)
    return np.stack([x, y], 1)


def _hair_rows(hair: Rgb, side: int) -> list[list[Rgb]]:
    a, b = _light(hair, 0.2), _dark(hair, 0.24)
    rows = [[a, _light(hair, 0.1), hair], [_light(hair, 0.1), hair, b], [hair, _mix(hair, b, 0.6), b]]
    return [list(reversed(r)) for r in rows] if side < 0 else rows


def _hair_behind(c: _Canvas, p: Portrait, f: _Face, rng: np.random.Generator) -> None:
    hair = f.hair
    deep = _dark(hair, 0.2)
    x, top = f.cx, f.cy - f.h
    if p.style == "long":
        w, end = f.w + rng.uniform(8, 11), rng.uniform(112, 122)
        wave = rng.uniform(0, 2.4)
        left = [
            (x, top - 6),
            (x - w * 0.66, top - 1),
            (x - w, f.cy - 8),
            (x - w - wave, f.cy + 12),
            (x - w + wave, f.cy + 30),
            (x - w - 2 - wave, 106),
            (x - w + 3, end),
        ]
        right = [(2 * x - a, b) for a, b in reversed(left[1:])]
        c.shade(_spline([*left, *right], closed=True), [[deep], [hair], [deep], [_dark(hair, 0.32)]])
    elif p.style == "bob":
        w, end = f.w + rng.uniform(7, 9.5), f.cy + rng.uniform(26, 33)
        left = [
            (x, top - 6),
            (x - w * 0.68, top),
            (x - w, f.cy - 8),
            (x - w - 1.5, f.cy + 12),
            (x - w + 1, end - 2),
            (x - w + 8, end + 1),
        ]
        right = [(2 * x - a, b) for a, b in reversed(left[1:])]
        c.shade(_spline([*left, *right], closed=True), [[deep], [hair], [_dark(hair, 0.34)]])
    elif p.style == "curly":
        n = 17
        for i in range(n):
            t = np.pi * (0.86 + 1.28 * i / (n - 1))
            r = rng.uniform(8.5, 10.5)
            px, py = x + (f.w + 5) * np.cos(t), f.cy + 2 + (f.h + 1) * np.sin(t)
            c.shade(_oval(px, py, r, r, n=28), [[_light(hair, 0.14)], [_dark(hair, 0.24)]])
    elif p.style == "bun" and p.hat == "none":
        r = rng.uniform(9.5, 11.5)
        y = top - r * 0.42
        c.shade(_oval(x, y, r * 1.08, r), _hair_rows(hair, f.side))
        c.glow(x - f.side * 3, y - 3, 6, 5, _light(hair, 0.6), 0.5)
    if p.style != "bald":
        c.fill(np.concatenate([_crown(f, 3.5, 0), [(x + f.w, f.cy + 8), (x - f.w, f.cy + 8)]]), deep)


def _hair_front(c: _Canvas, p: Portrait, f: _Face, fringe: int, rng: np.random.Generator) -> None:
    hair, x, w = f.hair, f.cx, f.w
    top = f.cy - f.h
    rows = _hair_rows(hair, f.side)
    line = top + rng.uniform(13.0, 15.5)
    grow = {"short": 4.2, "bun": 2.6, "spiky": 4.0}.get(p.style, 5.5)
    ends = {"short": 5.0, "spiky": 4.0, "bun": 3.0, "curly": 8.0}.get(p.style, 12.0)
    s = f.side
    if p.style == "spiky":
        n = 7
        tips: list[tuple[float, float]] = [(x - w - 3.5, f.cy - 6)]
        for i in range(n):
            t = np.pi * (1.12 + 0.76 * (i + 0.5) / n)
            reach = 11.5 + rng.uniform(-2, 2.5)
            tips.append((x + (w + reach) * np.cos(t), f.cy + (f.h + reach) * np.sin(t)))
            t2 = np.pi * (1.12 + 0.76 * (i + 1) / n)
            tips.append((x + (w + 2.5) * np.cos(t2), f.cy + (f.h + 2.5) * np.sin(t2)))
        tips += [(x + w + 3.5, f.cy - 6), (x + w * 0.6, line + 4), (x - w * 0.6, line + 4)]
        c.shade(tips, rows)
    if p.style == "curly":
        crown = np.concatenate(
            [_crown(f, 4, 0), [(x + w - 3, f.cy), (x + w * 0.7, line), (x - w * 0.7, line), (x - w + 3, f.cy)]]
        )
        c.shade(crown, rows)
        for i in range(9):
            px = x - w * 0.92 + 2 * w * 0.92 * i / 8
            py = line - 1.5 + 7.5 * abs(i / 4 - 1) ** 1.6 + rng.uniform(-1, 1)
            r = rng.uniform(5.2, 6.4)
            c.shade(_oval(px, py, r, r, n=24), [[_light(hair, 0.2)], [_dark(hair, 0.14)]])
        for sign in (-1, 1):
            for dy in (2, 9):
                r = rng.uniform(5.4, 6.6)
                c.shade(_oval(x + sign * (w + 2), f.cy + dy, r, r, n=24), [[_light(hair, 0.14)], [_dark(hair, 0.2)]])
        c.glow(x - s * 8, top + 1, 11, 7, _light(hair, 0.6), 0.4)
        return
    outer = _crown(f, grow, 0)
    left_end, right_end = (x - w - grow, f.cy + ends), (x + w + grow, f.cy + ends)
    hug = 3.6
    if p.style == "bun":
        inner = [
            (x + w - 1.4, f.cy + 1),
            (x + w * 0.84, f.cy - 12),
            (x + w * 0.45, line - 2.5),
            (x, line - 4.5),
            (x - w * 0.45, line - 2.5),
            (x - w * 0.84, f.cy - 12),
            (x - w + 1.4, f.cy + 1),
        ]
    elif fringe == 0:  # straight fringe
        inner = [
            (x + w - hug, f.cy + ends - 4),
            (x + w - hug - 0.5, line + 3),
            (x + w * 0.5, line + 2),
            (x, line + 2.6),
            (x - w * 0.5, line + 2),
            (x - w + hug + 0.5, line + 3),
            (x - w + hug, f.cy + ends - 4),
        ]
    elif fringe == 1:  # side parting
        inner = [
            (x + w - hug, f.cy + ends - 4),
            (x + w - hug, f.cy - 11),
            (x + w * 0.62, line + 3.5),
            (x + w * 0.05, line + 0.6),
            (x - w * 0.46, line - 5.5),
            (x - w * 0.72, line + 1.5),
            (x - w + hug, f.cy - 10),
            (x - w + hug, f.cy + ends - 4),
        ]
    else:  # centre parting
        inner = [
            (x + w - hug, f.cy + ends - 4),
            (x + w - hug, f.cy - 9),
            (x + w * 0.6, line + 2.4),
            (x + w * 0.2, line - 3),
            (x, line - 7),
            (x - w * 0.2, line - 3),
            (x - w * 0.6, line + 2.4),
            (x - w + hug, f.cy - 9),
            (x - w + hug, f.cy + ends - 4),
        ]
    if s < 0:
        inner = [(2 * x - a, b) for a, b in reversed(inner)]
    shape = np.concatenate([outer, [right_end], _spline(inner, closed=False, steps=6), [left_end]])
    c.shade(shape, rows)
    if p.style in ("long", "bob"):
        end = 115.0 + rng.uniform(-4, 4) if p.style == "long" else f.cy + 29
        for sign in (-1, 1):
            lock = [
                (x + sign * (w - 3.5), f.cy - 6),
                (x + sign * (w - 1.6), f.cy + 10),
                (x + sign * (w - 1.5), f.cy + 28),
                (x + sign * (w - 1), end - 5),
                (x + sign * (w + 5), end),
                (x + sign * (w + 10.5), end - 6),
                (x + sign * (w + 9.5), f.cy + 20),
                (x + sign * (w + 6.5), f.cy - 6),
            ]
            c.shade(_spline(lock, closed=True), [[hair, hair], [_light(hair, 0.1), hair], [_dark(hair, 0.1), _dark(hair, 0.2)]])
    # A band of shine.
    c.glow(x - s * 8, top + 4.5, 13, 5.5, _light(hair, 0.65), 0.5)
    c.glow(x + s * 13, top + 9, 7, 5, _light(hair, 0.5), 0.25)


def _eyewear(c: _Canvas, p: Portrait, f: _Face, rng: np.random.Generator) -> None:
    y = f.cy + f.eye_y + 0.6
    power = 2.0 if rng.random() < 0.5 else 3.6
    frame = ((34, 30, 40), (112, 44, 36), (40, 56, 110))[int(rng.integers(3))] if p.eyewear == "glasses" else (24, 22, 28)
    r = 8.6
    for s in (-1, 1):
        x = f.cx + s * max(f.eye_dx, 10.6)
        lens = _oval(x, y, r, r * 0.92, power)
        if p.eyewear == "sunglasses":
            c.shade(lens, [[(72, 70, 92)], [(26, 24, 34)]])
            c.stroke([(x - 4.6, y - 1), (x - 1.4, y - 4.4)], 1.7, (176, 178, 204), smooth=False)
        c.ring(lens, 2.3, frame)
        c.stroke([(x + s * r, y - 1.6), (f.cx + s * (f.w + 0.5), y - 2.4)], 2.1, frame, smooth=False)
    inner = max(f.eye_dx, 10.6) - r
    c.stroke([(f.cx - inner, y - 1.4), (f.cx, y - 2.6), (f.cx + inner, y - 1.4)], 2.3, frame)


def _hat(c: _Canvas, p: Portrait, f: _Face, colour: Rgb) -> None:
    x, w, top = f.cx, f.w, f.cy - f.h
    light, dark = _light(colour, 0.2), _dark(colour, 0.24)
    rows = [[light, light, colour], [light, colour, dark], [colour, colour, dark]]
    if f.side < 0:
        rows = [list(reversed(r)) for r in rows]
    grow = {"long": 7.2, "bob": 7.2, "curly": 7.0}.get(p.style, 5.4)
    t = np.linspace(np.pi, 2 * np.pi, 40)

    def dome(edge: float, wide: float, high: float, power: float) -> np.ndarray:
        return np.stack([x + wide * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power, edge + high * np.sin(t)], 1)

    if p.hat == "cap":
        edge = top + 10.6
        c.shade(dome(edge, w + grow - 0.6, 22.5, 0.72), rows)
        c.stroke([(x, edge - 21.5), (x, edge - 4)], 1.0, _dark(colour, 0.16))
        c.fill(_oval(x, edge - 22.4, 2.8, 1.7), dark)
        half = w + 1.5
        brim = [
            (x - half, edge - 2),
            (x - half * 0.6, edge - 4.5),
            (x, edge - 5.4),
            (x + half * 0.6, edge - 4.5),
            (x + half, edge - 2),
            (x + half * 0.86, edge + 5.2),
            (x, edge + 3.2),
            (x - half * 0.86, edge + 5.2),
        ]
        c.shade(_spline(brim, closed=True), [[_dark(colour, 0.22)], [_dark(colour, 0.42)]])
    else:
        edge = top + 11.5
        c.shade(_oval(x, edge - 25.2, 5.6, 5.0), [[_light(colour, 0.45)], [_light(colour, 0.05)]])
        c.shade(dome(edge - 2, w + grow - 1.0, 21.0, 0.78), rows)
        half = w + grow + 0.6
        band = _spline(
            [
                (x - half, edge - 6.5),
                (x, edge - 9.5),
                (x + half, edge - 6.5),
                (x + half + 0.4, edge + 1.0),
                (x + half - 0.6, edge + 4.0),
                (x, edge + 1.6),
                (x - half + 0.6, edge + 4.0),
                (x - half - 0.4, edge + 1.0),
            ],
            closed=True,
        )
        c.shade(band, [[_light(colour, 0.32), _light(colour, 0.12)], [_light(colour, 0.1), _dark(colour, 0.12)]])


def pictures(seeds: Sequence[int]) -> np.ndarray:
    """The portraits of these seeds, [n, 128, 128, 3] uint8."""
    return np.stack([np.asarray(paint(portrait(seed))) for seed in seeds])


def grid(pictures: Sequence[Image.Image], columns: int, scale: int = 1) -> Image.Image:
    """Pictures of one size on a sheet, row by row."""
    w, h = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * w * scale, rows * h * scale), (255, 255, 255))
    for i, picture in enumerate(pictures):
        big = picture if scale == 1 else picture.resize((w * scale, h * scale), Image.Resampling.LANCZOS)
        sheet.paste(big, ((i % columns) * w * scale, (i // columns) * h * scale))
    return sheet
