"""`comfy.sd`: checkpoints and VAEs from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.packs.scene import scene


def load_checkpoint_guess_config(
    ckpt_path: str,
    output_vae: bool = True,  # noqa: FBT001, FBT002 - packs call it so
    output_clip: bool = True,  # noqa: FBT001, FBT002 - the same
    output_clipvision: bool = False,  # noqa: ARG001, FBT001, FBT002 - the same
    **_: Any,
) -> tuple[Any, Any, Any, None]:
    """(model, text encoder, VAE, None) of a checkpoint."""
    from engine.models import load_checkpoint

    run = scene().run
    found = load_checkpoint(Path(ckpt_path), **({} if run is None else {"device": run.device, "dtype": run.dtype}))
    return found.model, found.text_encoder if output_clip else None, found.vae if output_vae else None, None
