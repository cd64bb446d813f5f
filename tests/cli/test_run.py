import json

import pytest
import safetensors.torch


def test_run_prints_the_files_that_it_wrote(weft, story, tmp_path):
    said = weft("run", story, "--no-json")
    assert said.code == 0
    assert said.out.splitlines() == ["output/story_00001_.txt"]
    assert (tmp_path / "output/story_00001_.txt").read_text() == "a|7|1.0"


def test_without_a_terminal_events_are_lines_of_json(weft, story):
    said = weft("run", story)
    assert [r["type"] for r in said.records] == [
        "run_started",
        "node_started",
        "node_finished",
        "node_started",
        "node_finished",
        "run_finished",
        "result",
    ]
    assert said.records[-1]["files"] == ["output/story_00001_.txt"]
    assert said.records[-1]["ran"] == ["1", "2"]


def test_a_second_run_computes_only_what_changed(weft, story):
    assert weft("run", story).records[-1]["ran"] == ["1", "2"]
    assert weft("run", story).records[-1]["ran"] == ["2"]
    assert weft("run", story, "--seed", "8").records[-1]["ran"] == ["1", "2"]
    assert weft("run", story, "--no-cache").records[-1]["ran"] == ["1", "2"]


def test_a_cache_that_cannot_be_written_costs_the_cache_and_not_the_run(weft, story, tmp_path):
    (tmp_path / "file").touch()
    said = weft("run", story, "--cache-dir", tmp_path / "file" / "cache")
    assert (said.code, "results are not kept" in said.err) == (0, True)


def test_inputs_are_set_by_id_and_by_title(weft, story, tmp_path):
    assert weft("run", story, "--set", "1.text=x y", "--set", "Maker.factor=2.5", "--set", "1.upper=true").code == 0
    assert (tmp_path / "output/story_00001_.txt").read_text() == "X Y|7|2.5"


def test_a_text_port_keeps_digits_and_json_as_text(weft, story, tmp_path):
    for number, (given, held) in enumerate([("12", "12"), ("true", "true"), ('"12"', "12"), ('["1", 0]', '["1", 0]')], 1):
        assert weft("run", story, "--set", f"1.text={given}").code == 0
        assert (tmp_path / f"output/story_0000{number}_.txt").read_text() == f"{held}|7|1.0"


def test_seed_sets_every_seed_that_is_not_linked(weft, workflow, tmp_path):
    file = workflow(
        n1=("PrimitiveInt", {"value": 3}),
        n2=("TestSeeded", {"text": "linked", "seed": ["1", 0]}),
        n3=("TestSeeded", {"text": "own", "seed": 4}),
        n4=("TestSeeded", {"text": "absent"}),
        n5=("TestWrite", {"text": ["2", 0], "filename_prefix": "linked"}),
        n6=("TestWrite", {"text": ["3", 0], "filename_prefix": "own"}),
        n7=("TestWrite", {"text": ["4", 0], "filename_prefix": "absent"}),
    )
    assert weft("run", file, "--seed", 99).code == 0
    texts = {p.name.split("_")[0]: p.read_text() for p in (tmp_path / "output").iterdir()}
    assert texts == {"linked": "linked|3|1.0", "own": "own|99|1.0", "absent": "absent|99|1.0"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "1.txet=x"], "did you mean text"),
        (["--set", "Makr.text=x"], "did you mean 'Maker'"),
        (["--set", "nonsense"], "NODE.INPUT=VALUE"),
        (["--save", "1:9=x.json"], "its outputs: 0 STRING"),
        (["--save", "1=x.safetensors"], "STRING cannot be written"),
        (["--seed", "-1"], "not in the range"),
        (["--dtype", "float8"], "float8"),
        (["--target", "nothing"], "unknown-target"),
        (["--set", "1.seed=-1"], "below-minimum"),
        (["--set", "1.factor=much"], "invalid-value"),
        (["--nodes", "no_such_package"], "no_such_package"),
    ],
)
def test_wrong_arguments_are_exit_code_2_and_named(weft, story, arguments, text):
    said = weft("run", story, "--no-json", *arguments)
    assert (said.code, text in said.err) == (2, True), said.err


def test_a_wrong_workflow_is_exit_code_2_with_every_problem_on_a_line(weft, workflow):
    file = workflow(n1=("TestSeded", {}), n2=("TestWrite", {}))
    said = weft("run", file)
    assert said.code == 2
    assert [line.split("] ")[0].rpartition("[")[2] for line in said.err.splitlines()] == ["unknown-kind", "missing-input"]
    assert [r["code"] for r in said.records] == ["unknown-kind", "missing-input"]
    assert "did you mean 'TestSeeded'" in said.records[0]["hint"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"1": 2}'])
