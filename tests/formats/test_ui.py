"""The page's own format: what a document means, and that nothing of it is lost."""

from __future__ import annotations

import itertools
import json
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Catalog, Engine, Graph, Link, node
from engine.errors import FormatError
from engine.formats import ui
from engine.formats.api import read_api, write_api
from engine.formats.files import Reader, load
from engine.formats.ui import read_ui
from engine.formats.ui_write import write_ui
from engine.schema import Choice, Widget


@node("Say")
def say(
    *,
    text: str,
    times: int = 1,
    seed: Annotated[int, Widget(control_after_generate=True)] = 0,
    how: Annotated[str, Choice(["plain", "loud"])] = "plain",
) -> str:
    """Say something.

    Args:
        text: What.
        times: How often.
        seed: Of chance.
        how: In which voice.
    """
    return (text.upper() if how == "loud" else text) * times


@node("Join")
def join(*, a: str, b: str = "") -> str:
    """Join two texts.

    Args:
        a: One.
        b: Other.
    """
    return f"{a}+{b}"


@node("Show", effect=True)
def show(*, text: str) -> str:
    """Show a text.

    Args:
        text: The text.
    """
    return text


CATALOG = Catalog([say, join, show])


def part(node_id: Any, kind: str, *, inputs: Any = (), outputs: Any = (), **more: Any) -> dict[str, Any]:
    """A node: inputs as (name, type, link) or (name, type, link, widget), outputs as (name, type)."""
    slots = [dict(zip(("name", "type", "link", "widget"), slot, strict=False)) for slot in inputs]
    for slot in slots:
        if "widget" in slot:
            slot["widget"] = {"name": slot["widget"]}
    return {
        "id": node_id,
        "type": kind,
        "mode": 0,
        "inputs": slots,
        "outputs": [{"name": name, "type": type_, "links": []} for name, type_ in outputs],
        **more,
    }


def page(*nodes: dict[str, Any], links: Any = (), **more: Any) -> dict[str, Any]:
    return {"nodes": list(nodes), "links": [list(link) for link in links], "version": 0.4, **more}


def subgraph(name: str, *nodes: dict[str, Any], links: Any, inputs: Any = (), outputs: Any = ()) -> dict[str, Any]:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return {
        "id": name,
        "version": 1,
        "name": name,
        "inputNode": {"id": -10},
        "outputNode": {"id": -20},
        "inputs": [{"id": i, "name": i, "type": "STRING"} for i in inputs],
        "outputs": [{"id": o, "name": o, "type": "STRING"} for o in outputs],
        "nodes": list(nodes),
        "links": [dict(zip(names, link, strict=True)) for link in links],
    }


def flat(document: Any) -> dict[str, Any]:
    """Id to inputs of everything that runs."""
    return {i: dict(n.inputs) for i, n in read_ui(document, CATALOG).nodes.items()}


TEXT = (("STRING", "STRING"),)
SAY = part(1, "Say", outputs=TEXT, widgets_values=["hi", 2, 7, "randomize", "loud"])


def test_values_are_those_of_the_widgets_in_order():
    assert flat(page(SAY)) == {"1": {"text": "hi", "times": 2, "seed": 7, "how": "loud"}}


@pytest.mark.parametrize(
    "values",
    [
        ["hi", 2, 7, "loud"],  # before the control was there
        ["hi", 2, "fixed", 7, "fixed", "loud"],  # `times` had one as well
        ["hi", 2, 7, False, "loud"],  # an old control
        ["hi", 2, 7, "increment", "loud", "image", None],  # helpers of the page at the end
        {"how": "loud", "seed": 7, "text": "hi", "times": 2},
    ],
    ids=str,
)
def test_values_of_older_and_odd_files_are_found(values):
    assert flat(page({**SAY, "widgets_values": values}))["1"] == {"text": "hi", "times": 2, "seed": 7, "how": "loud"}


