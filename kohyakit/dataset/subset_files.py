"""The files of one subset folder: images with their headers, captions with their texts, and what is wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kohyakit.dataset import faults
from kohyakit.dataset.captions.caption import BadCaption, read_lines, trained_text
from kohyakit.dataset.captions.pairing import Paired, pair_folder
from kohyakit.dataset.decode.signature import extension_ok, sniff
from kohyakit.dataset.folders import as_shown, listed
from kohyakit.dataset.images import BadImage, ImageRecord, in_odd_case, read_record, shown
from kohyakit.dataset.walk import Folder, subset
from kohyakit.errors import Problem
from kohyakit.files import open_regular

_DEEPEST = 3  # folders below a subset that are looked into; a whole disk may be named by mistake


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
    is_reg: bool = False,
) -> SubsetFiles:
    """Read headers and captions of the images directly in a folder. Never raises; problems say what is wrong.

    class_tokens, enable_wildcard: see caption.trained_text. upright, odd_case: see images. is_reg: regularisation
    images, which need no captions of their own.
    """
    own, *nested = subset(os.fspath(folder), depth=_DEEPEST)
    problems: list[Problem] = []
    if own.fault:
        listed(folder, "correct image_dir", problems)
        return SubsetFiles((), (), tuple(problems))
    problems += _passed_over(own, odd_case)
    for place in (own, *nested):
        problems += map(as_shown, faults.of_folder(place, odd_case=odd_case))
    paired = pair_folder(own, caption_extension)
    records, unreadable = [], []
    for name in own.taken(odd_case=odd_case):
        path = folder / name
        try:
            record = read_record(path, upright=upright)
        except BadImage as error:
            unreadable.append(path)
            problems.append(_not_read(path, str(error), error.fault))
            continue
        if record.fault:
            problems.append(_not_read(path, record.fault, "damaged"))
        caption_path = folder / paired.captions[name] if name in paired.captions else None
        text, wrong = _caption(caption_path, class_tokens, enable_wildcard)
        problems += [as_shown(wrong)] if wrong else []
        records.append(replace(record, caption_path=caption_path, caption=text))
    problems += _misnamed(folder, records)
    without = _without_caption(folder, caption_extension, records, paired, class_tokens)
    problems += _of_regularisation(without) if is_reg else without
    return SubsetFiles(tuple(records), tuple(unreadable), tuple(problems))


def _not_read(path: Path, what: str, fault: str) -> Problem:
    return as_shown(faults.before_training(faults.of_image(str(path), fault, what)))


def _caption(path: Path | None, class_tokens: str | None, wildcards: bool) -> tuple[str, Problem | None]:
    """The text that training starts from, and what is wrong with the file."""
    if path is None:
        return class_tokens or "", None
    try:
        lines = read_lines(path)
    except BadCaption as error:
        return class_tokens or "", faults.of_caption(str(path), str(error))
    wrong = faults.of_text(str(path), "\n".join(lines), all_lines=wildcards)
    return trained_text(lines, enable_wildcard=wildcards), wrong


def _passed_over(folder: Folder, odd_case: bool) -> Iterator[Problem]:
    where = shown(folder.path)
    odd = [name for name in folder.taken() if in_odd_case(name)]
    if odd:
        fate = "trained, but missed by sd-scripts on Linux" if odd_case else "left out, as sd-scripts does"
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        what = f"extension in mixed case: {shown(odd[0])}{more}: {fate}"
        severity = "hint" if odd_case else "warning"
        yield Problem(where, what, "write it all in lower case", "extension_case", severity)
    formats = {path: _format(path) for path in folder.at(folder.left())}
    lying = [path for path, format in formats.items() if not extension_ok(path, format)]
    if lying:
        what = f"{shown(lying[0].name)} is {formats[lying[0]]} inside"
        what += f", and {len(lying) - 1} more are of another format than their names say" if len(lying) > 1 else ""
        cure = "kohyakit repair mends it, caption and all"
        yield Problem(where, f"{what}: not trained under such a name", cure, "extension_mismatch", "warning")
    kinds = Counter(path.suffix.lower() for path in formats if path not in lying)
    if kinds:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        what = f"{counts} not trained: neither we nor sd-scripts take this format"
        yield Problem(where, what, "save as PNG or JPEG", "not_trained", "warning")


def _format(path: Path) -> str | None:
    """By a file's first bytes; None where they tell nothing."""
    try:
        with open_regular(path) as file:
            return sniff(file.read(512))
    except OSError:
        return None


def _misnamed(folder: Path, records: list[ImageRecord]) -> Iterator[Problem]:
    wrong = [record for record in records if not extension_ok(record.path, record.format.upper())]
    if wrong:
        more = f", and {len(wrong) - 1} more are of another format than their names say" if len(wrong) > 1 else ""
        what = f"{shown(wrong[0].path.name)} is {wrong[0].format.upper()} inside{more}; that trains all the same"
        cure = "kohyakit repair mends it, caption and all"
        yield Problem(shown(folder), what, cure, "extension_mismatch", "warning")


def _without_caption(
    folder: Path, extension: str, records: list[ImageRecord], paired: Paired, class_tokens: str | None
) -> Iterator[Problem]:
    """One sentence for all images of a folder whose captions are named wrong, another for those that have none."""
    names = [record.path.name for record in records]
    missing = [name for name in names if name not in paired.captions and name not in paired.misspelt]
    severity, fate = faults.missing_caption(class_tokens, others=any(name in paired.captions for name in names))
    odd = [name for name in names if name in paired.misspelt]
    if odd:
        more = f", and {len(odd) - 1} more like it" if len(odd) > 1 else ""
        what = f"{shown(paired.misspelt[odd[0]][1])}{more}: {fate}"
        cure = "kohyakit repair gives a caption its image's name"
        yield Problem(shown(folder / odd[0]), what, cure, "caption_misspelt", "warning")
    elsewhere = {name: paired.elsewhere[name] for name in missing if name in paired.elsewhere}
    if elsewhere:
        yield _elsewhere(folder, extension, elsewhere, len(missing), fate)
    elif missing and severity != "hint":  # that the folder's name is the caption stands in the plan
        what = f"{len(missing)} of {len(records)} images have no {extension} file: {fate}"
        yield Problem(shown(folder), what, "write them, or let kohyakit caption do it", "missing_caption", severity)


def _of_regularisation(problems: Iterable[Problem]) -> Iterator[Problem]:
    """A caption that is there and not read is worth a word; that there is none is as it should be."""
    return (replace(problem, severity="hint") for problem in problems if problem.name == "caption_misspelt")


def _elsewhere(folder: Path, extension: str, found: dict[str, str], missing: int, fate: str) -> Problem:
    """Captions that are there and not read, for their extension or since they are called `photo.jpg.txt`."""
    endings = Counter(os.path.splitext(name)[1] for name in found.values())
    ending, count = endings.most_common(1)[0]
    if ending != extension:
        what = f"{count} captions end in {ending}, but caption_extension is {extension}: {missing} images are {fate}"
        cure = f"set caption_extension to {ending}"
    else:
        image, name = next(iter(found.items()))
        wanted = os.path.splitext(image)[0] + extension
        what = f"{count} captions are named as {shown(name)}, which is not read: {missing} images are {fate}"
        cure = f"rename them, that one to {shown(wanted)}"
    return Problem(shown(folder), what, cure, "caption_wrong_extension", "warning")
