"""The values of custom sampling that travel on links. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from engine.sampling.mix import Cfg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.sampling.mix import Mix
    from engine.types import Conditioning, Model


@dataclass(frozen=True, slots=True)
class Sampler:
    """How steps are taken.

    Attributes:
        name: One of `names.SAMPLER_NAMES`.
        options: What differs from the sampler's defaults; which there are is said in `build`.
    """

    port_type: ClassVar[str] = "SAMPLER"

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Noise:
    """What sampling starts from.

    Attributes:
        seed: Of the noise, and of what the sampler adds on its way.
        is_added: Whether noise is added at the start; not where the latent is noisy already.
    """

    port_type: ClassVar[str] = "NOISE"

    seed: int
    is_added: bool = True


@dataclass(frozen=True, slots=True)
class Guider:
    """A model with what guides it.

    Attributes:
        model: Predicts denoised latents.
        conditionings: What guides, in the order that `mix` counts them.
        mix: How their answers become one.
    """

    port_type: ClassVar[str] = "GUIDER"

    model: Model
    conditionings: tuple[Conditioning, ...]
    mix: Mix

    @classmethod
    def cfg(cls, model: Model, positive: Conditioning, negative: Conditioning, scale: float) -> Guider:
        """Classifier-free guidance towards `positive`, away from `negative`."""
        return cls(model, (positive, negative), Cfg(scale))
