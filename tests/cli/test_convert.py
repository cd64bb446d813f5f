"""`weft convert`, and the page's own format wherever a workflow is taken."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

PAGE = {
    "last_node_id": 2,
    "last_link_id": 1,
    "nodes": [
        {"id": 1, "type": "TestSeeded", "pos": [7, 8], "mode": 0, "title": "Words", "inputs": [],
         "outputs": [{"name": "STRING", "type": "STRING", "links": [1]}], "widgets_values": ["once", 3, "fixed", 1.5, False]},
        {"id": 2, "type": "TestWrite", "pos": [400, 8], "mode": 0, "inputs": [{"name": "text", "type": "STRING", "link": 1, "widget": {"name": "text"}}],
         "outputs": [], "widgets_values": ["", "page"]},
    ],
    "links": [[1, 1, 0, 2, 0, "STRING"]],
    "version": 0.4,
}  # fmt: skip


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.json"
    path.write_text(json.dumps(PAGE))
    return path


def test_a_page_runs_with_edits_by_title(weft, page, tmp_path):
    said = weft("run", page, "--set", "Words.text=twice", "--seed", "9", "--out", "out", "--json")
    assert said.code == 0
    assert (tmp_path / "out" / "page_00001_.txt").read_text() == "twice|9|1.5"


@pytest.mark.parametrize("command", ["validate", "explain"])
def test_a_page_is_taken_by_every_command(weft, page, command):
    assert weft(command, page).code == 0


def test_a_batch_of_pages(weft, page, tmp_path):
    said = weft("batch", page, "--grid", "Words.text=a,b", "--out", "out")
    assert said.code == 0
    assert {p.read_text() for p in (tmp_path / "out").glob("*.txt")} == {"a|3|1.5", "b|3|1.5"}


def test_convert_writes_the_other_format_and_back(weft, page, tmp_path):
    assert weft("convert", page, "api.json").code == 0
    api = json.loads((tmp_path / "api.json").read_text())
    assert api["1"]["inputs"] == {"text": "once", "seed": 3, "factor": 1.5, "upper": False}
    assert api["2"]["inputs"] == {"text": ["1", 0], "filename_prefix": "page"}
    assert weft("convert", "api.json", "again.json").code == 0
    assert weft("convert", "again.json", "-").out == (tmp_path / "api.json").read_text()


def test_convert_to_the_format_that_it_has_changes_nothing(weft, page):
    assert json.loads(weft("convert", page, "-", "--to", "ui").out) == PAGE


def test_a_saved_picture_carries_the_page_with_the_values_of_the_run(weft, tmp_path):
    nodes = [
        {"id": 1, "type": "EmptyImage", "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}], "widgets_values": [8, 8, 1, 0]},
        {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}], "widgets_values": ["p"], "color": "#233"},
    ]  # fmt: skip
    (tmp_path / "w.json").write_text(json.dumps({"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]], "version": 0.4}))
    assert weft("run", "w.json", "--set", "1.width=16", "--out", "out").code == 0
    with Image.open(tmp_path / "out" / "p_00001_.png") as picture:
        carried = json.loads(picture.text["workflow"])
    assert carried["nodes"] == [{**nodes[0], "widgets_values": [16, 8, 1, 0]}, nodes[1]]


MODELS = [
    {"name": "there.safetensors", "url": "https://huggingface.co/a/b/resolve/main/there.safetensors", "directory": "loras"},
    {"name": "wanted.safetensors", "url": "https://huggingface.co/a/b/resolve/main/x/wanted.safetensors", "directory": "checkpoints"},
]  # fmt: skip


@pytest.fixture
def modelled(tmp_path):
    """A page that says where its models are; one of them is here."""
    node = {
        "id": 1,
        "type": "CheckpointLoaderSimple",
        "widgets_values": ["wanted.safetensors"],
        "properties": {"models": MODELS},
    }
    (tmp_path / "m.json").write_text(json.dumps({"nodes": [node], "links": []}))
    (tmp_path / "models/loras").mkdir(parents=True)
    (tmp_path / "models/loras/there.safetensors").write_bytes(b"")
    return tmp_path / "m.json"


def test_the_models_that_a_workflow_names_are_listed(weft, modelled):
    found = json.loads(weft("models", "--for", modelled, "--json").out)
    assert [(r["folder"], r["name"], r["state"]) for r in found] == [
        ("loras", "there.safetensors", "here"),
        ("checkpoints", "wanted.safetensors", "missing"),
    ]


def test_validate_says_where_a_missing_model_can_be_downloaded(weft, modelled):
    said = weft("validate", modelled)
    assert said.code == 2
    assert f"download it from {MODELS[1]['url']}" in said.out + said.err


def test_missing_models_are_downloaded_whole(weft, modelled, tmp_path, monkeypatch):
    asked = []

    def hub(repo, path, *, revision, local_dir):
        asked.append((repo, path, revision))
        (tmp_path / local_dir / "got").write_bytes(b"weights")
        return str(tmp_path / local_dir / "got")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    assert weft("models", "--for", modelled, "--download").code == 0
    assert asked == [("a/b", "x/wanted.safetensors", "main")]
    assert (tmp_path / "models/checkpoints/wanted.safetensors").read_bytes() == b"weights"
    assert [p.name for p in (tmp_path / "models/checkpoints").iterdir()] == ["wanted.safetensors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "https://elsewhere.example/x.safetensors"}, "only files of https://huggingface.co"),
        ({"url": "https://huggingface.co/a/b/resolve/main/../../c.safetensors"}, "only files of"),
        ({"name": "../../out.safetensors"}, "outside|leads out"),
        ({"name": "run.py"}, "not the name of a model file"),
        ({"directory": "../x"}, "not the name of a model file"),
        ({"hash": "0" * 64, "hash_type": "SHA256"}, "its SHA-256 is"),
    ],
)
def test_what_is_no_model_of_the_hub_is_not_downloaded(weft, modelled, tmp_path, monkeypatch, change, message):
    def hub(_repo, _path, *, revision, local_dir):
        (tmp_path / local_dir / revision).write_bytes(b"weights")
        return str(tmp_path / local_dir / revision)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    document = json.loads(modelled.read_text())
    document["nodes"][0]["properties"]["models"] = [{**MODELS[1], **change}]
    modelled.write_text(json.dumps(document))
    said = weft("models", "--for", modelled, "--download")
    assert said.code == 1
    assert re.search(message, said.err)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name in {"wanted.safetensors", "out.safetensors", "run.py"}]
