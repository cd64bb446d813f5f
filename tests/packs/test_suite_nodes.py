"""Nodes of the kinds that the reference's own execution tests use, written anew from their description."""

from __future__ import annotations

import time

import pytest

from engine import NodeFailed

PACK = """
    import asyncio, time
    import torch
    from comfy.comfy_types import ComfyNodeABC, IO
    from comfy_execution.graph_utils import GraphBuilder, is_link, ExecutionBlocker
    import comfy.utils

    class MatchAll(str):
        def __ne__(self, other):
            return False

    def variant(class_):
        # types "*" match everything, and the class checks the types of its links
        old = class_.INPUT_TYPES
        def input_types(cls):
            types = old()
            return {
                section: {
                    name: ((MatchAll(spec[0]), *spec[1:]) if spec[0] == "*" else spec) if section != "hidden" else spec
                    for name, spec in inputs.items()
                }
                for section, inputs in types.items()
            }
        def validate(cls, input_types):
            wanted = cls.INPUT_TYPES()
            for name, given in input_types.items():
                spec = wanted.get("required", {}).get(name) or wanted.get("optional", {}).get(name)
                if spec is None:
                    return f"{name} is not an input"
                if isinstance(spec[0], str) and spec[0] != given and given != "*":
                    return f"{name} is {given}, not {spec[0]}"
            return True
        class_.INPUT_TYPES = classmethod(input_types)
        class_.VALIDATE_INPUTS = classmethod(validate)
        class_.RETURN_TYPES = tuple(MatchAll(t) if t == "*" else t for t in class_.RETURN_TYPES)
        return class_

    class StubImage:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {
                "content": (["WHITE", "BLACK"],), "height": ("INT", {"default": 8, "min": 1}),
                "width": ("INT", {"default": 8, "min": 1}), "batch_size": ("INT", {"default": 1, "min": 1}),
            }}
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "stub"
        def stub(self, content, height, width, batch_size):
            return ((torch.ones if content == "WHITE" else torch.zeros)(batch_size, height, width, 3),)

    class LazyMix:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"image1": ("IMAGE", {"lazy": True}), "image2": ("IMAGE", {"lazy": True}), "mask": ("MASK",)}}
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "mix"
        def check_lazy_status(self, mask, image1, image2):
            low, high = mask.min(), mask.max()
            needed = []
            if image1 is None and (low != 1.0 or high != 1.0):
                needed.append("image1")
            if image2 is None and (low != 0.0 or high != 0.0):
                needed.append("image2")
            return needed
        def mix(self, mask, image1, image2):
            if mask.min() == 0 and mask.max() == 0:
                return (image1,)
            if mask.min() == 1 and mask.max() == 1:
                return (image2,)
            return (image1 * (1 - mask[..., None]) + image2 * mask[..., None],)

    class StubMask:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"value": ("FLOAT",), "side": ("INT",)}}
        RETURN_TYPES = ("MASK",)
        FUNCTION = "stub"
        def stub(self, value, side):
            return (torch.ones(1, side, side) * value,)

    class Average:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"input1": ("IMAGE",)}}
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "average"
        def average(self, input1, **others):
            images = [input1, *others.values()]
            return (torch.stack(images).mean(0),)

    class MixedExpansion:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"input1": ("FLOAT",)}}
        RETURN_TYPES = ("IMAGE", "IMAGE")
        OUTPUT_IS_LIST = (False, True)
        FUNCTION = "mixed"
        def mixed(self, input1):
            if input1 < 0.3:
                return (torch.ones(1, 8, 8, 3) * input1, [torch.ones(1, 8, 8, 3) * 0.2])
            if input1 < 0.5:
                return {"result": (torch.ones(1, 8, 8, 3) * input1, [torch.ones(1, 8, 8, 3) * 0.4])}
            graph = GraphBuilder()
            one = graph.node("TestMask", value=input1, side=8)
            image = graph.node("MaskToImage", mask=one.out(0))
            return {"result": (image.out(0), [torch.zeros(1, 8, 8, 3), torch.ones(1, 8, 8, 3)]), "expand": graph.finalize()}

    class Floats:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {}}
        RETURN_TYPES = ("FLOAT",)
        OUTPUT_IS_LIST = (True,)
        FUNCTION = "go"
        def go(self):
            return ([0.1, 0.4, 0.6],)

    class Sleep(ComfyNodeABC):
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"value": (IO.ANY, {}), "seconds": (IO.FLOAT, {"default": 1.0})}, "hidden": {"unique_id": "UNIQUE_ID"}}
        RETURN_TYPES = (IO.ANY,)
        FUNCTION = "sleep"
        async def sleep(self, value, seconds, unique_id):
            bar = comfy.utils.ProgressBar(2, node_id=unique_id)
            for i in range(2):
                await asyncio.sleep(seconds / 2)
                bar.update_absolute(i + 1)
            return (value,)

    class ParallelSleep(ComfyNodeABC):
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {f"image{i}": ("IMAGE",) for i in (1, 2, 3)} | {f"sleep{i}": ("FLOAT",) for i in (1, 2, 3)},
                    "hidden": {"unique_id": "UNIQUE_ID"}}
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "go"
        OUTPUT_NODE = True
        def go(self, unique_id, **given):
            graph = GraphBuilder()
            slept = [graph.node("TestSleep", value=given[f"image{i}"], seconds=given[f"sleep{i}"]) for i in (1, 2, 3)]
            average = graph.node("TestAverage", input1=slept[0].out(0), input2=slept[1].out(0), input3=slept[2].out(0))
            return {"result": (average.out(0),), "expand": graph.finalize()}

    @variant
    class WhileOpen:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"condition": ("BOOLEAN", {"default": True})},
                    "optional": {f"initial_value{i}": ("*",) for i in range(3)}}
        RETURN_TYPES = ("FLOW_CONTROL", "*", "*", "*")
        FUNCTION = "go"
        def go(self, condition, **values):
            return ("stub", *(values.get(f"initial_value{i}") if condition else ExecutionBlocker(None) for i in range(3)))

    @variant
    class WhileClose:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"flow_control": ("FLOW_CONTROL", {"rawLink": True}), "condition": ("BOOLEAN", {"forceInput": True})},
                    "optional": {f"initial_value{i}": ("*",) for i in range(3)},
                    "hidden": {"dynprompt": "DYNPROMPT", "unique_id": "UNIQUE_ID"}}
        RETURN_TYPES = ("*", "*", "*")
        FUNCTION = "go"
        def explore(self, node, dynprompt, upstream):
            for value in dynprompt.get_node(node).get("inputs", {}).values():
                if is_link(value):
                    if value[0] not in upstream:
                        upstream[value[0]] = []
                        self.explore(value[0], dynprompt, upstream)
                    upstream[value[0]].append(node)
        def collect(self, node, upstream, contained):
            for child in upstream.get(node, []):
                if child not in contained:
                    contained[child] = True
                    self.collect(child, upstream, contained)
        def go(self, flow_control, condition, dynprompt, unique_id, **values):
            if not condition:
                return tuple(values.get(f"initial_value{i}") for i in range(3))
            upstream, contained = {}, {}
            self.explore(unique_id, dynprompt, upstream)
            opened = flow_control[0]
            self.collect(opened, upstream, contained)
            contained[unique_id] = contained[opened] = True
            graph = GraphBuilder()
            for node_id in contained:
                node = graph.node(dynprompt.get_node(node_id)["class_type"], "Recurse" if node_id == unique_id else node_id)
                node.set_override_display_id(node_id)
            for node_id in contained:
                node = graph.lookup_node("Recurse" if node_id == unique_id else node_id)
                for key, value in dynprompt.get_node(node_id)["inputs"].items():
                    if is_link(value) and value[0] in contained:
                        node.set_input(key, graph.lookup_node(value[0]).out(value[1]))
                    else:
                        node.set_input(key, value)
            for i in range(3):
                graph.lookup_node(opened).set_input(f"initial_value{i}", values.get(f"initial_value{i}"))
            again = graph.lookup_node("Recurse")
            return {"result": tuple(again.out(i) for i in range(3)), "expand": graph.finalize()}

    @variant
    class ForOpen:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"remaining": ("INT", {"default": 1, "min": 0, "max": 100000})},
                    "optional": {f"initial_value{i}": ("*",) for i in (1, 2)},
                    "hidden": {"initial_value0": ("*",)}}
        RETURN_TYPES = ("FLOW_CONTROL", "INT", "*", "*")
        FUNCTION = "go"
        def go(self, remaining, **values):
            graph = GraphBuilder()
            if values.get("initial_value0") is not None:
                remaining = values["initial_value0"]
            graph.node("TestWhileOpen", condition=remaining, initial_value0=remaining,
                       **{f"initial_value{i}": values.get(f"initial_value{i}") for i in (1, 2)})
            outputs = [values.get(f"initial_value{i}") for i in (1, 2)]
            return {"result": ("stub", remaining, *outputs), "expand": graph.finalize()}

    @variant
    class ForClose:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"flow_control": ("FLOW_CONTROL", {"rawLink": True})},
                    "optional": {f"initial_value{i}": ("*", {"rawLink": True}) for i in (1, 2)}}
        RETURN_TYPES = ("*", "*")
        FUNCTION = "go"
        def go(self, flow_control, **values):
            graph = GraphBuilder()
            opened = flow_control[0]
            less = graph.node("TestIntMath", operation="subtract", a=[opened, 1], b=1)
            condition = graph.node("TestToBool", value=less.out(0))
            close = graph.node("TestWhileClose", flow_control=flow_control, condition=condition.out(0), initial_value0=less.out(0),
                               **{f"initial_value{i}": values.get(f"initial_value{i}") for i in (1, 2)})
            return {"result": (close.out(1), close.out(2)), "expand": graph.finalize()}

    @variant
    class ToBool:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"value": ("*",)}}
        RETURN_TYPES = ("BOOLEAN",)
        FUNCTION = "go"
        def go(self, value):
            return (bool(value),)

    class IntMath:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"a": ("INT",), "b": ("INT",), "operation": (["add", "subtract"],)}}
        RETURN_TYPES = ("INT",)
        FUNCTION = "go"
        def go(self, a, b, operation):
            return (a + b if operation == "add" else a - b,)

    class Changed:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"image": ("IMAGE",)}, "optional": {"should_change": ("BOOL", {"default": False})}}
        @classmethod
        def IS_CHANGED(cls, should_change=False, **kwargs):
            return float("NaN") if should_change else False
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "go"
        def go(self, image, should_change=False):
            return (image,)

    class Output:
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"image": ("IMAGE",), "value": ("FLOAT",)}}
        RETURN_TYPES = ("IMAGE",)
        OUTPUT_NODE = True
        FUNCTION = "go"
        def go(self, image, value):
            return (image * value,)

    NODE_CLASS_MAPPINGS = {f"Test{name}": class_ for name, class_ in {
        "Image": StubImage, "Mix": LazyMix, "Mask": StubMask, "Average": Average, "Mixed": MixedExpansion, "Floats": Floats,
        "Sleep": Sleep, "ParallelSleep": ParallelSleep, "WhileOpen": WhileOpen, "WhileClose": WhileClose, "ToBool": ToBool,
        "ForOpen": ForOpen, "ForClose": ForClose, "IntMath": IntMath, "Changed": Changed, "Output": Output,
    }.items()}
"""


