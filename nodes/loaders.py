"""Nodes that read model files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

from engine.errors import UnsupportedModel
from engine.folders import Folders
from engine.schema import Choice, FileChoice, Range, Widget, node
from engine.types import Facts, Model, Run, TextEncoder, Vae

if TYPE_CHECKING:
    from engine import models

SKIPPING_CONFIGS = ("anything_v3.yaml", "v1-inference_clip_skip_2.yaml", "v1-inference_clip_skip_2_fp16.yaml")
VELOCITY_CONFIGS = ("v2-inference-v.yaml", "v2-inference-v_fp32.yaml")
CONFIGS = (
    "anything_v3.yaml",
    "v1-inference.yaml",
    "v1-inference_clip_skip_2.yaml",
    "v1-inference_clip_skip_2_fp16.yaml",
    "v1-inference_fp16.yaml",
    "v1-inpainting-inference.yaml",
    "v2-inference-v.yaml",
    "v2-inference-v_fp32.yaml",
    "v2-inference.yaml",
    "v2-inference_fp32.yaml",
    "v2-inpainting-inference.yaml",
)
"""Published configurations of checkpoints."""

CLIP_TYPES = (
    "stable_diffusion",
    "stable_cascade",
    "sd3",
    "stable_audio",
    "mochi",
    "ltxv",
    "pixart",
    "cosmos",
    "lumina2",
    "wan",
    "hidream",
    "chroma",
    "ace",
    "omnigen2",
    "qwen_image",
    "hunyuan_image",
)
"""Families that saved workflows name."""


def tiny_vaes(folders: Folders) -> dict[str, tuple[Path, ...]]:
    """Autoencoders that are there without a file in the folder `vae`."""
    from engine import models

    return models.tiny_vaes(folders)


def tell(path: Path) -> Facts | None:
    """What the header of a model file says of the values that are made from it."""
    from engine.models.detect import tell

    return tell(path)


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
def load_checkpoint(*, ckpt_name: Annotated[Path, FileChoice("checkpoints", tell=tell)], run: Run) -> Checkpoint:
    """Load a diffusion model with its text encoder and VAE from one file.

    Args:
        ckpt_name: The checkpoint; its architecture is recognised from its tensors.
        run: Says where to compute.
    """
    from engine import models

    return _parts(models.load_checkpoint(ckpt_name, device=run.device, dtype=run.dtype))


@node("DiffusersLoader", title="DiffusersLoader", category="advanced/loaders/deprecated")
def load_diffusers(
    *, model_path: Annotated[Path | str, FileChoice("diffusers", repository=True, tell=tell)], run: Run
) -> Checkpoint:
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


@node("CheckpointLoader", title="Load Checkpoint With Config (DEPRECATED)", category="advanced/loaders", deprecated=True)
def load_checkpoint_with_config(
    *,
    config_name: Annotated[str, Choice(CONFIGS)],
    ckpt_name: Annotated[Path, FileChoice("checkpoints", tell=tell)],
    run: Run,
) -> Checkpoint:
    """Load a checkpoint and read its output as a configuration says, where the file does not show it.

    Args:
        config_name: Published configuration: those with `-v` predict velocity, those with `clip_skip_2` stop the text
            encoder one layer early, as does that of Anything. The rest shows in the tensors.
        ckpt_name: The checkpoint.
        run: Says where to compute.
    """
    from engine import models

    loaded = _parts(models.load_checkpoint(ckpt_name, device=run.device, dtype=run.dtype))
    if config_name in VELOCITY_CONFIGS:
        loaded = loaded._replace(MODEL=loaded.MODEL.with_schedule(models.velocity_schedule()))
    if config_name in SKIPPING_CONFIGS and loaded.CLIP is not None:
        loaded = loaded._replace(CLIP=loaded.CLIP.with_clip_skip(-2))
    return loaded


@node("UNETLoader", title="Load Diffusion Model", category="advanced/loaders")
def load_unet(
    *,
    unet_name: Annotated[Path, FileChoice("diffusion_models", tell=tell)],
    weight_dtype: Literal["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"],
    run: Run,
) -> Model:
    """Load a denoising network without text encoder and VAE.

    Args:
        unet_name: The file; its architecture is recognised from its tensors.
        weight_dtype: What its numbers are rounded to. They are computed with, and kept, in the format of the run.
        run: Says where to compute.
    """
    from engine import models

    precision = {"default": None, "fp8_e5m2": "float8_e5m2"}.get(weight_dtype, "float8_e4m3fn")
    return models.load_unet(unet_name, device=run.device, dtype=run.dtype, precision=precision)


@node("CLIPLoader", title="Load CLIP", category="advanced/loaders")
def load_clip(
    *,
    clip_name: Annotated[Path, FileChoice("text_encoders")],
    type: Annotated[str, Choice(CLIP_TYPES)],  # noqa: A002 - the port's name in saved workflows
    device: Annotated[str | None, Choice(("default", "cpu")), Widget(advanced=True)] = None,
    run: Run,
) -> TextEncoder:
    """Load a text encoder: CLIP L for Stable Diffusion 1, OpenCLIP H for 2, OpenCLIP bigG for the refiner of SDXL.

    Args:
        clip_name: The file; which one it is shows in its tensors.
        type: Family that it is for; only `stable_diffusion` is supported yet.
        device: `cpu` computes there whatever the run does.
        run: Says where to compute.
    """
    from engine import models

    _require_type(type, "stable_diffusion")
    return models.load_text_encoder(clip_name, device=_device(device, run), dtype=run.dtype)


@node("DualCLIPLoader", title="DualCLIPLoader", category="advanced/loaders")
def load_two_clips(
    *,
    clip_name1: Annotated[Path, FileChoice("text_encoders")],
    clip_name2: Annotated[Path, FileChoice("text_encoders")],
    type: Literal["sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image"],  # noqa: A002 - as above
    device: Annotated[str | None, Choice(("default", "cpu")), Widget(advanced=True)] = None,
    run: Run,
) -> TextEncoder:
    """Load two text encoders as one: CLIP L and OpenCLIP bigG for SDXL, in any order.

    Args:
        clip_name1: One file.
        clip_name2: The other file.
        type: Family that they are for; only `sdxl` is supported yet.
        device: `cpu` computes there whatever the run does.
        run: Says where to compute.
    """
    from engine import models

    _require_type(type, "sdxl")
    return models.load_text_encoder(clip_name1, clip_name2, device=_device(device, run), dtype=run.dtype)


@node("VAELoader", title="Load VAE", category="loaders")
def load_vae(*, vae_name: Annotated[Path | tuple[str, ...], FileChoice("vae", named=tiny_vaes, tell=tell)], run: Run) -> Vae:
    """Load a VAE: it turns pictures into latents and back.

    Args:
        vae_name: The file; or `taesd`, `taesdxl` and their like, which are quick rather than good, where their two files
            are in `vae_approx`; or `pixel_space`, for models that sample pixels.
        run: Says where to compute.
    """
    from engine import models

    if isinstance(vae_name, tuple):
        name, *paths = vae_name
        return models.load_tiny_vae(name, *(Path(path) for path in paths), device=run.device, dtype=run.dtype)
    return models.load_vae(vae_name, device=run.device, dtype=run.dtype)


@node(
    "LoraLoader", title="Load LoRA", category="loaders", bypass={"MODEL": "model", "CLIP": "clip"}, alike=("model", "lora_name")
)
def load_lora(
    *,
    model: Model,
    clip: TextEncoder,
    lora_name: Annotated[Path, FileChoice("loras", tell=tell)],
    strength_model: Annotated[float, Range(-100.0, 100.0, step=0.01)] = 1.0,
    strength_clip: Annotated[float, Range(-100.0, 100.0, step=0.01)] = 1.0,
) -> Patched:
    """Change a model and its text encoder by a LoRA. The originals stay as they are.

    Args:
        model: The diffusion model.
        clip: Its text encoder.
        lora_name: The file with the change: LoRA, LoCon, LoHa, LoKr, DoRA, GLoRA, OFT, BOFT or whole differences. Layers of
            it that the model does not have are left out.
        strength_model: How much of it the model takes; negative turns it around.
        strength_clip: How much of it the text encoder takes.
    """
    if strength_model == 0 and strength_clip == 0:
        return Patched(model, clip)
    from engine import models

    changed_model, changed_clip = models.apply_lora(model, clip, lora_name, strength_model, strength_clip)
    return Patched(changed_model, changed_clip)


@node(
    "LoraLoaderModelOnly",
    title="LoraLoaderModelOnly",
    category="loaders",
    bypass={"MODEL": "model"},
    alike=("model", "lora_name"),
)
def load_lora_model_only(
    *,
    model: Model,
    lora_name: Annotated[Path, FileChoice("loras", tell=tell)],
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


def _require_type(given: str, supported: str) -> None:
    if given != supported:
        msg = f"cannot load text encoders for {given}: that family is not supported yet (supported: {supported})"
        raise UnsupportedModel(msg)


def _device(given: str | None, run: Run) -> str:
    return "cpu" if given == "cpu" else run.device
