"""What the class protocol promises, one habit of packs after the other."""

from __future__ import annotations

import os
import time

import pytest
import torch

from engine import NodeFailed, WorkflowInvalid
from engine.types import Blocked

BASICS = """
    class AnyType(str):
        def __ne__(self, other):
            return False
    ANY = AnyType("*")
    CALLS = []

    class Numbers:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"count": ("INT", {"default": 3, "min": 0, "max": 10})}}
        RETURN_TYPES = ("INT", "INT")
        OUTPUT_IS_LIST = (True, False)
        FUNCTION = "go"
        def go(self, count):
            return (list(range(count)), count)

    class Double:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"number": ("INT", {"forceInput": True})}, "optional": {"more": ("INT",)}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self, number, more=100):
            CALLS.append(number)
            return (2 * number + more,)

    class Sum:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"numbers": ("INT",), "factor": ("INT", {"default": 1})}}
        RETURN_TYPES = ("INT", "STRING")
        INPUT_IS_LIST = True
        FUNCTION = "go"
        def go(self, numbers, factor):
            return (sum(numbers) * factor[0], repr((numbers, factor)))

    class Pass:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"anything": (ANY, {})}}
        RETURN_TYPES = (ANY,)
        FUNCTION = "go"
        def go(self, anything):
            return (anything,)

    class Describe:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"anything": ("*",)}}
        RETURN_TYPES = ("STRING",)
        FUNCTION = "go"
        def go(self, anything):
            return (f"{type(anything).__name__} {sorted(anything) if isinstance(anything, dict) else ''}",)

    class Variadic:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"first": ("INT",)}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self, first, **others):
            return (first + sum(others.values()),)

    class Counter:
        def __init__(self):
            self.count = 0
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"x": ("INT",)}, "hidden": {"me": "UNIQUE_ID"}}
        RETURN_TYPES = ("STRING",)
        FUNCTION = "go"
        def go(self, x, me):
            self.count += 1
            return (f"{me}:{self.count}",)

    NODE_CLASS_MAPPINGS = {c.__name__: c for c in (Numbers, Double, Sum, Pass, Describe, Variadic, Counter)}
"""


@pytest.fixture
def basics(bench):
    bench.write("basics.py", BASICS)
    return bench


def test_a_list_output_runs_what_follows_for_each_element(basics):
    nodes = {"1": ("Numbers", {"count": 3}), "2": ("Double", {"number": ["1", 0]}), "3": ("Double", {"number": ["1", 1]})}
    assert basics.value(nodes, "2") == (100, 102, 104)
    assert basics.value(nodes, "3") == 106


def test_input_is_list_takes_everything_at_once_constants_too(basics):
    nodes = {"1": ("Numbers", {"count": 3}), "2": ("Sum", {"numbers": ["1", 0], "factor": 5})}
    assert basics.value(nodes, "2") == 15
    assert basics.value(nodes, "2", 1) == "([0, 1, 2], [5])"


def test_a_type_equal_to_everything_links_with_everything(basics):
    nodes = {
        "1": ("EmptyLatentImage", {"width": 16, "height": 16, "batch_size": 1}),
        "2": ("Pass", {"anything": ["1", 0]}),
        "3": ("LatentUpscaleBy", {"samples": ["2", 0], "upscale_method": "nearest-exact", "scale_by": 2.0}),
        "4": ("Describe", {"anything": ["2", 0]}),
    }
    assert basics.value(nodes, "3").samples.shape == (1, 4, 4, 4)
    assert basics.value(nodes, "4") == "dict ['samples']"


def test_undeclared_inputs_reach_a_function_that_takes_them(basics):
    nodes = {"1": ("Numbers", {"count": 7}), "2": ("Variadic", {"first": 1, "second": ["1", 1], "third": 3})}
    assert basics.value(nodes, "2") == 11


def test_an_optional_input_that_is_absent_is_left_to_the_function(basics):
    nodes = {"1": ("Numbers", {"count": 1}), "2": ("Double", {"number": ["1", 1], "more": 1})}
    assert basics.value(nodes, "2") == 3


def test_an_instance_lives_as_long_as_its_node(basics):
    assert basics.value({"7": ("Counter", {"x": 1})}, "7") == "7:1"
    assert basics.value({"7": ("Counter", {"x": 2})}, "7") == "7:2"
    assert basics.value({"8": ("Counter", {"x": 2})}, "8") == "8:1"


