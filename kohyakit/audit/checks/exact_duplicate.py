"""Exact duplicates: files with the same bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue
from kohyakit.audit.duplicates import best_first, group_issues

if TYPE_CHECKING:
    from kohyakit.audit.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images[survey.images["digest"] != ""]
    copied = images[images.duplicated("digest", keep=False)]
    for number, (_, members) in enumerate(copied.groupby("digest", sort=False), start=1):
        members = best_first(members)
        notes = ["the same file as"] * (len(members) - 1)
        yield from group_issues(survey, "exact_duplicate", f"exact-{number}", members, notes)


CHECK = Check(
    issues={
        "exact_duplicate": "the same file twice",
        "duplicate_across_subsets": "the same picture in two subsets",
        "duplicate_in_regularisation": "trained and in regularisation",
    },
    judge=judge,
)