def test_names_come_before_places():
    named = {"text": "by name", "times": 3, "seed": 1, "control_after_generate": "fixed", "how": "plain"}
    assert flat(page({**SAY, "widgets_values_named": named}))["1"]["text"] == "by name"


def test_what_a_file_leaves_out_is_the_default():
    assert flat(page({**SAY, "widgets_values": ["hi"]}))["1"] == {"text": "hi", "times": 1, "seed": 0, "how": "plain"}


def test_a_kind_that_is_not_installed_keeps_its_values():
    named = part(1, "Stranger", widgets_values=[5, "randomize", "x"], widgets_values_named={"n": 5, "control_after_generate": "randomize", "t": "x"})  # fmt: skip
    by_sockets = part(2, "Stranger", inputs=[("seed", "INT", None, "seed"), ("t", "STRING", None, "t")], widgets_values=[5, "randomize", "x"])  # fmt: skip
    assert flat(page(named, by_sockets)) == {"1": {"n": 5, "t": "x"}, "2": {"seed": 5, "t": "x"}}


def test_the_widgets_of_the_fields_kinds_are_known_though_they_are_not_installed():
    sampler = part(3, "KSampler", widgets_values=[42, "randomize", 20, 7.5, "sample_euler", "normal", 1])
    expected = {"seed": 42, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
    assert {k: dict(n.inputs) for k, n in read_ui(page(sampler)).nodes.items()} == {"3": expected}


def test_the_worked_example_of_the_field():
    document = page(
        part(3, "KSampler", inputs=[("model", "MODEL", 1), ("positive", "CONDITIONING", 4), ("negative", "CONDITIONING", 6), ("latent_image", "LATENT", 2), ("steps", "INT", 9, "steps")], widgets_values=[42, "randomize", 20, 7.5, "euler", "normal", 1]),
        part(4, "CheckpointLoaderSimple", outputs=[("MODEL", "MODEL")]),
        part(5, "EmptyLatentImage", outputs=[("LATENT", "LATENT")]),
        part(6, "CLIPTextEncode", outputs=[("CONDITIONING", "CONDITIONING")]),
        part(10, "LoraLoaderModelOnly", inputs=[("model", "MODEL", 7)], outputs=[("MODEL", "MODEL")], mode=4),
        part(30, "Reroute", inputs=[("", "*", 8)], outputs=[("", "*")]),
        part(31, "PrimitiveInt", outputs=[("INT", "INT")], widgets_values=[12, "fixed"]),
        links=[(1, 10, 0, 3, 0, "MODEL"), (2, 5, 0, 3, 3, "LATENT"), (4, 6, 0, 3, 1, "CONDITIONING"), (6, 6, 0, 3, 2, "CONDITIONING"), (7, 4, 0, 10, 0, "MODEL"), (8, 31, 0, 30, 0, "*"), (9, 30, 0, 3, 4, "INT")],
    )  # fmt: skip
    sampler = write_api(read_ui(document))["3"]["inputs"]
    assert sampler == {
        "seed": 42, "steps": ["31", 0], "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
        "model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0],
    }  # fmt: skip


def test_a_primitive_gives_its_value_to_every_widget_that_it_feeds():
    document = page(
        part(9, "PrimitiveNode", outputs=[("STRING", "STRING")], widgets_values=["given", "fixed"]),
        part(1, "Say", inputs=[("text", "STRING", 1, "text")], widgets_values=["own"]),
        part(2, "Say", inputs=[("text", "STRING", 2, "text")], widgets_values=["own"]),
        links=[(1, 9, 0, 1, 0, "STRING"), (2, 9, 0, 2, 0, "STRING")],
    )
    assert {i: inputs["text"] for i, inputs in flat(document).items()} == {"1": "given", "2": "given"}


def test_notes_and_muted_nodes_do_not_run_and_a_widget_below_one_keeps_its_value():
    document = page(
        part(8, "Note", widgets_values=["read me"]),
        part(9, "Say", outputs=TEXT, mode=2),
        part(1, "Say", inputs=[("text", "STRING", 1, "text")], widgets_values=["own"]),
        part(2, "Join", inputs=[("a", "STRING", 2)]),
        links=[(1, 9, 0, 1, 0, "STRING"), (2, 9, 0, 2, 0, "STRING")],
    )
    assert flat(document) == {"1": {"text": "own", "times": 1, "seed": 0, "how": "plain"}, "2": {"a": "", "b": ""}}


@pytest.mark.parametrize(
    ("types", "output", "wanted", "chosen"),
    [
        (("IMAGE", "STRING"), "STRING", "STRING", 1),  # the first of exactly this type
        (("STRING", "STRING"), "STRING", "STRING", 0),  # the same place
        (("IMAGE", "STRING"), "*", "*", 0),  # anything: the same place
        (("IMAGE", "STRING,INT"), "STRING", "STRING", 1),  # one that fits
        (("IMAGE", "MASK"), "STRING", "STRING", None),
    ],
)
def test_a_bypassed_node_passes_on_the_input_that_fits(types, output, wanted, chosen):
    document = page(
        part(1, "A", outputs=[("x", "*")]),
        part(2, "B", outputs=[("x", "*")]),
        part(3, "C", inputs=[("one", types[0], 1), ("two", types[1], 2)], outputs=[("out", output)], mode=4),
        part(4, "D", inputs=[("in", wanted, 3)]),
        links=[(1, 1, 0, 3, 0, "*"), (2, 2, 0, 3, 1, "*"), (3, 3, 0, 4, 0, "*")],
    )
    assert flat(document)["4"] == ({} if chosen is None else {"in": Link("12"[chosen], 0)})


def test_set_and_get_nodes_are_links_by_name():
    document = page(
        SAY,
        part(2, "SetNode", inputs=[("STRING", "STRING", 1)], widgets_values=["greeting"]),
        part(3, "GetNode", outputs=TEXT, widgets_values=["greeting"]),
        part(4, "Show", inputs=[("text", "STRING", 2)]),
        links=[(1, 1, 0, 2, 0, "STRING"), (2, 3, 0, 4, 0, "STRING")],
    )
    assert flat(document)["4"] == {"text": Link("1", 0)}


INNER = subgraph(
    "inner",
    part(5, "Say", inputs=[("text", "STRING", 1, "text"), ("times", "INT", 2, "times")], outputs=TEXT, widgets_values=["inside", 1, 0, "fixed", "plain"]),
    links=[(1, "-10", 1, 5, 0, "STRING"), (2, -10, 0, 5, 1, "INT"), (3, 5, 0, -20, 0, "STRING")],
    inputs=("times", "words"),
    outputs=("said",),
)  # fmt: skip


def instance(node_id: int, kind: str = "inner", **more: Any) -> dict[str, Any]:
    return part(node_id, kind, inputs=more.pop("inputs", ()), outputs=[("said", "STRING")], **more)


@pytest.mark.parametrize(
    ("given", "text", "times"),
    [
        ({"widgets_values": [3, "promoted"]}, "promoted", 3),  # by place, over the inputs that have widgets
        ({"widgets_values": [3, "x"], "widgets_values_named": {"words": "named", "times": 4}}, "named", 4),
        ({"widgets_values": [], "properties": {"proxyWidgets": [["5", "text"]]}}, "inside", 1),  # views of what is inside
        ({}, "inside", 1),
    ],
    ids=["by place", "by name", "proxies", "nothing"],
)
def test_values_that_a_subgraph_promotes(given, text, times):
    document = page(instance(12, **given), definitions={"subgraphs": [INNER]})
    assert flat(document)["12:5"] == {"text": text, "times": times, "seed": 0, "how": "plain"}


def test_links_into_and_out_of_a_subgraph_are_matched_by_name():
    document = page(
        SAY,
        instance(12, inputs=[("words", "STRING", 1)]),  # `times` is left out, as newer pages do
        part(9, "Show", inputs=[("text", "STRING", 2)]),
        links=[(1, 1, 0, 12, 0, "STRING"), (2, 12, 0, 9, 0, "STRING")],
        definitions={"subgraphs": [INNER]},
    )
    found = flat(document)
    assert (found["12:5"]["text"], found["12:5"]["times"], found["9"]["text"]) == (Link("1", 0), 1, Link("12:5", 0))


def test_subgraphs_nest():
    middle = subgraph(
        "middle",
        instance(7, inputs=[("words", "STRING", 1, "words")], widgets_values=[2, "lower"]),
        links=[(1, -10, 0, 7, 0, "STRING"), (2, 7, 0, -20, 0, "STRING")],
        inputs=("words",),
        outputs=("said",),
    )
    document = page(
        instance(12, "middle", widgets_values=["upper"]),
        part(9, "Show", inputs=[("text", "STRING", 2)]),
        links=[(2, 12, 0, 9, 0, "STRING")],
        definitions={"subgraphs": [middle, INNER]},
    )
    found = flat(document)
    assert (found["12:7:5"]["text"], found["12:7:5"]["times"]) == ("upper", 2)
    assert found["9"]["text"] == Link("12:7:5", 0)


def test_a_muted_subgraph_does_not_run_and_a_bypassed_one_passes_on():
    links = [(1, 1, 0, 12, 0, "STRING"), (2, 12, 0, 9, 0, "STRING")]
    nodes = [SAY, part(9, "Join", inputs=[("a", "STRING", 2)])]
    around = [instance(12, inputs=[("words", "STRING", 1)], mode=mode) for mode in (2, 4)]
    muted, bypassed = (flat(page(*nodes, one, links=links, definitions={"subgraphs": [INNER]})) for one in around)
    assert "12:5" not in muted.keys() | bypassed.keys()
    assert muted["9"] == {"a": "", "b": ""}
    assert bypassed["9"]["a"] == Link("1", 0)


def test_a_group_node_of_older_files():
    group = {"nodes": [{**SAY, "index": 0}, part(None, "Join", inputs=[("a", "STRING", 0), ("b", "STRING", None)], outputs=TEXT, index=1)], "links": [[0, 0, 1, 0, 1, "STRING"]]}  # fmt: skip
    document = page(
        part(3, "Say", outputs=TEXT, widgets_values=["b"]),
        part(4, "workflow>Greeting", inputs=[("b", "STRING", 1)], outputs=TEXT),
        part(9, "Show", inputs=[("text", "STRING", 2)]),
        links=[(1, 3, 0, 4, 0, "STRING"), (2, 4, 0, 9, 0, "STRING")],
        extra={"groupNodes": {"Greeting": group}},
    )
    found = flat(document)
    assert found["4:1"] == {"a": Link("4:0", 0), "b": Link("3", 0)}
    assert found["9"]["text"] == Link("4:1", 0)


def test_it_runs_as_it_is_and_an_edit_runs_what_it_changed():
    document = page(
        SAY,
        part(2, "Join", inputs=[("a", "STRING", 1), ("b", "STRING", None, "b")], outputs=TEXT, widgets_values=["", "end"]),
        part(9, "Show", inputs=[("text", "STRING", 2)], title="Last"),
        links=[(1, 1, 0, 2, 0, "STRING"), (2, 2, 0, 9, 0, "STRING")],
    )
    with Engine(catalog=CATALOG) as engine:
        first = engine.run(document)
        again = engine.run(document, overrides={"2.b": "fin"})
    assert (first.value("Last"), again.value("Last")) == ("HIHI+end", "HIHI+fin")
    assert again.report.hits == ("1",)


def test_nodes_that_did_not_change_come_back_as_the_same_objects(tmp_path):
    path = tmp_path / "w.json"
    reader = Reader(CATALOG)
    document = page(SAY, part(2, "Show", inputs=[("text", "STRING", 1)]), links=[(1, 1, 0, 2, 0, "STRING")])
    path.write_text(json.dumps(document))
    before = reader.read(path)
    document["nodes"][0]["widgets_values"][1] = 3
    document["nodes"][1]["pos"] = [5, 5]
    path.write_text(json.dumps(document))
    after = reader.read(path)
    assert after["2"] is before["2"]
    assert after["1"].inputs["times"] == 3


# --- writing


def test_an_untouched_document_is_written_as_it_was():
    document = page(
        SAY, instance(12), definitions={"subgraphs": [INNER]}, groups=[{"title": "g"}], extra={"ds": {"scale": 2}}, own=1
    )
    assert write_ui(load(document, CATALOG), CATALOG) == document


@pytest.mark.parametrize(
    ("place", "where"),
    [
        (("1", "times"), lambda d: d["nodes"][0]["widgets_values"][1]),
        (("1", "how"), lambda d: d["nodes"][0]["widgets_values"][4]),
        (("12:5", "text"), lambda d: d["nodes"][1]["widgets_values"][1]),
        (("12:5", "seed"), lambda d: d["definitions"]["subgraphs"][0]["nodes"][0]["widgets_values"][2]),
        (("3", "text"), lambda d: d["nodes"][2]["widgets_values"][0]),
    ],
)
def test_an_edit_is_put_where_the_value_was_read_from(place, where):
    document = page(
        SAY,
        instance(12, widgets_values=[3, "promoted"]),
        part(9, "PrimitiveNode", outputs=TEXT, widgets_values=["given", "fixed"]),
        part(3, "Say", inputs=[("text", "STRING", 1, "text")], widgets_values=["own", 1, 0, "fixed", "plain"]),
        links=[(1, 9, 0, 3, 0, "STRING")],
        definitions={"subgraphs": [INNER]},
    )
    graph = load(document, CATALOG)
    value = 5 if isinstance(graph[place[0]].inputs[place[1]], int) else "loud"
    edited = write_ui(graph.set(place[0], {place[1]: value}), CATALOG)
    assert where(edited) == value
    assert flat(edited)[place[0]][place[1]] == value
    assert {k: v for k, v in edited.items() if k not in {"nodes", "definitions"}} == {k: v for k, v in document.items() if k not in {"nodes", "definitions"}}  # fmt: skip


def test_a_graph_without_places_is_laid_out_and_reads_back_the_same():
    graph = read_api(
        {
            "7": {"class_type": "Say", "inputs": {"text": "a" * 60, "times": 2}, "_meta": {"title": "Speaker"}},
            "8": {"class_type": "Join", "inputs": {"a": ["7", 0], "b": ["7", 0]}},
            "x:y": {"class_type": "Stranger", "inputs": {"n": 1, "from": ["8", 2]}},
        }
    )
    document = write_ui(graph, CATALOG)
    again = read_ui(document, CATALOG)
    assert [n.kind for n in again.nodes.values()] == ["Say", "Join", "Stranger"]
    assert again["7"].inputs == {"text": "a" * 60, "times": 2, "seed": 0, "how": "plain"}
    assert (again["7"].title, again["8"].inputs) == ("Speaker", {"a": Link("7", 0), "b": Link("7", 0)})
    assert again["9"].inputs == {"n": 1, "from": Link("8", 2)}
    across = {n["id"]: n["pos"][0] for n in document["nodes"]}
    assert across[7] < across[8] < across[9]


# --- files that are not what they should be


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (page(SAY, SAY), "two nodes have the id 1"),
        (page({"id": 1}), "node 1 has no type"),
        (page({"type": "Say"}), "the id of a node is None"),
        (page(5), "a node: not an object"),  # type: ignore[arg-type]
        (page({**SAY, "inputs": 5}), "inputs: not an array"),
        (page({**SAY, "inputs": [{"type": "x"}]}), "a slot has no name"),
        (page({**SAY, "widgets_values": 5}), "neither an array nor an object"),
        (page(SAY, links=[(1, 2)]), "a link is neither"),
        (page(SAY, links=[(1, 1, "x", 1, 0, "*")]), "a slot that is no whole number"),
        (page(SAY, definitions=5), "definitions: not an object"),
        (page(SAY, definitions={"subgraphs": [INNER, INNER]}), "two subgraphs have the id 'inner'"),
        (page(SAY, extra={"groupNodes": {"g": 5}}), "group node 'g': not an object"),
        (page(instance(1, "loop"), definitions={"subgraphs": [subgraph("loop", instance(2, "loop"), links=())]}), "node 1:2: the subgraph 'loop' contains itself"),
        (page(part(1, "Reroute", inputs=[("", "*", 1)], outputs=TEXT), part(2, "Show", inputs=[("text", "*", 2)]), links=[(1, 1, 0, 1, 0, "*"), (2, 1, 0, 2, 0, "*")]), "lead in a circle"),
    ],
)  # fmt: skip
def test_a_malformed_document_is_refused_with_its_place(document, message):
    with pytest.raises(FormatError, match=message):
        read_ui(document, CATALOG)


