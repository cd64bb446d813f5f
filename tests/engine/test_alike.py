"""Files that do not belong together are a problem of the workflow, found before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import pytest

from engine.errors import DeclarationError
from engine.folders import Folders
from engine.graph import Graph, Link
from engine.schema import Catalog, FileChoice, node
from engine.types import Facts
from engine.validate import check

READ: list[str] = []


def tell(path: Path) -> Facts | None:
    """`sdxl 2048` in a file: its family and the width of its words; an empty file tells nothing."""
    READ.append(path.name)
    family, _, width = path.read_text("utf-8").partition(" ")
    return Facts(f"a {family} file", {"family": family, "context": int(width)}) if family else None


@dataclass(frozen=True)
class Net:
    """A network."""

    port_type = "MODEL"


@dataclass(frozen=True)
class Words:
    """Words."""

    port_type = "CONDITIONING"


@dataclass(frozen=True)
class Encoder:
    """An encoder."""

    port_type = "CLIP"


class Both(NamedTuple):
    """What a file holds."""

    MODEL: Net
    CLIP: Encoder


@node("Read")
def read(*, name: Annotated[Path, FileChoice("nets", tell=tell)]) -> Both:
    """Read a file.

    Args:
        name: The file.
    """
    return Both(Net(), Encoder())


@node("Adapt", alike=("model", "name"))
def adapt(*, model: Net, name: Annotated[Path, FileChoice("adapters", tell=tell)], share: float = 1.0) -> Net:
    """Change a network by a file.

    Args:
        model: The network.
        name: The file.
        share: How much of it.
    """
    return model


@node("Say")
def say(*, clip: Encoder, text: str = "") -> Words:
    """Make words.

    Args:
        clip: Makes them.
        text: Of this.
    """
    return Words()


@node("Draw", alike=("model", "words"), effect=True)
def draw(*, model: Net, words: Words) -> str:
    """Follow words.

    Args:
        model: Follows them.
        words: The words.
    """
    return ""


CATALOG = Catalog([read, adapt, say, draw])


@pytest.fixture
def folders(tmp_path):
    READ.clear()
    texts = {"nets/one": "sd1 768", "nets/same": "sd1 768", "nets/other": "sdxl 2048", "nets/silent": ""}
    texts |= {"adapters/fits": "sd1 768", "adapters/unfit": "sdxl 2048", "adapters/silent": ""}
    for name, text in texts.items():
        path = tmp_path / f"{name}.pt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return Folders(models=(tmp_path,))


def drawn(net="one", adapter="fits", words="one", share=1.0) -> Graph:
    """net -> adapt -> draw, and words -> say -> draw."""
    graph = Graph().add("net", "Read", name=f"{net}.pt").add("words", "Read", name=f"{words}.pt")
    graph = graph.add("adapt", "Adapt", model=Link("net", "MODEL"), name=f"{adapter}.pt", share=share)
    graph = graph.add("say", "Say", clip=Link("words", "CLIP"))
    return graph.add("draw", "Draw", model=Link("adapt"), words=Link("say"))


def problems(graph: Graph, folders: Folders, **options):
    return check(graph, CATALOG, folders, **options).problems


def test_files_of_one_family_are_no_problem(folders):
    assert problems(drawn(words="same"), folders) == ()


def test_an_adapter_of_another_family_is_a_problem_that_names_both_files(folders):
    (problem,) = problems(drawn(adapter="unfit"), folders)

    assert (problem.code, problem.node, problem.port) == ("unlike-files", "adapt", "name")
    assert "one.pt is a sd1 file, unfit.pt is a sdxl file (context 768 and 2048)" in problem.message


def test_facts_follow_the_links_through_other_nodes(folders):
    """The words come from an encoder; of a conditioning only the width of its words is a fact."""
    (problem,) = problems(drawn(words="other"), folders)

    assert (problem.node, problem.port) == ("draw", "words")
    assert problem.details["fact"] == "context"


def test_what_depends_on_the_node_is_not_sound_either(folders):
    checked = check(drawn(adapter="unfit"), CATALOG, folders)

    assert {"net", "words", "say"} == set(checked.nodes)


@pytest.mark.parametrize("silent", [{"net": "silent"}, {"adapter": "silent"}])
def test_a_file_that_tells_nothing_fits(silent, folders):
    assert problems(drawn(**silent), folders) == ()


def test_headers_are_read_only_where_two_files_meet(folders):
    graph = Graph().add("net", "Read", name="one.pt").add("say", "Say", clip=Link("net", "CLIP"))

    assert problems(graph.add("draw", "Draw", model=Link("net", "MODEL"), words=Link("say")), folders) == ()
    assert READ == []


def test_an_edit_of_a_number_reads_no_header_again(folders):
    first = check(drawn(), CATALOG, folders)
    READ.clear()

    assert problems(drawn(share=0.5), folders, previous=first) == ()
    assert READ == []


def test_an_edit_of_a_file_is_checked(folders):
    first = check(drawn(), CATALOG, folders)

    (problem,) = problems(drawn(adapter="unfit"), folders, previous=first)

    assert problem.code == "unlike-files"


def test_inputs_that_are_not_there_cannot_be_alike():
    with pytest.raises(DeclarationError, match=r"alike names \['model'\]"):

        @node("Nothing", alike=("model",))
        def nothing(*, text: str) -> str:
            """Do nothing.

            Args:
                text: Of this.
            """
            return text
