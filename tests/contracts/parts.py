"""Small files of parts of models, of random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.models.upscalers import compact

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

TOWERS = {
    "l.safetensors": ("sdxl_tiny.safetensors", "conditioner.embedders.0.transformer."),
    "g.safetensors": ("sdxl_tiny.safetensors", "conditioner.embedders.1.model."),
}
"""File to the checkpoint that it is cut out of, and the prefix of its names there."""

WIDTH = 64


def write(models: Path) -> None:
    """Small files of every kind that is no checkpoint, below a models folder that has checkpoints."""
    import torch
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(5)
    for folder in ("text_encoders", "clip_vision", "style_models", "upscale_models", "hypernetworks", "gligen"):
        (models / folder).mkdir(exist_ok=True)
    for file, (checkpoint, prefix) in TOWERS.items():
        tensors = load_file(models / "checkpoints" / checkpoint)
        own = {name.removeprefix(prefix): t.clone() for name, t in tensors.items() if name.startswith(prefix)}
        save_file(own, models / "text_encoders" / file)
    for file, shapes in (("clip_vision/vision", vision()), ("style_models/style", style()), ("gligen/boxes", gligen())):
        weights: dict[str, Tensor] = {n: torch.randn(shape, generator=generator) * 0.1 for n, shape in shapes.items()}
        save_file(weights, models / f"{file}.safetensors")
    layers = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in _affine("linear.0", WIDTH, WIDTH).items()}
    torch.save({WIDTH: (layers, layers)}, models / "hypernetworks" / "small.pt")
    save_file(compact(), models / "upscale_models" / "upscale.safetensors")


def _affine(name: str, *shape: int) -> dict[str, list[int]]:
    return {f"{name}.weight": list(shape), f"{name}.bias": [shape[0]]}


def vision() -> dict[str, list[int]]:
    """A vision transformer of one layer for pictures of 28 pixels."""
    inner, layer = "vision_model", "vision_model.encoder.layers.0"
    shapes = {
        f"{inner}.embeddings.class_embedding": [WIDTH],
        f"{inner}.embeddings.patch_embedding.weight": [WIDTH, 3, 14, 14],
        f"{inner}.embeddings.position_embedding.weight": [5, WIDTH],
        "visual_projection.weight": [32, WIDTH],
    }
    for norm in (f"{inner}.pre_layrnorm", f"{inner}.post_layernorm", f"{layer}.layer_norm1", f"{layer}.layer_norm2"):
        shapes |= _affine(norm, WIDTH)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes |= _affine(f"{layer}.self_attn.{part}", WIDTH, WIDTH)
    return shapes | _affine(f"{layer}.mlp.fc1", WIDTH, WIDTH) | _affine(f"{layer}.mlp.fc2", WIDTH, WIDTH)


def style() -> dict[str, list[int]]:
    """A style adapter of one block that gives two words for prompts of Stable Diffusion's small stand-in."""
    block = "transformer_layes.0"
    shapes = {
        "style_embedding": [1, 2, WIDTH],
        "proj": [WIDTH, 64],
        f"{block}.attn.in_proj_weight": [3 * WIDTH, WIDTH],
        f"{block}.attn.in_proj_bias": [3 * WIDTH],
        **_affine(f"{block}.attn.out_proj", WIDTH, WIDTH),
        **_affine(f"{block}.mlp.c_fc", 4 * WIDTH, WIDTH),
        **_affine(f"{block}.mlp.c_proj", WIDTH, 4 * WIDTH),
    }
    for norm in ("ln_pre", "ln_post", f"{block}.ln_1", f"{block}.ln_2"):
        shapes |= _affine(norm, WIDTH)
    return shapes


def gligen() -> dict[str, list[int]]:
    """One gated attention, and what makes tokens of boxes."""
    layer, place = "input_blocks.1.1.transformer_blocks.0.fuser", "position_net"
    shapes = {
        f"{layer}.alpha_attn": [],
        f"{layer}.alpha_dense": [],
        **_affine(f"{layer}.linear", 32, WIDTH),
        **_affine(f"{layer}.norm1", 32),
        **_affine(f"{layer}.norm2", 32),
        **_affine(f"{layer}.attn.to_out.0", 32, 32),
        **_affine(f"{layer}.ff.net.0.proj", 256, 32),
        **_affine(f"{layer}.ff.net.2", 32, 128),
        f"{place}.null_positive_feature": [WIDTH],
        f"{place}.null_position_feature": [64],
        **_affine(f"{place}.linears.0", 512, WIDTH + 64),
        **_affine(f"{place}.linears.2", 512, 512),
        **_affine(f"{place}.linears.4", WIDTH, 512),
    }
    return shapes | {f"{layer}.attn.to_{part}.weight": [32, 32] for part in "qkv"}
