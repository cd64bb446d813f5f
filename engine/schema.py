"""A node is a typed function: `@node` turns signature and docstring into a `Kind`; a `Catalog` collects kinds.

    @node("LatentBlend", category="latent/batch")
    def blend_latents(
        samples1: Latent,
        samples2: Latent,
        blend_factor: Annotated[float, Range(0, 1, step=0.01)] = 0.5,
    ) -> Latent:
        '''Mix two latents linearly.

Args:
            samples1: The latent at factor 1.
            samples2: The latent at factor 0; resized to `samples1`.
            blend_factor: Share of `samples1` in the mix.
        '''

Parameter: port. Annotation: port type. Default: optional. `Annotated`: range, choices, widget. Return annotation:
outputs (`NamedTuple` fields are the names). Docstring: help. A parameter of type `Run` is not a port. `list[T]` takes
or gives a whole list, `Lazy[T]` is computed on demand, `**more: T` takes any number of named inputs (of plain types), or
those that `Names` lists. A `Mapping` marked `Growing` is as many inputs as are linked; a union of classes marked `option` is
a choice that brings inputs of its own. A type variable is any type, the same wherever it stands. The decorated function stays
a plain function.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import DeclarationError
from engine.types import PORT_TYPES, Expansion, Lazy, Run, Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from engine.folders import Folders
    from engine.types import Facts

F = TypeVar("F", bound="Callable[..., Any]")
C = TypeVar("C", bound=type)


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


def option(key: str) -> Callable[[C], C]:
    """Mark a `NamedTuple` as one value of a choice; its fields are the inputs that this value brings.

    A parameter whose annotation is a union of such classes is a choice. In workflows the chosen key stands under the name of
    the parameter, and the inputs of the option beside it, under `parameter.field`. The function is given the tuple.

    Args:
        key: The value in workflows.

    Raises:
        DeclarationError: where the class leaves something unsaid, as for functions; its docstring has `Attributes`.
    """

    def mark(cls: C) -> C:
        where = f"{cls.__module__}.{cls.__qualname__}"
        doc = _Doc.of(cls, where)
        fields: tuple[str, ...] = getattr(cls, "_fields", ())
        defaults: dict[str, Any] = getattr(cls, "_field_defaults", {})
        hints = get_type_hints(cls, include_extras=True)
        parts = []
        for name in fields:
            if name not in doc.arguments:
                msg = f"{where}: field {name!r} is not described in the docstring's Attributes"
                raise DeclarationError(msg)
            default = defaults.get(name, inspect.Parameter.empty)
            parts.append(_part(name, hints[name], default, doc.arguments[name], f"{where}: field {name!r}"))
        cls.__weft_option__ = Option(key, cls, tuple(parts), doc.summary)  # type: ignore[attr-defined]
        return cls

    return mark


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


def node(
    kind: str,
    *,
    category: str = "sd",
    title: str = "",
    version: int = 1,
    effect: bool = False,
    bypass: Mapping[str, str] | None = None,
    alike: Iterable[str] = (),
    deprecated: bool = False,
    experimental: bool = False,
) -> Callable[[F], F]:
    """Declare a function as a node.

    Args:
        kind: The id that saved workflows use.
        category: Menu path, `/`-separated.
        title: What people read; the id when empty.
        version: Raise it when the output changes for equal inputs.
        effect: Runs every time; its result is an output of the workflow.
        bypass: Output name to the input that passes when the node is bypassed.
        alike: Inputs whose values must come from files that belong together: a LoRA of the family of the model.
        deprecated: Still runs, no longer offered.
        experimental: May change.

    Raises:
        DeclarationError: where the function leaves something unsaid; the message names function and parameter.
    """

    def declare(function: F) -> F:
        declared = _declare(
            function,
            kind,
            category=category,
            title=title or kind,
            version=version,
            effect=effect,
            bypass=dict(bypass or {}),
            alike=tuple(alike),
            deprecated=deprecated,
            experimental=experimental,
        )
        function.__weft_kind__ = declared  # type: ignore[attr-defined]
        return function

    return declare


def kind_of(function: Callable[..., Any]) -> Kind:
    """The kind that a decorated function declares.

    Raises:
        DeclarationError: if the function is not decorated with `@node`.
    """
    kind = getattr(function, "__weft_kind__", None)
    if not isinstance(kind, Kind):
        msg = f"{getattr(function, '__qualname__', function)!r} is not declared with @node"
        raise DeclarationError(msg)
    return kind


def _declare(function: Callable[..., Any], kind: str, **flags: Any) -> Kind:
    where = f"{function.__module__}.{function.__qualname__}"
    doc = _Doc.of(function, where)
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as cause:
        msg = f"{where}: an annotation cannot be resolved ({cause}); import it outside `if TYPE_CHECKING`"
        raise DeclarationError(msg) from cause
    inputs: dict[str, Input] = {}
    parts: list[Part] = []
    variadic: Input | None = None
    run_parameter: str | None = None
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            msg = f"{where}: *{name} is not a port; take a list[...] or **named inputs"
            raise DeclarationError(msg)
        if name not in hints:
            msg = f"{where}: parameter {name!r} has no annotation"
            raise DeclarationError(msg)
        if hints[name] is Run:
            run_parameter = name
            continue
        if name not in doc.arguments:
            msg = f"{where}: parameter {name!r} is not described in the docstring's Args"
            raise DeclarationError(msg)
        names = next((mark for mark in getattr(hints[name], "__metadata__", ()) if isinstance(mark, Names)), None)
        default = parameter.default if names is None or names.default is MISSING else names.default
        part = _part(name, hints[name], default, doc.arguments[name], f"{where}: parameter {name!r}")
        port = part if isinstance(part, Input) else part.port
        if parameter.kind is parameter.VAR_KEYWORD:
            if not isinstance(part, Input):
                msg = f"{where}: **{name} cannot be several inputs each; give it a name"
                raise DeclarationError(msg)
            _check_variadic(port, f"{where}: **{name}")
        elif names is not None:
            msg = f"{where}: parameter {name!r} is one input; Names(...) is for **{name}"
            raise DeclarationError(msg)
        if names is not None:
            known_ports = {known: replace(port, name=known) for known in names.names}
            inputs |= known_ports
            parts.extend(known_ports.values())
        elif parameter.kind is parameter.VAR_KEYWORD:
            variadic = port
        else:
            inputs |= flat([part], {})
            parts.append(part)
    unknown = doc.arguments.keys() - parameters.keys()
    if unknown:
        msg = f"{where}: the docstring describes {sorted(unknown)}, which the function does not take"
        raise DeclarationError(msg)
    if strangers := sorted(set(flags["alike"]) - inputs.keys()):
        msg = f"{where}: alike names {strangers}, which the function does not take"
        raise DeclarationError(msg)
    if "return" not in hints:
        msg = f"{where}: no return annotation"
        raise DeclarationError(msg)
    outputs, show_output, single = _outputs(hints["return"], doc.returns, where)
    is_dynamic = any(not isinstance(part, Input) for part in parts)
    return Kind(
        id=kind,
        function=_gathering(function, tuple(parts)) if is_dynamic else function,
        inputs=types.MappingProxyType(inputs),
        outputs=outputs,
        variadic=variadic,
        parts=tuple(parts) if is_dynamic else (),
        help=doc.summary,
        module=function.__module__,
        run_parameter=run_parameter,
        show_output=show_output,
        single=single,
        is_async=inspect.iscoroutinefunction(function),
        **flags,
    )


def _gathering(function: Callable[..., Any], parts: tuple[Part, ...]) -> Callable[..., Any]:
    """`function` called with the inputs as workflows name them."""

    @functools.wraps(function)
    def call(**inputs: Any) -> Any:
        return function(**gathered(parts, inputs), **inputs)

    return call


def _part(name: str, hint: Any, default: Any, text: str, where: str) -> Part:
    """The input or inputs that a parameter is."""
    inner, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    growing = next((mark for mark in marks if isinstance(mark, Growing)), None)
    if growing is not None:
        entry = get_args(inner)
        if get_origin(inner) is not Mapping or entry[0] is not str:
            msg = f"{where}: Growing(...) is for a Mapping[str, ...], not {inner!r}"
            raise DeclarationError(msg)
        if default is not inspect.Parameter.empty:
            msg = f"{where}: a growing input has no default; min=0 lets it be empty"
            raise DeclarationError(msg)
        return Group(_input(name, entry[1], default, text, where), growing)
    classes = get_args(inner) if get_origin(inner) in {Union, types.UnionType} else (inner,)
    options = [getattr(cls, "__weft_option__", None) for cls in classes]
    if not any(isinstance(o, Option) for o in options):
        return _input(name, hint, default, text, where)
    by_key = {o.key: o for o in options if isinstance(o, Option)}
    if len(by_key) < len(options):
        msg = f"{where}: all members of {inner!r} must be marked with @option, each with a key of its own"
        raise DeclarationError(msg)
    given: Any = default
    if default is not inspect.Parameter.empty:
        given = next((o.key for o in by_key.values() if o.type is type(default)), None)
        if given is None or default != by_key[given].type():
            msg = f"{where}: the default {default!r} must be one of the options with its own defaults"
            raise DeclarationError(msg)
    widget = tuple(mark for mark in marks if isinstance(mark, Widget))
    port = _input(name, Annotated[str, Choice(by_key), *widget], given, text, where)
    return Selection(port, types.MappingProxyType(by_key))


def _type_name(hint: Any, where: str) -> str:
    """The port type that a Python type stands for."""
    if isinstance(hint, TypeVar):
        parts = [_type_name(part, where) for part in hint.__constraints__]
        return ",".join(parts) or "*"
    try:
        if hint in PORT_TYPES:
            return PORT_TYPES[hint]
    except TypeError:
        pass
    if get_origin(hint) in {Union, types.UnionType}:
        return ",".join(dict.fromkeys(_type_name(part, where) for part in get_args(hint) if part is not type(None)))
    if isinstance(hint, type):
        return str(getattr(hint, "port_type", hint.__name__.upper()))
    msg = f"{where}: {hint!r} is not a port type"
    raise DeclarationError(msg)


def _input(name: str, hint: Any, default: Any, text: str, where: str) -> Input:
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        marks = tuple(rest)
    is_lazy = get_origin(hint) is Lazy
    may_lack = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else ()
    if any(get_origin(part) is Lazy for part in may_lack):  # Lazy[T] | None
        is_lazy = True
        hint = Union[tuple(get_args(part)[0] if get_origin(part) is Lazy else part for part in may_lack)]  # noqa: UP007
    elif is_lazy:
        (hint,) = get_args(hint)
    whole_list = get_origin(hint) is list
    if whole_list:
        (hint,) = get_args(hint)
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        marks = (*marks, *rest)
    marked: dict[type, Any] = {type(mark): mark for mark in marks}
    choice: Choice | None = marked.get(Choice)
    files: FileChoice | None = marked.get(FileChoice)
    accepts_none = get_origin(hint) in {Union, types.UnionType} and type(None) in get_args(hint)
    if get_origin(hint) is Literal:
        choice = Choice(str(option) for option in get_args(hint))
    type_name = "COMBO" if choice or files else _type_name(hint, where)
    widget: Widget = marked.get(Widget) or Widget()
    missing = default is inspect.Parameter.empty
    if files is not None and not missing and default is not None:
        msg = f"{where}: the default {default!r} names a file, which may not be there; leave it out, or take None"
        raise DeclarationError(msg)
    _check_default(default, missing=missing, range_=marked.get(Range), choice=choice, where=where)
    return Input(
        name=name,
        type=type_name,
        default=MISSING if missing else default,
        help=text,
        range=marked.get(Range),
        choice=choice,
        files=files,
        references=marked.get(References),
        widget=types.MappingProxyType(dict(widget.options)),
        required=missing,
        listed_optional=widget.optional or accepts_none or (not missing and type_name not in WIDGET_TYPES),
        lazy=is_lazy,
        whole_list=whole_list,
        match=_match(hint),
    )


def _match(hint: Any) -> str:
    """Name of the type variable that a hint is, or may be."""
    parts = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    return next((part.__name__ for part in parts if isinstance(part, TypeVar)), "")


def _check_variadic(port: Input, where: str) -> None:
    """Refuse what is only done for inputs whose names are known beforehand."""
    refused = {
        "Lazy[...]": port.lazy,
        "list[...]": port.whole_list,
        "FileChoice": port.files is not None,
        "References": port.references is not None,
    }
    for mark, is_there in refused.items():
        if is_there:
            msg = f"{where} cannot be {mark}; declare each such input by its name"
            raise DeclarationError(msg)


def _check_default(default: Any, *, missing: bool, range_: Range | None, choice: Choice | None, where: str) -> None:
    if missing or default is None:
        return
    if isinstance(default, list | dict | set | bytearray):
        msg = f"{where}: the default {default!r} can be changed; use None or an immutable value"
        raise DeclarationError(msg)
    if range_ is not None and not range_.min <= default <= range_.max:
        msg = f"{where}: the default {default!r} is outside {range_.min}..{range_.max}"
        raise DeclarationError(msg)
    if choice is not None and default not in choice.options:
        msg = f"{where}: the default {default!r} is not one of {list(choice.options)}"
        raise DeclarationError(msg)


def _outputs(hint: Any, returns: Mapping[str, str], where: str) -> tuple[tuple[Output, ...], int | None, bool]:
    if get_origin(hint) in {Union, types.UnionType} and Expansion in get_args(hint):
        hint = Union[tuple(part for part in get_args(hint) if part is not Expansion)]  # noqa: UP007 - built from parts
    if hint is Shown:
        return (), 0, True
    if hint is type(None) or hint is Expansion:
        return (), None, True
    if hasattr(get_origin(hint), "_fields"):  # a generic NamedTuple of some type
        hint = get_origin(hint)
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        parts = [(name, part) for name, part in get_type_hints(hint, include_extras=True).items()]
        single = False
    elif get_origin(hint) is tuple:
        parts = [("", part) for part in get_args(hint)]
        single = False
    else:
        parts = [("", hint)]
        single = True
    outputs: list[Output] = []
    show: int | None = None
    for i, (name, part) in enumerate(parts):
        if part is Shown:
            show = i
            continue
        inner = get_args(part)[0] if get_origin(part) is Annotated else part
        is_list = get_origin(inner) is list
        if is_list:
            (inner,) = get_args(inner)
        type_name = "COMBO" if get_origin(inner) is Literal else _type_name(inner, f"{where}: return")
        text = returns.get(name, returns.get("", ""))
        outputs.append(Output(name or type_name, type_name, text, is_list, _match(inner)))
    return tuple(outputs), show, single


@dataclass(frozen=True, slots=True)
class _Doc:
    """The parts of a Google docstring that help texts are made of."""

    summary: str
    arguments: Mapping[str, str]
    returns: Mapping[str, str]

    _SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Source|Differs|Yields|Note|Example|Examples):\s*(.*)$")
    _ITEM = re.compile(r"^ {4}\**(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")

    @classmethod
    def of(cls, function: Callable[..., Any] | type, where: str) -> _Doc:
        text = inspect.getdoc(function)
        if not text:
            msg = f"{where}: no docstring; it is the node's help"
            raise DeclarationError(msg)
        summary: list[str] = []
        sections: dict[str, dict[str, list[str]]] = {"Args": {}, "Returns": {}}
        section, item = "", ""
        for line in text.splitlines():
            head = cls._SECTION.match(line)
            if head:
                section, item = "Args" if head[1] == "Attributes" else head[1], ""
                if section == "Returns":
                    sections["Returns"][""] = [head[2]] if head[2] else []
                continue
            if not section:
                summary.append(line)
            elif section in sections:
                entry = cls._ITEM.match(line)
                if entry:
                    item = entry[1]
                    sections[section][item] = [entry[2]]
                elif line.strip():
                    sections[section].setdefault(item, []).append(line.strip())
        paragraphs = "\n".join(summary).strip()
        join = {name: {k: " ".join(v).strip() for k, v in found.items()} for name, found in sections.items()}
        return cls(paragraphs, join["Args"], join["Returns"])


class Catalog:
    """Kinds by id. A plain value: nothing registers itself."""

    def __init__(self, kinds: Iterable[Kind | Callable[..., Any]] = ()) -> None:
        self._kinds: dict[str, Kind] = {}
        for item in kinds:
            kind = item if isinstance(item, Kind) else kind_of(item)
            if kind.id in self._kinds:
                other = self._kinds[kind.id]
                msg = f"two functions declare the kind {kind.id!r}: {other.module} and {kind.module}"
                raise DeclarationError(msg)
            self._kinds[kind.id] = kind

    @classmethod
    def load(cls, package: str = "nodes") -> Catalog:
        """The kinds that a package declares.

        Args:
            package: Import name; its attribute `MODULES` lists the modules to read.

        Raises:
            DeclarationError: if two functions declare one kind.
        """
        root = importlib.import_module(package)
        modules = [importlib.import_module(f"{package}.{name}") for name in getattr(root, "MODULES", ())]
        return cls(kind for module in (root, *modules) for kind in _kinds_of(module))

    def __getitem__(self, kind: str) -> Kind:
        """The kind with this id."""
        return self._kinds[kind]

    def get(self, kind: str) -> Kind | None:
        """The kind with this id, or None."""
        return self._kinds.get(kind)

    def __contains__(self, kind: object) -> bool:
        """Whether a kind with this id is here."""
        return kind in self._kinds

    def __iter__(self) -> Iterator[Kind]:
        """The kinds, in the order of their declaration."""
        return iter(self._kinds.values())

    def __len__(self) -> int:
        """How many kinds there are."""
        return len(self._kinds)

    def ids(self) -> tuple[str, ...]:
        """The ids of all kinds."""
        return tuple(self._kinds)

    def __or__(self, other: Catalog) -> Catalog:
        """Both catalogues together.

        Raises:
            DeclarationError: if they share a kind.
        """
        return Catalog((*self, *other))


def _kinds_of(module: ModuleType) -> Iterator[Kind]:
    for value in list(vars(module).values()):
        kind = getattr(value, "__weft_kind__", None)
        if isinstance(kind, Kind) and getattr(value, "__module__", None) == module.__name__:
            yield kind
