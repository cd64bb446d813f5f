"""Every problem at once, each with its code, place and hint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from engine import Catalog, Engine, Graph, Link, Mode, Node, WorkflowInvalid, node
from engine.errors import CycleError
from engine.folders import Folders
from engine.schema import Choice, FileChoice, Kind, Range, Widget
from engine.types import Image, Latent, Model, Shown, Vae
from engine.validate import COMFY_CODES, check


class Thing:
    port_type = "BOOL"


class Loaded(NamedTuple):
    MODEL: Model
    VAE: Vae


@node("Load")
def load(*, file: Annotated[Path, FileChoice("checkpoints")]) -> Loaded:
    """Load.

    Args:
        file: A file.
    """
    raise NotImplementedError


@node("Sample", title="Sampler")
def sample(
    *,
    model: Model,
    seed: Annotated[int, Range(0, 2**64 - 1)] = 0,
    cfg: Annotated[float, Range(0.0, 100.0)] = 8.0,
    name: Annotated[str, Choice(["euler", "euler_ancestral", "heun"])],
    flag: bool = False,
    text: str = "",
    how: Literal["a", "b"] = "a",
    image: Image | None = None,
    both: int | float = 0,  # noqa: PYI041 - two port types
    anything: Any = None,
) -> Latent:
    """Sample.

    Args:
        model: M
        seed: S
        cfg: C
        name: N
        flag: F
        text: T
        how: H
        image: I
        both: B
        anything: A
    """
    raise NotImplementedError


@node("Save", effect=True)
def save(latent: Latent) -> Shown:
    """Save.

    Args:
        latent: L
    """
    raise NotImplementedError


CATALOG = Catalog([load, sample, save])


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "checkpoints" / "sub").mkdir(parents=True)
    (tmp_path / "checkpoints" / "v1-5.safetensors").write_bytes(b"x")
    (tmp_path / "checkpoints" / "sub" / "deep.safetensors").write_bytes(b"x")
    return Folders(models=(tmp_path,))


@pytest.fixture
def graph():
    return (
        Graph()
        .add("1", "Load", file="v1-5.safetensors")
        .add("2", "Sample", title="My sampler", model=Link("1"), name="euler")
        .add("3", "Save", latent=Link("2"))
    )


def problems(graph, folders, catalog=CATALOG):
    return check(graph, catalog, folders).problems


def only(graph, folders):
    (problem,) = problems(graph, folders)
    return problem


def test_a_sound_graph_has_none(graph, folders):
    checked = check(graph, CATALOG, folders)
    assert checked.problems == ()
    assert list(checked.nodes) == ["1", "2", "3"]
    assert checked.nodes["2"].literals["cfg"] == 8.0


def test_all_problems_at_once(graph, folders):
    graph = graph.set("2", seed=-1, cfg=101, name="eule", model=Link("9")).add("4", "Lod").set("3", latent=Link("1", 5))
    codes = [(p.node, p.code) for p in problems(graph, folders)]
    assert codes == [
        ("2", "missing-node"),
        ("2", "not-a-choice"),
        ("2", "below-minimum"),
        ("2", "above-maximum"),
        ("3", "missing-output"),
        ("4", "unknown-kind"),
    ]
    assert {code for _, code in codes} <= COMFY_CODES.keys()


def test_a_problem_names_node_title_port_and_the_nearest_names(graph, folders):
    problem = only(graph.set("2", name="euler_anc"), folders)
    assert (problem.code, problem.node, problem.title, problem.port) == ("not-a-choice", "2", "My sampler", "name")
    assert problem.message == "node 2 (Sample 'My sampler'): 'name' is 'euler_anc', which is not one of its 3 choices"
    assert problem.hint == "did you mean 'euler_ancestral' or 'euler'?"


def test_unknown_kind_suggests(graph, folders):
    assert only(graph.add("4", "sample"), folders).hint == "did you mean 'Sample'?"


def test_a_link_of_another_type_suggests_the_output_that_fits(graph, folders):
    problem = only(graph.set("2", model=Link("1", "VAE")), folders)
    assert problem.code == "type-mismatch"
    assert problem.message.endswith("cannot link 1.VAE to 2.model: VAE is not MODEL")
    assert problem.hint == "did you mean 1.MODEL?"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("seed", "x", "invalid-value"),
        ("seed", None, "invalid-value"),
        ("seed", [1, 2, 3], "invalid-value"),
        ("seed", {"a": 1}, "invalid-value"),
        ("seed", float("inf"), "invalid-value"),
        ("seed", "5.0", "invalid-value"),
        ("seed", 2**64, "above-maximum"),
        ("cfg", "much", "invalid-value"),
        ("cfg", float("nan"), "above-maximum"),
        ("flag", "maybe", "invalid-value"),
        ("text", None, "invalid-value"),
        ("text", ["a", "b", "c"], "invalid-value"),
        ("how", "c", "not-a-choice"),
        ("how", ["a"], "not-a-choice"),
        ("model", 5, "link-expected"),
        ("image", "x.png", "link-expected"),
        ("both", "x", "invalid-value"),
    ],
)
def test_wrong_values(graph, folders, name, value, code):
    problem = only(graph.set("2", **{name: value}), folders)
    assert (problem.code, problem.port) == (code, name)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("seed", 5.7, 5),
        ("seed", "5", 5),
        ("seed", True, 1),
        ("cfg", 7, 7.0),
        ("cfg", "7.5", 7.5),
        ("text", 3, "3"),
        ("flag", "false", False),
        ("flag", "True", True),
        ("flag", 0, False),
        ("both", 2, 2),
        ("both", 2.5, 2.5),
        ("anything", [1, 2], [1, 2]),
        ("image", None, None),
    ],
)
def test_values_are_read_as_the_port_means_them(graph, folders, name, value, wanted):
    checked = check(graph.set("2", **{name: value}), CATALOG, folders)
    assert checked.problems == ()
    assert checked.nodes["2"].literals[name] == wanted
    assert type(checked.nodes["2"].literals[name]) is type(wanted)
    assert graph.nodes["2"].inputs.get(name, "unset") == "unset"  # the document stays as it was


def test_missing_input(graph, folders):
    problem = only(graph.unset("2", "model"), folders)
    assert (problem.code, problem.port) == ("missing-input", "model")
    assert "needs a MODEL from another node" in problem.message


def test_an_input_that_the_kind_does_not_have_is_a_warning(graph, folders):
    problem = only(graph.set("2", sed=5), folders)
    assert (problem.code, problem.warning, problem.hint) == ("unknown-input", True, "did you mean 'seed'?")
    assert check(graph.set("2", sed=5), CATALOG, folders).require() == ("3",)


class TestFiles:
    def test_missing_file_suggests_and_lists(self, graph, folders):
        problem = only(graph.set("1", file="v1-4.safetensors"), folders)
        assert problem.code == "missing-file"
        assert problem.hint.startswith("did you mean 'v1-5.safetensors'")
        assert problem.details["choices"][-1] == "v1-5.safetensors"

    def test_separators_of_the_other_system(self, graph, folders):
        assert problems(graph.set("1", file="sub\\deep.safetensors"), folders) == ()

    def test_a_repository_is_taken_only_where_a_node_fetches_it(self, folders):
        @node("Fetch")
        def fetch(model: Annotated[Path | str, FileChoice("diffusers", repository=True)]) -> Model:
            """Fetch.

            Args:
                model: M
            """

        catalog = Catalog([*CATALOG, fetch])
        checked = check(Graph().add("a", "Fetch", model="owner/name"), catalog, folders)
        assert checked.nodes["a"].literals["model"] == "owner/name"
        for name in ("owner", "owner/name/more", "../name", "https://hub/x"):
            codes = [p.code for p in check(Graph().add("a", "Fetch", model=name), catalog, folders).problems]
            assert codes in (["missing-file"], ["outside-folder"])
        assert only(Graph().add("1", "Load", file="owner/name"), folders).code == "missing-file"

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "C:\\x", "sub/../../x", "a\0b"])
    def test_names_that_lead_outside(self, graph, folders, name):
        assert only(graph.set("1", file=name), folders).code == "outside-folder"

    def test_a_model_may_be_a_link_to_another_disk_but_an_input_may_not(self, graph, tmp_path):
        outside = tmp_path / "outside.safetensors"
        outside.write_bytes(b"x")
        for folder in ("models/checkpoints", "input"):
            (tmp_path / folder).mkdir(parents=True)
            (tmp_path / folder / "link.safetensors").symlink_to(outside)
        folders = Folders(models=(tmp_path / "models",), input=tmp_path / "input")
        assert problems(graph.set("1", file="link.safetensors"), folders) == ()
        assert only(graph.set("1", file="link.safetensors [input]"), folders).code == "outside-folder"


class TestCycles:
    def test_the_path_is_told(self, graph, folders):
        loop = Catalog([*CATALOG, wire()])
        graph = graph.add("a", "Wire", x=Link("c")).add("b", "Wire", x=Link("a")).add("c", "Wire", x=Link("b"))
        graph = graph.add("below", "Wire", x=Link("c")).add("above", "Wire").add("d", "Wire", x=Link("above"))
        checked = check(graph, loop, folders)
        (problem,) = checked.problems
        assert problem.code == "cycle"
        path = problem.details["path"]
        assert path[0] == path[-1]
        assert sorted(path[:-1]) == ["a", "b", "c"]
        assert set(checked.nodes) == {"1", "2", "3", "above", "d"}
        assert checked.require() == ("3",)  # no output depends on it
        with pytest.raises(CycleError) as caught:
            checked.require(["below"])
        assert list(caught.value.path) == path

    def test_every_cycle_is_told(self, folders):
        graph = Graph()
        for a, b in (("a", "b"), ("c", "d"), ("e", "e")):
            graph = graph.add(a, "Wire", x=Link(b))
            if a != b:
                graph = graph.add(b, "Wire", x=Link(a))
        checked = check(graph, Catalog([wire()]), folders)
        assert sorted(sorted(set(p.details["path"])) for p in checked.problems) == [["a", "b"], ["c", "d"], ["e"]]
        with pytest.raises(CycleError):
            checked.require(["c"])

    def test_a_node_linked_to_itself(self, folders):
        (problem,) = check(Graph().add("a", "Wire", x=Link("a")), Catalog([wire()]), folders).problems
        assert problem.details["path"] == ["a", "a"]

    def test_a_cycle_of_ten_thousand(self, folders):
        nodes = {str(i): {"class_type": "Wire", "inputs": {"x": [str((i + 1) % 10_000), 0]}} for i in range(10_000)}
        with pytest.raises(CycleError) as caught:
            Engine(catalog=Catalog([wire()])).run(nodes, ["0"])
        assert len(caught.value.path) == 10_001


def wire() -> Kind:
    @node("Wire")
    def wire(x: Any = None) -> Any:
        """Pass.

        Args:
            x: X
        """
        return x

    return wire.__weft_kind__


class TestTargets:
    def test_no_output_node(self, graph, folders):
        with pytest.raises(WorkflowInvalid, match="no-outputs"):
            check(graph.remove("3"), CATALOG, folders).require()

    def test_unknown_target(self, graph, folders):
        with pytest.raises(WorkflowInvalid, match="no node '7' to run"):
            check(graph, CATALOG, folders).require(["7"])

    def test_a_muted_target(self, graph, folders):
        with pytest.raises(WorkflowInvalid, match="inactive-target"):
            check(graph.set_mode("3", Mode.MUTED), CATALOG, folders).require(["3"])

    def test_leftover_nodes_do_not_stop_the_outputs(self, graph, folders):
        checked = check(graph.add("left", "Sample", name="nothing"), CATALOG, folders)
        assert checked.problems
        assert checked.require() == ("3",)

    def test_too_many_nodes(self, folders):
        graph = Graph({str(i): Node("Save") for i in range(10_001)})
        (problem,) = check(graph, CATALOG, folders).problems
        assert problem.code == "too-many-nodes"

    def test_problems_elsewhere_do_not_stop_a_target(self, graph, folders):
        checked = check(graph.add("9", "Nothing"), CATALOG, folders)
        assert checked.require(["3"]) == ("3",)
        with pytest.raises(WorkflowInvalid):
            checked.require()


class TestModes:
    def test_a_muted_source_is_a_missing_input(self, graph, folders):
        problem = only(graph.set_mode("1", Mode.MUTED), folders)
        assert (problem.node, problem.code) == ("2", "missing-input")

    def test_a_bypass_passes_what_fits(self, folders):
        @node("Blur")
        def blur(strength: float = 1.0, image: Image = None, mask: Image = None) -> Image:
            """Blur.

            Args:
                strength: S
                image: I
                mask: M
            """

        @node("Source")
        def source() -> Image:
            """Source."""

        catalog = Catalog([blur, source])
        graph = Graph().add("s", "Source").add("b", "Blur", image=Link("s")).add("c", "Blur", image=Link("b"))
        checked = check(graph.set_mode("b", Mode.BYPASSED), catalog, folders)
        assert checked.nodes["c"].links == {"image": ("s", 0)}

    def test_a_ring_of_bypassed_nodes_ends(self, folders):
        catalog = Catalog([wire()])
        graph = Graph().add("a", "Wire", x=Link("b")).add("b", "Wire", x=Link("a")).add("c", "Wire", x=Link("a"))
        checked = check(graph.set_mode("a", Mode.BYPASSED).set_mode("b", Mode.BYPASSED), catalog, folders)
        assert checked.nodes["c"].links == {}


def test_a_constant_for_a_type_that_nobody_knows_passes(folders):
    @node("Own")
    def own(x: Thing) -> Thing:
        """Own.

        Args:
            x: X
        """

    assert problems(Graph().add("a", "Own", x=True), folders, Catalog([own])) == ()


def test_widget_options_do_not_bind(folders):
    @node("W")
    def w(x: Annotated[int, Widget(step=8)] = 3) -> int:
        """W.

        Args:
            x: X
        """

    assert problems(Graph().add("a", "W", x=5), folders, Catalog([w])) == ()


class TestHostile:
    def test_thousands_of_problems_take_no_time_to_describe(self, folders):
        nodes = {f"n{i}": Node("Save", {"latent": Link(f"gone{i}")}) for i in range(3000)}
        found = problems(Graph(nodes), folders)
        assert len(found) == 3000
        assert sum(p.hint is not None for p in found) <= 50

    def test_long_names_make_short_messages(self, folders):
        for graph in (Graph().add("a", "K" * 10**6), Graph().add("a", "Save", latent=Link("x" * 10**6))):
            (problem,) = problems(graph, folders)
            assert len(problem.message) < 500


class TestAgain:
    """A check of a later version equals a check from nothing."""

    def test_warnings_stay(self, graph, folders):
        graph = graph.set("2", sed=5)
        first = check(graph, CATALOG, folders)
        second = check(graph.set("2", seed=7), CATALOG, folders, previous=first)
        assert [p.code for p in second.problems] == ["unknown-input"]
        assert second.stale == {"2"}
        third = check(graph.unset("2", "sed"), CATALOG, folders, previous=second)
        assert third.problems == ()

    def test_reordering_the_document_reorders_its_outputs(self, graph, folders):
        graph = graph.add("4", "Save", latent=Link("2"))
        first = check(graph, CATALOG, folders)
        turned = Graph(dict(reversed(graph.nodes.items())))
        assert check(turned, CATALOG, folders, previous=first).effects == ("4", "3")
