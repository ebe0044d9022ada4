"""Metadata files of fine-tuning data sets (`in_json`, `metadata_file`): images, captions and tags in one JSON.

A key names an image: by its whole path, or below image_dir. Beside `caption` and `tags` an entry may hold
`image_size`; `train_resolution` and the latents that older tools prepared are not read, as in sd-scripts. A `.jsonl`
file holds an entry in each line, with `image_path`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kohyakit.dataset import faults
from kohyakit.dataset.folders import as_shown
from kohyakit.dataset.images import EXTENSIONS, BadImage, ImageRecord, read_record, shown
from kohyakit.errors import ConfigError, Problem
from kohyakit.files import read_bytes
from kohyakit.formats.text import decode, shorten

_LARGEST = 1 << 30  # a million images with long captions
_NAMED = 3  # images that one sentence names


@dataclass(frozen=True, slots=True)
class MetadataFiles:
    """records: images whose headers read, in sd-scripts' order: the longest keys first. tags: of entries that have any.

    unreadable: the other images.
    """

    records: tuple[ImageRecord, ...] = ()
    unreadable: tuple[Path, ...] = ()
    tags: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_metadata(
    file: Path, image_dir: Path | None, *, separator: str, enable_wildcard: bool, upright: bool, as_there: bool
) -> MetadataFiles:
    """The images of a metadata file. Never raises; problems say what is wrong.

    separator: stands between caption and tags. upright: see images. as_there: as sd-scripts does it, which stops at a
    key without extension, and joins tags to captions of several lines, or to none, otherwise.
    """
    try:
        entries = _entries(file)
    except ConfigError as error:
        return MetadataFiles(problems=error.problems)
    found = _Found(shown(file), as_there)
    for key in sorted(entries, key=len, reverse=True):
        texts = found.texts(key, entries[key])
        path = found.place(key, image_dir)
        if texts is None or path is None:
            continue
        caption, tags = joined(*texts, separator, enable_wildcard=enable_wildcard, as_there=as_there)
        found.image(path, caption, entries[key].get("image_size"), upright=upright)
        if tags is not None:
            found.tags.append(tags)
    return MetadataFiles(tuple(found.records), tuple(found.unreadable), tuple(found.tags), found.told(len(entries)))


def joined(
    caption: str, tags: str | None, separator: str, *, enable_wildcard: bool, as_there: bool
) -> tuple[str, str | None]:
    """Caption and tags as one text, and the tags that went into it.

    Tags follow each line that may be trained, or stand alone. As sd-scripts does it, with wildcards off they follow
    the last line, though only the first is trained, and with wildcards on they are lost where there is no caption.
    """
    lines = [line for line in caption.split("\n") if line.strip()]
    if as_there:
        if enable_wildcard and tags is not None:
            tags = tags.replace("\n", separator)
            return "\n".join(f"{line}{separator}{tags}" for line in lines), tags
        if enable_wildcard or not tags:
            return caption, None
        return (caption + separator if caption else "") + tags, tags
    lines = lines if enable_wildcard else lines[:1]
    if not tags or not tags.strip():
        return "\n".join(lines), None
    tags = separator.join(part for part in tags.split("\n") if part.strip())
    return "\n".join(f"{line}{separator}{tags}" for line in lines) or tags, tags


class _Found:
    """What is found on the way through a metadata file, good and bad."""

    def __init__(self, where: str, as_there: bool) -> None:
        self._where, self._as_there = where, as_there
        self.records: list[ImageRecord] = []
        self.unreadable: list[Path] = []
        self.tags: list[str] = []
        self._problems: list[Problem] = []
        self._bad: list[str] = []
        self._homeless: list[str] = []
        self._missing: list[str] = []
        self._silent: list[str] = []
        self._other_size: list[str] = []

    def texts(self, key: str, entry: Any) -> tuple[str, str | None] | None:
        """Caption and tags of an entry; None for one that holds something else."""
        if isinstance(entry, Mapping):
            caption, tags = entry.get("caption"), entry.get("tags")
            if all(map(_is_text, (caption, tags))):
                return caption or "", tags
        self._bad.append(key)
        return None

    def place(self, key: str, image_dir: Path | None) -> Path | None:
        """Where an image lies. sd-scripts' own tools leave the extension out, and its trainer then finds nothing."""
        if image_dir is None and not os.path.isabs(key):
            self._homeless.append(key)
            return None
        path = Path(os.path.join(image_dir or "", key))
        try:
            if path.is_file():
                return path
            if not self._as_there:
                beside = (path.with_name(path.name + ending) for ending in _ENDINGS)
                if named := next((one for one in beside if one.is_file()), None):
                    return named
        except (OSError, ValueError):  # a name that no file can have
            pass
        self._missing.append(key)
        return None

    def image(self, path: Path, caption: str, told: Any, *, upright: bool) -> None:
        """told: image_size, by which sd-scripts chooses the bucket."""
        try:
            record = read_record(path, upright=upright)
        except BadImage as error:
            self.unreadable.append(path)
            self._not_read(path, str(error), error.fault)
            return
        if record.fault:
            self._not_read(path, record.fault, "damaged")
        if told is not None and list(record.size) != told:
            self._other_size.append(path.name)
            if self._as_there and _is_size(told):
                record = replace(record, stored_width=told[0], stored_height=told[1], orientation=1)
        if not caption.strip():
            self._silent.append(path.name)
        self.records.append(replace(record, caption=caption))

    def _not_read(self, path: Path, what: str, fault: str) -> None:
        self._problems.append(as_shown(faults.before_training(faults.of_image(str(path), fault, what))))

    def told(self, count: int) -> tuple[Problem, ...]:
        """One sentence for all entries with the same fault."""
        by = "sd-scripts chooses the bucket by it" if self._as_there else "their own size is taken"
        w = self._where
        size = f"have another size than image_size says; {by}"
        silent = "have neither caption nor tags: trained with no caption"
        sentences = (
            (self._bad, Problem(w, "hold no caption or tags as text", _ENTRY, "bad_metadata")),
            (self._homeless, Problem(w, "lie below a folder that is not given", _FOLDER, "metadata_without_folder")),
            (self._missing, Problem(w, "name an image that is not there", _NAMES, "metadata_image_missing")),
            (self._silent, Problem(w, silent, "write them", "missing_caption", "warning")),
            (self._other_size, Problem(w, size, "correct it, or take it out", "image_size", "warning")),
        )
        for names, problem in sentences:
            if names:
                what = f"{len(names)} of {count} entries {problem.what}: {_named(names)}"
                self._problems.append(replace(problem, what=what))
        if not count:
            what = "it holds no images"
            self._problems.append(Problem(self._where, what, "name a metadata file", "empty_subset", "warning"))
        return tuple(self._problems)


