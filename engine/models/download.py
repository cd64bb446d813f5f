"""Repositories and single files from the Hugging Face hub; only ever on request."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import WeftError
from engine.models.files import part_choices

if TYPE_CHECKING:
    from collections.abc import Collection

SETTINGS = "scheduler/scheduler_config.json"
"""Says what the network predicts."""

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")

_FILE = re.compile(
    r"https://huggingface\.co/(?P<repo>[\w.-]+/[\w.-]+)/(?:resolve|blob)/(?P<revision>[^/?#]+)/(?P<path>[^?#]+)(?:\?[^#]*)?"
)


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


def file(url: str, target: Path, *, sha256: str | None = None) -> None:
    """Download a file of the hub to `target`; what is there stays as it is until all of the new file has come.

    Args:
        url: Its address, `https://huggingface.co/owner/name/resolve/main/file.safetensors`.
        target: Where to put it.
        sha256: Digest of its content, or None where it is not known.

    Raises:
        WeftError: if the address is no file of the hub, it cannot be downloaded, or its content is another.
    """
    match = _FILE.fullmatch(url)
    if match is None or ".." in url:
        msg = f"cannot download {url}: only files of https://huggingface.co are fetched; download it yourself to {target}"
        raise WeftError(msg)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with tempfile.TemporaryDirectory(dir=_made(target.parent), prefix=".download-") as folder:
            got = hf_hub_download(match["repo"], match["path"], revision=match["revision"], local_dir=folder)
            _require_digest(Path(got), sha256, url)
            Path(got).replace(target)
    except (HfHubHTTPError, OSError, ValueError) as cause:
        reason = next(iter(str(cause).splitlines()), repr(cause))
        msg = f"cannot download {url}: {reason}; check the network, HF_TOKEN and HF_HUB_OFFLINE"
        raise WeftError(msg) from cause


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _require_digest(path: Path, sha256: str | None, url: str) -> None:
    if sha256 is None:
        return
    with path.open("rb") as data:
        found = hashlib.file_digest(data, "sha256").hexdigest()
    if found != sha256:
        msg = f"cannot use what came from {url}: its SHA-256 is {found}, the workflow says {sha256}"
        raise WeftError(msg)


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
