"""The values of custom sampling that travel on links. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from engine.types import Conditioning, Model


@dataclass(frozen=True, slots=True)
class Sampler:
    """How steps are taken.

    Attributes:
        name: One of `names.AVAILABLE_SAMPLERS`.
    """

    port_type: ClassVar[str] = "SAMPLER"

    name: str


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
        positive: What to move towards.
        negative: What to move away from; not evaluated where `cfg` is 1.
        cfg: Guidance scale.
    """

    port_type: ClassVar[str] = "GUIDER"

    model: Model
    positive: Conditioning
    negative: Conditioning
    cfg: float