_ENDINGS = (*EXTENSIONS, *(ending.upper() for ending in EXTENSIONS))
_ENTRY = 'write {"caption": "…", "tags": "…"}'
_FOLDER = "set train_data_dir, or image_dir of the subset, to the folder of the images"
_NAMES = "write the name with its extension, and set the folder of the images right"


def _is_text(value: Any) -> bool:
    """Nothing, or text that can be written down; half a sign, as JSON's escapes can give, cannot."""
    return value is None or (isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value))


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(shown(name) for name in names[:_NAMED]) + more


def _entries(file: Path) -> dict[str, Any]:
    """The entries by their keys. Raises ConfigError."""
    where = shown(file)
    try:
        text = decode(read_bytes(file, _LARGEST), where).removeprefix("\ufeff")
    except FileNotFoundError:
        problem = Problem(where, "there is no such metadata file", "look at the path", "no_such_file")
        raise ConfigError(problem) from None
    except (OSError, ValueError) as error:
        what = f"the metadata file cannot be read ({getattr(error, 'strerror', None) or error})"
        raise ConfigError(Problem(where, what, "make it readable", "unreadable_file")) from None
    if file.name.endswith(".jsonl"):
        lines = [line for line in text.split("\n") if line.strip()]
        parsed = [(number, _json(line, where, f"line {number}")) for number, line in enumerate(lines, start=1)]
        return dict(_of_line(entry, f"{where}: line {number}") for number, entry in parsed)
    found = _json(text, where)
    if not isinstance(found, dict):
        what = f"holds {shorten(found)}, but a metadata file is a table of images"
        raise ConfigError(Problem(where, what, "name the metadata file", "bad_metadata"))
    return found


def _json(text: str, where: str, place: str = "") -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = place or f"line {error.lineno}"
        what = f"{place}, column {error.colno}: is not valid JSON ({error.msg.lower()})"
        raise ConfigError(Problem(where, what, "mend that place", "bad_json")) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(Problem(where, f"is not valid JSON ({error})", name="bad_json")) from None


def _of_line(entry: Any, where: str) -> tuple[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("image_path"), str):
        what = "names no image"
        raise ConfigError(Problem(where, what, 'write {"image_path": "…", "caption": "…"}', "bad_metadata"))
    return entry["image_path"], entry
