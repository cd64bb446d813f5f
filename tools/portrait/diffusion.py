"""The painter in latent space: a UNet like Stable Diffusion 1's, trained with its text encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from tools.portrait import captions, data, text, vae
from tools.portrait.pace import Average, Pace, keep, resume, save
from tools.portrait.team import Team

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 1000


def alphas() -> Tensor:
    """Cumulative signal of SD1's scaled-linear schedule, [1000] float32."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def build() -> UNet2DConditionModel:
    """A fresh UNet; cross-attention at the 8 x 8 level and in the middle."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 128),
        layers_per_block=2,
        cross_attention_dim=text.HIDDEN,
        # In diffusers' SD1 configuration this is the number of heads.
        attention_head_dim=8,
        norm_num_groups=32,
    )


@torch.no_grad()
def encode(folder: Path, pictures: Path, shards: int, batch: int = 20) -> None:
    """Latents of the first drawings by the averaged autoencoder, a file a shard in `latents/`; each is made once."""
    team = Team()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = vae.build()
    model.load_state_dict(torch.load(folder / "vae-average.pt", map_location="cpu")["model"])
    model.to(device).eval()
    (folder / "latents").mkdir(exist_ok=True)
    for k in range(team.rank, shards, team.size):
        path = folder / "latents" / f"{k:03d}.pt"
        if path.exists():
            continue
        parts = []
        for x in data.shard(pictures, k).split(batch):
            with torch.autocast(device.type, torch.bfloat16):
                parts.append(vae.mean(model, data.to_signed(x).to(device)).float().cpu())
        save(path, z=torch.cat(parts))
        print(f"encoded {path.name}", flush=True)


def latents(folder: Path) -> tuple[Tensor, list[int], Tensor, Tensor]:
    """The encoded drawings, normalised per channel.

    Returns:
        Latents [n, 4, 16, 16] float32 with zero mean and unit spread, their seeds, and mean and spread [4] before; the
        last two are fixed by the first call and kept in `latents.pt`.
    """
    paths = sorted((folder / "latents").glob("*.pt"))
    z = torch.cat([torch.load(p)["z"] for p in paths])
    seeds = [int(p.stem) * data.SHARD + i for p in paths for i in range(data.SHARD)]
    kept = folder / "latents.pt"
    if not kept.exists():
        save(kept, mean=z.mean((0, 2, 3)), std=z.std((0, 2, 3)))
    scale = torch.load(kept)
    mean, std = scale["mean"], scale["std"]
    return (z - mean[:, None, None]) / std[:, None, None], seeds, mean, std


class Examples:
    """Latents with captions, some of them blank."""

    def __init__(self, folder: Path, table: text.Table, seed: int) -> None:
        self.codes, seeds, _, _ = latents(folder)
        self.rows, self.labels = text.prepare(folder / "captions.pt", seeds, table, seed)
        self.pad = torch.full((1, text.LENGTH), table.end)
        self.pad[0, 0] = table.start
        self.nothing = _nothing(table, seed)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random examples.

        Returns:
            Latents [n, 4, 16, 16], caption rows [n, 77], labels [n, attributes], and whether there is a caption [n]. A
            tenth have none; some of these hold words that say nothing, as negative prompts do.
        """
        index = torch.randint(0, len(self.codes), (n,), generator=generator)
        variant = torch.randint(0, text.VARIANTS, (n,), generator=generator)
        blank = torch.rand(n, generator=generator) < 0.10
        line = torch.where(blank[:, None], self.pad, self.rows[index, variant].long())
        odd = blank & (torch.rand(n, generator=generator) < 0.3)
        line[odd] = self.nothing[torch.randint(0, len(self.nothing), (int(odd.sum()),), generator=generator)]
        return self.codes[index], line, self.labels[index, variant].long(), ~blank


