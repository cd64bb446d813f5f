"""Nodes that describe pictures, for models that follow pictures as they follow words."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, cast

from engine.errors import WeftError
from engine.schema import FileChoice, Range, node
from engine.types import ClipVision, ClipVisionOutput, Conditioning, Image, Model, Run, StyleModel, TextEncoder, Vae
from nodes.loaders import tell


@node("CLIPVisionLoader", title="Load CLIP Vision", category="loaders")
def load_clip_vision(*, clip_name: Annotated[Path, FileChoice("clip_vision")], run: Run) -> ClipVision:
    """Load a model that describes pictures.

    Args:
        clip_name: The file, of CLIP or OpenCLIP.
        run: Says where to compute.
    """
    from engine import models

    return models.load_clip_vision(clip_name, device=run.device, dtype=run.dtype)


@node("CLIPVisionEncode", title="CLIP Vision Encode", category="conditioning")
def encode_picture(*, clip_vision: ClipVision, image: Image, crop: Literal["center", "none"]) -> ClipVisionOutput:
    """Describe pictures.

    Args:
        clip_vision: Describes them.
        image: The pictures.
        crop: Whether the square in the middle is read, or the whole picture squeezed into a square.
    """
    return clip_vision.encode(image, is_cropped=crop == "center")


@node("StyleModelLoader", title="Load Style Model", category="loaders")
def load_style_model(*, style_model_name: Annotated[Path, FileChoice("style_models")], run: Run) -> StyleModel:
    """Load a model that turns descriptions of pictures into words of a prompt.

    Args:
        style_model_name: The file: the style adapter of T2I-Adapter.
        run: Says where to compute.
    """
    from engine import models

    return models.load_style_model(style_model_name, device=run.device)


@node("StyleModelApply", title="Apply Style Model", category="conditioning/style_model")
def apply_style(
    *,
    conditioning: Conditioning,
    style_model: StyleModel,
    clip_vision_output: ClipVisionOutput,
    strength: Annotated[float, Range(0.0, 10.0, step=0.001)] = 1.0,
    strength_type: Literal["multiply", "attn_bias"],
) -> Conditioning:
    """Append the style of a picture to a prompt.

    Args:
        conditioning: The prompt.
        style_model: Turns the description of the picture into words.
        clip_vision_output: The description.
        strength: Factor of those words.
        strength_type: `attn_bias` is for models whose attention takes one; none that is supported does.
    """
    import torch

    if strength_type == "attn_bias" and strength != 1.0:
        msg = "cannot weigh a style by attention: no supported model takes a bias there; use the strength type multiply"
        raise WeftError(msg)
    words = style_model.tokens(clip_vision_output).flatten(0, 1)[None] * strength
    return Conditioning(tuple(replace(entry, tokens=torch.cat((entry.tokens, words), dim=1)) for entry in conditioning.entries))


class Describing(NamedTuple):
    """A checkpoint with what describes pictures for it."""

    MODEL: Model
    CLIP: TextEncoder
    VAE: Vae
    CLIP_VISION: ClipVision


@node("unCLIPCheckpointLoader", title="unCLIPCheckpointLoader", category="loaders")
def load_unclip(*, ckpt_name: Annotated[Path, FileChoice("checkpoints", tell=tell)], run: Run) -> Describing:
    """Load a diffusion model that follows pictures (unCLIP), with all that belongs to it, from one file.

    Args:
        ckpt_name: The checkpoint.
        run: Says where to compute.
    """
    from engine import models

    loaded, vision = models.load_unclip(ckpt_name, device=run.device, dtype=run.dtype)
    parts = (loaded.model, loaded.text_encoder, loaded.vae, vision)
    return Describing(*cast("tuple[Model, TextEncoder, Vae, ClipVision]", parts))


@node("unCLIPConditioning", title="unCLIPConditioning", category="conditioning")
def follow_picture(
    *,
    conditioning: Conditioning,
    clip_vision_output: ClipVisionOutput,
    strength: Annotated[float, Range(-10.0, 10.0, step=0.01)] = 1.0,
    noise_augmentation: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.0,
) -> Conditioning:
    """Let a model that follows pictures (unCLIP) follow one beside the prompt.

    Args:
        conditioning: The prompt, with the pictures that it has already.
        clip_vision_output: The description of the picture.
        strength: Factor of the description; at 0 the picture is left out.
        noise_augmentation: How roughly to follow it: at 1 nothing of the picture is left.
    """
    if strength == 0:
        return conditioning
    picture = (clip_vision_output, strength, noise_augmentation)
    return Conditioning(tuple(e.with_options(pictures=(*e.options.get("pictures", ()), picture)) for e in conditioning.entries))
