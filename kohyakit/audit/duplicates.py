"""What is said about a group of duplicates, exact or near."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kohyakit.audit.check import Issue

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.survey import Survey


def best_first(members: pd.DataFrame) -> pd.DataFrame:
    """The copy to keep first: trained before regularisation, the most pixels, with a caption, the largest file."""
    area = (members["width"].astype("Float64") * members["height"].astype("Float64")).fillna(0)
    keyed = members.assign(_area=area, _caption=members["caption_path"] != "", _turned=members["orientation"] != 1)
    order = keyed.sort_values(
        ["is_reg", "_area", "_caption", "_turned", "file_size", "path"],
        ascending=[True, False, False, True, False, True],
    ).index
    return members.loc[order]


def group_issues(survey: Survey, name: str, group: str, members: pd.DataFrame, notes: Sequence[str]) -> Iterator[Issue]:
    """Rows for all members: a hint on the one to keep (first), a warning on each other with its note.

    A further row says where a copy lies in another subset or in regularisation; of near duplicates, copies of one
    file have theirs already.
    """
    said_before = members.duplicated("digest") if name == "near_duplicate" else members["digest"] != members["digest"]
    keep = members.iloc[0]
    shown = _below(survey, keep["path"])
    copies = len(members) - 1
    yield Issue(
        keep["path"],
        name,
        "hint",
        f"the best of {copies + 1}; {copies} cop{'y' if copies == 1 else 'ies'} found",
        "keep this one",
        group,
    )
    for note, (_, row) in zip(notes, members.iloc[1:].iterrows(), strict=True):
        yield Issue(
            row["path"],
            name,
            "warning",
            f"{note} {shown}",
            "leave it out, or raise the repeats of the subset instead",
            group,
        )
        if said_before[row.name]:
            continue
        if row["is_reg"] != keep["is_reg"]:
            yield Issue(
                row["path"],
                "duplicate_in_regularisation",
                "warning",
                f"also trained, as {shown}",
                "take it out of the regularisation images: it works against the training",
                group,
            )
        elif row["subset"] != keep["subset"]:
            yield Issue(
                row["path"],
                "duplicate_across_subsets",
                "hint",
                f"in {row['subset']} and, as {shown}, in {keep['subset']}",
                "keep it in one of the two, unless its captions differ on purpose",
                group,
            )


def _below(survey: Survey, path: str) -> str:
    import os

    try:
        return os.path.relpath(path, survey.tree.root)
    except ValueError:  # another drive
        return path
