"""Captions that are missing, empty, unreadable, under another name, or left over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue

if TYPE_CHECKING:
    from kohyakit.audit.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    yield from _faults(survey)
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
        if "UTF" in row.caption_fault:
            name, action = "caption_not_utf8", "save it as UTF-8: sd-scripts stops at it"
        elif "empty" in row.caption_fault:
            name, action = "empty_caption", "write the caption, or delete the file: sd-scripts stops at it"
        else:
            name, action = "caption_unreadable", "make it readable"
        yield Issue(row.caption_path, name, "error", row.caption_fault.split(";")[0], action)
    for row in images[images["caption"].str.strip() == ""].itertuples():
        yield Issue(row.caption_path, "empty_caption", "warning", "it holds only blanks", "write the caption")
    later = images["caption"].str.contains(r"^[ \t]*\n.*\S", regex=True, na=False)
    for row in images[later].itertuples():
        detail = "its first line is blank, and only the first line is trained"
        yield Issue(row.caption_path, "empty_caption", "warning", detail, "move the caption to the first line")


def _missing(survey: Survey) -> Iterator[Issue]:
    """A warning where others of the subset have captions, else a hint: the folder's name is the caption then."""
    images = survey.images[(survey.images["repeats"] > 0) & ~survey.images["is_reg"]]
    some = images.groupby("subset")["caption_path"].agg(lambda paths: (paths != "").any())
    names = {f.relative.replace(os.sep, "/") or ".": f.class_tokens for f in survey.tree.folders}
    extension = survey.pairing.extension
    for row in images.loc[images["caption_path"] == "", ["path", "subset"]].itertuples():
        other = survey.pairing.elsewhere.get(row.path)
        if other:
            yield Issue(
                other,
                "caption_wrong_extension",
                "warning",
                f"captions end in {extension} here, so it is not read",
                f"rename it to {os.path.splitext(os.path.basename(row.path))[0]}{extension}, or set caption_extension",
            )
        tokens = names.get(row.subset)
        without = f"so it is trained as '{tokens}'" if tokens else "so it is trained without a caption"
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
        "caption_wrong_extension": "caption under another extension",
        "orphaned_caption": "caption without an image",
    },
    judge=judge,
    quick=True,
)
