"""Near duplicates: the same picture resized, recompressed, mirrored, turned, slightly cropped, brightened.

Hashes propose pairs, a comparison of the aligned sketches decides (see audit/likeness.py). Pictures with hardly any
detail are left out: all of them look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit import likeness
from kohyakit.audit.check import Check, Issue, Threshold
from kohyakit.audit.duplicates import best_first, group_issues
from kohyakit.audit.neighbours import same_picture_groups

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    if survey.sketches is None:
        return
    images, sketches = survey.images, survey.sketches
    telling = likeness.contrast_of(sketches) >= survey.limit("near_duplicate_contrast")
    digest = images["digest"]
    first = ~digest.duplicated() & telling & (digest != "")
    rows = np.flatnonzero(first.to_numpy())
    groups = same_picture_groups(
        sketches, int(survey.limit("near_duplicate_distance")), survey.limit("near_duplicate_agreement"), rows=rows
    )
    twins = images.groupby(digest).indices  # digest -> positions of the same file
    for number, group in enumerate(groups, start=1):
        positions = [place for row in group for place in twins[digest.iloc[row]]]
        members = best_first(images.iloc[positions])
        notes = list(_notes(members, sketches[members.index.to_numpy()]))
        yield from group_issues(survey, "near_duplicate", f"near-{number}", members, notes)


def _notes(members: pd.DataFrame, sketches: np.ndarray) -> Iterator[str]:
    """How each member after the first differs from it, in words."""
    keep = members.iloc[0]
    windows = np.stack([likeness.hashes(sketches, w) for w in range(len(likeness.WINDOWS))])
    turned = np.stack([likeness.turned_hashes(sketches, p) for p in range(len(likeness.POSITIONS))])
    for place in range(1, len(members)):
        row = members.iloc[place]
        part = np.bitwise_count(windows[:, :1] ^ turned[None, :, place])  # [window, position]: cut out of the kept one
        whole = np.bitwise_count(windows[:, place, None] ^ turned[:, 0][None])  # the kept one is the cut-out
        window, position = np.unravel_index(np.argmin(part), part.shape)
        other = np.unravel_index(np.argmin(whole), whole.shape)
        if whole.min() < part.min():
            window, position = other
        words = []
        if position == likeness.MIRRORED:
            words.append("mirrored")
        elif position:
            words.append("turned")
        if window:
            words.append("cropped")
        if row["digest"] == keep["digest"]:
            words.append("the same file")
        elif (row["shown_width"], row["shown_height"]) not in (
            (keep["shown_width"], keep["shown_height"]),
            (keep["shown_height"], keep["shown_width"]),
        ):
            words.append(f"{row['shown_width']}x{row['shown_height']}" if not window else "")
        if row["orientation"] != keep["orientation"]:
            words.append("with another EXIF orientation")
        said = ", ".join(word for word in words if word) or "saved again"
        yield f"the same picture ({said}) as"


CHECK = Check(
    issues={"near_duplicate": "the same picture twice"},
    judge=judge,
    thresholds=(
        Threshold("near_duplicate_distance", 14, "bits of 63 by which hashes of a pair may differ to be compared"),
        Threshold("near_duplicate_agreement", 0.75, "correlation of aligned detail from which it is the same picture"),
        Threshold("near_duplicate_contrast", 3.0, "detail of the sketch, in grey levels, below which it is left out"),
    ),
)
