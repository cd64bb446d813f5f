"""Nodes that change a part of a picture."""

from dataclasses import replace
from typing import Annotated

from engine.schema import Range, node
from engine.types import Image, Latent, Mask, Vae


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

    height, width = pixels.shape[1:3]
    covered = torch.nn.functional.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]), (height, width), mode="bilinear")
    high, wide = height // vae.factor * vae.factor, width // vae.factor * vae.factor
    top, left = (height - high) // 2, (width - wide) // 2
    picture = pixels[:, top : top + high, left : left + wide, :3]
    covered = covered[:, :, top : top + high, left : left + wide]
    kept = (1.0 - covered.round()).squeeze(1)[..., None]
    grown = covered
    if grow_mask_by:
        kernel = torch.ones(1, 1, grow_mask_by, grow_mask_by)
        # Even kernels give one row and column too many.
        grown = torch.nn.functional.conv2d(covered.round(), kernel, padding=grow_mask_by // 2).clamp(0, 1)[..., :high, :wide]
    latent = vae.encode(Image((picture - 0.5) * kept + 0.5))
    return Latent(latent, grown.round())


@node("SetLatentNoiseMask", title="Set Latent Noise Mask", category="latent/inpaint")
def set_noise_mask(*, samples: Latent, mask: Mask) -> Latent:
    """Let sampling change only what a mask covers.

    Args:
        samples: The latents.
        mask: What may change; resized to the latents.
    """
    return replace(samples, noise_mask=mask.reshape(-1, 1, *mask.shape[-2:]))
