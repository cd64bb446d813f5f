"""Nodes that change how a diffusion model runs, and how its answers guide sampling."""

from pathlib import Path
from typing import Annotated, Literal

from engine.schema import FileChoice, Range, node
from engine.types import Model, TextEncoder

Factor = Annotated[float, Range(0.0, 10.0, step=0.01)]
Percent = Annotated[float, Range(0.0, 1.0, step=0.001)]
Between = Literal["bicubic", "nearest-exact", "bilinear", "area", "bislerp"]


@node("FreeU", title="FreeU", category="model_patches/unet", bypass={"MODEL": "model"})
def free_u(*, model: Model, b1: Factor = 1.1, b2: Factor = 1.2, s1: Factor = 0.9, s2: Factor = 0.2) -> Model:
    """Make a model rely more on its deep features, and less on low frequencies that its skips carry.

    Args:
        model: The diffusion model.
        b1: Factor of half of the deepest features.
        b2: Factor of half of the features one level above.
        s1: Factor of the low frequencies of the skips at the deepest level.
        s2: The same one level above.
    """
    from engine.models.free_u import FreeU
    from engine.models.network import changeable

    network = changeable(model)
    return network.with_hook(FreeU(network.base_width, (b1, b2), (s1, s2)))


@node("FreeU_V2", title="FreeU_V2", category="model_patches/unet", bypass={"MODEL": "model"})
def free_u_v2(*, model: Model, b1: Factor = 1.3, b2: Factor = 1.4, s1: Factor = 0.9, s2: Factor = 0.2) -> Model:
    """Make a model rely more on its deep features where they are strong, and less on low frequencies of its skips.

    Args:
        model: The diffusion model.
        b1: Largest factor of half of the deepest features.
        b2: Largest factor of half of the features one level above.
        s1: Factor of the low frequencies of the skips at the deepest level.
        s2: The same one level above.
    """
    from engine.models.free_u import FreeU
    from engine.models.network import changeable

    network = changeable(model)
    return network.with_hook(FreeU(network.base_width, (b1, b2), (s1, s2), by_structure=True))


@node("HyperTile", title="HyperTile", category="model_patches/unet", bypass={"MODEL": "model"})
def hyper_tile(
    *,
    model: Model,
    tile_size: Annotated[int, Range(1, 2048)] = 256,
    swap_size: Annotated[int, Range(1, 128)] = 2,
    max_depth: Annotated[int, Range(0, 10)] = 0,
    scale_depth: bool = False,
) -> Model:
    """Make a model attend within tiles of the picture, which is quicker for large pictures.

    Args:
        model: The diffusion model.
        tile_size: Side of a tile at least, in pixels.
        swap_size: How many sizes of tile to draw from, anew for each attention; the largest of them is never drawn.
        max_depth: How many times the map may be halved and is still cut.
        scale_depth: Whether tiles grow with the depth.
    """
    from engine.models.hyper_tile import HyperTile
    from engine.sampling.rules import Rules

    return model.with_rules(Rules(hooks=(HyperTile(tile_size, swap_size, max_depth, scale_depth),)))


@node("TomePatchModel", title="TomePatchModel", category="model_patches/unet", bypass={"MODEL": "model"})
def merge_tokens(*, model: Model, ratio: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.3) -> Model:
    """Make a model attend with fewer queries at full resolution, similar ones together, which is quicker.

    Args:
        model: The diffusion model.
        ratio: Share of the queries that are merged into others, at most three quarters.
    """
    from engine.models.token_merging import TokenMerging
    from engine.sampling.rules import Rules

    return model.with_rules(Rules(hooks=(TokenMerging(ratio),)))


@node(
    "PatchModelAddDownscale",
    title="PatchModelAddDownscale (Kohya Deep Shrink)",
    category="model_patches/unet",
    bypass={"MODEL": "model"},
)
def deep_shrink(
    *,
    model: Model,
    block_number: Annotated[int, Range(1, 32, step=1)] = 3,
    downscale_factor: Annotated[float, Range(0.1, 9.0, step=0.001)] = 2.0,
    start_percent: Percent = 0.0,
    end_percent: Percent = 0.35,
    downscale_after_skip: bool = True,
    downscale_method: Between,
    upscale_method: Between,
) -> Model:
    """Show a model a smaller picture from some block on while it is noisy, so that large pictures keep one subject.

    Args:
        model: The diffusion model.
        block_number: The input block after which it is smaller.
        downscale_factor: How many times smaller, along each side.
        start_percent: When it begins: 0 is pure noise.
        end_percent: When it ends: 1 is the finished picture.
        downscale_after_skip: Whether the skip of that block stays large.
        downscale_method: How values between cells are found when shrinking.
        upscale_method: The same when growing back.
    """
    from engine.models.deep_shrink import DeepShrink
    from engine.models.network import changeable

    first, last = (model.schedule.percent_to_sigma(percent) for percent in (start_percent, end_percent))
    hook = DeepShrink(block_number, downscale_factor, first, last, downscale_after_skip, downscale_method, upscale_method)
    return changeable(model).with_hook(hook)


@node(
    "PerturbedAttentionGuidance",
    title="PerturbedAttentionGuidance",
    category="model_patches/unet",
    bypass={"MODEL": "model"},
)
def perturbed_attention(*, model: Model, scale: Annotated[float, Range(0.0, 100.0, step=0.01, round=0.01)] = 3.0) -> Model:
    """Move away from what the model says when its middle cannot see beyond each cell; one more pass at each step.

    Args:
        model: The diffusion model.
        scale: How far; 0 changes nothing.
    """
    from engine.models.attention_guidance import PerturbedAttention
    from engine.sampling.rules import Rules

    return model.with_rules(Rules(post=(PerturbedAttention(scale),)))


