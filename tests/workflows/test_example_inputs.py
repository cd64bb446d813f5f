"""The pictures that the example workflows start from ship with the package, behind the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.folders import EMBEDDED_INPUT, Folders

if TYPE_CHECKING:
    from pathlib import Path


def test_they_are_found_without_an_input_folder(tmp_path: Path) -> None:
    folders = Folders(input=tmp_path / "none")
    assert folders.find("input", "portrait.png") == EMBEDDED_INPUT / "portrait.png"
    assert folders.listing("input") == ("portrait-mask.png", "portrait.png")


def test_a_file_of_the_user_with_the_same_name_comes_first(tmp_path: Path) -> None:
    (tmp_path / "portrait.png").write_bytes(b"mine")
    assert Folders(input=tmp_path).find("input", "portrait.png") == tmp_path / "portrait.png"