@pytest.fixture
def suite(bench):
    bench.write("testing-pack/__init__.py", PACK)
    assert not list(bench.loaded.warnings)
    return bench


def image(content="WHITE", side=8, **more):
    return ("TestImage", {"content": content, "height": side, "width": side, "batch_size": 1, **more})


@pytest.mark.parametrize(("value", "ran"), [(0.0, "1"), (1.0, "2"), (0.5, "12")])
def test_lazy_input(suite, value, ran):
    nodes = {"1": image("BLACK"), "2": image(), "m": ("TestMask", {"value": value, "side": 8})}
    nodes["x"] = ("TestMix", {"image1": ["1", 0], "image2": ["2", 0], "mask": ["m", 0]})
    result = suite.run(nodes, ["x"])
    assert set(result.report.ran) == {*ran, "m", "x"}
    assert float(result.value("x").mean()) == value


def test_partial_cache(suite):
    nodes = {"1": image("BLACK"), "2": image(), "m": ("TestMask", {"value": 0.5, "side": 8})}
    nodes["x"] = ("TestMix", {"image1": ["1", 0], "image2": ["2", 0], "mask": ["m", 0]})
    suite.run(nodes, ["x"])
    assert suite.run(nodes, ["x"]).report.ran == ()
    nodes["m"][1]["value"] = 0.25
    assert set(suite.run(nodes, ["x"]).report.ran) == {"m", "x"}


