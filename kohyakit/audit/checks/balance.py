"""Balance: how often an epoch shows each subset, and the repeats that would even them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue, Threshold

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    folders = [f for f in survey.subset_folders() if not f.is_reg and f.repeats > 0 and f.images]
    if len(folders) < 2 or survey.tree.kind == "free":
        return
    shown = {folder.path: len(folder.images) * folder.repeats for folder in folders}
    ratio = max(shown.values()) / min(shown.values())
    if ratio < survey.limit("balance_ratio"):
        return
    even = even_repeats([len(f.images) for f in folders], [f.repeats for f in folders])
    for folder, repeats in zip(folders, even, strict=True):
        if repeats != folder.repeats:
            yield Issue(
                folder.path,
                "unbalanced",
                "hint",
                f"{len(folder.images)} images x {folder.repeats} = {shown[folder.path]} samples an epoch, "
                f"of {min(shown.values())} to {max(shown.values())} in the subsets",
                f"repeats of {repeats} would even it: rename it to {repeats}_{folder.class_tokens}",
            )


def even_repeats(images: list[int], repeats: list[int]) -> list[int]:
    """Repeats that show every subset about equally often: the largest set keeps what it has, or at least 1."""
    largest = max(range(len(images)), key=images.__getitem__)
    target = images[largest] * max(1, min(repeats[largest], min(repeats)))
    return [max(1, round(target / count)) for count in images]


CHECK = Check(
    issues={"unbalanced": "subsets of unequal weight"},
    judge=judge,
    quick=True,
    thresholds=(Threshold("balance_ratio", 3, "most over fewest samples an epoch from which subsets are unbalanced"),),
)
