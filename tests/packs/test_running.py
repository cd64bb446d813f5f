"""What the class protocol promises of running: lazy inputs, what counts as changed, subgraphs, blocked values."""

from __future__ import annotations

import time

import pytest
import torch

from engine import NodeFailed
from engine.types import Blocked

LAZY = """
    class Switch:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"which": ("BOOLEAN",), "yes": ("INT", {"lazy": True}), "no": ("INT", {"lazy": True})}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def check_lazy_status(self, which, yes, no):
            if which and yes is None:
                return ["yes"]
            if not which and no is None:
                return ["no"]
        def go(self, which, yes, no):
            CALLS.append((which, yes, no))
            return (yes if which else no,)

    class Bools:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {}}
        RETURN_TYPES = ("BOOLEAN",)
        OUTPUT_IS_LIST = (True,)
        FUNCTION = "go"
        def go(self):
            return ([True, False],)

    class Number:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"value": ("INT",)}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self, value):
            return (value,)

    CALLS = []

    class Calls:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"after": ("INT",)}}
        RETURN_TYPES = ("STRING",)
        INPUT_IS_LIST = True
        FUNCTION = "go"
        def go(self, after):
            return (repr(CALLS),)

    NODE_CLASS_MAPPINGS = {"Switch": Switch, "Bools": Bools, "Number": Number, "Calls": Calls}
"""


@pytest.mark.parametrize("which", [True, False])
def test_only_the_asked_branch_is_computed(bench, which):
    bench.write("lazy.py", LAZY)
    nodes = {
        "y": ("Number", {"value": 1}),
        "n": ("Number", {"value": 2}),
        "s": ("Switch", {"which": which, "yes": ["y", 0], "no": ["n", 0]}),
    }
    result = bench.run(nodes, ["s"])
    assert result.value("s") == (1 if which else 2)
    assert set(result.report.ran) == {"s", "y" if which else "n"}


def test_lazy_elements_are_asked_for_before_any_call(bench):
    bench.write("lazy.py", LAZY)
    nodes = {
        "b": ("Bools", {}),
        "y": ("Number", {"value": 1}),
        "s": ("Switch", {"which": ["b", 0], "yes": ["y", 0], "no": 5}),
        "c": ("Calls", {"after": ["s", 0]}),
    }
    result = bench.run(nodes, ["s", "c"])
    assert result.value("s") == (1, 5)
    assert result.value("c") == "[(True, 1, 5), (False, 1, 5)]"


WATCH = """
    import os

    class Watch:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"path": ("STRING", {"default": ""})}, "optional": {"extra": ("INT",)}}
        @classmethod
        def IS_CHANGED(s, path, extra=None):
            ASKED.append(extra)
            return os.path.getsize(path)
        RETURN_TYPES = ("STRING",)
        FUNCTION = "go"
        def go(self, path, extra=0):
            with open(path) as file:
                return (file.read(),)

    class Always:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"x": ("INT",)}}
        @classmethod
        def IS_CHANGED(s, x):
            return float("nan")
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self, x):
            return (x,)

    class Broken(Always):
        @classmethod
        def IS_CHANGED(s, x):
            raise ValueError

    class Asked:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {}}
        RETURN_TYPES = ("INT", "STRING")
        NOT_IDEMPOTENT = True
        IS_CHANGED = classmethod(lambda s: float("nan"))
        FUNCTION = "go"
        def go(self):
            return (len(ASKED), repr(ASKED))
    ASKED = []
    NODE_CLASS_MAPPINGS = {c.__name__: c for c in (Watch, Always, Broken, Asked)}
"""


def test_is_changed_decides_whether_a_node_runs_again(bench, tmp_path):
    bench.write("watch.py", WATCH)
    file = tmp_path / "note.txt"
    file.write_text("one")
    nodes = {"w": ("Watch", {"path": str(file)})}
    assert bench.value(nodes, "w") == "one"
    assert bench.run(nodes, ["w"]).report.hits == ("w",)
    file.write_text("three")
    assert bench.value(nodes, "w") == "three"
    assert bench.value({"a": ("Asked", {})}, "a") == 3  # once for each run


def test_is_changed_sees_constants_only(bench, tmp_path):
    bench.write("watch.py", WATCH)
    (tmp_path / "note.txt").write_text("one")
    nodes = {"x": ("Always", {"x": 5}), "w": ("Watch", {"path": str(tmp_path / "note.txt"), "extra": ["x", 0]})}
    assert bench.value(nodes, "w") == "one"
    assert bench.value({"a": ("Asked", {})}, "a", 1) == "[None]"


