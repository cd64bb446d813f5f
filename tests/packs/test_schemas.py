"""Packs that declare their nodes by schemas."""

from __future__ import annotations

import pytest

from engine import WorkflowInvalid
from engine.formats.object_info import object_info

PACK = """
    from enum import Enum
    from comfy_api.latest import ComfyExtension, io, ui
    from typing_extensions import override

    class Mood(Enum):
        calm = "calm"
        loud = "loud"

    class Say(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(
                node_id="Say",
                display_name="Say it",
                category="text",
                description="Says it.",
                inputs=[
                    io.String.Input("text", multiline=True, default="hello"),
                    io.Int.Input("times", default=1, min=1, max=3, display_mode=io.NumberDisplay.slider),
                    io.Combo.Input("mood", options=Mood),
                    io.Image.Input("image", optional=True, tooltip="Shown."),
                    io.MultiType.Input(io.Float.Input("amount", default=1.0, optional=True), [io.Int]),
                ],
                outputs=[io.String.Output("said", display_name="SAID"), io.Int.Output()],
                hidden=[io.Hidden.unique_id],
                is_output_node=True,
            )
        @classmethod
        def validate_inputs(cls, text):
            return "nothing to say" if text == "" else True
        @classmethod
        def execute(cls, text, times, mood, image=None, amount=None):
            if text == "stop":
                return io.NodeOutput(block_execution="stopped")
            said = f"{cls.hidden.unique_id}: {text * times} {mood} {amount} {cls.hidden.prompt is not None}"
            shown = ui.PreviewText(said) if image is None else ui.PreviewImage(image, cls=cls)
            return io.NodeOutput(said, times, ui=shown)

    class Later(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema("Later", inputs=[io.Int.Input("x", lazy=True)], outputs=[io.Int.Output()])
        @classmethod
        def check_lazy_status(cls, x):
            return ["x"] if x is None else []
        @classmethod
        def fingerprint_inputs(cls, x):
            return float("nan")
        @classmethod
        async def execute(cls, x):
            return io.NodeOutput(x + 1)

    class Mine(ComfyExtension):
        @override
        async def get_node_list(self):
            return [Say, Later]

    async def comfy_entrypoint():
        return Mine()
"""


@pytest.fixture
def said(bench):
    bench.write("says/__init__.py", PACK)
    assert not list(bench.loaded.warnings)
    return bench


def test_a_node_with_a_schema_runs(said):
    nodes = {
        "1": ("Say", {"text": "a", "times": 2, "mood": "loud", "amount": 3}),
        "2": ("Later", {"x": ["1", 1]}),
        "3": ("Later", {"x": ["2", 0]}),
    }
    result = said.run(nodes, ["1", "3"])
    assert result.value("1") == "1: aa loud 3 True"
    assert result.value("3") == 4
    assert result.shown["1"].json() == {"text": ["1: aa loud 3 True"]}


def test_a_schema_is_checked_and_described(said):
    kind = said.loaded.catalog["Say"]
    info = object_info(kind, said.engine.folders)["input"]
    assert info["required"]["times"] == ["INT", {"default": 1, "min": 1, "max": 3, "display": "slider"}]
    assert info["required"]["mood"][0] == ["calm", "loud"]
    assert info["optional"]["amount"][0] == "FLOAT,INT"
    assert (kind.effect, kind.title, kind.outputs[0].name) == (True, "Say it", "SAID")
    with pytest.raises(WorkflowInvalid) as caught:
        said.run({"1": ("Say", {"text": "", "times": 4, "mood": "sad"})})
    assert {(p.code, p.port) for p in caught.value.problems} == {
        ("refused", "text"),
        ("above-maximum", "times"),
        ("not-a-choice", "mood"),
    }


def test_a_schema_node_shows_pictures_and_blocks(said):
    nodes = {
        "0": ("EmptyImage", {"width": 8, "height": 8, "batch_size": 1, "color": 0}),
        "1": ("Say", {"text": "a", "times": 1, "mood": "calm", "image": ["0", 0]}),
        "2": ("Say", {"text": "stop", "times": 1, "mood": "calm"}),
        "3": ("Say", {"text": ["2", 0], "times": 1, "mood": "calm"}),
    }
    result = said.run(nodes)
    (file,) = result.files
    assert file.is_file()
    assert result.report.blocked == {"3": "stopped"}
