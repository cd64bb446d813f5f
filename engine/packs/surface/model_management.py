"""`comfy.model_management`: devices. Weft moves models itself, so that loading and freeing has nothing to do here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import OutOfMemory, RunCancelled
from engine.packs.scene import scene

if TYPE_CHECKING:
    import torch

InterruptProcessingException = RunCancelled
OOM_EXCEPTION = OutOfMemory


def get_torch_device() -> torch.device:
    """The device to compute on."""
    from engine.devices import pick

    run = scene().run
    return pick("auto" if run is None else run.device)


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


def intermediate_device() -> torch.device:
    """Where values between nodes are."""
    return _cpu()


def unet_offload_device() -> torch.device:
    """Where networks wait."""
    return _cpu()


def vae_offload_device() -> torch.device:
    """Where VAEs wait."""
    return _cpu()


def text_encoder_offload_device() -> torch.device:
    """Where text encoders wait."""
    return _cpu()


def text_encoder_device() -> torch.device:
    """Where text encoders compute."""
    return get_torch_device()


def vae_device() -> torch.device:
    """Where VAEs compute."""
    return get_torch_device()


def get_free_memory(dev: torch.device | None = None, torch_free_too: bool = False) -> Any:  # noqa: FBT001, FBT002 - packs call it so
    """Free bytes of a device; a pair of them if `torch_free_too`."""
    from engine.devices import free_bytes

    free = free_bytes(dev or get_torch_device()) or 0
    return (free, free) if torch_free_too else free


def soft_empty_cache(force: bool = False) -> None:  # noqa: ARG001, FBT001, FBT002 - packs call it so
    """Give memory that is not used back to the device."""
    from engine.devices import release

    release(get_torch_device())


def unload_all_models() -> None:
    """Nothing to do: what is not needed makes room by itself."""


def load_models_gpu(models: Any, *_: Any, **__: Any) -> None:
    """Nothing to do: models are moved when they compute."""


def load_model_gpu(model: Any) -> None:
    """Nothing to do: models are moved when they compute."""


def throw_exception_if_processing_interrupted() -> None:
    """Stop if somebody stopped the run.

    Raises:
        RunCancelled: if so.
    """
    run = scene().run
    if run is not None:
        run.check()


def processing_interrupted() -> bool:
    """Whether somebody stopped the run."""
    try:
        throw_exception_if_processing_interrupted()
    except RunCancelled:
        return True
    return False


def is_device_cpu(device: torch.device) -> bool:
    """Whether a device is the processor."""
    return device.type == "cpu"


def is_device_mps(device: torch.device) -> bool:
    """Whether a device is Apple's."""
    return device.type == "mps"


def is_device_cuda(device: torch.device) -> bool:
    """Whether a device is a CUDA one."""
    return device.type == "cuda"


def get_autocast_device(dev: torch.device) -> str:
    """What `torch.autocast` calls a device."""
    return dev.type


def should_use_fp16(device: torch.device | None = None, *_: Any, **__: Any) -> bool:
    """Whether half precision is worth it."""
    return (device or get_torch_device()).type == "cuda"