def test_nodes_that_know_their_id_do_not_share_results(basics):
    nodes = {"1": ("Counter", {"x": 1}), "2": ("Counter", {"x": 1})}
    result = basics.run(nodes, ["1", "2"])
    assert (result.value("1"), result.value("2")) == ("1:1", "2:1")


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


CHECK = """
    import folder_paths, os

    class Checked:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"x": ("INT", {"min": 0, "max": 5}), "name": (["a", "b"],), "free": ("INT", {"max": 5})}}
        @classmethod
        def VALIDATE_INPUTS(s, x, name):
            if x == 13:
                return "thirteen is unlucky"
            return name != "no"
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self, x, name, free):
            return (x,)

    class Typed:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"x": ("INT,FLOAT",)}}
        @classmethod
        def VALIDATE_INPUTS(s, input_types):
            return True if input_types["x"] == "STRING" else f"wanted STRING, not {input_types['x']}"
        RETURN_TYPES = ("STRING",)
        FUNCTION = "go"
        def go(self, x):
            return (str(x),)

    class Pick:
        @classmethod
        def INPUT_TYPES(s):
            files = sorted(os.listdir(folder_paths.get_input_directory()))
            return {"required": {"file": (files, {"image_upload": True})}}
        RETURN_TYPES = ("STRING",)
        FUNCTION = "go"
        def go(self, file):
            return (folder_paths.get_annotated_filepath(file),)

    class Odd:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"x": ("BOOL", {}), "y": ([1, 2, 3],)}}
        RETURN_TYPES = ("STRING",)
        FUNCTION = "go"
        def go(self, x, y):
            return (repr((x, y)),)

    NODE_CLASS_MAPPINGS = {c.__name__: c for c in (Checked, Typed, Pick, Odd)}
"""


@pytest.fixture
def checked(bench):
    bench.write("check.py", CHECK)
    (bench.root / "input").mkdir()
    (bench.root / "input" / "one.txt").write_text("1")
    return bench


def problems(bench, kind, inputs, **more):
    document = {"1": {"class_type": kind, "inputs": inputs}, **more}
    return [(p.code, p.port) for p in bench.engine.validate(document)]


def test_a_class_checks_its_inputs_itself(checked):
    assert problems(checked, "Checked", {"x": 99, "name": "else", "free": 1}) == []
    assert problems(checked, "Checked", {"x": 13, "name": "a", "free": 1}) == [("refused", None)]
    assert problems(checked, "Checked", {"x": 1, "name": "no", "free": 6}) == [("above-maximum", "free"), ("refused", None)]
    with pytest.raises(WorkflowInvalid, match="thirteen is unlucky"):
        checked.run({"1": ("Checked", {"x": 13, "name": "a", "free": 1})}, ["1"])


def test_a_class_checks_the_types_of_its_links_itself(checked):
    text = {"2": {"class_type": "Odd", "inputs": {"x": 1, "y": 2}}}
    assert problems(checked, "Typed", {"x": ["2", 0]}, **text) == []
    number = {"2": {"class_type": "Checked", "inputs": {"x": 1, "name": "a", "free": 1}}}
    assert problems(checked, "Typed", {"x": ["2", 0]}, **number) == [("refused", None)]


def test_choices_are_those_of_now(checked):
    assert problems(checked, "Pick", {"file": "two.txt"}) == [("not-a-choice", "file")]
    (checked.root / "input" / "two.txt").write_text("2")
    assert problems(checked, "Pick", {"file": "two.txt"}) == []
    nodes = {"1": ("Pick", {"file": "two.txt"})}
    assert checked.value(nodes, "1") == str(checked.root / "input" / "two.txt")
    (checked.root / "input" / "two.txt").unlink()
    with pytest.raises(WorkflowInvalid, match="not one of its"):
        checked.run(nodes, ["1"])


def test_types_that_nobody_knows_and_choices_that_are_no_texts_are_taken(checked):
    assert checked.value({"1": ("Odd", {"x": True, "y": 3})}, "1") == "(True, 3)"
    assert problems(checked, "Odd", {"x": True, "y": "3"}) == [("not-a-choice", "y")]


