"""`comfy_api.latest`: packs that declare their nodes by schemas."""

from __future__ import annotations

from typing import Any

from engine.packs.surface import io, ui
from engine.packs.surface.api import ComfyAPI, ComfyAPISync

IO = io
UI = ui

__all__ = ["IO", "UI", "ComfyAPI", "ComfyAPISync", "ComfyExtension", "io", "ui"]


class ComfyExtension:
    """What `comfy_entrypoint` of a pack gives."""

    async def on_load(self) -> None:
        """Prepare whatever the nodes need."""

    async def get_node_list(self) -> list[Any]:
        """The classes of the nodes."""
        return []
