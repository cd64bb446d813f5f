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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import DeclarationError
from engine.ports import (
    MISSING,
    WIDGET_TYPES,
    Choice,
    FileChoice,
    Group,
    Growing,
    Input,
    Kind,
    LiveChoice,
    Names,
    Option,
    Output,
    Part,
    Range,
    References,
    Selection,
    Widget,
    choices_of,
    compatible,
    flat,
    gathered,
)
from engine.types import PORT_TYPES, Expansion, Lazy, Run, Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType


__all__ = [
    "MISSING",
    "WIDGET_TYPES",
    "Catalog",
    "Choice",
    "FileChoice",
    "Group",
    "Growing",
    "Input",
    "Kind",
    "LiveChoice",
    "Names",
    "Option",
    "Output",
    "Part",
    "Range",
    "References",
    "Selection",
    "Widget",
    "choices_of",
    "compatible",
    "flat",
    "gathered",
    "kind_of",
    "node",
    "option",
]

F = TypeVar("F", bound="Callable[..., Any]")
C = TypeVar("C", bound=type)


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
