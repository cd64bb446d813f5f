"""A diffusion network as a value: shared weights, patches, noise schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engine import devices
from engine.errors import OutOfMemory, UnsupportedModel, WeftError
from engine.sampling.rules import NO_RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from engine.models.hooks import Control, Hook
    from engine.models.unet import UNet
    from engine.models.vector import Vector
    from engine.models.weights import Patch, Weights
    from engine.sampling.rules import Rules
    from engine.types import Cond, LatentFormat, Model, NoiseSchedule


@dataclass(frozen=True, eq=False)
class DiffusionModel:
    """A denoising network with cross-attention. Immutable: a patch makes a new value that shares every other weight.

    Attributes:
        family: Architecture family, such as `sd1`.
        weights: The tensors, shared between values, and what changes them.
        schedule: The trained noise levels.
        latent_format: Scale of the latent space.
        in_channels: C that the network sees; more than the latent's where a mask and a masked picture are joined.
        vector: Makes the vector that the network reads beside its tokens; None where it reads none.
        rules: What changes guidance.
        hooks: What changes the network while it runs, in order.
    """

    family: str
    weights: Weights
    schedule: NoiseSchedule
    latent_format: LatentFormat
    in_channels: int
    vector: Vector | None = None
    rules: Rules = NO_RULES
    hooks: tuple[Hook, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.weights.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.weights.dtype

    @property
    def base_width(self) -> int:
        """C of the network's first level."""
        return int(self.weights.tensors["conv_in.weight"].shape[0])

    @property
    def network(self) -> Any:
        """The module; made at first use and kept as long as the weights."""
        return self.unet.module

    @cached_property
    def unet(self) -> UNet:
        """The module's blocks, in the order of a pass."""
        devices.prepare()
        from engine.models.unet import UNet

        return UNet(self.weights.network)

    def with_patch(self, patch: Patch) -> DiffusionModel:
        """This model with `patch` after those that it has.

        Raises:
            WeftError: if the patch names a weight that the network does not have.
        """
        return replace(self, weights=self.weights.with_patch(patch))

    def with_rules(self, rules: Rules) -> DiffusionModel:
        """This model with rules of guidance after those that it has."""
        return replace(self, rules=self.rules.then(rules))

    def with_schedule(self, schedule: NoiseSchedule, *, latent_format: LatentFormat | None = None) -> DiffusionModel:
        """This model sampled over other noise levels, with its output read in another way, or latents of another scale."""
        return replace(self, schedule=schedule, latent_format=latent_format or self.latent_format)

    def with_dtype(self, dtype: torch.dtype) -> DiffusionModel:
        """This model with its weights brought to another number format, to compute in that."""
        return self if dtype == self.dtype else replace(self, weights=self.weights.with_dtype(dtype))

    def with_hook(self, hook: Hook) -> DiffusionModel:
        """This model with `hook` after those that it has."""
        return replace(self, hooks=(*self.hooks, hook))

    def prepared(self, entry: Cond, *, height: int, width: int, is_negative: bool, seed: int = 0) -> Cond:
        """`entry` with what the network reads beside its tokens.

        Args:
            entry: Of a conditioning.
            height: Of the latent that is sampled, in cells.
            width: Of the latent that is sampled, in cells.
            is_negative: Whether the entry says what to move away from.
            seed: Of sampling.

        Returns:
            The entry with `vector` [B, D] in `extra`, where the family has one.

        Raises:
            WeftError: if the entry lacks what the family needs, or its vector is none for this network.
        """
        if self.vector is None:
            return entry
        factor, wanted = self.latent_format.factor, int(self.weights.tensors["add_embedding.linear_1.weight"].shape[1])
        size = {"height_px": height * factor, "width_px": width * factor}
        vector = self.vector(entry, **size, is_negative=is_negative, seed=seed)
        if vector.shape[1] != wanted:
            msg = (
                f"cannot sample with {self.weights.source}: the {self.family} network reads a vector of {wanted} numbers,"
                f" and the conditioning makes {vector.shape[1]}; was it encoded by the text encoder of another family?"
            )
            raise WeftError(msg)
        return entry.with_extra(vector=vector)

    def denoised(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        *,
        extra: Mapping[str, Tensor],
        controls: tuple[Any, ...] = (),
        hooks: tuple[Any, ...] = (),
    ) -> Tensor:
        """Predict the clean latent for R rows in one forward pass.

        Whether controls and hooks are active is decided by the level of the first row: rows that are given any share one.

        Args:
            x: [R, C, h, w] float32 noisy latents in model space, on the model's device.
            sigma: [R] noise level of each row.
            context: [R, T, D] cross-attention context.
            extra: `concat`: [R, in_channels - C, h, w], joined to the scaled input; inpainting models need it.
                `vector`: [R, D], see `prepared`. `control_context`: [R, T', D], what controls attend to instead.
            controls: What steers the network from beside it; their effects add up.
            hooks: Changes to the network for this pass alone, after those of the model.

        Returns:
            [R, C, h, w] float32.

        Raises:
            OutOfMemory: if the device has no room for the pass.
            WeftError: if an inpainting model is given no `concat`, or a control fits another family.
        """
        schedule, dtype, device = self.schedule, self.dtype, self.device
        given = scaled = schedule.network_input(x, sigma).to(device, dtype)
        if self.in_channels != given.shape[1]:
            given = self._joined(given, extra)
        timestep = schedule.timestep(sigma).to(device)
        context, vector = context.to(device, dtype), extra.get("vector")
        level = float(sigma[0]) if controls or hooks or self.hooks else 0.0
        active = self._active(controls, level)
        try:
            hooks = (*self.hooks, *hooks, *(hook for control in active if (hook := control.hook(scaled)) is not None))
            words = extra.get("control_context", context).to(device, dtype)
            parts = [control.residuals(self, scaled, timestep, words, vector) for control in active]
            residuals = sum(parts[1:], parts[0]) if parts else None
            output = self.unet(given, timestep, context, vector=vector, residuals=residuals, hooks=hooks, sigma=level)
        except (RuntimeError, MemoryError) as cause:
            if not devices.is_out_of_memory(cause):
                raise
            free = devices.free_bytes(device)
            msg = f"cannot denoise {list(x.shape)} on {device}: no memory left; use fewer or smaller pictures at once"
            raise OutOfMemory(msg, free_bytes=free) from cause
        return schedule.denoised(output.float(), sigma, x)

    def _active(self, controls: tuple[Control, ...], sigma: float) -> list[Control]:
        """The controls that take part at level `sigma`.

        Raises:
            UnsupportedModel: if one was made for another family.
        """
        for control in controls:
            control.require(self.family)
        return [control for control in controls if control.is_active(self.schedule, sigma)]

    def _joined(self, given: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        import torch

        wanted = self.in_channels - given.shape[1]
        concat = extra.get("concat")
        if concat is None or concat.shape[1] != wanted:
            got = "none" if concat is None else f"{concat.shape[1]}"
            msg = (
                f"cannot denoise with {self.weights.source}: the network reads {self.in_channels} channels,"
                f" {given.shape[1]} of them the latent; it was given {got} of the other {wanted}."
                " An inpainting model needs the conditioning of InpaintModelConditioning, one that edits that of"
                " InstructPixToPixConditioning"
            )
            raise WeftError(msg)
        return torch.cat([given, concat.to(given)], dim=1)


def changeable(model: Model) -> DiffusionModel:
    """`model`, if its network can be changed.

    Raises:
        UnsupportedModel: if this package did not load it.
    """
    if not isinstance(model, DiffusionModel):
        msg = f"cannot change {model!r}: it holds no network whose weights and blocks are known"
        raise UnsupportedModel(msg)
    return model
