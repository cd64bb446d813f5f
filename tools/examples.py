"""Draw the pictures that the example workflows start from: `python -m tools.examples`.

`portrait.png` is a drawing of the painter that the portrait model learned from, by a seed that training never saw;
`portrait-mask.png` covers its eyes and cheeks, white where inpainting may paint.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from tools.portrait import paint

FOLDER = Path(__file__).resolve().parents[1] / "engine" / "assets" / "input"
SEED = 10_001_298
SIZE = 128


def eyes() -> Image.Image:
    """White where the eyes of the drawing are, soft at the edges."""
    mask = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(mask).rounded_rectangle((38, 42, 90, 74), radius=10, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(1))


def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(paint.pictures([SEED])[0])
    picture.save(FOLDER / "portrait.png", optimize=True)
    mask = eyes()
    mask.save(FOLDER / "portrait-mask.png", optimize=True)
    print(f"wrote portrait.png and portrait-mask.png to {FOLDER}")


if __name__ == "__main__":
    main()
