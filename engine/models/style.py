"""Style models: descriptions of pictures to further words of a prompt.

Source: Mou et al. 2023, arXiv:2302.08453; the style adapter of TencentARC/T2I-Adapter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import ModelFileError, WeftError
from engine.models import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from engine.types import ClipVisionOutput

HEADS = 8
"""Attention heads of the published adapter; the shapes do not show them."""


@dataclass(frozen=True, eq=False)
class StyleModel:
    """A small transformer that reads a picture's tokens and gives some for the prompt. Immutable.

    Attributes:
        source: The file that it came from.
        tensors: By their names in the file, float32.
        layers: How many blocks there are.
    """

    source: str
    tensors: Mapping[str, Tensor]
    layers: int

    def tokens(self, picture: ClipVisionOutput) -> Tensor:
        """What the prompt gains: [B, V, D] float32 on the CPU.

        Raises:
            WeftError: if the pictures were described by a transformer of another width.
        """
        import torch

        tensors = self.tensors
        words = tensors["style_embedding"]
        states = picture.states.to(words)
        if states.shape[2] != words.shape[2]:
            msg = (
                f"cannot take the style of a picture with {self.source}: it reads descriptions {words.shape[2]} wide,"
                f" and these are {states.shape[2]}; use the CLIP vision model that it was made for"
            )
            raise WeftError(msg)
        state = torch.cat((states, words.expand(states.shape[0], -1, -1)), dim=1)
        state = self._norm("ln_pre", state)
        for n in range(self.layers):
            block = f"transformer_layes.{n}"
            state = state + self._attended(block, self._norm(f"{block}.ln_1", state))
            hidden = self._linear(f"{block}.mlp.c_fc", self._norm(f"{block}.ln_2", state))
            state = state + self._linear(f"{block}.mlp.c_proj", hidden * torch.sigmoid(1.702 * hidden))
        last = self._norm("ln_post", state[:, -words.shape[1] :])
        made: Tensor = (last @ tensors["proj"]).float().cpu()
        return made

    def _norm(self, name: str, x: Tensor) -> Tensor:
        import torch

        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        import torch

        return torch.nn.functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _attended(self, block: str, x: Tensor) -> Tensor:
        import torch

        batch, count, width = x.shape
        weight, bias = self.tensors[f"{block}.attn.in_proj_weight"], self.tensors[f"{block}.attn.in_proj_bias"]
        parts = torch.nn.functional.linear(x, weight, bias).reshape(batch, count, 3, HEADS, width // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        shares = (query @ key.transpose(-1, -2) / math.sqrt(width // HEADS)).softmax(dim=-1)
        return self._linear(f"{block}.attn.out_proj", (shares @ value).transpose(1, 2).reshape(batch, count, width))


def load(path: Path, *, device: torch.device) -> StyleModel:
    """The style model at `path`.

    Raises:
        ModelFileError: if it cannot be read, or is no style adapter.
    """
    import torch

    tensors = {name: tensor.to(device, torch.float32) for name, tensor in files.read_tensors(path).items()}
    words, proj = tensors.get("style_embedding"), tensors.get("proj")
    if words is None or proj is None or words.ndim != 3 or proj.ndim != 2 or words.shape[2] % HEADS:
        msg = "cannot load it as a style model: it has no usable style_embedding and proj; other kinds are not supported yet"
        raise ModelFileError(msg, file=str(path))
    width = words.shape[2]
    layers = sum(name.endswith(".attn.in_proj_weight") for name in tensors)
    expected: dict[str, tuple[int, ...]]
    expected = {f"{end}.{part}": (width,) for end in ("ln_pre", "ln_post") for part in ("weight", "bias")}
    for n in range(layers):
        block = f"transformer_layes.{n}"
        expected |= {f"{block}.{norm}.{part}": (width,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
        expected |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        expected |= {f"{block}.attn.out_proj.weight": (width, width), f"{block}.attn.out_proj.bias": (width,)}
        expected |= {f"{block}.mlp.c_fc.weight": (4 * width, width), f"{block}.mlp.c_fc.bias": (4 * width,)}
        expected |= {f"{block}.mlp.c_proj.weight": (width, 4 * width), f"{block}.mlp.c_proj.bias": (width,)}
    wrong = [name for name, shape in expected.items() if name not in tensors or tuple(tensors[name].shape) != shape]
    if wrong or proj.shape[0] != width:
        msg = f"cannot load it as a style model: {', '.join(wrong[:5]) or 'proj'} is missing or of another shape"
        raise ModelFileError(msg, file=str(path))
    return StyleModel(str(path), tensors, layers)
