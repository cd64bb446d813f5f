"""`nodes`: Weft's kinds as classes, so that packs can call them, list them and derive from them.

A class has the attributes of the protocol; any method of an instance calls the kind, whatever name the pack calls it by:
`VAEDecode().decode(vae, samples)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.errors import WeftError
from engine.packs.scene import scene
from engine.packs.values import from_pack, to_pack
from engine.types import Shown

if TYPE_CHECKING:
    from engine.schema import Catalog, Input, Kind

MAX_RESOLUTION = 16384
"""The largest side of a picture that inputs allow, in pixels."""


class _KindNode:
    """A kind as packs call it."""

    KIND: Kind

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the protocol's name
        """The inputs, by section."""
        sections: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
        for port in cls.KIND.inputs.values():
            sections["optional" if port.listed_optional else "required"][port.name] = _spec(port)
        return sections

    def __getattr__(self, name: str) -> Any:
        """The call of the kind, under any name."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.run

    def run(self, *values: Any, **inputs: Any) -> Any:
        """Call the kind; values without a name are inputs in the order of the declaration, unknown ones are left out."""
        kind = self.KIND
        given = {**dict(zip(kind.inputs, values, strict=False)), **inputs}
        if kind.variadic is None:
            given = {name: value for name, value in given.items() if name in kind.inputs}
        if kind.is_async or any(port.lazy for port in kind.inputs.values()):
            msg = f"a pack cannot call {kind.id}, which waits for its inputs; let it return a subgraph instead"
            raise WeftError(msg)
        for name, port in kind.inputs.items():
            value = given.get(name)
            if port.files is not None and isinstance(value, str):
                given[name] = scene().folders.find(port.files.folder, value) or value
            elif name in given:
                given[name] = from_pack(value, port.type)
        if kind.run_parameter is not None:
            given[kind.run_parameter] = scene().run
        raw = kind.function(**given)
        if isinstance(raw, Shown):
            return {"ui": raw.json()}
        if kind.single:
            return (to_pack(raw),)
        values = tuple(to_pack(value) for value in raw if not isinstance(value, Shown))
        shown = next((value for value in raw if isinstance(value, Shown)), None)
        return values if shown is None else {"ui": shown.json(), "result": values}


def _spec(port: Input) -> tuple[Any, dict[str, Any]]:
    """An input as the protocol declares it."""
    options = dict(port.widget)
    if port.range is not None:
        options |= {"min": port.range.min, "max": port.range.max}
    choices = port.options(scene().folders)
    return (list(choices) if choices is not None else port.type), options


@cache
def _class(kind: Kind) -> type[_KindNode]:
    """The class of a kind."""
    members = {
        "KIND": kind,
        "RETURN_TYPES": tuple(output.type for output in kind.outputs),
        "RETURN_NAMES": tuple(output.name for output in kind.outputs),
        "OUTPUT_IS_LIST": tuple(output.is_list for output in kind.outputs),
        "FUNCTION": "run",
        "OUTPUT_NODE": kind.effect,
        "CATEGORY": kind.category,
        "DESCRIPTION": kind.help,
    }
    return type(kind.id, (_KindNode,), members)


def _catalog() -> Catalog:
    return scene().world.catalog


class _Classes(Mapping[str, Any]):
    """Kinds by id, each as a class."""

    def __getitem__(self, name: str) -> Any:
        """The class of a kind; that of the pack where a pack brought it."""
        kind = _catalog()[name]
        owner = getattr(getattr(kind.function, "__self__", None), "class_", None)
        return _class(kind) if owner is None else owner

    def __iter__(self) -> Iterator[str]:
        """The ids."""
        return iter(_catalog().ids())

    def __len__(self) -> int:
        """How many kinds there are."""
        return len(_catalog())


class _Titles(Mapping[str, str]):
    """What people read, by the id of the kind."""

    def __getitem__(self, name: str) -> str:
        """The title of a kind."""
        return _catalog()[name].title

    def __iter__(self) -> Iterator[str]:
        """The ids."""
        return iter(_catalog().ids())

    def __len__(self) -> int:
        """How many kinds there are."""
        return len(_catalog())


NODE_CLASS_MAPPINGS = _Classes()
NODE_DISPLAY_NAME_MAPPINGS = _Titles()


def __getattr__(name: str) -> Any:
    """The class of the kind called `name`."""
    if name in NODE_CLASS_MAPPINGS:
        return NODE_CLASS_MAPPINGS[name]
    msg = f"Weft has no nodes.{name} for packs"
    raise AttributeError(msg)


def common_ksampler(  # noqa: PLR0917 - packs call it so
    model: Any,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent: dict[str, Any],
    denoise: float = 1.0,
    disable_noise: bool = False,  # noqa: FBT001, FBT002 - packs call it so
    start_step: int | None = None,
    last_step: int | None = None,
    force_full_denoise: bool = False,  # noqa: FBT001, FBT002 - packs call it so
) -> tuple[dict[str, Any]]:
    """Sample a latent."""
    shared = {"model": model, "steps": steps, "cfg": cfg, "sampler_name": sampler_name, "scheduler": scheduler}
    shared |= {"positive": positive, "negative": negative, "latent_image": latent}
    if start_step is None and last_step is None and not disable_noise and not force_full_denoise:
        result = NODE_CLASS_MAPPINGS["KSampler"]().sample(seed=seed, denoise=denoise, **shared)
    else:
        if denoise != 1.0:
            msg = "a window of steps with a denoise below 1 is not supported; give the steps that are meant"
            raise WeftError(msg)
        result = NODE_CLASS_MAPPINGS["KSamplerAdvanced"]().sample(
            add_noise="disable" if disable_noise else "enable",
            noise_seed=seed,
            start_at_step=start_step or 0,
            end_at_step=10000 if last_step is None else last_step,
            return_with_leftover_noise="disable" if force_full_denoise else "enable",
            **shared,
        )
    return ({**latent, **result[0]},)
