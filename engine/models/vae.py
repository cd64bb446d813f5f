"""A variational autoencoder as a value: pictures to latents and back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from engine import devices
from engine.errors import OutOfMemory, WeftError
from engine.models.tiling import tiled
from engine.types import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from engine.models.weights import Weights

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

DECODE_TILE = 64
"""Latent cells of a tile where a picture does not fit in memory."""

DECODE_OVERLAP = 16
ENCODE_TILE_PX = 512
ENCODE_OVERLAP_PX = 64


@dataclass(frozen=True, eq=False)
class AutoencoderVae:
    """Diffusers' `AutoencoderKL` without its scaling factor. Immutable.

    Attributes:
        weights: The tensors.
        latent_channels: C of its latents.
        factor: Pixels for each latent cell, along one side.
    """

    weights: Weights
    latent_channels: int
    factor: int

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.weights.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.weights.dtype

    @property
    def network(self) -> Any:
        """The module; made at first use and kept as long as the weights."""
        devices.prepare()
        return self.weights.network

    def encode(self, image: Image) -> Tensor:
        """Pictures to latents; tile by tile where they do not fit in memory whole.

        Args:
            image: [B, H, W, C] in 0..1, C at least 3 (more is dropped) or 1 (grey); cropped centrally to multiples of
                `factor`.

        Returns:
            [B, latent_channels, h, w] float32 on the CPU: the mean of the posterior, unscaled.

        Raises:
            OutOfMemory: if not even a tile fits.
        """
        pixels = self._pixels(image)
        return self._within_memory(
            lambda: _by_sample(self._mean, pixels),
            lambda: self._tiled_mean(pixels, ENCODE_TILE_PX, ENCODE_OVERLAP_PX),
            f"encode {list(image.shape)} pictures",
        )

    def decode(self, samples: Tensor) -> Image:
        """Latents to pictures; tile by tile where they do not fit in memory whole.

        Args:
            samples: [B, latent_channels, h, w], unscaled.

        Returns:
            [B, H, W, 3] float32 in 0..1, on the CPU.

        Raises:
            OutOfMemory: if not even a tile fits.
        """
        self._check_latent(samples)
        return self._within_memory(
            lambda: _picture(_by_sample(self._pixels_of, samples)),
            lambda: self.decode_tiled(samples),
            f"decode {list(samples.shape)} latents",
        )

    def encode_tiled(self, image: Image, *, tile_px: int = ENCODE_TILE_PX, overlap_px: int = ENCODE_OVERLAP_PX) -> Tensor:
        """As `encode`, always tile by tile.

        Args:
            image: [B, H, W, C] in 0..1.
            tile_px: Side of the square tile; tall and wide ones of the same area are averaged with it.
            overlap_px: What neighbouring tiles share.
        """
        return self._tiled_mean(self._pixels(image), tile_px, overlap_px)

    def decode_tiled(self, samples: Tensor, *, tile: int = DECODE_TILE, overlap: int = DECODE_OVERLAP) -> Image:
        """As `decode`, always tile by tile.

        Args:
            samples: [B, latent_channels, h, w], unscaled.
            tile: Side of the square tile in latent cells; tall and wide ones of the same area are averaged with it.
            overlap: Latent cells that neighbouring tiles share.
        """
        self._check_latent(samples)
        passes = [
            tiled(self._pixels_of, samples, tile=shape, overlap=overlap, scale=self.factor, channels=3)
            for shape in _tile_shapes(tile)
        ]
        return _picture(sum(passes[1:], passes[0]) / len(passes))

    def _tiled_mean(self, pixels: Tensor, tile_px: int, overlap_px: int) -> Tensor:
        if tile_px % (2 * self.factor) or overlap_px % self.factor:
            msg = (
                f"cannot encode in tiles of {tile_px} px that overlap by {overlap_px}: the VAE needs tiles in steps of"
                f" {2 * self.factor} px and overlaps in steps of {self.factor}"
            )
            raise WeftError(msg)
        scale, channels = 1 / self.factor, self.latent_channels
        passes = [
            tiled(self._mean, pixels, tile=shape, overlap=overlap_px, scale=scale, channels=channels)
            for shape in _tile_shapes(tile_px)
        ]
        return sum(passes[1:], passes[0]) / len(passes)

    def _mean(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] in -1..1 to the posterior's mean [B, C, h, w], float32 on the CPU."""
        network = self.network
        moments = network.encoder(pixels.to(self.device, self.dtype))
        if network.quant_conv is not None:
            moments = network.quant_conv(moments)
        mean: Tensor = moments[:, : self.latent_channels].float().cpu()
        return mean

    def _pixels_of(self, samples: Tensor) -> Tensor:
        """[B, C, h, w] latents to [B, 3, H, W] around -1..1, float32 on the CPU."""
        network = self.network
        given = samples.to(self.device, self.dtype)
        if network.post_quant_conv is not None:
            given = network.post_quant_conv(given)
        pixels: Tensor = network.decoder(given).float().cpu()
        return pixels

    def _pixels(self, image: Image) -> Tensor:
        """[B, H, W, C] in 0..1 to [B, 3, H', W'] in -1..1, cropped centrally to multiples of the factor."""
        if image.ndim != 4 or image.shape[3] not in {1, 3, 4}:
            msg = f"cannot encode a picture of shape {list(image.shape)}: expected [B, H, W, C] with C 1, 3 or 4"
            raise WeftError(msg)
        height, width = (size // self.factor * self.factor for size in image.shape[1:3])
        if not height or not width:
            msg = f"cannot encode a picture of {image.shape[2]}x{image.shape[1]} px: the VAE needs {self.factor} px a side"
            raise WeftError(msg)
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        cropped = image[:, top : top + height, left : left + width, :3]
        return (cropped.movedim(3, 1) * 2 - 1).expand(-1, 3, -1, -1)

    def _check_latent(self, samples: Tensor) -> None:
        if samples.ndim != 4 or samples.shape[1] != self.latent_channels:
            msg = (
                f"cannot decode a latent of shape {list(samples.shape)} with the VAE of {self.weights.source}:"
                f" expected [B, {self.latent_channels}, h, w]; is it the VAE of another family?"
            )
            raise WeftError(msg)

    def _within_memory(self, whole: Callable[[], Result], in_tiles: Callable[[], Result], what: str) -> Result:
        """`whole`, or `in_tiles` where memory does not suffice for it."""
        try:
            return whole()
        except (RuntimeError, MemoryError) as cause:
            if not devices.is_out_of_memory(cause):
                raise
        # Outside the except block: its traceback would keep the tensors of the failed attempt alive.
        devices.release(self.device)
        _log.warning("no memory on %s to %s whole; doing it tile by tile", self.device, what)
        try:
            return in_tiles()
        except (RuntimeError, MemoryError) as cause:
            if not devices.is_out_of_memory(cause):
                raise
            free = devices.free_bytes(self.device)
            msg = f"cannot {what} on {self.device}: no memory left, not even for tiles; free models or use the CPU"
            raise OutOfMemory(msg, free_bytes=free) from cause


def _by_sample(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """`function` on one sample after another: memory does not grow with the batch."""
    import torch

    return torch.cat([function(batch[i : i + 1]) for i in range(len(batch))])


def _picture(pixels: Tensor) -> Image:
    """[B, 3, H, W] around -1..1 to a picture."""
    return Image(((pixels + 1) / 2).clamp(0, 1).movedim(1, 3).contiguous())


def _tile_shapes(tile: int) -> tuple[tuple[int, int], ...]:
    """Height and width of the three kinds of tile: wide, tall and square."""
    return (tile // 2, tile * 2), (tile * 2, tile // 2), (tile, tile)
