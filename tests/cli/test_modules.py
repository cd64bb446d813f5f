"""What a command imports, it makes people wait for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "networkx", "rich", "yaml", "asyncio", "aiohttp", "PIL", "huggingface_hub", "diffusers", "transformers",
         "safetensors", "jsonschema", "platformdirs", "typer", "pydantic")  # fmt: skip


def imported(*arguments):
    script = (
        "import sys, json\n"
        "from engine.cli import main\n"
        f"code = main({list(map(str, arguments))!r})\n"
        "print(json.dumps([code, sorted({name.split('.')[0] for name in sys.modules})]), file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        (["--help"]),
        (["run", "--help"]),
        (["validate", "{file}"]),
        (["nodes"]),
        (["nodes", "KSampler"]),
        (["nodes", "--json"]),
        (["schema"]),
        (["models"]),
        (["explain", "{file}", "--no-cache"]),
        (["explain", "{file}"]),
        (["run", "{file}", "--no-cache"]),
        (["completion", "bash"]),
    ],
)
def test_nothing_heavy_is_imported(story, arguments):
    modules = imported(*(a.format(file=story) for a in arguments))
    assert modules.isdisjoint(HEAVY), modules & set(HEAVY)


def test_help_does_not_import_the_engine(story):
    script = "import sys\nfrom engine.cli import main\nmain(['--help'])\nassert not {'engine.engine', 'engine.schema', 'nodes'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_run_without_tensors_does_not_import_torch_to_keep_its_results(story):
    for _ in range(2):
        assert not imported("run", story, "--json") & {"torch", "numpy", "networkx", "rich", "yaml", "asyncio", "PIL"}
