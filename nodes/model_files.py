"""Nodes that write model files."""

from functools import partial
from typing import TYPE_CHECKING

from engine.schema import node
from engine.types import Model, Run, SavedFile, Shown, TextEncoder, Vae
from nodes.image_files import documents

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


@node("CheckpointSave", title="Save Checkpoint", category="advanced/model_merging", effect=True)
def save_checkpoint(
    *, model: Model, clip: TextEncoder, vae: Vae, filename_prefix: str = "checkpoints/ComfyUI", run: Run
) -> Shown:
    """Save a model with its text encoder and VAE as a checkpoint, with what changes their weights merged into them.

    Args:
        model: The diffusion model.
        clip: Its text encoder.
        vae: Its VAE.
        filename_prefix: First part of its name, as of `SaveImage`.
        run: Knows the output folder and the workflow.
    """
    from engine.models.save import checkpoint_tensors

    return _saved(checkpoint_tensors(model, clip, vae), filename_prefix, run, model)


@node("ModelSave", title="ModelSave", category="advanced/model_merging", effect=True)
def save_model(*, model: Model, filename_prefix: str = "diffusion_models/ComfyUI", run: Run) -> Shown:
    """Save a model without text encoder and VAE, with what changes its weights merged into them.

    Args:
        model: The diffusion model.
        filename_prefix: First part of its name, as of `SaveImage`.
        run: Knows the output folder and the workflow.
    """
    from engine.models.save import checkpoint_tensors

    return _saved(checkpoint_tensors(model), filename_prefix, run, model)


@node("CLIPSave", title="CLIPSave", category="advanced/model_merging", effect=True)
def save_clip(*, clip: TextEncoder, filename_prefix: str = "clip/ComfyUI", run: Run) -> Shown:
    """Save a text encoder, a file for each of its transformers, with what changes their weights merged into them.

    Args:
        clip: The text encoder.
        filename_prefix: First part of its name, as of `SaveImage`; the name of the transformer follows it.
        run: Knows the output folder and the workflow.
    """
    from engine.models.save import text_tensors

    shown = [_saved(tensors, f"{filename_prefix}_{name}", run) for name, tensors in text_tensors(clip).items()]
    return Shown({"models": tuple(file for each in shown for file in each.files)})


@node("VAESave", title="VAESave", category="advanced/model_merging", effect=True)
def save_vae(*, vae: Vae, filename_prefix: str = "vae/ComfyUI_vae", run: Run) -> Shown:
    """Save a VAE.

    Args:
        vae: The VAE.
        filename_prefix: First part of its name, as of `SaveImage`.
        run: Knows the output folder and the workflow.
    """
    from engine.models.save import vae_tensors

    return _saved(vae_tensors(vae), filename_prefix, run)


def _saved(tensors: "dict[str, Tensor]", prefix: str, run: Run, model: Model | None = None) -> Shown:
    from engine.media import Series
    from engine.models.save import metadata, write

    series = Series.of(run.folders.output, "output", prefix)
    texts = metadata(documents(run), model, title=f"{series.stem} {series.next_number()}")
    files: tuple[SavedFile, ...] = series.publish((partial(write, tensors=tensors, texts=texts),), SUFFIX)
    return Shown({"models": files})
