"""What is said about a group of duplicates, exact or near."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kohyakit.audit.check import Issue

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from kohyakit.audit.look.survey import Survey


_FADED = 0.85  # of the strongest contrast in a group, below which a copy counts as faded; squared, as twice so
_WASHED_OUT = 0.03  # more pure white than the copy that has least
_SOFT = 0.33  # sharpness below which a picture is blurred, see checks/blur
_AS_LARGE = 0.5  # of the most pixels: copies of about one size are judged by how they look, others by size alone


class Member(NamedTuple):
    """An image of a group. row: its place in the images frame. shown: (width, height) upright, zeros if unknown.

    whole: it decodes without damage. contrast: see likeness.contrast_of. blown: its share of pure white, sharpness:
    see checks/blur; NaN where it was not measured.
    """

    row: int
    path: str
    subset: str
    is_reg: bool
    captioned: bool
    orientation: int
    file_size: int
    digest: str
    shown: tuple[int, int]
    whole: bool = True
    colour: bool = True
    contrast: float = float("nan")
    blown: float = float("nan")
    sharpness: float = float("nan")

    @property
    def pixels(self) -> int:
        return self.shown[0] * self.shown[1]


def members_of(
    images: pd.DataFrame, rows: Iterable[int], contrast: Sequence[float] | np.ndarray | None = None
) -> list[Member]:
    """The images at these places of the frame, the copy to keep first (see best_first). contrast: of every image."""
    rows = list(rows)
    some = images.iloc[rows]
    sides = (some[name].fillna(0).astype(int).tolist() for name in ("shown_width", "shown_height"))

    import pandas as pd

    def measured(name: str) -> pd.Series:
        return some[name].astype(float) if name in some else unknown

    unknown = pd.Series(float("nan"), some.index)
    contrasts = unknown if contrast is None else [float(contrast[row]) for row in rows]
    members = map(
        Member, some.index.tolist(), some["path"], some["subset"], some["is_reg"], some["caption_path"] != "",
        some["orientation"].tolist(), some["file_size"].fillna(0).astype(int).tolist(), some["digest"],
        zip(*sides, strict=True), ~some["verdict_severity"].isin(["error", "warning"]),
        ~some["mode"].isin(["1", "L", "LA", "I;16", "I"]), contrasts, measured("blown"), measured("sharpness"),
    )  # fmt: skip
    return best_first(members)


def best_first(members: Iterable[Member]) -> list[Member]:
    """The copies of one picture, the one to keep first: trained before regularisation, whole, about the largest, not
    spoiled (faded, washed out, blurred, without its colours) where another is not, then the most pixels, with a
    caption, not turned by EXIF, the largest file.
    """
    members = list(members)
    most = max((one.pixels for one in members), default=0)
    known = [one for one in members if one.whole and one.pixels >= _AS_LARGE * most]
    white = min((one.blown for one in known if one.blown == one.blown), default=0.0) + _WASHED_OUT
    strongest = max((one.contrast for one in known if one.contrast > 0 and not one.blown > white), default=1.0)

    def spoiled(one: Member) -> int:
        faded = int(math.log(strongest / one.contrast, 1 / _FADED)) if 0 < one.contrast < strongest else 0
        return faded + (one.blown > white) + (one.sharpness < _SOFT) + (not one.colour)

    return sorted(
        members,
        key=lambda one: (
            one.is_reg, not one.whole, one.pixels < _AS_LARGE * most, spoiled(one), -one.pixels, not one.captioned,
            one.orientation != 1, -one.file_size, one.path,
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
