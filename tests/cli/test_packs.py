"""Packs on the command line."""

from __future__ import annotations

import json

import pytest

from engine.cli import main
from engine.settings import settle

PACK = """
class Shout:
    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"text": ("STRING", {"default": "x"})}}
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "go"
    def go(self, text):
        print("said by the pack")
        return {"ui": {"text": [text.upper()]}}
NODE_CLASS_MAPPINGS = {"Shout": Shout}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEFT_CACHE_DIR", "none")
    monkeypatch.delenv("WEFT_PACKS", raising=False)
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "shout.py").write_text(PACK)
    (tmp_path / "packs" / "bad.py").write_text("import a_library_that_nobody_has\n")
    (tmp_path / "w.json").write_text(json.dumps({"1": {"class_type": "Shout", "inputs": {"text": "hello"}}}))
    return tmp_path


def test_a_workflow_runs_with_packs(folder, capsys):
    assert main(["run", "w.json", "--packs", "packs", "--no-json"]) == 0
    said = capsys.readouterr()
    assert said.out == "HELLO\n"
    assert "said by the pack" in said.err
    assert "warning: the pack bad.py is left out: ModuleNotFoundError: No module named 'a_library_that_nobody_has'" in said.err


def test_without_packs_the_kind_is_not_installed(folder, capsys):
    assert main(["validate", "w.json"]) == 2
    assert "not installed" in capsys.readouterr().err
    assert main(["validate", "w.json", "--packs", "packs"]) == 0


def test_the_doctor_lists_packs(folder, capsys):
    assert main(["doctor", "--packs", "packs", "--json"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert nodes["packs"] == "packs"
    assert nodes["  shout.py"].startswith("1 kind, ")
    assert "a_library_that_nobody_has" in nodes["  bad.py"]


def test_packs_come_from_where_they_are_named_or_lie(folder):
    from pathlib import Path

    assert settle({}).packs == ()
    (folder / "custom_nodes").mkdir()
    assert settle({}).packs == (Path("custom_nodes"),)
    assert settle({"WEFT_PACKS": "a:b"}).packs == (Path("a"), Path("b"))
    assert settle({"WEFT_PACKS": "a:b"}, packs=["c"]).packs == (Path("c"),)
    assert settle({"WEFT_PACKS": "none"}).packs == ()
    assert settle({}, packs=["none"]).packs == ()


def test_installed_packages_offer_nodes_by_entry_points(folder, monkeypatch):
    import sys

    (folder / "offered_nodes.py").write_text(
        "from engine.schema import node\n"
        "@node('Offered')\n"
        "def offered(*, x: int = 1) -> int:\n"
        '    """Offer.\n\n    Args:\n        x: It.\n    """\n'
        "    return x\n"
    )
    about = folder / "offered-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[weft.nodes]\nmine = offered_nodes\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    assert "Offered" in settle({}).catalog()
