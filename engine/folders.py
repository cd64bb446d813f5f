"""Where models, inputs and outputs are: names in workflows to files, over several roots.

The folder names are those that users already have (`models/checkpoints`, `loras`, ...); `extra_model_paths.yaml` files
add more. Names are confined: a name never leads outside its root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from engine.errors import FormatError, WeftError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODEL_EXTENSIONS = frozenset({".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"})
IMAGE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

MODEL_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints",),
    "configs": ("configs",),
    "loras": ("loras",),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("diffusion_models", "unet"),
    "clip_vision": ("clip_vision",),
    "style_models": ("style_models",),
    "embeddings": ("embeddings",),
    "diffusers": ("diffusers",),
    "vae_approx": ("vae_approx",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "gligen": ("gligen",),
    "upscale_models": ("upscale_models",),
    "hypernetworks": ("hypernetworks",),
    "photomaker": ("photomaker",),
    "classifiers": ("classifiers",),
    "model_patches": ("model_patches",),
    "audio_encoders": ("audio_encoders",),
}
"""Key of a model folder to the folder names below a models root."""

SAVED_FOLDERS = {
    "checkpoints": "checkpoints",
    "text_encoders": "clip",
    "vae": "vae",
    "diffusion_models": "diffusion_models",
    "loras": "loras",
}
"""Key of a model folder to where nodes save such models, below the output folder; searched last."""

LEGACY_KEYS = {"unet": "diffusion_models", "clip": "text_encoders", "t2i_adapter": "controlnet"}

EMBEDDED_MODELS = Path(__file__).parent / "assets" / "models"
"""The models that ship with the package; searched last."""

EMBEDDED_INPUT = Path(__file__).parent / "assets" / "input"
"""The pictures that ship with the package, for the example workflows; searched last."""


def confine(root: Path, name: str, *, may_link: bool = False) -> Path:
    """The path of `name` below `root`.

    Args:
        root: The folder.
        name: What a workflow calls the file.
        may_link: Whether a symbolic link may lead out of the folder.

    Raises:
        WeftError: if `name` is absolute, has a drive letter or `..`, or leads outside `root` through a link.
    """
    plain = name.replace("\\", "/")
    pure = PurePosixPath(plain)
    if pure.is_absolute() or PureWindowsPath(name).drive or ".." in pure.parts or "\0" in name:
        msg = f"the name {name!r} leads outside its folder"
        raise WeftError(msg)
    path = root / pure
    if not may_link and not path.resolve().is_relative_to(root.resolve()):
        msg = f"the name {name!r} leads outside its folder"
        raise WeftError(msg)
    return path


@dataclass(frozen=True)
class Folders:
    """The folders of one engine. Frozen; `listing` reads the disk afresh each time.

    Attributes:
        models: Roots that hold `checkpoints`, `loras`, ...; searched in order, the embedded models last.
        input: Where `LoadImage` looks, before the pictures that ship with the package.
        output: Where `SaveImage` writes.
        temp: Where previews are written.
        extra: Further folders for a model key, searched after the roots unless listed in `first`.
        first: Further folders that are searched before the roots (`is_default: true`).
    """

    models: tuple[Path, ...] = ()
    input: Path = Path("input")
    output: Path = Path("output")
    temp: Path = Path("temp")
    extra: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    first: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def of(self, key: str) -> tuple[Path, ...]:
        """The existing folders that are searched for `key`, in order."""
        key = LEGACY_KEYS.get(key, key)
        if key == "input":
            return (self.input, EMBEDDED_INPUT)
        if key == "output":
            return (self.output,)
        if key == "temp":
            return (self.temp,)
        names = MODEL_FOLDERS.get(key, (key,))
        roots = [root / name for root in (*self.models, EMBEDDED_MODELS) for name in names]
        saved = [self.output / SAVED_FOLDERS[key]] if key in SAVED_FOLDERS else []
        found = [*self.first.get(key, ()), *roots, *self.extra.get(key, ()), *saved]
        return tuple(dict.fromkeys(path for path in found if path.is_dir()))

    def listing(self, key: str, extensions: Iterable[str] | None = None) -> tuple[str, ...]:
        """Names of the files under `key`, `/`-separated, sorted, each once.

        Args:
            key: A model key, or `input`, `output`, `temp`.
            extensions: Lower-case suffixes to keep; the usual ones of the key when None.
        """
        if extensions is None:
            extensions = IMAGE_EXTENSIONS if key in {"input", "output", "temp"} else MODEL_EXTENSIONS
        wanted = frozenset(extensions)
        names: set[str] = set()
        for root in self.of(key):
            if key == "diffusers":
                names.update(p.parent.relative_to(root).as_posix() for p in root.rglob("model_index.json"))
                continue
            for folder, subfolders, files in os.walk(root, followlinks=True):
                subfolders[:] = [s for s in subfolders if s != ".git"]
                base = Path(folder).relative_to(root)
                names.update((base / f).as_posix() for f in files if Path(f).suffix.lower() in wanted)
        return tuple(sorted(names))

    def find(self, key: str, name: str) -> Path | None:
        """The file or folder that `name` means under `key`, or None.

        Back-slashes are accepted as separators. A name with the suffix ` [input]`, ` [output]` or ` [temp]` is looked
        up in that folder instead.

        Raises:
            WeftError: if the name leads outside its folder.
        """
        for folder in ("input", "output", "temp"):
            if name.endswith(f"[{folder}]"):
                key, name = folder, name[: -len(folder) - 2].rstrip()
        # People link model files to other disks; into the folders of pictures, strangers may put files through a server.
        may_link = key not in {"input", "output", "temp"}
        for root in self.of(key):
            path = confine(root, name, may_link=may_link)
            if path.exists():
                return path
        return None

    def place(self, key: str, name: str) -> Path:
        """Where a new model file `name` of `key` belongs: in the first model root.

        Raises:
            WeftError: if there is no model root, or key or name are none of a model file.
        """
        if not self.models:
            msg = f"there is no folder of your own for models to put {name} into; name one"
            raise WeftError(msg)
        if not key.replace("_", "").isalnum() or Path(name).suffix.lower() not in MODEL_EXTENSIONS:
            msg = f"{key}/{name} is not the name of a model file"
            raise WeftError(msg)
        return confine(self.models[0] / key, name)


def gather(
    models: Iterable[str | Path] = (),
    input_dir: str | Path = "input",
    output_dir: str | Path = "output",
    *,
    temp_dir: str | Path | None = None,
    extra_model_paths: Iterable[str | Path] = (),
) -> Folders:
    """The folders that these settings mean.

    Args:
        models: Model roots, searched in order.
        input_dir: Where `LoadImage` looks.
        output_dir: Where `SaveImage` writes.
        temp_dir: Where previews are written; below `output_dir` when None.
        extra_model_paths: `extra_model_paths.yaml` files.

    Raises:
        FormatError: if an `extra_model_paths.yaml` cannot be read.
    """
    extra: dict[str, tuple[Path, ...]] = {}
    first: dict[str, tuple[Path, ...]] = {}
    for path in extra_model_paths:
        more, before = read_extra_paths(Path(path))
        for into, found in ((extra, more), (first, before)):
            for key, folders in found.items():
                into[key] = (*into.get(key, ()), *folders)
    output = Path(output_dir)
    return Folders(
        models=tuple(Path(root) for root in models),
        input=Path(input_dir),
        output=output,
        temp=Path(temp_dir) if temp_dir is not None else output / "temp",
        extra=extra,
        first=first,
    )


def read_extra_paths(path: Path) -> tuple[dict[str, tuple[Path, ...]], dict[str, tuple[Path, ...]]]:
    """Read an `extra_model_paths.yaml`.

    Args:
        path: The YAML file; relative paths in it are relative to its folder, `~` and variables are expanded.

    Returns:
        (extra, first) for `Folders`.

    Raises:
        FormatError: if there is no such file, or it is not YAML of the expected shape.
    """
    import yaml

    try:
        sections = yaml.safe_load(path.read_text("utf-8")) or {}
    except OSError as cause:
        msg = f"cannot read the model paths: {cause.strerror or cause}"
        raise FormatError(msg, source=str(path)) from cause
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        msg = f"not a YAML file: {cause}"
        raise FormatError(msg, source=str(path)) from cause
    if not isinstance(sections, dict):
        msg = "expected sections with folders"
        raise FormatError(msg, source=str(path))
    extra: dict[str, tuple[Path, ...]] = {}
    first: dict[str, tuple[Path, ...]] = {}
    for title, section in sections.items():
        if section is None:
            continue
        if not isinstance(section, dict):
            msg = f"section {title!r} is not a list of folders"
            raise FormatError(msg, source=str(path))
        base = path.parent
        if section.get("base_path"):
            base = base / Path(os.path.expandvars(str(section["base_path"]))).expanduser()
        into = first if section.get("is_default") else extra
        for key, folders in section.items():
            if key in {"base_path", "is_default"} or folders is None:
                continue
            name = LEGACY_KEYS.get(str(key), str(key))
            lines = [line.strip() for line in str(folders).splitlines() if line.strip()]
            paths = tuple(base / Path(os.path.expandvars(line)).expanduser() for line in lines)
            into[name] = (*into.get(name, ()), *paths)
    return extra, first
