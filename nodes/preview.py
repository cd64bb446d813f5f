"""Nodes that show values without keeping them."""

from typing import Any, NamedTuple

from engine.schema import node
from engine.types import Image, Mask, Run, Shown
from nodes.image_files import documents

FAST_LEVEL = 1
"""zlib level of pictures that are looked at once."""

SUFFIX_LETTERS = 5


class ShownPictures(NamedTuple):
    """Pictures that were shown."""

    images: Image
    shown: Shown


class ShownMask(NamedTuple):
    """Masks that were shown."""

    mask: Mask
    shown: Shown


class ShownText(NamedTuple):
    """A text that was shown."""

    STRING: str
    shown: Shown


@node("PreviewImage", title="Preview Image", category="image", effect=True)
def preview_image(*, images: Image, run: Run) -> ShownPictures:
    """Show pictures; they are kept among the temporary files.

    Args:
        images: The pictures.
        run: Knows the temporary folder and the workflow.

    Returns:
        images: The pictures as they came.
    """
    return ShownPictures(images, _shown(images, run))


@node("ImageCompare", title="Image Compare", category="image", effect=True)
def compare(*, image_a: Image | None = None, image_b: Image | None = None, run: Run) -> Shown:
    """Show pictures side by side; they are kept among the temporary files.

    Args:
        image_a: The pictures of one side.
        image_b: The pictures of the other.
        run: Knows the temporary folder and the workflow.
    """
    sides = {"a_images": image_a, "b_images": image_b}
    return Shown({name: _shown(images, run).entries["images"] for name, images in sides.items() if images is not None})


@node("MaskPreview", title="MaskPreview", category="mask", effect=True)
def preview_mask(*, mask: Mask, run: Run) -> ShownMask:
    """Show masks as grey pictures; they are kept among the temporary files.

    Args:
        mask: The masks; 1 is shown white.
        run: Knows the temporary folder and the workflow.

    Returns:
        mask: The masks as they came.
    """
    return ShownMask(mask, _shown(Image(mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3)), run))


@node("PreviewAny", title="Preview Any", category="utils", effect=True)
def preview_any(*, source: Any) -> ShownText:
    """Show any value as text.

    Args:
        source: The value: text as it is, numbers and lists as JSON, anything else in words.

    Returns:
        STRING: The text.
    """
    text = _text(source)
    return ShownText(text, Shown({"text": (text,)}))


def _shown(images: Image, run: Run) -> Shown:
    import secrets
    import string

    from engine.media import Series

    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(SUFFIX_LETTERS))
    prefix = f"ComfyUI_temp_{letters}"
    series = Series.of(run.folders.temp, "temp", prefix, width=images.shape[2], height=images.shape[1])
    return Shown({"images": series.write(images, documents(run), level=FAST_LEVEL)})


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    import json

    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
