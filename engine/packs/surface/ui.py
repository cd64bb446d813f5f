"""`comfy_api.latest.ui`: what nodes show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.packs.scene import scene

if TYPE_CHECKING:
    from torch import Tensor


class _Shown:
    """Something to show.

    Args:
        entries: Name to values.
    """

    def __init__(self, entries: dict[str, Any]) -> None:
        self._entries = entries

    def as_dict(self) -> dict[str, Any]:
        """The entries."""
        return self._entries


class PreviewText(_Shown):
    """A text."""

    def __init__(self, value: str, **_: Any) -> None:
        super().__init__({"text": (value,)})


class PreviewImage(_Shown):
    """Pictures [B, H, W, C], written into the folder of previews."""

    def __init__(self, image: Tensor, *_: Any, **__: Any) -> None:
        super().__init__(_saved("PreviewImage", images=image))


class PreviewMask(_Shown):
    """Masks [B, H, W], written into the folder of previews as pictures."""

    def __init__(self, mask: Tensor, *_: Any, **__: Any) -> None:
        super().__init__(_saved("PreviewImage", images=mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3)))


class ImageSaveHelper:
    """Saves pictures."""

    @staticmethod
    def get_save_images_ui(images: Tensor, filename_prefix: str, *_: Any, **__: Any) -> _Shown:
        """Save pictures [B, H, W, C] into the output folder."""
        return _Shown(_saved("SaveImage", images=images, filename_prefix=filename_prefix))


def _saved(kind: str, **inputs: Any) -> dict[str, Any]:
    """What a kind of Weft's own shows."""
    found = scene().world.catalog[kind]
    run = {} if found.run_parameter is None else {found.run_parameter: scene().run}
    raw = found.function(**inputs, **run)
    entries: dict[str, Any] = (raw if found.single else raw[found.show_output]).json()
    return entries
