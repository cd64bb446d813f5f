"""Ports: what a parameter may be annotated with, what becomes of it, and the `Kind` that holds them. Plain data.

`Range`, `Choice`, `FileChoice` and the others stand in `Annotated`. An `Input` or `Output` is one port; a `Growing` input
is a `Group` of ports, and a union of classes marked `option` is a `Selection`: a choice that brings ports of its own.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from engine.folders import Folders
    from engine.types import Facts


class _Missing(Enum):
    MISSING = "no default"


MISSING: Final = _Missing.MISSING
"""Stands for "this input has no default"."""

WIDGET_TYPES: Final = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
"""Port types whose value may be written into a workflow; all others must be linked."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, both inclusive; `step` and `round` only guide editors."""

    min: float
    max: float
    step: float | None = None
    round: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The values that an input may have."""

    options: tuple[str, ...]

    def __init__(self, options: Iterable[str]) -> None:
        object.__setattr__(self, "options", tuple(options))


@dataclass(frozen=True, slots=True)
class LiveChoice:
    """The values that an input may have, asked for whenever they are needed.

    Attributes:
        ask: Lists them.
        is_open: Others are valid as well: the node checks them itself.
    """

    ask: Callable[[], Iterable[Any]]
    is_open: bool = False

    @property
    def options(self) -> tuple[Any, ...]:
        """The values now."""
        return tuple(self.ask())


@dataclass(frozen=True, slots=True)
class FileChoice:
    """The files of a folder: the workflow holds a name, the node receives the path, the key holds the content.

    Attributes:
        folder: A key of `Folders`, such as `checkpoints` or `input`.
        upload: `image`, `video`, ...: editors may offer to upload; any existing file is then valid.
        repository: A name `owner/name` that is no file is a repository of a hub: the node receives it as text and fetches
            it. The key then holds the name, since the content is not known before.
        extensions: Lower-case suffixes of the files to offer; the usual ones of the folder when None.
        named: Names that stand for other files, or for none: each to those files. The node receives a tuple of the name and
            their paths.
        tell: Reads what the header of a file says of the values that are made from it; None where it says nothing.
    """

    folder: str
    upload: str | None = None
    repository: bool = False
    extensions: tuple[str, ...] | None = None
    named: Callable[[Folders], Mapping[str, tuple[Any, ...]]] | None = None
    tell: Callable[[Any], Facts | None] | None = None


@dataclass(frozen=True, slots=True)
class References:
    """Text that names files: `find` lists those that a text depends on, so that their content is part of the key."""

    find: Callable[[str, Folders], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a `**parameter` takes, one input each, where they are known and are no names of parameters.

    Attributes:
        names: Names in workflows, in the order that editors show.
        default: Value of each when absent.
    """

    names: tuple[str, ...]
    default: Any = MISSING


