"""What sampling costs beyond the network: the engine against a bare loop that calls the same UNet as often.

    python benchmarks/sampling.py [--checkpoint FILE] [--size 128] [--steps 20] [--repeat 9]

Both run in turn in one process; printed are the medians and their ratio. The bare loop does Euler steps with
classifier-free guidance in one batch of two rows, with everything that can be computed before the loop computed before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from engine.models import load_checkpoint
from engine.sampling.drive import sample
from engine.sampling.noise import initial_noise
from engine.sampling.schedulers import sigmas as levels_of
from engine.sampling.values import Guider, Sampler

EMBEDDED = Path(__file__).parents[1] / "engine" / "assets" / "models" / "checkpoints" / "portrait.safetensors"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=EMBEDDED)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    model, encoder = checkpoint.model, checkpoint.text_encoder
    positive, negative = encoder.encode("portrait of a woman with red hair"), encoder.encode("")
    latent = torch.zeros(1, 4, options.size // 8, options.size // 8)
    noise = initial_noise(latent.shape, 1)
    levels = levels_of(model.schedule, "normal", options.steps)
    network, schedule = model.network, model.schedule
    context = torch.cat([negative.entries[0].tokens, positive.entries[0].tokens])

    def bare() -> torch.Tensor:
        with torch.inference_mode():
            numbers = levels.tolist()
            times = [schedule.timestep(torch.full((2,), s)) for s in numbers[:-1]]
            x = noise * (1 + numbers[0] ** 2) ** 0.5
            for i, sigma in enumerate(numbers[:-1]):
                rows = torch.cat([x, x]) / (sigma**2 + 1) ** 0.5
                uncond, cond = network(rows, times[i], context, return_dict=False)[0].chunk(2)
                x = x + (uncond + (cond - uncond) * 7.0) * (numbers[i + 1] - sigma)
            return x / 0.18215

    def engine() -> torch.Tensor:
        return sample(
            Guider.cfg(model, positive, negative, 7.0),
            latent=latent,
            noise=noise,
            sigmas=levels,
            sampler=Sampler("euler"),
            seed=1,
            on_step=lambda *_: None,
        )

    difference = ((bare() - engine()).norm() / bare().norm()).item()
    taken: dict[str, list[float]] = {"bare loop": [], "engine": []}
    for _ in range(options.repeat):
        for name, function in (("bare loop", bare), ("engine", engine)):
            started = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - started)
    ratios = [e / b for e, b in zip(taken["engine"], taken["bare loop"], strict=True)]
    for name, seconds in taken.items():
        print(f"{name:12} {statistics.median(seconds) * 1e3:9.1f} ms for {options.steps} steps")
    print(f"{'ratio':12} {statistics.median(ratios):9.4f} (median of pairs); difference of the results {difference:.1e}")


if __name__ == "__main__":
    main()
