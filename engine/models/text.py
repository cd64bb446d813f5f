"""CLIP text encoders as a value: prompt to conditioning."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine import devices
from engine.errors import ModelFileError, OutOfMemory, UnsupportedModel, WeftError
from engine.models import embedding, prompt, tokenizer
from engine.models.detect import TITLES
from engine.types import Cond, Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from engine.models.family import Tower
    from engine.models.weights import Patch, Weights
    from engine.types import TextEncoder

    Token = int | Tensor
    """A row of the vocabulary, or a [D] vector in its place."""

_log = logging.getLogger(__name__)


WORD_TABLE = "embeddings.token_embedding.weight"
POSITION_TABLE = "embeddings.position_embedding.weight"


@dataclass(frozen=True, eq=False)
class ClipTextEncoder:
    """CLIP text transformers with the field's prompt syntax. Immutable.

    The transformers ("towers") make one network: names of weights begin with the name of their tower.

    Attributes:
        family: Architecture family of the model that it belongs to.
        weights: The tensors, shared between values, and what changes them.
        towers: The transformers, in the order that their hidden states are joined.
        clip_skip: The hidden layer that is used, counted from the end, -1 is the last; None for the one of each tower.
    """

    family: str
    weights: Weights
    towers: tuple[Tower, ...]
    clip_skip: int | None = None

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
        return sum(self._width(tower) for tower in self.towers)

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

    def encode(
        self, text: str | Mapping[str, str], *, find_embedding: Callable[[str], Path | None] | None = None
    ) -> Conditioning:
        """Encode a prompt with the field's weight syntax.

        A weight moves each hidden vector away from, or towards, that of an empty prompt at the same place; nothing is
        normalised afterwards.

        Args:
            text: The prompt; `(words:1.2)` weighs, `embedding:name` inserts a textual inversion. Or the prompt of each
                tower by name: shorter ones are then filled up with empty chunks.
            find_embedding: Name of an embedding to its file; None where there is none.

        Returns:
            One entry: tokens [1, 77 * chunks, D], those of the towers side by side, and pooled [1, D'] of the last
            tower's first chunk, float32 on the CPU.

        Raises:
            ModelFileError: if an embedding's file cannot be read, or its vectors are as wide as those of no tower.
            OutOfMemory: if the device has no room for the pass.
        """
        import torch

        texts = dict.fromkeys((tower.name for tower in self.towers), text) if isinstance(text, str) else text
        chunks = [self._chunks(tower, texts.get(tower.name, ""), find_embedding) for tower in self.towers]
        if not isinstance(text, str):
            longest = max(len(own) for own in chunks)
            chunks = [
                own + self._chunks(tower, "", None) * (longest - len(own))
                for tower, own in zip(self.towers, chunks, strict=True)
            ]
        encoded = [self._encoded(tower, own) for tower, own in zip(self.towers, chunks, strict=True)]
        shortest = min(hidden.shape[1] for hidden, _ in encoded)
        tokens = torch.cat([hidden[:, :shortest] for hidden, _ in encoded], dim=2)
        return Conditioning((Cond(tokens, encoded[-1][1]),))

    def _encoded(self, tower: Tower, chunks: Sequence[prompt.Chunk[Token]]) -> tuple[Tensor, Tensor]:
        """Hidden states [1, T, D] and pooled output [1, D'] of one tower, weights applied."""
        import torch

        is_weighted = any(weight != 1.0 for chunk in chunks for weight in chunk.weights)
        rows = [chunk.tokens for chunk in chunks]
        if is_weighted:
            rows += [chunk.tokens for chunk in self._chunks(tower, "", None)]
        try:
            hidden, pooled = self._forward(tower, rows)
        except (RuntimeError, MemoryError) as cause:
            if not devices.is_out_of_memory(cause):
                raise
            msg = f"cannot encode a prompt of {len(chunks)} chunks on {self.device}: no memory left"
            raise OutOfMemory(msg, free_bytes=devices.free_bytes(self.device)) from cause
        if is_weighted:
            empty, hidden = hidden[-1:], hidden[:-1]
            weights = torch.tensor([chunk.weights for chunk in chunks])[:, :, None]
            hidden = torch.where(weights == 1.0, hidden, empty + (hidden - empty) * weights)
        return hidden.reshape(1, -1, hidden.shape[2]), pooled[:1]

    def _width(self, tower: Tower) -> int:
        return self._shape(tower, WORD_TABLE)[1]

    def _shape(self, tower: Tower, name: str) -> tuple[int, ...]:
        return tuple(self.weights.tensors[f"{tower.name}.{name}"].shape)

    def _chunks(
        self, tower: Tower, text: str, find_embedding: Callable[[str], Path | None] | None
    ) -> tuple[prompt.Chunk[Token], ...]:
        groups: list[prompt.Weighted[Token]] = []
        for segment in prompt.segments(text):
            for part in prompt.parts(segment.text):
                if isinstance(part, prompt.EmbeddingName):
                    found = self._embedding(tower, part.name, find_embedding)
                    groups += [prompt.Weighted(row, segment.weight) for row in found]
                else:
                    groups.append(prompt.Weighted(tuple(tokenizer.tokens(part)), segment.weight))
        pad = tokenizer.END if tower.pads_with_end else 0
        length = self._shape(tower, POSITION_TABLE)[0]
        return prompt.chunked(groups, start=tokenizer.START, end=tokenizer.END, pad=pad, length=length)

    def _embedding(
        self, tower: Tower, name: str, find_embedding: Callable[[str], Path | None] | None
    ) -> tuple[tuple[Token, ...], ...]:
        """The token groups of an embedding; of the commas after its name, where they are not part of it."""
        path = find_embedding(name) if find_embedding else None
        commas = ""
        if path is None and find_embedding and (plain := name.rstrip(",")) != name:
            path, commas = find_embedding(plain), name[len(plain) :]
        rest: tuple[tuple[Token, ...], ...] = (tuple(tokenizer.tokens(commas)),) if commas else ()
        if path is None:
            _log.warning("the prompt names the embedding %r, which is in no embeddings folder; it is left out", name)
            return rest
        found = {t: embedding.vectors(path, encoder=t.name) for t in self.towers}
        if not any(vectors.shape[1] == self._width(t) for t, vectors in found.items()):
            given = " and ".join(str(width) for width in dict.fromkeys(vectors.shape[1] for vectors in found.values()))
            wanted = " and ".join(str(self._width(t)) for t in self.towers)
            msg = (
                f"cannot use the embedding {name!r}: its vectors are {given} wide, and the text encoder of"
                f" {TITLES[self.family]} reads {wanted}; use one that was trained for this family"
            )
            raise ModelFileError(msg, file=str(path))
        vectors = found[tower]
        if vectors.shape[1] != self._width(tower):
            _log.warning("the embedding %r has no vectors for the text encoder %s, which does without", name, tower.name)
            return rest
        return (tuple(vectors), *rest)

    def _forward(self, tower: Tower, rows: Sequence[Sequence[Token]]) -> tuple[Tensor, Tensor]:
        """Hidden states [N, T, D] of the chosen layer and pooled output [N, D'] of `rows`, float32 on the CPU.

        The pooled output is the last layer's at the first end token, after the final layer norm.
        """
        import torch

        network = getattr(self.network, tower.name)
        ids = torch.tensor([[t if isinstance(t, int) else 0 for t in row] for row in rows], device=self.device)
        inputs = network.embeddings.token_embedding(ids)
        for i, row in enumerate(rows):
            for j, token in enumerate(row):
                if not isinstance(token, int):
                    inputs[i, j] = token.to(inputs)
        state = inputs + network.embeddings.position_embedding.weight[: ids.shape[1]]
        mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf"), dtype=state.dtype, device=self.device).triu(1)
        layers = network.encoder.layers
        skip = tower.layer if self.clip_skip is None else self.clip_skip
        wanted = len(layers) + tower.absent_layers + 1 + skip
        chosen = None
        for n, layer in enumerate(layers, start=1):
            state = layer(state, attention_mask=mask[None, None])
            chosen = state if n == wanted else chosen
        last = network.final_layer_norm(state)
        if chosen is not None and tower.is_normed:
            chosen = network.final_layer_norm(chosen)
        hidden = last if chosen is None else chosen
        ends = (ids == tokenizer.END).int().argmax(dim=1)
        pooled = last[torch.arange(len(rows), device=self.device), ends]
        if tower.is_projected:
            pooled = network.text_projection(pooled)
        return hidden.float().cpu(), pooled.float().cpu()


def changeable(encoder: TextEncoder) -> ClipTextEncoder:
    """`encoder`, if its weights can be changed.

    Raises:
        UnsupportedModel: if this package did not load it.
    """
    if not isinstance(encoder, ClipTextEncoder):
        msg = f"cannot change {encoder!r}: it holds no weights that are known"
        raise UnsupportedModel(msg)
    return encoder
