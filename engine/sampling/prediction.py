"""What a network is given at a noise level, and what its output means.

With x = clean + sigma * noise, and the standard deviation sigma_d of the data:

| prediction | network input | clean latent of output o |
|---|---|---|
| `eps`, the noise | x / sqrt(sigma^2 + sigma_d^2) | x - o sigma |
| `v`, the velocity | the same | x sigma_d^2 / (sigma^2 + sigma_d^2) - o sigma sigma_d / sqrt(sigma^2 + sigma_d^2) |
| `edm` | the same | as `v` with the other sign of o |
| `x0`, the clean latent | the same | o |
| `img_to_img`, the clean latent | x | o |
| `lcm`, the noise, consistently | as `eps` | of `eps`, blended with x by the timestep |
| `rflow`, the flow | x / (1 + sigma) | (x - o sigma) / (1 + sigma) |

Source: Ho et al. 2020, arXiv:2006.11239; Salimans and Ho 2022, arXiv:2202.00512, appendix D; Karras et al. 2022,
arXiv:2206.00364, table 1; `lcm`: Luo et al. 2023, arXiv:2310.04378, section 4 with the boundary condition of Song et al.
2023, arXiv:2303.01469; `rflow`: Liu et al. 2022, arXiv:2209.03003, at time sigma / (1 + sigma).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Prediction = Literal["eps", "v", "edm", "x0", "img_to_img", "lcm", "rflow"]

LCM_DATA, LCM_SCALE = 0.5, 10.0
"""Standard deviation of the data and factor of the timestep in the boundary condition of consistency models."""


def network_input(prediction: Prediction, x: Tensor, level: Tensor, data: float) -> Tensor:
    """What the network is given for `x` [R, ...] at `level`, which broadcasts over it."""
    if prediction == "img_to_img":
        return x
    if prediction == "rflow":
        return x / (1.0 + level)
    return x / (level.square() + data**2).sqrt()


def denoised(
    prediction: Prediction, output: Tensor, x: Tensor, level: Tensor, data: float, timestep: Callable[[], Tensor]
) -> Tensor:
    """The clean latent that `output` [R, ...] stands for, for `x` at `level`, told to the network as `timestep()`."""
    match prediction:
        case "eps":
            return x - output * level
        case "x0" | "img_to_img":
            return output
        case "rflow":
            return (x - output * level) / (1.0 + level)
        case "lcm":
            scaled = timestep() * LCM_SCALE
            power = scaled.square() + LCM_DATA**2
            return (x - output * level) * (scaled / power.sqrt()) + x * (LCM_DATA**2 / power)
        case "v" | "edm":
            power = level.square() + data**2
            moved = output * level * data / power.sqrt()
            return x * data**2 / power + (moved if prediction == "edm" else -moved)
