"""Captions that are missing, empty, unreadable, under another name, or left over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue
from kohyakit.audit.look.opening import MARKED
from kohyakit.dataset.caption import has_words

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    yield from _faults(survey)
    yield from _misspelt(survey)
    yield from _missing(survey)
    for path in survey.pairing.orphans:
        yield Issue(
            path,
            "orphaned_caption",
            "hint",
            "a caption without an image of that name",
            "rename it to its image's name, or delete it",
        )


def _faults(survey: Survey) -> Iterator[Issue]:
    images = survey.images[survey.images["caption_path"] != ""]
    for row in images[images["caption_fault"] != ""].itertuples():
        detail, _, cure = row.caption_fault.partition("; ")
        if row.caption_fault == MARKED:
            detail = "begins with a byte order mark, which sd-scripts trains as a sign of the caption"
            yield Issue(row.caption_path, "caption_mark", "hint", detail, "kohyakit repair takes it off")
            continue
        if "empty" in detail:
            name, action = "empty_caption", "write the caption, or delete the file: sd-scripts stops at it"
        elif "UTF" in detail or "NUL" in detail or "encoding" in detail:
            name, action = "caption_not_utf8", f"{cure}; sd-scripts stops at it or trains other signs"
        else:
            name, action = "caption_unreadable", cure or "make it readable"
        yield Issue(row.caption_path, name, "error", detail, action)
    texts = images[images["caption"].notna()]
    for row in texts[[not has_words(text) for text in texts["caption"]]].itertuples():
        detail = "it holds only blanks" if not row.caption.strip() else "it holds no words, only separators or dots"
        if row.caption.strip() and not any(map(str.isprintable, row.caption.strip())):
            detail = "it holds no words, only signs that cannot be seen"
        yield Issue(row.caption_path, "empty_caption", "warning", detail, "write the caption")
    for row in texts.itertuples():
        first, _, rest = row.caption.partition("\n")
        if not has_words(first) and has_words(rest):
            detail = "its first line is blank, and only the first line is trained"
            yield Issue(row.caption_path, "empty_caption", "warning", detail, "move the caption to the first line")


def _misspelt(survey: Survey) -> Iterator[Issue]:
    """A warning where the caption would be trained, else a hint."""
    from kohyakit.audit.look.survey import printable

    images = survey.images
    trained = set(images["path"][(images["repeats"] > 0) & ~images["is_reg"]])
    for image, (_, why) in survey.pairing.misspelt.items():
        stem = os.path.splitext(os.path.basename(image))[0]
        severity = "warning" if printable(image) in trained else "hint"
        action = f"kohyakit repair renames it to {stem}{survey.pairing.extension}"
        yield Issue(image, "caption_misspelt", severity, printable(f"{why}, so it is not read"), printable(action))


def _missing(survey: Survey) -> Iterator[Issue]:
    """A warning where others of the subset have captions, else a hint: the folder's name is the caption then."""
    images = survey.images[(survey.images["repeats"] > 0) & ~survey.images["is_reg"]]
    some = images.groupby("subset")["caption_path"].agg(lambda paths: (paths != "").any())
    names = {f.relative.replace(os.sep, "/") or ".": f.class_tokens for f in survey.tree.folders}
    from kohyakit.audit.look.survey import printable

    extension, misspelt = survey.pairing.extension, set(map(printable, survey.pairing.misspelt))
    for row in images.loc[images["caption_path"] == "", ["path", "subset"]].itertuples():
        tokens = names.get(row.subset)
        without = f"so it is trained as '{tokens}'" if tokens else "so it is trained without a caption"
        stem = os.path.splitext(os.path.basename(row.path))[0]
        if row.path in misspelt:
            continue
        other = survey.pairing.elsewhere.get(row.path)
        if other:
            yield Issue(
                other,
                "caption_wrong_extension",
                "warning",
                f"captions end in {extension} here, so it is not read",
                f"rename it to {stem}{extension}, or set caption_extension",
            )
        yield Issue(
            row.path,
            "missing_caption",
            "warning" if some[row.subset] else "hint",
            f"no {extension} file beside it, {without}",
            "write one, or let a captioner do it",
        )


CHECK = Check(
    issues={
        "missing_caption": "no caption",
        "empty_caption": "empty caption",
        "caption_not_utf8": "caption not in UTF-8",
        "caption_unreadable": "caption cannot be read",
        "caption_mark": "caption with a byte order mark",
        "caption_misspelt": "caption whose name differs unseen",
        "caption_wrong_extension": "caption under another extension",
        "orphaned_caption": "caption without an image",
    },
    judge=judge,
    quick=True,
)
