"""Networks that make pictures larger, or clear them up: ESRGAN, SwinIR, HAT, DAT and whatever else spandrel knows."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import devices
from engine.errors import ModelFileError, OutOfMemory, UnsupportedModel, WeftError
from engine.models import files
from engine.models.tiling import count_tiles, tiled
from engine.types import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from torch import Tensor

_log = logging.getLogger(__name__)

TILE_PX = 512
OVERLAP_PX = 32
SMALLEST_TILE_PX = 128
"""Tiles are halved down to this where they do not fit in memory."""

REASON_CHARACTERS = 300
"""How much of a reason an error tells: torch lists every tensor that does not fit."""


@dataclass(frozen=True, eq=False)
class UpscaleNetwork:
    """A network from pictures to pictures. Immutable.

    Attributes:
        source: The file that it came from.
        descriptor: Spandrel's: the module, and what it takes and gives.
    """

    source: str
    descriptor: Any

    @property
    def scale(self) -> int:
        """Pixels of the result for each pixel, along one side; 1 where pictures are only cleared up."""
        return int(self.descriptor.scale)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.descriptor.device
        return device

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        module = self.descriptor.model
        return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))

    def upscale(self, image: Image, progress: Callable[[float, float], None] | None = None) -> Image:
        """Pictures enlarged tile by tile; tiles are halved where they do not fit in memory.

        Args:
            image: [B, H, W, C] in 0..1; transparency is dropped, grey becomes coloured where the network takes colours.
            progress: Told (tiles done, tiles in all); what it raises ends the work.

        Returns:
            [B, H * scale, W * scale, C'] float32 in 0..1, on the CPU; C' is what the network gives, usually 3.

        Raises:
            WeftError: if the network takes another number of channels.
            OutOfMemory: if not even the smallest tile fits.
        """
        pixels = self._pixels(image)
        tile = TILE_PX
        while True:
            try:
                return Image(self._tiled(pixels, tile, progress).clamp(0, 1).movedim(1, 3).contiguous())
            except (RuntimeError, MemoryError) as cause:
                if not devices.is_out_of_memory(cause):
                    raise
                if tile // 2 < SMALLEST_TILE_PX:
                    free = devices.free_bytes(self.device)
                    msg = f"cannot upscale on {self.device}: no memory left for tiles of {tile} px; free models or use the CPU"
                    raise OutOfMemory(msg, free_bytes=free) from cause
            # Outside the except block: its traceback would keep the tensors of the failed attempt alive.
            devices.release(self.device)
            tile //= 2
            _log.warning("no memory on %s for tiles of %d px; taking half", self.device, tile * 2)

    def _tiled(self, pixels: Tensor, tile: int, progress: Callable[[float, float], None] | None) -> Tensor:
        total = len(pixels) * math.prod(count_tiles(size, tile, OVERLAP_PX) for size in pixels.shape[2:])
        done = 0

        def apply(part: Tensor) -> Tensor:
            nonlocal done
            result: Tensor = self.descriptor(part.to(self.device, self.descriptor.dtype))
            done += 1
            if progress is not None:
                progress(done, total)
            return result

        channels = self.descriptor.output_channels
        return tiled(apply, pixels, tile=(tile, tile), overlap=OVERLAP_PX, scale=self.scale, channels=channels)

    def _pixels(self, image: Image) -> Tensor:
        """[B, C, H, W] with the channels that the network takes."""
        pixels, wanted = image.movedim(3, 1), self.descriptor.input_channels
        if wanted == 3:
            return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels[:, :3]
        if pixels.shape[1] != wanted:
            msg = f"cannot upscale pictures of {pixels.shape[1]} channels with {self.source}: the network takes {wanted}"
            raise WeftError(msg)
        return pixels


def load(path: Path, *, device: str = "auto", dtype: str = "auto") -> UpscaleNetwork:
    """Load a network that makes pictures of pictures; its architecture is recognised from its tensors.

    Args:
        path: `.safetensors`, or what torch saved (`.pth`, `.pt`, ...).
        device: Where to compute.
        dtype: What to compute in; float32 on `auto`, and where the architecture does not bear the other.

    Raises:
        ModelFileError: if the file cannot be read, or its tensors do not make a network.
        UnsupportedModel: if it is of an architecture that spandrel does not know, or no network of one picture.
        WeftError: if spandrel cannot be imported.
    """
    place = devices.pick(device)
    kind = devices.pick_dtype(place, "vae", dtype)
    descriptor = _described(files.read_tensors(path), path)
    bears = {"float16": descriptor.supports_half, "bfloat16": descriptor.supports_bfloat16}
    if not bears.get(str(kind).removeprefix("torch."), True):
        kind = devices.pick_dtype(place, "vae", "float32")
    descriptor.model.eval().requires_grad_(False)
    return UpscaleNetwork(str(path), descriptor.to(place, kind))


def _described(tensors: dict[str, Tensor], path: Path) -> Any:
    devices.prepare()
    try:
        import spandrel
    except (ImportError, RuntimeError) as cause:
        msg = f"cannot load {path}: spandrel, which knows upscaling networks, cannot be imported ({cause})"
        raise WeftError(msg) from cause
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of how some architectures call torch
            descriptor = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(tensors))
    except spandrel.UnsupportedModelError as cause:
        msg = f"cannot load {path}: its {len(tensors)} tensors belong to no upscaling network that spandrel knows"
        raise UnsupportedModel(msg) from cause
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as cause:
        reason = " ".join(str(cause).split())
        msg = f"cannot make an upscaling network of its tensors: {reason[:REASON_CHARACTERS] or type(cause).__name__}"
        raise ModelFileError(msg, file=str(path)) from cause
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        msg = f"cannot upscale with {path}: a network of {descriptor.architecture.name} takes more than one picture"
        raise UnsupportedModel(msg)
    return descriptor