def test_subgraphs_that_multiply_are_refused_before_they_fill_the_memory():
    definitions = [
        INNER,
        *(subgraph(f"s{i}", *(instance(k, f"s{i - 1}" if i else "inner") for k in range(10)), links=()) for i in range(20)),
    ]
    with pytest.raises(FormatError, match="more than 10,000 nodes"):
        read_ui(page(instance(1, "s19"), definitions={"subgraphs": definitions}), CATALOG)


def test_ten_thousand_links_share_a_long_way_without_walking_it_each(monkeypatch):
    chain = [part(i, "Reroute", inputs=[("", "*", i)], outputs=[("", "*")]) for i in range(2, 5002)]
    ends = [part(i, "Show", inputs=[("text", "*", i)]) for i in range(5002, 10_000)]
    links = [(i, i - 1, 0, i, 0, "*") for i in range(2, 5002)] + [(i, 5001, 0, i, 0, "*") for i in range(5002, 10_000)]
    steps = itertools.count()
    onwards = ui._Flattener._onwards
    monkeypatch.setattr(ui._Flattener, "_onwards", lambda *given: (next(steps), onwards(*given))[1])

    found = read_ui(page(SAY, *chain, *ends, links=links), CATALOG)

    assert {node.inputs["text"] for node in found.nodes.values() if node.kind == "Show"} == {Link("1", 0)}
    assert next(steps) < 2 * len(links)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-30, 30) | st.floats() | st.sampled_from(["", "Say", "Reroute", "inner", "1", "-10"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "type", "name", "link", "nodes", "inputs"]), inner),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_field_the_answer_is_a_graph_or_one_clear_error(data):
    document = page(
        SAY,
        instance(12, inputs=[("words", "STRING", 1)]),
        part(9, "Show", inputs=[("text", "STRING", 2)]),
        links=[(1, 1, 0, 12, 0, "STRING"), (2, 12, 0, 9, 0, "STRING")],
        definitions={"subgraphs": [INNER]},
        extra={"groupNodes": {}},
    )
    place: Any = json.loads(json.dumps(document))
    document = place
    for _ in range(data.draw(st.integers(0, 6))):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys)) if keys else None
        if key is None or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    if keys:
        place[data.draw(st.sampled_from(keys))] = data.draw(JSON)
    try:
        graph = load(document, CATALOG)
    except FormatError:
        return
    assert isinstance(graph, Graph)
    write_ui(graph, CATALOG)
