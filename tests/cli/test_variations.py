"""What a batch consists of and in which order it runs: pure functions."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import Manifest, Record, Text, arranged, axes, named_apart, read_jobs, variations
from engine.errors import FormatError, WeftError
from engine.graph import Graph, Link
from engine.settings import settle


@pytest.fixture
def catalog():
    return settle().catalog()


@pytest.fixture
def graph():
    maker = Graph().add("1", "TestSeeded", title="Maker", text="a", seed=7)
    return maker.add("2", "TestWrite", text=Link("1"), filename_prefix="x")


def settings(wanted):
    return [dict(v.settings) for v in wanted]


def test_a_grid_is_every_combination_and_the_last_axis_varies_fastest(graph, catalog):
    wanted = variations([graph], catalog, grid={"Maker.text": [Text("a"), Text("b")], "1.factor": [Text("1"), Text("2")]})
    assert settings(wanted) == [{"1.text": t, "1.factor": f} for t, f in product("ab", (1, 2))]
    assert list(axes(wanted)) == [("Maker.text", ("a", "b")), ("1.factor", ("1", "2"))]


def test_rows_grid_and_repetitions_multiply(graph, catalog):
    jobs = [{"1.text": "x"}, {"1.text": "y"}]
    wanted = variations([graph], catalog, jobs=jobs, grid={"1.factor": [1.0, 2.0, 3.0]}, repeat=2, seed=5)
    assert len(wanted) == 12
    assert [v.graph["1"].inputs["seed"] for v in wanted[:4]] == [5, 6, 5, 6]
    assert [v.index for v in wanted] == list(range(1, 13))
    assert wanted[0].labels == {"row": "1: x", "1.factor": "1.0", "seed": "5"}


def test_repetitions_take_successive_seeds_and_wrap(graph, catalog):
    wanted = variations([graph], catalog, sets={"1.seed": 2**64 - 1}, repeat=2)
    assert [v.graph["1"].inputs["seed"] for v in wanted] == [2**64 - 1, 0]


def test_repetitions_without_a_seed_are_refused(catalog):
    with pytest.raises(WeftError, match="no seed of its own"):
        variations([Graph().add("1", "PrimitiveInt", value=1)], catalog, repeat=2)


def test_repetitions_of_a_grid_of_seeds_line_up(graph, catalog):
    wanted = variations([graph], catalog, grid={"1.seed": [10, 20]}, repeat=2)
    assert [v.graph["1"].inputs["seed"] for v in wanted] == [10, 11, 20, 21]
    assert list(axes(wanted)) == [("1.seed", ("10", "20")), ("seed", ("+0", "+1"))]


def test_several_workflows_are_an_axis(workflow, catalog, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    node = {"n1": ("TestSeeded", {})}
    files = [workflow(name, **node) for name in ("a/w.json", "b/w.json", "other.json")]
    wanted = variations(files, catalog)
    assert [v.labels["workflow"] for v in wanted] == [str(files[0]), str(files[1]), "other"]


def test_a_key_names_content_and_nothing_else(graph, catalog):
    few = variations([graph], catalog, grid={"1.text": ["b"]})
    many = variations([graph.retitle("1", "Other")], catalog, grid={"1.text": ["a", "b"], "1.upper": [False, True]})
    assert few[0].key not in {v.key for v in many}
    again = variations([graph.retitle("2", "Other")], catalog, grid={"1.text": ["a", "b"]})
    assert few[0].key == again[1].key


def test_equal_variations_have_keys_of_their_own(graph, catalog):
    wanted = variations([graph], catalog, grid={"1.text": ["b", "b"]})
    assert len({v.key for v in wanted}) == 2
    assert list(axes(wanted)) == [("1.text", ("b", "b #2"))]


def test_an_edit_that_names_nothing_is_refused(graph, catalog):
    for place in ("1.txt", "3.text", "text", "Makre.text"):
        with pytest.raises(WeftError):
            variations([graph], catalog, grid={place: [1]})


def test_output_names_carry_the_index(graph, catalog):
    assert named_apart(graph, catalog, 12)["2"].inputs["filename_prefix"] == "x_0012"
    assert named_apart(graph.unset("2", "filename_prefix"), catalog, 3)["2"].inputs["filename_prefix"] == "text_0003"


def test_tables(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('﻿1.text, 1.seed\n"a, b",5\nc,\n', "utf-8")
    assert read_jobs(path) == [{"1.text": "a, b", "1.seed": "5"}, {"1.text": "c"}]
    path = tmp_path / "t.jsonl"
    path.write_text('{"1.text": "5", "1.seed": ["3", 0]}\n\n{}\n')
    assert read_jobs(path) == [{"1.text": "5", "1.seed": Link("3", 0)}, {}]


@pytest.mark.parametrize(
    ("name", "content"), [("t.csv", "a.b\n1,2\n"), ("t.jsonl", "{"), ("t.jsonl", "[]"), ("t.csv", b"\xff\xfe")]
)
def test_bad_tables_are_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FormatError, match=name):
        read_jobs(path)
    with pytest.raises(FormatError, match="nothing"):
        read_jobs(tmp_path / "nothing.csv")


# --- order


def runs_of(rows, order, key):
    """How often `key` would be computed by something that keeps only the results of the last row."""
    holds = [key in rows[i] for i in order]
    return sum(1 for now, before in zip(holds, [False, *holds], strict=False) if now and not before)


def test_what_is_shared_most_stands_together():
    # loaders L, prompts P, seeds S, asked for with the loader varying fastest
    rows = [
        (loader, loader + prompt, loader + prompt + seed)
        for seed, prompt, loader in product((b"1", b"2"), (b"p", b"q"), (b"L", b"M"))
    ]
    order = arranged(rows)
    assert sorted(order) == list(range(8))
    for key in {key for row in rows for key in row}:
        assert runs_of(rows, order, key) == 1


def test_the_given_order_is_kept_where_nothing_is_shared():
    assert arranged([(b"a",), (b"b",), (b"c",)]) == (0, 1, 2)
    assert arranged([(b"x", b"a"), (b"x", b"b")]) == (0, 1)
    assert arranged([]) == ()


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), max_size=40))
def test_every_key_of_a_tree_is_computed_once(paths):
    rows = [tuple(bytes(path[: i + 1]) for i in range(3)) for path in paths]
    order = arranged(rows)
    assert sorted(order) == list(range(len(rows)))
    for key in {key for row in rows for key in row}:
        assert runs_of(rows, order, key) == 1


@given(st.lists(st.lists(st.binary(min_size=1, max_size=1), max_size=5).map(tuple), max_size=30))
def test_order_is_a_permutation_of_anything(rows):
    assert sorted(arranged(rows)) == list(range(len(rows)))


# --- manifest


def record(key, status="completed", **more):
    return Record(1, key, "w", status, **more)


def test_a_manifest_remembers_what_was_completed(tmp_path):
    book = Manifest(tmp_path / "deep" / "m.jsonl")
    assert book.finished() == {}
    book.append(record("a", files=(tmp_path / "deep" / "x.png",), seconds=1.5))
    book.append(record("b", "failed", error="no"))
    assert list(book.finished()) == ["a"]
    assert book.finished()["a"].files == (tmp_path / "deep" / "x.png",)
    assert json.loads(book.path.read_text().splitlines()[0])["files"] == ["x.png"]


def test_a_line_cut_off_by_a_kill_does_no_harm(tmp_path):
    book = Manifest(tmp_path / "m.jsonl")
    book.append(record("a"))
    with book.path.open("ab") as file:
        file.write(b'{"variation": 2, "key": "b", "work')
    book.append(record("c"))
    assert list(book.finished()) == ["a", "c"]
