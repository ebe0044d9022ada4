"""Exact duplicates: files with the same bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kohyakit.audit.alike.duplicates import Member, group_issues, members_of
from kohyakit.audit.check import Check, Issue

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    copied = images.index[(images["digest"] != "") & images.duplicated("digest", keep=False)]
    groups: dict[str, list[Member]] = {}
    for member in members_of(images, copied):
        groups.setdefault(member.digest, []).append(member)
    in_order = sorted(groups.values(), key=lambda members: min(member.row for member in members))
    for number, members in enumerate(in_order, start=1):
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
