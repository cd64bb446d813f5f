"""`server`: packs announce things to a page and add routes to a server. Here is neither, and both calls do nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


class _Routes:
    """Decorators that leave their functions as they are and add no route."""

    def _route(self, *_: Any, **__: Any) -> Callable[[F], F]:
        return lambda function: function

    get = post = put = delete = patch = head = view = static = _route


class PromptServer:
    """The server that packs talk to.

    Attributes:
        instance: The only one.
    """

    instance: PromptServer

    def __init__(self) -> None:
        self.routes = _Routes()
        self.app = SimpleNamespace(router=SimpleNamespace(add_static=self._ignored, add_routes=self._ignored))
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.last_prompt_id: str | None = None
        self.supports: list[str] = []
        self.number = 0

    def _ignored(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    send_sync = send_progress_text = add_on_prompt_handler = queue_updated = add_routes = _ignored

    async def send(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


PromptServer.instance = PromptServer()


class BinaryEventTypes:
    """Numbers of the binary messages to a page."""

    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4
