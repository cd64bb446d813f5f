"""Nodes that read and write latents as files."""

from pathlib import Path
from typing import Annotated

from engine.schema import FileChoice, node
from engine.types import Latent, Run, Shown
from nodes.image_files import documents

SUFFIX = ".latent"


@node("SaveLatent", title="SaveLatent", category="_for_testing", effect=True)
def save(*, samples: Latent, filename_prefix: str = "latents/ComfyUI", run: Run) -> Shown:
    """Save latents as a file that carries its workflow. Masks are not kept.

    Args:
        samples: The latents.
        filename_prefix: First part of its name, as of `SaveImage`.
        run: Knows the output folder and the workflow.
    """
    from engine.media import Series
    from engine.models.latents import latent_bytes

    series = Series.of(run.folders.output, "output", filename_prefix)
    return Shown({"latents": series.publish((latent_bytes(samples.samples, documents(run)),), SUFFIX)})


@node("LoadLatent", title="LoadLatent", category="_for_testing")
def load(*, latent: Annotated[Path, FileChoice("input", extensions=(SUFFIX,))]) -> Latent:
    """Read latents from a file.

    Args:
        latent: A file of the input folder; with ` [output]` or ` [temp]` appended, of that folder.
    """
    from engine.models.latents import read_latent

    return Latent(read_latent(latent))