@pytest.mark.parametrize("kind", ["Always", "Broken"])
def test_nan_and_errors_count_as_changed(bench, kind):
    bench.write("watch.py", WATCH)
    nodes = {"1": (kind, {"x": 1}), "2": (kind, {"x": ["1", 0]})}
    assert bench.run(nodes, ["2"]).report.ran == ("1", "2")
    assert bench.run(nodes, ["2"]).report.ran == ("1", "2")


def test_results_of_a_pack_that_was_updated_are_computed_again(bench, tmp_path):
    bench.write("versioned.py", WATCH)
    before = bench.loaded.catalog["Always"].version
    bench.write("versioned.py", WATCH + "\n    # changed\n")
    bench._loaded = None
    assert bench.loaded.catalog["Always"].version != before


EXPAND = """
    from comfy_execution.graph_utils import GraphBuilder, is_link
    from comfy_execution.graph import ExecutionBlocker

    class Add:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"a": ("INT",), "b": ("INT", {"default": 1})}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self, a, b):
            return (a + b,)

    class AddMany:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"a": ("INT",), "times": ("INT",)}}
        RETURN_TYPES = ("INT", "STRING")
        FUNCTION = "go"
        def go(self, a, times):
            if times == 0:
                return (a, "literal")
            graph = GraphBuilder()
            step = graph.node("Add", a=a, b=1)
            rest = graph.node("AddMany", a=step.out(0), times=times - 1)
            return {"result": (rest.out(0), f"{times} left"), "expand": graph.finalize(), "ui": {"text": ["grew"]}}

    class WhileOpen:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"go_on": ("BOOLEAN",)}, "optional": {"initial0": ("*",), "initial1": ("*",)}}
        RETURN_TYPES = ("FLOW", "*", "*")
        FUNCTION = "go"
        def go(self, go_on, initial0=None, initial1=None):
            values = (initial0, initial1)
            if not go_on:
                values = tuple(ExecutionBlocker(None) for _ in values)
            return ("stub", *values)

    class WhileClose:
        @classmethod
        def INPUT_TYPES(s):
            return {
                "required": {"flow": ("FLOW", {"rawLink": True}), "go_on": ("BOOLEAN", {"forceInput": True})},
                "optional": {"initial0": ("*",), "initial1": ("*",)},
                "hidden": {"prompt": "DYNPROMPT", "me": "UNIQUE_ID"},
            }
        RETURN_TYPES = ("*", "*")
        FUNCTION = "go"

        def above(self, node, prompt, found):
            for value in prompt.get_node(node)["inputs"].values():
                if is_link(value):
                    found.setdefault(value[0], []).append(node)
                    if len(found[value[0]]) == 1:
                        self.above(value[0], prompt, found)

        def inside(self, node, found, inner):
            for child in found.get(node, []):
                if child not in inner:
                    inner.add(child)
                    self.inside(child, found, inner)

        def go(self, flow, go_on, prompt, me, initial0=None, initial1=None):
            assert is_link(flow)
            if not go_on:
                return (initial0, initial1)
            found = {}
            self.above(me, prompt, found)
            inner = {flow[0], me}
            self.inside(flow[0], found, inner)
            graph = GraphBuilder()
            for node in inner:
                graph.node(prompt.get_node(node)["class_type"], "Recurse" if node == me else node)
            for node in inner:
                mine = graph.lookup_node("Recurse" if node == me else node)
                for name, value in prompt.get_node(node)["inputs"].items():
                    if is_link(value) and value[0] in inner:
                        mine.set_input(name, graph.lookup_node(value[0]).out(value[1]))
                    else:
                        mine.set_input(name, value)
            opened = graph.lookup_node(flow[0])
            opened.set_input("initial0", initial0)
            opened.set_input("initial1", initial1)
            again = graph.lookup_node("Recurse")
            return {"result": (again.out(0), again.out(1)), "expand": graph.finalize()}

    class Less:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"a": ("INT",), "b": ("INT",)}}
        RETURN_TYPES = ("BOOLEAN",)
        FUNCTION = "go"
        def go(self, a, b):
            return (a < b,)

    class Cycle:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self):
            graph = GraphBuilder()
            one = graph.node("Add", a=1)
            two = graph.node("Add", a=one.out(0))
            one.set_input("a", two.out(0))
            return {"result": (two.out(0),), "expand": graph.finalize()}

    class Decode:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"latent": ("LATENT",)}}
        RETURN_TYPES = ("LATENT",)
        FUNCTION = "go"
        def go(self, latent):
            latent["samples"] = latent["samples"] + 1
            graph = GraphBuilder()
            node = graph.node("LatentUpscaleBy", samples=latent, upscale_method="nearest-exact", scale_by=2.0)
            return {"result": (node.out(0),), "expand": graph.finalize()}

    NODE_CLASS_MAPPINGS = {c.__name__: c for c in (Add, AddMany, WhileOpen, WhileClose, Less, Cycle, Decode)}
"""


