"""Near duplicates: the same picture resized, recompressed, mirrored, turned, slightly cropped, brightened.

Hashes propose pairs, a comparison of the aligned sketches decides (see audit/alike/likeness.py); of drawings, and
of what stands on a plain ground, a closer one too (audit/alike/drawings.py). Other pictures with hardly any detail are
left out: all of them look alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.alike import likeness
from kohyakit.audit.alike.drawings import same_drawing, stands_alone
from kohyakit.audit.alike.duplicates import Member, best_first, group_issues, members_of
from kohyakit.audit.alike.neighbours import same_picture_groups
from kohyakit.audit.check import Check, Issue, Threshold

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    if survey.sketches is None:
        return
    images, sketches = survey.images, survey.sketches
    contrast = likeness.contrast_of(sketches)
    telling = contrast >= survey.limit("near_duplicate_contrast")
    telling[[row for row, look in survey.close.items() if stands_alone(look)]] = True
    digest = images["digest"]
    first = ~digest.duplicated() & telling & (digest != "")
    rows = np.flatnonzero(first.to_numpy())
    groups = same_picture_groups(
        sketches,
        int(survey.limit("near_duplicate_distance")),
        survey.limit("near_duplicate_agreement"),
        rows=rows,
        confirm=lambda pairs: same_drawing(pairs, sketches, survey.close),
    )
    twins = images.groupby(digest).indices  # digest -> places of the same file
    names = digest.to_numpy()
    places = [[place for row in group for place in twins[names[row]]] for group in groups]
    known = {member.row: member for member in members_of(images, chain.from_iterable(places), contrast)}
    rows = np.array(sorted(known), dtype=int)
    windows = np.stack([likeness.hashes(sketches, w, rows) for w in range(len(likeness.WINDOWS))])
    turned = np.stack([likeness.turned_hashes(sketches, p, rows) for p in range(len(likeness.POSITIONS))])
    for number, group in enumerate(places, start=1):
        members = best_first(known[place] for place in group)
        kept, *others = np.searchsorted(rows, [member.row for member in members])
        hows = (_how(windows[:, kept], turned[:, kept], windows[:, at], turned[:, at]) for at in others)
        notes = [_note(members[0], member, *how) for member, how in zip(members[1:], hows, strict=True)]
        yield from group_issues(survey, "near_duplicate", f"near-{number}", members, notes)


def _how(kept_windows: np.ndarray, kept_turned: np.ndarray, windows: np.ndarray, turned: np.ndarray) -> tuple[int, int]:
    """(window, position) of likeness in which a member is most like the kept one, whichever is the cut-out."""
    part = np.bitwise_count(kept_windows[:, None] ^ turned)
    whole = np.bitwise_count(windows[:, None] ^ kept_turned)
    nearest = whole if whole.min() < part.min() else part
    window, position = np.unravel_index(np.argmin(nearest), nearest.shape)
    return int(window), int(position)


def _note(keep: Member, member: Member, window: int, position: int) -> str:
    """How a member differs from the kept one, in words."""
    words = []
    if position == likeness.MIRRORED:
        words.append("mirrored")
    elif position:
        words.append("turned")
    if window:
        words.append("cropped")
    if member.digest == keep.digest:
        words.append("the same file")
    elif not window and member.shown not in (keep.shown, keep.shown[::-1]):
        words.append(f"{member.shown[0]}x{member.shown[1]}")
    if member.orientation != keep.orientation:
        words.append("with another EXIF orientation")
    return f"the same picture ({', '.join(words) or 'saved again'}) as"


CHECK = Check(
    issues={"near_duplicate": "the same picture twice"},
    judge=judge,
    thresholds=(
        Threshold("near_duplicate_distance", 14, "bits of 63 by which hashes of a pair may differ to be compared"),
        Threshold("near_duplicate_agreement", 0.75, "correlation of aligned detail from which it is the same picture"),
        Threshold("near_duplicate_contrast", 3.0, "detail of the sketch, in grey levels, below which it is left out"),
    ),
)
