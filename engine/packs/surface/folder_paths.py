"""`folder_paths`: where models, inputs and outputs are. Paths are texts, as packs expect."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import WeftError
from engine.folders import LEGACY_KEYS, MODEL_EXTENSIONS, MODEL_FOLDERS, confine
from engine.packs.scene import scene

if TYPE_CHECKING:
    from collections.abc import Iterable

supported_pt_extensions = set(MODEL_EXTENSIONS)
extension_mimetypes_cache: dict[str, str] = {}


class _Folders(MutableMapping[str, Any]):
    """Key of a model folder to ([paths], {extensions}); packs add keys of their own."""

    def __getitem__(self, key: str) -> tuple[list[str], set[str]]:
        """The folders of a key."""
        key = LEGACY_KEYS.get(key, key)
        world, folders = scene().world, scene().folders
        if key not in MODEL_FOLDERS and key not in folders.extra and key not in folders.first and key not in world.added:
            raise KeyError(key)
        paths = [*folders.of(key), *world.added.get(key, ())]
        extensions = world.extensions.get(key, set(MODEL_EXTENSIONS) if key in MODEL_FOLDERS else set())
        return [str(path.resolve()) for path in dict.fromkeys(paths)], extensions

    def __setitem__(self, key: str, value: tuple[Iterable[str], Iterable[str]]) -> None:
        """Add the folders of a key."""
        paths, extensions = value
        for path in paths:
            add_model_folder_path(key, path)
        scene().world.extensions[LEGACY_KEYS.get(key, key)] = set(extensions)

    def __delitem__(self, key: str) -> None:
        """Forget what packs added to a key."""
        del scene().world.added[key]

    def __iter__(self) -> Iterator[str]:
        """The keys."""
        folders = scene().folders
        yield from dict.fromkeys([*MODEL_FOLDERS, *folders.extra, *folders.first, *scene().world.added])

    def __len__(self) -> int:
        """How many keys there are."""
        return sum(1 for _ in self)


folder_names_and_paths = _Folders()


def __getattr__(name: str) -> Any:
    """The paths that packs read as attributes: they are those of whoever asks."""
    if name == "models_dir":
        roots = scene().folders.models
        return str((roots[0] if roots else Path("models")).resolve())
    if name == "base_path":
        return str(Path.cwd())
    if name in {"output_directory", "input_directory", "temp_directory"}:
        return _directory(name.removesuffix("_directory"))
    if name == "user_directory":
        return get_user_directory()
    raise AttributeError(name)


def _directory(kind: str) -> str:
    path: Path = getattr(scene().folders, kind)
    return str(path.resolve())


def get_output_directory() -> str:
    """Where files are written."""
    return _directory("output")


def get_input_directory() -> str:
    """Where pictures are looked for."""
    return _directory("input")


def get_temp_directory() -> str:
    """Where previews are written."""
    return _directory("temp")


def get_user_directory() -> str:
    """Where packs keep settings of a user: a folder beside the outputs."""
    return str(scene().folders.output.resolve().parent / "user")


def get_directory_by_type(type_name: str) -> str | None:
    """The folder that `output`, `temp` or `input` means; None for other names."""
    return _directory(type_name) if type_name in {"output", "temp", "input"} else None


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:  # noqa: FBT001, FBT002 - packs call it so
    """Add a folder to a key; `is_default` puts it before the others that packs added."""
    key = LEGACY_KEYS.get(folder_name, folder_name)
    paths = scene().world.added.setdefault(key, [])
    path = Path(full_folder_path)
    if path in paths:
        paths.remove(path)
    paths.insert(0 if is_default else len(paths), path)


def get_folder_paths(folder_name: str) -> list[str]:
    """The folders of a key."""
    return list(folder_names_and_paths[folder_name][0])


def get_filename_list(folder_name: str) -> list[str]:
    """The files of a key, `/`-separated, sorted."""
    paths, extensions = folder_names_and_paths[folder_name]
    key = LEGACY_KEYS.get(folder_name, folder_name)
    if not scene().world.added.get(key):
        return list(scene().folders.listing(key))
    names: set[str] = set()
    for root in paths:
        found, _ = recursive_search(root, [".git"])
        names.update(filter_files_extensions(found, extensions))
    return sorted(name.replace(os.sep, "/") for name in names)


def recursive_search(directory: str, excluded_dir_names: Iterable[str] | None = None) -> tuple[list[str], dict[str, float]]:
    """(files below a folder, relative to it; folders with their times of modification)."""
    excluded = set(excluded_dir_names or ())
    names: list[str] = []
    times: dict[str, float] = {}
    for folder, below, files in os.walk(directory, followlinks=True):
        below[:] = [name for name in below if name not in excluded]
        times[folder] = Path(folder).stat().st_mtime
        names.extend(os.path.relpath(Path(folder) / name, directory) for name in files)
    return names, times


def filter_files_extensions(files: Iterable[str], extensions: Iterable[str]) -> list[str]:
    """The files with one of these suffixes, sorted; all where there are no suffixes."""
    wanted = {e.lower() for e in extensions}
    return sorted(f for f in files if not wanted or "folders" in wanted or Path(f).suffix.lower() in wanted)


def filter_files_content_types(files: Iterable[str], content_types: Iterable[str]) -> list[str]:
    """The files whose names are those of `image`, `video`, `audio` or `model` files."""
    import mimetypes

    wanted = set(content_types)
    kinds = {f: (mimetypes.guess_type(f)[0] or "").split("/", maxsplit=1)[0] for f in files}
    return [f for f, kind in kinds.items() if kind in wanted]


def get_full_path(folder_name: str, filename: str) -> str | None:
    """The path of a model file; None where there is none."""
    for root in folder_names_and_paths[folder_name][0]:
        try:
            path = confine(Path(root), filename, may_link=True)
        except WeftError:
            return None
        if path.exists():
            return str(path)
    return None


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    """The path of a model file.

    Raises:
        FileNotFoundError: if there is none.
    """
    path = get_full_path(folder_name, filename)
    if path is None:
        msg = f"there is no file {filename!r} in the folders of {folder_name!r}"
        raise FileNotFoundError(msg)
    return path


def annotated_filepath(name: str) -> tuple[str, str | None]:
    """(name, folder) of a name that may end with ` [output]`, ` [input]` or ` [temp]`."""
    for kind in ("output", "input", "temp"):
        if name.endswith(f"[{kind}]"):
            return name[: -len(kind) - 3], _directory(kind)
    return name, None


def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    """The path of a file of the input folder, or of the one that its name ends with.

    Raises:
        WeftError: if the name leads outside its folder.
    """
    plain, folder = annotated_filepath(name)
    return str(confine(Path(folder or default_dir or get_input_directory()), plain))


def exists_annotated_filepath(name: str) -> bool:
    """Whether there is a file at that path."""
    try:
        return Path(get_annotated_filepath(name)).exists()
    except WeftError:
        return False


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """Where a node saves its files.

    Returns:
        Folder (made where it is not there), first part of the names, the next free number, folder below `output_dir`, and
        the prefix with its tokens filled in.

    Raises:
        WeftError: if the prefix leads outside `output_dir`.
    """
    now = time.localtime()
    tokens = {"width": image_width, "height": image_height, "year": now.tm_year}
    two = {"month": now.tm_mon, "day": now.tm_mday, "hour": now.tm_hour, "minute": now.tm_min, "second": now.tm_sec}
    prefix = filename_prefix
    for name, text in {**tokens, **{n: f"{v:02}" for n, v in two.items()}}.items():
        prefix = prefix.replace(f"%{name}%", str(text))
    below, filename = os.path.split(os.path.normpath(prefix))
    folder = confine(Path(output_dir), below)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [_number(name, filename) for name in (path.name for path in folder.iterdir()) if name.startswith(f"{filename}_")]
    return str(folder), filename, max(numbers, default=0) + 1, below, prefix


def _number(name: str, prefix: str) -> int:
    """The number in `prefix_00012_.png`; 0 where there is none."""
    digits = name[len(prefix) + 1 :].split("_", maxsplit=1)[0]
    return int(digits) if digits.isdecimal() else 0