def _nothing(table: text.Table, seed: int, n: int = 400) -> Tensor:
    """Rows of captions that say nothing about a picture: odd words, and words that no drawing was described with."""
    rng = np.random.default_rng([seed, 13])
    rows = []
    for _ in range(n):
        line = table.rows(captions.junk(rng))
        if rng.random() < 0.5:
            count = int(rng.integers(1, 10))
            line = [line[0], *[text.UNKNOWN] * count, *[table.end] * (text.LENGTH - 1 - count)]
        rows.append(line)
    return torch.tensor(rows)


def train(
    folder: Path,
    clip: Path,
    *,
    steps: int | None,
    minutes: float | None,
    seed: int = 0,
    batch: int = 32,
    peak: float = 1e-3,
) -> None:
    """Train UNet and text encoder; resumes from `unet.pt` where it exists, begins with `text.pt` otherwise.

    The loss is the usual one on the noise, weighted by 1 + min(1 / snr, 9): without the weight, the text is ignored
    for a long time, since what it says is settled at high noise.
    """
    team = Team()
    batch //= team.size
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = text.Table(text.tokenizer(clip))
    examples = Examples(folder, table, seed)
    unet, encoder, readout = build(), text.build(len(table)), text.Readout()
    language = nn.ModuleList([encoder, readout])
    language.load_state_dict(torch.load(folder / "text.pt", map_location="cpu")["both"])
    every = nn.ModuleDict({"unet": unet, "language": language}).to(device)
    average = Average(every, 0.9985)
    optimizer = torch.optim.AdamW(
        [{"params": unet.parameters(), "scale": 1.0}, {"params": language.parameters(), "scale": 0.3}],
        lr=peak, betas=(0.9, 0.99), weight_decay=1e-3,
    )  # fmt: skip
    pace = Pace(steps, minutes)
    path = folder / "unet.pt"
    resume(path, every, optimizer, average, pace)
    generator = team.generator(seed, pace.step)
    signal = alphas()
    weights = 1 + (signal / (1 - signal)).reciprocal().clamp(max=9)
    weights = (weights / weights.mean()).to(device)
    signal = signal.to(device)
    total, gap = 0.0, 0.0
    progress = pace.progress
    while progress < 1:
        z, line, target, said = examples.draw(batch, generator)
        noise = torch.randn(z.shape, generator=generator)
        # One timestep in each of `batch` equal strata.
        places = torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)
        t = (places * STEPS / batch).long().clamp(max=STEPS - 1)
        z, line, target, said, noise, t = (v.to(device) for v in (z, line, target, said, noise, t))
        a = signal[t][:, None, None, None]
        noisy = a.sqrt() * z + (1 - a).sqrt() * noise
        for group in optimizer.param_groups:
            group["lr"] = pace.rate(peak, progress, 200) * group["scale"]
        hidden = encoder(input_ids=line).last_hidden_state
        error = (unet(noisy, t, hidden).sample - noise).pow(2).flatten(1).mean(1)
        loss = (weights[t] * error).mean()
        reading, _ = readout(hidden[said], line[said], target[said], table.end)
        optimizer.zero_grad(set_to_none=True)
        (loss + 0.02 * reading).backward()
        pace.tick()
        progress = team.average(every.parameters(), pace.progress)
        nn.utils.clip_grad_norm_(every.parameters(), 1.0)
        optimizer.step()
        average.update(every)
        if not team.leads:
            continue
        total += loss.item()
        if pace.step % 50 == 0:
            if pace.step % 200 == 0:
                with torch.no_grad():
                    other = (unet(noisy, t, hidden.roll(1, 0)).sample - noise).pow(2).flatten(1).mean(1)
                    gap = float((weights[t] * other).mean() / loss)
            print(
                f"unet step {pace.step} {100 * progress:.1f}% {pace.spent_s / 60:.1f} min loss {total / 50:.4f} "
                f"reading {reading.item():.3f} loss with a wrong caption x{gap:.2f}",
                flush=True,
            )
            total = 0.0
        if pace.step % 400 == 0 or progress >= 1:
            keep(path, every, optimizer, average, pace)
            save(folder / "unet-average.pt", every=average.state(every), ids=table.ids, steps=pace.step, spent_s=pace.spent_s)
