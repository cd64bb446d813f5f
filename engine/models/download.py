"""Diffusers repositories from the Hugging Face hub; only ever on request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import WeftError
from engine.models.files import part_choices

if TYPE_CHECKING:
    from collections.abc import Collection

SETTINGS = "scheduler/scheduler_config.json"
"""Says what the network predicts."""

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def repo(name: str, *, revision: str | None = None, cache: Path | None = None) -> Path:
    """The local folder of the repository `name`.

    Only what loading reads is downloaded: one file of weights for each part. What is in the cache already is not asked
    for again; without the network, or with `HF_HUB_OFFLINE=1`, the cache alone is used.

    Raises:
        WeftError: if `name` is not `owner/name`, or it is neither there nor can it be downloaded.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or ".." in name:
        msg = f"cannot download {name!r}: a repository is named owner/name, such as runwayml/stable-diffusion-v1-5"
        raise WeftError(msg)
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        try:
            patterns = wanted(HfApi().list_repo_files(name, revision=revision))
        except (OfflineModeIsEnabled, ConnectionError):
            return Path(snapshot_download(name, revision=revision, cache_dir=cache, local_files_only=True))
        return Path(snapshot_download(name, revision=revision, cache_dir=cache, allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as cause:
        reason = next(iter(str(cause).splitlines()), repr(cause))
        msg = f"cannot get the repository {name!r}: {reason}; check its name, the network, HF_TOKEN and HF_HUB_OFFLINE"
        raise WeftError(msg) from cause


def wanted(names: Collection[str]) -> list[str]:
    """Patterns of the files that loading a diffusers folder reads, out of the `names` in a repository.

    Raises:
        WeftError: if there is no denoising network among them.
    """
    patterns = ["model_index.json", *(SETTINGS for name in names if name == SETTINGS)]
    for part in PARTS:
        choice = next(((name, shards) for name, shards in part_choices(part) if name in names), None)
        if choice is not None:
            patterns += [pattern for pattern in choice if pattern]
        elif part == "unet":
            msg = "cannot use the repository: it is no diffusers folder, as it holds no unet/*.safetensors and no unet/*.bin"
            raise WeftError(msg)
    return patterns
