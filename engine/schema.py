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
those that `Names` lists. The decorated function stays a plain function.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import DeclarationError
from engine.types import PORT_TYPES, Expansion, Lazy, Run, Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType

    from engine.folders import Folders

F = TypeVar("F", bound="Callable[..., Any]")


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
    """

    folder: str
    upload: str | None = None
    repository: bool = False
    extensions: tuple[str, ...] | None = None
    named: Callable[[Folders], Mapping[str, tuple[Any, ...]]] | None = None


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
    """

    name: str
    type: str
    default: Any = MISSING
    help: str = ""
    range: Range | None = None
    choice: Choice | None = None
    files: FileChoice | None = None
    references: References | None = None
    widget: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True
    listed_optional: bool = False
    lazy: bool = False
    whole_list: bool = False

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
class Output:
    """An output port of a kind."""

    name: str
    type: str
    help: str = ""
    is_list: bool = False


@dataclass(frozen=True, eq=False)
class Kind:
    """What a node can be: ports, flags and the function that does the work. Plain data; nothing is said twice.

    Attributes:
        id: The name that saved workflows use.
        function: Called with the inputs by name; may be a coroutine function.
        inputs: Input ports by name, in the order that editors show.
        outputs: Output ports in order.
        variadic: The type of further named inputs, or None.
        title: What people read.
        category: Menu path, `/`-separated.
        help: First paragraph of the docstring.
        module: Python module of the function.
        version: Raised when the node's output changes for equal inputs; part of the key.
        effect: Runs every time it is wanted; its result is an output of the workflow.
        bypass: Output name to the input that passes through when bypassed; chosen by type when empty.
        run_parameter: Name of the parameter that receives the `Run`, or None.
        show_output: Index of the returned element that is a `Shown`, or None.
        single: The function returns its only output bare, not in a tuple.
        is_async: The function is a coroutine function.
        deprecated: Still runs, no longer offered.
        experimental: May change.
    """

    id: str
    function: Callable[..., Any]
    inputs: Mapping[str, Input]
    outputs: tuple[Output, ...]
    variadic: Input | None = None
    title: str = ""
    category: str = "sd"
    help: str = ""
    module: str = ""
    version: int = 1
    effect: bool = False
    bypass: Mapping[str, str] = field(default_factory=dict)
    run_parameter: str | None = None
    show_output: int | None = None
    single: bool = False
    is_async: bool = False
    deprecated: bool = False
    experimental: bool = False

    @cached_property
    def whole_lists(self) -> bool:
        """Whether the node is called once with whole lists instead of once for each element."""
        return any(port.whole_list for port in self.inputs.values())

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

    def output_index(self, port: int | str) -> int | None:
        """Index of an output given by index or name; None if there is none."""
        if isinstance(port, int):
            return port if 0 <= port < len(self.outputs) else None
        for i, output in enumerate(self.outputs):
            if output.name == port:
                return i
        return None


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
        port = _input(name, hints[name], default, doc.arguments[name], f"{where}: parameter {name!r}")
        if parameter.kind is parameter.VAR_KEYWORD:
            _check_variadic(port, f"{where}: **{name}")
        elif names is not None:
            msg = f"{where}: parameter {name!r} is one input; Names(...) is for **{name}"
            raise DeclarationError(msg)
        if names is not None:
            inputs |= {known: replace(port, name=known) for known in names.names}
        elif parameter.kind is parameter.VAR_KEYWORD:
            variadic = port
        else:
            inputs[name] = port
    unknown = doc.arguments.keys() - parameters.keys()
    if unknown:
        msg = f"{where}: the docstring describes {sorted(unknown)}, which the function does not take"
        raise DeclarationError(msg)
    if "return" not in hints:
        msg = f"{where}: no return annotation"
        raise DeclarationError(msg)
    outputs, show_output, single = _outputs(hints["return"], doc.returns, where)
    return Kind(
        id=kind,
        function=function,
        inputs=types.MappingProxyType(inputs),
        outputs=outputs,
        variadic=variadic,
        help=doc.summary,
        module=function.__module__,
        run_parameter=run_parameter,
        show_output=show_output,
        single=single,
        is_async=inspect.iscoroutinefunction(function),
        **flags,
    )


def _type_name(hint: Any, where: str) -> str:
    """The port type that a Python type stands for."""
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
    if is_lazy:
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
    )


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
        outputs.append(Output(name or type_name, type_name, returns.get(name, returns.get("", "")), is_list))
    return tuple(outputs), show, single


@dataclass(frozen=True, slots=True)
class _Doc:
    """The parts of a Google docstring that help texts are made of."""

    summary: str
    arguments: Mapping[str, str]
    returns: Mapping[str, str]

    _SECTION = re.compile(r"^(Args|Returns|Raises|Source|Differs|Yields|Note|Example|Examples):\s*(.*)$")
    _ITEM = re.compile(r"^ {4}\**(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")

    @classmethod
    def of(cls, function: Callable[..., Any], where: str) -> _Doc:
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
                section, item = head[1], ""
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
