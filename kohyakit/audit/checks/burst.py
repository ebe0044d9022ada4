"""Bursts: many shots of one moment, which together outweigh the rest of a subset.

Two pictures that follow each other belong to one series when they look alike and were taken within seconds, or,
without EXIF times, when they follow each other by name and look very alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.alike import likeness
from kohyakit.audit.check import Check, Issue, Threshold

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.look.survey import Survey

_ALIKE, _VERY_ALIKE = 24, 16  # bits of 63; two unrelated photos differ by about 31


def judge(survey: Survey) -> Iterable[Issue]:
    if survey.sketches is None:
        return
    images = survey.trained
    images = images[~images["is_reg"] & (images["digest"] != "")]
    if not len(images):
        return
    hashes = likeness.hashes(survey.sketches, rows=images.index.to_numpy())
    times = _seconds(images["taken"])
    number = 0
    for subset, places in images.groupby("subset", sort=False).indices.items():
        for series in _series(survey, hashes, times, places):
            share = len(series) / len(places)
            if len(series) < survey.limit("burst_length") or share < survey.limit("burst_share") or len(places) < 10:
                continue
            number += 1
            for place in series:
                yield Issue(
                    images["path"].iloc[place],
                    "burst",
                    "warning" if share >= 0.5 else "hint",
                    f"one of {len(series)} shots of one moment, {share:.0%} of {subset}",
                    "keep the best two or three of the series, or the LoRA learns this one scene",
                    f"burst-{number}",
                )


def _seconds(taken: pd.Series) -> np.ndarray:
    import pandas as pd

    stamps = pd.to_datetime(taken, format="%Y:%m:%d %H:%M:%S", errors="coerce")
    return ((stamps - pd.Timestamp("1970-01-01")) / pd.Timedelta(seconds=1)).to_numpy(dtype=float)


def _series(survey: Survey, hashes: np.ndarray, times: np.ndarray, places: np.ndarray) -> Iterator[list[int]]:
    """Runs of pictures, by time and then by name, in which each follows the one before."""
    gap = survey.limit("burst_seconds")
    timed = places[~np.isnan(times[places])]
    timed = timed[np.argsort(times[timed], kind="stable")]
    for order in (timed, places[np.isnan(times[places])]):
        run: list[int] = []
        for place in order:
            apart = int(np.bitwise_count(hashes[place] ^ hashes[run[-1]])) if run else 0
            near = (
                times[place] - times[run[-1]] <= gap and apart <= _ALIKE if run and not np.isnan(times[place]) else None
            )
            if run and not (near if near is not None else apart <= _VERY_ALIKE):
                yield run
                run = []
            run.append(int(place))
        if run:
            yield run


CHECK = Check(
    issues={"burst": "many shots of one moment"},
    judge=judge,
    thresholds=(
        Threshold("burst_seconds", 3, "seconds between shots of one series"),
        Threshold("burst_length", 4, "shots from which a series is named"),
        Threshold("burst_share", 0.2, "share of its subset from which a series is named; half is a warning"),
    ),
)
