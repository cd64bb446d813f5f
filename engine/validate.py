"""Graph x Catalog -> a checked graph, or every problem at once.

Nothing of the document is changed: the checked graph holds its own coerced values. A checked graph is also the memory of
what was checked: given the earlier one, only what differs from it is looked at again.

Invariants, tested: `nodes` is in topological order, depth first from the nodes that nobody consumes; every link of a
checked node leads to a checked node; a graph with a cycle has no checked nodes on it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from engine.alike import mismatches
from engine.errors import CycleError, Problem, UnencodableValue, WeftError, WorkflowInvalid, cycle_message
from engine.fingerprint import Bound, FileDigests, canonical
from engine.folders import LEGACY_KEYS
from engine.formats.api import MAX_NODES
from engine.formats.model_links import model_links
from engine.graph import Graph, Link, Mode, Node
from engine.hints import Hints, short
from engine.inactive import without_inactive
from engine.order import cycles, ordered
from engine.schema import MISSING, WIDGET_TYPES, Catalog, FileChoice, Input, Kind, LiveChoice, choices_of, compatible
from engine.types import PORT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.alike import Mismatch
    from engine.folders import Folders

MAX_CHOICES: Final = 100
"""How many choices a problem lists in its details."""

COMFY_CODES: Final[Mapping[str, str]] = {
    "unknown-kind": "invalid_prompt",
    "missing-input": "required_input_missing",
    "missing-node": "exception_during_inner_validation",
    "missing-output": "exception_during_inner_validation",
    "type-mismatch": "return_type_mismatch",
    "invalid-value": "invalid_input_type",
    "link-expected": "bad_linked_input",
    "below-minimum": "value_smaller_than_min",
    "above-maximum": "value_bigger_than_max",
    "not-a-choice": "value_not_in_list",
    "missing-file": "value_not_in_list",
    "outside-folder": "custom_validation_failed",
    "refused": "custom_validation_failed",
    "cycle": "dependency_cycle",
    "unlike-files": "custom_validation_failed",
    "no-outputs": "prompt_no_outputs",
    "unknown-target": "prompt_no_outputs",
    "inactive-target": "prompt_no_outputs",
    "too-many-nodes": "invalid_prompt",
}
"""Problem code to the error type that clients of ComfyUI know."""

_READABLE: Final = 80
_CONES: Final = 8
"""How many sets of targets are remembered for a graph."""

_REPOSITORY: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_EXACT: Final[Mapping[str, type]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
_LINKED_ONLY: Final = frozenset(PORT_TYPES.values()) - WIDGET_TYPES - {"*"}


class CheckedNode:
    """A node whose kind is known and whose inputs are sound.

    Attributes:
        id: Its id in the graph.
        node: The node as written.
        kind: Its kind.
        literals: Name to value for every input that is not linked, defaults included; file names are paths.
        links: Input name to (source id, index of the source's output).
    """

    __slots__ = ("_state", "folders", "id", "kind", "links", "literals", "node")

    def __init__(
        self,
        node_id: str,
        node: Node,
        kind: Kind,
        literals: dict[str, Any],
        links: dict[str, tuple[str, int]],
        folders: Folders,
    ) -> None:
        self.id = node_id
        self.node = node
        self.kind = kind
        self.literals = literals
        self.links = links
        self.folders = folders
        self._state: bytes | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return self.node.title or self.kind.title or self.kind.id

    def dependencies(self, files: FileDigests) -> list[bytes]:
        """Canonical bytes of the files that its texts refer to, and of what its kind depends on beside; asked for once."""
        parts: list[bytes] = []
        if self.kind.state is not None:
            if self._state is None:
                values = {name: value.value if type(value) is Bound else value for name, value in self.literals.items()}
                self._state = canonical(self.kind.state(self.id, values, self.links))
            parts.append(b"q" + self._state)
        for name, port in self.kind.inputs.items():
            text = self.literals.get(name)
            if port.references is not None and isinstance(text, str):
                found = port.references.find(text, self.folders)
                parts.extend(b"r" + canonical([name, path.name], files) + canonical(path, files) for path in found)
        return parts


@dataclass(frozen=True, eq=False)
class Checked:
    """A graph after checking.

    Attributes:
        graph: What was checked.
        nodes: The sound nodes, in topological order.
        problems: Everything that is wrong, in the order of the document.
        stale: Ids whose inputs differ from the earlier check's; None if there was none.
        dynamic: Ids of nodes whose keys or problems may change though their inputs do not, such as those that name files.
    """

    graph: Graph
    nodes: dict[str, CheckedNode]
    problems: tuple[Problem, ...]
    stale: frozenset[str] | None = None
    dynamic: tuple[str, ...] = ()
    _effects_of_kind: tuple[str, ...] = field(default=(), repr=False)
    _shared: dict[str, Any] = field(default_factory=dict, repr=False)

    def with_changes(
        self,
        graph: Graph,
        nodes: dict[str, CheckedNode],
        problems: tuple[Problem, ...],
        stale: frozenset[str],
        *,
        same_links: bool = True,
    ) -> Checked:
        """The check of a later version; what was derived from the links goes on where they are the same."""
        shared = self._shared if same_links else {}
        return Checked(graph, nodes, problems, stale, self.dynamic, _shared=shared)

    @property
    def children(self) -> dict[str, list[str]]:
        """Id to the ids of the nodes that consume its outputs. Shared between versions with equal links."""
        children: dict[str, list[str]] | None = self._shared.get("children")
        if children is None:
            children = {}
            for node in self.nodes.values():
                for source, _ in node.links.values():
                    children.setdefault(source, []).append(node.id)
            self._shared["children"] = children
        return children

    def downstream(self, ids: Iterable[str]) -> set[str]:
        """`ids` and everything that depends on them.

        The first question goes through all nodes once, which is cheaper than listing who consumes what; whoever asks again
        is editing, and then the list pays.
        """
        found = set(ids)
        if self._shared.get("is_edited"):
            children = self.children
            front = list(found)
            while front:
                for child in children.get(front.pop(), ()):
                    if child not in found:
                        found.add(child)
                        front.append(child)
            return found
        self._shared["is_edited"] = True
        for node_id, node in self.nodes.items():
            for source, _ in node.links.values():
                if source in found:
                    found.add(node_id)
                    break
        return found

    @property
    def place(self) -> dict[str, int]:
        """Id to place in the topological order. Shared between versions with equal links."""
        place: dict[str, int] | None = self._shared.get("place")
        if place is None:
            place = {node_id: i for i, node_id in enumerate(self.nodes)}
            self._shared["place"] = place
        return place

    def ordered_cone(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """The sound targets and everything that they depend on, sources first. Shared like `place`."""
        cones = self._shared.setdefault("cones", {})
        cone: tuple[str, ...] | None = cones.get(targets)
        if cone is None:
            nodes = self.nodes
            seen: set[str] = set()
            front = [t for t in targets if t in nodes]
            while front:
                node_id = front.pop()
                if node_id not in seen:
                    seen.add(node_id)
                    front.extend([source for source, _ in nodes[node_id].links.values() if source in nodes])
            place = self.place
            cone = tuple(nodes) if len(seen) == len(nodes) else tuple(sorted(seen, key=place.__getitem__))
            self.remember_cone(targets, cone)
        return cone

    def remember_cone(self, targets: tuple[str, ...], cone: tuple[str, ...]) -> None:
        """Take over what `ordered_cone` would find, from whoever saw it on the way."""
        cones = self._shared.setdefault("cones", {})
        if len(cones) >= _CONES:
            cones.clear()
        cones[targets] = cone

    @cached_property
    def effects(self) -> tuple[str, ...]:
        """Ids of the sound nodes that are outputs of the workflow, in the order of the document."""
        nodes = self.nodes
        return tuple(i for i in self.graph.nodes if i in nodes and nodes[i].kind.effect)

    def cone(self, targets: Iterable[str]) -> frozenset[str]:
        """The targets and everything of the document that they depend on, sound or not."""
        seen: set[str] = set()
        front = [t for t in targets if t in self.graph.nodes]
        while front:
            node_id = front.pop()
            if node_id not in seen:
                seen.add(node_id)
                values = self.graph.nodes[node_id].inputs.values()
                front.extend(v.node for v in values if type(v) is Link and v.node in self.graph.nodes)
        return frozenset(seen)

    def require(self, targets: Iterable[str] | None = None, *, source: str | None = None) -> tuple[str, ...]:
        """The ids that a run is for; refuses if anything that they depend on is wrong.

        Args:
            targets: Ids of the wanted nodes; all outputs of the workflow when None. A kind that is not installed might be
                an output, so it is then refused wherever it stands.
            source: What to call the workflow in the error.

        Raises:
            WorkflowInvalid: with every problem that stands in the way; a `CycleError` if one of them is a cycle.
        """
        problems: list[Problem] = []
        graph = self.graph
        if targets is None:
            wanted = self.effects if not self.problems else tuple(dict.fromkeys([*self.effects, *self._unsound_effects()]))
            blocking = {id(p) for p in self._blocking(wanted)}
            problems.extend(p for p in self.problems if id(p) in blocking or p.code == "unknown-kind")
            if not wanted:
                problems = [p for p in self.problems if not p.warning]
            if not wanted and not problems:
                help_ = "add a node such as SaveImage, or name a target" if graph.nodes else "the workflow is empty"
                problems.append(Problem("no-outputs", "the workflow has no output node", hint=help_))
        else:
            wanted = tuple(dict.fromkeys(targets))
            hints = Hints()
            for target in wanted:
                if target not in graph.nodes:
                    hint = hints.near(target, graph.nodes.keys())
                    problems.append(Problem("unknown-target", f"there is no node {target!r} to run", node=target, hint=hint))
            problems.extend(self._blocking(wanted))
        if not problems:
            for target in wanted:
                if target not in self.nodes:
                    message = f"node {target} cannot be run: it is muted, bypassed, or depends on a node that is"
                    problems.append(Problem("inactive-target", message, node=target, hint="make it active"))
        if problems:
            raise invalid(problems, source)
        return wanted

    def _blocking(self, targets: Iterable[str]) -> list[Problem]:
        """The problems of the nodes that `targets` depend on."""
        if not self.problems:
            return []
        cone = self.cone(targets)
        return [
            p
            for p in self.problems
            if not p.warning
            and (p.node is None or p.node in cone or (p.code == "cycle" and not cone.isdisjoint((p.details or {})["path"])))
        ]

    def _unsound_effects(self) -> list[str]:
        """Ids of output nodes that a problem keeps from being sound."""
        return [i for i in self._effects_of_kind if i not in self.nodes]


def invalid(problems: Iterable[Problem], source: str | None = None) -> WorkflowInvalid:
    """The error that carries `problems`: a `CycleError` if one is a cycle."""
    found = tuple(problems)
    for problem in found:
        if problem.code == "cycle" and problem.details:
            return CycleError(problem.details["path"], found, source=source)
    return WorkflowInvalid(found, source=source)


def check(
    graph: Graph,
    catalog: Catalog,
    folders: Folders,
    *,
    previous: Checked | None = None,
    context: Mapping[str, CheckedNode] | None = None,
) -> Checked:
    """Check a graph.

    Args:
        graph: The graph.
        catalog: The kinds there are.
        folders: Where files are.
        previous: An earlier check with the same catalogue and folders; what is unchanged is not looked at again.
        context: Further sound nodes that links may lead to (a subgraph sees the nodes around it).
    """
    if previous is not None:
        again = _recheck(graph, catalog, folders, previous)
        if again is not None:
            return again
    if len(graph.nodes) > MAX_NODES:
        message = f"the workflow has {len(graph.nodes):,} nodes; the limit is {MAX_NODES:,}"
        return Checked(graph, {}, (Problem("too-many-nodes", message),))
    effective = without_inactive(graph, catalog)
    checker = _Checker(effective, catalog, folders, context or {}, graph.extra)
    sound: dict[str, CheckedNode] = {}
    dynamic: list[str] = []
    for node_id, node in effective.items():
        checked = checker.node(node_id, node)
        if checked is not None:
            sound[node_id] = checked
            if checked.kind.is_dynamic:
                dynamic.append(node_id)
    in_order, cyclic = ordered(sound, context or {})
    problems = checker.problems
    for path in cycles(Graph({i: effective[i] for i in cyclic})) if cyclic else ():
        problems.append(Problem("cycle", cycle_message(path), node=path[0], details={"path": list(path)}))
    if found := tuple(mismatches(in_order)):
        for mismatch in found:
            checker.report_mismatch(mismatch)
        unlike = {mismatch.node for mismatch in found}
        in_order, _ = ordered({i: node for i, node in in_order.items() if i not in unlike}, context or {})
    effects: tuple[str, ...] = ()
    if problems:
        kinds = ((i, catalog.get(node.kind)) for i, node in effective.items())
        effects = tuple(i for i, kind in kinds if kind is not None and kind.effect)
    return Checked(graph, in_order, tuple(problems), dynamic=tuple(dynamic), _effects_of_kind=effects)


def _recheck(graph: Graph, catalog: Catalog, folders: Folders, previous: Checked) -> Checked | None:
    """Check only what differs from `previous`; None where a full check is simpler."""
    if any(not problem.warning for problem in previous.problems):
        return None
    old, new = previous.graph.nodes, graph.nodes
    if len(old) != len(new):
        return None
    changed: list[str] = []
    retitled: list[str] = []
    if old is not new:
        for node_id, node in new.items():
            before = old.get(node_id)
            if before is node:
                continue
            if before is None or before.kind != node.kind or before.mode is not node.mode or node.mode is not Mode.ACTIVE:
                return None
            if not _same_inputs(before.inputs, node.inputs):
                changed.append(node_id)
            elif before.title != node.title:
                retitled.append(node_id)
    stale = frozenset(changed)
    todo = [*changed, *(node_id for node_id in previous.dynamic if node_id not in stale)]
    if not todo and not retitled:
        return previous.with_changes(graph, previous.nodes, previous.problems, stale)
    if len(previous.nodes) != len(old):
        return None  # muted or bypassed nodes change what links mean
    checker = _Checker(new, catalog, folders, {}, graph.extra)
    nodes = dict(previous.nodes)
    same_links = same_files = True
    for node_id in todo:
        checked = checker.node(node_id, new[node_id])
        if checked is None:
            return None
        was = nodes[node_id]
        same_links = same_links and checked.links == was.links
        same_files = same_files and (not checked.kind.has_files or _files(checked) == _files(was))
        nodes[node_id] = checked
    if not same_links:
        nodes, cyclic = ordered({i: nodes[i] for i in new}, {})
        if cyclic:
            return None
    if not (same_links and same_files) and any(mismatches(nodes)):
        return None
    for node_id in retitled:
        was = nodes[node_id]
        nodes[node_id] = CheckedNode(node_id, new[node_id], was.kind, was.literals, was.links, folders)
    seen = stale.union(todo)
    warnings = [problem for problem in previous.problems if problem.node not in seen]
    return previous.with_changes(graph, nodes, (*warnings, *checker.problems), stale, same_links=same_links)


def _files(node: CheckedNode) -> list[Any]:
    """What a node's inputs that name files are."""
    return [node.literals.get(name) for name, port in node.kind.inputs.items() if port.files is not None]


def _same_inputs(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two nodes have the same typed inputs (`1`, `1.0`, `True` and `-0.0`, `0.0` differ)."""
    if a is b:
        return True
    if a.keys() != b.keys():
        return False
    for name, value in a.items():
        other = b[name]
        if value is other:
            continue
        kind = type(value)
        if kind is not type(other):
            return False
        if kind is int or kind is str or kind is bool or kind is Link:
            if value != other:
                return False
        elif kind is float:
            if value != other or (value == 0.0 and math.copysign(1.0, value) != math.copysign(1.0, other)):
                return False
        else:
            try:
                if canonical(value) != canonical(other):
                    return False
            except UnencodableValue:
                return False
    return True


class _Checker:
    """Checks nodes one by one and gathers problems."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        catalog: Catalog,
        folders: Folders,
        context: Mapping[str, CheckedNode],
        documents: Mapping[str, Any],
    ) -> None:
        self.documents = documents
        self.nodes = nodes
        self.catalog = catalog
        self.folders = folders
        self.context = context
        self.problems: list[Problem] = []
        self.hints = Hints()
        self._ids = catalog.ids()
        self._listings: dict[FileChoice, tuple[str, ...]] = {}
        self._links: dict[tuple[str, str], str] | None = None

    def node(self, node_id: str, node: Node) -> CheckedNode | None:
        """The checked node, or None if something about it is wrong."""
        kind = self.catalog.get(node.kind)
        if kind is None:
            hint = self.hints.near(node.kind, self._ids)
            self._report("unknown-kind", node_id, node, f"the kind {short(node.kind)} is not installed", hint=hint)
            return None
        before = len(self.problems)
        if kind.parts:
            kind = kind.chosen(node.inputs)
            self._choices(node_id, node, kind)
        ports = kind.inputs
        literals = kind.defaults.copy()
        links: dict[str, tuple[str, int]] = {}
        given = node.inputs
        for name, value in given.items():
            port = ports.get(name)
            if port is None:
                port = kind.variadic
                if port is None:
                    hint = self.hints.near(name, ports)
                    message = f"{kind.id} has no input {short(name)}; it is ignored"
                    self._report("unknown-input", node_id, node, message, port=name, hint=hint, warning=True)
                    continue
            if type(value) is Link:
                link = self._link(node_id, node, name, port, value)
                if link is not None:
                    links[name] = link
                    if name in literals:
                        del literals[name]
            elif (
                type(value) is _EXACT.get(port.type) and port.range is None and port.choice is None and port.references is None
            ):
                literals[name] = value
            else:
                literals[name] = self._literal(node_id, node, name, port, value)
        for name in kind.required:
            if name not in given:
                port = ports[name]
                what = f"{port.type} from another node" if not port.is_widget else f"{port.type} value"
                self._report("missing-input", node_id, node, f"needs a {what} for {name!r}", port=name)
        if kind.refusals is not None:
            self._refusals(node_id, node, kind, literals, links)
        if len(self.problems) > before and any(not p.warning for p in self.problems[before:]):
            return None
        return CheckedNode(node_id, node, kind, literals, links, self.folders)

    def _choices(self, node_id: str, node: Node, kind: Kind) -> None:
        """Report choices that decide which inputs there are and are linked: nobody knows their values before the run."""
        for name, _ in choices_of(kind.parts, node.inputs):
            if type(node.inputs.get(name)) is Link:
                message = f"{name!r} is linked, but it decides which inputs there are"
                self._report("invalid-value", node_id, node, message, port=name, hint="write its value into the workflow")

    def _refusals(
        self, node_id: str, node: Node, kind: Kind, literals: Mapping[str, Any], links: Mapping[str, tuple[str, int]]
    ) -> None:
        """Ask the kind what is wrong with the values of a node."""
        types: dict[str, str] = {}
        for name, (source, port) in links.items():
            around = self.context.get(source)
            of = self.catalog.get(self.nodes[source].kind) if source in self.nodes else around.kind if around else None
            types[name] = of.outputs[port].type if of is not None and port < len(of.outputs) else "*"
        values = {name: value.value if type(value) is Bound else value for name, value in literals.items()}
        for place, message in kind.refusals(node_id, values, types) if kind.refusals is not None else ():
            self._report("refused", node_id, node, message, port=place)

    def _link(self, node_id: str, node: Node, name: str, port: Input, link: Link) -> tuple[str, int] | None:
        source = self.nodes.get(link.node)
        if source is not None:
            kind = self.catalog.get(source.kind)
            if kind is None:
                return link.node, 0  # the source is reported itself
        else:
            outer = self.context.get(link.node)
            if outer is None:
                hint = self.hints.near(link.node, self.nodes)
                message = f"{name!r} is linked to node {short(link.node)}, which does not exist"
                self._report("missing-node", node_id, node, message, port=name, hint=hint)
                return None
            kind = outer.kind
        outputs = kind.outputs
        index = link.port if type(link.port) is int and 0 <= link.port < len(outputs) else kind.output_index(link.port)
        if index is None:
            names = [f"{i} {o.name}" for i, o in enumerate(outputs)]
            message = f"{name!r} is linked to output {link.port!r} of node {link.node!r} ({kind.id}), which has no such output"
            hint = f"it has {', '.join(names)}" if names else "it has no outputs"
            self._report("missing-output", node_id, node, message, port=name, hint=hint, details={"outputs": names})
            return None
        given = outputs[index].type
        if given != port.type and not compatible(given, port.type) and not port.any_link:
            fitting = [o.name for o in outputs if compatible(o.type, port.type)]
            message = f"cannot link {link.node}.{outputs[index].name} to {node_id}.{name}: {given} is not {port.type}"
            hint = f"did you mean {link.node}.{fitting[0]}?" if fitting else None
            details = {"received": given, "expected": port.type, "source": [link.node, index]}
            self._report("type-mismatch", node_id, node, message, port=name, hint=hint, details=details)
            return None
        return link.node, index

    def _literal(self, node_id: str, node: Node, name: str, port: Input, value: Any) -> Any:
        """The coerced value; reports what is wrong with it."""
        if isinstance(value, Bound) or (value is None and not port.required and port.default is None):
            return value
        details: dict[str, Any] = {"received": value, "expected": port.type}
        if port.files is not None:
            return self._file(node_id, node, name, port, value)
        if port.choice is not None:
            options = port.choice.options
            if value not in options and not (type(port.choice) is LiveChoice and port.choice.is_open):
                message = f"{name!r} is {short(value)}, which is not one of its {len(options)} choices"
                details["choices"] = list(options[:MAX_CHOICES])
                self._report(
                    "not-a-choice",
                    node_id,
                    node,
                    message,
                    port=name,
                    hint=self.hints.near(str(value), [str(option) for option in options]),
                    details=details,
                )
            return value
        if port.type in _LINKED_ONLY:
            message = f"{name!r} needs a {port.type} from another node, not the value {short(value)}"
            self._report("link-expected", node_id, node, message, port=name, details=details)
            return value
        coerced = _coerced(value, port.type)
        if coerced is MISSING:
            message = f"{name!r} is {short(value)}, which is not {_article(port.type)}"
            self._report("invalid-value", node_id, node, message, port=name, details=details)
            return value
        bounds = port.range
        if bounds is not None and isinstance(coerced, int | float) and not bounds.min <= coerced <= bounds.max:
            is_below = coerced < bounds.min
            code, limit = ("below-minimum", bounds.min) if is_below else ("above-maximum", bounds.max)
            message = f"{name!r} is {coerced}, {'below' if is_below else 'above'} the limit {limit}"
            details["limit"] = limit
            hint = f"allowed is {bounds.min} to {bounds.max}"
            self._report(code, node_id, node, message, port=name, hint=hint, details=details)
        return coerced

    def _file(self, node_id: str, node: Node, name: str, port: Input, value: Any) -> Any:
        assert port.files is not None  # noqa: S101 - the caller looked
        details: dict[str, Any] = {"received": value, "folder": port.files.folder}
        if not isinstance(value, str):
            message = f"{name!r} is {short(value)}, not the name of a file"
            self._report("invalid-value", node_id, node, message, port=name, details=details)
            return value
        try:
            path = self.folders.find(port.files.folder, value)
        except WeftError as cause:
            self._report("outside-folder", node_id, node, f"{name!r}: {cause}", port=name, details=details)
            return value
        if path is None and port.files.named and value in (named := port.files.named(self.folders)):
            return (value, *named[value])
        if path is None and port.files.repository and _REPOSITORY.fullmatch(value):
            return value
        if path is None or (path.is_dir() and port.files.folder != "diffusers"):
            options = self._listings.get(port.files)
            if options is None:
                options = self._listings[port.files] = port.options(self.folders) or ()
            details["choices"] = list(options[:MAX_CHOICES])
            folders = ", ".join(str(p) for p in self.folders.of(port.files.folder))
            where = f"which is not in {folders}" if folders else f"but there is no folder {port.files.folder!r}"
            message = f"{name!r} names {short(value)}, {where}"
            url = self._link_to(port.files.folder, value)
            if url is not None:
                details["url"] = url
            hint = (
                (f"download it from {url}" if url is not None else None)
                or self.hints.near(value, options)
                or (f"there are {len(options)} files" if options else "the folder is empty")
            )
            self._report("missing-file", node_id, node, message, port=name, hint=hint, details=details)
            return value
        return path

    def _link_to(self, folder: str, name: str) -> str | None:
        """Where the document says that a model can be downloaded."""
        if self._links is None:
            links = model_links(self.documents.get("workflow"))
            self._links = {(LEGACY_KEYS.get(link.folder, link.folder), link.name): link.url for link in links}
        return self._links.get((folder, name))

    def report_mismatch(self, mismatch: Mismatch) -> None:
        """Two inputs of a node come from files that do not belong together."""
        (one, other), (first, second), titles = mismatch.ports, mismatch.files, mismatch.titles
        message = (
            f"{one!r} and {other!r} do not belong together: {first.name} is {titles[0]}, {second.name} is {titles[1]}"
            f" ({mismatch.fact.replace('_', ' ')} {mismatch.values[0]} and {mismatch.values[1]})"
        )
        details = {"fact": mismatch.fact, "files": [str(first), str(second)], "values": list(mismatch.values)}
        hint = "use files that were made for the same model"
        self._report("unlike-files", mismatch.node, self.nodes[mismatch.node], message, port=other, hint=hint, details=details)

    def _report(
        self,
        code: str,
        node_id: str,
        node: Node,
        message: str,
        *,
        port: str | None = None,
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
        warning: bool = False,
    ) -> None:
        title = node.title or node.kind
        name = node.kind if len(node.kind) <= _READABLE else short(node.kind)
        where = f"node {node_id} ({name}{f' {short(node.title)}' if node.title and node.title != node.kind else ''})"
        self.problems.append(Problem(code, f"{where}: {message}", node_id, title, port, hint, details, warning))


def _coerced(value: Any, type_name: str) -> Any:
    """`value` as the port type, `MISSING` if it cannot be: numbers in texts, whole floats, `"true"` are accepted."""
    exact = _EXACT.get(type_name)
    if exact is None:
        if "," in type_name:
            return _coerced_union(value, type_name.split(","))
        return value  # a type that we know nothing about: any constant may be meant
    if type(value) is exact:
        return value
    try:
        if exact is int:
            return int(value) if isinstance(value, int | float | str) else MISSING
        if exact is float:
            return float(value) if isinstance(value, int | float | str) else MISSING
    except (ValueError, OverflowError):
        return MISSING
    if exact is str:
        return str(value) if isinstance(value, int | float) else MISSING
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower(), MISSING)
    return bool(value) if isinstance(value, int | float) else MISSING


def _coerced_union(value: Any, names: list[str]) -> Any:
    types = [_EXACT.get(name.strip()) for name in names]
    if type(value) in types or None in types or "*" in names:
        return value
    for name in names:
        coerced = _coerced(value, name.strip())
        if coerced is not MISSING:
            return coerced
    return MISSING


def _article(type_name: str) -> str:
    names = {"INT": "a whole number", "FLOAT": "a number", "STRING": "a text", "BOOLEAN": "true or false"}
    return names.get(type_name, type_name)
