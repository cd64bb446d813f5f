"""Nodes that encode text for SDXL, which is told sizes beside the prompt."""

from typing import Annotated

from engine.schema import Range, References, Widget, node
from engine.types import Conditioning, Run, TextEncoder
from nodes.conditioning import embedding_files

Prompt = Annotated[str, Widget(multiline=True, dynamicPrompts=True), References(embedding_files)]
SizePx = Annotated[int, Range(0, 16384)]


@node("CLIPTextEncodeSDXL", category="advanced/conditioning")
def encode_sdxl(
    *,
    clip: TextEncoder,
    width: SizePx = 1024,
    height: SizePx = 1024,
    crop_w: SizePx = 0,
    crop_h: SizePx = 0,
    target_width: SizePx = 1024,
    target_height: SizePx = 1024,
    text_g: Prompt,
    text_l: Prompt,
    run: Run,
) -> Conditioning:
    """Encode a prompt for SDXL, one for each of its text encoders, and say what picture it is of.

    Args:
        clip: The text encoders of the model.
        width: Of the picture before it was cropped, in pixels: small ones are blurred.
        height: Of the picture before it was cropped, in pixels.
        crop_w: How much was cut off at the left, in pixels.
        crop_h: How much was cut off at the top, in pixels.
        target_width: Of the picture, in pixels.
        target_height: Of the picture, in pixels.
        text_g: For the larger encoder (OpenCLIP bigG).
        text_l: For the smaller one (CLIP L).
        run: Knows the embeddings folders.
    """
    from engine.models import CLIP_G, CLIP_L, embedding_finder

    encoded = clip.encode({CLIP_G: text_g, CLIP_L: text_l}, find_embedding=embedding_finder(run.folders))
    return encoded.with_options(
        width=width,
        height=height,
        crop_w=crop_w,
        crop_h=crop_h,
        target_width=target_width,
        target_height=target_height,
    )


@node("CLIPTextEncodeSDXLRefiner", category="advanced/conditioning")
def encode_refiner(
    *,
    ascore: Annotated[float, Range(0.0, 1000.0, step=0.01)] = 6.0,
    width: SizePx = 1024,
    height: SizePx = 1024,
    text: Prompt,
    clip: TextEncoder,
    run: Run,
) -> Conditioning:
    """Encode a prompt for the refiner of SDXL, and say what picture it is of.

    Args:
        ascore: How beautiful people found it; about 6 for what is wanted, 2.5 for what is not.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        text: The prompt.
        clip: The text encoder of the refiner.
        run: Knows the embeddings folders.
    """
    from engine.models import embedding_finder

    encoded = clip.encode(text, find_embedding=embedding_finder(run.folders))
    return encoded.with_options(aesthetic_score=ascore, width=width, height=height)
