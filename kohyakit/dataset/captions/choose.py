"""Which captions of a folder are meant: by subset, file, tag expression."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from kohyakit.dataset.captions.expression import wanted
from kohyakit.dataset.editing.captions import CaptionFile, each_caption_file
from kohyakit.dataset.walk import parse_folder_name
from kohyakit.errors import DatasetError, Problem


@dataclass(frozen=True, slots=True)
class Selection:
    """subsets: folders below, as `10_dog`, `img/10_dog` or without repeats `dog`. files: patterns of an image's or a
    caption's name, or of its path. where: a tag expression. paths: absolute ones of pictures, captions or folders. ()
    and "" leave none out.
    """

    subsets: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    where: str = ""
    paths: Collection[str] | None = None


def chosen(
    folder: Path, selection: Selection, extension: str | None = None, *, pictures: bool = False
) -> Iterator[CaptionFile]:
    """The caption files that are meant, one after the other; each once, where two pictures share it. pictures: once
    for each of the two.

    Raises ConfigError for an expression that cannot be read, DatasetError for a folder or a subset that is not there.
    """
    fits = wanted(selection.where) if selection.where else None
    seen: set[str] = set()  # in this folder: a caption lies beside its picture
    last: Home | None = None
    homes: dict[str, Home] = {}
    unknown = set(selection.subsets)
    for file in each_caption_file(folder, extension):
        home = home_of(file, folder, homes)
        if home is not last:
            seen, last = set(), home
        if selection.subsets:
            mine = {asked for asked in selection.subsets if home.is_called(asked.rstrip("/"))}
            unknown -= mine
            if not mine:
                continue
        if _is_file(file, home.subset, selection) and (pictures or file.path.name not in seen):
            if not pictures:
                seen.add(file.path.name)
            if fits is None or (not file.problem and fits(file.text)):
                yield file
    if unknown:
        there = sorted(home.subset for home in homes.values())
        raise DatasetError(_no_subset(name, folder, there) for name in sorted(unknown))


@dataclass(frozen=True, slots=True)
class Home:
    """A folder with pictures. subset: its path below the data set, "." for the data set itself. repeats: 1 where its
    name has no count. subject: what stands behind the count in its name, "" without one.
    """

    subset: str
    name: str
    repeats: int
    subject: str

    def is_called(self, name: str) -> bool:
        return name in (self.subset, self.name) or (name == self.subject and bool(name))


def home_of(file: CaptionFile, folder: Path, known: dict[str, Home]) -> Home:
    """The folder of a picture; known: those that were asked for before."""
    place = os.path.dirname(file.image)
    if place not in known:
        path = Path(place)
        name = path.name or path.resolve().name
        repeats, subject = parse_folder_name(name) or (1, "")
        known[place] = Home(path.relative_to(folder).as_posix(), name, max(repeats, 0), subject)
    return known[place]


def _is_file(file: CaptionFile, subset: str, selection: Selection) -> bool:
    if selection.paths is not None:
        places = (file.image, file.path, file.image.parent)
        if not any(os.path.abspath(place) in selection.paths for place in places):
            return False
    if not selection.files:
        return True
    bare = (file.image.name, file.path.name)
    names = (*bare, *(f"{subset}/{name}" for name in bare))
    return any(fnmatchcase(name, pattern) for pattern in selection.files for name in names)


def _no_subset(name: str, folder: Path, there: Sequence[str]) -> Problem:
    cure = f"there are {', '.join(there[:8])}" if there else "there are no pictures"
    return Problem(f"--subset {name}", f"is no folder with pictures in {folder}", cure, "no_such_subset")