def test_an_error_names_the_node(suite):
    nodes = {"1": image("BLACK"), "2": image(side=16), "m": ("TestMask", {"value": 0.5, "side": 8})}
    nodes["x"] = ("TestMix", {"image1": ["1", 0], "image2": ["2", 0], "mask": ["m", 0]})
    with pytest.raises(NodeFailed) as caught:
        suite.run(nodes, ["x"])
    assert caught.value.node == "x"


def test_custom_is_changed_with_an_unknown_type(suite):
    nodes = {"1": image(), "2": ("TestChanged", {"image": ["1", 0], "should_change": False})}
    suite.run(nodes, ["2"])
    assert suite.run(nodes, ["2"]).report.ran == ()
    nodes["2"][1]["should_change"] = True
    assert suite.run(nodes, ["2"]).report.ran == ("2",)
    assert suite.run(nodes, ["2"]).report.ran == ("2",)


def test_undeclared_inputs(suite):
    nodes = {
        "1": image(),
        "2": image("BLACK"),
        "3": ("TestAverage", {"input1": ["1", 0], "input2": ["2", 0], "input3": ["2", 0]}),
    }
    nodes["3"][1]["input4"] = ["2", 0]
    assert float(suite.value(nodes, "3").mean()) == 0.25


def test_mixed_expansion_returns(suite):
    nodes = {"1": ("TestFloats", {}), "2": ("TestMixed", {"input1": ["1", 0]})}
    result = suite.run(nodes, ["2"])
    assert [round(float(v.mean()), 4) for v in result.value("2")] == [0.1, 0.4, 0.6]
    assert [round(float(v.mean()), 4) for v in result.value("2", 1)] == [0.2, 0.4, 0.0, 1.0]


