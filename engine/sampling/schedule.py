"""The noise levels that a model was trained on, and what its output means."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch

from engine.sampling import prediction as reading

if TYPE_CHECKING:
    from torch import Tensor

    from engine.sampling.prediction import Prediction

ZERO_SNR_ALPHA_BAR = 4.8973451890853435e-08
"""Stands for the last, exactly zero, cumulative alpha of a zero-terminal-SNR schedule, so that sigma stays finite."""

PERCENT_ZERO_SIGMA = 999999999.9
"""The noise level at 0 percent: above every trained one."""

TABLE_LENGTH = 1000
"""Levels in the table of a continuous schedule."""

COSINE_LENGTH = 10_000
"""Levels in the table of the cosine schedule."""

COSINE_OFFSET = 0.008
"""Where the cosine begins, so that the first steps are not too small."""

COSINE_LEAST = 0.0001
"""Least share of the signal, and of the noise, in the cosine schedule."""


class _Exploding:
    """What schedules have in common whose latents are kept unscaled ("variance exploding")."""

    prediction: Prediction
    sigma_data: float
    sigmas: Tensor

    @property
    def is_flow(self) -> bool:
        """That latents are sums, not blends."""
        return False

    def timestep(self, sigma: Tensor) -> Tensor:
        """What the network is told for `sigma`; same shape, float32."""
        raise NotImplementedError

    def settled(self, x: Tensor, sigma: float) -> Tensor:
        """What a latent that was sampled down to level `sigma` is handed on as: it stays what it is."""
        del sigma
        return x

    @property
    def sigma_min(self) -> float:
        """The lowest trained noise level."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest trained noise level."""
        return float(self.sigmas[-1])

    def noised(self, noise: Tensor, sigma: Tensor, latent: Tensor, *, max_denoise: bool = False) -> Tensor:
        """`latent` (model space) carried to noise level `sigma` by `noise`.

        Args:
            noise: [B, C, h, w] of unit variance.
            sigma: [] or [B] noise level.
            latent: [B, C, h, w] in model space.
            max_denoise: Whether sampling starts at the top of the schedule; the noise then has the variance
                1 + sigma**2, which the network was trained to see there.
        """
        level = _per_row(sigma, noise)
        return noise * ((1.0 + level.square()).sqrt() if max_denoise else level) + latent

    def denoised(self, output: Tensor, sigma: Tensor, x: Tensor) -> Tensor:
        """The clean latent that the network's `output` stands for.

        Args:
            output: [R, C, h, w] float32 from the network.
            sigma: [] or [R] noise level.
            x: [R, C, h, w] the noisy latent, before `network_input`.
        """
        level = _per_row(sigma, x)
        return reading.denoised(self.prediction, output, x, level, self.sigma_data, lambda: _per_row(self.timestep(sigma), x))

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """`x` scaled to about unit variance, as the network expects it.

        Args:
            x: [R, C, h, w] noisy latent.
            sigma: [] or [R] noise level.
        """
        return reading.network_input(self.prediction, x, _per_row(sigma, x), self.sigma_data)