def test_a_node_becomes_a_subgraph_again_and_again(bench):
    bench.write("expand.py", EXPAND)
    result = bench.run({"1": ("AddMany", {"a": 10, "times": 3})}, ["1"])
    assert (result.value("1"), result.value("1", 1)) == (13, "3 left")
    assert result.shown["1"].json() == {"text": ["grew"]}


def test_a_loop_copies_its_body_until_it_ends(bench):
    bench.write("expand.py", EXPAND)
    nodes = {
        "open": ("WhileOpen", {"go_on": True, "initial0": 1, "initial1": 0}),
        "body": ("Add", {"a": ["open", 1], "b": 2}),
        "count": ("Add", {"a": ["open", 2], "b": 1}),
        "less": ("Less", {"a": ["count", 0], "b": 12}),
        "close": ("WhileClose", {"flow": ["open", 0], "go_on": ["less", 0], "initial0": ["body", 0], "initial1": ["count", 0]}),
    }
    started = time.perf_counter()
    result = bench.run(nodes, ["close"])
    assert (result.value("close"), result.value("close", 1)) == (25, 12)
    assert time.perf_counter() - started < 5
    assert max(len(entry.node) for entry in result.report) < 2000
    nodes["body"] = ("Add", {"a": ["open", 1], "b": 3})
    assert bench.value(nodes, "close") == 37


def test_a_cycle_that_a_node_makes_is_its_failure(bench):
    bench.write("expand.py", EXPAND)
    with pytest.raises(NodeFailed, match="cycle"):
        bench.run({"1": ("Cycle", {})}, ["1"])


def test_latents_go_into_subgraphs_and_inputs_stay_as_they_are(bench):
    bench.write("expand.py", EXPAND)
    nodes = {
        "1": ("EmptyLatentImage", {"width": 16, "height": 16, "batch_size": 1}),
        "2": ("Decode", {"latent": ["1", 0]}),
    }
    result = bench.run(nodes, ["2", "1"])
    assert torch.equal(result.value("2").samples, torch.ones(1, 4, 4, 4))
    assert torch.equal(result.value("1").samples, torch.zeros(1, 4, 2, 2))


BLOCK = """
    from comfy_execution.graph_utils import ExecutionBlocker

    class Gate:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"value": ("INT",), "block": ("BOOLEAN",), "message": ("STRING", {"default": ""})}}
        RETURN_TYPES = ("INT", "INT")
        FUNCTION = "go"
        def go(self, value, block, message):
            return (ExecutionBlocker(message or None) if block else value, value)

    class Even:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"value": ("INT",)}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self, value):
            return (value,) if value % 2 == 0 else (ExecutionBlocker(None),)

    class Numbers:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {}}
        RETURN_TYPES = ("INT",)
        OUTPUT_IS_LIST = (True,)
        FUNCTION = "go"
        def go(self):
            return ([0, 1, 2],)

    class Show:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"value": ("INT",)}}
        RETURN_TYPES = ()
        OUTPUT_NODE = True
        FUNCTION = "go"
        def go(self, value):
            return {"ui": {"text": [str(value)]}}

    NODE_CLASS_MAPPINGS = {c.__name__: c for c in (Gate, Even, Numbers, Show)}
"""


def test_a_blocked_value_stops_its_branch_and_nothing_else(bench):
    bench.write("block.py", BLOCK)
    nodes = {
        "g": ("Gate", {"value": 5, "block": True, "message": "not today"}),
        "a": ("Even", {"value": ["g", 0]}),
        "b": ("Show", {"value": ["a", 0]}),
        "c": ("Show", {"value": ["g", 1]}),
    }
    result = bench.run(nodes)
    assert {i: s.json() for i, s in result.shown.items()} == {"c": {"text": ["5"]}}
    told = [(e.node, e.message) for e in bench.events if type(e).__name__ == "NodeBlocked"]
    assert told == [("a", "not today"), ("b", None)]
    assert not result.failures
    nodes["g"][1]["block"] = False
    nodes["g"][1]["value"] = 6
    assert bench.run(nodes).shown.keys() == {"b", "c"}


def test_a_blocked_element_stops_only_its_calls(bench):
    bench.write("block.py", BLOCK)
    nodes = {
        "n": ("Numbers", {}),
        "e": ("Even", {"value": ["n", 0]}),
        "again": ("Even", {"value": ["e", 0]}),
        "s": ("Show", {"value": ["again", 0]}),
    }
    result = bench.run(nodes)
    assert result.shown["s"].json() == {"text": ["0", "2"]}
    assert bench.value(nodes, "again") == (0, Blocked(None), 2)
