"""Nodes that change a part of a picture."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

from engine.schema import Range, node
from engine.types import Conditioning, Image, Latent, Mask, Vae

if TYPE_CHECKING:
    from torch import Tensor


class Inpainting(NamedTuple):
    """Conditionings that show what to replace, and the latent to replace it in."""

    positive: Conditioning
    negative: Conditioning
    latent: Latent


@node("VAEEncodeForInpaint", title="VAE Encode (for Inpainting)", category="latent/inpaint")
def encode_for_inpaint(
    *, pixels: Image, vae: Vae, mask: Mask, grow_mask_by: Annotated[int, Range(0, 64, step=1)] = 6
) -> Latent:
    """Turn pictures into latents with a hole: what the mask covers becomes grey, and only that is sampled.

    Args:
        pixels: The pictures; their middle is used where a side is no multiple of 8 pixels.
        vae: Of the model that is to sample them.
        mask: What to replace; resized to the pictures.
        grow_mask_by: How many pixels wider to sample than the mask is, so that the edges fit.
    """
    import torch

    picture, covered = _fitted(pixels, mask, vae.factor)
    grown = covered
    if grow_mask_by:
        kernel = torch.ones(1, 1, grow_mask_by, grow_mask_by)
        # Even kernels give one row and column too many.
        spread = torch.nn.functional.conv2d(covered.round(), kernel, padding=grow_mask_by // 2)
        grown = spread.clamp(0, 1)[..., : covered.shape[-2], : covered.shape[-1]]
    return Latent(vae.encode(_greyed(picture, covered)), grown.round())


@node("InpaintModelConditioning", title="InpaintModelConditioning", category="conditioning/inpaint")
def inpaint_conditioning(
    *, positive: Conditioning, negative: Conditioning, vae: Vae, pixels: Image, mask: Mask, noise_mask: bool = True
) -> Inpainting:
    """Show an inpainting model what to replace and what is around it.

    Args:
        positive: What the picture should show.
        negative: What it should not show.
        vae: Of the model that is to sample.
        pixels: The pictures; their middle is used where a side is no multiple of 8 pixels.
        mask: What to replace; resized to the pictures.
        noise_mask: Whether the rest stays exactly as it is.
    """
    picture, covered = _fitted(pixels, mask, vae.factor)
    shown = {"concat_mask": covered[:, 0], "concat_latent": vae.encode(_greyed(picture, covered))}
    guides = [side.with_options(**shown) for side in (positive, negative)]
    return Inpainting(guides[0], guides[1], Latent(vae.encode(picture), covered if noise_mask else None))


@node("InstructPixToPixConditioning", category="conditioning/instructpix2pix")
def edit_conditioning(*, positive: Conditioning, negative: Conditioning, vae: Vae, pixels: Image) -> Inpainting:
    """Show a model that edits pictures as it is told (InstructPix2Pix) the picture.

    Args:
        positive: What to do with it.
        negative: What not to do.
        vae: Of the model that is to sample.
        pixels: The pictures; their middle is used where a side is no multiple of 8 pixels.

    Returns:
        latent: An empty one of the size of the pictures.
    """
    import torch

    shown = vae.encode(pixels)
    guides = [side.with_options(concat_latent=shown) for side in (positive, negative)]
    return Inpainting(guides[0], guides[1], Latent(torch.zeros_like(shown)))


@node("SetLatentNoiseMask", title="Set Latent Noise Mask", category="latent/inpaint")
def set_noise_mask(*, samples: Latent, mask: Mask) -> Latent:
    """Let sampling change only what a mask covers.

    Args:
        samples: The latents.
        mask: What may change; resized to the latents.
    """
    return replace(samples, noise_mask=mask.reshape(-1, 1, *mask.shape[-2:]))


def _fitted(pixels: Image, mask: Mask, factor: int) -> "tuple[Image, Tensor]":
    """The middle of pictures and mask, cut to a multiple of `factor` pixels; the mask is [B, 1, H, W]."""
    import torch

    height, width = pixels.shape[1:3]
    covered = torch.nn.functional.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]), (height, width), mode="bilinear")
    high, wide = height // factor * factor, width // factor * factor
    top, left = (height - high) // 2, (width - wide) // 2
    picture = pixels[:, top : top + high, left : left + wide, :3]
    return Image(picture), covered[:, :, top : top + high, left : left + wide]


def _greyed(picture: Image, covered: "Tensor") -> Image:
    """Pictures with grey where a mask [B, 1, H, W] covers them at least half."""
    return Image((picture - 0.5) * (1.0 - covered.round()).movedim(1, -1) + 0.5)
