"""Models: files to values that sample, encode text and decode pictures.

Importing this package imports neither torch nor any other heavy library; its functions do, when they are called.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from engine.errors import ModelFileError, UnsupportedModel
from engine.models.detect import SUPPORTED, TITLES, Detected, detect, of_shapes
from engine.models.embedding import finder as embedding_finder
from engine.models.family import CLIP_G, CLIP_L

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from torch import Tensor

    from engine.folders import Folders
    from engine.models.checkpoint import Parts
    from engine.models.controlnet import ControlLora, ControlNet
    from engine.models.family import Family
    from engine.models.gligen import Gligen
    from engine.models.network import DiffusionModel
    from engine.models.style import StyleModel
    from engine.models.t2i_adapter import T2IAdapter
    from engine.models.text import ClipTextEncoder
    from engine.models.vae import AutoencoderVae
    from engine.models.vision import ClipVision
    from engine.types import Model, NoiseSchedule, TextEncoder, Vae

PIXEL_SPACE = "pixel_space"
"""Pictures themselves as latents."""

Encoder = TypeVar("Encoder", bound="TextEncoder | None")

__all__ = [
    "CLIP_G",
    "CLIP_L",
    "Checkpoint",
    "Detected",
    "apply_lora",
    "detect",
    "download_file",
    "download_repo",
    "embedding_finder",
    "load_checkpoint",
    "load_clip_vision",
    "load_control_net",
    "load_gligen",
    "load_style_model",
    "load_text_encoder",
    "load_tiny_vae",
    "load_unclip",
    "load_unet",
    "load_vae",
    "merge_by_block",
    "merge_models",
    "merge_text_encoders",
    "preload",
    "tiny_vaes",
    "velocity_schedule",
]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        model: The denoising network.
        text_encoder: The text encoder, or None where the file has none.
        vae: The autoencoder, or None where the file has none.
    """

    model: DiffusionModel
    text_encoder: ClipTextEncoder | None
    vae: AutoencoderVae | None


def load_checkpoint(path: Path, *, device: str = "auto", dtype: str = "auto") -> Checkpoint:
    """Load a single-file checkpoint (`.safetensors`, `.ckpt`) or a diffusers folder.

    Args:
        path: The file, or the folder that holds `model_index.json`.
        device: Where to compute: `auto`, `cpu`, `cuda:0`, ...
        dtype: What network and text encoder compute in: `auto`, `float32`, `float16`, `bfloat16`. A VAE computes in
            float32 unless a format is named.

    Raises:
        ModelFileError: if the file cannot be read, or its tensors do not make a network.
        UnsupportedModel: if it is of a family that Weft does not load.
    """
    from engine import devices
    from engine.models import checkpoint

    place = devices.pick(device)
    family, parts = _checkpoint_parts(path)
    file = parts.file
    if parts.unet is None:
        prefix = checkpoint.UNET_PREFIX
        msg = f"cannot load it as a checkpoint: it holds no denoising network (no tensor starts with {prefix})"
        raise ModelFileError(msg, file=file)
    kind = devices.pick_dtype(place, "unet", dtype)
    model = checkpoint.model(parts.unet, family, marks=parts.marks, file=file, device=place, dtype=kind)
    text = vae = None
    if parts.text is not None:
        kind = devices.pick_dtype(place, "text", dtype)
        text = checkpoint.text_encoder(parts.text, family, file=file, device=place, dtype=kind)
    if parts.vae is not None:
        vae = checkpoint.vae(parts.vae, file=file, device=place, dtype=devices.pick_dtype(place, "vae", dtype))
    return Checkpoint(model, text, vae)


def preload() -> None:
    """Import what loading a model needs, so that a process that waits for work has paid for it before the first model."""
    from engine import devices

    devices.prepare()
    for module in (
        "diffusers.models.unets.unet_2d_condition",
        "diffusers.models.autoencoders.autoencoder_kl",
        "transformers.models.clip.modeling_clip",
    ):
        importlib.import_module(module)


