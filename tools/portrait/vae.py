"""The autoencoder: built like Stable Diffusion's, trained on the drawings, then with a frozen encoder.

Residual blocks at full resolution are passed over, since they would take half of the time: a residual block whose
second convolution is zero is the identity, which is how they are exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from tools.portrait import data
from tools.portrait.pace import Average, Pace, keep, resume, save
from tools.portrait.team import Team

if TYPE_CHECKING:
    from pathlib import Path

SCALE = 0.18215
WIDTHS = (64, 64, 128, 128)
_NOISE = 0.06  # of a latent's spread, added while training, so that the decoder forgives the painter small errors


class Passed(nn.Module):
    """A residual block that is the identity."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:  # noqa: ARG002 - callers name it
        """`x`."""
        return x


def plain_build() -> AutoencoderKL:
    """A fresh autoencoder with SD1's structure: 3 x 128 x 128 in [-1, 1] to 4 x 16 x 16 and back."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=128,
        scaling_factor=SCALE,
    )


def build() -> AutoencoderKL:
    """The same with its blocks at full resolution passed over."""
    model = plain_build()
    shell = model.encoder.down_blocks[0].resnets
    shell[0] = Passed(shell[0])
    top = model.decoder.up_blocks[3].resnets
    for i in range(2):
        top[i] = Passed(top[i])
    return model


def plain_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with the key names of an ordinary AutoencoderKL."""
    return {k.replace(".block.", "."): v for k, v in state.items()}


def mean(model: AutoencoderKL, x: Tensor) -> Tensor:
    """The latent's mean, [B, 4, h, w], unscaled."""
    return model.quant_conv(model.encoder(x))[:, :4]


def decode(model: AutoencoderKL, z: Tensor) -> Tensor:
    """Pictures, [B, 3, 8h, 8w], of unscaled latents."""
    return model.decoder(model.post_quant_conv(z))


def _loss(out: Tensor, x: Tensor) -> Tensor:
    d = out - x
    dx, dy = d[..., 1:] - d[..., :-1], d[..., 1:, :] - d[..., :-1, :]
    return d.abs().mean() + 4 * (d * d).mean() + 0.5 * (dx.abs().mean() + dy.abs().mean())


