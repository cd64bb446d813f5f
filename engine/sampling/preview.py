"""Cheap previews of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from engine.types import Image, LatentFormat


def preview(denoised: Tensor, latent_format: LatentFormat) -> Image | None:
    """What a latent will roughly look like, one pixel for each latent cell.

    Args:
        denoised: [B, C, h, w] latents in model space, on any device.
        latent_format: Its `rgb` map is applied.

    Returns:
        [B, h, w, 3] float32 in 0..1 on the CPU; None where the format has no such map.
    """
    if latent_format.rgb is None:
        return None
    weights = torch.tensor(latent_format.rgb, device=denoised.device, dtype=torch.float32)
    rgb = torch.einsum("bchw,cr->bhwr", denoised.float(), weights)
    image: Image = ((rgb + 1.0) / 2.0).clamp(0.0, 1.0).cpu()  # type: ignore[assignment]
    return image