def load_unet(path: Path, *, device: str = "auto", dtype: str = "auto", precision: str | None = None) -> DiffusionModel:
    """Load a denoising network alone, from a checkpoint or a file of its own in either layout.

    Args:
        path: The file.
        device: Where to compute.
        dtype: What to compute in.
        precision: A narrower format that its numbers are rounded to: `float8_e4m3fn` or `float8_e5m2`.

    Raises:
        ModelFileError: if the file cannot be read, or its tensors do not make a network.
        UnsupportedModel: if it is of a family that Weft does not load.
    """
    from engine import devices
    from engine.models import checkpoint
    from engine.models.families import FAMILIES

    tensors, found = _tensors(path, "unet", {"unet", "checkpoint"})
    place = devices.pick(device)
    file, kind = str(path), devices.pick_dtype(place, "unet", dtype)
    unet, family = checkpoint.unet_part(tensors, file), FAMILIES[found.family]
    return checkpoint.model(unet, family, marks=tensors, file=file, device=place, dtype=kind, precision=precision)


def load_text_encoder(*paths: Path, device: str = "auto", dtype: str = "auto") -> ClipTextEncoder:
    """Load a text encoder alone, from a checkpoint or from a file for each of its transformers, in any order.

    Raises:
        ModelFileError: if a file cannot be read, or its tensors do not make a text encoder.
        UnsupportedModel: if it is of a family that Weft does not load, or no family has these transformers together.
    """
    from engine import devices
    from engine.models import checkpoint
    from engine.models.families import FAMILIES

    read = {path: _tensors(path, "text encoder", {"text_encoder", "checkpoint"}) for path in paths}
    file = ", ".join(str(path) for path in read)
    place = devices.pick(device)
    kind = devices.pick_dtype(place, "text", dtype)
    tensors, found = next(iter(read.values()))
    if len(read) == 1 and found.role == "checkpoint":
        family = FAMILIES[found.family]
        towers = {tower: checkpoint.tower_part(tensors, tower) for tower in family.towers}
    else:
        own = {checkpoint.tower_name(tensors): tensors for tensors, _ in read.values()}
        fitting = [f for f in FAMILIES.values() if {tower.name for tower in f.towers} == own.keys()]
        if not fitting or len(own) != len(paths):
            msg = f"cannot load {file} as a text encoder: no family has {' and '.join(own)} from {len(paths)} files"
            raise UnsupportedModel(msg)
        family = fitting[0]
        towers = {tower: checkpoint.tower_part(own[tower.name], tower) for tower in family.towers}
    joined = checkpoint.text_tensors(towers, file)
    return checkpoint.text_encoder(joined, family, file=file, device=place, dtype=kind)


def load_vae(path: Path, *, device: str = "auto", dtype: str = "auto") -> AutoencoderVae:
    """Load a VAE alone, from a checkpoint or a file of its own in either layout.

    Raises:
        ModelFileError: if the file cannot be read, or its tensors do not make a VAE.
        UnsupportedModel: if it is of a kind that Weft does not load.
    """
    from engine import devices
    from engine.models import checkpoint, tiny_vae

    tensors, found = _tensors(path, "VAE", {"vae", "checkpoint"}, families=(*SUPPORTED, "taesd", "unknown"))
    place = devices.pick(device)
    file, kind = str(path), devices.pick_dtype(place, "vae", dtype)
    if found.family == "taesd":
        return tiny_vae.of_file(tensors, file=file, device=place, dtype=kind)
    return checkpoint.vae(checkpoint.vae_part(tensors, file), file=file, device=place, dtype=kind)


def load_tiny_vae(name: str, *paths: Path, device: str = "auto", dtype: str = "auto") -> Vae:
    """Load an autoencoder that is quick rather than good.

    Args:
        name: `pixel_space`, or what `tiny_vaes` lists.
        paths: The files that it lists for the name.
        device: Where to compute.
        dtype: What to compute in.

    Raises:
        ModelFileError: if the files cannot be read, or make no autoencoder.
    """
    from engine import devices
    from engine.models import tiny_vae

    if name == PIXEL_SPACE:
        return tiny_vae.PixelSpace()
    place = devices.pick(device)
    return tiny_vae.load(name, paths, device=place, dtype=devices.pick_dtype(place, "vae", dtype))


def tiny_vaes(folders: Folders) -> dict[str, tuple[Path, ...]]:
    """Autoencoders that are there without a file in the folder `vae`: name to the files that they are made of."""
    from engine.models.tiny_vae import named

    return {**named(folders), PIXEL_SPACE: ()}


def load_clip_vision(path: Path, *, device: str = "auto", dtype: str = "auto") -> ClipVision:
    """Load a CLIP vision transformer alone, in the layout of transformers or OpenCLIP.

    Raises:
        ModelFileError: if the file cannot be read, or its tensors do not make one.
        UnsupportedModel: if it is something else.
    """
    from engine import devices
    from engine.models import vision

    tensors, _ = _tensors(path, "CLIP vision model", {"clip_vision"})
    place = devices.pick(device)
    return vision.of_tensors(tensors, file=str(path), device=place, dtype=devices.pick_dtype(place, "text", dtype))


