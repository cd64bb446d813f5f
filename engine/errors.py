"""Every exception that Weft raises on purpose.

::

    WeftError
    ├── WorkflowInvalid      a workflow that cannot run; carries every Problem
    │   └── CycleError       links that feed back; carries the path
    ├── FormatError          bytes that are no workflow; names file and offset
    ├── DeclarationError     a node function that cannot become a kind
    ├── UnencodableValue     a value that has no canonical bytes, so no key
    ├── ModelFileError       a model file that cannot be read; names file and key
    ├── UnsupportedModel     a sound model file of a family that Weft does not know
    ├── OutOfMemory          wanted, free, and what could be unloaded
    └── NodeFailed           a node raised; names it, its inputs in short, and the cause
    RunCancelled             a BaseException: no node catches it by accident
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a workflow, as data.

    Attributes:
        code: Stable identifier, such as `unknown-kind`; each has a paragraph in `docs/problems.md`.
        message: What is wrong, in one sentence, naming the place.
        node: Id of the node, or None where the whole workflow is meant.
        title: Title of the node as people see it, or its kind.
        port: Name of the input, or None.
        hint: What would help: the nearest valid names or values.
        details: Machine-readable particulars (`received`, `expected`, `choices`, `path`, ...).
        warning: The workflow runs all the same.
    """

    code: str
    message: str
    node: str | None = None
    title: str | None = None
    port: str | None = None
    hint: str | None = None
    details: Mapping[str, Any] | None = None
    warning: bool = False

    def __str__(self) -> str:
        """The problem as one line for people."""
        return f"[{self.code}] {self.message}" + (f" ({self.hint})" if self.hint else "")


class WeftError(Exception):
    """Root of every error that Weft raises on purpose."""


class WorkflowInvalid(WeftError):
    """A workflow that cannot run.

    Attributes:
        problems: Everything that is wrong with it, in the order of the workflow.
    """

    def __init__(self, problems: Sequence[Problem], *, source: str | None = None) -> None:
        self.problems = tuple(problems)
        self.source = source
        where = f"{source}: " if source else ""
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n".join([f"{where}the workflow cannot run: {count}", *(f"  {p}" for p in self.problems)]))


def cycle_message(path: Sequence[str]) -> str:
    """What is wrong with links that go along `path`."""
    shown = list(path) if len(path) <= _SHOWN_PATH else [*path[: _SHOWN_PATH // 2], "...", *path[-_SHOWN_PATH // 2 :]]
    return f"links form a cycle: {' -> '.join(shown)}"


_SHOWN_PATH = 20


class CycleError(WorkflowInvalid):
    """Links that lead back to where they started.

    Attributes:
        path: Node ids along the cycle, the first repeated at the end.
    """

    def __init__(self, path: Sequence[str], problems: Sequence[Problem] = (), *, source: str | None = None) -> None:
        self.path = tuple(path)
        own = Problem("cycle", cycle_message(path), node=path[0], details={"path": list(path)})
        super().__init__(problems or (own,), source=source)


class FormatError(WeftError):
    """Bytes that are not a workflow.

    Attributes:
        source: File name, or a word for where the bytes came from.
        offset: Byte or character offset of the fault where it is known.
    """

    def __init__(self, message: str, *, source: str | None = None, offset: int | None = None) -> None:
        self.source = source
        self.offset = offset
        where = f"{source}: " if source else ""
        at = f" at offset {offset}" if offset is not None else ""
        super().__init__(f"{where}{message}{at}")


class DeclarationError(WeftError):
    """A node function that cannot become a kind; the message names function and parameter."""


class UnencodableValue(WeftError):
    """A value without canonical bytes, so that no key can name it."""


class ModelFileError(WeftError):
    """A model file that is damaged, or does not hold what it should.

    Attributes:
        file: Path of the file.
        key: The tensor or header entry at fault, if one is.
    """

    def __init__(self, message: str, *, file: str, key: str | None = None) -> None:
        self.file = file
        self.key = key
        super().__init__(f"{file}: {message}" + (f" ({key})" if key else ""))


class UnsupportedModel(WeftError):
    """A sound model file of a family that Weft does not know."""


class OutOfMemory(WeftError):
    """A device ran out of memory.

    Attributes:
        wanted_bytes: What the failed step asked for, where known.
        free_bytes: What was free, where known.
    """

    def __init__(self, message: str, *, wanted_bytes: int | None = None, free_bytes: int | None = None) -> None:
        self.wanted_bytes = wanted_bytes
        self.free_bytes = free_bytes
        super().__init__(message)


class NodeFailed(WeftError):
    """A node raised while running; the cause is chained.

    Attributes:
        node: Id of the node.
        kind: Its kind.
        title: Its title.
        inputs: Its inputs in short, name to text.
        origin: Id and title of the workflow's node that became the subgraph which this node is part of, or None.
    """

    def __init__(
        self,
        *,
        node: str,
        kind: str,
        title: str,
        inputs: Mapping[str, str],
        cause: BaseException,
        origin: tuple[str, str] | None = None,
    ) -> None:
        self.node = node
        self.kind = kind
        self.title = title
        self.inputs = dict(inputs)
        self.cause = cause
        self.origin = origin
        name = f"{kind} {title!r}" if title and title != kind else kind
        given = ", ".join(f"{k}={v}" for k, v in self.inputs.items())
        part = f", part of node {origin[0]} ({origin[1]})," if origin else ""
        super().__init__(
            f"node {node} ({name}){part} failed: {type(cause).__name__}: {cause}" + (f"\n  inputs: {given}" if given else "")
        )


class RunCancelled(BaseException):
    """The run was cancelled. A BaseException, so that no `except Exception` in a node swallows it."""
