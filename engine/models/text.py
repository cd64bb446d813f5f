"""A CLIP text encoder as a value: prompt to conditioning."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine import devices
from engine.errors import OutOfMemory, WeftError
from engine.models import embedding, prompt, tokenizer
from engine.types import Cond, Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from engine.models.weights import Patch, Weights

    Token = int | Tensor
    """A row of the vocabulary, or a [D] vector in its place."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ClipTextEncoder:
    """CLIP's text transformer with the field's prompt syntax. Immutable.

    Attributes:
        family: Architecture family of the model that it belongs to.
        weights: The tensors, shared between values, and what changes them.
        name: What embedding files call this encoder.
        clip_skip: The hidden layer that is used, counted from the end: -1 is the last.
    """

    family: str
    weights: Weights
    name: str = "clip_l"
    clip_skip: int = -1

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return self.weights.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.weights.dtype

    @property
    def width(self) -> int:
        """D of the context that it makes."""
        return int(self.weights.tensors["embeddings.token_embedding.weight"].shape[1])

    @property
    def length(self) -> int:
        """T of a chunk."""
        return int(self.weights.tensors["embeddings.position_embedding.weight"].shape[0])

    @property
    def network(self) -> Any:
        """The module; made at first use, kept as long as the weights and shared by every clip skip."""
        devices.prepare()
        return self.weights.network

    def with_clip_skip(self, layer: int) -> ClipTextEncoder:
        """This encoder stopped at hidden layer `layer`: -1 is the last, -2 the one before; beyond the first, the last.

        Raises:
            WeftError: if `layer` is not negative.
        """
        if layer >= 0:
            msg = f"cannot stop the text encoder at layer {layer}: layers count from the end, -1 is the last"
            raise WeftError(msg)
        return replace(self, clip_skip=layer)

    def with_patch(self, patch: Patch) -> ClipTextEncoder:
        """This encoder with `patch` after those that it has.

        Raises:
            WeftError: if the patch names a weight that the encoder does not have.
        """
        return replace(self, weights=self.weights.with_patch(patch))

    def encode(self, text: str, *, find_embedding: Callable[[str], Path | None] | None = None) -> Conditioning:
        """Encode a prompt with the field's weight syntax.

        A weight moves each hidden vector away from, or towards, that of an empty prompt at the same place; nothing is
        normalised afterwards.

        Args:
            text: The prompt; `(words:1.2)` weighs, `embedding:name` inserts a textual inversion.
            find_embedding: Name of an embedding to its file; None where there is none.

        Returns:
            One entry: tokens [1, 77 * chunks, D] and pooled [1, D] of the first chunk, float32 on the CPU.

        Raises:
            ModelFileError: if an embedding's file cannot be read.
            OutOfMemory: if the device has no room for the pass.
        """
        import torch

        chunks = self._chunks(text, find_embedding)
        is_weighted = any(weight != 1.0 for chunk in chunks for weight in chunk.weights)
        rows = [chunk.tokens for chunk in chunks]
        if is_weighted:
            rows += [chunk.tokens for chunk in self._chunks("", None)]
        try:
            hidden, pooled = self._forward(rows)
        except (RuntimeError, MemoryError) as cause:
            if not devices.is_out_of_memory(cause):
                raise
            msg = f"cannot encode a prompt of {len(chunks)} chunks on {self.device}: no memory left"
            raise OutOfMemory(msg, free_bytes=devices.free_bytes(self.device)) from cause
        if is_weighted:
            empty, hidden = hidden[-1:], hidden[:-1]
            weights = torch.tensor([chunk.weights for chunk in chunks])[:, :, None]
            hidden = torch.where(weights == 1.0, hidden, empty + (hidden - empty) * weights)
        return Conditioning((Cond(hidden.reshape(1, -1, self.width), pooled[:1]),))

    def _chunks(self, text: str, find_embedding: Callable[[str], Path | None] | None) -> tuple[prompt.Chunk[Token], ...]:
        groups: list[prompt.Weighted[Token]] = []
        for segment in prompt.segments(text):
            for part in prompt.parts(segment.text):
                if isinstance(part, prompt.EmbeddingName):
                    found = self._embedding(part.name, find_embedding)
                    groups += [prompt.Weighted(row, segment.weight) for row in found]
                else:
                    groups.append(prompt.Weighted(tuple(tokenizer.tokens(part)), segment.weight))
        return prompt.chunked(groups, start=tokenizer.START, end=tokenizer.END, pad=tokenizer.END, length=self.length)

    def _embedding(self, name: str, find_embedding: Callable[[str], Path | None] | None) -> tuple[tuple[Token, ...], ...]:
        """The token groups of an embedding; of the commas after its name, where they are not part of it."""
        path = find_embedding(name) if find_embedding else None
        commas = ""
        if path is None and find_embedding and (plain := name.rstrip(",")) != name:
            path, commas = find_embedding(plain), name[len(plain) :]
        rest: tuple[tuple[Token, ...], ...] = (tuple(tokenizer.tokens(commas)),) if commas else ()
        if path is None:
            _log.warning("the prompt names the embedding %r, which is in no embeddings folder; it is left out", name)
            return rest
        vectors = embedding.vectors(path, encoder=self.name)
        if vectors.shape[1] != self.width:
            _log.warning(
                "the embedding %r is left out: its vectors are %d wide, the text encoder's %d",
                name, vectors.shape[1], self.width,
            )  # fmt: skip
            return rest
        return (tuple(vectors), *rest)

    def _forward(self, rows: Sequence[Sequence[Token]]) -> tuple[Tensor, Tensor]:
        """Hidden states [N, T, D] of the chosen layer and pooled output [N, D] of `rows`, float32 on the CPU.

        The pooled output is the last layer's at the first end token. Both pass the final layer norm.
        """
        import torch

        network = self.network
        ids = torch.tensor([[t if isinstance(t, int) else 0 for t in row] for row in rows], device=self.device)
        inputs = network.embeddings.token_embedding(ids)
        for i, row in enumerate(rows):
            for j, token in enumerate(row):
                if not isinstance(token, int):
                    inputs[i, j] = token.to(inputs)
        state = inputs + network.embeddings.position_embedding.weight[: ids.shape[1]]
        mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf"), dtype=state.dtype, device=self.device).triu(1)
        layers = network.encoder.layers
        wanted = len(layers) + 1 + self.clip_skip
        chosen = None
        for n, layer in enumerate(layers, start=1):
            state = layer(state, attention_mask=mask[None, None])
            chosen = state if n == wanted else chosen
        last = network.final_layer_norm(state)
        hidden = last if chosen is None or wanted == len(layers) else network.final_layer_norm(chosen)
        ends = (ids == tokenizer.END).int().argmax(dim=1)
        pooled = last[torch.arange(len(rows), device=self.device), ends]
        return hidden.float().cpu(), pooled.float().cpu()
