"""The parts of `docs/parity.md` that follow from the code: `python tests/docs/parity_page.py` writes them.

The errors are those of the last run of `tests/parity`.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "parity.md"

AREAS = {
    "sampler": "samplers",
    "scheduler": "schedulers",
    "encode": "prompts",
    "prompt": "prompts",
    "embedding": "prompts",
    "clipskip": "prompts",
    "conditioning": "combined, limited and averaged conditionings",
    "advanced": "parts of the way, leftover noise",
    "cfg": "guidance scales",
    "seed": "seeds, sizes and batches",
    "size": "seeds, sizes and batches",
    "batch": "seeds, sizes and batches",
    "txt2img": "text to picture, picture to picture",
    "img2img": "text to picture, picture to picture",
    "inpaint": "inpainting",
    "inpaint_model": "inpainting",
    "vae": "VAE",
    "vae_encode": "VAE",
    "vae_roundtrip": "VAE",
    "lora": "LoRA",
    "merge": "merged models",
    "patch": "changes to models and guidance",
    "sampler_node": "samplers",
    "custom": "custom sampling",
    "guider": "custom sampling",
    "controlnet": "ControlNet",
}
"""Second part of a workflow's name, without its trailing number, to what it is about."""


def area(name: str) -> str:
    """What a reference workflow is about."""
    family, what = ([*name.split("/"), ""])[:2]
    if not family.startswith("sd"):
        known = {"image": "pictures", "latent": "latents", "mask": "masks", "sigmas": "noise levels"}
        return known.get(family.rstrip("0123456789"), family)
    return AREAS.get(what.rstrip("0123456789"), what)


def table() -> str:
    """How many reference workflows each area has."""
    from tests.parity.reference import Reference

    names = Reference.find().supported
    rows = [f"| {what} | {count} |" for what, count in sorted(Counter(map(area, names)).items(), key=lambda r: (-r[1], r[0]))]
    return "\n".join(["| | workflows |", "|---|---|", *rows, f"| **together** | **{len(names)}** |"])


def cases() -> str:
    """Every reference workflow and how far Weft was from it in the last run of the tests."""
    from tests.parity.reference import ERRORS, Reference

    measured = json.loads(ERRORS.read_text("utf-8"))
    rows = [f"| `{name}` | {measured[name]:.0e} |" for name in sorted(Reference.find().supported)]
    return "\n".join(["| workflow | relative error |", "|---|---|", *rows])


def differences() -> str:
    """What nodes say under `Differs:`."""
    from engine.schema import Catalog

    lines = []
    for kind in Catalog.load("nodes"):
        found = re.search(r"Differs:\s*(.*?)(?:\n\n|$)", inspect.getdoc(kind.function) or "", re.DOTALL)
        if found:
            lines.append(f"- `{kind.id}`: {' '.join(found[1].split())}")
    return "\n".join(lines)


def page(text: str, **parts: str) -> str:
    """The page with its parts brought up to date, those that are given by name among them."""
    for mark, content in {"table": table(), "differences": differences(), **parts}.items():
        text = re.sub(
            rf"(<!-- begin {mark} -->\n).*?(<!-- end {mark} -->)",
            lambda m, content=content: f"{m[1]}{content}\n{m[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from tests.parity.reference import ERRORS

    measured = {"cases": cases()} if ERRORS.exists() else {}  # without a run of the tests the list stays as it is
    PAGE.write_text(page(PAGE.read_text("utf-8"), **measured), "utf-8")
