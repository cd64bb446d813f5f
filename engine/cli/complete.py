"""Completion in the shell: kinds, nodes and inputs of the workflow on the line. It says nothing rather than fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from engine.graph import Graph


def kinds(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds that begin with what is typed."""
    from click.shell_completion import CompletionItem

    catalog = _settings(context.params).catalog()
    folded = incomplete.lower()
    return [CompletionItem(kind.id, help=_sentence(kind.help)) for kind in catalog if kind.id.lower().startswith(folded)]


def nodes(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids and titles of the nodes of the workflow on the line."""
    from click.shell_completion import CompletionItem

    items = []
    for node_id, node in _graph(context).nodes.items():
        items.append(CompletionItem(node_id, help=node.title or node.kind))
        if node.title:
            items.append(CompletionItem(node.title, help=node.kind))
    return [item for item in items if str(item.value).startswith(incomplete)]


def assignments(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`NODE.INPUT=` for the inputs of the workflow on the line that take values."""
    from click.shell_completion import CompletionItem

    from engine.graph import Link

    catalog = _settings(context.params).catalog()
    items: list[CompletionItem] = []
    for node_id, node in _graph(context).nodes.items():
        kind = catalog.get(node.kind)
        if kind is None:
            continue
        for name, port in kind.chosen(node.inputs).inputs.items():
            if port.is_widget and type(node.inputs.get(name)) is not Link:
                items.extend(CompletionItem(f"{who}.{name}=", help=node.kind) for who in (node_id, node.title) if who)
    return [item for item in items if str(item.value).startswith(incomplete)]


def _settings(given: dict[str, Any]) -> Any:
    from engine.settings import settle

    return settle(models=given.get("models") or (), input_dir=given.get("input_dir"), nodes=given.get("nodes") or ())


def _graph(context: click.Context) -> Graph:
    """The workflow on the line, or an empty one."""
    from pathlib import Path

    from engine.errors import FormatError
    from engine.formats.files import load
    from engine.graph import Graph

    given = context.params.get("file") or context.params.get("files") or ()
    named = [given] if isinstance(given, str) else list(given)
    # An option that still lacks its value leaves all arguments unparsed.
    file = next((name for name in [*named, *context.args] if Path(name).is_file()), None)
    try:
        return load(file, _settings(context.params).catalog()) if file is not None else Graph()
    except FormatError:
        return Graph()


def _sentence(text: str) -> str:
    return text.split("\n", 1)[0]


@click.command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes `weft` in a shell.

    \b
    bash:  weft completion bash >> ~/.bashrc
    zsh:   weft completion zsh >> ~/.zshrc
    fish:  weft completion fish > ~/.config/fish/completions/weft.fish
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    from click.shell_completion import get_completion_class

    from engine.cli.app import weft

    maker = get_completion_class(shell)
    assert maker is not None  # noqa: S101 - click knows the three
    print(maker(weft, {}, "weft", "_WEFT_COMPLETE").source())
