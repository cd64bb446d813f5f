"""A file is what it holds: a replaced file is noticed, a copied one is the same."""

from __future__ import annotations

import os

from engine import Link


def test_a_replaced_file_under_the_same_name_is_noticed(bench, graph):
    bench.run(graph, ["decode"])
    path = bench.root / "checkpoints" / "model.safetensors"
    path.write_text("n")
    os.utime(path, ns=(1, 1))
    assert bench.run(graph, ["decode"]) == "ran load, ran text, ran denoise, ran decode"
    assert bench.result.value("decode") == "CAT@N#1X20"


def test_a_replaced_file_with_the_same_content_is_not_read_again(bench, graph):
    bench.run(graph, ["decode"])
    path = bench.root / "checkpoints" / "model.safetensors"
    path.unlink()
    path.write_text("m")
    os.utime(path, ns=(1, 1))
    assert bench.run(graph, ["decode"]) == "hit load, hit text, hit denoise, hit decode"


def test_two_names_of_one_content_share_a_result(bench, graph):
    (bench.root / "checkpoints" / "copy.safetensors").write_text("m")
    graph = graph.add("copy", "Load", file="copy.safetensors").add("t2", "Text", model=Link("copy"), prompt="cat")
    assert bench.run(graph, ["text", "t2"]) == "ran load, ran text, hit copy, hit t2"


def test_a_removed_file_is_a_problem_at_the_next_run(bench, graph):
    import pytest

    from engine import WorkflowInvalid

    bench.run(graph, ["decode"])
    (bench.root / "checkpoints" / "model.safetensors").unlink()
    with pytest.raises(WorkflowInvalid) as caught:
        bench.run(graph, ["decode"])
    assert [p.code for p in caught.value.problems] == ["missing-file"]