def load_unclip(path: Path, *, device: str = "auto", dtype: str = "auto") -> tuple[Checkpoint, ClipVision | None]:
    """Load a checkpoint with the vision transformer that describes pictures for it; None where the file has none.

    Raises:
        ModelFileError: if the file cannot be read, or its tensors do not make its parts.
        UnsupportedModel: if it is of a family that Weft does not load.
    """
    from engine import devices
    from engine.models import files, vision

    loaded = load_checkpoint(path, device=device, dtype=dtype)
    own = {n: t for n, t in files.read_tensors(path).items() if n.startswith(vision.CHECKPOINT_PREFIX)}
    if not own:
        return loaded, None
    place = devices.pick(device)
    kind = devices.pick_dtype(place, "text", dtype)
    return loaded, vision.of_tensors(own, file=str(path), device=place, dtype=kind)


def load_style_model(path: Path, *, device: str = "auto") -> StyleModel:
    """Load a style model.

    Raises:
        ModelFileError: if the file cannot be read, or is no style model that Weft knows.
    """
    from engine import devices
    from engine.models import style

    return style.load(path, device=devices.pick(device))


def velocity_schedule() -> NoiseSchedule:
    """The noise levels of Stable Diffusion for a network that predicts velocity."""
    from engine.sampling.schedule import DiscreteSchedule

    return DiscreteSchedule.scaled_linear("v")


def load_control_net(
    path: Path, *, device: str = "auto", dtype: str = "auto", base: Model | None = None
) -> ControlNet | ControlLora | T2IAdapter:
    """Load a ControlNet, a control LoRA or a T2I-adapter, in the original layout or in diffusers'.

    Args:
        path: The file.
        device: Where to compute: `auto`, `cpu`, `cuda:0`, ...
        dtype: What to compute in: `auto`, `float32`, `float16`, `bfloat16`.
        base: The model that it steers; files that hold differences to a model's weights need it.

    Raises:
        ModelFileError: if the file cannot be read, or its tensors do not make a network.
        UnsupportedModel: if it is of a kind that Weft does not load.
    """
    from engine import devices
    from engine.models import controlnet
    from engine.models.network import DiffusionModel

    place = devices.pick(device)
    under = base if isinstance(base, DiffusionModel) else None
    return controlnet.load(path, device=place, dtype=devices.pick_dtype(place, "unet", dtype), base=under)


def load_gligen(path: Path, *, device: str = "auto", dtype: str = "auto") -> Gligen:
    """Load GLIGEN's layers, which tell a network what to draw where.

    Raises:
        ModelFileError: if the file cannot be read, or holds no such layers.
    """
    from engine import devices
    from engine.models import gligen

    place = devices.pick(device)
    return gligen.load(path, device=place, dtype=devices.pick_dtype(place, "unet", dtype))


def apply_lora(
    model: Model, text_encoder: Encoder, path: Path, strength_model: float = 1.0, strength_clip: float = 1.0
) -> tuple[Model, Encoder]:
    """New values with a LoRA applied; the given ones stay as they are, and share every weight that does not change.

    Args:
        model: The network.
        text_encoder: The text encoder; None leaves the LoRA's part for it unused.
        path: The LoRA or another adapter, in kohya's or PEFT's naming.
        strength_model: How much of it the network takes; 0 leaves it as it is, negative turns it around.
        strength_clip: The same for the text encoder.

    Raises:
        ModelFileError: if no layer of it fits a weight, naming every one; some that do not are a warning.
        UnsupportedModel: if the LoRA is for another family, or the model is none that this package loaded.
    """
    from engine.models import lora
    from engine.models.network import DiffusionModel
    from engine.models.text import ClipTextEncoder

    if not isinstance(model, DiffusionModel) or not isinstance(text_encoder, ClipTextEncoder | None):
        msg = f"cannot apply {path}: {model!r} and {text_encoder!r} hold no weights that a LoRA could change"
        raise UnsupportedModel(msg)
    changed = lora.applied(model, text_encoder, path, strength_model=strength_model, strength_clip=strength_clip)
    return cast("tuple[Model, Encoder]", changed)


def merge_models(model: Model, other: Model, own: float, share: float) -> Model:
    """`model` with every weight W replaced by own * W + share * V, with V that of `other`.

    Raises:
        UnsupportedModel: if they are of different families, or none that this package loaded.
    """
    from engine.models import merge

    return merge.merged(*_networks(model, other), (own, share))


