"""Captions in JSON: a file beside each picture (gallery-dl, boorus), or one for all (sd-scripts, Hugging Face)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from kohyakit.dataset.captions.compose import spelt
from kohyakit.dataset.metadata.told import Told, Unfit, is_workflow, prompt_of, told
from kohyakit.dataset.walk import parse_folder_name
from kohyakit.errors import DatasetError, Problem
from kohyakit.files import read_bytes

_MOST, _MOST_OF_ALL = 8 << 20, 256 << 20  # bytes of a file beside a picture, and of one for all
_CAPTIONS = ("caption", "text", "description", "content")
_TAGS = ("tags", "tag_string", "tags_general", "tag_string_general", "keywords")
_FIRST = ("caption", *_TAGS, "text", "description", "content")  # the first that says something
_NAMES = ("file_name", "image", "image_path", "path", "file", "filename", "img", "image_file")
_NO_TAGS = ("meta", "invalid", "lore", "deprecated")  # groups of a booru that say nothing of the picture
_TAGGUI = ("markings", "crop", "rating")


@dataclass(frozen=True, slots=True)
class Reading:
    """keys: in place of the usual ones; all that say something are joined. underscores: kept in a booru's tags."""

    keys: tuple[str, ...] = ()
    underscores: bool = False


def beside(image: Path) -> Path | None:
    """The JSON of one picture: photo.jpg.json, or photo.json."""
    return next((path for path in (image.with_name(image.name + ".json"), image.with_suffix(".json"))
                 if os.path.lexists(path)), None)  # fmt: skip


def read_beside(path: Path, reading: Reading) -> Told:
    """Raises OSError, and Unfit for JSON that is damaged or holds no caption."""
    return told_by(_loaded(read_bytes(path, _MOST)), reading)


def told_by(data: Any, reading: Reading, *, both: bool = False) -> Told:
    """both: caption and tags of one picture are joined, as sd-scripts does. Raises Unfit where it says nothing."""
    if isinstance(data, str):
        return told(data)
    if isinstance(data, list):
        return told("", _tags(data, reading))
    if not isinstance(data, Mapping):
        raise Unfit("holds no caption")
    usual = ("caption", "tags") if both and {"caption", "tags"} & data.keys() else _FIRST
    found = [one for key in reading.keys or usual if (one := _of_key(data, key, reading))]
    if found:
        kept = found if reading.keys or both else found[:1]
        first = next((one.caption for one in kept if one.caption), "")
        more = [one.caption for one in kept if one.caption and one.caption != first]
        return told(first, [*more, *(tag for one in kept for tag in one.tags)])
    if is_workflow(data):
        prompt_of(data)
    if any(key in data for key in _TAGGUI):
        raise Unfit("holds taggui's crop and markings, no caption")
    raise Unfit(f"has no {' or '.join(reading.keys or _FIRST[:2])} that says anything; name a key with --key")


def _of_key(data: Mapping[str, Any], key: str, reading: Reading) -> Told:
    value = data.get(key)
    listed = key in _TAGS or key.startswith(("tag", "keyword"))
    if isinstance(value, str) and not listed:
        return told(value)
    strung = key.startswith("tag_string")
    return told("", _tags(value, reading, strung=strung)) if listed or isinstance(value, list | dict) else Told()


def _tags(value: Any, reading: Reading, *, strung: bool = False) -> list[str]:
    """Of a list, of a text with commas or blanks between them, of a booru's groups, of objects with a name."""
    if isinstance(value, str):
        booru = strung or ("," not in value and "_" in value)
        tags = value.split() if booru else value.split(",")
    elif isinstance(value, Mapping):
        return [tag for group, inner in value.items() if group not in _NO_TAGS for tag in _tags(inner, reading)]
    elif isinstance(value, Sequence):
        named = (item.get("name") or item.get("tag") if isinstance(item, Mapping) else item for item in value)
        tags = [item for item in named if isinstance(item, str)]
        booru = any("_" in tag for tag in tags) and not any(" " in tag.strip() for tag in tags)
    else:
        return []
    return [spelt(tag) for tag in tags] if booru and not reading.underscores else tags


@dataclass(slots=True)
class Entry:
    """What one file for all says of a picture: parts of its name there, and the value. taken: a picture had it."""

    name: str
    parts: tuple[str, ...]
    value: Any
    taken: bool = False


