"""Autoencoders that are quick rather than good: TAESD, and pixels themselves.

Source: TAESD: https://github.com/madebyollin/taesd.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from engine import devices
from engine.errors import ModelFileError, WeftError
from engine.models import files, weights
from engine.models.vae import AutoencoderVae
from engine.types import Image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import Tensor
    from torch.nn import Module

    from engine.folders import Folders

SCALES: Mapping[str, tuple[float, float]] = {
    "taesd": (0.18215, 0.0),
    "taesdxl": (0.13025, 0.0),
    "taesd3": (1.5305, 0.0609),
    "taef1": (0.3611, 0.1159),
}
"""Published pairs of files by name: scale and shift of the latents that they were trained on."""

SIDES = ("encoder", "decoder")


def named(folders: Folders) -> dict[str, tuple[Path, ...]]:
    """Names of the pairs that lie in the folder `vae_approx`: to the files of encoder and decoder."""
    listing = folders.listing("vae_approx")
    found: dict[str, tuple[Path, ...]] = {}
    for name in SCALES:
        chosen = [next((f for f in listing if f.startswith(f"{name}_{side}.")), None) for side in SIDES]
        paths = [folders.find("vae_approx", file) for file in chosen if file is not None]
        if len(paths) == len(SIDES) and all(paths):
            found[name] = tuple(path for path in paths if path is not None)
    return found


@dataclass(frozen=True, eq=False)
class TinyVae(AutoencoderVae):
    """Diffusers' `AutoencoderTiny` between the latents of the autoencoder that it stands in for and pictures.

    Attributes:
        scale: Factor of what it was trained on.
        shift: Offset of it, in VAE units.
    """

    scale: float = 1.0
    shift: float = 0.0

    def _mean(self, pixels: Tensor) -> Tensor:
        latents: Tensor = self.network.encoder(pixels.to(self.device, self.dtype)).float().cpu()
        return latents / self.scale + self.shift

    def _pixels_of(self, samples: Tensor) -> Tensor:
        pixels: Tensor = self.network.decoder(((samples - self.shift) * self.scale).to(self.device, self.dtype)).float().cpu()
        return pixels


def load(name: str, paths: tuple[Path, ...], *, device: torch.device, dtype: torch.dtype) -> TinyVae:
    """The pair of files `paths`, encoder and decoder.

    Args:
        name: A key of `SCALES`.
        paths: Their files, as `named` gives them.
        device: Where to compute.
        dtype: What to compute in.

    Raises:
        ModelFileError: if they cannot be read or make no autoencoder.
    """
    tensors: dict[str, Tensor] = {}
    for side, path in zip(SIDES, paths, strict=True):
        given = {n.removeprefix(f"taesd_{side}."): t for n, t in files.read_tensors(path).items()}
        tensors |= {f"{side}.layers.{n}": t for n, t in _counted(given, side == "decoder").items()}
    scale, shift = SCALES[name]
    return of_tensors(tensors, file=str(paths[-1]), device=device, dtype=dtype, scale=scale, shift=shift)


def of_file(tensors: Mapping[str, Tensor], *, file: str, device: torch.device, dtype: torch.dtype) -> TinyVae:
    """Both sides from one file, in its original layout or in that of diffusers; `vae_scale` and `vae_shift` may be in it.

    Raises:
        ModelFileError: if they do not make an autoencoder.
    """
    found = {name: t for name, t in tensors.items() if name.startswith(("encoder.layers.", "decoder.layers."))}
    for side in SIDES:
        prefix = f"taesd_{side}."
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        found |= {f"{side}.layers.{n}": t for n, t in _counted(own, side == "decoder").items()}
    scale, shift = (
        float(tensors[name]) if name in tensors else plain for name, plain in (("vae_scale", 1.0), ("vae_shift", 0.0))
    )
    return of_tensors(found, file=file, device=device, dtype=dtype, scale=scale, shift=shift)


def _counted(tensors: Mapping[str, Tensor], is_decoder: bool) -> dict[str, Tensor]:  # noqa: FBT001 - one of two sides
    """Names of layers as the module counts them: original decoders count a clamp first, which holds no tensors."""
    counted = {}
    for name, tensor in tensors.items():
        number, dot, rest = name.partition(".")
        is_number = number.isdecimal() and len(number) < 4
        counted[f"{int(number) - is_decoder}{dot}{rest}" if is_number else name] = tensor
    return counted


def of_tensors(
    tensors: Mapping[str, Tensor],
    *,
    file: str,
    device: torch.device,
    dtype: torch.dtype,
    scale: float = 1.0,
    shift: float = 0.0,
) -> TinyVae:
    """The tiny autoencoder of `tensors`, in module layout.

    Raises:
        ModelFileError: if they do not make one.
    """
    entry = tensors.get("decoder.layers.0.weight")
    if entry is None or entry.ndim != 4:
        msg = "cannot load the tiny autoencoder: decoder.layers.0.weight is missing, or it has no usable shape"
        raise ModelFileError(msg, file=file)
    width, channels = int(entry.shape[0]), int(entry.shape[1])
    build = functools.partial(_tiny, width, channels)
    filled = weights.fill(build, tensors, file=file, part="tiny autoencoder", device=device, dtype=dtype)
    return TinyVae(filled, channels, 8, scale, shift)


def _tiny(width: int, channels: int) -> Module:
    devices.prepare()
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    widths = (width,) * 4
    return weights.meta_module(
        AutoencoderTiny, encoder_block_out_channels=widths, decoder_block_out_channels=widths, latent_channels=channels
    )


@dataclass(frozen=True)
class PixelSpace:
    """Pictures themselves as latents, for models that sample pixels. No weights."""

    latent_channels: ClassVar[int] = 3
    factor: ClassVar[int] = 1

    def encode(self, image: Image) -> Tensor:
        """[B, H, W, C >= 3] in 0..1 to [B, 3, H, W] float32 in -1..1."""
        if image.ndim != 4 or image.shape[3] < 3:
            msg = f"cannot take a picture of shape {list(image.shape)} as a latent: expected [B, H, W, C] with C at least 3"
            raise WeftError(msg)
        return image[..., :3].movedim(3, 1).float() * 2 - 1

    def decode(self, samples: Tensor) -> Image:
        """[B, 3, H, W] in -1..1 to [B, H, W, 3] float32 in 0..1, on the CPU."""
        if samples.ndim != 4 or samples.shape[1] != 3:
            msg = f"cannot take a latent of shape {list(samples.shape)} as a picture: expected [B, 3, H, W]"
            raise WeftError(msg)
        return Image(((samples.float().cpu() + 1) / 2).clamp(0, 1).movedim(1, 3).contiguous())

    def encode_tiled(self, image: Image, *, tile_px: int, overlap_px: int) -> Tensor:  # noqa: ARG002 - see `Vae`
        """As `encode`."""
        return self.encode(image)

    def decode_tiled(self, samples: Tensor, *, tile: int, overlap: int) -> Image:  # noqa: ARG002 - see `Vae`
        """As `decode`."""
        return self.decode(samples)
