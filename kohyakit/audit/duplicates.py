"""What is said about a group of duplicates, exact or near."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kohyakit.audit.check import Issue

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.survey import Survey


class Member(NamedTuple):
    """An image of a group. row: its place in the images frame. shown: (width, height) upright, zeros if unknown."""

    row: int
    path: str
    subset: str
    is_reg: bool
    captioned: bool
    orientation: int
    file_size: int
    digest: str
    shown: tuple[int, int]


def members_of(images: pd.DataFrame, rows: Iterable[int]) -> list[Member]:
    """The images at these places of the frame, the copy to keep first: trained before regularisation, the most pixels,
    with a caption, not turned by EXIF, the largest file.
    """
    some = images.iloc[list(rows)]
    sides = (some[name].fillna(0).astype(int).tolist() for name in ("shown_width", "shown_height"))
    members = map(
        Member, some.index.tolist(), some["path"], some["subset"], some["is_reg"], some["caption_path"] != "",
        some["orientation"].tolist(), some["file_size"].fillna(0).astype(int).tolist(), some["digest"],
        zip(*sides, strict=True),
    )  # fmt: skip
    return best_first(members)


def best_first(members: Iterable[Member]) -> list[Member]:
    return sorted(
        members,
        key=lambda one: (
            one.is_reg, -one.shown[0] * one.shown[1], not one.captioned, one.orientation != 1, -one.file_size, one.path
        ),
    )  # fmt: skip


def group_issues(
    survey: Survey, name: str, group: str, members: Sequence[Member], notes: Sequence[str]
) -> Iterator[Issue]:
    """Rows for all members: a hint on the one to keep (first), a warning on each other with its note.

    A further row says where a copy lies in another subset or in regularisation; of near duplicates, copies of one
    file have theirs already.
    """
    keep, digests = members[0], {members[0].digest}
    shown = _below(survey, keep.path)
    copies = len(members) - 1
    yield Issue(
        keep.path,
        name,
        "hint",
        f"the best of {copies + 1}; {copies} cop{'y' if copies == 1 else 'ies'} found",
        "keep this one",
        group,
    )
    for note, one in zip(notes, members[1:], strict=True):
        yield Issue(
            one.path,
            name,
            "warning",
            f"{note} {shown}",
            "leave it out, or raise the repeats of the subset instead",
            group,
        )
        if name == "near_duplicate" and one.digest in digests:
            continue
        digests.add(one.digest)
        if one.is_reg != keep.is_reg:
            yield Issue(
                one.path,
                "duplicate_in_regularisation",
                "warning",
                f"also trained, as {shown}",
                "take it out of the regularisation images: it works against the training",
                group,
            )
        elif one.subset != keep.subset:
            yield Issue(
                one.path,
                "duplicate_across_subsets",
                "hint",
                f"in {one.subset} and, as {shown}, in {keep.subset}",
                "keep it in one of the two, unless its captions differ on purpose",
                group,
            )


def _below(survey: Survey, path: str) -> str:
    import os

    try:
        return os.path.relpath(path, survey.tree.root)
    except ValueError:  # another drive
        return path
