"""Nodes that mix the weights of models, and keep differences of them."""

from typing import Annotated, Literal

from engine.schema import Names, Range, Widget, node
from engine.types import Model, Run, Shown, TextEncoder
from nodes.image_files import documents

Ratio = Annotated[float, Range(0.0, 1.0, step=0.01)]

UNET_BLOCKS = (
    "time_embed.",
    "label_emb.",
    *(f"input_blocks.{n}." for n in range(12)),
    *(f"middle_block.{n}." for n in range(3)),
    *(f"output_blocks.{n}." for n in range(12)),
    "out.",
)
"""Blocks of the networks of Stable Diffusion 1 and 2."""

SDXL_BLOCKS = (
    "time_embed.",
    "label_emb.",
    *(f"input_blocks.{n}" for n in range(9)),
    *(f"middle_block.{n}" for n in range(3)),
    *(f"output_blocks.{n}" for n in range(9)),
    "out.",
)
"""Blocks of SDXL's network."""

MENU = "advanced/model_merging"
SPECIFIC = f"{MENU}/model_specific"


@node("ModelMergeSimple", category=MENU)
def merge(*, model1: Model, model2: Model, ratio: Ratio = 1.0) -> Model:
    """Mix two models: every weight becomes `ratio` of the first and the rest of the second.

    Args:
        model1: The first one; everything that is no weight is its.
        model2: The second one, of the same family.
        ratio: How much of the first.
    """
    from engine import models

    return models.merge_models(model1, model2, ratio, 1 - ratio)


@node("ModelMergeBlocks", category=MENU)
def merge_blocks(
    *,
    model1: Model,
    model2: Model,
    input: Ratio = 1.0,  # noqa: A002 - the name of the port
    middle: Ratio = 1.0,
    out: Ratio = 1.0,
) -> Model:
    """Mix two models, the way down, the middle and the way up of the network each in a ratio of its own.

    Args:
        model1: The first one; everything that is no weight is its.
        model2: The second one, of the same family.
        input: How much of the first on the way down, and in what the network makes of time.
        middle: How much of the first in the middle.
        out: How much of the first on the way up.
    """
    from engine import models

    ratios = {"time_embed.": input, "label_emb.": input, "input": input, "middle": middle, "out": out}
    return models.merge_by_block(model1, model2, ratios)


@node("ModelMergeAdd", category=MENU)
def add(*, model1: Model, model2: Model) -> Model:
    """Add the weights of two models; one of them is usually a difference that `ModelMergeSubtract` made.

    Args:
        model1: The first one; everything that is no weight is its.
        model2: The second one, of the same family.
    """
    from engine import models

    return models.merge_models(model1, model2, 1.0, 1.0)


@node("ModelMergeSubtract", category=MENU)
def subtract(*, model1: Model, model2: Model, multiplier: Annotated[float, Range(-10.0, 10.0, step=0.01)] = 1.0) -> Model:
    """Subtract the weights of the second model from those of the first.

    Args:
        model1: The first one; everything that is no weight is its.
        model2: The second one, of the same family.
        multiplier: What the difference is multiplied with.
    """
    from engine import models

    return models.merge_models(model1, model2, multiplier, -multiplier)


@node("CLIPMergeSimple", category=MENU)
def merge_encoders(*, clip1: TextEncoder, clip2: TextEncoder, ratio: Ratio = 1.0) -> TextEncoder:
    """Mix two text encoders: every weight becomes `ratio` of the first and the rest of the second.

    Args:
        clip1: The first one; everything that is no weight is its.
        clip2: The second one, of the same family.
        ratio: How much of the first.
    """
    from engine import models

    return models.merge_text_encoders(clip1, clip2, ratio, 1 - ratio)


@node("CLIPMergeAdd", category=MENU)
def add_encoders(*, clip1: TextEncoder, clip2: TextEncoder) -> TextEncoder:
    """Add the weights of two text encoders; one of them is usually a difference that `CLIPMergeSubtract` made.

    Args:
        clip1: The first one; everything that is no weight is its.
        clip2: The second one, of the same family.
    """
    from engine import models

    return models.merge_text_encoders(clip1, clip2, 1.0, 1.0)


