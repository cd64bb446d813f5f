"""Parameters that are several inputs: those that grow, and choices that bring inputs of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Generic, NamedTuple, TypeVar

import jsonschema
import pytest

from engine import Catalog, Engine, Graph, Link
from engine.cli.catalogue import described
from engine.errors import DeclarationError, WorkflowInvalid
from engine.folders import Folders
from engine.formats.api import read_api, write_api
from engine.formats.json_schema import workflow_schema
from engine.formats.object_info import object_info
from engine.formats.ui import read_ui
from engine.formats.ui_write import write_ui
from engine.schema import Growing, Names, Range, kind_of, node, option
from engine.types import Lazy

T = TypeVar("T")


@option("by a factor")
class Factor(NamedTuple):
    """As many times as large.

    Attributes:
        factor: How many times.
    """

    factor: Annotated[float, Range(0, 8)] = 1.0


@option("still")
class Still(NamedTuple):
    """One picture."""


@option("moving")
class Moving(NamedTuple):
    """Several pictures.

    Attributes:
        fps: Pictures a second.
    """

    fps: int = 6


@option("to a size")
class Size(NamedTuple):
    """To a width.

    Attributes:
        width: In pixels.
        mode: How it moves.
    """

    width: Annotated[int, Range(1, 64)]
    mode: Still | Moving = Still()


class Chosen(NamedTuple, Generic[T]):
    output: T


@node("Resize")
def resize(*, parts: Annotated[Mapping[str, int], Growing("part", min=1, max=4)], size: Factor | Size, last: int = 1) -> str:
    """Say what was given.

    Args:
        parts: Some numbers.
        size: How large.
        last: A number.
    """
    return f"{dict(parts)} {size} {last}"


@node("Switch")
def switch(*, switch: bool, on_true: Lazy[T | None] = None, on_false: Lazy[T | None] = None) -> Chosen[T]:
    """Pass on one of two.

    Args:
        switch: Which.
        on_true: One.
        on_false: The other.
    """
    return Chosen(on_true() if switch else on_false())


@node("Named")
def named(
    *,
    values: Annotated[Mapping[str, int], Growing(names=("a", "b"), min=0)],
    **more: Annotated[int, Names(("x y",), default=2)],
) -> int:
    """Add numbers.

    Args:
        values: Some.
        more: One more.
    """
    return sum(values.values()) + sum(more.values())


@node("Boom")
def boom() -> int:
    """Fail."""
    raise AssertionError


DOUBLE = Factor(2.0)

CATALOG = Catalog([resize, switch, named, boom])
SIZED = {"parts.part0": 1, "parts.part2": 3, "size": "to a size", "size.width": 9, "size.mode": "moving", "size.mode.fps": 7}


def run(kind: str, **inputs):
    with Engine(catalog=CATALOG) as engine:
        return engine.run(Graph().add("a", kind, **inputs), ["a"]).value("a")


def problems(**inputs):
    with Engine(catalog=CATALOG) as engine:
        return [(p.code, p.port) for p in engine.check(Graph().add("a", "Resize", **inputs)).problems]


def test_a_function_is_given_mappings_and_tuples():
    assert run("Resize", **SIZED) == f"{{'part0': 1, 'part2': 3}} {Size(9, Moving(7))} 1"
    assert run("Resize", **{"parts.part0": 1, "size": "by a factor", "last": 5}) == f"{{'part0': 1}} {Factor(1.0)} 5"
    assert run("Named", **{"values.b": 3}) == 5
    assert run("Named", **{"x y": 4}) == 4


def test_which_inputs_there_are_follows_from_what_is_chosen():
    kind = kind_of(resize)
    grown = [f"parts.part{i}" for i in range(4)]
    assert list(kind.inputs) == [*grown, "size", "size.factor", "last"]
    chosen = kind.chosen({"size": "to a size"})
    assert list(chosen.inputs) == [*grown, "size", "size.width", "size.mode", "last"]
    assert chosen.required == ("parts.part0", "size", "size.width")
    assert chosen is kind.chosen({**SIZED, "size.mode": "still"})
    assert "size.mode.fps" in kind.chosen(SIZED).inputs
    assert [keys for keys, _ in kind.variants] == [
        {"size": "by a factor"},
        {"size": "to a size", "size.mode": "still"},
        {"size": "to a size", "size.mode": "moving"},
    ]


def test_what_is_wrong_is_named_by_its_full_name():
    assert problems(**SIZED) == []
    assert problems(**{"parts.part0": 1, "size": "by a factor", "size.factor": 9.0}) == [("above-maximum", "size.factor")]
    assert problems(**{"parts.part1": 1, "size": "to a size"}) == [
        ("missing-input", "parts.part0"),
        ("missing-input", "size.width"),
    ]
    assert problems(**{**SIZED, "size.factor": 1.0, "parts.part4": 1}) == [
        ("unknown-input", "size.factor"),
        ("unknown-input", "parts.part4"),
    ]
    assert problems(**{"parts.part0": 1, "size": "sideways"}) == [("not-a-choice", "size")]


def test_a_linked_choice_is_refused():
    graph = Graph().add("b", "Named").add("a", "Resize", **{**SIZED, "size": Link("b")})
    with Engine(catalog=CATALOG) as engine, pytest.raises(WorkflowInvalid, match="decides which inputs there are"):
        engine.run(graph, ["a"])


def test_only_what_an_input_means_is_part_of_the_key():
    def ran(engine: Engine, **inputs) -> list[str]:
        return list(engine.run(Graph().add("a", "Resize", **inputs), ["a"]).report.ran)

    with Engine(catalog=CATALOG) as engine:
        assert ran(engine, **SIZED) == ["a"]
        assert ran(engine, **dict(reversed(SIZED.items()))) == []
        assert ran(engine, **{**SIZED, "size.mode.fps": 8}) == ["a"]
        assert ran(engine, **{**SIZED, "size.mode": "still"}) == ["a"]  # and `fps` is ignored
        assert ran(engine, **{k: v for k, v in {**SIZED, "size.mode": "still"}.items() if "fps" not in k}) == []
        assert ran(engine, **{**SIZED, "parts.part3": 3}) == ["a"]


def test_a_type_variable_is_any_type_and_a_branch_that_is_not_taken_never_runs():
    graph = Graph().add("no", "Boom").add("yes", "Named", **{"values.a": 3})
    graph = graph.add("a", "Switch", switch=True, on_true=Link("yes"), on_false=Link("no"))
    with Engine(catalog=CATALOG) as engine:
        assert engine.run(graph, ["a"]).value("a") == 5
    assert kind_of(switch).outputs[0].match == kind_of(switch).inputs["on_true"].match == "T"


def test_the_api_format_has_flat_names():
    graph = Graph().add("a", "Resize", **SIZED)
    document = write_api(graph)
    assert document["a"]["inputs"] == SIZED
    assert read_api(document).nodes["a"].inputs == SIZED


def test_the_pages_format_keeps_the_inputs_of_a_choice_after_it():
    graph = Graph().add("1", "Resize", **SIZED, last=4)
    document = write_ui(graph, CATALOG)
    (record,) = document["nodes"]
    assert record["widgets_values"] == ["to a size", 9, "moving", 7, 4]
    assert [slot["name"] for slot in record["inputs"]] == ["parts.part0", "parts.part2"]
    assert read_ui(document, CATALOG).nodes["1"].inputs == graph.nodes["1"].inputs


@pytest.mark.parametrize(
    ("kept", "values"),
    [
        ({"widgets_values": ["to a size", 9, "moving", 7, 4]}, None),
        ({"widgets_values": ["by a factor", 2.0, 4]}, {"size": "by a factor", "size.factor": 2.0, "last": 4}),
        ({"widgets_values_named": {"size": "to a size", "size.width": 9, "size.mode": "moving", "fps": 7, "last": 4}}, None),
        ({"widgets_values_named": {"size": "to a size", "width": 9, "mode": "moving", "fps": 7, "last": 4}}, None),
    ],
)
def test_values_are_read_by_place_and_by_name_with_and_without_the_name_of_the_choice(kept, values):
    document = {"nodes": [{"id": 1, "type": "Resize", "inputs": [], **kept}], "links": [], "version": 0.4}
    known = {name: value for name, value in SIZED.items() if not name.startswith("parts")}
    assert read_ui(document, CATALOG).nodes["1"].inputs == (values or {**known, "last": 4})


def test_object_info_says_what_the_inputs_are_called():
    inputs = object_info(kind_of(resize), Folders())["input"]["required"]
    type_, about = inputs["parts"]
    assert type_ == "COMFY_AUTOGROW_V3"
    assert about["template"] == {"input": {"required": {"parts": ["INT", {}]}}, "prefix": "part", "min": 1, "max": 4}
    type_, about = inputs["size"]
    assert type_ == "COMFY_DYNAMICCOMBO_V3"
    assert [one["key"] for one in about["options"]] == ["by a factor", "to a size"]
    assert about["options"][1]["inputs"]["required"]["mode"][0] == "COMFY_DYNAMICCOMBO_V3"
    info = object_info(kind_of(switch), Folders())
    assert info["input"]["optional"]["on_true"][1]["template"] == {"template_id": "T", "allowed_types": "*"}
    assert info["output_matchtypes"] == ["T"]


def test_the_schema_of_workflows_knows_what_each_choice_brings():
    schema = workflow_schema(CATALOG, Folders())

    def fits(**inputs) -> bool:
        return jsonschema.Draft202012Validator(schema).is_valid({"a": {"class_type": "Resize", "inputs": inputs}})

    assert fits(**SIZED)
    assert fits(**{"parts.part0": 1, "size": "by a factor"})
    assert not fits(**{"parts.part0": 1, "size": "to a size"})
    assert not fits(**{**SIZED, "size.mode.fps": "fast"})


def test_the_help_text_lists_what_each_choice_brings():
    text = described(kind_of(resize), Folders())
    assert "parts.part0, .part1, ...  INT, 1 to 4 of them" in text
    assert '"to a size": To a width.' in text
    assert "size.mode.fps  INT, default 6" in text


def test_declarations_that_leave_something_unsaid_are_refused():
    with pytest.raises(DeclarationError, match="field 'x' is not described"):

        @option("x")
        class Bad(NamedTuple):
            """No word about x."""

            x: int

    with pytest.raises(DeclarationError, match="is for a Mapping"):

        @node("Bad")
        def growing(*, x: Annotated[int, Growing("x")]) -> int:
            """Grow.

            Args:
                x: One.
            """

    with pytest.raises(DeclarationError, match="each with a key of its own"):

        @node("Bad")
        def half(*, x: Still | int) -> int:
            """Choose.

            Args:
                x: One.
            """

    with pytest.raises(DeclarationError, match="with its own defaults"):

        @node("Bad")
        def other(*, x: Factor | Still = DOUBLE) -> int:
            """Choose.

            Args:
                x: One.
            """
