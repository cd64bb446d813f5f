"""Nodes that change how a model is guided."""

from typing import Annotated, NamedTuple

from engine.sampling.rules import Rules
from engine.schema import Range, Widget, node
from engine.types import Conditioning, LatentOperation, Model

Least = Annotated[float, Range(0.0, 100.0, step=0.5, round=0.01)]
Strength = Annotated[float, Range(0.0, 100.0, step=0.01)]


class Patched(NamedTuple):
    """The model with its rule."""

    patched_model: Model


@node("RescaleCFG", title="RescaleCFG", category="advanced/model")
def rescale_cfg(*, model: Model, multiplier: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.7) -> Model:
    """Keep pictures from burning out at high guidance scales, above all with v-prediction.

    Args:
        model: The model.
        multiplier: Share of the rescaled result.
    """
    from engine.sampling.corrections import Rescale

    return model.with_rules(Rules(combine=Rescale(multiplier)))


@node("RenormCFG", category="advanced/model")
def renorm_cfg(
    *,
    model: Model,
    cfg_trunc: Annotated[float, Range(0.0, 100.0, step=0.01)] = 100.0,
    renorm_cfg: Annotated[float, Range(0.0, 100.0, step=0.01)] = 1.0,
) -> Model:
    """Keep the result of guidance from becoming longer than the positive answer, as Lumina 2 does.

    Args:
        model: The model.
        cfg_trunc: Noise level from which on there is guidance.
        renorm_cfg: How much longer it may become; 0 for any length.
    """
    from engine.sampling.corrections import Renorm

    return model.with_rules(Rules(combine=Renorm(cfg_trunc, renorm_cfg)))


@node("VideoLinearCFGGuidance", title="VideoLinearCFGGuidance", category="sampling/video_models")
def linear_cfg(*, model: Model, min_cfg: Least = 1.0) -> Model:
    """Guide the frames of a video more and more strongly, from the first to the last.

    Args:
        model: The model.
        min_cfg: Scale of the first frame; the sampler's is that of the last.
    """
    from engine.sampling.corrections import Spread

    return model.with_rules(Rules(combine=Spread(min_cfg, "linear")))


@node("VideoTriangleCFGGuidance", title="VideoTriangleCFGGuidance", category="sampling/video_models")
def triangle_cfg(*, model: Model, min_cfg: Least = 1.0) -> Model:
    """Guide the middle frames of a video most strongly.

    Args:
        model: The model.
        min_cfg: Scale of the first and of the last frame; the sampler's is that of the middle.
    """
    from engine.sampling.corrections import Spread

    return model.with_rules(Rules(combine=Spread(min_cfg, "triangle")))


@node(
    "PerpNeg",
    title="Perp-Neg (DEPRECATED by PerpNegGuider)",
    category="_for_testing",
    deprecated=True,
    experimental=True,
)
def perp_neg(*, model: Model, empty_conditioning: Conditioning, neg_scale: Strength = 1.0) -> Model:
    """Avoid only what the negative conditioning does not share with the positive one.

    Args:
        model: The model.
        empty_conditioning: An empty prompt.
        neg_scale: How strongly to avoid.
    """
    from engine.sampling.corrections import Perpendicular

    return model.with_rules(Rules(combine=Perpendicular(empty_conditioning, neg_scale)))


@node("CFGZeroStar", category="advanced/guidance")
def cfg_zero_star(*, model: Model) -> Patched:
    """Fit the negative answer to the positive one before they are compared.

    Args:
        model: The model.
    """
    from engine.sampling.corrections import ZeroStar

    return Patched(model.with_rules(Rules(post=(ZeroStar(),))))


@node("CFGNorm", category="advanced/guidance", experimental=True)
def cfg_norm(*, model: Model, strength: Strength = 1.0) -> Patched:
    """Keep guidance from making any place of a latent stronger than the positive answer does.

    Args:
        model: The model.
        strength: Factor of the result.
    """
    from engine.sampling.corrections import Norm

    return Patched(model.with_rules(Rules(post=(Norm(strength),))))


