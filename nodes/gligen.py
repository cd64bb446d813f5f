"""Nodes that tell a diffusion model what to draw where."""

from pathlib import Path
from typing import Annotated

from engine.models.gligen import Box, Boxes, Gligen
from engine.schema import FileChoice, Range, References, Widget, node
from engine.types import Cond, Conditioning, Run, TextEncoder
from nodes.conditioning import CELL_PX, embedding_files

Side = Annotated[int, Range(8, 16384, step=8)]
Edge = Annotated[int, Range(0, 16384, step=8)]


@node("GLIGENLoader", title="GLIGENLoader", category="loaders")
def load_gligen(*, gligen_name: Annotated[Path, FileChoice("gligen")], run: Run) -> Gligen:
    """Load layers that tell a model what to draw where.

    Args:
        gligen_name: The file; it was made for one family of models.
        run: Says where to compute.
    """
    from engine import models

    return models.load_gligen(gligen_name, device=run.device, dtype=run.dtype)


@node("GLIGENTextBoxApply", title="GLIGENTextBoxApply", category="conditioning/gligen")
def place_text(
    *,
    conditioning_to: Conditioning,
    clip: TextEncoder,
    gligen_textbox_model: Gligen,
    text: Annotated[str, Widget(multiline=True, dynamicPrompts=True), References(embedding_files)],
    width: Side = 64,
    height: Side = 64,
    x: Edge = 0,
    y: Edge = 0,
    run: Run,
) -> Conditioning:
    """Say that something should be drawn within a box of the picture. Several boxes add up.

    Args:
        conditioning_to: What the whole picture should show.
        clip: The text encoder of the model.
        gligen_textbox_model: The layers that the model is told by.
        text: What to draw there.
        width: Of the box, in pixels.
        height: Of the box, in pixels.
        x: Its left edge, in pixels.
        y: Its top edge, in pixels.
        run: Knows the folder of embeddings.
    """
    from engine.models import embedding_finder

    prompt = clip.encode(text, find_embedding=embedding_finder(run.folders)).entries[0].pooled
    if prompt is None:
        msg = "cannot place a text by this text encoder: it gives no pooled output"
        raise ValueError(msg)
    box = Box(prompt, height // CELL_PX, width // CELL_PX, y // CELL_PX, x // CELL_PX)

    def placed(entry: Cond) -> Cond:
        controls = entry.options.get("controls", ())
        known = next((control.boxes for control in controls if isinstance(control, Boxes)), ())
        others = tuple(control for control in controls if not isinstance(control, Boxes))
        return entry.with_options(controls=(*others, Boxes(gligen_textbox_model, known).with_box(box)))

    return Conditioning(tuple(placed(entry) for entry in conditioning_to.entries))