def merge_by_block(model: Model, other: Model, ratios: Mapping[str, float]) -> Model:
    """`model` mixed with `other`, each block of the network in a ratio of its own.

    Args:
        model: Counts with the ratio; everything that is no weight is its.
        other: Counts with what the ratio leaves to 1.
        ratios: Start of the original name of weights, such as `input_blocks.1.`, to ratio. The longest start counts;
            weights that none fits stay as they are.

    Raises:
        UnsupportedModel: if they are of different families, or none that this package loaded.
    """
    from engine.models import merge

    return merge.merged(*_networks(model, other), merge.by_block(ratios))


def merge_text_encoders(encoder: TextEncoder, other: TextEncoder, own: float, share: float) -> TextEncoder:
    """The same as `merge_models` for text encoders.

    Raises:
        UnsupportedModel: if they are of different families, or none that this package loaded.
    """
    from engine.models import merge
    from engine.models.text import ClipTextEncoder

    if not isinstance(encoder, ClipTextEncoder) or not isinstance(other, ClipTextEncoder):
        msg = f"cannot merge {encoder!r} and {other!r}: they hold no weights that could be mixed"
        raise UnsupportedModel(msg)
    return merge.merged(encoder, other, (own, share))


def _networks(model: Model, other: Model) -> tuple[DiffusionModel, DiffusionModel]:
    from engine.models.network import DiffusionModel

    if not isinstance(model, DiffusionModel) or not isinstance(other, DiffusionModel):
        msg = f"cannot merge {model!r} and {other!r}: they hold no weights that could be mixed"
        raise UnsupportedModel(msg)
    return model, other


def download_file(url: str, target: Path, *, sha256: str | None = None) -> None:
    """Download a file of the Hugging Face hub to `target`, whole or not at all.

    Raises:
        WeftError: if the address is no file of the hub, it cannot be downloaded, or its content is not that of `sha256`.
    """
    from engine.models import download

    download.file(url, target, sha256=sha256)


def download_repo(repo: str, *, revision: str | None = None, cache: Path | None = None) -> Path:
    """The local folder of a diffusers repository, downloaded if it is not there yet.

    Args:
        repo: `owner/name`.
        revision: Branch, tag or commit.
        cache: Where to keep it; the usual cache when None. `HF_HOME`, `HF_HUB_OFFLINE` and `HF_TOKEN` are honoured.

    Raises:
        WeftError: if `repo` is no such name, or it is neither there nor can it be downloaded.
    """
    from engine.models import download

    return download.repo(repo, revision=revision, cache=cache)


def _checkpoint_parts(path: Path) -> tuple[Family, Parts]:
    from engine.models import checkpoint, files
    from engine.models.families import FAMILIES

    if path.is_dir():
        unet = files.read_part(path, "unet")
        found = of_shapes(files.shapes(unet))
        _require(found, {"unet"}, "checkpoint", path)
        family = FAMILIES[found.family]
        return family, checkpoint.folder_parts(path, unet, family)
    tensors, found = _tensors(path, "checkpoint", {"checkpoint", "unet"})
    family = FAMILIES[found.family]
    return family, checkpoint.file_parts(tensors, str(path), family)


def _tensors(
    path: Path, what: str, roles: AbstractSet[str], families: Iterable[str] = SUPPORTED
) -> tuple[dict[str, Tensor], Detected]:
    """The tensors of a file that serves as `what`, and what it is."""
    from engine.models import files

    tensors = files.read_tensors(path)
    found = of_shapes(files.shapes(tensors))
    _require(found, roles, what, path, families)
    return tensors, found


def _require(found: Detected, roles: AbstractSet[str], what: str, path: Path, families: Iterable[str] = SUPPORTED) -> None:
    """Raise unless a file that is `found` serves as `what`."""
    if found.role == "unknown":
        msg = f"cannot load it as a {what}: its {found.sizes['tensors']} tensors belong to no model that Weft knows"
        raise ModelFileError(msg, file=str(path))
    if found.role not in roles:
        msg = f"cannot load {path} as a {what}: it is {found}"
        raise UnsupportedModel(msg)
    if found.family not in {*families, "clip"}:
        known = ", ".join(TITLES[family] for family in sorted(SUPPORTED))
        msg = f"cannot load {path}: it is {found}, and that family is not supported yet (supported: {known})"
        raise UnsupportedModel(msg)
