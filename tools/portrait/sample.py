"""A small sampler for looking at the model while it trains: Euler's method on SD1's noise levels, with guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tools.portrait import diffusion, export, text, vae

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel


def sigmas(n: int) -> tuple[Tensor, Tensor]:
    """Noise levels [n + 1] (the last 0) and timesteps [n], evenly spaced in time from the noisiest.

    Source: Song et al. 2021, arXiv:2010.02502, appendix D.3 for the spacing; sigma**2 = (1 - a) / a.
    """
    signal = diffusion.alphas()
    t = torch.linspace(diffusion.STEPS - 1, 0, n).round().long()
    s = ((1 - signal) / signal).sqrt()[t]
    return torch.cat([s, torch.zeros(1)]), t


class Painter:
    """The exported file, sampled with other people's model code (a check on the file, and a preview)."""

    def __init__(self, checkpoint: Path, clip: Path) -> None:
        self.unet: UNet2DConditionModel
        self.coder: AutoencoderKL
        self.encoder: CLIPTextModel
        self.unet, self.coder, self.encoder = export.read(checkpoint)
        self.tokens = text.tokenizer(clip)

    @torch.no_grad()
    def condition(self, texts: Sequence[str]) -> Tensor:
        """The encoder's states, [n, 77, width]; padded with the end token, no mask."""
        rows = []
        for t in texts:
            ids = self.tokens(t)["input_ids"][1:-1][: text.LENGTH - 2]
            rows.append([text.START, *ids] + [text.END] * (text.LENGTH - 1 - len(ids)))
        return self.encoder(input_ids=torch.tensor(rows)).last_hidden_state

    @torch.no_grad()
    def roundtrip(self, x: Tensor) -> Tensor:
        """Pictures in [-1, 1] through encoder and decoder, same shape."""
        return torch.cat([self.coder.decode(self.coder.encode(part).latent_dist.mode()).sample for part in x.split(16)])

    @torch.no_grad()
    def __call__(
        self, texts: Sequence[str], seeds: Sequence[int], *, steps: int = 20, cfg: float = 7.0, negative: str = ""
    ) -> np.ndarray:
        """Pictures, [n, 128, 128, 3] uint8; each depends on its own seed only."""
        noise = torch.stack([torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds])
        context = torch.cat([self.condition(texts), self.condition([negative]).expand(len(texts), -1, -1)])
        levels, times = sigmas(steps)
        x = noise * (1 + levels[0] ** 2).sqrt()
        for i, t in enumerate(times):
            scaled = x / (1 + levels[i] ** 2).sqrt()
            yes, no = self.unet(torch.cat([scaled, scaled]), t, context).sample.chunk(2)
            x = x + (no + cfg * (yes - no)) * (levels[i + 1] - levels[i])
        out = self.coder.decode(x / vae.SCALE).sample
        return ((out.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