@dataclass(slots=True)
class Metadata:
    """One file with the captions of many pictures. path: where it lies."""

    path: Path
    entries: dict[str, list[Entry]] = field(default_factory=dict)  # by the last part of their name

    def of(self, image: Path, root: Path) -> Any:
        """The value for a picture of the set in `root`, None where it has none. Of a whole path its end counts, as the
        set may have lain elsewhere when it was written. Raises Unfit where two names fit as well.
        """
        below = len(image.relative_to(root).parts) - 1
        where = PurePosixPath(os.path.abspath(image).replace(os.sep, "/")).parts[:-1]
        best: list[Entry] = []
        most = -1
        for entry in (*self.entries.get(image.name, ()), *self.entries.get(image.stem, ())):
            alike = _alike(entry.parts, where)
            fits = alike == len(entry.parts) or (entry.parts[0] == "/" and alike >= below)
            if not fits or alike < most or (not alike and _of_other_subset(entry, where)) or _elsewhere(entry, image):
                continue
            best, most = ([*best, entry], most) if alike == most else ([entry], alike)
        if len(best) > 1:
            raise Unfit(f"has {len(best)} entries in {self.path.name}, such as {best[0].name} and {best[1].name}")
        if not best:
            return None
        best[0].taken = True
        return best[0].value

    def untaken(self) -> list[str]:
        return [entry.name for many in self.entries.values() for entry in many if not entry.taken]


def read_metadata(path: Path) -> Metadata:
    """A metadata file of sd-scripts (`in_json`), a list of objects, or JSON lines, each of which names its picture.

    Raises DatasetError where it cannot be read.
    """
    try:
        data = read_bytes(path, _MOST_OF_ALL)
        lines = path.suffix.lower() in (".jsonl", ".ndjson")
        values = [_loaded(row) for row in data.split(b"\n") if row.strip()] if lines else _loaded(data)
        found = Metadata(path)
        for name, value in _named(values):
            parts = PurePosixPath(_with_slashes(name)).parts
            if parts:
                found.entries.setdefault(parts[-1], []).append(Entry(name, parts[:-1], value))
    except OSError as error:
        raise DatasetError(
            Problem(str(path), f"cannot be read ({error.strerror or error})", "name a JSON file")
        ) from None
    except Unfit as error:
        raise DatasetError(Problem(str(path), str(error), "name a metadata file of sd-scripts or JSON lines")) from None
    return found


def _named(values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and not is_workflow(values):
        yield from values.items()
        return
    if isinstance(values, list):
        for value in values:
            names = [value[key] for key in _NAMES if isinstance(value.get(key), str)] if isinstance(value, dict) else []
            if not names:
                raise Unfit(f"has an entry without a picture ({' or '.join(_NAMES[:4])})")
            yield names[0], value
        return
    raise Unfit("holds no captions by picture")


def _loaded(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Unfit(f"is not UTF-8 (byte {error.start + 1})") from None
    except RecursionError:
        raise Unfit("is JSON that is nested too deep") from None
    except json.JSONDecodeError as error:
        raise Unfit(f"is no JSON ({error.msg}, line {error.lineno})") from None
    except ValueError:
        raise Unfit("is JSON with a number that is too long") from None


def _with_slashes(name: str) -> str:
    """A Windows path too; a drive is a root like any other."""
    name = name.replace("\\", "/").removeprefix("./")
    return "/" + name[3:] if name[1:3] == ":/" else name


def _alike(parts: Sequence[str], where: Sequence[str]) -> int:
    """How many folders two paths share, from the end."""
    return next((at for at, (a, b) in enumerate(zip(reversed(parts), reversed(where), strict=False)) if a != b),
                min(len(parts), len(where)))  # fmt: skip


def _of_other_subset(entry: Entry, where: Sequence[str]) -> bool:
    both = [parts[-1] for parts in (entry.parts, where) if parts]
    return len(both) == 2 and all(map(parse_folder_name, both))


def _elsewhere(entry: Entry, image: Path) -> bool:
    """Whether an absolute name means another file that is here."""
    if not entry.parts or entry.parts[0] != "/":
        return False
    there = Path(*entry.parts, image.name)
    return there.is_file() and not there.samefile(image)