@dataclass(frozen=True, eq=False)
class DiscreteSchedule(_Exploding):
    """Noise levels of a model trained on T discrete timesteps (SD1, SD2, SDXL).

    With cumulative signal share alpha_bar the noise level is sigma = sqrt((1 - alpha_bar) / alpha_bar): latents are
    kept unscaled ("variance exploding") and scaled only on the way into the network.

    Attributes:
        sigmas: [T] float32 on the CPU, strictly rising.
        log_sigmas: [T] float32 on the CPU, the logarithms, rounded from float64.
        prediction: What the network predicts, see `prediction`.
        stride: Timesteps between two levels.

    Source: Ho et al. 2020, arXiv:2006.11239; Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    sigmas: Tensor
    log_sigmas: Tensor
    prediction: Prediction = "eps"
    stride: int = 1
    sigma_data: float = field(default=1.0, init=False)
    _log_sigmas_on: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of_betas(cls, betas: Tensor, prediction: Prediction = "eps", *, zero_terminal_snr: bool = False) -> DiscreteSchedule:
        """The schedule of a variance table.

        Args:
            betas: [T] float64 variances of the forward steps.
            prediction: What the network predicts.
            zero_terminal_snr: Whether the last step is pure noise.

        Source: zero terminal SNR: Lin et al. 2023, arXiv:2305.08891, algorithm 1.
        """
        alpha_bar = torch.cumprod(1.0 - betas.double(), dim=0)
        if zero_terminal_snr:
            root = alpha_bar.sqrt()
            root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
            alpha_bar = root.square()
            alpha_bar[-1] = ZERO_SNR_ALPHA_BAR
        sigmas = ((1.0 - alpha_bar) / alpha_bar).sqrt()
        return cls(sigmas.float(), sigmas.log().float(), prediction)

    @classmethod
    def scaled_linear(
        cls,
        prediction: Prediction = "eps",
        *,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        timesteps: int = 1000,
        zero_terminal_snr: bool = False,
    ) -> DiscreteSchedule:
        """The schedule of Stable Diffusion: betas linear in their square root.

        Args:
            prediction: What the network predicts.
            beta_start: First variance.
            beta_end: Last variance.
            timesteps: Number of trained timesteps T.
            zero_terminal_snr: Whether the last step is pure noise.
        """
        roots = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), timesteps, dtype=torch.float64)
        return cls.of_betas(roots.square(), prediction, zero_terminal_snr=zero_terminal_snr)

    def every(self, stride: int) -> DiscreteSchedule:
        """The schedule of a model distilled to every `stride`-th timestep, down from the last.

        Source: Luo et al. 2023 (LCM), arXiv:2310.04378, section 4.3.
        """
        kept = slice(stride - 1, None, stride)
        return replace(self, sigmas=self.sigmas[kept], log_sigmas=self.log_sigmas[kept], stride=stride)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The timestep of the trained level that is nearest to `sigma` in log space; same shape, float32."""
        table = self._log_sigmas(sigma.device)
        nearest = (sigma.log().reshape(1, -1) - table[:, None]).abs().argmin(dim=0)
        return nearest.reshape(sigma.shape).float() * self.stride + (self.stride - 1)

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level at a fractional timestep, interpolated in log space; same shape, float32."""
        table = self._log_sigmas(timestep.device)
        t = ((timestep.float() - (self.stride - 1)) / self.stride).clamp(0, len(table) - 1)
        low = t.floor().long()
        share = t.frac()
        return ((1 - share) * table[low] + share * table[t.ceil().long()]).exp()

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level when `percent` (0..1) of sampling is done; beyond all levels at 0, and 0 at 1."""
        if percent <= 0.0:
            return PERCENT_ZERO_SIGMA
        if percent >= 1.0:
            return 0.0
        return float(self.sigma(torch.tensor((1.0 - percent) * (len(self.sigmas) * self.stride - 1))))

    def _log_sigmas(self, device: torch.device) -> Tensor:
        """The table on `device`; copied there once, because a copy per step would wait for the device."""
        table = self._log_sigmas_on.get(device)
        if table is None:
            table = self._log_sigmas_on.setdefault(device, self.log_sigmas.to(device))
        return table


