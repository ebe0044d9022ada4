"""What a check is: the issues it can find, its thresholds, what it measures on a picture, and its judgement.

A check is one file in `checks/` with one `CHECK` and one line in `registry.CHECKS`. A person's own check is the
same object, given to `audit_dataset(dir, checks=[...])`.

`measure` sees one picture (in a worker) and returns numbers, which become columns of the images frame;
`judge` sees the whole survey afterwards and yields issues, or Problems whose `where` is a path. Each image is opened
once for all checks together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kohyakit.errors import ConfigError, Problem

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from kohyakit.audit.look.survey import Survey


@dataclass(frozen=True, slots=True, init=False)
class Issue(Problem):
    """A Problem of one image, caption or folder: `where` is its path. group: names a set of duplicates.

    Its values are given in the order of the issues frame: path, issue, severity, detail (what is there, with numbers),
    action (what to do), group.
    """

    group: str = ""

    def __init__(self, where: str, name: str, severity: str, what: str, cure: str = "", group: str = "") -> None:
        Problem.__init__(self, where, what, cure, name, severity)
        object.__setattr__(self, "group", group)


COLUMNS = ("path", "issue", "severity", "detail", "action", "group")
"""Of the issues frame."""


def row(problem: Problem) -> tuple[str, ...]:
    """A finding as a row of the issues frame."""
    group = problem.group if isinstance(problem, Issue) else ""
    return (problem.where, problem.name, problem.severity, problem.what, problem.cure, group)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that decides; `name` is unique over all checks (`--threshold name=value`)."""

    name: str
    default: float
    help: str


@dataclass(frozen=True)
class Picture:
    """One picture as the measures see it, from the one decode. Everything is computed at most once.

    rgb: [h, w, 3] uint8 as stored, 1000 to 1999 pixels on the longer side (all of a smaller picture).
    scale: its size over the stored size. orientation: EXIF 1 to 8, applied in what is called small.
    """

    rgb: np.ndarray
    scale: float
    orientation: int = 1

    @cached_property
    def large(self) -> np.ndarray:
        """Luma as stored, [h, w] uint8, at most 1024 pixels on the longer side."""
        return self.large_rows(0, self.large_size[0])

    @cached_property
    def large_size(self) -> tuple[int, int]:
        """(height, width) of `large`."""
        return _fitted(self.rgb.shape[:2], LARGE)

    def large_rows(self, top: int, bottom: int) -> np.ndarray:
        """Some rows of `large` without the cost of the others."""
        import cv2

        height, width = self.large_size
        first, last = (round(row * self.rgb.shape[0] / height) for row in (top, bottom))
        grey = cv2.cvtColor(self.rgb[first:last], cv2.COLOR_RGB2GRAY)
        if grey.shape == (bottom - top, width):
            return grey
        # smaller by less than two: averaging areas would cost as much as decoding
        return cv2.resize(grey, (width, bottom - top), interpolation=cv2.INTER_LINEAR)

    @cached_property
    def small(self) -> np.ndarray:
        """Luma, upright, [h, w] uint8, at most 256 pixels on the longer side."""
        from kohyakit.dataset.decode import upright

        return upright(self._grey, self.orientation)

    @cached_property
    def levels(self) -> np.ndarray:
        """Share of `small` at each grey level or below, [256]."""
        import cv2

        counts = cv2.calcHist([self._grey], [0], None, [256], [0, 256]).ravel()
        return counts.cumsum(dtype=float) / self._grey.size

    @cached_property
    def small_rgb(self) -> np.ndarray:
        """Colours, upright, squeezed to [64, 64, 3] uint8."""
        import cv2

        from kohyakit.dataset.decode import upright

        return upright(cv2.resize(self._coarse, (64, 64), interpolation=cv2.INTER_AREA), self.orientation)

    @cached_property
    def drawn(self) -> bool:
        """Whether it is a drawing, a screenshot or an icon and no photo."""
        from kohyakit.dataset.decode.drawn import is_drawn

        return is_drawn(self.rgb)

    @cached_property
    def _grey(self) -> np.ndarray:
        import cv2

        return cv2.cvtColor(self._coarse, cv2.COLOR_RGB2GRAY)

    @cached_property
    def _coarse(self) -> np.ndarray:
        """The picture as stored, [h, w, 3] uint8, at most 256 pixels on the longer side."""
        import cv2

        height, width = _fitted(self.rgb.shape[:2], SMALL)
        return cv2.resize(self.rgb, (width, height), interpolation=cv2.INTER_LINEAR)


LARGE, SMALL = 1024, 256


def _fitted(size: tuple[int, ...], longest: int) -> tuple[int, int]:
    """(height, width) made smaller so that the longer side has `longest` pixels; a smaller picture keeps its size."""
    share = min(1.0, longest / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


@dataclass(frozen=True)
class Check:
    """issues: name -> title in plain words. scores: the columns that `measure` fills, with what they say.

    quick: whether it runs without decoding (`--quick`).
    """

    issues: Mapping[str, str]
    judge: Callable[[Survey], Iterable[Problem]]
    thresholds: tuple[Threshold, ...] = ()
    measure: Callable[[Picture], Mapping[str, float]] | None = None
    scores: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    quick: bool = False


def rows_where(holds: pd.Series, images: pd.DataFrame) -> Iterable[Any]:
    """The rows for which it holds, their columns by name; where it holds for none, the wide frame is left uncut."""
    return images[holds].itertuples() if holds.any() else ()


def load_checks(names: Iterable[Any] | None = None) -> dict[str, Check]:
    """The checks by name, in the registry's order; names may hold Check objects of a person's own.

    Raises ConfigError for an unknown name or a name used twice.
    """
    from kohyakit.registry import CHECKS

    found: dict[str, Check] = {}
    for name in CHECKS if names is None else names:
        if isinstance(name, Check):
            found[next(iter(name.issues))] = name
        else:
            found[CHECKS.canonical(name)] = CHECKS.load(name)
    return found


def resolve_thresholds(checks: Mapping[str, Check], given: Mapping[str, Any]) -> dict[str, float]:
    """Every threshold's value. Raises ConfigError with all unknown names and all values that are no numbers."""
    import difflib

    known = {t.name: t for check in checks.values() for t in check.thresholds}
    values = {name: t.default for name, t in known.items()}
    problems = []
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            cure = f"did you mean '{near[0]}'?" if near else "see them with: kohyakit audit --list-checks"
            problems.append(Problem("threshold", f"unknown name '{name}'", cure, "unknown_threshold"))
            continue
        try:
            values[name] = float(value)
            if values[name] != values[name]:
                raise ValueError
        except (TypeError, ValueError):
            problems.append(
                Problem(f"threshold {name}", f"{value!r} is not a number", f"the default is {known[name].default:g}")
            )
    if problems:
        raise ConfigError(problems)
    return values
