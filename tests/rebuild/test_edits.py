"""An edit re-runs exactly what it changed and what lies below."""

from __future__ import annotations

from engine import Graph, Link, Mode

ALL_RAN = "ran load, ran text, ran denoise, ran decode"
ALL_HIT = "hit load, hit text, hit denoise, hit decode"


def test_first_run_runs_everything(bench, graph):
    assert bench.run(graph, ["decode"]) == ALL_RAN
    assert bench.result.value("decode") == "CAT@M#1X20"
    assert bench.why("decode") == "first run"


def test_the_same_graph_again_runs_nothing(bench, graph):
    bench.run(graph, ["decode"])
    assert bench.run(graph, ["decode"]) == ALL_HIT
    assert bench.result.value("decode") == "CAT@M#1X20"


def test_editing_a_seed_runs_the_sampler_and_what_follows(bench, graph):
    bench.run(graph, ["decode"])
    assert bench.run(graph.set("denoise", seed=2), ["decode"]) == "hit load, hit text, ran denoise, ran decode"
    assert bench.why("denoise") == "changed: seed"
    assert bench.why("decode") == "changed: latent"
    assert bench.result.value("decode") == "CAT@M#2X20"


def test_editing_a_title_runs_nothing(bench, graph):
    bench.run(graph, ["decode"])
    assert bench.run(graph.retitle("denoise", "My sampler"), ["decode"]) == ALL_HIT


def test_writing_a_default_out_runs_nothing(bench, graph):
    bench.run(graph, ["decode"])
    assert bench.run(graph.set("denoise", steps=20), ["decode"]) == ALL_HIT


def test_going_back_to_an_earlier_value_runs_nothing(bench, graph):
    bench.run(graph, ["decode"])
    bench.run(graph.set("denoise", seed=2), ["decode"])
    assert bench.run(graph, ["decode"]) == ALL_HIT
    assert bench.result.value("decode") == "CAT@M#1X20"


def test_a_change_that_leaves_the_type_but_not_the_value(bench, graph):
    bench.run(graph, ["decode"])
    assert bench.run(graph.set("text", prompt="dog"), ["decode"]) == "hit load, ran text, ran denoise, ran decode"


def test_relinking_runs_what_is_below_the_link(bench, graph):
    graph = graph.add("text2", "Text", model=Link("load"), prompt="dog")
    bench.run(graph, ["decode"])
    relinked = graph.set("denoise", text=Link("text2"))
    assert bench.run(relinked, ["decode"]) == "hit load, ran denoise, ran decode, ran text2"
    assert bench.why("denoise") == "changed: text"


def test_an_added_node_runs_alone(bench, graph):
    bench.run(graph, ["decode"])
    more = graph.add("again", "Decode", latent=Link("text"))
    assert bench.run(more, ["again"]) == "hit load, hit text, ran again"


def test_a_target_runs_only_what_it_needs(bench, graph):
    assert bench.run(graph, ["text"]) == "ran load, ran text"
    assert bench.run(graph, ["decode"]) == "hit load, hit text, ran denoise, ran decode"


def test_an_effect_runs_every_time_and_nothing_else_does(bench, graph):
    graph = graph.add("save", "Save", image=Link("decode"))
    bench.run(graph)
    assert bench.run(graph) == "hit load, hit text, hit denoise, hit decode, ran save"
    assert bench.why("save") == "effect"
    assert bench.result.shown["save"].entries == {"text": ("CAT@M#1X20",)}


def test_two_equal_effects_both_happen(bench, graph):
    graph = graph.add("save", "Save", image=Link("decode")).add("save2", "Save", image=Link("decode"))
    bench.run(graph)
    assert bench.run(graph) == "hit load, hit text, hit denoise, hit decode, ran save, ran save2"
    assert set(bench.result.shown) == {"save", "save2"}


def test_twins_share_one_result(bench, graph):
    graph = graph.add("twin", "Denoise", text=Link("text"), seed=1, steps=20).add("other", "Decode", latent=Link("twin"))
    assert bench.run(graph, ["decode", "other"]) == "ran load, ran text, ran denoise, ran decode, hit twin, hit other"
    assert bench.why("twin") == "twin"
    assert bench.result.value("other") == bench.result.value("decode")


def test_ids_do_not_matter(bench, graph):
    bench.run(graph, ["decode"])
    renamed = Graph({f"n{i}": n for i, n in graph.nodes.items()})
    for node_id, node in list(renamed.nodes.items()):
        links = {k: Link(f"n{v.node}", v.port) for k, v in node.inputs.items() if isinstance(v, Link)}
        renamed = renamed.set(node_id, **links) if links else renamed
    assert bench.run(renamed, ["ndecode"]) == "hit nload, hit ntext, hit ndenoise, hit ndecode"


def test_forced_nodes_run_though_known(bench, graph):
    bench.run(graph, ["decode"])
    assert bench.run(graph, ["decode"], force=["decode"]) == "hit load, hit text, hit denoise, ran decode"
    assert bench.why("decode") == "forced"


def test_a_bypassed_node_passes_its_input(bench, graph):
    bench.run(graph, ["decode"])
    bypassed = graph.set_mode("denoise", Mode.BYPASSED)
    assert bench.run(bypassed, ["decode"]) == "hit load, hit text, ran decode"
    assert bench.result.value("decode") == "CAT@M"


def test_muting_and_unmuting_runs_nothing_new(bench, graph):
    graph = graph.add("save", "Save", image=Link("decode"))
    bench.run(graph)
    muted = graph.set_mode("save", Mode.MUTED).add("save2", "Save", image=Link("text"))
    assert bench.run(muted) == "hit load, hit text, ran save2"


def test_the_same_document_read_again_runs_nothing(bench, tmp_path):
    import json

    document = {
        "a": {"class_type": "Load", "inputs": {"file": "model.safetensors"}},
        "b": {"class_type": "Text", "inputs": {"model": ["a", 0], "prompt": "x"}, "_meta": {"title": "T"}},
    }
    path = tmp_path / "w.json"
    path.write_text(json.dumps(document))
    assert bench.engine.run(path, ["b"]).report.ran == ("a", "b")
    assert bench.engine.run(path, ["b"]).report.ran == ()
    document["b"]["_meta"]["title"] = "Other"
    path.write_text(json.dumps(dict(reversed(document.items()))))
    assert bench.engine.run(path, ["b"]).report.ran == ()
    document["b"]["inputs"]["prompt"] = "y"
    path.write_text(json.dumps(document))
    assert bench.engine.run(path, ["b"]).report.ran == ("b",)
