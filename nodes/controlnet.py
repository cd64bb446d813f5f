"""Nodes that steer sampling by pictures: ControlNets and T2I-adapters."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from engine.models.control import Control, SideNetwork
from engine.schema import FileChoice, Range, References, Widget, node
from engine.types import Cond, Conditioning, Image, Model, Run, TextEncoder, Vae
from nodes.conditioning import embedding_files
from nodes.loaders import tell

Strength = Annotated[float, Range(0.0, 10.0, step=0.01)]
Percent = Annotated[float, Range(0.0, 1.0, step=0.001)]


class Steered(NamedTuple):
    """Both conditionings, steered alike."""

    positive: Conditioning
    negative: Conditioning


@node("ControlNetLoader", title="Load ControlNet Model", category="loaders")
def load_control_net(*, control_net_name: Annotated[Path, FileChoice("controlnet", tell=tell)], run: Run) -> SideNetwork:
    """Load a ControlNet, a control LoRA or a T2I-adapter.

    Args:
        control_net_name: The file, in the original layout or in diffusers'.
        run: Says where to compute.
    """
    from engine import models

    return models.load_control_net(control_net_name, device=run.device, dtype=run.dtype)


@node("DiffControlNetLoader", title="Load ControlNet Model (diff)", category="loaders")
def load_difference(
    *, model: Model, control_net_name: Annotated[Path, FileChoice("controlnet", tell=tell)], run: Run
) -> SideNetwork:
    """Load a ControlNet that is kept as differences to the weights of a model; others load as they are.

    Args:
        model: The model whose weights the differences are added to.
        control_net_name: The file, in the original layout or in diffusers'.
        run: Says where to compute.
    """
    from engine import models

    return models.load_control_net(control_net_name, device=run.device, dtype=run.dtype, base=model)


@node(
    "ControlNetApply", title="Apply ControlNet (OLD)", category="conditioning/controlnet", alike=("conditioning", "control_net")
)
def apply_old(*, conditioning: Conditioning, control_net: SideNetwork, image: Image, strength: Strength = 1.0) -> Conditioning:
    """Steer sampling by a picture, on the positive and on the negative side.

    Args:
        conditioning: The positive conditioning; the negative one is steered with it, unless it is steered already.
        control_net: The ControlNet or T2I-adapter.
        image: What it is shown; its middle is brought to the shape of the picture.
        strength: How strongly to steer.
    """
    if strength == 0:
        return conditioning
    control = Control(control_net, image, strength)
    return Conditioning(tuple(_with(entry, control).with_options(controls_negative=True) for entry in conditioning.entries))


@node(
    "ControlNetApplyAdvanced",
    title="Apply ControlNet",
    category="conditioning/controlnet",
    alike=("positive", "negative", "control_net"),
)
def apply_advanced(
    *,
    positive: Conditioning,
    negative: Conditioning,
    control_net: SideNetwork,
    image: Image,
    strength: Strength = 1.0,
    start_percent: Percent = 0.0,
    end_percent: Percent = 1.0,
    vae: Vae | None = None,  # noqa: ARG001 - the field's port
) -> Steered:
    """Steer sampling by a picture, over a part of the way from noise to picture.

    Args:
        positive: What the picture should show.
        negative: What it should not show.
        control_net: The ControlNet or T2I-adapter.
        image: What it is shown; its middle is brought to the shape of the picture.
        strength: How strongly to steer.
        start_percent: When it begins: 0 is pure noise.
        end_percent: When it ends: 1 is the finished picture.
        vae: Not used: the networks that are supported see pictures, not latents.
    """
    return _both(positive, negative, control_net, image, strength, start_percent, end_percent)


@node("ControlNetApplySD3", title="Apply Controlnet with VAE", category="conditioning/controlnet")
def apply_with_vae(
    *,
    positive: Conditioning,
    negative: Conditioning,
    control_net: SideNetwork,
    vae: Vae,  # noqa: ARG001 - the field's port
    image: Image,
    strength: Strength = 1.0,
    start_percent: Percent = 0.0,
    end_percent: Percent = 1.0,
) -> Steered:
    """Steer sampling by a picture, as the node "Apply ControlNet" does.

    Args:
        positive: What the picture should show.
        negative: What it should not show.
        control_net: The ControlNet or T2I-adapter.
        vae: Not used: the networks that are supported see pictures, not latents.
        image: What it is shown; its middle is brought to the shape of the picture.
        strength: How strongly to steer.
        start_percent: When it begins: 0 is pure noise.
        end_percent: When it ends: 1 is the finished picture.
    """
    return _both(positive, negative, control_net, image, strength, start_percent, end_percent)


@node("SetUnionControlNetType", title="SetUnionControlNetType", category="conditioning/controlnet")
def set_union_type(
    *,
    control_net: SideNetwork,
    type: Literal[  # noqa: A002 - the field's name
        "auto",
        "openpose",
        "depth",
        "hed/pidi/scribble/ted",
        "canny/lineart/anime_lineart/mlsd",
        "normal",
        "segment",
        "tile",
        "repaint",
    ],
) -> SideNetwork:
    """Say which kind of picture a ControlNet of many kinds is shown.

    Args:
        control_net: The ControlNet; one that knows a single kind takes no notice.
        type: The kind of picture; `auto` leaves it to the network.
    """
    from engine.models.controlnet import KINDS

    return control_net.with_kind(None if type == "auto" else KINDS.index(type))


def _both(
    positive: Conditioning,
    negative: Conditioning,
    net: SideNetwork,
    image: Image,
    strength: float,
    start_percent: float,
    end_percent: float,
) -> Steered:
    """Both sides steered by one control, so that they can share passes."""
    if strength == 0:
        return Steered(positive, negative)
    control = Control(net, image, strength, start_percent, end_percent)
    sides = [
        Conditioning(tuple(_with(entry, control).with_options(controls_negative=False) for entry in side.entries))
        for side in (positive, negative)
    ]
    return Steered(*sides)


def _with(entry: Cond, control: Control) -> Cond:
    """`entry` steered by `control` too."""
    return entry.with_options(controls=(*entry.options.get("controls", ()), control))


@node("CLIPTextEncodeControlnet", category="_for_testing/conditioning", experimental=True)
def encode_for_controls(
    *,
    clip: TextEncoder,
    conditioning: Conditioning,
    text: Annotated[str, Widget(multiline=True, dynamicPrompts=True), References(embedding_files)],
    run: Run,
) -> Conditioning:
    """Give ControlNets a prompt of their own.

    Args:
        clip: The text encoder of the model.
        conditioning: What the model itself follows.
        text: What its ControlNets follow instead.
        run: Knows the embeddings folders.
    """
    from engine.models import embedding_finder

    words = clip.encode(text, find_embedding=embedding_finder(run.folders)).entries[0].tokens
    return Conditioning(tuple(entry.with_extra(control_context=words) for entry in conditioning.entries))
