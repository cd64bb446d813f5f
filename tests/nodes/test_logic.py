"""Switches, formulas, lists and texts, against values worked out by hand or by other means."""

from __future__ import annotations

import json
import math
import time

import pytest

from engine import Engine, Graph, Link
from engine.errors import NodeFailed, WeftError
from engine.expressions import evaluated
from nodes.logic import colour, convert
from nodes.text import extract_json, format_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a * b + 1", 13.0),
        ("max(5, round(a * 24)) + (5 - (max(5, round(a * 24)) % 17)) % 17", 72 + (5 - 4)),
        ("(c // 32) * 32", 96),
        ("c & ~1", 100),
        ("c & -8", 96),
        ("c > 2048", False),
        (" floor(c/32)*32\n", 96),
        ("ceil(1.5 * log2(max(a, b))) + 2", 5),
        ("a % b if b > 0 else 0", 3.0 % 4),
        ("b if b < 0 else a", 3.0),
        ("sum(values) / 2", 54.0),
        ("pow(b, 2) + sqrt(16) - abs(-1)", 19.0),
        ("1 < a <= 3 and not c < b", True),
        ("0 or c", 101),
        ("1 << 4 | 1", 17),
        ("min([a, b])", 3.0),
        ("2 ** -1", 0.5),
        ("int(2.9) + float(1)", 3.0),
    ],
)
def test_a_formula_has_the_value_that_it_says(text, expected):
    values = {"a": 3.0, "b": 4, "c": 101}
    assert evaluated(text, {**values, "values": tuple(values.values())}) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "__import__('os').system('true')",
        "a.real",
        "'text'",
        "[1, 2]",
        "(lambda: 1)()",
        "9 ** 9 ** 9 ** 9",
        "2 ** 20000",
        "1 << 99999",
        "1 / 0",
        "1e308 * 10",
        "sqrt(-1)",
        "(-8) ** 0.5",
        "x + 1",
        "exec(1)",
        "round(1, ndigits=2)",
        "values[0]",
        "{1: 2}",
        "(" * 250 + "1" + ")" * 250,
        "-" * 3000 + "1",
        "1" + "+1" * 3000,
        "a if a else a" * 2000,
        "a is a",
        "min()",
        "sum(3)",
        "1e400",
        "a @ a",
    ],
)
def test_what_is_no_formula_or_costs_too_much_is_refused_at_once(text):
    started = time.perf_counter()
    with pytest.raises(WeftError):
        evaluated(text, {"a": 3, "values": (3,)})
    assert time.perf_counter() - started < 1


def test_a_long_product_cannot_grow_without_limit():
    with pytest.raises(WeftError, match="bits"):
        evaluated("*".join(["a"] * 100), {"a": 2**62})


def test_a_node_computes_a_formula_of_its_letters():
    graph = Graph().add("n", "PrimitiveInt", value=7)
    graph = graph.add("f", "ComfyMathExpression", **{"expression": "a * b", "values.a": Link("n"), "values.b": 2.5})
    with Engine() as engine:
        result = engine.run(graph, ["f"])
    assert [result.value("f", port) for port in ("FLOAT", "INT", "BOOL")] == [17.5, 17, True]


@pytest.mark.parametrize("switch", [True, False])
def test_only_the_chosen_branch_is_computed(switch):
    graph = Graph().add("good", "PrimitiveString", value="taken").add("bad", "ComfyNumberConvert", value="no number")
    ends = {"on_true": Link("good"), "on_false": Link("bad")} if switch else {"on_false": Link("good"), "on_true": Link("bad")}
    graph = graph.add("s", "ComfySwitchNode", switch=switch, **ends)
    with Engine() as engine:
        result = engine.run(graph, ["s"])
        assert result.value("s") == "taken"
        assert "bad" not in result.report.ran
        alone = (
            Graph().add("s", "ComfySwitchNode", switch=True, on_false=Link("good")).add("good", "PrimitiveString", value="x")
        )
        assert engine.run(alone, ["s"]).value("s") is None


