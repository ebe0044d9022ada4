"""EXIF orientation other than 1: shown upright by viewers, trained as stored by sd-scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue, rows_where

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

# What the stored picture looks like to a trainer that ignores the tag.
STORED_AS = {
    2: "mirrored",
    3: "upside down",
    4: "upside down and mirrored",
    5: "on its side and mirrored",
    6: "on its side",
    7: "on its side and mirrored",
    8: "on its side",
}


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    if survey.settings.upright:
        fate = "kohyakit trains it as meant, sd-scripts as stored"
    else:
        fate = "this is how it is trained"
    for row in rows_where(images["orientation"] != 1, images):
        detail = f"stored {STORED_AS[row.orientation]} (EXIF orientation {row.orientation}); {fate}"
        yield Issue(row.path, "exif_orientation", "warning", detail, "turn it for good: kohyakit repair")


CHECK = Check(issues={"exif_orientation": "upright only by its EXIF tag"}, judge=judge, quick=True)
