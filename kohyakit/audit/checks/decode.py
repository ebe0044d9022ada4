"""Does not decode, or decodes with damage: the verdict that check and train share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check
from kohyakit.dataset import faults
from kohyakit.errors import Problem

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Problem]:
    images = survey.images
    for row in images[images["verdict"].notna() & (images["verdict"] != "")].itertuples():
        yield faults.of_image(row.path, row.verdict, row.verdict_detail, row.verdict_severity)


CHECK = Check(
    issues={
        "undecodable": "does not decode",
        "damaged": "decodes with damage",
        "too_many_pixels": "too many pixels to be safe",
        "unreadable": "cannot be read",
        "not_a_file": "not a file",
        "unsupported": "a kind of image that is not trained",
        "trailing_data": "bytes after the image's end",
        "odd_markers": "stray bytes in the header",
    },
    judge=judge,
    quick=True,
)
