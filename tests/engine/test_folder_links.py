"""Symbolic links: model files may be linked to other disks, pictures may not lead out of their folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.errors import WeftError
from engine.folders import Folders

if TYPE_CHECKING:
    from pathlib import Path


def test_a_model_file_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk" / "big.safetensors"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"model")
    link = tmp_path / "models" / "checkpoints" / "linked.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    folders = Folders(models=(tmp_path / "models",))
    assert "linked.safetensors" in folders.listing("checkpoints")
    assert folders.find("checkpoints", "linked.safetensors") == link


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "link.png", "c:\\secret.png"])
def test_a_picture_never_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(WeftError, match="leads outside"):
        Folders(input=tmp_path / "input").find("input", name)


@pytest.mark.parametrize("name", ["../secret.ckpt", "/etc/passwd", "a/../../secret.ckpt"])
def test_a_model_name_never_leads_out_by_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(WeftError, match="leads outside"):
        Folders(models=(tmp_path,)).find("checkpoints", name)
