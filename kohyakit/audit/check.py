"""What a check is: the issues it can find, its thresholds, what it measures on a picture, and its judgement.

A check is one file in `checks/` with one `CHECK` and one line in `registry.CHECKS`. A person's own check is the
same object, given to `audit_dataset(dir, checks=[...])`.

`measure` sees one picture (in a worker) and returns numbers, which become columns of the images frame;
`judge` sees the whole survey afterwards and yields issues. Each image is opened once for all checks together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from kohyakit.errors import ConfigError, Problem

if TYPE_CHECKING:
    import numpy as np

    from kohyakit.audit.survey import Survey
    from kohyakit.dataset.decode import Examination

SEVERITIES = ("error", "warning", "hint")


class Issue(NamedTuple):
    """One row of the issues frame.

    path: the image, caption or folder. severity: `error` breaks a training, `warning` spoils it silently, `hint`
    is worth a look. detail: what is there, with numbers. action: what to do. group: names a set of duplicates.
    """

    path: str
    issue: str
    severity: str
    detail: str
    action: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that decides; `name` is unique over all checks (`--threshold name=value`)."""

    name: str
    default: float
    help: str


@dataclass(frozen=True)
class Picture:
    """One picture as the measures see it: upright, 8 bits, at the scale of the one decode.

    rgb: [h, w, 3] uint8. scale: decoded size over stored size.
    """

    rgb: np.ndarray
    scale: float
    examination: Examination

    @cached_property
    def grey(self) -> np.ndarray:
        """Luma, [h, w] uint8, computed once for all measures."""
        import cv2

        return cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY)

    @cached_property
    def small(self) -> np.ndarray:
        """Luma reduced by area means to 256 pixels on the longer side, or all of a smaller picture."""
        return self.reduced(256)

    def reduced(self, longest: int) -> np.ndarray:
        import cv2

        height, width = self.grey.shape
        share = longest / max(height, width)
        if share >= 1:
            return self.grey
        size = (max(1, round(width * share)), max(1, round(height * share)))
        return cv2.resize(self.grey, size, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Check:
    """issues: name -> title in plain words. scores: the columns that `measure` fills, with what they say.

    quick: whether it runs without decoding (`--quick`).
    """

    issues: Mapping[str, str]
    judge: Callable[[Survey], Iterable[Issue]]
    thresholds: tuple[Threshold, ...] = ()
    measure: Callable[[Picture], Mapping[str, float]] | None = None
    scores: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    quick: bool = False


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
