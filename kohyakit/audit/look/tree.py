"""The folders below the one that is audited: which are subsets, which images and captions lie in each.

A Kohya `img/` folder, a project with `img/` and `reg/`, one subset folder, or any folder of pictures, nested or not.
Links are followed, loops are not walked twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from kohyakit.dataset.folders import parse_folder_name
from kohyakit.dataset.images import EXTENSIONS, PLUGIN_EXTENSIONS, UNREAD_EXTENSIONS
from kohyakit.errors import DatasetError, Problem

IMAGE_EXTENSIONS = frozenset(
    (*EXTENSIONS, *PLUGIN_EXTENSIONS, *UNREAD_EXTENSIONS, ".apng", ".mpo", ".j2k", ".dib", ".ppm")
)
CAPTION_EXTENSIONS = (".txt", ".caption", ".cap", ".wtxt", ".text", ".tags")
# Files that lie beside photos and are nobody's picture; anything else is looked into.
_NOT_PICTURES = frozenset((
    ".json", ".jsonl", ".toml", ".yaml", ".yml", ".csv", ".tsv", ".md", ".html", ".htm", ".npz", ".npy", ".safetensors",
    ".ckpt", ".pt", ".pth", ".zip", ".rar", ".7z", ".gz", ".tar", ".py", ".sh", ".bat", ".ps1", ".log", ".xml",
    ".xmp", ".db", ".ini", ".lnk", ".url", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".mp3", ".wav", ".pdf", ".parquet",
    ".svg",
))  # fmt: skip
_PASSED_OVER = frozenset(("_quarantine", "__MACOSX", "@eaDir", "__pycache__"))


@dataclass(frozen=True)
class Folder:
    """A folder and what lies directly in it, names sorted.

    path: as a person would write it. relative: below the audited folder, "" for that itself. role: `subset` (its
    images are trained), `parent` (holds subset folders), `outside` (no repeat count beside subset folders) or
    `nested` (inside a subset, where a trainer does not look). repeats, class_tokens: from `10_sks dog`.
    """

    path: str
    relative: str
    role: str = "subset"
    repeats: int = 1
    class_tokens: str | None = None
    is_reg: bool = False
    images: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=(), repr=False)
    fault: str = ""

    @property
    def trained(self) -> bool:
        return self.role == "subset"


@dataclass(frozen=True)
class Tree:
    """kind: `project`, `kohya` (subset folders directly inside), `subset` or `free`."""

    root: Path
    kind: str
    folders: tuple[Folder, ...]


def find_tree(root: Path | str, reg_dir: Path | str | None = None) -> Tree:
    """Walk a folder. reg_dir: a folder of regularisation subsets that lies elsewhere.

    Raises DatasetError when a folder is missing, is a file, or cannot be listed.
    """
    root = Path(root)
    _must_be_folder(root)
    seen: set[tuple[int, int] | str] = set()
    found = list(_walk(root, "", seen))
    if found[0].fault:
        raise DatasetError(Problem(str(root), f"the folder cannot be read ({found[0].fault})", "allow reading it"))
    kind = _kind(root.resolve(), found)
    if kind == "project":  # log/, model/, sample/ hold no training images
        found = [folder for folder in found if folder.relative.split(os.sep)[0] in ("img", "reg")]
    folders = [_with_role(folder, kind, root.resolve().name) for folder in found]
    if reg_dir is not None:
        _must_be_folder(Path(reg_dir))
        for folder in _walk(Path(reg_dir), "", seen):
            named = _with_role(folder, "kohya" if folder.relative else "free", "")
            folders.append(replace(named, relative=os.path.join("reg", folder.relative), is_reg=True))
    return Tree(root, kind, tuple(folders))


def _must_be_folder(path: Path) -> None:
    if not path.exists():
        raise DatasetError(Problem(str(path), "the folder does not exist", "name the folder that holds your photos"))
    if not path.is_dir():
        raise DatasetError(Problem(str(path), "it is a file; a folder of images was wanted", "name its folder"))


def _walk(start: Path, relative: str, seen: set[tuple[int, int] | str]) -> Iterator[Folder]:
    """Every folder from `start` down, by name; each real folder once, however many links lead to it."""
    stack = [(str(start), relative)]
    while stack:
        path, below = stack.pop()
        identity = _identity(path)
        if identity in seen:
            continue
        seen.add(identity)
        folder = _list(path, below)
        yield folder
        stack.extend((os.path.join(path, name), os.path.join(below, name)) for name in reversed(folder.folders))


def _identity(path: str) -> tuple[int, int] | str:
    try:
        about = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return (about.st_dev, about.st_ino) if about.st_ino else os.path.realpath(path)


def _list(path: str, relative: str) -> Folder:
    images, texts, folders, names = [], [], [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or name in _PASSED_OVER:
                    continue
                extension = os.path.splitext(name)[1].lower()
                names.append(name)
                if _is_folder(entry):
                    # a folder called photo.jpg is walked, and named as no image too
                    folders.append(name)
                    if extension in EXTENSIONS:
                        images.append(name)
                elif extension in IMAGE_EXTENSIONS:
                    images.append(name)
                elif extension in CAPTION_EXTENSIONS:
                    texts.append(name)
                elif extension not in _NOT_PICTURES and _looks_like_picture(entry.path):
                    images.append(name)
    except OSError as error:
        return Folder(path, relative, fault=error.strerror or str(error))
    return Folder(
        path,
        relative,
        images=tuple(sorted(images)),
        texts=tuple(sorted(texts)),
        folders=tuple(sorted(folders)),
        names=tuple(names),
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _looks_like_picture(path: str) -> bool:
    """Whether a file of an unknown extension starts like an image; pipes and devices are not opened."""
    from kohyakit.dataset.decode.signature import EXTENSIONS as FORMATS
    from kohyakit.dataset.decode.signature import sniff

    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as stream:
            return sniff(stream.read(512)) in FORMATS
    except OSError:
        return False


def _kind(root: Path, found: list[Folder]) -> str:
    top = found[0]
    if any(parse_folder_name(name) for name in top.folders):
        return "kohya"
    if "img" in top.folders:
        return "project"
    return "subset" if top.images and parse_folder_name(root.name) else "free"


def _with_role(folder: Folder, kind: str, root_name: str) -> Folder:
    """The folder with its role in a tree of that kind."""
    parts = folder.relative.split(os.sep) if folder.relative else []
    if kind == "free":
        return folder
    if kind == "subset":
        return replace(folder, **_named(root_name)) if not parts else replace(folder, role="nested")
    is_reg = False
    if kind == "project":
        is_reg = parts[0] == "reg"
        parts = parts[1:]
    if not parts:
        return replace(folder, role="parent", is_reg=is_reg)
    named = _named(parts[0])
    if len(parts) > 1:
        role = "nested" if named else "outside"
        return replace(folder, role=role, is_reg=is_reg)
    return replace(folder, is_reg=is_reg, **named) if named else replace(folder, role="outside", is_reg=is_reg)


def _named(name: str) -> dict[str, object]:
    parsed = parse_folder_name(name)
    return {"repeats": parsed[0], "class_tokens": parsed[1]} if parsed else {}
