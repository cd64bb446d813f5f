import json

import pytest


def test_validate_lists_every_problem_of_every_file(weft, workflow, story):
    bad = workflow("bad.json", n1=("TestSeded", {}), n2=("TestWrite", {"text": ["9", 0]}))
    said = weft("validate", story, bad)
    assert said.code == 2
    assert "w.json: ok, 2 nodes" in said.out
    assert said.err.count("bad.json: error[") == 2
    assert "error[unknown-kind] node 1 (TestSeded)" in said.err
    assert "error[missing-node] node 2 (TestWrite)" in said.err


def test_validate_as_json(weft, workflow):
    bad = workflow(n1__Maker=("TestSeeded", {"seed": -1}))
    said = weft("validate", "--json", bad)
    problem, file = said.records
    assert (said.code, problem["code"], problem["node"], problem["title"], problem["input"]) == (
        2,
        "below-minimum",
        "1",
        "Maker",
        "seed",
    )
    assert (problem["level"], file["valid"]) == ("error", False)


def test_validate_goes_on_after_a_file_that_is_none(weft, story, tmp_path):
    (tmp_path / "x.json").write_text("{")
    said = weft("validate", "x.json", story)
    assert (said.code, "ok, 2 nodes" in said.out) == (2, True)
    assert weft("validate", "--json", "x.json").records[0]["code"] == "format"


def test_warnings_alone_are_no_failure(weft, workflow):
    said = weft("validate", workflow(n1=("TestWrite", {"text": "x", "colour": 3})))
    assert (said.code, "warning[unknown-input]" in said.err) == (0, True)


def test_explain_tells_what_would_run_and_why(weft, story):
    before = weft("explain", story)
    assert before.code == 0
    assert "2 nodes would run, 0 nodes would not" in before.out
    weft("run", story)
    after = json.loads(weft("explain", "--json", story).out)
    assert [(s["node"], s["runs"], s["reason"]) for s in after["steps"]] == [("2", True, "effect"), ("1", False, "hit")]
    changed = json.loads(weft("explain", "--json", story, "--seed", "1").out)
    assert [s["node"] for s in changed["steps"] if s["runs"]] == ["1", "2"]


def test_explain_refuses_what_cannot_run(weft, workflow):
    said = weft("explain", workflow(n1=("Nope", {})))
    assert (said.code, "unknown-kind" in said.err) == (2, True)


def test_nodes_lists_kinds_by_category(weft):
    said = weft("nodes")
    lines = said.out.splitlines()
    assert "  TestSeeded" in lines[lines.index("test") + 1]
    assert said.code == 0


def test_nodes_describes_a_kind(weft):
    said = weft("nodes", "TestSeeded")
    assert "seed  INT, 0 to 18446744073709551615, default 0" in said.out
    assert "Its second part." in said.out
    assert "0 STRING" in said.out


def test_an_unknown_kind_is_met_with_the_nearest(weft):
    said = weft("nodes", "TestSeded")
    assert (said.code, "did you mean TestSeeded" in said.err) == (2, True)


def test_nodes_as_json_is_what_object_info_says(weft):
    info = json.loads(weft("nodes", "--json", "TestSeeded").out)["TestSeeded"]
    assert (info["name"], info["output"], info["output_node"]) == ("TestSeeded", ["STRING"], False)
    assert "TestWrite" in json.loads(weft("nodes", "--json").out)


def test_the_schema_accepts_a_workflow_and_refuses_a_wrong_one(weft, story):
    import jsonschema

    schema = json.loads(weft("schema").out)
    document = json.loads(story.read_text())
    jsonschema.validate(document, schema)
    document["1"]["inputs"]["seed"] = "many"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_models_tells_families_without_torch(weft, tmp_path):
    import safetensors.numpy
    from numpy import zeros

    folder = tmp_path / "models/loras"
    folder.mkdir(parents=True)
    names = ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight",)
    safetensors.numpy.save_file({name: zeros((4, 768), "f4") for name in names}, folder / "style.safetensors")
    (folder / "broken.safetensors").write_bytes(b"no")
    records = json.loads(weft("models", "loras", "--json").out)
    found = {record["name"]: (record["family"], record["role"]) for record in records}
    assert found == {
        "broken.safetensors": ("unknown", "unknown"),
        "style.safetensors": ("sd1", "lora"),
        "portrait-winter.safetensors": ("sd1", "lora"),
    }
    assert "unreadable" in weft("models").out
    assert weft("models", "lorras").code == 2


def test_any_model_in_the_folder_of_upscalers_is_tried(weft, tmp_path):
    import safetensors.numpy
    from numpy import zeros

    folder = tmp_path / "models/upscale_models"
    folder.mkdir(parents=True)
    safetensors.numpy.save_file({"to_img.weight": zeros((3, 3, 1, 1), "f4")}, folder / "novel.safetensors")
    (record,) = json.loads(weft("models", "upscale_models", "--json").out)
    assert (record["title"], record["supported"]) == ("upscaler", True)


def test_models_of_extra_paths_are_found_beside_the_root(weft, tmp_path):
    (tmp_path / "ui/models").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine.safetensors").write_bytes(b"no")
    (tmp_path / "ui/extra_model_paths.yaml").write_text("a:\n  base_path: ../elsewhere\n  loras: .\n")
    assert "mine.safetensors" in weft("models", "--models-dir", "ui/models").out
    assert weft("models", "--extra-model-paths", "nothing.yaml").code == 2


def test_doctor_reports_and_never_fails(weft, monkeypatch):
    monkeypatch.setenv("WEFT_DEVICE", "cuda:99")
    said = weft("doctor", "--json")
    found = json.loads(said.out)
    assert said.code == 0
    assert found["versions"]["weft"]
    assert "cuda:99" in found["devices"]["problem"]
    assert found["environment"]["WEFT_DEVICE"] == "cuda:99"
    assert "kinds" in weft("doctor").out


def test_every_command_has_help(weft):
    from engine.cli.app import weft as group

    for name in group.commands:
        said = weft(name, "--help")
        assert (said.code, said.out.startswith(f"Usage: weft {name}")) == (0, True)
    assert weft("--version").out.startswith("weft ")
    assert weft("no-such-command").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(weft, shell):
    said = weft("completion", shell)
    assert (said.code, "_WEFT_COMPLETE" in said.out) == (0, True)


def test_completion_knows_kinds_nodes_and_inputs(story):
    from click.shell_completion import ShellComplete

    from engine.cli.app import weft as group

    def offered(arguments, incomplete):
        return [item.value for item in ShellComplete(group, {}, "weft", "X").get_completions(arguments, incomplete)]

    assert offered([], "va") == ["validate"]
    assert offered(["nodes"], "TestS") == ["TestSeeded"]
    assert offered(["run", str(story), "--target"], "") == ["1", "Maker", "2"]
    assert offered(["run", str(story), "--set"], "Maker.s") == ["Maker.seed="]
    assert offered(["run", "nothing.json", "--set"], "") == []
