"""The page's own format: nodes with places, slots and widgets, subgraphs, and nodes that exist only in the editor.

Reading flattens it to what runs, as the page does when it sends a workflow to a server: subgraphs are replaced by their
nodes (`12:5` is node 5 inside node 12), links are led through reroutes and bypassed nodes, values come from widgets,
primitives and what subgraphs promote. What only editors know is not lost: the document is kept beside the graph.

Links are matched by name before place, wherever a file gives both: newer files leave out sockets that are not linked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from engine.errors import FormatError
from engine.formats import widgets
from engine.formats.api import MAX_NODES, check_value
from engine.graph import Graph, Link, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.schema import Catalog

MAX_NESTING = 64
"""How deep subgraphs may nest."""

_MUTED, _BYPASSED = 2, 4
_INPUT, _OUTPUT = "-10", "-20"
_NOTES = frozenset({"Note", "MarkdownNote"})
_PRIMITIVE = "PrimitiveNode"
_GROUP_PREFIXES = ("workflow>", "workflow/")
_ANY = frozenset({"*", "", "0"})
_RENAMED: Mapping[str, str] = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
}
"""Kinds that were called otherwise once."""


class Slot(NamedTuple):
    """A socket of a node.

    Attributes:
        name: Its name.
        type: What it takes or gives.
        link: Id of the link into it, or None.
        widget: Name of the widget that it stands for, or None.
    """

    name: str
    type: str
    link: str | None = None
    widget: str | None = None


class Wire(NamedTuple):
    """A link: from an output of a node to an input of another."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


class Part:
    """A node of a document.

    Attributes:
        id: Its id at its level.
        type: Kind, subgraph, or what only editors know.
        mode: 0, or 2 muted, 4 bypassed.
        inputs: Its sockets.
        outputs: What it gives.
        record: The node as written.
    """

    __slots__ = ("id", "inputs", "mode", "outputs", "record", "type")

    def __init__(self, record: Mapping[str, Any], where: str, source: str) -> None:
        self.record = record
        self.id = _id(record.get("id"), f"{where}: the id of a node", source)
        type_ = record.get("type")
        if not isinstance(type_, str):
            msg = f"{where}: node {self.id} has no type"
            raise FormatError(msg, source=source)
        self.type = _RENAMED.get(type_, type_)
        mode = record.get("mode", 0)
        self.mode = mode if mode in (_MUTED, _BYPASSED) and type(mode) is int else 0
        place = f"{where}: node {self.id}"
        self.inputs = tuple(_slot(slot, place, source) for slot in _list(record.get("inputs"), f"{place}: inputs", source))
        self.outputs = tuple(_slot(slot, place, source) for slot in _list(record.get("outputs"), f"{place}: outputs", source))

    @property
    def properties(self) -> Mapping[str, Any]:
        """What the file says about it for editors."""
        found = self.record.get("properties")
        return found if isinstance(found, dict) else {}

    @property
    def values(self) -> Any:
        """What its widgets hold, by place or by name."""
        return self.record.get("widgets_values")


@dataclass(slots=True)
class Level:
    """The nodes and links of a workflow or of a subgraph.

    Attributes:
        nodes: By id.
        wires: By id.
        inputs: Names of the subgraph's inputs; the place is what links from it say.
        outputs: Names of its outputs.
    """

    nodes: dict[str, Part]
    wires: dict[str, Wire]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    _ends: dict[int, Wire] | None = field(default=None, repr=False)
    _widgets: tuple[str, ...] | None = field(default=None, repr=False)
    _set: dict[str, Part] | None = field(default=None, repr=False)

    @property
    def ends(self) -> dict[int, Wire]:
        """Number of an output of the subgraph to the link that feeds it."""
        if self._ends is None:
            self._ends = {wire.target_slot: wire for wire in self.wires.values() if wire.target == _OUTPUT}
        return self._ends

    @property
    def widgets(self) -> tuple[str, ...]:
        """Names of the inputs that stand for widgets inside, in order."""
        if self._widgets is None:
            linked = {slot.link for node in self.nodes.values() for slot in node.inputs if slot.widget is not None}
            shown = {wire.origin_slot for wire_id, wire in self.wires.items() if wire.origin == _INPUT and wire_id in linked}
            self._widgets = tuple(name for i, name in enumerate(self.inputs) if i in shown)
        return self._widgets

    @property
    def set_nodes(self) -> dict[str, Part]:
        """Name to the `SetNode` that gives it, the first of several."""
        if self._set is None:
            self._set = {}
            for node in self.nodes.values():
                if node.type == "SetNode" and node.inputs and (name := _name(node)) is not None:
                    self._set.setdefault(name, node)
        return self._set


