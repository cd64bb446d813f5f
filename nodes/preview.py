"""Nodes that show values without keeping them."""

from typing import Any

from engine.schema import node
from engine.types import Image, Mask, Run, Shown
from nodes.image_files import documents

FAST_LEVEL = 1
"""zlib level of pictures that are looked at once."""

SUFFIX_LETTERS = 5


@node("PreviewImage", title="Preview Image", category="image", effect=True)
def preview_image(*, images: Image, run: Run) -> Shown:
    """Show pictures; they are kept among the temporary files.

    Args:
        images: The pictures.
        run: Knows the temporary folder and the workflow.
    """
    return _shown(images, run)


@node("MaskPreview", title="MaskPreview", category="mask", effect=True)
def preview_mask(*, mask: Mask, run: Run) -> Shown:
    """Show masks as grey pictures; they are kept among the temporary files.

    Args:
        mask: The masks; 1 is shown white.
        run: Knows the temporary folder and the workflow.
    """
    return _shown(Image(mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3)), run)


@node("PreviewAny", title="Preview Any", category="utils", effect=True)
def preview_any(*, source: Any) -> Shown:
    """Show any value as text.

    Args:
        source: The value: text as it is, numbers and lists as JSON, anything else in words.
    """
    return Shown({"text": (_text(source),)})


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
