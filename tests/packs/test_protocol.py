"""What the class protocol promises, one habit of packs after the other."""

from __future__ import annotations

import os

import pytest
import torch

from engine import NodeFailed, WorkflowInvalid

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