@dataclass(frozen=True, slots=True)
class Growing:
    """A `Mapping[str, T]` that takes as many inputs as are linked: `images.image0`, `images.image1`, ...

    Attributes:
        prefix: What the names of its entries begin with, before a number from 0.
        names: The names of its entries, where they are not numbered.
        min: How many must be given.
        max: How many there may be.
    """

    prefix: str = ""
    names: tuple[str, ...] = ()
    min: int = 1
    max: int = 50

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all entries there may be."""
        return (self.names or tuple(f"{self.prefix}{i}" for i in range(self.max)))[: self.max]


class Widget:
    """Options for editors, passed on in `/object_info` (`multiline`, `control_after_generate`, `tooltip`, ...).

    Args:
        optional: List the input among the optional ones although it has a default.
        options: The options, by their field names.
    """

    __slots__ = ("optional", "options")

    def __init__(self, *, optional: bool = False, **options: Any) -> None:
        self.optional = optional
        self.options = options


@dataclass(frozen=True, slots=True)
class Input:
    """An input port of a kind.

    Attributes:
        name: Name in workflows.
        type: Port type; several are joined by commas, `*` takes anything.
        default: Value when absent, or `MISSING`.
        help: One or two sentences.
        range: Bounds of a number.
        choice: The allowed values.
        files: Which files it names.
        references: How to find files named inside a text.
        widget: Options for editors.
        required: Must be given.
        listed_optional: Stands in the `optional` section of `/object_info`.
        lazy: Computed on demand.
        whole_list: Receives all elements of a list at once.
        match: Name of a type that is open; all ports of a kind that name it have the same.
        any_link: Links of any type may feed it; the kind itself checks them (`Kind.refusals`).
    """

    name: str
    type: str
    default: Any = MISSING
    help: str = ""
    range: Range | None = None
    choice: Choice | LiveChoice | None = None
    files: FileChoice | None = None
    references: References | None = None
    widget: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True
    listed_optional: bool = False
    lazy: bool = False
    whole_list: bool = False
    match: str = ""
    any_link: bool = False

    @property
    def is_widget(self) -> bool:
        """Whether its value may be written into a workflow."""
        return not self.widget.get("forceInput") and any(t in WIDGET_TYPES or t == "*" for t in self.type.split(","))

    def options(self, folders: Folders) -> tuple[str, ...] | None:
        """The allowed values now, or None where anything of the type will do."""
        if self.choice is not None:
            return self.choice.options
        if self.files is not None:
            named = self.files.named(folders) if self.files.named else ()
            return (*folders.listing(self.files.folder, self.files.extensions), *named)
        return None


@dataclass(frozen=True, slots=True)
class Group:
    """A parameter that is several inputs, `name.key` for each key; those that are given reach the function as a mapping.

    Attributes:
        port: What each of them is, under the name of the parameter.
        growing: Their names and number.
    """

    port: Input
    growing: Growing


@dataclass(frozen=True, slots=True)
class Option:
    """One value of a choice.

    Attributes:
        key: The value in workflows.
        type: What the function is given: a `NamedTuple` of its inputs.
        parts: The inputs that it brings.
        help: One or two sentences.
    """

    key: str
    type: type
    parts: tuple[Part, ...]
    help: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """A parameter that is a choice whose values bring inputs of their own, `name.field` for each field.

    Attributes:
        port: The choice itself.
        options: By their keys.
    """

    port: Input
    options: Mapping[str, Option]

    def chosen(self, value: Any) -> Option:
        """The option that a value stands for; the default where it is none."""
        found = self.options.get(value) if isinstance(value, str) else None
        return found or self.options.get(str(self.port.default)) or next(iter(self.options.values()))


Part = Input | Group | Selection
"""What a parameter is in workflows."""


def flat(parts: Iterable[Part], given: Mapping[str, Any], prefix: str = "") -> dict[str, Input]:
    """The inputs that parameters are in workflows, in the order that editors show.

    Args:
        parts: The parameters.
        given: Values by name of input: they say what is chosen.
        prefix: What their names begin with.
    """
    found: dict[str, Input] = {}
    for part in parts:
        port = part if isinstance(part, Input) else part.port
        name = f"{prefix}{port.name}"
        if isinstance(part, Group):
            for i, key in enumerate(part.growing.keys):
                is_required = port.required and i < part.growing.min
                full = f"{name}.{key}"
                found[full] = replace(port, name=full, required=is_required, listed_optional=not is_required)
            continue
        found[name] = replace(port, name=name) if prefix else port
        if isinstance(part, Selection):
            found |= flat(part.chosen(given.get(name)).parts, given, f"{name}.")
    return found


def gathered(parts: Iterable[Part], inputs: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The arguments that inputs mean, taken out of `inputs`; what stays there belongs to no part."""
    found: dict[str, Any] = {}
    for part in parts:
        port = part if isinstance(part, Input) else part.port
        name = f"{prefix}{port.name}"
        if isinstance(part, Group):
            keys = {key: f"{name}.{key}" for key in part.growing.keys}
            entries = {key: inputs.pop(full) for key, full in keys.items() if full in inputs}
            found[port.name] = types.MappingProxyType(entries)
        elif isinstance(part, Selection):
            chosen = part.chosen(inputs.pop(name, None))
            found[port.name] = chosen.type(**gathered(chosen.parts, inputs, f"{name}."))
        elif name in inputs:
            found[port.name] = inputs.pop(name)
    return found


@dataclass(frozen=True, slots=True)
class Output:
    """An output port of a kind; `match` as of `Input`."""

    name: str
    type: str
    help: str = ""
    is_list: bool = False
    match: str = ""


