import json
import signal

import pytest


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_variations_share_a_process_and_never_a_file(weft, story, tmp_path):
    said = weft("batch", story, "--grid", "Maker.text=a,b", "--repeat", 2, "--no-json")
    assert said.code == 0
    names = sorted(p.name for p in (tmp_path / "output").glob("*.txt"))
    assert names == [f"story_000{i}_00001_.txt" for i in (1, 2, 3, 4)]
    assert [(tmp_path / "output" / n).read_text() for n in names] == ["a|7|1.0", "a|8|1.0", "b|7|1.0", "b|8|1.0"]
    book = lines(tmp_path / "output/manifest.jsonl")
    assert [(r["variation"], r["status"], r["set"]) for r in book] == [
        (1, "completed", {"1.text": "a", "1.seed": 7}),
        (2, "completed", {"1.text": "a", "1.seed": 8}),
        (3, "completed", {"1.text": "b", "1.seed": 7}),
        (4, "completed", {"1.text": "b", "1.seed": 8}),
    ]


def test_shared_parts_run_once_whatever_the_order_asked_for(weft, workflow, tmp_path):
    file = workflow(
        n1=("PrimitiveString", {"value": "x"}),
        n2=("TestSeeded", {"text": ["1", 0]}),
        n3=("TestSeeded", {"text": ["2", 0], "seed": 1}),
        n4=("TestWrite", {"text": ["3", 0]}),
    )
    said = weft("batch", file, "--grid", "3.seed=1,2,3", "--grid", "1.value=p,q")
    assert [r["set"]["1.value"] for r in said.records[:-1]] == ["p", "p", "p", "q", "q", "q"]
    assert [r["hits"] for r in said.records[:-1]] == [0, 2, 2, 0, 2, 2]


def test_one_that_fails_does_not_stop_the_rest(weft, workflow, tmp_path):
    file = workflow(
        n1=("TestSeeded", {"text": "a"}),
        n2=("TestWrite", {"text": ["1", 0], "filename_prefix": "x"}),
    )
    said = weft("batch", file, "--grid", "1.factor=1,bad,3", "--no-json")
    assert said.code == 1
    assert len(said.out.splitlines()) == 2
    assert "variation 2" in said.err
    assert [r["status"] for r in lines(tmp_path / "output/manifest.jsonl")] == ["invalid", "completed", "completed"]


def test_a_failing_node_fails_its_variation_only(weft, workflow, tmp_path):
    good = workflow("good.json", n1=("TestWrite", {"text": "fine"}))
    bad = workflow("bad.json", n1=("TestFail", {"text": "this"}), n2=("TestWrite", {"text": ["1", 0]}))
    said = weft("batch", bad, good)
    assert said.code == 1
    assert [(r["status"], "cannot do this" in r.get("error", "")) for r in said.records[:-1]] == [
        ("failed", True),
        ("completed", False),
    ]


def test_a_table_gives_a_variation_for_each_row(weft, story, tmp_path):
    (tmp_path / "t.csv").write_text('Maker.text,Maker.seed\n"hello, world",1\n12,\n')
    assert weft("batch", story, "--jobs", "t.csv", "--set", "1.factor=2").code == 0
    texts = [p.read_text() for p in sorted((tmp_path / "output").glob("*.txt"))]
    assert texts == ["hello, world|1|2.0", "12|7|2.0"]


def test_resume_repeats_nothing_that_is_finished(weft, story, tmp_path):
    weft("batch", story, "--grid", "1.seed=1,2")
    said = weft("batch", story, "--grid", "1.seed=2,3,1", "--resume")
    assert [r["set"] for r in said.records[:-1]] == [{"1.seed": 3}]
    assert said.records[-1]["already_done"] == 2
    assert len(list((tmp_path / "output").glob("*.txt"))) == 3


