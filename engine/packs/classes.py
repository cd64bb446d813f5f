"""A class of a pack as a kind: its declaration as ports, its calls as those of the engine.

The class says what it takes in `INPUT_TYPES()`, which is asked afresh for the choices of an input; what it gives in
`RETURN_TYPES`; and does it in the method that `FUNCTION` names. One instance is kept for each node id.

Differs: defaults of required inputs apply where a workflow leaves them out; an output node runs every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import math
import os
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from engine.errors import DeclarationError, WeftError
from engine.fingerprint import canonical
from engine.graph import Graph, Link, Node
from engine.packs.prompt import Prompt, is_link
from engine.packs.scene import entered
from engine.packs.values import from_pack, to_pack
from engine.schema import MISSING, WIDGET_TYPES, Input, Kind, LiveChoice, Output, Range
from engine.types import Blocked, Expansion, Lazy, SavedFile, Shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.packs.scene import World

RUN = "weft run"
"""Under which name the handle of the run is passed: one that no input has."""

MAX_INSTANCES = 10_000
"""How many instances of a class are kept."""

_SECTIONS = ("required", "optional")
_TOLD = frozenset({"PROMPT", "DYNPROMPT", "EXTRA_PNGINFO", "UNIQUE_ID", "AUTH_TOKEN_COMFY_ORG", "API_KEY_COMFY_ORG"})
"""What hidden inputs stand for; others are inputs that editors do not list."""
_FILE = frozenset({"filename", "subfolder", "type"})


def kind_of_class(name: str, class_: Any, title: str, module: str, world: World, *, version: int = 1) -> Kind:
    """The kind that a class declares.

    Args:
        name: Id of the kind.
        class_: The class.
        title: What people read.
        module: What `/object_info` calls its module.
        world: What its code may ask for.
        version: Part of the keys of its calls.

    Raises:
        DeclarationError: if the class does not say what it takes, gives or does.
    """
    return _ClassNode(name, class_, world).kind(title, module, version)


class _ClassNode:
    """A class of a pack, called as the engine calls nodes."""

    def __init__(self, name: str, class_: Any, world: World) -> None:
        self.name = name
        self.class_ = class_
        self.world = world
        self.instances: dict[str, Any] = {}
        method = getattr(class_, "FUNCTION", None)
        self.method: Any = getattr(class_, method, None) if isinstance(method, str) else None
        if self.method is None:
            msg = f"{name}: FUNCTION names {method!r}, which {class_!r} does not have"
            raise DeclarationError(msg)
        self.function = str(method)
        self.sections = self.declared()
        hidden = dict(self.sections.get("hidden") or {})
        self.hidden: dict[str, str] = {n: _hidden(spec) for n, spec in hidden.items() if _hidden(spec) in _TOLD}
        self.unlisted = {n: spec for n, spec in hidden.items() if n not in self.hidden}
        self.takes_lists = bool(getattr(class_, "INPUT_IS_LIST", False))
        self.raw = frozenset(n for n, spec in self.specs() if _options(spec).get("rawLink"))
        check = getattr(class_, "VALIDATE_INPUTS", None)
        self.checks: Any = check
        self.checked, self.checks_all = _parameters(check) if check is not None else (frozenset[str](), False)
        returned = tuple(getattr(class_, "RETURN_TYPES", ()) or ())
        self.types = tuple(_type(t) for t in returned)
        lists = tuple(getattr(class_, "OUTPUT_IS_LIST", None) or ())
        self.lists = tuple(bool(lists[i]) if i < len(lists) else False for i in range(len(returned)))

    # --- the declaration

    def declared(self) -> dict[str, Any]:
        """What `INPUT_TYPES` says now."""
        with entered(self.world):
            sections = self.class_.INPUT_TYPES()
        if not isinstance(sections, Mapping):
            msg = f"{self.name}: INPUT_TYPES gives {type(sections).__name__} instead of a dict"
            raise DeclarationError(msg)
        return dict(sections)

    def specs(self) -> Iterator[tuple[str, Any]]:
        """(name, declaration) of every input."""
        for section in _SECTIONS:
            yield from dict(self.sections.get(section) or {}).items()

    def options(self, section: str, name: str) -> Iterable[Any]:
        """The choices of an input now; those of the last time where they cannot be read."""
        with contextlib.suppress(Exception):  # the code of a pack may raise anything; what it said before stands
            self.sections = self.declared()
        spec = dict(self.sections.get(section) or {}).get(name)
        return _choices(spec) or () if spec is not None else ()

    def kind(self, title: str, module: str, version: int) -> Kind:
        """The kind."""
        class_ = self.class_
        inputs = {n: self.port(section, n, spec) for section in _SECTIONS for n, spec in self.section(section)}
        inputs |= {n: self.port("optional", n, spec) for n, spec in self.unlisted.items()}
        names = tuple(getattr(class_, "RETURN_NAMES", None) or ())
        tips = tuple(getattr(class_, "OUTPUT_TOOLTIPS", None) or ())
        outputs = tuple(
            Output(
                str(names[i]) if i < len(names) and names[i] else type_, type_, str(tips[i]) if i < len(tips) else "", listed
            )
            for i, (type_, listed) in enumerate(zip(self.types, self.lists, strict=True))
        )
        is_bound_to_id = bool(getattr(class_, "NOT_IDEMPOTENT", False)) or "UNIQUE_ID" in self.hidden.values()
        has_state = is_bound_to_id or hasattr(class_, "IS_CHANGED")
        is_async = inspect.iscoroutinefunction(self.method)
        return Kind(
            id=self.name,
            function=self.call_async if is_async else self.call,
            inputs=MappingProxyType(inputs),
            outputs=outputs,
            variadic=Input("*", "*", required=False, whole_list=self.takes_lists) if self.is_variadic() else None,
            title=title,
            category=str(getattr(class_, "CATEGORY", None) or "sd"),
            help=inspect.cleandoc(str(getattr(class_, "DESCRIPTION", None) or "")),
            module=module,
            version=version,
            effect=getattr(class_, "OUTPUT_NODE", False) is True,
            run_parameter=RUN,
            show_output=len(outputs),
            is_async=is_async,
            deprecated=bool(getattr(class_, "DEPRECATED", False)),
            experimental=bool(getattr(class_, "EXPERIMENTAL", False)),
            state=partial(self.state, is_bound_to_id) if has_state else None,
            refusals=self.refusals if self.checks is not None else None,
            needs=self.needs if hasattr(class_, "check_lazy_status") else None,
            hidden=dict(self.sections.get("hidden") or {}),
        )

    def section(self, section: str) -> Iterator[tuple[str, Any]]:
        """(name, declaration) of the inputs of a section."""
        yield from dict(self.sections.get(section) or {}).items()

    def is_variadic(self) -> bool:
        """Whether inputs are taken that are not declared."""
        _, takes_all = _parameters(self.method)
        optional = self.sections.get("optional")
        return takes_all or (isinstance(optional, Mapping) and "an input that nobody declared" in optional)

    def port(self, section: str, name: str, spec: Any) -> Input:
        """The port of an input."""
        options = _options(spec)
        given = spec[0] if isinstance(spec, list | tuple) and spec else spec
        type_ = _type(given)
        is_required = section == "required"
        is_checked = self.checks_all or name in self.checked
        is_many = bool(options.get("multiselect") or options.get("multi_select"))
        choice = None
        if _choices(spec) is not None:
            choice = LiveChoice(partial(self.options, section, name), is_open=is_checked or is_many)
        default = options.get("default", MISSING)
        has_default = is_required and default is not MISSING and default is not None and type_ in WIDGET_TYPES
        if choice is not None and has_default and default not in choice.options:
            has_default = False
        return Input(
            name=name,
            type=type_,
            default=default if has_default else MISSING,
            help=str(options.get("tooltip") or ""),
            range=None if is_checked else _range(options, type_),
            choice=choice,
            widget=MappingProxyType(options),
            required=is_required and not has_default,
            listed_optional=not is_required,
            lazy=bool(options.get("lazy")) or name in self.raw,
            whole_list=self.takes_lists,
            any_link="input_types" in self.checked,
        )

    # --- before running

    def state(self, is_bound_to_id: bool, node: str, values: Mapping[str, Any], links: Mapping[str, Any]) -> Any:  # noqa: FBT001 - bound by `kind`
        """What the key of a call depends on beside its inputs: `IS_CHANGED`, and for some classes the node's id."""
        changed: Any = None
        function = getattr(self.class_, "IS_CHANGED", None)
        if function is not None:
            given = {**{n: to_pack(v) for n, v in values.items()}, **dict.fromkeys(links)}
            given |= {n: self.hidden_value(what, node, None) for n, what in self.hidden.items()}
            try:
                with entered(self.world):
                    changed = settled(function(**self.as_lists(_accepted(function, given))))
                canonical(changed)
            except Exception:  # noqa: BLE001 - the code of a pack may raise anything: then it counts as changed
                changed = math.nan
            if isinstance(changed, float) and math.isnan(changed):
                changed = os.urandom(16)  # equal to nothing, so that the call is made again
        return [changed, node if is_bound_to_id else None]

    def refusals(self, node: str, values: Mapping[str, Any], types: Mapping[str, str]) -> Iterator[tuple[str | None, str]]:
        """What `VALIDATE_INPUTS` finds wrong."""
        given: dict[str, Any] = {**values, **dict.fromkeys(types)}
        given |= {n: self.hidden_value(what, node, None) for n, what in self.hidden.items()}
        given = self.as_lists({n: to_pack(v) for n, v in _accepted(self.checks, given).items()})
        names = [n for n in given if n not in self.hidden]
        if "input_types" in self.checked:
            given["input_types"] = dict(types)
        try:
            with entered(self.world):
                answer = settled(self.checks(**given))
        except Exception as cause:  # noqa: BLE001 - the code of a pack may raise anything
            yield None, f"its own check failed: {type(cause).__name__}: {cause}"
            return
        for one in answer if isinstance(answer, list | tuple) else [answer]:
            if one is not True and not isinstance(one, Blocked):
                yield names[0] if len(names) == 1 else None, str(one) if one else "its own check refuses the values"

    def as_lists(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values as the class takes them: in lists where it takes lists."""
        return {n: [v] for n, v in values.items()} if self.takes_lists else values

    # --- running

    def needs(self, **inputs: Any) -> list[str]:
        """Names of the lazy inputs that `check_lazy_status` asks for."""
        run = inputs.pop(RUN)
        with entered(self.world, run):
            instance = self.instance(run.node)
            given = self.arguments(inputs, run)
            names = settled(instance.check_lazy_status(**_accepted(instance.check_lazy_status, given))) or []
        names = [names] if isinstance(names, str) else list(names)
        absent = [name for name in names if name not in inputs]
        if absent:
            msg = f"{self.name} asks for its input {absent[0]!r}, which is not linked"
            raise WeftError(msg)
        return names

    def call(self, **inputs: Any) -> Any:
        """Call the method on the instance of the node."""
        run = inputs.pop(RUN)
        with entered(self.world, run):
            return self.returned(getattr(self.instance(run.node), self.function)(**self.arguments(inputs, run)), run)

    async def call_async(self, **inputs: Any) -> Any:
        """Call the coroutine method on the instance of the node."""
        run = inputs.pop(RUN)
        with entered(self.world, run):
            raw = await getattr(self.instance(run.node), self.function)(**self.arguments(inputs, run))
            return self.returned(raw, run)

    def instance(self, node: str) -> Any:
        """The instance of a node: state that it keeps is there at its next call."""
        found = self.instances.get(node)
        if found is None:
            if len(self.instances) >= MAX_INSTANCES:
                self.instances.pop(next(iter(self.instances)))
            found = self.instances[node] = self.class_()
        return found

    def arguments(self, inputs: Mapping[str, Any], run: Any) -> dict[str, Any]:
        """What the method is called with."""
        given: dict[str, Any] = {}
        for name, item in inputs.items():
            link = run.nodes[run.node].links.get(name) if name in self.raw else None
            if link is not None:
                given[name] = [*link]
            elif type(item) is Lazy:
                value = item() if item.is_known else None
                given[name] = [value] if self.takes_lists and not isinstance(value, list) else to_pack(value)
            else:
                given[name] = [to_pack(v) for v in item] if self.takes_lists else to_pack(item)
        for name, what in self.hidden.items():
            value = self.hidden_value(what, run.node, run)
            given[name] = [value] if self.takes_lists else value
        return given

    def hidden_value(self, what: str, node: str, run: Any) -> Any:
        """What stands for a hidden input; before a run there is no workflow to tell of."""
        if what == "UNIQUE_ID":
            return node
        if what == "PROMPT":
            return {} if run is None else to_pack(run.documents["prompt"])
        if run is None:
            return None
        if what == "EXTRA_PNGINFO":
            more = {name: to_pack(document) for name, document in run.documents.items() if name != "prompt"}
            return more or None
        return Prompt(run) if what == "DYNPROMPT" else None

    def returned(self, raw: Any, run: Any) -> Any:
        """What the engine makes of what the method returned."""
        if not isinstance(raw, dict):
            return (*self.outputs(raw), None)
        shown = _shown(raw.get("ui"), run)
        if raw.get("expand"):
            outputs = self.values(raw.get("result", ()))
            return Expansion(self.subgraph(raw["expand"]), tuple(self.output(i, v) for i, v in enumerate(outputs)), shown)
        return (*self.outputs(raw.get("result", () if raw.keys() <= {"ui"} else raw)), shown)

    def outputs(self, raw: Any) -> Iterator[Any]:
        """The outputs of a call that became no subgraph."""
        for i, value in enumerate(self.values(raw)):
            if self.lists[i] and isinstance(value, list | tuple):
                yield [from_pack(v, self.types[i]) for v in value]
            elif self.lists[i] and not isinstance(value, Blocked):
                msg = f"{self.name} gives a {type(value).__name__} for its output {i}, which should be a list"
                raise WeftError(msg)
            else:
                yield from_pack(value, self.types[i])

    def output(self, index: int, value: Any) -> Any:
        """An output of a subgraph: a link into it, or a value."""
        return Link(value[0], int(value[1])) if is_link(value) else from_pack(value, self.types[index])

    def values(self, raw: Any) -> list[Any]:
        """One value for each output."""
        count = len(self.types)
        if isinstance(raw, Blocked):
            return [raw] * count
        if raw is None and not count:
            return []
        if not isinstance(raw, list | tuple):
            msg = f"{self.name}.{self.function} returned {type(raw).__name__} instead of a tuple of {count} outputs"
            raise WeftError(msg)
        return [*raw[:count], *[None] * (count - len(raw))]

    def subgraph(self, expand: Any) -> Graph:
        """The graph that a node became."""
        nodes: dict[str, Node] = {}
        catalog = self.world.catalog
        for node_id, record in dict(expand).items():
            kind = catalog.get(record["class_type"])
            inputs: dict[str, Any] = {}
            for name, value in dict(record.get("inputs") or {}).items():
                port = kind.inputs.get(name) if kind is not None else None
                inputs[name] = Link(value[0], int(value[1])) if is_link(value) else from_pack(value, port.type if port else "*")
            nodes[str(node_id)] = Node(record["class_type"], inputs, str((record.get("_meta") or {}).get("title", "")))
        return Graph(nodes)


def _parameters(function: Any) -> tuple[frozenset[str], bool]:
    """(names of the parameters, whether it takes any further ones by name)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return frozenset(), True
    return frozenset(p.name for p in parameters), any(p.kind is p.VAR_KEYWORD for p in parameters)


def _accepted(function: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that a function takes."""
    names, takes_all = _parameters(function)
    return {n: v for n, v in given.items() if takes_all or n in names}


def settled(value: Any) -> Any:
    """A value, or what a coroutine comes to."""
    if not inspect.isawaitable(value):
        return value
    results: list[Any] = []
    errors: list[BaseException] = []
    awaitable = value

    async def wait() -> Any:
        return await awaitable

    def work() -> None:
        try:
            results.append(asyncio.run(wait()))
        except BaseException as error:  # noqa: BLE001 - raised below, where it belongs
            errors.append(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="weft-pack")  # this one may have a loop that runs
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _options(spec: Any) -> dict[str, Any]:
    """The options of an input."""
    if isinstance(spec, list | tuple) and len(spec) > 1 and isinstance(spec[1], Mapping):
        return dict(spec[1])
    return {}


def _choices(spec: Any) -> tuple[Any, ...] | None:
    """The choices of an input; None where it has none."""
    given = spec[0] if isinstance(spec, list | tuple) and spec else spec
    if isinstance(given, list | tuple):
        return tuple(given)
    listed = _options(spec).get("options")
    return tuple(listed) if given == "COMBO" and isinstance(listed, list | tuple) else None


def _type(given: Any) -> str:
    """The port type that a declared type stands for: choices, a name, or something that calls itself equal to every name."""
    if isinstance(given, list | tuple):
        return "COMBO"
    if not (given != "a type that nobody declares"):  # noqa: SIM202 - such types override `!=` alone
        return "*"
    return str(given.value) if hasattr(given, "value") else str(given)


def _hidden(spec: Any) -> str:
    """What a hidden input stands for."""
    return str(spec[0] if isinstance(spec, list | tuple) and spec else spec)


def _range(options: Mapping[str, Any], type_: str) -> Range | None:
    """The bounds of a number."""
    low, high = options.get("min"), options.get("max")
    if type_ not in {"INT", "FLOAT"} or (low is None and high is None):
        return None
    return Range(-math.inf if low is None else low, math.inf if high is None else high)


def _shown(ui: Any, run: Any) -> Shown | None:
    """What a node shows."""
    if not isinstance(ui, Mapping) or not ui:
        return None
    entries = {}
    for name, values in ui.items():
        listed = values if isinstance(values, list | tuple) else (values,)
        entries[str(name)] = tuple(_file(v, run) for v in listed)
    return Shown(entries)


def _file(entry: Any, run: Any) -> Any:
    """A file that was written, where an entry names one."""
    if not isinstance(entry, dict) or not {"filename", "type"} <= entry.keys() or not entry.keys() <= _FILE:
        return entry
    root = {"output": run.folders.output, "temp": run.folders.temp, "input": run.folders.input}.get(entry["type"])
    if root is None:
        return entry
    subfolder = str(entry.get("subfolder") or "")
    return SavedFile(Path(root) / subfolder / str(entry["filename"]), str(entry["filename"]), subfolder, str(entry["type"]))