def _crops(x: Tensor, index: Tensor, size: int, generator: torch.Generator) -> Tensor:
    rows = []
    for i in index.tolist():
        # Offsets in multiples of 8.
        top, left = (8 * torch.randint(0, (128 - size) // 8 + 1, (2,), generator=generator)).tolist()
        rows.append(x[i, :, top : top + size, left : left + size])
    return data.to_signed(torch.stack(rows))


def train(
    folder: Path,
    pictures: Path,
    *,
    steps: int | None,
    minutes: float | None,
    seed: int = 0,
    full_from: float = 0.5,
    peak: float = 2.2e-3,
) -> None:
    """Train encoder and decoder together; resumes from `vae.pt` where it exists.

    64 x 64 crops until `full_from` of the way, whole pictures after.
    """
    team = Team()
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build().to(device)
    head = nn.Conv2d(4, 3, 1).to(device)
    both = nn.ModuleList([model, head])
    pace = Pace(steps, minutes)
    average = Average(model, 0.997)
    optimizer = torch.optim.AdamW(both.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    path = folder / "vae.pt"
    resume(path, both, optimizer, average, pace)
    generator = team.generator(seed, pace.step)
    x, _ = data.load(pictures)
    probe = data.to_signed(data.held_out(48)).to(device)
    total = 0.0
    progress = pace.progress
    while progress < 1:
        size, batch = (64, 8) if progress < full_from else (128, 3)
        index = torch.randint(0, len(x), (batch,), generator=generator)
        real = _crops(x, index, size, generator).to(device)
        if torch.rand((), generator=generator) < 0.5:
            real = real.flip(-1)
        for group in optimizer.param_groups:
            group["lr"] = pace.rate(peak, progress)
        with torch.autocast(device.type, torch.bfloat16):
            z = mean(model, real)
            spread = z.detach().float().std((0, 2, 3), keepdim=True)
            noise = torch.randn(z.shape, generator=generator).to(device)
            out = decode(model, z + _NOISE * spread * noise)
        z = z.float()
        rgb = functional.mse_loss(head(z), functional.avg_pool2d(real, 8))
        weight = 0.5 * max(0.1, 1 - 2 * progress)
        # Keeps the latents near unit spread; far weaker than the picture.
        size_of_z = (z * z).mean()
        loss = _loss(out.float(), real) + weight * rgb + 2e-3 * (size_of_z - 1).clamp(min=0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        pace.tick()
        progress = team.average(both.parameters(), pace.progress)
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        if not team.leads:
            continue
        total += loss.item()
        if pace.step % 50 == 0:
            print(
                f"vae step {pace.step} {100 * progress:.1f}% {pace.spent_s / 60:.1f} min loss {total / 50:.4f} z {size_of_z.item():.2f}",
                flush=True,
            )
            total = 0.0
        if pace.step % 250 == 0 or progress >= 1:
            keep(path, both, optimizer, average, pace)
            fixed = build().to(device)
            fixed.load_state_dict(average.state(model))
            with torch.no_grad():
                print(
                    f"vae step {pace.step} held-out {data.psnr(decode(fixed, mean(fixed, probe)), probe).mean():.2f} dB",
                    flush=True,
                )
    if team.leads:
        save(folder / "vae-average.pt", model=average.state(model), spent_s=pace.spent_s, steps=pace.step)


def _renamed(learned: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder and the convolution before it, under their names in the autoencoder."""
    parts = ("decoder", "post_quant_conv")
    return {f"{parts[int(name[0])]}{name[1:]}": value for name, value in learned.items()}


def refine(folder: Path, pictures: Path, *, steps: int | None, minutes: float | None, seed: int = 0) -> None:
    """Train the decoder alone: the latents stay as they are, and with them the UNet.

    Resumes from `refine.pt`; writes `vae-refined.pt`.
    """
    from tools.portrait import diffusion

    team = Team()
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codes, numbers, centre, spread = diffusion.latents(folder)
    spread, centre = spread[:, None, None].to(device), centre[:, None, None].to(device)
    x, seeds = data.load(pictures)
    place = {number: i for i, number in enumerate(seeds)}
    order = torch.tensor([place[number] for number in numbers])
    model = build()
    model.load_state_dict(torch.load(folder / "vae-average.pt", map_location="cpu")["model"])
    model.to(device).requires_grad_(False)
    learned = nn.ModuleList([model.decoder, model.post_quant_conv]).requires_grad_(True)
    learned[0].up_blocks[3].resnets.requires_grad_(False)
    average = Average(learned, 0.997)
    peak = 8e-4
    optimizer = torch.optim.AdamW(
        [p for p in learned.parameters() if p.requires_grad], lr=peak, betas=(0.9, 0.99), weight_decay=1e-4
    )
    pace = Pace(steps, minutes)
    path = folder / "refine.pt"
    resume(path, learned, optimizer, average, pace)
    generator = team.generator(seed + 1, pace.step)
    probe = data.to_signed(data.held_out(48)).to(device)
    with torch.no_grad():
        probe_z = mean(model, probe)
    total = 0.0
    progress = pace.progress
    while progress < 1:
        index = torch.randint(0, len(order), (4,), generator=generator)
        z = codes[index].to(device)
        real = data.to_signed(x[order[index]]).to(device)
        noise = torch.randn(z.shape, generator=generator).to(device)
        for group in optimizer.param_groups:
            group["lr"] = pace.rate(peak, progress)
        with torch.autocast(device.type, torch.bfloat16):
            out = decode(model, (z + _NOISE * noise) * spread + centre)
        loss = _loss(out.float(), real)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        pace.tick()
        progress = team.average(learned.parameters(), pace.progress)
        nn.utils.clip_grad_norm_(learned.parameters(), 1.0)
        optimizer.step()
        average.update(learned)
        if not team.leads:
            continue
        total += loss.item()
        if pace.step % 50 == 0:
            print(
                f"refine step {pace.step} {100 * progress:.1f}% {pace.spent_s / 60:.1f} min loss {total / 50:.4f}", flush=True
            )
            total = 0.0
        if pace.step % 250 == 0 or progress >= 1:
            keep(path, learned, optimizer, average, pace)
            state = model.state_dict() | _renamed(average.state(learned))
            other = build().to(device)
            other.load_state_dict(state)
            with torch.no_grad():
                print(f"refine step {pace.step} held-out {data.psnr(decode(other, probe_z), probe).mean():.2f} dB", flush=True)
            save(folder / "vae-refined.pt", model=state, spent_s=pace.spent_s, steps=pace.step)
