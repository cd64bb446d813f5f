"""What a model file is, by the names and shapes in its header. No torch, except to look into a pickle."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.errors import WeftError
from engine.models import files
from engine.types import Facts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Shapes = Mapping[str, tuple[int, ...]]

SUPPORTED = frozenset({"sd1", "sd2", "sdxl", "sdxl-refiner"})
"""Families that Weft loads."""

UNET_LATENT_CHANNELS = 4
"""C of the latents of every supported family."""

REFINER_SIZES_WIDTH = 5 * 256
"""Numbers of sizes and score in the vector of SDXL's refiner."""

TITLES: Mapping[str, str] = {
    "sd1": "Stable Diffusion 1",
    "sd2": "Stable Diffusion 2",
    "sdxl": "SDXL",
    "sdxl-refiner": "SDXL refiner",
    "sd3": "Stable Diffusion 3",
    "flux": "FLUX.1",
    "chroma": "Chroma",
    "auraflow": "AuraFlow",
    "pixart": "PixArt",
    "hunyuan-dit": "Hunyuan-DiT",
    "hunyuan-video": "HunyuanVideo",
    "lumina2": "Lumina 2",
    "qwen-image": "Qwen-Image",
    "wan": "Wan",
    "ltxv": "LTX-Video",
    "mochi": "Mochi",
    "cosmos": "Cosmos",
    "hidream": "HiDream",
    "cascade": "Stable Cascade",
    "svd": "Stable Video Diffusion",
    "clip": "CLIP",
    "t5": "T5",
    "taesd": "tiny autoencoder",
    "esrgan": "ESRGAN",
    "compact": "Real-ESRGAN Compact",
    "swinir": "SwinIR",
    "unknown": "unknown",
}
"""Family to how people call it."""


_ROLE_TITLES = {
    "unet": "denoising network",
    "vae": "VAE",
    "lora": "LoRA",
    "controlnet": "ControlNet",
    "t2i_adapter": "T2I-adapter",
}


@dataclass(frozen=True, slots=True)
class Detected:
    """What a file is.

    Attributes:
        family: Architecture family, a key of `TITLES`.
        role: `checkpoint`, `unet`, `vae`, `text_encoder`, `clip_vision`, `lora`, `controlnet`, `t2i_adapter`, `embedding`,
            `upscaler`, `style_model`, `ip_adapter` or `unknown`.
        sizes: Telling numbers: `tensors`, and `in_channels`, `context`, `rank`, ... where they apply.
    """

    family: str
    role: str
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """In words, such as `SDXL checkpoint`."""
        words = (TITLES[self.family], _ROLE_TITLES.get(self.role, self.role.replace("_", " ")))
        return " ".join(word for word in words if word != "unknown") or "unknown file"

    def __str__(self) -> str:
        """In words with an article: `an SDXL checkpoint`."""
        return f"{'an' if self.title.startswith(('SDXL', *'AEIOaeiou')) else 'a'} {self.title}"

    @property
    def is_supported(self) -> bool:
        """Whether Weft loads it."""
        if self.role in {"upscaler", "clip_vision", "style_model"} or self.family == "taesd":
            return True
        roles = {"checkpoint", "unet", "vae", "text_encoder", "lora", "embedding", "controlnet", "t2i_adapter"}
        return self.role in roles and self.family in SUPPORTED | {"clip", "unknown"} and self.role != "unknown"


def detect(path: Path) -> Detected:
    """What the model file or diffusers folder at `path` is.

    Raises:
        ModelFileError: if it cannot be read.
    """
    if path.is_dir():
        return replace(of_shapes(files.part_shapes(path, "unet")), role="checkpoint")
    if path.suffix.lower() in files.SAFETENSORS_SUFFIXES:
        return of_shapes({name: info.shape for name, info in files.read_header(path).tensors.items()})
    return of_shapes(files.shapes(files.read_tensors(path)))


_told: dict[tuple[object, ...], Facts | None] = {}
"""File and its state to what its header says."""

_TOLD_LIMIT = 256