def test_a_file_that_is_no_workflow_is_exit_code_2(weft, tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_text(content)
    said = weft("run", path)
    assert (said.code, "bad.json" in said.err) == (2, True)


def test_a_file_that_is_not_there_is_exit_code_2(weft):
    assert weft("run", "nothing.json").code == 2


def test_a_failing_node_is_exit_code_1_with_inputs_and_cause(weft, workflow):
    file = workflow(n1__Odd=("TestFail", {"text": "this"}), n2=("TestWrite", {"text": ["1", 0]}))
    said = weft("run", file, "--no-json")
    assert said.code == 1
    assert "node 1 (TestFail 'Odd') failed: ValueError: cannot do this" in said.err
    assert "inputs: text='this'" in said.err
    assert "Traceback" not in said.err
    assert "weft_test_nodes.py" in weft("run", file, "--debug").err
    failure = next(r for r in weft("run", file).records if r["type"] == "failure")
    assert (failure["node"], failure["cause"], failure["inputs"]) == ("1", "ValueError", {"text": "'this'"})


def test_keep_going_completes_what_does_not_depend_on_the_failure(weft, workflow, tmp_path):
    file = workflow(
        n1=("TestFail", {"text": "this"}),
        n2=("TestWrite", {"text": ["1", 0], "filename_prefix": "bad"}),
        n3=("TestWrite", {"text": "fine", "filename_prefix": "good"}),
    )
    said = weft("run", file, "--keep-going")
    assert said.code == 1
    assert said.records[-1]["status"] == "failed"
    assert [p.name for p in (tmp_path / "output").iterdir()] == ["good_00001_.txt"]


def test_what_was_not_computed_is_not_saved(weft, workflow, tmp_path):
    file = workflow(
        n1=("TestFail", {"text": "this"}),
        n2=("TestSeeded", {"text": ["1", 0]}),
        n3=("TestSeeded", {"text": "fine"}),
    )
    said = weft("run", file, "--keep-going", "--save", "1=a.json", "--save", "2=b.json", "--save", "3=c.json")
    assert (said.code, said.records[-1]["files"]) == (1, ["c.json"])


def test_a_target_runs_instead_of_the_outputs(weft, story, tmp_path):
    assert weft("run", story, "--target", "Maker").records[-1]["ran"] == ["1"]
    assert not (tmp_path / "output").exists()


def test_save_writes_a_port_beside_the_outputs(weft, story, tmp_path):
    said = weft("run", story, "--save", "Maker=deep/made.json", "--save", "1:STRING=made.txt", "--out", "there")
    assert said.records[-1]["files"] == ["there/story_00001_.txt", "deep/made.json", "made.txt"]
    assert json.loads((tmp_path / "deep/made.json").read_text()) == "a|7|1.0"
    assert (tmp_path / "made.txt").read_text() == "a|7|1.0"


def test_save_alone_needs_no_output_node(weft, workflow, tmp_path):
    file = workflow(n1=("PrimitiveInt", {"value": 5}))
    assert weft("run", file, "--save", "1=five.json").code == 0
    assert json.loads((tmp_path / "five.json").read_text()) == 5


def test_pictures_are_saved_as_pictures_and_tensors_by_field_name(weft, workflow, tmp_path):
    import PIL.Image

    file = workflow(
        n1=("EmptyImage", {"width": 24, "height": 16, "batch_size": 2, "color": 255}),
        n2=("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
    )
    said = weft("run", file, "--save", "1=p.png", "--save", "1=t.safetensors", "--save", "2=l.safetensors")
    assert said.records[-1]["files"] == ["p_00001.png", "p_00002.png", "t.safetensors", "l.safetensors"]
    with PIL.Image.open("p_00002.png") as picture:
        assert (picture.size, picture.getpixel((3, 3))) == ((24, 16), (0, 0, 255))
    assert safetensors.torch.load_file(tmp_path / "t.safetensors")["tensor"].shape == (2, 16, 24, 3)
    assert safetensors.torch.load_file(tmp_path / "l.safetensors")["samples"].shape == (1, 4, 8, 8)


def test_a_saved_picture_runs_again(weft, workflow, tmp_path):
    file = workflow(
        n1=("EmptyImage", {"width": 16, "height": 16, "batch_size": 1, "color": 1}),
        n2=("SaveImage", {"images": ["1", 0], "filename_prefix": "p"}),
    )
    assert weft("run", file).code == 0
    assert weft("run", "output/p_00001_.png", "--set", "1.color=2").code == 0
    assert sorted(p.name for p in (tmp_path / "output").iterdir()) == ["p_00001_.png", "p_00002_.png"]


def test_a_workflow_comes_from_standard_input(start, story):
    import subprocess
    import sys

    process = subprocess.run(
        [sys.executable, "-m", "engine", "run", "-", "--no-json"],
        input=story.read_bytes(),
        capture_output=True,
        check=False,
        env={**__import__("os").environ, "PYTHONPATH": str(__import__("pathlib").Path(__file__).parents[2])},
    )
    assert (process.returncode, process.stdout.decode().strip()) == (0, "output/story_00001_.txt")


def test_an_ignored_input_is_warned_of(weft, workflow):
    file = workflow(n1=("TestWrite", {"text": "x", "colour": 3}))
    said = weft("run", file)
    assert said.code == 0
    assert "warning[unknown-input]" in said.err


@pytest.mark.parametrize(("kind", "inputs"), [("SaveAnimatedWEBP", {"method": "fastest"}), ("SaveAnimatedPNG", {})])
def test_a_moving_picture_is_a_workflow(weft, workflow, tmp_path, kind, inputs):
    file = workflow(
        n1=("EmptyImage", {"width": 16, "height": 16, "batch_size": 2, "color": 255}),
        n2=(kind, {"images": ["1", 0], "filename_prefix": "moving", **inputs}),
    )
    assert weft("run", file).code == 0
    (first,) = (tmp_path / "output").iterdir()

    said = weft("run", first, "--set", "1.color=65280")

    assert said.records[-1]["files"] == [f"output/moving_00002_{first.suffix}"]
