"""`comfy.comfy_types`: names of port types, and what classes are annotated with."""

from __future__ import annotations

from abc import ABC
from typing import Any, TypeAlias


class _Any(str):
    """A type that is equal to every type."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        """No type differs from this one."""
        return False

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        """Every type is equal to this one."""
        return isinstance(other, str)


class IO:
    """Names of port types."""

    ANY = _Any("*")
    STRING = "STRING"
    IMAGE = "IMAGE"
    MASK = "MASK"
    LATENT = "LATENT"
    BOOLEAN = "BOOLEAN"
    INT = "INT"
    FLOAT = "FLOAT"
    COMBO = "COMBO"
    CONDITIONING = "CONDITIONING"
    SAMPLER = "SAMPLER"
    SIGMAS = "SIGMAS"
    GUIDER = "GUIDER"
    NOISE = "NOISE"
    CLIP = "CLIP"
    CONTROL_NET = "CONTROL_NET"
    VAE = "VAE"
    MODEL = "MODEL"
    LORA_MODEL = "LORA_MODEL"
    CLIP_VISION = "CLIP_VISION"
    CLIP_VISION_OUTPUT = "CLIP_VISION_OUTPUT"
    STYLE_MODEL = "STYLE_MODEL"
    GLIGEN = "GLIGEN"
    UPSCALE_MODEL = "UPSCALE_MODEL"
    AUDIO = "AUDIO"
    VIDEO = "VIDEO"
    WEBCAM = "WEBCAM"
    POINT = "POINT"
    BBOX = "BBOX"
    SEGS = "SEGS"
    NUMBER = "FLOAT,INT"
    PRIMITIVE = "STRING,FLOAT,INT,BOOLEAN"


class ComfyNodeABC(ABC):
    """What a class of a node may derive from."""

    DESCRIPTION: str
    CATEGORY: str
    EXPERIMENTAL: bool
    DEPRECATED: bool
    FUNCTION: str
    RETURN_TYPES: tuple[Any, ...]


class CheckLazyMixin:
    """Asks for every lazy input that is not there yet."""

    def check_lazy_status(self, **inputs: Any) -> list[str]:
        """Names of the inputs without a value."""
        return [name for name, value in inputs.items() if value is None]


InputTypeDict: TypeAlias = dict[str, Any]
InputTypeOptions: TypeAlias = dict[str, Any]
HiddenInputTypeDict: TypeAlias = dict[str, Any]
FileLocator: TypeAlias = dict[str, str]
