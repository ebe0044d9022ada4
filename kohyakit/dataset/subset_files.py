"""The files of one subset folder: images with their headers, captions with their texts, and what is wrong."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from kohyakit.dataset.caption import BadCaption, find_caption, has_words, misspelt, read_caption
from kohyakit.dataset.decode.signature import extension_ok
from kohyakit.dataset.images import BadImage, FolderListing, ImageRecord, list_folder, read_record, shown
from kohyakit.errors import Problem

_CAPTION_EXTENSIONS = (".txt", ".caption", ".cap", ".wtxt", ".text")


@dataclass(frozen=True, slots=True)
class SubsetFiles:
    """records: images whose headers read, by name. unreadable: the others."""

    records: tuple[ImageRecord, ...]
    unreadable: tuple[Path, ...]
    problems: tuple[Problem, ...]


def read_subset_files(
    folder: Path,
    caption_extension: str,
    *,
    class_tokens: str | None = None,
    enable_wildcard: bool = False,
    upright: bool = True,
    odd_case: bool = True,
) -> SubsetFiles:
    """Read headers and captions of the images directly in a folder. Never raises; problems say what is wrong.

    class_tokens, enable_wildcard: see caption.read_caption. upright, odd_case: see images.
    """
    try:
        listing = list_folder(folder, odd_case=odd_case)
    except (OSError, ValueError) as error:
        what = f"the folder cannot be read ({getattr(error, 'strerror', None) or error})"
        return SubsetFiles((), (), (Problem(shown(folder), what, "correct image_dir", "folder_missing"),))
    problems = list(_passed_over(folder, listing, odd_case))
    records, unreadable = [], []
    for path in listing.images:
        try:
            record = read_record(path, upright=upright)
        except BadImage as error:
            unreadable.append(path)
            problems.append(_unreadable(path, str(error)))
            continue
        if record.fault:
            problems.append(_unreadable(path, record.fault, "image_truncated"))
        caption_path = find_caption(path, caption_extension, listing.names)
        try:
            text = read_caption(caption_path, class_tokens=class_tokens, enable_wildcard=enable_wildcard)
        except BadCaption as error:
            problems.append(Problem(shown(caption_path or path), str(error), name="caption_unreadable"))
            text = class_tokens or ""
        else:
            if caption_path and not has_words(text):
                problems.append(_blank(caption_path, text))
        records.append(replace(record, caption_path=caption_path, caption=text))
    problems.extend(_misnamed(folder, records))
    odd = misspelt((path.name for path in listing.images), listing.names, caption_extension)
    problems.extend(_misspelt(folder, odd, class_tokens))
    others = [record for record in records if record.path.name not in odd]
    problems.extend(_missing_captions(folder, caption_extension, others, listing, class_tokens))
    return SubsetFiles(tuple(records), tuple(unreadable), tuple(problems))


def _unreadable(path: Path, what: str, name: str = "image_unreadable") -> Problem:
    return Problem(shown(path), what, "replace it, or leave it out with --skip-bad-images", name)


def _blank(path: Path, text: str) -> Problem:
    what = "its first line is blank, so the image trains with no caption"
    if text:
        what = "its first line holds no words, only separators, dots or signs that cannot be seen, and trains as it is"
    return Problem(shown(path), what, "write one, or delete the file", "caption_blank", "warning")


def _passed_over(folder: Path, listing: FolderListing, odd_case: bool) -> list[Problem]:
    problems = []
    if not listing.images:
        problems.append(
            Problem(shown(folder), "there are no images directly in it, so it is ignored", "put images in or remove it",
                    "empty_subset", "warning")
        )  # fmt: skip
    if listing.odd_case:
        fate = "trained, but missed by sd-scripts on Linux" if odd_case else "left out, as sd-scripts does"
        what = f"extension in mixed case: {shown(listing.odd_case[0].name)}"
        what += f" and {len(listing.odd_case) - 1} more" if len(listing.odd_case) > 1 else ""
        problems.append(
            Problem(shown(folder), f"{what}: {fate}", "write it all in lower case", "extension_case",
                    "hint" if odd_case else "warning")
        )  # fmt: skip
    if listing.unread:
        kinds = Counter(os.path.splitext(path.name)[1].lower() for path in listing.unread)
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        problems.append(
            Problem(shown(folder), f"{what} not trained: neither we nor sd-scripts take this format",
                    "save as PNG or JPEG", "format_not_read", "warning")
        )  # fmt: skip
    for inner in listing.folders:
        try:
            count = len(list_folder(inner).images)
        except OSError:
            continue
        if count:
            problems.append(
                Problem(shown(inner), f"{count} images in a folder inside a subset folder are not trained",
                        f"move them up into {shown(folder.name)}", "nested_folder", "warning")
            )  # fmt: skip
    return problems


def _misspelt(folder: Path, odd: dict[str, tuple[str, str]], class_tokens: str | None) -> list[Problem]:
    """One sentence for all captions of a folder whose names differ from their image's unseen."""
    if not odd:
        return []
    image = min(odd)
    more = f", and {len(odd) - 1} more like it" if len(odd) > 1 else ""
    instead = f"the caption '{class_tokens}'" if class_tokens else "no caption at all"
    what = f"{shown(odd[image][1])}{more}: trained with {instead}"
    cure = "kohyakit repair gives a caption its image's name"
    return [Problem(shown(folder / image), what, cure, "caption_misspelt", "warning")]


def _misnamed(folder: Path, records: list[ImageRecord]) -> list[Problem]:
    wrong = [record for record in records if not extension_ok(record.path, record.format.upper())]
    if not wrong:
        return []
    more = f", and {len(wrong) - 1} more are of another format than their names say" if len(wrong) > 1 else ""
    what = f"{shown(wrong[0].path.name)} is {wrong[0].format.upper()} inside{more}; that trains all the same"
    return [Problem(shown(folder), what, "kohyakit repair mends it, caption and all", "extension_mismatch", "warning")]


def _missing_captions(
    folder: Path, extension: str, records: list[ImageRecord], listing: FolderListing, class_tokens: str | None
) -> list[Problem]:
    missing = [record for record in records if record.caption_path is None]
    if not missing:
        return []
    instead = f"the caption '{class_tokens}'" if class_tokens else "no caption at all"
    for other in _CAPTION_EXTENSIONS:
        there = sum(record.path.stem + other in listing.names for record in missing) if other != extension else 0
        if there:
            return [
                Problem(
                    shown(folder),
                    f"{there} captions end in {other}, but caption_extension is {extension}: "
                    f"{len(missing)} images train with {instead}",
                    f"set caption_extension to {other}",
                    "caption_extension",
                    "warning",
                )
            ]
    if len(missing) == len(records) and class_tokens:
        return []
    what = f"{len(missing)} of {len(records)} images have no {extension} file and train with {instead}"
    return [Problem(shown(folder), what, "", "captions_missing", "hint" if class_tokens else "warning")]