def test_resume_after_a_kill_goes_on_where_it_was(start, weft, workflow, flag, tmp_path):
    file = workflow(
        n1=("TestWait", {"text": "x", "steps": 0}),
        n2=("TestWrite", {"text": ["1", 0], "filename_prefix": "x"}),
    )
    table = tmp_path / "t.jsonl"
    rows = [{"1.text": "a"}, {"1.text": "b"}, {"1.text": "c", "1.steps": 100_000, "1.flag": str(flag)}, {"1.text": "d"}]
    table.write_text("\n".join(map(json.dumps, rows)))
    process = start("batch", file, "--jobs", table)
    flag.wait(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    book = tmp_path / "output/manifest.jsonl"
    assert [r["set"]["1.text"] for r in lines(book)] == ["a", "b"]
    rows[2]["1.steps"] = 1
    table.write_text("\n".join(map(json.dumps, rows)))
    said = weft("batch", file, "--jobs", table, "--resume")
    assert said.code == 0
    assert [r["set"]["1.text"] for r in lines(book)] == ["a", "b", "c", "d"]
    assert sorted(p.read_text() for p in (tmp_path / "output").glob("*.txt")) == ["a", "b", "c", "d"]


def test_ctrl_c_stops_the_batch(start, workflow, flag):
    file = workflow(n1=("TestWait", {"flag": str(flag)}), n2=("TestWrite", {"text": ["1", 0]}))
    process = start("batch", file, "--grid", "1.text=a,b")
    flag.wait(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "--resume goes on" in err) == (130, True)


def test_a_dry_run_lists_and_does_nothing(weft, story, tmp_path):
    said = weft("batch", story, "--grid", "1.seed=1,2", "--dry-run", "--no-json")
    assert said.out.splitlines()[:2] == [f"0001  {story}  1.seed=1", f"0002  {story}  1.seed=2"]
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--grid", "1.sed=1,2"], ["--grid", "1.seed"], ["--grid", "1.seed=1,,2"], ["--jobs", "nothing.csv"], ["--repeat", "0"]],
)
def test_wrong_arguments_are_exit_code_2(weft, story, arguments):
    assert weft("batch", story, *arguments).code == 2


def test_values_of_a_grid_may_hold_commas(weft, story, tmp_path):
    said = weft("batch", story, "--grid", '1.text=["a, b", "c"]', "--grid", '1.seed="1",2', "--dry-run", "--json")
    assert [r["set"]["1.text"] for r in said.records] == ["a, b", "a, b", "c", "c"]
    said = weft("batch", story, "--grid", '1.text="a, b",c', "--dry-run", "--json")
    assert [r["set"]["1.text"] for r in said.records] == ["a, b", "c"]


# --- contact sheets


@pytest.fixture
def canvas(workflow):
    return workflow(
        n1__Canvas=("EmptyImage", {"width": 96, "height": 64, "batch_size": 1, "color": 255}),
        n2=("SaveImage", {"images": ["1", 0], "filename_prefix": "x"}),
    )


def test_a_sheet_shows_every_point_of_a_grid_in_its_place(weft, canvas, tmp_path):
    import PIL.Image

    said = weft(
        "batch", canvas, "--grid", "Canvas.color=255,65280", "--grid", "1.width=96,64,9999999", "--sheet", "out/grid.png"
    )
    assert (said.code, said.records[-1]["sheet"]) == (1, "out/grid.png")
    with PIL.Image.open("out/grid.png") as sheet:
        picture = sheet.convert("RGB")
    width, height = picture.size
    blue = [(x, y) for x in range(width) for y in range(height) if picture.getpixel((x, y)) == (0, 0, 255)]
    green = [(x, y) for x in range(width) for y in range(height) if picture.getpixel((x, y)) == (0, 255, 0)]
    assert len(blue) == len(green) == 96 * 64 + 64 * 64
    assert max(y for _, y in blue) < min(y for _, y in green)
    assert any(picture.getpixel((x, y)) == (228, 228, 231) for x in range(width // 2, width) for y in range(height))


def test_a_sheet_after_resuming_shows_what_was_there_before(weft, canvas, tmp_path):
    weft("batch", canvas, "--grid", "1.color=255,65280")
    weft("batch", canvas, "--grid", "1.color=255,65280,16711680", "--resume", "--sheet", "s.png")
    import PIL.Image

    with PIL.Image.open("s.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(100_000)}
    assert {(0, 0, 255), (0, 255, 0), (255, 0, 0)} <= colours
