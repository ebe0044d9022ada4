"""File names that collide with each other, or that another system cannot hold."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue, Threshold
from kohyakit.dataset.images import in_odd_case
from kohyakit.dataset.walk import Folder

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def judge(survey: Survey) -> Iterable[Issue]:
    longest = int(survey.limit("name_bytes"))
    for folder in survey.tree.folders:
        yield from _collisions(folder)
        for name in (*folder.images, *folder.texts):
            problem = _problem(name, longest)
            if problem:
                yield Issue(os.path.join(folder.path, name), "unsafe_name", "hint", *problem)
        for name in folder.images:
            if folder.trained and in_odd_case(name):
                extension = os.path.splitext(name)[1]
                yield Issue(
                    os.path.join(folder.path, name), "extension_case", "warning",
                    f"sd-scripts on Linux does not find files that end in {extension}",
                    f"rename it to {extension.lower()}",
                )  # fmt: skip


def _collisions(folder: Folder) -> Iterator[Issue]:
    """Names that are one on Windows and macOS, and images that share captions and latent caches by their stem."""
    same_name, same_stem = defaultdict(list), defaultdict(list)
    for name in folder.names:
        same_name[unicodedata.normalize("NFC", name).casefold()].append(name)
    for name in folder.images:
        same_stem[os.path.splitext(name)[0]].append(name)
    for names in same_name.values():
        for name in sorted(names)[1:]:
            detail = f"differs from {sorted(names)[0]} only in case or in how accents are written"
            yield Issue(
                os.path.join(folder.path, name), "name_collision", "warning", detail,
                "rename one: Windows and macOS hold only one of the two",
            )  # fmt: skip
    for names in same_stem.values():
        for name in names[1:]:
            yield Issue(
                os.path.join(folder.path, name), "same_stem", "warning",
                f"differs from {names[0]} only in the extension, so both share one caption and one latent cache",
                "rename one of the two, with its caption",
            )  # fmt: skip


def _problem(name: str, longest: int) -> tuple[str, str] | None:
    """(what is wrong with a name elsewhere, what to do)."""
    if _RESERVED.match(name):
        return "is a reserved name on Windows", "rename it"
    found = _FORBIDDEN.search(name)
    if found:
        shown = found[0] if found[0].isprintable() else f"a control character ({found[0]!r})"
        return f"holds {shown}, which Windows does not allow", "rename it"
    if name != name.rstrip(". "):
        return "ends in a dot or a blank, which Windows takes off", "rename it"
    if len(name.encode("utf-8", "surrogateescape")) > longest:
        return f"is longer than {longest} bytes, so a longer extension (.npz, .caption) may not fit", "shorten it"
    return None


CHECK = Check(
    issues={
        "name_collision": "names that are one elsewhere",
        "same_stem": "two images with one name",
        "unsafe_name": "name that another system refuses",
        "extension_case": "extension in mixed case",
    },
    judge=judge,
    quick=True,
    thresholds=(Threshold("name_bytes", 240, "bytes above which a name is long"),),
)