SAVE = """
    import json, os
    import folder_paths
    from comfy.cli_args import args

    class SaveNote:
        def __init__(self):
            self.output_dir = folder_paths.get_output_directory()
        @classmethod
        def INPUT_TYPES(s):
            return {
                "required": {"text": ("STRING", {"multiline": True}), "filename_prefix": ("STRING", {"default": "note"})},
                "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", "token": "AUTH_TOKEN_COMFY_ORG"},
            }
        RETURN_TYPES = ()
        FUNCTION = "save"
        OUTPUT_NODE = True
        CATEGORY = "text"
        def save(self, text, filename_prefix="x", prompt=None, extra_pnginfo=None, token=1):
            folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, self.output_dir)
            file = f"{name}_{counter:05}_.txt"
            with open(os.path.join(folder, file), "w") as out:
                json.dump([text, prompt, extra_pnginfo, token], out)
            prompt.clear()
            return {"ui": {"images": [{"filename": file, "subfolder": subfolder, "type": "output"}], "text": ["saved"]}}

    NODE_CLASS_MAPPINGS = {"SaveNote": SaveNote}
"""


def test_an_output_node_saves_with_hidden_inputs(bench):
    import json

    bench.write("save.py", SAVE)
    assert bench.loaded.catalog["SaveNote"].effect
    nodes = {"1": ("SaveNote", {"text": "hi", "filename_prefix": "deep/note"})}
    result = bench.run(nodes)
    path = bench.root / "output" / "deep" / "note_00001_.txt"
    assert list(result.files) == [path]
    assert json.loads(path.read_text()) == ["hi", {"1": {"class_type": "SaveNote", "inputs": nodes["1"][1]}}, None, None]
    assert result.shown["1"].json()["images"] == [{"filename": "note_00001_.txt", "subfolder": "deep", "type": "output"}]
    assert bench.run(nodes).files[0].name == "note_00002_.txt"
    with pytest.raises(NodeFailed, match="leads outside"):
        bench.run({"1": ("SaveNote", {"text": "hi", "filename_prefix": "../note"})})


ASYNC = """
    import asyncio
    from comfy_api.v0_0_2 import ComfyAPI

    class Sleep:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"value": ("INT",), "seconds": ("FLOAT",)}}
        @classmethod
        async def VALIDATE_INPUTS(s, seconds):
            await asyncio.sleep(0)
            return seconds < 10
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        async def go(self, value, seconds):
            await ComfyAPI().execution.set_progress(1, 2)
            if value == 0:
                raise RuntimeError("async failure")
            for _ in range(20):
                RUNNING.add(value)
                SEEN.append(len(RUNNING))
                await asyncio.sleep(seconds / 20)
            RUNNING.discard(value)
            return (value,)

    class Most:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"a": ("INT", {"lazy": True}), "b": ("INT", {"lazy": True})}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        async def check_lazy_status(self, a, b):
            await asyncio.sleep(0)
            return [n for n, v in (("a", a), ("b", b)) if v is None]
        def go(self, a, b):
            return (max(SEEN),)

    RUNNING, SEEN = set(), []
    NODE_CLASS_MAPPINGS = {"Sleep": Sleep, "Most": Most}
"""


def test_coroutines_run_side_by_side(bench):
    bench.write("waits.py", ASYNC)
    nodes = {
        "a": ("Sleep", {"value": 1, "seconds": 0.2}),
        "b": ("Sleep", {"value": 2, "seconds": 0.2}),
        "m": ("Most", {"a": ["a", 0], "b": ["b", 0]}),
    }
    assert bench.value(nodes, "m") == 2
    assert [e.done for e in bench.events if type(e).__name__ == "NodeProgress"] == [1, 1]
    assert problems(bench, "Sleep", {"value": 1, "seconds": 11.0}) == [("refused", "seconds")]
    with pytest.raises(NodeFailed, match="async failure"):
        bench.run({"a": ("Sleep", {"value": 0, "seconds": 0.2})}, ["a"])


def test_results_of_a_pack_that_was_updated_are_computed_again(bench, tmp_path):
    bench.write("versioned.py", WATCH)
    before = bench.loaded.catalog["Always"].version
    bench.write("versioned.py", WATCH + "\n    # changed\n")
    bench._loaded = None
    assert bench.loaded.catalog["Always"].version != before


