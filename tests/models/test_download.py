"""Repositories of the hub, as far as they go without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import WeftError
from engine.models import download, download_repo


@pytest.mark.parametrize("name", ["", "model", "a/b/c", "../x", "a/..", "https://host/a"])
def test_what_is_no_repository_is_refused_before_anything_is_asked(name):
    with pytest.raises(WeftError, match="a repository is named owner/name"):
        download_repo(name)


def test_one_file_of_weights_for_each_part_is_wanted():
    """The files of a published repository, several gigabytes of which are copies."""
    names = [
        "model_index.json",
        "v1-5-pruned.safetensors",
        "safety_checker/model.safetensors",
        *(f"unet/diffusion_pytorch_model{kind}" for kind in (".bin", ".safetensors", ".fp16.safetensors", ".non_ema.bin")),
        *(f"text_encoder/{file}" for file in ("model.safetensors", "pytorch_model.bin", "config.json")),
        "vae/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.fp16.bin",
    ]

    assert download.wanted(names) == [
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.bin",
        "text_encoder/model.safetensors",
    ]


def test_shards_are_wanted_with_their_index():
    index = "unet/diffusion_pytorch_model.safetensors.index.json"

    assert download.wanted([index, "unet/diffusion_pytorch_model-00001-of-00002.safetensors"]) == [
        "model_index.json",
        index,
        "unet/diffusion_pytorch_model-*.safetensors",
    ]


def test_a_repository_without_a_network_is_refused():
    with pytest.raises(WeftError, match="no diffusers folder"):
        download.wanted(["README.md", "model.safetensors"])


@pytest.mark.parametrize("is_cached", [True, False])
def test_offline_the_cache_alone_is_used(is_cached, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--owner--name" / "snapshots" / commit
    if is_cached:
        snapshot.mkdir(parents=True)
        (snapshot / "model_index.json").write_text("{}")
        (tmp_path / "models--owner--name" / "refs").mkdir()
        (tmp_path / "models--owner--name" / "refs" / "main").write_text(commit)
    code = f"""
from pathlib import Path
from engine.errors import WeftError
from engine.models import download_repo
try:
    assert str(download_repo("owner/name", cache=Path({str(tmp_path)!r}))) == {str(snapshot)!r}
    assert {is_cached}
except WeftError as error:
    assert not {is_cached}
    assert "cannot get the repository 'owner/name'" in str(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
