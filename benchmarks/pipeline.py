"""Sampling and its memory against diffusers' `StableDiffusionPipeline`, on a network of the size of Stable Diffusion 1.5.

    python benchmarks/pipeline.py [--size 128] [--steps 2] [--images 2 8] [--repeat 3]

Each program is a process of its own with the same random weights, read from one folder; they sample in turn, so that both
meet the same machine. Printed are medians, the median ratio of the pairs, and the high-water marks of resident memory; on a
machine with other work to do, with one thread each, CPU time is the fairer measure. Both do Euler steps with classifier-free
guidance on the same noise and prompt; neither encodes text or decodes pictures.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

COMMON = """
import json, sys, time, torch
folder, size, steps, scale = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 7.5
def given(n):
    noise = torch.randn(n, 4, size // 8, size // 8, generator=torch.Generator().manual_seed(1))
    texts = torch.randn(2, 1, 77, CONTEXT, generator=torch.Generator().manual_seed(2))
    return noise, texts
def serve(sampled):
    print("ready", flush=True)
    for line in sys.stdin:
        noise, texts = given(int(line))
        started, worked = time.perf_counter(), time.process_time()
        made = sampled(noise, texts)
        taken, worked = time.perf_counter() - started, time.process_time() - worked
        peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
        print(json.dumps([taken, int(peak[0]) / 1024, made.double().norm().item(), worked]), flush=True)
"""

WEFT = """
from engine.models import load_unet
from engine.sampling.drive import sample
from engine.sampling.schedulers import sigmas
from engine.sampling.values import Guider, Sampler
from engine.types import Cond, Conditioning
from pathlib import Path
model = load_unet(next(Path(folder, "unet").glob("*.safetensors")), device="cpu", dtype="float32")
levels = sigmas(model.schedule, "normal", steps)
def sampled(noise, texts):
    positive, negative = (Conditioning((Cond(text),)) for text in texts)
    guider = Guider.cfg(model, positive, negative, scale)
    return sample(guider, latent=torch.zeros_like(noise), noise=noise, sigmas=levels, sampler=Sampler("euler"), seed=1)
serve(sampled)
"""

DIFFUSERS = """
from engine import devices
devices.prepare()
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
trained = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
pipeline = StableDiffusionPipeline(
    vae=None, text_encoder=None, tokenizer=None, unet=unet, scheduler=EulerDiscreteScheduler(**trained),
    safety_checker=None, feature_extractor=None, requires_safety_checker=False,
)
pipeline.set_progress_bar_config(disable=True)
def sampled(noise, texts):
    n = len(noise)
    top = pipeline.scheduler.sigmas.max()
    return pipeline(
        prompt_embeds=texts[0].expand(n, -1, -1), negative_prompt_embeds=texts[1].expand(n, -1, -1), guidance_scale=scale,
        num_inference_steps=steps, latents=noise * (1 + 1 / top**2) ** 0.5, height=size, width=size, output_type="latent",
    ).images / 0.18215
serve(sampled)
"""

WRITE = """
import sys, torch
from engine import devices
devices.prepare()
from diffusers import UNet2DConditionModel
torch.manual_seed(0)
channels = tuple(int(c) for c in sys.argv[2].split(","))
down, up = ("CrossAttnDownBlock2D",) * (len(channels) - 1), ("CrossAttnUpBlock2D",) * (len(channels) - 1)
unet = UNet2DConditionModel(
    sample_size=64, block_out_channels=channels, cross_attention_dim=CONTEXT, attention_head_dim=8,
    down_block_types=(*down, "DownBlock2D"), up_block_types=("UpBlock2D", *up),
)
unet.save_pretrained(sys.argv[1] + "/unet", max_shard_size="100GB")
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--steps", type=int, default=2, help="at least 2: both then begin at the highest noise level")
    parser.add_argument("--images", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--channels", default="320,640,1280,1280", help="of the network's levels")
    parser.add_argument("--context", type=int, default=768, help="width of the text")
    options = parser.parse_args()

    def python(code: str, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "ignore", "-c", code.replace("CONTEXT", str(options.context)), *arguments]

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(python(WRITE, folder, options.channels), cwd=ROOT, check=True)
        for images in options.images:
            programs = {
                name: subprocess.Popen(
                    python(COMMON + code, folder, str(options.size), str(options.steps)),
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for name, code in (("weft", WEFT), ("diffusers", DIFFUSERS))
            }
            report(images, options.steps, measured(programs, images, options.repeat))


def measured(programs, images: int, repeat: int) -> dict[str, list[list[float]]]:
    """For each program [seconds, peak MiB, size of the result, CPU seconds] of every pass; the first is to warm up."""
    for program in programs.values():
        assert program.stdout.readline() == "ready\n"  # noqa: S101 - what the program says first
    passes: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _ in range(repeat + 1):
        for name, program in programs.items():
            program.stdin.write(f"{images}\n")
            program.stdin.flush()
            passes[name].append([float(number) for number in program.stdout.readline().strip("[]\n").split(",")])
    for program in programs.values():
        program.stdin.close()
        program.wait()
    return {name: rows[1:] for name, rows in passes.items()}


def report(images: int, steps: int, passes: dict[str, list[list[float]]]) -> None:
    """Print what was measured for one number of pictures."""
    for name, rows in passes.items():
        seconds, worked = (statistics.median(row[i] for row in rows) for i in (0, 3))
        peak = max(row[1] for row in rows)
        print(
            f"{images} pictures  {name:10} {steps / seconds:7.3f} steps/s, {worked / steps:6.2f} CPU s a step, {peak:6.0f} MiB"
        )
    ours, theirs = passes["weft"], passes["diffusers"]
    speed, work = (statistics.median(b[i] / a[i] for a, b in zip(ours, theirs, strict=True)) for i in (0, 3))
    memory = max(row[1] for row in ours) / max(row[1] for row in theirs)
    apart = abs(ours[0][2] / theirs[0][2] - 1)
    print(
        f"{images} pictures  {'ratio':10} {speed:7.3f} times as fast ({work:.3f} by CPU time), {memory:.3f} of the memory;"
        f" results differ by {apart:.0e}"
    )


if __name__ == "__main__":
    main()
