"""A data set as it lies on disk: which folders are subsets, what lies in each. check, audit and dashboard walk here.

A Kohya `img/` folder, a project with `img/` and `reg/`, one subset folder, or any folder of pictures, nested or not.
Links are followed, loops are not walked twice. Files and folders come in the order of their names' code points on
every system (`10_x` before `2_y`), as sd-scripts sorts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from kohyakit.dataset.images import EXTENSIONS, PLUGIN_EXTENSIONS, UNREAD_EXTENSIONS, takes
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


def parse_folder_name(name: str) -> tuple[int, str] | None:
    """`10_sks dog` -> (10, "sks dog"), as sd-scripts splits it; None where no whole number stands in front."""
    count, _, rest = name.partition("_")
    try:
        return int(count), rest
    except ValueError:
        return None


@dataclass(frozen=True)
class Folder:
    """A folder and what lies directly in it, names sorted.

    path: as a person would write it. relative: below the folder that the walk began with, "" for that itself.
    role: `subset` (its images are trained), `parent` (holds subset folders), `outside` (no repeat count beside subset
    folders) or `nested` (inside a subset, where a trainer does not look). repeats, class_tokens: from `10_sks dog`.
    images: pictures of every kind, trained or not. texts: what is called as captions are. names: of all files and
    folders. Names with a leading dot are in none of them. fault: why it cannot be listed, or "".
    """

    path: str
    relative: str = ""
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

    def taken(self, *, odd_case: bool = True) -> tuple[str, ...]:
        """The images that a training takes. odd_case=False leaves out `.Jpg` and the like (see images.takes)."""
        return tuple(name for name in self.images if takes(name, odd_case=odd_case))

    def left(self) -> tuple[str, ...]:
        """The pictures that no training takes, for their format or their name."""
        return tuple(name for name in self.images if not takes(name))

    def at(self, names: Iterable[str]) -> tuple[Path, ...]:
        """Where they lie."""
        return tuple(Path(self.path, name) for name in names)


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
    top = _top(root)
    kind = kind_of(root, top)
    seen: set[Identity] = set()
    folders = list(_of_kind(kind, top, seen))
    if reg_dir is not None:
        reg = _top(Path(reg_dir))
        reg_kind = kind_of(Path(reg_dir), reg)
        folders += [
            replace(folder, relative=os.path.join("reg", folder.relative), is_reg=True)
            for folder in _of_kind("free" if reg_kind == "project" else reg_kind, reg, seen)
        ]
    return Tree(root, kind, tuple(folders))


def kind_of(root: Path, top: Folder) -> str:
    """What a folder is taken for (see Tree)."""
    if any(parse_folder_name(name) for name in top.folders):
        return "kohya"
    if "img" in top.folders:
        return "project"
    return "subset" if top.images and parse_folder_name(root.resolve().name) else "free"


def _of_kind(kind: str, top: Folder, seen: set[Identity]) -> Iterator[Folder]:
    if kind == "kohya":
        yield from _with_subsets(top, seen)
    elif kind == "project":  # log/, model/, sample/ hold no training images
        for name in ("img", "reg"):
            if name in top.folders:
                parent = replace(_list(os.path.join(top.path, name), name), is_reg=name == "reg")
                yield from _with_subsets(parent, seen)
    elif kind == "subset":
        yield from subset(top.path, Path(top.path).resolve().name, seen=seen)
    else:
        yield from walk(top.path, seen=seen)


def _with_subsets(parent: Folder, seen: set[Identity]) -> Iterator[Folder]:
    """A folder of subset folders with all that lies in it."""
    if identity(parent.path) in seen:
        return
    seen.add(identity(parent.path))
    yield replace(parent, role="parent")
    for name in parent.folders:
        path, relative = os.path.join(parent.path, name), os.path.join(parent.relative, name)
        if parse_folder_name(name):
            for folder in subset(path, name, relative=relative, seen=seen):
                yield replace(folder, is_reg=parent.is_reg)
        else:
            for folder in walk(path, relative, seen=seen):
                yield replace(folder, role="outside", is_reg=parent.is_reg)


def subset(
    path: str, name: str = "", *, relative: str = "", depth: int | None = None, seen: set[Identity] | None = None
) -> Iterator[Folder]:
    """A subset folder, and the folders in it, where a trainer does not look. name: its own, for repeats and subject."""
    parsed = parse_folder_name(name)
    for folder in walk(path, relative, depth=depth, seen=seen):
        if folder.relative != relative:
            yield replace(folder, role="nested")
        elif parsed:
            yield replace(folder, repeats=parsed[0], class_tokens=parsed[1])
        else:
            yield folder


Identity = tuple[int, int] | str


def walk(
    start: str, relative: str = "", *, depth: int | None = None, seen: set[Identity] | None = None
) -> Iterator[Folder]:
    """Every folder from `start` down, by name; each real folder once, however many links lead to it.

    depth: how many folders down; all by default. seen: those that were walked before.
    """
    seen = set() if seen is None else seen
    stack = [(start, relative, depth)]
    while stack:
        path, below, left = stack.pop()
        here = identity(path)
        if here in seen:
            continue
        seen.add(here)
        system = system_folder(here)
        folder = (
            Folder(path, below, fault=f"it leads to {system}, where no photos are") if system else _list(path, below)
        )
        yield folder
        if left != 0:
            further = None if left is None else left - 1
            stack.extend(
                (os.path.join(path, name), os.path.join(below, name), further) for name in reversed(folder.folders)
            )


def list_folder(path: Path | str, relative: str = "") -> Folder:
    """What lies directly in a folder, in one pass. Raises OSError or ValueError when it cannot be read."""
    images, texts, folders, names = [], [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name in _PASSED_OVER:
                continue
            extension = os.path.splitext(name)[1].lower()
            names.append(name)
            if is_folder(entry):
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
    return Folder(
        os.fspath(path),
        relative,
        images=tuple(sorted(images)),
        texts=tuple(sorted(texts)),
        folders=tuple(sorted(folders)),
        names=tuple(names),
    )


def _top(root: Path) -> Folder:
    if not root.exists():
        raise DatasetError(Problem(str(root), "the folder does not exist", "name the folder that holds your photos"))
    if not root.is_dir():
        raise DatasetError(Problem(str(root), "it is a file; a folder of images was wanted", "name its folder"))
    top = _list(str(root), "")
    if top.fault:
        raise DatasetError(Problem(str(root), f"the folder cannot be read ({top.fault})", "allow reading it"))
    return top


def _list(path: str, relative: str) -> Folder:
    try:
        return list_folder(path, relative)
    except (OSError, ValueError) as error:
        return Folder(path, relative, fault=getattr(error, "strerror", None) or str(error))


def identity(path: str) -> Identity:
    """What a folder is, by whichever links and names one came to it; in one look, however deep it lies."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return os.path.realpath(path)
    return (about.st_dev, about.st_ino) if about.st_ino else os.path.realpath(path)


def system_folder(here: Identity) -> str:
    """`/`, `/proc` or `/sys` where a folder is that one or lies in one of the latter; "" for all others.

    A link to there leads into endless folders that hold nobody's photos.
    """
    top, mounted = _system_folders()
    if here == top or isinstance(here, str):
        return "/" if here == top else ""
    return mounted.get(here[0], "")


@lru_cache(maxsize=1)
def _system_folders() -> tuple[Identity | None, dict[int, str]]:
    """(`/`, the devices of what the kernel mounts there); nothing on Windows."""
    if os.name == "nt":
        return None, {}
    top = os.stat("/")
    mounted = {os.stat(name).st_dev: name for name in ("/proc", "/sys") if os.path.ismount(name)}
    return (top.st_dev, top.st_ino), mounted


def is_folder(entry: os.DirEntry[str]) -> bool:
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
