"""Node packs written for ComfyUI's class protocol, as kinds. See docs/packs.md for what works and what does not."""

from engine.packs.load import Loaded, Pack, load

__all__ = ["Loaded", "Pack", "load"]
