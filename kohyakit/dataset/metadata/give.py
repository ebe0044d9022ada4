"""Captions given away as JSON: a file beside each picture, or one for all of them as sd-scripts reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kohyakit.dataset.captions.bulk import Preview
from kohyakit.dataset.captions.caption import has_words
from kohyakit.dataset.editing.captions import CaptionFile, Edit
from kohyakit.dataset.metadata.told import Unfit
from kohyakit.errors import DatasetError, Problem
from kohyakit.files import is_link, read_bytes, write_text


def preview_sidecars(files: Iterable[CaptionFile]) -> Preview:
    """The captions as `photo.jpg.json`; of one that is there already only its caption is set. Edits as any other."""
    edits, left, looked = [], [], 0
    for file in files:
        looked += 1
        try:
            if file.problem:
                raise Unfit(file.problem)
            made = _sidecar(file) if has_words(file.text) else None
        except (Unfit, OSError) as error:
            reason = str(error) if isinstance(error, Unfit) else f"cannot be read ({error.strerror or error})"
            left.append(Problem(file.image.name, reason, "", "cannot_be_given", "warning"))
            continue
        edits += [made] if made is not None and made.old != made.new else []
    return Preview(tuple(edits), looked, tuple(left))


def _sidecar(file: CaptionFile) -> Edit:
    path = file.image.with_name(file.image.name + ".json")
    if is_link(path):
        raise Unfit(f"has {path.name}, which is a link")
    old = read_bytes(path) if path.exists() else None
    try:
        data = {} if old is None else json.loads(old.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Unfit(f"has {path.name}, which is no JSON object")
    if data.get("caption") == file.text.strip():
        return Edit(path, old, old)
    data["caption"] = file.text.strip()
    return Edit(path, old, json.dumps(data, ensure_ascii=False, indent=2).encode("utf-8", "surrogatepass") + b"\n")


def metadata_of(folder: Path, files: Iterable[CaptionFile]) -> Iterator[tuple[str, dict[str, str]]]:
    """(a picture's path below the folder, its caption), as sd-scripts' `in_json` wants them beside an image_dir."""
    for file in files:
        if not file.problem and has_words(file.text):
            yield file.image.relative_to(folder).as_posix(), {"caption": file.text.strip()}


def write_metadata(path: Path, captions: Iterable[tuple[str, dict[str, str]]]) -> int:
    """Write them as one JSON file; how many. Raises DatasetError for a file that is there, or cannot be written."""
    found = dict(captions)
    if os.path.lexists(path):
        raise DatasetError(Problem(str(path), "is there already and is not written over", "name another file"))
    try:
        write_text(path, json.dumps(found, ensure_ascii=False, indent=2) + "\n", errors="surrogatepass")
    except OSError as error:
        what, cure = f"cannot be written ({error.strerror or error})", "name a file in a folder that exists"
        raise DatasetError(Problem(str(path), what, cure)) from None
    return len(found)
