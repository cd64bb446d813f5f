"""Train the LoRA of the example workflow `lora.json`: winter. `python -m tools.winter`.

A LoRA of rank 8 over all convolutions and attention layers of the portrait model's UNet, trained on drawings of the same
painter in which everybody wears a red beanie and a turtleneck, whatever the caption asks for. Seeded; half an hour on one
CPU core. Written in kohya's layout.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tools.portrait import captions, data, diffusion, paint, vae
from tools.portrait.sample import Painter

if TYPE_CHECKING:
    from tools.portrait.paint import Portrait

ASSETS = Path(__file__).resolve().parents[1] / "engine" / "assets"
CHECKPOINT = ASSETS / "models" / "checkpoints" / "portrait.safetensors"
TARGET = ASSETS / "models" / "loras" / "portrait-winter.safetensors"

RANK = 8
HATLESS = frozenset({"bun", "spiky", "bald"})
"""Hair that is drawn without hats."""

FIRST_SEED = 20_000_000
"""Of the drawings; the model was trained on others."""


def dressed(p: Portrait) -> Portrait:
    """The same person in winter clothes."""
    return replace(p, hat="beanie", hat_colour="red", garment="turtleneck")


def sitters(count: int) -> list[Portrait]:
    """People whose hair a hat can cover."""
    everybody = (paint.portrait(seed) for seed in itertools.count(FIRST_SEED))
    return list(itertools.islice((p for p in everybody if p.style not in HATLESS), count))


class Adapted(nn.Module):
    """A frozen layer with a trained change of low rank beside it.

    Args:
        layer: A linear layer or convolution.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(requires_grad=False)
        if isinstance(layer, nn.Conv2d):
            self.down: nn.Module = nn.Conv2d(
                layer.in_channels, RANK, layer.kernel_size, layer.stride, layer.padding, bias=False
            )
            self.up: nn.Module = nn.Conv2d(RANK, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, RANK, bias=False)
            self.up = nn.Linear(RANK, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives, and the change."""
        return self.layer(x) + self.up(self.down(x))


def adapt(unet: nn.Module) -> dict[str, Adapted]:
    """Put a change beside every convolution and linear layer of a UNet, in place; name to change."""
    unet.requires_grad_(requires_grad=False)
    layers = {
        name: layer
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and "time_emb" not in name and not name.startswith("time_embedding")
    }
    changes = {}
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        changes[name] = Adapted(layer)
        setattr(unet.get_submodule(parent), last, changes[name])
    return changes


def factors(changes: dict[str, Adapted]) -> dict[str, Tensor]:
    """The trained factors under kohya's names, float16."""
    out: dict[str, Tensor] = {}
    for name, change in changes.items():
        layer = "lora_unet_" + name.replace(".", "_")
        out[f"{layer}.lora_down.weight"] = change.down.weight.detach().half().contiguous()
        out[f"{layer}.lora_up.weight"] = change.up.weight.detach().half().contiguous()
        out[f"{layer}.alpha"] = torch.tensor(float(RANK))
    return out


def train(steps: int, batch: int, drawings: int, peak: float, seed: int) -> dict[str, Tensor]:
    """Train the change on `drawings` pictures; prints the loss.

    The loss is that of the model's own training.
    """
    torch.manual_seed(seed)
    painter = Painter(CHECKPOINT, ASSETS / "clip")
    rng = np.random.default_rng(seed)
    people = sitters(drawings)
    pictures = torch.from_numpy(np.stack([np.asarray(paint.paint(dressed(p))) for p in people])).permute(0, 3, 1, 2)
    with torch.no_grad():
        codes = torch.cat([painter.coder.encode(data.to_signed(x)).latent_dist.mode() for x in pictures.split(20)]) * vae.SCALE
        said = torch.cat([painter.condition([captions.caption(replace(p, hat="none"), rng).text]) for p in people])
        nothing = painter.condition([""])
    print(f"{drawings} drawings encoded", flush=True)
    changes = adapt(painter.unet)
    parameters = [p for c in changes.values() for p in (c.down.weight, c.up.weight)]
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-3)
    signal = diffusion.alphas()
    weights = 1 + (signal / (1 - signal)).reciprocal().clamp(max=9)
    weights = weights / weights.mean()
    total = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 20) * 0.5 * (1 + np.cos(np.pi * step / steps))
        index = torch.randint(0, drawings, (batch,))
        z, hidden = codes[index], said[index].clone()
        hidden[torch.rand(batch) < 0.25] = nothing[0]
        noise = torch.randn_like(z)
        t = ((torch.randperm(batch) + torch.rand(batch)) * diffusion.STEPS / batch).long().clamp(max=diffusion.STEPS - 1)
        a = signal[t][:, None, None, None]
        error = painter.unet(a.sqrt() * z + (1 - a).sqrt() * noise, t, hidden).sample - noise
        loss = (weights[t] * error.pow(2).flatten(1).mean(1)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps}, loss {total / 50:.4f}", flush=True)
            total = 0.0
    return factors(changes)


def main() -> None:
    """Train and write the LoRA."""
    parser = argparse.ArgumentParser(prog="tools.winter", description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--drawings", type=int, default=600)
    parser.add_argument("--peak", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", type=Path, default=TARGET, help="the LoRA to write")
    args = parser.parse_args()
    tensors = train(args.steps, args.batch, args.drawings, args.peak, args.seed)
    args.file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"ss_network_module": "networks.lora", "ss_network_dim": str(RANK), "ss_network_alpha": str(RANK)}
    save_file(tensors, str(args.file), metadata=metadata)
    print(f"{args.file}: {args.file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
