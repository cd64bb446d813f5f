"""`comfy.utils`: progress, resizing, weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.packs.scene import scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class ProgressBar:
    """Reports how far a node is; does nothing outside a run.

    Args:
        total: When it is done.
        node_id: Ignored: the node that runs is known.
    """

    def __init__(self, total: float, node_id: str | None = None) -> None:
        self.total = total
        self.current: float = 0
        self.node_id = node_id
        self._run = scene().run

    def update_absolute(self, value: float, total: float | None = None, preview: Any = None) -> None:
        """Report that the node is at `value`; `preview` is (format, picture, largest side in pixels)."""
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        if self._run is not None:
            self._run.progress(self.current, self.total, None if preview is None else _preview(preview))

    def update(self, value: float) -> None:
        """Report that the node came further by `value`."""
        self.update_absolute(self.current + value)


def _preview(preview: Any) -> Callable[[], Any]:
    """Makes the picture [1, H, W, 3] float32 in 0..1 of what packs hand over as a preview."""

    def picture() -> Any:
        import numpy as np
        import torch

        pixels = np.asarray(preview[1].convert("RGB"), dtype=np.float32) / 255.0
        return torch.from_numpy(pixels)[None]

    return picture


PROGRESS_BAR_ENABLED = True


def set_progress_bar_enabled(enabled: bool) -> None:  # noqa: FBT001 - packs call it so
    """Nothing to do: whoever starts a run decides what is shown."""


def common_upscale(samples: Tensor, width: int, height: int, upscale_method: str, crop: str) -> Tensor:
    """Resize [B, C, H, W]; `crop` is `center` or `disabled`."""
    from engine.media import resized

    method: Any = upscale_method
    return resized(samples, width, height, method, crop)


def bislerp(samples: Tensor, width: int, height: int) -> Tensor:
    """Resize [B, C, H, W], turning its vectors instead of mixing them."""
    return common_upscale(samples, width, height, "bislerp", "disabled")


def lanczos(samples: Tensor, width: int, height: int) -> Tensor:
    """Resize [B, C, H, W] with a Lanczos filter."""
    return common_upscale(samples, width, height, "lanczos", "disabled")


def load_torch_file(ckpt: str, safe_load: bool = True, device: Any = None, return_metadata: bool = False) -> Any:  # noqa: ARG001, FBT001, FBT002 - packs call it so
    """The tensors of a file of weights; code inside is never executed, whatever `safe_load` says."""
    import torch

    if Path(ckpt).suffix.lower() in {".safetensors", ".sft"}:
        from safetensors import safe_open

        with safe_open(ckpt, framework="pt", device=str(device or "cpu")) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            metadata = file.metadata()
        return (tensors, metadata) if return_metadata else tensors
    tensors = torch.load(ckpt, map_location=device or "cpu", weights_only=True)
    tensors = tensors.get("state_dict", tensors)
    return (tensors, None) if return_metadata else tensors


def save_torch_file(sd: dict[str, Tensor], ckpt: str, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as a safetensors file."""
    from safetensors.torch import save_file

    save_file(sd, ckpt, metadata=metadata)


def state_dict_prefix_replace(
    state_dict: dict[str, Any],
    replace_prefix: dict[str, str],
    filter_keys: bool = False,  # noqa: FBT001, FBT002 - packs call it so
) -> dict[str, Any]:
    """Tensors with prefixes of their names replaced, in place; only those when `filter_keys`."""
    out = {} if filter_keys else state_dict
    for old, new in replace_prefix.items():
        for name in [name for name in state_dict if name.startswith(old)]:
            out[new + name[len(old) :]] = state_dict.pop(name)
    return out


def calculate_parameters(sd: dict[str, Tensor], prefix: str = "") -> int:
    """How many numbers the tensors hold whose names start with `prefix`."""
    return sum(tensor.numel() for name, tensor in sd.items() if name.startswith(prefix))


def repeat_to_batch_size(tensor: Tensor, batch_size: int, dim: int = 0) -> Tensor:
    """A tensor cut or repeated to `batch_size` along `dim`."""
    have = tensor.shape[dim]
    if have >= batch_size:
        return tensor.narrow(dim, 0, batch_size)
    times = [1] * tensor.ndim
    times[dim] = -(-batch_size // have)
    return tensor.repeat(times).narrow(dim, 0, batch_size)
