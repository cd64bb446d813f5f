"""Nodes that enlarge pictures with networks made for that."""

from pathlib import Path
from typing import Annotated

from engine.schema import FileChoice, node
from engine.types import Image, Run, Upscaler


@node("UpscaleModelLoader", title="Load Upscale Model", category="loaders")
def load_upscaler(*, model_name: Annotated[Path, FileChoice("upscale_models")], run: Run) -> Upscaler:
    """Load a network that enlarges pictures, or clears them up.

    Args:
        model_name: The file; its architecture is recognised from its tensors.
        run: Says where to compute.
    """
    from engine.models import upscale

    return upscale.load(model_name, device=run.device, dtype=run.dtype)


@node("ImageUpscaleWithModel", title="Upscale Image (using Model)", category="image/upscaling")
def upscale_with_model(*, upscale_model: Upscaler, image: Image, run: Run) -> Image:
    """Enlarge pictures with a network, tile by tile.

    Args:
        upscale_model: The network; it decides by how much.
        image: The pictures; transparency is dropped.
        run: Is told how far it is.
    """
    return upscale_model.upscale(image, run.progress)
