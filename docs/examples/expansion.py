"""A node that becomes a subgraph while running."""

from engine import Catalog, Engine, Graph, Link, node
from engine.types import Conditioning, Expansion, TextEncoder


@node("EncodeAll", category="conditioning")
def encode_all(clip: TextEncoder, prompts: str) -> Conditioning | Expansion:
    """Encode every line of a text, and combine the results.

    Args:
        clip: Encodes them.
        prompts: One prompt on each line.
    """
    lines = prompts.splitlines() or [""]
    graph = Graph().add("0", "CLIPTextEncode", clip=clip, text=lines[0])
    last = Link("0")
    for number, line in enumerate(lines[1:], 1):
        graph = graph.add(f"{number}", "CLIPTextEncode", clip=clip, text=line)
        graph = graph.add(f"with {number}", "ConditioningCombine", conditioning_1=last, conditioning_2=Link(f"{number}"))
        last = Link(f"with {number}")
    return Expansion(graph, (last,))


if __name__ == "__main__":
    graph = (
        Graph()
        .add("model", "CheckpointLoaderSimple", ckpt_name="portrait.safetensors")
        .add("out", "EncodeAll", clip=Link("model", "CLIP"), prompts="a woman\na blue background")
    )
    with Engine(catalog=Catalog.load("nodes") | Catalog([encode_all])) as engine:
        assert len(engine.run(graph, ["out"]).value("out").entries) == 2
        again = engine.run(graph.set("out", prompts="a woman\na green background"), ["out"])
        ran = {entry.kind for entry in again.report if entry.state == "ran"}
        assert ran == {"EncodeAll", "CLIPTextEncode", "ConditioningCombine"}
        assert again.report.ran.count("out.0.0") == 0  # the first line was known
