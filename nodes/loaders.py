"""Nodes that read model files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

from engine.schema import FileChoice, Range, node
from engine.types import Model, Run, TextEncoder, Vae

if TYPE_CHECKING:
    from engine import models


class Checkpoint(NamedTuple):
    """What a whole checkpoint holds."""

    MODEL: Model
    CLIP: TextEncoder
    VAE: Vae


class Patched(NamedTuple):
    """A model and its text encoder, changed alike."""

    MODEL: Model
    CLIP: TextEncoder


@node("CheckpointLoaderSimple", title="Load Checkpoint", category="loaders")
def load_checkpoint(*, ckpt_name: Annotated[Path, FileChoice("checkpoints")], run: Run) -> Checkpoint:
    """Load a diffusion model with its text encoder and VAE from one file.

    Args:
        ckpt_name: The checkpoint; its architecture is recognised from its tensors.
        run: Says where to compute.
    """
    from engine import models

    return _parts(models.load_checkpoint(ckpt_name, device=run.device, dtype=run.dtype))


@node("DiffusersLoader", title="DiffusersLoader", category="advanced/loaders/deprecated")
def load_diffusers(*, model_path: Annotated[Path | str, FileChoice("diffusers", repository=True)], run: Run) -> Checkpoint:
    """Load a diffusion model with its text encoder and VAE from a folder in the layout of diffusers.

    Args:
        model_path: The folder; it holds a `model_index.json`. A name such as `runwayml/stable-diffusion-v1-5` that is no
            folder here is downloaded from the Hugging Face hub, once.
        run: Says where to compute.
    """
    from engine import models

    if isinstance(model_path, str):
        model_path = models.download_repo(model_path)
    return _parts(models.load_checkpoint(model_path, device=run.device, dtype=run.dtype))


@node("VAELoader", title="Load VAE", category="loaders")
def load_vae(*, vae_name: Annotated[Path, FileChoice("vae")], run: Run) -> Vae:
    """Load a VAE: it turns pictures into latents and back.

    Differs: offers files only; the reference also lists its preview decoders and `pixel_space`.

    Args:
        vae_name: The file.
        run: Says where to compute.
    """
    from engine import models

    return models.load_vae(vae_name, device=run.device, dtype=run.dtype)


@node("LoraLoader", title="Load LoRA", category="loaders", bypass={"MODEL": "model", "CLIP": "clip"})
def load_lora(
    *,
    model: Model,
    clip: TextEncoder,
    lora_name: Annotated[Path, FileChoice("loras")],
    strength_model: Annotated[float, Range(-100.0, 100.0, step=0.01)] = 1.0,
    strength_clip: Annotated[float, Range(-100.0, 100.0, step=0.01)] = 1.0,
) -> Patched:
    """Change a model and its text encoder by a LoRA. The originals stay as they are.

    Args:
        model: The diffusion model.
        clip: Its text encoder.
        lora_name: The file with the change.
        strength_model: How much of it the model takes; negative turns it around.
        strength_clip: How much of it the text encoder takes.
    """
    if strength_model == 0 and strength_clip == 0:
        return Patched(model, clip)
    from engine import models

    changed_model, changed_clip = models.apply_lora(model, clip, lora_name, strength_model, strength_clip)
    return Patched(changed_model, changed_clip)


@node("LoraLoaderModelOnly", title="LoraLoaderModelOnly", category="loaders", bypass={"MODEL": "model"})
def load_lora_model_only(
    *,
    model: Model,
    lora_name: Annotated[Path, FileChoice("loras")],
    strength_model: Annotated[float, Range(-100.0, 100.0, step=0.01)] = 1.0,
) -> Model:
    """Change a model by a LoRA, without its text encoder. The original stays as it is.

    Args:
        model: The diffusion model.
        lora_name: The file with the change.
        strength_model: How much of it the model takes; negative turns it around.
    """
    if strength_model == 0:
        return model
    from engine import models

    changed, _ = models.apply_lora(model, None, lora_name, strength_model, 0.0)
    return changed


def _parts(loaded: "models.Checkpoint") -> Checkpoint:
    """The parts of a file; one that it lacks is None, which no node takes that needs it."""
    return Checkpoint(loaded.model, cast("TextEncoder", loaded.text_encoder), cast("Vae", loaded.vae))