@node("SelfAttentionGuidance", title="Self-Attention Guidance", category="_for_testing", bypass={"MODEL": "model"})
def self_attention(
    *,
    model: Model,
    scale: Annotated[float, Range(-2.0, 5.0, step=0.01)] = 0.5,
    blur_sigma: Annotated[float, Range(0.0, 10.0, step=0.1)] = 2.0,
) -> Model:
    """Move away from what the model says of a latent that is blurred where it attends most; two more passes at each step.

    Args:
        model: The diffusion model.
        scale: How far; 0 changes nothing.
        blur_sigma: Standard deviation of the blur, in latent cells.
    """
    from engine.models.attention_guidance import SelfAttention
    from engine.sampling.rules import Rules

    return model.with_rules(Rules(post=(SelfAttention(scale, blur_sigma),)))


@node(
    "UNetSelfAttentionMultiply",
    title="UNetSelfAttentionMultiply",
    category="_for_testing/attention_experiments",
    bypass={"MODEL": "model"},
)
def multiply_self_attention(*, model: Model, q: Factor = 1.0, k: Factor = 1.0, v: Factor = 1.0, out: Factor = 1.0) -> Model:
    """Scale the layers of a model's self-attention.

    Args:
        model: The diffusion model.
        q: Factor of the queries.
        k: Factor of the keys.
        v: Factor of the values.
        out: Factor of what is added in the end.
    """
    factors = {"attn1.to_q": q, "attn1.to_k": k, "attn1.to_v": v, "attn1.to_out.0": out}
    return _multiplied(model, factors, "UNetSelfAttentionMultiply")


@node(
    "UNetCrossAttentionMultiply",
    title="UNetCrossAttentionMultiply",
    category="_for_testing/attention_experiments",
    bypass={"MODEL": "model"},
)
def multiply_cross_attention(*, model: Model, q: Factor = 1.0, k: Factor = 1.0, v: Factor = 1.0, out: Factor = 1.0) -> Model:
    """Scale the layers of a model's attention to the prompt.

    Args:
        model: The diffusion model.
        q: Factor of the queries.
        k: Factor of the keys.
        v: Factor of the values.
        out: Factor of what is added in the end.
    """
    factors = {"attn2.to_q": q, "attn2.to_k": k, "attn2.to_v": v, "attn2.to_out.0": out}
    return _multiplied(model, factors, "UNetCrossAttentionMultiply")


@node(
    "UNetTemporalAttentionMultiply",
    title="UNetTemporalAttentionMultiply",
    category="_for_testing/attention_experiments",
    bypass={"MODEL": "model"},
)
def multiply_temporal_attention(
    *,
    model: Model,
    self_structural: Factor = 1.0,
    self_temporal: Factor = 1.0,  # noqa: ARG001 - models of single pictures attend over no time
    cross_structural: Factor = 1.0,
    cross_temporal: Factor = 1.0,  # noqa: ARG001
) -> Model:
    """Scale what a model's attentions add, apart for those within a picture and those over time.

    Args:
        model: The diffusion model.
        self_structural: Factor of the self-attention within a picture.
        self_temporal: Factor of the self-attention over time; models of single pictures have none.
        cross_structural: Factor of the attention to the prompt within a picture.
        cross_temporal: Factor of the attention to the prompt over time; models of single pictures have none.
    """
    factors = {"attn1.to_out.0": self_structural, "attn2.to_out.0": cross_structural}
    return _multiplied(model, factors, "UNetTemporalAttentionMultiply")


@node(
    "CLIPAttentionMultiply",
    title="CLIPAttentionMultiply",
    category="_for_testing/attention_experiments",
    bypass={"CLIP": "clip"},
)
def multiply_text_attention(
    *, clip: TextEncoder, q: Factor = 1.0, k: Factor = 1.0, v: Factor = 1.0, out: Factor = 1.0
) -> TextEncoder:
    """Scale the layers of a text encoder's attention.

    Args:
        clip: The text encoder.
        q: Factor of the queries.
        k: Factor of the keys.
        v: Factor of the values.
        out: Factor of what is added in the end.
    """
    from engine.models.multiply import multiplied
    from engine.models.text import changeable

    encoder = changeable(clip)
    factors = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v, "self_attn.out_proj": out}
    return encoder.with_patch(multiplied(encoder.weights.tensors, factors, "CLIPAttentionMultiply"))


@node("HypernetworkLoader", title="HypernetworkLoader", category="loaders", bypass={"MODEL": "model"})
def load_hypernetwork(
    *,
    model: Model,
    hypernetwork_name: Annotated[Path, FileChoice("hypernetworks")],
    strength: Annotated[float, Range(-10.0, 10.0, step=0.01)] = 1.0,
) -> Model:
    """Change what a model's attentions see by a hypernetwork.

    Args:
        model: The diffusion model.
        hypernetwork_name: The file.
        strength: How much of it is added; negative turns it around.
    """
    from engine.models.hypernetwork import load
    from engine.models.network import changeable

    network = changeable(model)
    return network.with_hook(load(hypernetwork_name, strength, network))


def _multiplied(model: Model, factors: dict[str, float], label: str) -> Model:
    from engine.models.multiply import multiplied
    from engine.models.network import changeable

    network = changeable(model)
    return network.with_patch(multiplied(network.weights.tensors, factors, label))