@pytest.mark.parametrize("iterations", [1, 2, 3, 4])
def test_for_loop(suite, iterations):
    nodes = {
        "1": image(),
        "2": image("BLACK"),
        "open": ("TestForOpen", {"remaining": iterations, "initial_value1": ["1", 0]}),
        "changed": ("TestChanged", {"image": ["2", 0], "should_change": True}),
        "average": ("TestAverage", {"input1": ["open", 2], "input2": ["changed", 0]}),
        "close": ("TestForClose", {"flow_control": ["open", 0], "initial_value1": ["average", 0]}),
        "save": ("SaveImage", {"images": ["close", 0], "filename_prefix": "loop"}),
    }
    result = suite.run(nodes, ["save", "close"])
    assert float(result.value("close").mean()) == 2.0**-iterations
    assert len(result.files) == 1


def test_parallel_sleep_in_an_expansion(suite):
    nodes = {"1": image("BLACK"), "2": image(), "3": image()}
    nodes["s"] = (
        "TestParallelSleep",
        {f"image{i}": [str(i), 0] for i in (1, 2, 3)} | dict.fromkeys(("sleep1", "sleep2", "sleep3"), 0.4),
    )
    started = time.perf_counter()
    result = suite.run(nodes)
    assert time.perf_counter() - started < 1.1
    assert round(float(result.value("s").mean()) * 255) == 170


def test_an_output_node_with_a_socket_feeds_others(suite):
    nodes = {
        "1": image(),
        "2": ("TestOutput", {"image": ["1", 0], "value": 0.5}),
        "3": ("TestOutput", {"image": ["2", 0], "value": 0.5}),
    }
    result = suite.run(nodes)
    assert float(result.value("3").mean()) == 0.25
    assert set(suite.run(nodes, ["3"]).report.ran) == {"2", "3"}


def test_two_savers_of_one_picture_both_save(suite):
    nodes = {"1": image()}
    nodes |= {i: ("SaveImage", {"images": ["1", 0], "filename_prefix": "same"}) for i in ("2", "3")}
    result = suite.run(nodes)
    assert {i: len(s.files) for i, s in result.shown.items()} == {"2": 1, "3": 1}
