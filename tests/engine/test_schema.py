"""What a function must say to become a node, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest

from engine import Engine, Graph
from engine.errors import DeclarationError
from engine.folders import Folders
from engine.formats.object_info import object_info
from engine.schema import Catalog, Choice, FileChoice, Names, Range, References, Widget, compatible, kind_of, node
from engine.types import Image, Latent, Lazy, Mask, Run, Shown


class Split(NamedTuple):
    image: Image
    mask: Mask
    shown: Shown


@node("Thing", title="A thing", category="a/b", version=3, experimental=True)
def thing(
    *,
    image: Image,
    count: Annotated[int, Range(1, 8, step=1), Widget(display="slider")] = 2,
    how: Annotated[str, Choice(["x", "y"])],
    other: Image | Mask | None = None,
    later: Lazy[Latent] = None,
    many: list[Mask],
    run: Run,
    **more: Any,
) -> Split:
    """Make a thing.

    More about it.

    Args:
        image: The picture,
            over two lines.
        count: How many.
        how: In which way.
        other: A second one.
        later: Only when needed.
        many: All of them.
        more: Whatever else.

    Returns:
        image: A picture.
        mask: A mask.
    """


def test_ports_come_from_the_signature():
    kind = kind_of(thing)
    assert [(p.name, p.type, p.required) for p in kind.inputs.values()] == [
        ("image", "IMAGE", True),
        ("count", "INT", False),
        ("how", "COMBO", True),
        ("other", "IMAGE,MASK", False),
        ("later", "LATENT", False),
        ("many", "MASK", True),
    ]
    assert kind.inputs["image"].help == "The picture, over two lines."
    assert kind.inputs["later"].lazy
    assert kind.inputs["many"].whole_list
    assert kind.run_parameter == "run"
    assert kind.variadic.name == "more"
    assert [(o.name, o.type, o.help) for o in kind.outputs] == [("image", "IMAGE", "A picture."), ("mask", "MASK", "A mask.")]
    assert kind.show_output == 2
    assert kind.help == "Make a thing.\n\nMore about it."
    assert kind.version == 3


def test_the_function_stays_callable():
    @node("Double")
    def double(x: int) -> int:
        """Double.

        Args:
            x: It.
        """
        return 2 * x

    assert double(21) == 42


def test_object_info(tmp_path):
    info = object_info(kind_of(thing), Folders(models=(tmp_path,)))
    assert info["input"]["required"]["count"] == [
        "INT",
        {"default": 2, "min": 1, "max": 8, "step": 1, "display": "slider", "tooltip": "How many."},
    ]
    assert info["input"]["required"]["how"][0] == ["x", "y"]
    assert list(info["input"]["optional"]) == ["other", "later"]
    assert info["input_order"]["required"] == ["image", "count", "how", "many"]
    assert info["output"] == ["IMAGE", "MASK"]
    assert info["output_tooltips"] == ["A picture.", "A mask."]
    assert info["experimental"] is True
    assert info["is_input_list"] is True
    assert (info["display_name"], info["category"], info["output_node"]) == ("A thing", "a/b", False)


def declare(source: str) -> None:
    space = {"node": node, "Annotated": Annotated, "Range": Range, "Choice": Choice, "Any": Any}
    space |= {"Names": Names, "Lazy": Lazy, "FileChoice": FileChoice, "References": References, "Path": Path}
    exec(f"@node('X')\ndef f{source}", space)  # noqa: S102 - the text is ours


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("(x) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", "parameter 'x' has no annotation"),
        ("(x: int) -> int: pass", "no docstring"),
        ("(x: int) -> int:\n  '''D.'''", "parameter 'x' is not described"),
        ("() -> int:\n  '''D.\n\n  Args:\n      y: Y\n  '''", r"describes \['y'\]"),
        ("(*x: int) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", r"\*x is not a port"),
        ("(x: int):\n  '''D.\n\n  Args:\n      x: X\n  '''", "no return annotation"),
        ("(x: Annotated[int, Range(0, 5)] = 6) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", "outside 0..5"),
        ("(x: Annotated[str, Choice(['a'])] = 'b') -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", "not one of"),
        ("(x: list = []) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", "can be changed"),
        ("(**x: Lazy[int]) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", r"\*\*x cannot be Lazy\[\.\.\.\]; declare each"),
        ("(**x: list[int]) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", r"\*\*x cannot be list"),
        ("(**x: Annotated[Path, FileChoice('vae')]) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", "cannot be FileChoice"),
        ("(**x: Annotated[str, References(print)]) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", "cannot be References"),
        (
            "(x: Annotated[Path, FileChoice('vae')] = 'a.pt') -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''",
            "parameter 'x': the default 'a.pt' names a file, which may not be there",
        ),
        ("(x: Annotated[int, Names(('a',))]) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", r"'x' is one input; Names"),
        (
            "(**x: Annotated[int, Range(0, 5), Names(('a',), 6)]) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''",
            "outside 0..5",
        ),
        ("(x: 5) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''", "not a port type"),
    ],
)
def test_what_is_left_unsaid_is_refused(source, message):
    with pytest.raises(DeclarationError, match=message):
        declare(source)


def test_inputs_may_have_names_that_no_parameter_could_have():
    @node("Weigh")
    def weigh(*, first: int, **parts: Annotated[float, Range(0, 1), Names(("a.0", "b c"), default=0.5)]) -> float:
        """Add up.

        Args:
            first: The first.
            parts: Another one.
        """
        return first + sum(parts.values())

    @node("WeighAll")
    def weigh_all(**parts: Annotated[int, Names(("a.0",))]) -> int:
        """Add up.

        Args:
            parts: One of them.
        """
        return sum(parts.values())

    kind = kind_of(weigh)
    assert kind.variadic is None
    assert list(kind.inputs) == ["first", "a.0", "b c"]
    assert kind.defaults == {"a.0": 0.5, "b c": 0.5}
    assert kind.inputs["b c"].help == "Another one."
    assert kind_of(weigh_all).required == ("a.0",)
    with Engine(catalog=Catalog([weigh, weigh_all])) as engine:
        assert engine.run(Graph().add("w", "Weigh", first=1, **{"a.0": 0.25}), ["w"]).value("w") == 1.75
        assert engine.run(Graph().add("w", "WeighAll", **{"a.0": 3}), ["w"]).value("w") == 3


def test_a_file_may_be_left_out():
    declare("(x: Annotated[Path | None, FileChoice('vae')] = None) -> int:\n  '''D.\n\n  Args:\n      x: X\n  '''")


def test_two_functions_cannot_declare_one_kind():
    with pytest.raises(DeclarationError, match="two functions declare the kind 'Thing'"):
        Catalog([thing, thing])


def test_catalogues_add_up():
    @node("Other")
    def other() -> int:
        """Other."""

    both = Catalog([thing]) | Catalog([other])
    assert both.ids() == ("Thing", "Other")
    assert "Thing" in both
    assert both.get("Nothing") is None


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        ("IMAGE", "IMAGE", True),
        ("image", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("IMAGE,MASK", "MASK", True),
        ("INT", "FLOAT,INT", True),
        ("*", "MODEL", True),
        ("MODEL", "*", True),
        ("INT", "FLOAT", False),
    ],
)
def test_types_that_fit(given, wanted, fits):
    assert compatible(given, wanted) is fits