def tell(path: Path) -> Facts | None:
    """What the header of a file says of the values that are made from it; each state of a file is read once.

    Only what is certain is told: a U-Net attends to words of one width, and nothing made for another width fits. Pickles
    and damaged files tell nothing, and no torch is imported.
    """
    try:
        state = path.stat()
        key = (str(path), state.st_ino, state.st_size, state.st_mtime_ns)
        if key not in _told:
            if len(_told) >= _TOLD_LIMIT:
                _told.clear()
            _told[key] = _facts(detect(path)) if _has_header(path) else None
        return _told[key]
    except (OSError, WeftError):
        return None


def _has_header(path: Path) -> bool:
    return path.suffix.lower() in files.SAFETENSORS_SUFFIXES or (path.is_dir() and any(path.glob("unet/*.safetensors")))


def _facts(found: Detected) -> Facts:
    values: dict[str, object] = {}
    if found.role in {"checkpoint", "unet"} and found.family in SUPPORTED:
        values = {"family": found.family, "latent_channels": UNET_LATENT_CHANNELS}
    elif found.role == "lora" and found.family in {"sdxl", "flux", "sd3"} and "context" not in found.sizes:
        values["family"] = found.family
    elif "latent_channels" in found.sizes:
        values["latent_channels"] = found.sizes["latent_channels"]
    if found.role in {"checkpoint", "unet", "lora", "controlnet"} and "context" in found.sizes:
        values["context"] = found.sizes["context"]
    return Facts(str(found), values)


def of_shapes(shapes: Shapes) -> Detected:
    """What a file with these tensors is."""
    for rule in (
        _lora,
        _controlnet,
        _t2i_adapter,
        _checkpoint,
        _adapter,
        _text_encoder,
        _unet,
        _vae,
        _style_model,
        _embedding,
        _upscaler,
    ):
        if (found := rule(shapes)) is not None:
            return Detected(found.family, found.role, {"tensors": len(shapes), **found.sizes})
    return Detected("unknown", "unknown", {"tensors": len(shapes)})


def _has(shapes: Shapes, *parts: str) -> bool:
    """Whether some name contains one of `parts`."""
    return any(part in name for name in shapes for part in parts)


def _first(shapes: Shapes, pattern: str) -> tuple[int, ...] | None:
    """Shape of the first tensor whose name `pattern` finds."""
    matcher = re.compile(pattern)
    return next((shape for name, shape in shapes.items() if matcher.search(name)), None)


_LORA_MARKS = (".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.", ".lora.down.", ".lora.up.", "_lora.down.", "_lora.up.",
               ".lora_linear_layer.", ".hada_w1_a", ".lokr_w", ".oft_blocks", ".dora_scale", ".w_norm", ".a1.weight")  # fmt: skip
_LORA_ENDS = (".diff", ".diff_b", ".set_weight")

_LORA_INPUTS = r"\.lora_down\.|\.lora_A\.|[._]lora\.down\.|\.hada_w1_b|\.b2\.weight"
"""The factor of an adapter that has the inputs of the layer as its columns."""


_CONTEXT_FACTOR = rf"attn2[._]to_[kv].*({_LORA_INPUTS})"
"""The factor whose last size is the width of the words that the network attends to."""


def _lora(shapes: Shapes) -> Detected | None:
    if not _has(shapes, *_LORA_MARKS) and not any(name.endswith(_LORA_ENDS) for name in shapes):
        return None
    down = _first(shapes, _LORA_INPUTS)
    context = _first(shapes, _CONTEXT_FACTOR)
    sizes = ({"rank": down[0]} if down else {}) | ({"context": context[-1]} if context else {})
    return Detected(_lora_family(shapes), "lora", sizes)


def _lora_family(shapes: Shapes) -> str:
    deep = ("lora_te1_", "lora_te2_", "text_encoder_2.", "_transformer_blocks_1_", ".transformer_blocks.1.attn1")
    if _has(shapes, *deep) and not _has(shapes, "transformer.transformer_blocks", "single_"):
        return "sdxl"
    if _has(shapes, "double_blocks", "single_blocks", "single_transformer_blocks"):
        return "flux"
    if _has(shapes, "joint_blocks", "transformer.transformer_blocks"):
        return "sd3"
    places = (r"attn2[._]to_[kv]", r"(lora_te_|text_encoder\.).*self_attn[._]q_proj")
    context = next((found for place in places if (found := _first(shapes, f"{place}.*({_LORA_INPUTS})"))), None)
    return {1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}.get(context[-1], "sd1") if context else "unknown"