@node(
    "Mahiro",
    title="Mahiro is so cute that she deserves a better guidance function!! (。・ω・。)",
    category="_for_testing",
    experimental=True,
)
def mahiro(*, model: Model) -> Patched:
    """Lean to the positive prompt where guidance and negative prompt pull apart.

    Args:
        model: The model.
    """
    from engine.sampling.corrections import Mahiro

    return Patched(model.with_rules(Rules(post=(Mahiro(),))))


@node("Epsilon Scaling", category="model_patches/unet")
def epsilon_scaling(
    *, model: Model, scaling_factor: Annotated[float, Range(0.5, 1.5, step=0.001), Widget(display="number")] = 1.005
) -> Model:
    """Take a little less noise away at each step, against the drift of sampling.

    Args:
        model: The model.
        scaling_factor: What the noise is divided by.
    """
    from engine.sampling.corrections import EpsilonScale

    return model.with_rules(Rules(post=(EpsilonScale(scaling_factor),)))


@node("APG", title="Adaptive Projected Guidance", category="sampling/custom_sampling")
def adaptive_projected(
    *,
    model: Model,
    eta: Annotated[float, Range(-10.0, 10.0, step=0.01)] = 1.0,
    norm_threshold: Annotated[float, Range(0.0, 50.0, step=0.1)] = 5.0,
    momentum: Annotated[float, Range(-5.0, 1.0, step=0.01)] = 0.0,
) -> Model:
    """Guide strongly without oversaturation: limit the guidance, and weaken what lies along the positive answer.

    Args:
        model: The model.
        eta: Share of what lies along the positive answer; 1 for all of it.
        norm_threshold: Longest guidance; 0 for any length.
        momentum: Weight of the guidance of the steps before; below 0 it pushes away from them.
    """
    from engine.sampling.corrections import Projected

    return model.with_rules(Rules(pre=(Projected(eta, norm_threshold, momentum),)))


@node("TCFG", title="Tangential Damping CFG", category="advanced/guidance")
def tangential_damping(*, model: Model) -> Patched:
    """Keep of the negative answer only what lies along the main direction of both.

    Args:
        model: The model.
    """
    from engine.sampling.corrections import Damped

    return Patched(model.with_rules(Rules(pre=(Damped(),))))


@node("FreSca", title="FreSca", category="_for_testing", experimental=True)
def frequencies(
    *,
    model: Model,
    scale_low: Annotated[float, Range(0, 10, step=0.01)] = 1.0,
    scale_high: Annotated[float, Range(0, 10, step=0.01)] = 1.25,
    freq_cutoff: Annotated[int, Range(1, 10000, step=1)] = 20,
) -> Model:
    """Guide details and large shapes with different strength.

    Args:
        model: The model.
        scale_low: Factor for low frequencies: large shapes.
        scale_high: Factor for high frequencies: details.
        freq_cutoff: How many frequencies are low.
    """
    from engine.sampling.corrections import Frequencies

    return model.with_rules(Rules(pre=(Frequencies(scale_low, scale_high, freq_cutoff),)))


@node("LatentApplyOperationCFG", category="latent/advanced/operations", experimental=True)
def operated(*, model: Model, operation: LatentOperation) -> Model:
    """Apply an operation to the guidance of every step.

    Args:
        model: The model.
        operation: What to do with it.
    """
    from engine.sampling.corrections import Operated

    return model.with_rules(Rules(pre=(Operated(operation),)))


@node("DifferentialDiffusion", title="Differential Diffusion", category="_for_testing", experimental=True)
def differential(*, model: Model, strength: Annotated[float, Range(0.0, 1.0, step=0.01), Widget(optional=True)] = 1.0) -> Model:
    """Change a picture by shades: the darker a noise mask is at a place, the less changes there.

    Args:
        model: The model.
        strength: How sharply the shades part; 0 counts as 1.
    """
    from engine.sampling.corrections import Differential

    return model.with_rules(Rules(mask=Differential(strength)))
