"""Devices, and a torchvision that may be absent, broken or sound."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine import devices
from engine.errors import WeftError


def test_the_cpu_computes_in_float32():
    cpu = devices.pick("cpu")

    assert {devices.pick_dtype(cpu, role) for role in ("unet", "text", "vae")} == {torch.float32}
    assert devices.pick_dtype(cpu, "vae", "bfloat16") == torch.bfloat16


def test_accelerators_compute_in_half_precision_but_for_the_vae():
    cuda = torch.device("cuda", 0)

    assert devices.pick_dtype(cuda, "unet") == torch.float16
    assert devices.pick_dtype(cuda, "vae") == torch.float32


def test_auto_is_a_device_that_is_there():
    assert torch.zeros(1, device=devices.pick("auto")).item() == 0


@pytest.mark.parametrize("name", ["cuda:99", "quantum", "cuda:x", ""])
def test_a_device_that_is_not_there_says_so(name):
    with pytest.raises(WeftError, match=f"cannot compute on {name!r}"):
        devices.pick(name)


def test_a_format_that_is_none_says_so():
    with pytest.raises(WeftError, match="cannot compute in 'float12'"):
        devices.pick_dtype(torch.device("cpu"), "unet", "float12")


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs the memory table of Linux")
def test_free_memory_of_the_cpu_is_known():
    free = devices.free_bytes(torch.device("cpu"))

    assert free is not None
    assert 2**20 < free < 2**50


def test_out_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)

    assert devices.is_out_of_memory(error.value)
    assert devices.is_out_of_memory(torch.OutOfMemoryError("full"))
    assert devices.is_out_of_memory(MemoryError())
    assert not devices.is_out_of_memory(RuntimeError("shapes differ"))


BROKEN = """
from torch import library
from torchvision import part
@library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
"""
LOUD = "import warnings\nwarnings.warn('no codecs')\nfrom torchvision import part"
BEYOND_REPAIR = "from torchvision import part\nraise ImportError('libcudart.so.99')"
SOUND = "from torchvision import part"

PREPARE = """
import importlib.util, sys
from engine import devices
devices.prepare()
devices.prepare()
found = importlib.util.find_spec("torchvision") is not None
"""


def _run(code, folder):
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


def _install(folder, content):
    """A stand-in for torchvision, first on the path."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "part.py").write_text("")
    (folder / "torchvision" / "__init__.py").write_text(content)


@pytest.mark.parametrize("content", [BROKEN, SOUND, LOUD], ids=["of another torch", "sound", "sound but loud"])
def test_a_torchvision_of_another_torch_imports_as_a_sound_one_does(content, tmp_path):
    _install(tmp_path, content)

    _run(f"import warnings; warnings.simplefilter('error')\n{PREPARE}assert found\nimport torchvision.part", tmp_path)


def test_a_torchvision_beyond_repair_counts_as_absent(tmp_path):
    _install(tmp_path, BEYOND_REPAIR)

    _run(PREPARE + "assert not found", tmp_path)


def test_threads_wait_until_the_first_is_done(tmp_path):
    _install(tmp_path, f"import time\ntime.sleep(0.2)\n{BROKEN}")

    _run(
        """
from concurrent.futures import ThreadPoolExecutor
from engine import devices

def imported(_):
    devices.prepare()
    import torchvision.part

with ThreadPoolExecutor(4) as pool:
    list(pool.map(imported, range(4)))
""",
        tmp_path,
    )


@pytest.mark.slow
def test_the_libraries_import_beside_a_torchvision_beyond_repair(tmp_path):
    _install(tmp_path, BEYOND_REPAIR)
    imports = """
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers.models.clip.modeling_clip import CLIPTextModel
"""

    _run(PREPARE + imports, tmp_path)


def test_without_torchvision_there_is_nothing_to_do(tmp_path):
    _run(
        'import sys; sys.modules["torchvision"] = None' + PREPARE + "assert not found and 'torch' not in sys.modules", tmp_path
    )


@pytest.mark.parametrize(("given", "expected"), [({}, str(devices.SPINS)), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")])
def test_an_engine_lets_threads_share_the_cores_unless_told_otherwise(given, expected):
    code = "import os, engine; engine.Engine(); print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {k: v for k, v in os.environ.items() if k not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"}}
    done = subprocess.run([sys.executable, "-c", code], env=environment | given, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == expected
