"""A rule of guidance: a node that changes how a model is guided."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from engine import Catalog, Engine, Graph, Link, node
from engine.sampling.rules import Rules
from engine.schema import Range
from engine.types import Model

if TYPE_CHECKING:
    from torch import Tensor

    from engine.sampling.rules import Moment


@dataclass(frozen=True)
class Soften:
    """Moves the guided latent back to the positive answer."""

    share: float

    def __call__(self, moment: "Moment") -> "Tensor":
        """The denoised latent with less guidance."""
        return moment.denoised + (moment.cond - moment.denoised) * self.share


@node("SoftenGuidance", category="model")
def soften_guidance(model: Model, share: Annotated[float, Range(0, 1, step=0.01)] = 0.5) -> Model:
    """Weaken the guidance of a model.

    Args:
        model: The model.
        share: How far to go back to what the prompt alone gives.
    """
    return model.with_rules(Rules(post=(Soften(share),)))


if __name__ == "__main__":
    graph = Graph().add("loader", "CheckpointLoaderSimple", ckpt_name="portrait.safetensors")
    graph = graph.add("out", "SoftenGuidance", model=Link("loader", "MODEL"), share=0.3)
    with Engine(catalog=Catalog.load("nodes") | Catalog([soften_guidance])) as engine:
        assert engine.run(graph, ["out"]).value("out").rules.post == (Soften(0.3),)
