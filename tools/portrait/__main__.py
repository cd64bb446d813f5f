"""Command line: `python -m tools.portrait STAGE --run FOLDER`; docs/portrait-model.md tells the whole recipe.

Stages, in order: paint, train-text, train-vae, train-unet, refine, export, score, grid. Every training stage resumes
from its last checkpoint in the run folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "engine" / "assets" / "clip"
TARGET = ROOT / "engine" / "assets" / "models" / "checkpoints" / "portrait.safetensors"
STAGES = ("paint", "train-text", "train-vae", "train-unet", "refine", "export", "score", "grid")


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="tools.portrait", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--run", type=Path, required=True, help="folder of drawings, checkpoints and logs")
    parser.add_argument("--steps", type=int, help="length of a training stage in steps")
    parser.add_argument("--minutes", type=float, help="length of a training stage in minutes, instead of steps")
    parser.add_argument("--shards", type=int, default=18, help="thousands of drawings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clip", type=Path, default=CLIP, help="folder of the tokenizer's vocab.json and merges.txt")
    parser.add_argument("--file", type=Path, default=TARGET, help="the checkpoint to write, score or sample")
    parser.add_argument("--prompts", type=int, default=200, help="score: how many random prompts")
    parser.add_argument("--cfg", type=float, default=7.0)
    parser.add_argument("--workers", type=int, default=1, help="training: single-threaded processes that share the work")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--out", type=Path, help="grid: the picture to write; score: where to put the samples")
    args = parser.parse_args()
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    drawings = args.run / "data"
    length = {"steps": args.steps, "minutes": args.minutes, "seed": args.seed}
    if args.stage == "paint":
        from tools.portrait import data

        data.draw(drawings, range(args.shards))
    elif args.stage == "train-text":
        from tools.portrait import data, text

        text.train(args.run, args.clip, list(range(args.shards * data.SHARD)), **length)
    elif args.stage == "train-vae":
        from tools.portrait import team, vae

        team.run(args.workers, vae.train, args.run, drawings, **length)
    elif args.stage == "refine":
        from tools.portrait import team, vae

        team.run(args.workers, vae.refine, args.run, drawings, **length)
    elif args.stage == "train-unet":
        from tools.portrait import diffusion, team

        team.run(args.workers, diffusion.encode, args.run, drawings, args.shards)
        diffusion.latents(args.run)
        team.run(args.workers, diffusion.train, args.run, args.clip, **length)
    elif args.stage == "export":
        from tools.portrait import export

        print(f"{args.file}: {export.write(args.run, args.file)} bytes")
    elif args.stage == "score":
        _score(args)
    else:
        _grid(args)


def _score(args: argparse.Namespace) -> None:
    import time

    from PIL import Image

    from tools.portrait import data, sample, score
    from tools.portrait.paint import grid

    painter = sample.Painter(args.file, args.clip)
    held = data.to_signed(data.held_out(64))
    print(f"autoencoder on held-out drawings: {data.psnr(painter.roundtrip(held), held).mean():.2f} dB")
    asked = score.prompts(args.prompts)
    start = time.monotonic()
    made = score.generate(lambda t, s: painter(t, s, cfg=args.cfg), asked)
    print(f"{len(asked)} prompts, cfg {args.cfg:g}, {time.monotonic() - start:.0f} s")
    for attribute, share in score.generated_accuracy(asked, made).items():
        print(f"{attribute:12} {share:.3f}")
    if args.out:
        grid([Image.fromarray(m) for m in made[:40]], 8, 2).save(args.out)
        args.out.with_suffix(".txt").write_text("\n".join(q.text for q in asked[:40]))


def _grid(args: argparse.Namespace) -> None:
    from PIL import Image

    from tools.portrait import sample
    from tools.portrait.paint import grid

    painter = sample.Painter(args.file, args.clip)
    rows = [painter([text] * 6, range(args.seed, args.seed + 6), cfg=args.cfg) for text in SHOWN]
    grid([Image.fromarray(m) for row in rows for m in row], 6, 2).save(args.out)


SHOWN = (
    "portrait of a woman with red hair and glasses, blue background, smiling",
    "a sad man with a black beard and dark skin, wearing a yellow shirt, on a pink background",
    "portrait of a girl with long blue hair, green shirt, orange background, laughing",
    "an old man with white hair, sunglasses, purple turtleneck, grey background",
    "a surprised boy with spiky blonde hair, tan skin, red t-shirt, green background",
    "lady, brown hair in a bun, earrings, brown skin, white collared shirt, yellow background",
)

if __name__ == "__main__":
    main()