@dataclass(frozen=True, eq=False)
class ContinuousSchedule(_Exploding):
    """Noise levels of a model trained on any level between two.

    Attributes:
        lowest: Noise level.
        highest: Noise level.
        prediction: What the network predicts, see `prediction`.
        sigma_data: Standard deviation of the data.
        time: What the network is told: ln(sigma) / 4, the angle 2 / pi arctan(sigma), or sigma / (1 + sigma).

    Raises:
        ValueError: unless 0 < lowest < highest.

    Source: Karras et al. 2022, arXiv:2206.00364, table 1; angle: Salimans and Ho 2022, arXiv:2202.00512, appendix D.
    """

    lowest: float
    highest: float
    prediction: Prediction
    sigma_data: float = 1.0
    time: Literal["log", "angle", "flow"] = "log"

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0.0 < self.lowest < self.highest:
            msg = f"cannot sample from noise level {self.highest} to {self.lowest}: need falling levels above 0"
            raise ValueError(msg)

    @cached_property
    def sigmas(self) -> Tensor:  # type: ignore[override]
        """[1000] float32 on the CPU, evenly spaced in log sigma: what schedulers walk."""
        return torch.linspace(math.log(self.lowest), math.log(self.highest), TABLE_LENGTH).exp()

    def timestep(self, sigma: Tensor) -> Tensor:
        """What the network is told for `sigma`; same shape, float32."""
        match self.time:
            case "log":
                return 0.25 * sigma.log()
            case "angle":
                return sigma.atan() / math.pi * 2.0
            case "flow":
                return sigma / (1.0 + sigma)

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level that the network is told as `timestep`; same shape, float32."""
        match self.time:
            case "log":
                return (timestep / 0.25).exp()
            case "angle":
                return (timestep * (math.pi / 2.0)).tan()
            case "flow":
                return (timestep / (1.0 - timestep)).clamp(0.0, self.highest)

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level when `percent` (0..1) of sampling is done, evenly in log sigma; beyond all levels at 0, 0 at 1."""
        if percent <= 0.0:
            return PERCENT_ZERO_SIGMA
        if percent >= 1.0:
            return 0.0
        low = math.log(self.lowest)
        return math.exp(low + (math.log(self.highest) - low) * (1.0 - percent))


@dataclass(frozen=True, eq=False)
class CosineSchedule(_Exploding):
    """Noise levels of Stable Cascade: the cosine schedule, shifted for large latents.

    Attributes:
        shift: Factor of the noise levels.
        prediction: What the network predicts, see `prediction`.

    Source: Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17; shift: Hoogeboom et al. 2023 (simple diffusion),
    arXiv:2301.11093, eq. 3.
    """

    shift: float = 1.0
    prediction: Prediction = "eps"
    sigma_data: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        """Check the shift."""
        if self.shift <= 0.0:
            msg = f"cannot shift noise levels by {self.shift}: it has to be above 0"
            raise ValueError(msg)

    @cached_property
    def sigmas(self) -> Tensor:  # type: ignore[override]
        """[10000] float32 on the CPU, rising: what schedulers walk."""
        return self.sigma(torch.arange(1, COSINE_LENGTH + 1) / COSINE_LENGTH)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The time of the unshifted schedule that has this level; same shape, float32."""
        share = 1.0 / (sigma.square() + 1.0)
        return (share * _COSINE_START).sqrt().acos() / (math.pi / 2) * (1.0 + COSINE_OFFSET) - COSINE_OFFSET

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level at a time of 0..1; same shape, float32."""
        share = _cosine(timestep) / _COSINE_START
        if self.shift != 1.0:
            share = (share.logit() - 2.0 * math.log(self.shift)).sigmoid()
        share = share.clamp(COSINE_LEAST, 1.0 - COSINE_LEAST)
        return ((1.0 - share) / share).sqrt()

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level when `percent` (0..1) of the time is gone; beyond all levels at 0, and 0 at 1."""
        if percent <= 0.0:
            return PERCENT_ZERO_SIGMA
        return float(self.sigma(torch.tensor(1.0 - percent))) if percent < 1.0 else 0.0


def _cosine(time: Tensor) -> Tensor:
    return ((time + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * (math.pi / 2)).cos().square()


_COSINE_START = float(_cosine(torch.tensor(0.0)))


def _per_row(sigma: Tensor, x: Tensor) -> Tensor:
    """`sigma` shaped to broadcast over the rows of `x`.

    A number on the CPU stays one: it may then meet tensors of any device without a copy.
    """
    if sigma.ndim == 0:
        return sigma
    return sigma.reshape(sigma.shape + (1,) * (x.ndim - sigma.ndim))