@dataclass(frozen=True, eq=False)
class Kind:
    """What a node can be: ports, flags and the function that does the work. Plain data; nothing is said twice.

    Attributes:
        id: The name that saved workflows use.
        function: Called with the inputs by name; may be a coroutine function.
        inputs: Input ports by name, in the order that editors show; where there are choices that bring inputs, those of the
            values that are chosen.
        outputs: Output ports in order.
        parts: The parameters, where one of them is several inputs; else empty.
        variadic: The type of further named inputs, or None.
        title: What people read.
        category: Menu path, `/`-separated.
        help: First paragraph of the docstring.
        module: Python module of the function.
        version: Raised when the node's output changes for equal inputs; part of the key.
        effect: Runs every time it is wanted; its result is an output of the workflow.
        bypass: Output name to the input that passes through when bypassed; chosen by type when empty.
        alike: Inputs whose values must come from files that belong together, see `engine.alike`.
        run_parameter: Name of the parameter that receives the `Run`, or None.
        show_output: Index of the returned element that is a `Shown`, or None.
        single: The function returns its only output bare, not in a tuple.
        is_async: The function is a coroutine function.
        deprecated: Still runs, no longer offered.
        experimental: May change.
        state: What results depend on beside inputs: (node id, values by input, links by input) to a value that the key names.
        refusals: What the kind itself finds wrong: (node id, values by input, types by linked input) to (input or None, text).
        needs: Called with the inputs of each call before any is made: names of the lazy inputs to compute first.
        hidden: What the function is told beside inputs, as `/object_info` lists it.
    """

    id: str
    function: Callable[..., Any]
    inputs: Mapping[str, Input]
    outputs: tuple[Output, ...]
    variadic: Input | None = None
    parts: tuple[Part, ...] = ()
    title: str = ""
    category: str = "sd"
    help: str = ""
    module: str = ""
    version: int = 1
    effect: bool = False
    bypass: Mapping[str, str] = field(default_factory=dict)
    alike: tuple[str, ...] = ()
    run_parameter: str | None = None
    show_output: int | None = None
    single: bool = False
    is_async: bool = False
    deprecated: bool = False
    experimental: bool = False
    state: Callable[[str, Mapping[str, Any], Mapping[str, tuple[str, int]]], Any] | None = None
    refusals: Callable[[str, Mapping[str, Any], Mapping[str, str]], Iterable[tuple[str | None, str]]] | None = None
    needs: Callable[..., Iterable[str]] | None = None
    hidden: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def whole_lists(self) -> bool:
        """Whether the node is called once with whole lists instead of once for each element."""
        more = (self.variadic,) if self.variadic is not None else ()
        return any(port.whole_list for port in (*self.inputs.values(), *more))

    @cached_property
    def is_plain(self) -> bool:
        """Whether a call with single values is all there is to running it: not lazy, not async, no whole lists."""
        return not (self.is_async or self.whole_lists or any(port.lazy for port in self.inputs.values()))

    @cached_property
    def is_value(self) -> bool:
        """Whether what the function returns is its one output as it stands."""
        return self.single and self.show_output is None and len(self.outputs) == 1 and not self.outputs[0].is_list

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the inputs that must be given."""
        return tuple(port.name for port in self.inputs.values() if port.required)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Value of every input that need not be given."""
        return {port.name: port.default for port in self.inputs.values() if port.default is not MISSING}

    @cached_property
    def has_files(self) -> bool:
        """Whether some input names files, so that validity and key depend on the disk."""
        return any(port.files or port.references for port in self.inputs.values())

    @cached_property
    def is_dynamic(self) -> bool:
        """Whether validity or key may change though no input does."""
        asks = self.state is not None or self.refusals is not None
        return asks or self.has_files or any(isinstance(port.choice, LiveChoice) for port in self.inputs.values())

    @cached_property
    def _chosen(self) -> dict[tuple[str, ...], Kind]:
        return {}

    def chosen(self, given: Mapping[str, Any]) -> Kind:
        """This kind with the inputs that it has where some values are given; one and the same for the same choices.

        Args:
            given: Values by name of input.
        """
        if not self.parts:
            return self
        choices = tuple(option.key for _, option in choices_of(self.parts, given))
        kind = self._chosen.get(choices)
        if kind is None:
            inputs = types.MappingProxyType(flat(self.parts, given))
            kind = self._chosen[choices] = replace(self, inputs=inputs) if inputs != self.inputs else self
        return kind

    @cached_property
    def variants(self) -> tuple[tuple[Mapping[str, str], Kind], ...]:
        """(the chosen keys by name of input, the kind with them) for all choices that bring inputs."""
        front: list[dict[str, str]] = [{}]
        found = []
        while front:
            given = front.pop(0)
            names = [(name, selection) for name, selection, _ in _selections(self.parts, given)]
            open_ = next(((name, selection) for name, selection in names if name not in given), None)
            if open_ is None:
                found.append((given, self.chosen(given)))
            else:
                front.extend({**given, open_[0]: key} for key in open_[1].options)
        return tuple(found)

    def output_index(self, port: int | str) -> int | None:
        """Index of an output given by index or name; None if there is none."""
        if isinstance(port, int):
            return port if 0 <= port < len(self.outputs) else None
        for i, output in enumerate(self.outputs):
            if output.name == port:
                return i
        return None


def _selections(parts: Iterable[Part], given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Selection, Option]]:
    """(name of input, selection, what is chosen) for all choices that bring inputs, those of chosen options after them."""
    for part in parts:
        if isinstance(part, Selection):
            name = f"{prefix}{part.port.name}"
            chosen = part.chosen(given.get(name))
            yield name, part, chosen
            yield from _selections(chosen.parts, given, f"{name}.")


def choices_of(parts: Iterable[Part], given: Mapping[str, Any]) -> Iterator[tuple[str, Option]]:
    """(name of input, what is chosen) for all choices that bring inputs."""
    return ((name, chosen) for name, _, chosen in _selections(parts, given))


def compatible(given: str, wanted: str) -> bool:
    """Whether an output of type `given` may feed an input of type `wanted`.

    Types compare without case; comma lists match when one member agrees; `*` matches all.
    """
    if given in {wanted, "*"} or wanted == "*":
        return True
    givens = {t.strip().upper() for t in given.split(",")}
    wanteds = {t.strip().upper() for t in wanted.split(",")}
    return "*" in givens or "*" in wanteds or not givens.isdisjoint(wanteds)
