"""Does not decode, or decodes with damage: the verdict that check and train share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

_ACTIONS = {
    "undecodable": "get it anew; kohyakit repair moves it out of the way",
    "damaged": "look at it and get it anew; kohyakit repair moves it out of the way",
    "too_many_pixels": "shrink it",
    "unreadable": "make it readable, or leave it out",
    "not_a_file": "move it out of the folder",
    "unsupported": "convert it to JPEG or PNG; kohyakit repair does where it can be read",
}


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    for row in images[images["verdict"].notna() & (images["verdict"] != "")].itertuples():
        action = _ACTIONS.get(row.verdict, "look at it")
        if row.verdict == "damaged" and row.verdict_severity == "warning":
            action = "look at it: this is a guess from the picture; get it anew if it is spoiled"
        elif row.verdict_severity == "hint":
            action = "nothing: the picture is whole"
        yield Issue(row.path, row.verdict, row.verdict_severity, row.verdict_detail, action)


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
