"""Captions that are missing, empty, unreadable, under another name, or left over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue
from kohyakit.audit.look.facts import MARKED
from kohyakit.dataset import faults
from kohyakit.errors import Problem

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Problem]:
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


def _faults(survey: Survey) -> Iterator[Problem]:
    images = survey.images[survey.images["caption_path"] != ""]
    for row in images[images["caption_fault"] != ""].itertuples():
        if row.caption_fault == MARKED:
            detail = "begins with a byte order mark, which sd-scripts trains as a sign of the caption"
            yield Issue(row.caption_path, "caption_mark", "hint", detail, "kohyakit repair takes it off")
            continue
        yield faults.of_caption(row.caption_path, row.caption_fault)
    for row in images[images["caption"].notna()].itertuples():
        if said := faults.of_text(row.caption_path, row.caption):
            yield said


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
    images = survey.images[(survey.images["repeats"] > 0) & ~survey.images["is_reg"] & survey.images["width"].notna()]
    some = images.groupby("subset")["caption_path"].agg(lambda paths: (paths != "").any())
    names = {f.relative.replace(os.sep, "/") or ".": f.class_tokens for f in survey.tree.folders}
    from kohyakit.audit.look.survey import printable

    extension, misspelt = survey.pairing.extension, set(map(printable, survey.pairing.misspelt))
    for row in images.loc[images["caption_path"] == "", ["path", "subset"]].itertuples():
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
        severity, fate = faults.missing_caption(names.get(row.subset), others=some[row.subset])
        if survey.tree.kind == "free" and not some[row.subset]:
            severity = "hint"  # nobody has said yet how it is to be trained
        what = f"no {extension} file beside it: {fate}"
        yield Issue(row.path, "missing_caption", severity, what, "write one, or let kohyakit caption do it")


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