def _controlnet(shapes: Shapes) -> Detected | None:
    if not _has(shapes, "controlnet_cond_embedding.", "input_hint_block.", "controlnet_down_blocks.", "zero_convs."):
        return None
    family = _unet_family(shapes)
    if family in {"sd1", "sd2"} and _has(shapes, "label_emb.", "add_embedding."):
        family = "sdxl"  # small ones for SDXL hardly attend, or not at all
    context = _first(shapes, r"attn2\.to_k\.weight")
    return Detected(family, "controlnet", {"context": context[-1]} if context else {})


def _t2i_adapter(shapes: Shapes) -> Detected | None:
    if not _has(shapes, "body.0.block1.weight", "body.0.resnets.0.block1.weight", "body.0.body.0.block1.weight"):
        return None
    entry = _first(shapes, r"^(adapter\.)?conv_in\.weight$") or _first(shapes, r"^(adapter\.)?body\.0\.in_conv\.weight$")
    cells = entry[1] if entry and len(entry) > 1 else 0
    return Detected("sdxl" if cells in {256, 768} else "sd1", "t2i_adapter", {})


_TRANSFORMERS = (
    ("chroma", ("distilled_guidance_layer.",)),
    ("hunyuan-video", ("txt_in.individual_token_refiner.",)),
    ("flux", ("double_blocks.0.img_attn.norm.key_norm.", "single_transformer_blocks.0.attn.norm_q.")),
    ("auraflow", ("double_layers.0.attn.w1q.", "joint_transformer_blocks.0.ff_context.")),
    ("sd3", ("joint_blocks.0.context_block.", "transformer_blocks.0.ff_context.net.")),
    ("hidream", ("caption_projection.0.linear.",)),
    ("qwen-image", ("txt_norm.weight",)),
    ("lumina2", ("cap_embedder.1.weight",)),
    ("ltxv", ("adaln_single.emb.timestep_embedder.linear_1.bias", "patchify_proj.")),
    ("pixart", ("t_block.1.weight", "adaln_single.")),
    ("hunyuan-dit", ("mlp_t5.0.weight",)),
    ("wan", ("head.modulation",)),
    ("mochi", ("t5_yproj.weight",)),
    ("cosmos", ("blocks.block0.blocks.0.block.attn.to_q.0.weight", "net.x_embedder.proj.1.weight")),
    ("cascade", ("clf.1.weight",)),
)
"""Families of diffusion transformers and names that only they have; the first match counts."""


def _transformer_family(shapes: Shapes) -> str | None:
    return next((family for family, marks in _TRANSFORMERS if _has(shapes, *marks)), None)


def _unet_family(shapes: Shapes) -> str:
    """Family of a U-Net, in either layout.

    SDXL has an embedding of sizes and pooled text, and attentions of several blocks; the refiner's pooled text is as wide
    as its context. SD2 enters attention through linear layers. No table of widths is asked.
    """
    if _has(shapes, "time_mixer", "temporal_transformer", "time_stack."):
        return "svd"
    vector = _first(shapes, r"label_emb\.0\.0\.weight|add_embedding\.linear_1\.weight")
    if vector is not None and _has(shapes, ".transformer_blocks.1."):
        context = _first(shapes, r"attn2\.to_k\.weight")
        return "sdxl-refiner" if context is not None and vector[-1] - REFINER_SIZES_WIDTH == context[-1] else "sdxl"
    entry = _first(shapes, r"proj_in\.weight")
    return "sd2" if entry is not None and len(entry) == 2 else "sd1"


def _unet_sizes(shapes: Shapes) -> dict[str, int]:
    entry = _first(shapes, r"(input_blocks\.0\.0|(^|\.)conv_in)\.weight")
    context = _first(shapes, r"attn2\.to_k\.weight")
    return ({"in_channels": entry[1]} if entry and len(entry) > 1 else {}) | ({"context": context[-1]} if context else {})


