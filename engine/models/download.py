"""Diffusers repositories from the Hugging Face hub; only ever on request."""

from __future__ import annotations

import re
from pathlib import Path

from engine.errors import WeftError

PATTERNS = ("model_index.json", "*/config.json", "*.safetensors", "*/*.safetensors", "*/*.bin", "*/*.index*.json")
"""What a diffusers pipeline consists of; previews, ONNX and Flax copies are left out."""

IGNORED = ("*.msgpack", "*.onnx", "*.ckpt", "safety_checker/*", "*ema*", "*.non_ema*")


def repo(name: str, *, revision: str | None = None, cache: Path | None = None) -> Path:
    """The local folder of the repository `name`.

    Files that are in the cache already are not asked for again; `HF_HUB_OFFLINE=1` keeps everything local.

    Raises:
        WeftError: if `name` is not `owner/name`, or it is neither there nor can it be downloaded.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or ".." in name:
        msg = f"cannot download {name!r}: a repository is named owner/name, such as runwayml/stable-diffusion-v1-5"
        raise WeftError(msg)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache,
            allow_patterns=list(PATTERNS),
            ignore_patterns=list(IGNORED),
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as cause:
        msg = (
            f"cannot get the repository {name!r}: {str(cause).splitlines()[0] if str(cause) else cause!r};"
            " check its name, the network, HF_TOKEN and HF_HUB_OFFLINE"
        )
        raise WeftError(msg) from cause
    return Path(folder)