USES_NODES = """
    import comfy.samplers, comfy.sample, comfy.model_management, folder_paths
    from comfy.comfy_types import IO, ComfyNodeABC
    from nodes import MAX_RESOLUTION, EmptyLatentImage, NODE_CLASS_MAPPINGS as KINDS
    from server import PromptServer

    @PromptServer.instance.routes.get("/mine")
    async def mine(request):
        pass

    class Uses(ComfyNodeABC):
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {
                "image": (IO.IMAGE,),
                "sampler": (comfy.samplers.KSampler.SAMPLERS,),
                "scheduler": (comfy.samplers.KSampler.SCHEDULERS, {"default": "karras"}),
                "lora": (folder_paths.get_filename_list("loras"),),
            }}
        RETURN_TYPES = (IO.IMAGE, IO.LATENT, "STRING")
        FUNCTION = "go"
        def go(self, image, sampler, scheduler, lora):
            PromptServer.instance.send_sync("mine.told", {"x": 1})
            comfy.model_management.throw_exception_if_processing_interrupted()
            (inverted,) = KINDS["ImageInvert"]().invert(image)
            (latent,) = EmptyLatentImage().generate(16, 16, batch_size=2)
            latent["samples"] = latent["samples"].to(comfy.model_management.intermediate_device())
            latent["batch_index"] = [3, 4]
            latent["mine"] = "kept"
            noise = comfy.sample.prepare_noise(latent["samples"], 5)
            latent["noise_mask"] = noise[:, 0]
            return (inverted, latent, f"{sampler} {scheduler} {MAX_RESOLUTION} {folder_paths.get_full_path('loras', lora)}")

    class Kept:
        @classmethod
        def INPUT_TYPES(s):
            return {"required": {"latent": ("LATENT",)}}
        RETURN_TYPES = ("STRING",)
        FUNCTION = "go"
        def go(self, latent):
            return (repr((sorted(latent), latent["batch_index"], latent["mine"])),)

    NODE_CLASS_MAPPINGS = {"Uses": Uses, "Kept": Kept}
"""


def test_packs_call_kinds_of_weft(bench):
    loras = bench.root / "models" / "loras"
    loras.mkdir(parents=True)
    (loras / "l.safetensors").write_bytes(b"")
    bench.write("uses.py", USES_NODES)
    assert not list(bench.loaded.warnings)
    nodes = {
        "1": ("EmptyImage", {"width": 8, "height": 8, "batch_size": 1, "color": 0}),
        "2": ("Uses", {"image": ["1", 0], "sampler": "euler", "scheduler": "karras", "lora": "l.safetensors"}),
        "3": ("Kept", {"latent": ["2", 1]}),
    }
    result = bench.run(nodes, ["2", "3"])
    assert float(result.value("2").min()) == 1.0
    latent = result.value("2", 1)
    assert (latent.samples.shape, latent.batch_index) == ((2, 4, 2, 2), (3, 4))
    assert result.value("2", 2) == f"euler karras 16384 {loras / 'l.safetensors'}"
    assert result.value("3") == "(['batch_index', 'mine', 'noise_mask', 'samples'], [3, 4], 'kept')"
    from engine.sampling.noise import initial_noise

    assert torch.equal(latent.noise_mask, initial_noise((2, 4, 2, 2), 5)[:, 0])


def test_a_pack_reaches_its_own_files_through_sys_path(bench):
    bench.write("paths/lib_of_pack_x/__init__.py", "import folder_paths\nWHERE = folder_paths.get_input_directory()\n")
    bench.write(
        "paths/__init__.py",
        """
        import os, sys
        sys.path.append(os.path.dirname(__file__))
        from lib_of_pack_x import WHERE
        class Where:
            @classmethod
            def INPUT_TYPES(s):
                return {"required": {}}
            RETURN_TYPES = ("STRING",)
            FUNCTION = "go"
            def go(self):
                return (WHERE,)
        NODE_CLASS_MAPPINGS = {"Where": Where}
        """,
    )
    assert bench.value({"1": ("Where", {})}, "1") == os.fspath(bench.root / "input")


def test_conditioning_crosses_the_border_without_loss():
    from types import MappingProxyType

    from engine.packs.values import from_pack, to_pack
    from engine.types import Cond, Conditioning

    tokens, mask, more = torch.ones(1, 2, 3), torch.ones(1, 4, 4), torch.zeros(1, 5)
    cond = Cond(
        tokens, None, MappingProxyType({"mask": mask, "strength": 0.5, "concat_latent": more}), MappingProxyType({"y": more})
    )
    shell = to_pack(Conditioning((cond,)))
    assert shell[0][0] is tokens
    assert shell[0][1]["concat_latent_image"] is more
    shell[0][1]["strength"] = 2.0
    assert cond.options["strength"] == 0.5
    (back,) = from_pack(to_pack(Conditioning((cond,))), "CONDITIONING").entries
    assert (back.tokens is tokens, back.pooled, dict(back.extra)) == (True, None, {"y": more})
    assert dict(back.options) == dict(cond.options)