def _name(part: Part) -> str | None:
    """What a `SetNode` or `GetNode` calls its value."""
    first = part.values[0] if isinstance(part.values, list) and part.values else None
    return first if isinstance(first, str) else None


def is_ui(document: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed document is in the page's own format."""
    return isinstance(document, dict) and isinstance(document.get("nodes"), list) and "class_type" not in document


def read_ui(document: Mapping[str, Any], catalog: Catalog | None = None, *, source: str = "workflow") -> Graph:
    """The graph that a document stands for; the document itself is its `extra["workflow"]`.

    Args:
        document: The parsed JSON.
        catalog: The installed kinds: they say which widget a saved value belongs to.
        source: What to call the document in errors.

    Raises:
        FormatError: if it is malformed, or its subgraphs contain each other; the message names the place.
    """
    reader = _Flattener(document, catalog, source)
    return Graph(reader.flatten(), {"workflow": document})


def levels(document: Mapping[str, Any], *, source: str = "workflow") -> tuple[Level, dict[str, Level]]:
    """(the workflow, subgraphs by id), parsed.

    Raises:
        FormatError: if the document is malformed.
    """
    definitions: dict[str, Level] = {}
    front = [document.get("definitions")]
    while front:
        record = front.pop()
        if record is None:
            continue
        for found in _list(_object(record, "definitions", source).get("subgraphs"), "definitions.subgraphs", source):
            subgraph = _object(found, "a subgraph", source)
            name = _id(subgraph.get("id"), "the id of a subgraph", source)
            if name in definitions:
                msg = f"two subgraphs have the id {name!r}"
                raise FormatError(msg, source=source)
            if len(definitions) >= MAX_NODES:
                msg = f"the workflow has more than {MAX_NODES:,} subgraphs"
                raise FormatError(msg, source=source)
            definitions[name] = _level(subgraph, f"subgraph {subgraph.get('name') or name!r}", source)
            front.append(subgraph.get("definitions"))
    return _level(document, "the workflow", source), {**_group_nodes(document, source), **definitions}


def _level(record: Mapping[str, Any], where: str, source: str) -> Level:
    nodes: dict[str, Part] = {}
    records = _list(record.get("nodes"), f"{where}: nodes", source)
    if len(records) > MAX_NODES:
        msg = f"{where} has {len(records):,} nodes; the limit is {MAX_NODES:,}"
        raise FormatError(msg, source=source)
    for found in records:
        node = Part(_object(found, f"{where}: a node", source), where, source)
        if node.id in nodes:
            msg = f"{where}: two nodes have the id {node.id}"
            raise FormatError(msg, source=source)
        nodes[node.id] = node
    wires: dict[str, Wire] = {}
    for found in _list(record.get("links"), f"{where}: links", source):
        wire_id, wire = _wire(found, where, source)
        wires[wire_id] = wire
    names = [
        _list(record.get(side), f"{where}: {side}", source) if "inputNode" in record else () for side in ("inputs", "outputs")
    ]
    inputs, outputs = (tuple(_slot(slot, where, source).name for slot in side) for side in names)
    return Level(nodes, wires, inputs, outputs)


def _wire(found: Any, where: str, source: str) -> tuple[str, Wire]:
    if isinstance(found, dict):
        members = [found.get(name) for name in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    elif isinstance(found, list) and len(found) >= 5:
        members = found[:5]
    else:
        msg = f"{where}: a link is neither an object nor an array of five or more members"
        raise FormatError(msg, source=source)
    wire_id, origin, origin_slot, target, target_slot = members
    name = _id(wire_id, f"{where}: the id of a link", source)
    if type(origin_slot) is not int or type(target_slot) is not int:
        msg = f"{where}: link {name} has a slot that is no whole number"
        raise FormatError(msg, source=source)
    ends = [_id(end, f"{where}: an end of link {name}", source) for end in (origin, target)]
    return name, Wire(ends[0], origin_slot, ends[1], target_slot)


def _slot(found: Any, where: str, source: str) -> Slot:
    if not isinstance(found, dict):
        msg = f"{where}: a slot: not an object"
        raise FormatError(msg, source=source)
    name, type_, link, widget = found.get("name"), found.get("type"), found.get("link"), found.get("widget")
    if not isinstance(name, str):
        msg = f"{where}: a slot has no name"
        raise FormatError(msg, source=source)
    if type(type_) is not str:
        type_ = ",".join(map(str, type_)) if isinstance(type_, list) else str(type_)
    if link is not None:
        link = str(link) if type(link) is int else _id(link, f"{where}: the link of slot {name!r}", source)
    if widget is not None:
        shown = widget.get("name") if isinstance(widget, dict) else None
        widget = shown if isinstance(shown, str) else (name if isinstance(widget, dict) else None)
    return Slot(name, type_, link, widget)


def _group_nodes(document: Mapping[str, Any], source: str) -> dict[str, Level]:
    """The group nodes of older files, as subgraphs by their type.

    Their inputs are those of their nodes that no link inside feeds, in order; their outputs likewise.
    """
    extra = document.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, dict) else None
    found: dict[str, Level] = {}
    for name, record in _object(groups or {}, "extra.groupNodes", source).items():
        where = f"group node {name!r}"
        members = [
            _object(m, f"{where}: a node", source) for m in _list(_object(record, where, source).get("nodes"), where, source)
        ]
        numbered = [{**member, "id": index} for index, member in enumerate(members)]
        wires: list[Any] = []
        for link in _list(record.get("links"), f"{where}: links", source):
            if not isinstance(link, list) or len(link) < 4:
                msg = f"{where}: a link is no array of four or more members"
                raise FormatError(msg, source=source)
            if link[0] is not None and link[2] is not None:  # others lead outside
                wires.append([len(wires), *link[:4]])
        nodes = [dict(member) for member in numbered]
        fed = {(w[3], w[4]): w[0] for w in wires}
        inputs: list[dict[str, Any]] = []
        outputs: list[dict[str, Any]] = []
        used = {(w[1], w[2]) for w in wires}
        for index, member in enumerate(nodes):
            slots = []
            for place, slot in enumerate(_list(member.get("inputs"), f"{where}: inputs", source)):
                slot = dict(_object(slot, f"{where}: a slot", source))  # noqa: PLW2901 - a copy of it
                slot["link"] = fed.get((index, place))
                if slot["link"] is None:
                    slot["link"] = len(wires)
                    wires.append([len(wires), int(_INPUT), len(inputs), index, place])
                    inputs.append({"name": str(slot.get("name")), "type": slot.get("type")})
                slots.append(slot)
            member["inputs"] = slots
            for place, slot in enumerate(_list(member.get("outputs"), f"{where}: outputs", source)):
                if (index, place) not in used:
                    wires.append([len(wires), index, place, int(_OUTPUT), len(outputs)])
                    outputs.append(
                        {"name": str(_object(slot, f"{where}: a slot", source).get("name")), "type": slot.get("type")}
                    )
        level = {"nodes": nodes, "links": wires, "inputs": inputs, "outputs": outputs, "inputNode": {}}
        for prefix in _GROUP_PREFIXES:
            found[prefix + name] = _level(level, where, source)
    return found


class _Scope:
    """A level in its place: the workflow, or a subgraph inside a node."""

    __slots__ = ("children", "instance", "level", "outer", "path", "promoted", "sockets")

    def __init__(self, level: Level, path: str = "", instance: Part | None = None, outer: _Scope | None = None) -> None:
        self.level = level
        self.path = path
        self.instance = instance
        self.outer = outer
        self.children: dict[str, _Scope] = {}
        self.promoted = _promoted(instance, level) if instance is not None else {}
        self.sockets = {slot.name: slot for slot in reversed(instance.inputs)} if instance is not None else {}


def _promoted(instance: Part, level: Level) -> dict[str, Any]:
    """The values that a node gives to the inputs of the subgraph that it stands for."""
    named = instance.record.get("widgets_values_named")
    values: dict[str, Any] = {}
    if isinstance(instance.values, list):
        values.update((n, v) for n, v in zip(level.widgets, instance.values, strict=False) if v is not None)
    elif isinstance(instance.values, dict):
        values.update(instance.values)
    if isinstance(named, dict):
        values.update(named)
    return values


class _Value(NamedTuple):
    """A constant where a link might be."""

    value: Any


class _Onwards(NamedTuple):
    """Another link that stands for one; None where there is nothing."""

    scope: _Scope
    wire: Wire | None


class _Flattener:
    """Turns a document into nodes that run."""

    def __init__(self, document: Mapping[str, Any], catalog: Catalog | None, source: str) -> None:
        self.catalog = catalog
        self.source = source
        self.layouts: dict[str, widgets.Layout | None] = {}
        self.sources: dict[tuple[str, Wire, str], Link | _Value | None] = {}
        self.root, self.definitions = levels(document, source=source)

    def flatten(self) -> dict[str, Node]:
        """The nodes that run, by their path."""
        nodes: dict[str, Node] = {}
        for scope, part in self._concrete():
            if len(nodes) >= MAX_NODES:
                msg = f"the workflow has more than {MAX_NODES:,} nodes, those of its subgraphs counted"
                raise FormatError(msg, source=self.source)
            nodes[scope.path + part.id] = self._node(scope, part)
        for node in nodes.values():  # links to what is muted or missing
            inputs: dict[str, Any] = node.inputs  # type: ignore[assignment] # made here
            for name in [n for n, v in inputs.items() if type(v) is Link and v.node not in nodes]:
                del inputs[name]
        return nodes

    def _concrete(self) -> Iterator[tuple[_Scope, Part]]:
        """Every node that runs, with its scope, in the order of the document."""
        root = _Scope(self.root)
        stack: list[tuple[_Scope, Iterator[Part]]] = [(root, iter(root.level.nodes.values()))]
        while stack:
            scope, parts = stack[-1]
            part = next(parts, None)
            if part is None:
                stack.pop()
            elif part.mode or self._is_virtual(part):
                continue
            elif part.type in self.definitions:
                inner = self._inside(scope, part, len(stack))
                stack.append((inner, iter(inner.level.nodes.values())))
            else:
                yield scope, part

    def _inside(self, scope: _Scope, part: Part, depth: int = 0) -> _Scope:
        """The scope of the subgraph that `part` stands for."""
        inner = scope.children.get(part.id)
        if inner is None:
            level = self.definitions[part.type]
            around: _Scope | None = scope
            while around is not None:
                if around.level is level:
                    msg = f"node {scope.path}{part.id}: the subgraph {part.type!r} contains itself"
                    raise FormatError(msg, source=self.source)
                around = around.outer
            if depth > MAX_NESTING:
                msg = f"node {scope.path}{part.id}: subgraphs nest deeper than {MAX_NESTING}"
                raise FormatError(msg, source=self.source)
            inner = scope.children[part.id] = _Scope(level, f"{scope.path}{part.id}:", part, scope)
        return inner

    def _is_virtual(self, part: Part) -> bool:
        """Whether only editors know it."""
        return part.type in _NOTES or part.type == _PRIMITIVE or self._passes(part) or part.type in {"SetNode", "GetNode"}

    def _passes(self, part: Part) -> bool:
        """Whether it only passes a link on."""
        if part.type == "Reroute":
            return True
        is_known = self.catalog is not None and part.type in self.catalog
        return "reroute" in part.type.lower() and not is_known and len(part.inputs) == 1 and len(part.outputs) == 1

    def _node(self, scope: _Scope, part: Part) -> Node:
        inputs = self._widget_values(scope, part)
        for slot in part.inputs:
            if slot.link is None:
                continue
            found = self._source(scope, scope.level.wires.get(slot.link), slot.type)
            if isinstance(found, _Value):
                inputs[slot.widget or slot.name] = found.value
            elif found is not None:
                inputs[slot.name] = found
        for name, value in inputs.items():
            if type(value) in _CHECKED and not (type(value) is str and value.isascii()):
                check_value(value, f"input {name!r} of node {scope.path}{part.id}", self.source)
        title = part.record.get("title")
        is_plain = not isinstance(title, str) or title == part.type
        return Node(part.type, inputs, "" if is_plain else str(title))

    def _widget_values(self, scope: _Scope, part: Part) -> dict[str, Any]:
        if part.type not in self.layouts:
            self.layouts[part.type] = widgets.layout(part.type, self.catalog)
        layout = self.layouts[part.type]
        named = part.record.get("widgets_values_named")
        values = named if isinstance(named, dict) else part.values
        shown = [slot.widget for slot in part.inputs if slot.widget is not None]
        if values is not None and not isinstance(values, dict | list):
            msg = f"node {scope.path}{part.id} ({part.type}): widgets_values is neither an array nor an object"
            raise FormatError(msg, source=self.source)
        if layout is None:
            if isinstance(values, dict):
                return {
                    k: v for k, v in values.items() if isinstance(k, str) and not k.startswith(_PAGE_ONLY) and v is not None
                }
            return widgets.by_guess(values or (), shown)
        given = widgets.prefixed(layout, values) if isinstance(values, dict) else widgets.by_name(values or (), layout)
        found: dict[str, Any] = {name: given[name] for name in shown if given.get(name) is not None}
        for widget in widgets.shown(layout, given):
            value = given.get(widget.name)
            if value is None:
                value = widget.default
            if value is not None and not widget.is_socket:
                found[widget.name] = _unprefixed(value) if widget.name == "sampler_name" else value
        return found

    def _source(self, scope: _Scope, wire: Wire | None, wanted: str) -> Link | _Value | None:
        """What a link leads to in the end: an output of a node that runs, a constant, or nothing."""
        trail: dict[tuple[str, Wire, str], None] = {}
        found: Link | _Value | None = None
        while wire is not None:
            key = scope.path, wire, wanted
            if key in self.sources:  # many links may share a long way
                found = self.sources[key]
                break
            if key in trail:
                msg = f"{scope.path or 'the workflow'}: links through node {wire.origin} lead in a circle"
                raise FormatError(msg, source=self.source)
            trail[key] = None
            step = self._onwards(scope, wire, wanted)
            if not isinstance(step, _Onwards):
                found = step
                break
            scope, wire = step
        if len(trail) > 1:
            self.sources.update(dict.fromkeys(trail, found))
        return found

    def _onwards(self, scope: _Scope, wire: Wire, wanted: str) -> Link | _Value | _Onwards | None:
        """One step of the way: where a link begins, or the link before it."""
        if wire.origin == _INPUT:
            slot, name = _outer_input(scope, wire.origin_slot)
            outer = scope.outer
            if slot is not None and slot.link is not None and outer is not None and slot.link in outer.level.wires:
                return _Onwards(outer, outer.level.wires[slot.link])
            return _Value(scope.promoted[name]) if name in scope.promoted else None
        part = scope.level.nodes.get(wire.origin)
        if part is None or part.mode == _MUTED:
            return None
        place = wire.origin_slot
        if part.mode == _BYPASSED:
            return _Onwards(scope, _linked(scope, _bypassed(part, place, wanted)))
        if part.type in self.definitions:
            inner = self._inside(scope, part)
            return _Onwards(inner, inner.level.ends.get(place))
        if part.type == _PRIMITIVE:
            return _Value(part.values[0]) if isinstance(part.values, list) and part.values else None
        if part.type == "GetNode":
            return _set_node(scope, part)
        if self._passes(part) or part.type == "SetNode":
            slot = part.inputs[place] if 0 <= place < len(part.inputs) else next(iter(part.inputs), None)
            return _Onwards(scope, _linked(scope, slot))
        return Link(scope.path + part.id, place)


_CHECKED = frozenset({str, list, dict})
_PAGE_ONLY = ("control_after_generate", "control_filter_list", "upload", "$$")


def _outer_input(scope: _Scope, place: int) -> tuple[Slot | None, str]:
    """(the socket of the node around a subgraph for its input number `place`, the name of that input)."""
    names, instance = scope.level.inputs, scope.instance
    if instance is None or not 0 <= place < len(names):
        return None, ""
    name = names[place]
    is_same = len(instance.inputs) == len(names)
    return scope.sockets.get(name) or (instance.inputs[place] if is_same else None), name


def _linked(scope: _Scope, slot: Slot | None) -> Wire | None:
    return scope.level.wires.get(slot.link) if slot is not None and slot.link is not None else None


def _set_node(scope: _Scope, part: Part) -> _Onwards:
    """Where the value of a `GetNode` comes from: the `SetNode` of its name, at its level or around it."""
    name = _name(part)
    around: _Scope | None = scope if name is not None else None
    while around is not None:
        other = around.level.set_nodes.get(name or "")
        if other is not None:
            return _Onwards(around, _linked(around, other.inputs[0]))
        around = around.outer
    return _Onwards(scope, None)


def _bypassed(part: Part, place: int, wanted: str) -> Slot | None:
    """The input that a bypassed node passes on for its output number `place`."""
    inputs = part.inputs
    same = inputs[place] if 0 <= place < len(inputs) else None
    if wanted in _ANY:
        return same or next(iter(inputs), None)
    given = part.outputs[place].type if 0 <= place < len(part.outputs) else wanted
    if same is not None and _fits(same.type, given) and _fits(same.type, wanted):
        return same
    exact = next((slot for slot in inputs if slot.type == wanted), None)
    return exact or next((slot for slot in inputs if _fits(slot.type, given) and _fits(slot.type, wanted)), None)


def _fits(one: str, other: str) -> bool:
    if one in _ANY or other in _ANY:
        return True
    return not {t.strip().upper() for t in one.split(",")}.isdisjoint(t.strip().upper() for t in other.split(","))


def _unprefixed(value: Any) -> Any:
    return value.removeprefix("sample_") if isinstance(value, str) else value


def _id(value: Any, what: str, source: str) -> str:
    if type(value) is int or (isinstance(value, str) and value):
        return str(value)
    msg = f"{what} is {value!r:.80}, not a number or a text"
    raise FormatError(msg, source=source)


def _list(value: Any, what: str, source: str) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and all(isinstance(k, str) and k.isdecimal() for k in value):
        return list(value.values())  # an array with holes, as old pages wrote it
    msg = f"{what}: not an array"
    raise FormatError(msg, source=source)


def _object(value: Any, what: str, source: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    msg = f"{what}: not an object"
    raise FormatError(msg, source=source)