def _checkpoint(shapes: Shapes) -> Detected | None:
    if not any(name.startswith(("first_stage_model.", "cond_stage_model.", "conditioner.", "vae.decoder.")) for name in shapes):
        return None
    unet = {name: shape for name, shape in shapes.items() if name.startswith("model.diffusion_model.")}
    if not unet:
        return None
    if family := _transformer_family(unet):
        return Detected(family, "checkpoint")
    family = _unet_family(unet)
    if any(name.startswith("conditioner.embedders.1.") for name in shapes):
        family = "sdxl"
    elif any(name.startswith("conditioner.embedders.0.model.") for name in shapes):
        family = "sdxl-refiner"
    elif any(name.startswith("cond_stage_model.model.") for name in shapes):
        family = "sd2"
    return Detected(family, "checkpoint", _unet_sizes(unet))


def _unet(shapes: Shapes) -> Detected | None:
    if family := _transformer_family(shapes):
        return Detected(family, "unet")
    if _has(shapes, "input_blocks.0.0.weight", "down_blocks.0.resnets.0.time_emb_proj.weight"):
        return Detected(_unet_family(shapes), "unet", _unet_sizes(shapes))
    return None


def _adapter(shapes: Shapes) -> Detected | None:
    return Detected("unknown", "ip_adapter") if _has(shapes, "ip_adapter.", "image_proj.") else None


def _text_encoder(shapes: Shapes) -> Detected | None:
    if _has(shapes, "vision_model.encoder.layers.", "visual.transformer.resblocks."):
        return Detected("clip", "clip_vision")
    if _has(shapes, "encoder.block.0.layer.0.SelfAttention.q.weight"):
        return Detected("t5", "text_encoder")
    names = r"^(text_model\.|transformer\.text_model\.)?(embeddings\.token_embedding|token_embedding)\.weight$"
    if (table := _first(shapes, names)) is not None:
        return Detected("clip", "text_encoder", {"width": table[-1]})
    return None


def _style_model(shapes: Shapes) -> Detected | None:
    return Detected("unknown", "style_model") if {"style_embedding", "proj", "ln_pre.weight"} <= shapes.keys() else None


def _vae(shapes: Shapes) -> Detected | None:
    entry = _first(shapes, r"(^|\.)decoder\.conv_in\.weight$")
    if entry is not None and _has(shapes, "encoder.conv_in.weight"):
        latent = entry[1] if len(entry) > 1 else 0
        return Detected("sd1" if latent == 4 and len(entry) == 4 else "unknown", "vae", {"latent_channels": latent})
    is_half = {"3.conv.0.weight", "4.conv.0.weight", "5.conv.0.weight"} <= shapes.keys()
    if (
        is_half
        or _has(shapes, "taesd_decoder.", "taesd_encoder.")
        or {"decoder.layers.0.weight", "decoder.layers.1.weight"} & shapes.keys()
    ):
        return Detected("taesd", "vae")
    return None


def _embedding(shapes: Shapes) -> Detected | None:
    named = {"emb_params", "string_to_param", "clip_l", "clip_g", "*"} & set(shapes)
    if len(shapes) <= 4 and (named or all(len(shape) == 2 and shape[0] <= 128 for shape in shapes.values())) and shapes:
        shape = shapes[next(iter(named or shapes))]
        family = {768: "sd1", 1024: "sd2", 1280: "sdxl"}.get(shape[-1] if shape else 0, "unknown")
        return Detected("sdxl" if "clip_g" in shapes else family, "embedding", {"width": shape[-1] if shape else 0})
    return None


def _upscaler(shapes: Shapes) -> Detected | None:
    if _has(shapes, "RDB1.conv1.weight", "rdb1.conv1.weight", "model.1.sub.0."):
        return Detected("esrgan", "upscaler")
    if _has(shapes, "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"):
        return Detected("swinir", "upscaler")
    first, slope = shapes.get("body.0.weight", ()), shapes.get("body.1.weight", ())
    return Detected("compact", "upscaler") if len(first) == 4 and slope == first[:1] else None
