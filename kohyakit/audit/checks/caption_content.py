"""Captions that say the same everywhere, or name another folder's subject than their own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue, Threshold

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.look.survey import Survey

_WORD = re.compile(r"\w+")
_COMMAS = re.compile("[，、﹐､]")


def judge(survey: Survey) -> Iterable[Issue]:
    trained = survey.captions[~survey.captions["is_reg"] & (survey.captions["repeats"] > 0)]
    folders = {f.relative.replace(os.sep, "/") or ".": f for f in survey.subset_folders() if not f.is_reg}
    subjects = {name: set(_words(folder.class_tokens or "")) for name, folder in folders.items()}
    for subset, captions in trained.groupby("subset", sort=True):
        folder = folders.get(subset)
        if folder is not None:
            yield from _other_commas(folder.path, captions)
            yield from _same(survey, folder.path, captions)
            yield from _against_folder(survey, folder.path, captions, subset, subjects)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _other_commas(path: str, captions: pd.DataFrame) -> Iterator[Issue]:
    """Signs that look like commas and do not part tags: 、 and ， leave a whole caption one tag."""
    joined = captions[captions["caption"].str.contains(_COMMAS) & ~captions["caption"].str.contains(",", regex=False)]
    if len(joined):
        first = os.path.basename(joined["caption_path"].iloc[0])
        detail = f"{len(joined)} of {len(captions)} captions part their tags with ， or 、 (such as {first})"
        yield Issue(
            path, "other_commas", "hint", detail,
            "to the trainer each is one long tag; put commas in their place if they are meant as tags",
        )  # fmt: skip


def _same(survey: Survey, path: str, captions: pd.DataFrame) -> Iterator[Issue]:
    counts = captions["caption"].value_counts()
    if len(captions) >= survey.limit("same_caption_count") and counts.iloc[0] / len(captions) >= survey.limit(
        "same_caption_share"
    ):
        short = counts.index[0][:60]
        detail = f"{counts.iloc[0]} of {len(captions)} captions are '{short}'"
        yield Issue(
            path, "same_caption", "warning", detail, "say what differs from picture to picture, or leave captions out"
        )


def _against_folder(
    survey: Survey, path: str, captions: pd.DataFrame, subset: str, subjects: dict[str, set[str]]
) -> Iterator[Issue]:
    """A caption that names another subset's subject, or lacks what nearly all others of its own have."""
    mine = subjects[subset]
    if not mine:
        return
    others = {name: words - mine for name, words in subjects.items() if name != subset and words - mine}
    said = [set(_words(text)) for text in captions["caption"]]
    naming = [bool(words & mine) for words in said]
    share = sum(naming) / len(naming)
    subject = " ".join(_words(os.path.basename(path).partition("_")[2]))
    if not any(naming) and len(naming) >= survey.limit("same_caption_count"):
        detail = f"no caption names '{subject}', and with captions the folder's name is not trained"
        yield Issue(
            path,
            "caption_against_folder",
            "hint",
            detail,
            f"put '{subject}' in front of every caption, if it is the trigger",
        )
    for row, words, named in zip(captions.itertuples(), said, naming, strict=True):
        if named:
            continue
        foreign = next((name for name, theirs in others.items() if words >= theirs), None)
        if foreign:
            detail = f"names '{' '.join(sorted(others[foreign]))}' of {foreign}, not '{subject}'"
            yield Issue(
                row.caption_path,
                "caption_against_folder",
                "warning",
                detail,
                "move the picture, or correct the caption",
            )
        elif share >= survey.limit("caption_subject_share"):
            detail = f"does not name '{subject}', as {share:.0%} of the captions beside it do"
            yield Issue(row.caption_path, "caption_against_folder", "hint", detail, f"add '{subject}'")


CHECK = Check(
    issues={
        "same_caption": "the same caption everywhere",
        "other_commas": "signs that look like commas and part no tags",
        "caption_against_folder": "caption and folder disagree",
    },
    judge=judge,
    quick=True,
    thresholds=(
        Threshold("same_caption_count", 5, "captions that a subset must have to be judged as a whole"),
        Threshold("same_caption_share", 0.9, "share of one text from which captions are the same everywhere"),
        Threshold("caption_subject_share", 0.8, "share that names the subject from which the others are named"),
    ),
)
