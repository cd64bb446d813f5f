"""The forward pass of a U-Net, block by block, over the modules that diffusers provides.

The module's own forward gives no place to step in between its blocks. This one gives the same numbers bit by bit, counts
the blocks as the original checkpoints do, and lets hooks and residuals in where `engine.models.hooks` says.

Source: Ronneberger et al. 2015, arXiv:1505.04597; with attention: Rombach et al. 2022, arXiv:2112.10752.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.models.hooks import Hook, Place, Side, overrides

if TYPE_CHECKING:
    from collections.abc import Sequence

_IN_ATTENTION = ("attention_inputs", "attend", "between_attentions", "after_attention")


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """What is added within a pass. What is of another size than the maps there, as where they are shrunk, is left out.

    Attributes:
        input: For each input block what is added to its output and its skip, [R, C, h', w'] or None; may be shorter.
        middle: The same for the middle.
        output: For each input block what is added to its skip alone; may be shorter.
    """

    input: tuple[Tensor | None, ...] = ()
    middle: Tensor | None = None
    output: tuple[Tensor | None, ...] = ()

    def __add__(self, other: Residuals) -> Residuals:
        """Both."""
        middle = self.middle if other.middle is None else other.middle if self.middle is None else self.middle + other.middle
        return Residuals(_sums(self.input, other.input), middle, _sums(self.output, other.output))

    def scaled(self, factor: float, dtype: torch.dtype) -> Residuals:
        """The same times `factor`, in a number format."""

        def times(parts: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
            return tuple(None if part is None else (part * factor).to(dtype) for part in parts)

        return Residuals(times(self.input), times((self.middle,))[0], times(self.output))


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """An input or output block: a residual block, what attends after it, what resamples after that."""

    resnet: Any = None
    attention: Any = None
    resampler: Any = None


@dataclass(frozen=True, slots=True)
class _Active:
    """The hooks of one pass, by what they do."""

    sigma: float
    size: tuple[int, int]
    after_input: tuple[Hook, ...]
    after_skip: tuple[Hook, ...]
    before_output: tuple[Hook, ...]
    attention_inputs: tuple[Hook, ...]
    attend: tuple[Hook, ...]
    between_attentions: tuple[Hook, ...]
    after_attention: tuple[Hook, ...]

    @classmethod
    def of(cls, hooks: Sequence[Hook], sigma: float, size: tuple[int, int]) -> _Active:
        active = [hook for hook in hooks if hook.is_active(sigma)]
        methods = ("after_input", "after_skip", "before_output", *_IN_ATTENTION)
        return cls(sigma, size, *(tuple(hook for hook in active if overrides(hook, method)) for method in methods))

    @property
    def in_attention(self) -> bool:
        return bool(self.attention_inputs or self.attend or self.between_attentions or self.after_attention)


class UNet:
    """A `UNet2DConditionModel` as the blocks of the original checkpoints.

    Attributes:
        module: The module.
        input_blocks: Without block 0, the first convolution.
        output_blocks: In the order of the pass.
    """

    def __init__(self, module: Any) -> None:
        """List the blocks of `module`, which holds the weights and is never changed."""
        self.module = module
        self.input_blocks = tuple(block for down in module.down_blocks for block in down_blocks(down))
        self.output_blocks = tuple(block for up in module.up_blocks for block in _up_blocks(up))

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        vector: Tensor | None = None,
        residuals: Residuals | None = None,
        hooks: Sequence[Hook] = (),
        sigma: float = 0.0,
    ) -> Tensor:
        """Run the network once.

        Args:
            x: [R, C, h, w] scaled input.
            timestep: [R] what the network is told of the noise.
            context: [R, T, D] cross-attention context.
            vector: [R, A] what the network's additional embedding is given; only networks that have one need it.
            residuals: What to add on the way.
            hooks: What else to change, in order.
            sigma: Noise level of the pass, for hooks.

        Returns:
            [R, C', h, w].
        """
        module = self.module
        add = residuals or _NOTHING
        active = _Active.of(hooks, sigma, (x.shape[-2], x.shape[-1])) if hooks else None
        emb = time_embedding(module, x, timestep, vector)
        h = module.conv_in(x)
        skips = []
        for n in range(len(self.input_blocks) + 1):
            if n:
                h = _through(self.input_blocks[n - 1], h, emb, context, ("input", n), active)
            h = _plus(h, add.input, n)
            if active and active.after_input:
                h = _called(active.after_input, "after_input", h, _place(active, "input", n, h))
            skips.append(h)
            if active and active.after_skip:
                h = _called(active.after_skip, "after_skip", h, _place(active, "input", n, h))
        h = _plus(_middle(module.mid_block, h, emb, context, active), (add.middle,), 0)
        for n, block in enumerate(self.output_blocks):
            skip = _plus(skips.pop(), add.output, len(skips))
            if active:
                for hook in active.before_output:
                    h, skip = hook.before_output(h, skip, _place(active, "output", n, h))
            h = _through(block, torch.cat([h, skip], dim=1), emb, context, ("output", n), active, skips)
        if module.conv_norm_out:
            h = module.conv_act(module.conv_norm_out(h))
        out: Tensor = module.conv_out(h)
        return out


_NOTHING = Residuals()

_ONE_CELL = (1, 1)


def time_embedding(module: Any, x: Tensor, timestep: Tensor, vector: Tensor | None) -> Tensor:
    """[R, E] embedding of the timesteps [R], and of `vector` where the module embeds one."""
    emb: Tensor = module.time_embedding(module.time_proj(timestep).to(x.dtype))
    if (embed := getattr(module, "add_embedding", None)) is not None:
        if vector is None:
            msg = "the network embeds sizes and pooled text, and was given none"
            raise ValueError(msg)
        emb = emb + embed(vector.to(emb))
    return emb


def descended(module: Any, h: Tensor, emb: Tensor, context: Tensor) -> tuple[list[Tensor], Tensor]:
    """The way down of a control network: every skip, `h` first, and what the middle gives."""
    skips = [h]
    for down in module.down_blocks:
        for block in down_blocks(down):
            skips.append(h := _through(block, h, emb, context, ("input", len(skips)), None))
    return skips, _middle(module.mid_block, h, emb, context, None)


def _middle(mid: Any, h: Tensor, emb: Tensor, context: Tensor, active: _Active | None) -> Tensor:
    if mid is None:
        return h
    h = mid.resnets[0](h, emb)
    for attention, resnet in zip(mid.attentions, mid.resnets[1:], strict=True):
        if attention is not None:
            h = _attended(attention, h, context, ("middle", 0), active)
        h = resnet(h, emb)
    return h


def down_blocks(down: Any) -> list[Block]:
    """The input blocks of one level of a module."""
    attentions = getattr(down, "attentions", None) or [None] * len(down.resnets)
    blocks = [Block(resnet, attention) for resnet, attention in zip(down.resnets, attentions, strict=True)]
    return blocks + [Block(resampler=resampler) for resampler in down.downsamplers or ()]


def _up_blocks(up: Any) -> list[Block]:
    attentions = getattr(up, "attentions", None) or [None] * len(up.resnets)
    resamplers = [None] * (len(up.resnets) - 1) + [next(iter(up.upsamplers or ()), None)]
    return [Block(*parts) for parts in zip(up.resnets, attentions, resamplers, strict=True)]


def _place(active: _Active, side: Side, block: int, h: Tensor) -> Place:
    return Place(side, block, active.sigma, active.size, (h.shape[-2], h.shape[-1]))


def _plus(h: Tensor, residuals: tuple[Tensor | None, ...], n: int) -> Tensor:
    """`h` with residual `n`, if there is one."""
    if n >= len(residuals) or (residual := residuals[n]) is None or residual.shape[-2:] not in {h.shape[-2:], _ONE_CELL}:
        return h
    return h + residual


def _sums(one: tuple[Tensor | None, ...], other: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    long, short = (one, other) if len(one) >= len(other) else (other, one)
    padded = (*short, *(None,) * (len(long) - len(short)))
    return tuple(b if a is None else a if b is None else a + b for a, b in zip(long, padded, strict=True))


def _called(hooks: tuple[Hook, ...], method: str, h: Tensor, at: Place) -> Tensor:
    for hook in hooks:
        h = getattr(hook, method)(h, at)
    return h


def _through(
    block: Block,
    h: Tensor,
    emb: Tensor,
    context: Tensor,
    place: tuple[Side, int],
    active: _Active | None,
    skips: Sequence[Tensor] = (),
) -> Tensor:
    """`h` after a block; on the way up it is resampled to the size of the next skip."""
    if block.resnet is not None:
        h = block.resnet(h, emb)
    if block.attention is not None:
        h = _attended(block.attention, h, context, place, active)
    if block.resampler is None:
        return h
    if place[0] == "input":
        return block.resampler(h)  # type: ignore[no-any-return]
    size = skips[-1].shape[-2:]
    doubled = tuple(size) == (2 * h.shape[-2], 2 * h.shape[-1])
    return block.resampler(h, None if doubled else size)  # type: ignore[no-any-return]


def _attended(module: Any, h: Tensor, context: Tensor, place: tuple[Side, int], active: _Active | None) -> Tensor:
    """`h` after a stack of transformer blocks over its cells."""
    if active is None or not active.in_attention:
        return module(h, encoder_hidden_states=context, return_dict=False)[0]  # type: ignore[no-any-return]
    rows, _, height, width = h.shape
    tokens = module.norm(h)
    if not module.use_linear_projection:
        tokens = module.proj_in(tokens)
    tokens = tokens.permute(0, 2, 3, 1).reshape(rows, height * width, tokens.shape[1])
    if module.use_linear_projection:
        tokens = module.proj_in(tokens)
    at = _place(active, *place, h)
    for n, block in enumerate(module.transformer_blocks):
        tokens = _transformed(block, tokens, context, replace(at, transformer=n), active)
    if module.use_linear_projection:
        tokens = module.proj_out(tokens)
    tokens = tokens.reshape(rows, height, width, tokens.shape[-1]).permute(0, 3, 1, 2).contiguous()
    if not module.use_linear_projection:
        tokens = module.proj_out(tokens)
    return tokens + h  # type: ignore[no-any-return]


def _transformed(block: Any, tokens: Tensor, context: Tensor, at: Place, active: _Active) -> Tensor:
    """[R, T, D] tokens after one transformer block."""
    normed = block.norm1(tokens)
    tokens = _attention(block.attn1, normed, normed, replace(at, attention="self"), active) + tokens
    for hook in active.between_attentions:
        tokens = hook.between_attentions(tokens, at)
    tokens = _attention(block.attn2, block.norm2(tokens), context, replace(at, attention="cross"), active) + tokens
    return block.ff(block.norm3(tokens)) + tokens  # type: ignore[no-any-return]


def _attention(module: Any, q: Tensor, context: Tensor, at: Place, active: _Active) -> Tensor:
    """What an attention of queries from `q` over `context` adds to the tokens."""
    k = v = context
    for hook in active.attention_inputs:
        q, k, v = hook.attention_inputs(q, k, v, at)
    q, k, v = module.to_q(q), module.to_k(k), module.to_v(v)
    attended = None
    for hook in reversed(active.attend):
        attended = hook.attend(q, k, v, module.heads, at)
        if attended is not None:
            break
    if attended is None:
        attended = attention(q, k, v, module.heads)
    out: Tensor = module.to_out[0](attended)
    for hook in active.after_attention:
        out = hook.after_attention(out, at)
    return out


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, in `heads` heads of width d.

    Args:
        q: [R, T, D] queries.
        k: [R, T', D] keys.
        v: [R, T', D] values.
        heads: Number of heads.

    Returns:
        [R, T, D].

    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    rows, _, width = q.shape
    q, k, v = (part.view(rows, -1, heads, width // heads).transpose(1, 2) for part in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).reshape(rows, -1, width)