def test_lists_are_joined_and_taken_apart():
    graph = Graph().add("x", "PrimitiveInt", value=5).add("y", "PrimitiveInt", value=6)
    graph = graph.add("xy", "CreateList", **{"inputs.input0": Link("x"), "inputs.input1": Link("y")})
    graph = graph.add("xyx", "CreateList", **{"inputs.input0": Link("xy"), "inputs.input1": Link("x")})
    graph = graph.add("double", "ComfyMathExpression", **{"expression": "a * 2", "values.a": Link("xyx")})
    graph = graph.add("last", "GetItemFromList", list=Link("double", 1), index=-2)
    with Engine() as engine:
        assert list(engine.run(graph, ["double"]).value("double", 1)) == [10, 12, 10]
        assert engine.run(graph, ["last"]).value("last") == 12
        far = graph.add("far", "GetItemFromList", list=Link("xyx"), index=3)
        with pytest.raises(NodeFailed, match="element 3 out of a list of 3"):
            engine.run(far, ["far"])


@pytest.mark.parametrize(
    ("value", "number", "whole"),
    [
        (3, 3.0, 3),
        (2.9, 2.9, 2),
        (-2.9, -2.9, -2),
        ("12", 12.0, 12),
        (" 1.5e1 ", 15.0, 15),
        (True, 1.0, 1),
        (2**60 + 1, 2.0**60, 2**60 + 1),
    ],
)
def test_values_become_numbers(value, number, whole):
    assert convert(value=value) == (number, whole)


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", math.inf, math.nan])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="into a number"):
        convert(value=value)


def test_colours_become_numbers():
    assert colour(color="#0a9299") == (10 * 65536 + 146 * 256 + 153, "#0a9299", 1.0)
    assert colour(color="#FF000033") == (255 * 65536, "#FF0000", pytest.approx(0.2))
    with pytest.raises(ValueError, match="neither"):
        colour(color="red")


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('Sure! ```json\n{"a": "x {y}", "n": 1.5}\n```', "a", "x {y}"),
        ('{"a": 1.5}', "a", "1.5"),
        ('{"a": null}', "a", ""),
        ('{"a": 1}', "b", ""),
        ('{broken {"a": true} {"a": 2}', "a", "True"),
        ("no object", "a", ""),
        ('{"Default": {"mu": 0.0}}', "Default", "{'mu': 0.0}"),
        ("{" * 5000, "a", ""),
    ],
)
def test_a_value_is_taken_out_of_json(text, key, expected):
    assert extract_json(json_string=text, key=key) == expected


def test_values_are_filled_into_a_text():
    values = {"a": 16, "b": 9.5, "c": "wide"}
    for pattern in ("{a}:{b}, {c}", "{{{a}}}", "{a:>5}|{b:.2f}|{c!r}", "none"):
        assert format_text(f_string=pattern, values=values) == pattern.format(**values)


@pytest.mark.parametrize("pattern", ["{d}", "{a.__class__}", "{a[0]}", "{}", "{0}", "{a:>999999}", "{a:{b}}", "{", "{b:d}"])
def test_a_text_reaches_nothing_but_its_values(pattern):
    with pytest.raises(ValueError):
        format_text(f_string=pattern, values={"a": 16, "b": 9.5})


def test_texts_are_saved_with_numbers(tmp_path):
    graph = Graph().add("t", "PrimitiveString", value='{"b":[1]}')
    for format_ in ("json", "txt"):
        graph = graph.add(format_, "SaveText", text=Link("t"), filename_prefix="notes/a", format=format_)
    with Engine(output_dir=tmp_path) as engine:
        engine.run(graph)
        engine.run(graph)
        assert engine.run(graph, ["txt"]).value("txt") == '{"b":[1]}'
    assert sorted(p.suffix for p in (tmp_path / "notes").iterdir()) == [".json"] * 2 + [".txt"] * 3
    saved = min((tmp_path / "notes").glob("*.json")).read_text("utf-8")
    assert saved == json.dumps({"b": [1]}, indent=2)
    assert all(p.name.startswith("a_0000") for p in (tmp_path / "notes").iterdir())


def test_noise_levels_are_read_as_written():
    graph = Graph().add("s", "ManualSigmas", sigmas="1.0, 0.978453 .5;-2e-1 and 0")
    with Engine() as engine:
        levels = engine.run(graph, ["s"]).value("s")
    assert levels.tolist() == pytest.approx([1.0, 0.978453, 0.5, -0.2, 0.0])
