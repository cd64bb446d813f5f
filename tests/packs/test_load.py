"""Folders of packs become kinds; what cannot be imported is named and harms nothing."""

from __future__ import annotations

import sys

import pytest

from engine import NodeFailed
from engine.formats.object_info import object_info

IMAGE_PACK = """
    import comfy.utils
    from . import words

    class Brighten:
        @classmethod
        def INPUT_TYPES(s):
            return {
                "required": {
                    "image": ("IMAGE",),
                    "factor": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.1, "display": "slider"}),
                },
            }
        RETURN_TYPES = ("IMAGE", "STRING")
        RETURN_NAMES = ("picture", "text")
        FUNCTION = "go"
        CATEGORY = "test/" + words.CATEGORY
        DESCRIPTION = "Makes it brighter."

        def go(self, image, factor):
            bar = comfy.utils.ProgressBar(2)
            bar.update(1)
            bar.update_absolute(2, 2)
            return (image * factor, words.told(factor))

    NODE_CLASS_MAPPINGS = {"Brighten": Brighten}
    NODE_DISPLAY_NAME_MAPPINGS = {"Brighten": "Brighten it"}
"""


@pytest.fixture
def pictures(bench):
    bench.write("pictures-pack/__init__.py", IMAGE_PACK)
    bench.write(
        "pictures-pack/words/__init__.py",
        """
        import folder_paths
        from ..deep.more import CATEGORY
        def told(factor):
            return f"{factor} {folder_paths.get_output_directory()}"
        """,
    )
    bench.write("pictures-pack/deep/more.py", "CATEGORY = 'deep'\n")
    return bench


def test_a_class_of_a_folder_runs(pictures):
    nodes = {
        "1": ("EmptyImage", {"width": 8, "height": 8, "batch_size": 1, "color": 0x404040}),
        "2": ("Brighten", {"image": ["1", 0], "factor": 2.0}),
    }
    result = pictures.run(nodes, ["2"])
    assert float(result.value("2")[0, 0, 0, 0]) == pytest.approx(2 * 0x40 / 255)
    assert result.value("2", "text") == f"2.0 {pictures.root / 'output'}"
    assert [e.done for e in pictures.events if type(e).__name__ == "NodeProgress"] == [1, 2]
    assert pictures.run(nodes, ["2"]).report.hits == ("1", "2")


def test_a_kind_is_described_as_its_class_declares_it(pictures):
    info = object_info(pictures.loaded.catalog["Brighten"], pictures.engine.folders)
    assert info["input"] == {
        "required": {
            "image": ["IMAGE", {}],
            "factor": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.1, "display": "slider"}],
        }
    }
    assert (info["output"], info["output_name"]) == (["IMAGE", "STRING"], ["picture", "text"])
    assert (info["category"], info["display_name"]) == ("test/deep", "Brighten it")
    assert (info["python_module"], info["description"]) == ("custom_nodes.pictures-pack", "Makes it brighter.")


def test_bounds_are_checked_before_anything_runs(pictures):
    (problem,) = [
        p
        for p in pictures.engine.validate({"2": {"class_type": "Brighten", "inputs": {"image": ["2", 0], "factor": 5}}})
        if p.code == "above-maximum"
    ]
    assert problem.port == "factor"


def test_a_broken_pack_is_named_and_harms_nothing(pictures):
    pictures.write("broken.py", "import os\nfrom comfy.utils import no_such_thing\n")
    pictures.write("needs_more/__init__.py", "import comfy.ldm.modules.attention\n")
    pictures.write("raises.py", "raise SystemExit(3)\n")
    pictures.write("switched_off.py.disabled", "raise ValueError\n")
    pictures.write("off.disabled/__init__.py", "raise ValueError\n")
    pictures.write("notes.txt", "no pack\n")
    warnings = list(pictures.loaded.warnings)
    assert "Brighten" in pictures.loaded.catalog
    assert [p.name for p in pictures.loaded.packs] == ["broken.py", "needs_more", "pictures-pack", "raises.py"]
    assert "Weft has no comfy.utils.no_such_thing" in warnings[0]
    assert "broken.py:2" in warnings[0]
    assert "comfy.ldm.modules.attention" in warnings[1]
    assert "SystemExit" in warnings[2]


def test_no_pack_replaces_a_kind_of_weft(pictures):
    pictures.write("thief.py", "class S:\n    pass\nNODE_CLASS_MAPPINGS = {'SaveImage': S, 'Odd': S}\n")
    warnings = list(pictures.loaded.warnings)
    assert pictures.loaded.catalog["SaveImage"].module == "nodes.image_files"
    assert "'SaveImage' is left out, since Weft has one" in warnings[0]
    assert "'Odd' is left out" in warnings[1]


def test_only_packs_see_the_modules(pictures):
    assert "Brighten" in pictures.loaded.catalog
    assert not {"folder_paths", "comfy", "comfy.utils", "server"} & set(sys.modules)
    import nodes

    assert nodes.MODULES
    with pytest.raises(ModuleNotFoundError):
        import folder_paths  # noqa: F401


def test_what_a_pack_raises_is_its_nodes_failure(bench):
    bench.write(
        "fails.py",
        """
        class Fails:
            @classmethod
            def INPUT_TYPES(s):
                return {"required": {}}
            RETURN_TYPES = ("INT",)
            FUNCTION = "go"
            def go(self):
                raise RuntimeError("on purpose")
        class Odd(Fails):
            def go(self):
                return 5
        NODE_CLASS_MAPPINGS = {"Fails": Fails, "Odd": Odd}
        """,
    )
    with pytest.raises(NodeFailed, match="on purpose"):
        bench.run({"1": ("Fails", {})}, ["1"])
    with pytest.raises(NodeFailed, match="returned int instead of a tuple"):
        bench.run({"1": ("Odd", {})}, ["1"])