@node("CLIPMergeSubtract", category=MENU)
def subtract_encoders(
    *, clip1: TextEncoder, clip2: TextEncoder, multiplier: Annotated[float, Range(-10.0, 10.0, step=0.01)] = 1.0
) -> TextEncoder:
    """Subtract the weights of the second text encoder from those of the first.

    Args:
        clip1: The first one; everything that is no weight is its.
        clip2: The second one, of the same family.
        multiplier: What the difference is multiplied with.
    """
    from engine import models

    return models.merge_text_encoders(clip1, clip2, multiplier, -multiplier)


@node("ModelMergeSD1", category=SPECIFIC)
def merge_sd1(*, model1: Model, model2: Model, **blocks: Annotated[Ratio, Names(UNET_BLOCKS, default=1.0)]) -> Model:
    """Mix two models of Stable Diffusion 1, each block of the network in a ratio of its own.

    Args:
        model1: The first one; everything that is no weight is its.
        model2: The second one, of the same family.
        blocks: How much of the first in this block.
    """
    from engine import models

    return models.merge_by_block(model1, model2, blocks)


@node("ModelMergeSD2", category=SPECIFIC)
def merge_sd2(*, model1: Model, model2: Model, **blocks: Annotated[Ratio, Names(UNET_BLOCKS, default=1.0)]) -> Model:
    """Mix two models of Stable Diffusion 2, each block of the network in a ratio of its own.

    Args:
        model1: The first one; everything that is no weight is its.
        model2: The second one, of the same family.
        blocks: How much of the first in this block.
    """
    from engine import models

    return models.merge_by_block(model1, model2, blocks)


@node("ModelMergeSDXL", category=SPECIFIC)
def merge_sdxl(*, model1: Model, model2: Model, **blocks: Annotated[Ratio, Names(SDXL_BLOCKS, default=1.0)]) -> Model:
    """Mix two models of SDXL, each block of the network in a ratio of its own.

    Args:
        model1: The first one; everything that is no weight is its.
        model2: The second one, of the same family.
        blocks: How much of the first in this block.
    """
    from engine import models

    return models.merge_by_block(model1, model2, blocks)


@node("LoraSave", title="Extract and Save Lora", category="_for_testing", effect=True, experimental=True)
def save_lora(
    *,
    filename_prefix: Annotated[str, Widget(multiline=False)] = "loras/ComfyUI_extracted_lora",
    rank: Annotated[int, Range(1, 4096, step=1)] = 8,
    lora_type: Literal["standard", "full_diff"],
    bias_diff: bool = True,
    model_diff: Model | None = None,
    text_encoder_diff: TextEncoder | None = None,
    run: Run,
) -> Shown:
    """Save the difference of two models as a LoRA.

    Differs: the factors are the nearest of their rank; the reference clips their largest values. What does not differ
    is left out.

    Args:
        filename_prefix: First part of the file's name, as of `SaveImage`.
        rank: Size of the factors: more keeps more of the difference.
        lora_type: Factors, or the differences themselves.
        bias_diff: Whether differences of biases and norms are kept too.
        model_diff: A model whose weights are a difference, as `ModelMergeSubtract` makes it.
        text_encoder_diff: A text encoder whose weights are a difference, as `CLIPMergeSubtract` makes it.
        run: Knows the output folder and the workflow; takes progress.
    """
    from engine.media import Series
    from engine.models.extract import lora_bytes

    content = lora_bytes(
        model_diff,
        text_encoder_diff,
        rank=rank,
        form=lora_type,
        bias=bias_diff,
        texts=documents(run),
        progress=run.progress,
    )
    series = Series.of(run.folders.output, "output", filename_prefix)
    return Shown({"loras": series.publish((content,), ".safetensors")})
