"""Captions taken over from what pictures and files beside them say: seen first, then written like any other edit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kohyakit.dataset.captions.bulk import Preview
from kohyakit.dataset.captions.caption import has_words
from kohyakit.dataset.captions.compose import Rules, compose
from kohyakit.dataset.editing import captions as edit
from kohyakit.dataset.editing.captions import CaptionFile, Edit
from kohyakit.dataset.metadata import exif, iptc, xmp
from kohyakit.dataset.metadata.blocks import Blocks, read_blocks
from kohyakit.dataset.metadata.sidecars import Metadata, Reading, beside, read_beside, told_by
from kohyakit.dataset.metadata.told import Told, Unfit, prompt_in, told
from kohyakit.errors import Problem
from kohyakit.files import read_bytes

SOURCES = ("json", "xmp", "iptc", "exif", "text")
"""Where a caption is looked for, in this order: JSON beside the picture, XMP in it or beside it, IPTC, EXIF, texts."""
METADATA = "metadata"  # the one file for all
_TEXTS = ("description", "caption", "parameters", "comment", "invokeai_metadata")
_WORKFLOWS = ("workflow", "prompt")
_XMP_MOST = 4 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """sources: of SOURCES, the first that says something counts. metadata: one file for all, asked before them.

    mode: of compose.MODES. reading: of JSON.
    """

    sources: tuple[str, ...] = SOURCES
    mode: str = "skip"
    metadata: Metadata | None = None
    reading: Reading = field(default_factory=Reading)


@dataclass(slots=True)
class Taken:
    """preview: what would be written. by: how many captions each source gave. kept: those that were there already.

    silent: pictures of which nothing is said. unknown: names in the metadata file that no picture was asked for.
    """

    preview: Preview
    by: Counter[str]
    kept: int
    silent: int
    unknown: tuple[str, ...] = ()


def preview_import(folder: Path, files: Iterable[CaptionFile], asked: Asked) -> Taken:
    """What an import would write; nothing is written. A picture whose metadata cannot be read is left and named.

    files: one for each picture; of two that share a caption file the first that says something counts.
    """
    edits: list[Edit] = []
    written: set[Path] = set()
    left: list[Problem] = []
    by: Counter[str] = Counter()
    looked = kept = silent = 0
    for file in files:
        looked += 1
        if file.path in written:
            continue
        if file.problem:
            left.append(Problem(file.path.name, file.problem, severity="warning"))
        elif asked.mode == "skip" and has_words(file.text):
            kept += 1
        else:
            source, said, problem = _found(folder, file.image, asked)
            silent += not said and problem is None
            by[source] += bool(said)
            if problem is not None:
                left.append(problem)
            elif said and (made := edit.rewritten(file, _composed(file.text, said.text, asked.mode))) is not None:
                edits.append(made)
                written.add(file.path)
    unknown = tuple(asked.metadata.untaken()) if asked.metadata is not None else ()
    return Taken(Preview(tuple(edits), looked, tuple(left)), +by, kept, silent, unknown)


def _composed(old: str, said: str, mode: str) -> str:
    """Each line of a caption file is a caption; what replaces one, or stands first in a file, is taken as it is."""
    if mode in ("append", "prepend") and has_words(old):
        return edit.each_line(lambda line: compose(line, said, Rules(mode)))(old)
    return said


def _found(folder: Path, image: Path, asked: Asked) -> tuple[str, Told, Problem | None]:
    """(source, what it says, why nothing could be read). What one source holds and is no caption, another may make up
    for.
    """
    reason = ""
    for source, look in _looks(folder, image, asked):
        try:
            if said := look():
                return source, said, None
        except Unfit as error:
            reason = reason or str(error)
        except OSError as error:
            reason = reason or f"cannot be read ({error.strerror or error})"
    return "", Told(), Problem(image.name, reason, "", "no_caption_in_it", "warning") if reason else None


def _looks(folder: Path, image: Path, asked: Asked) -> Iterable[tuple[str, Callable[[], Told]]]:
    blocks: list[Blocks] = []

    def inside() -> Blocks:
        if not blocks:
            blocks.append(read_blocks(image))
        return blocks[0]

    known: dict[str, Callable[[], Told]] = {
        "json": lambda: _beside(image, asked.reading),
        "xmp": lambda: xmp.said(_xmp_beside(image)) or xmp.said(inside().xmp),
        "iptc": lambda: iptc.said(inside().iptc),
        "exif": lambda: exif.said(inside().exif),
        "text": lambda: _of_texts(inside().texts),
    }
    all_in_one = asked.metadata
    if all_in_one is not None:
        yield METADATA, lambda: _of_metadata(all_in_one, image, folder, asked.reading)
    for source in asked.sources:
        yield source, known[source]


def _of_metadata(metadata: Metadata, image: Path, folder: Path, reading: Reading) -> Told:
    value = metadata.of(image, folder)
    return Told() if value is None else told_by(value, reading, both=True)


def _beside(image: Path, reading: Reading) -> Told:
    path = beside(image)
    return Told() if path is None else _named(path, lambda: read_beside(path, reading))


def _xmp_beside(image: Path) -> bytes:
    """photo.jpg.xmp, as darktable and digiKam write it, or Lightroom's photo.xmp."""
    for path in (image.with_name(image.name + ".xmp"), image.with_suffix(".xmp")):
        if os.path.lexists(path):
            return read_bytes(path, _XMP_MOST)
    return b""


def _named(path: Path, read: Callable[[], Told]) -> Told:
    """What is wrong with a file beside a picture is said with its name."""
    try:
        return read()
    except Unfit as error:
        raise Unfit(f"its {path.name} {error}") from None
    except OSError as error:
        raise Unfit(f"its {path.name} cannot be read ({error.strerror or error})") from None


def _of_texts(texts: dict[str, str]) -> Told:
    """The first text that is a caption or a prompt; where there is none, what stands there instead is named."""
    reason = ""
    for key in (*_TEXTS, *_WORKFLOWS):
        if key in texts:
            try:
                if said := told(prompt_in(texts[key])):
                    return said
            except Unfit as error:
                reason = reason or str(error)
    if reason:
        raise Unfit(reason)
    return Told()
