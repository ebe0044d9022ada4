"""TensorBoard event files -> tidy frames, read once, then only what was added.

The numbers are those of TensorBoard's own reader, point for point, and in the order in which they were written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.errors import MissingExtra, Problem, RunError
from kohyakit.runs.logs import log_files, scalar_cache
from kohyakit.runs.logs.event_file import EventFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_LEAST_BYTES = 38  # of a record with one scalar; an event with several makes the columns grow
_COLUMNS = (("tag", "int16"), ("step", "int64"), ("value", "float64"), ("wall_time", "float64"), ("run", "int16"))


class ScalarLog:
    """The scalars under one or several folders, kept up to date by `refresh`; for pages that follow a run.

    problems: what is damaged or cut off, by file; nothing is raised for it.
    """

    def __init__(self, folders: Path | str | Iterable[Path | str], *, cache: bool = True) -> None:
        self.folders = (Path(folders),) if isinstance(folders, (str, Path)) else tuple(map(Path, folders))
        self._cache = cache
        self._files: dict[Path, EventFile] = {}
        self._unread: dict[Path, Problem] = {}
        self._passed: list[Problem] = []  # files that are named as logs and are none yet

    @property
    def problems(self) -> tuple[Problem, ...]:
        found = [problem for file in self._files.values() for problem in file.problems]
        cut = [file.path.name for file in self._files.values() if file.unfinished]
        cure = "it is being written, or was cut off"
        found += [Problem(name, "ends within a record", cure, "cut_off_log", "hint") for name in cut]
        return (*found, *self._unread.values(), *self._passed)

    def refresh(self) -> bool:
        """Read what is new -> whether anything changed. Files that were deleted drop out.

        Raises MissingExtra without NumPy and pandas.
        """
        _need_pandas()
        paths = self.event_files()
        gone = self._files.keys() - set(paths)
        for path in gone:
            del self._files[path]
        self._unread = {}
        changed = [self.read(path) for path in paths]
        self._files = {path: self._files[path] for path in paths if path in self._files}
        return bool(gone) or any(changed)

    def event_files(self) -> list[Path]:
        """The event files there are, in the order in which they are read."""
        found = [log_files.event_files(folder) for folder in self.folders]
        self._passed = [problem for _, problems in found for problem in problems]
        return [path for paths, _ in found for path in paths]

    def read(self, path: Path) -> bool:
        """Read what is new in one file -> whether there was something."""
        try:
            return self._read(path)
        except OSError as error:
            what = f"cannot be read ({error.strerror or error})"
            self._unread[path] = Problem(path.name, what, "", "unreadable_log", "warning")
            return False

    def drop(self, path: Path) -> EventFile | None:
        """Forget a file and hand over what was read of it."""
        self._unread.pop(path, None)
        return self._files.pop(path, None)

    def _read(self, path: Path) -> bool:
        file = self._files.get(path)
        if file is not None:
            return file.refresh()
        file = EventFile(path)
        if self._cache:
            scalar_cache.load(file)
        loaded = file.offset
        file.refresh()
        if self._cache:
            scalar_cache.save(file, loaded if file.offset >= loaded else 0)
        self._files[path] = file
        return True

    def frame(self) -> pd.DataFrame:
        """The points so far: see read_scalars."""
        columns = _Columns(sum(len(file.points) for file in self._files.values()))
        for path, file in self._files.items():
            columns.add(self.run_of(path), file)
        return columns.frame()

    def run_of(self, path: Path) -> str:
        """The name of the run that a file belongs to: its folder below the one asked for."""
        folder = next(folder for folder in self.folders if folder in path.parents)
        name = path.parent.relative_to(folder).as_posix()
        return name if len(self.folders) == 1 else f"{folder.as_posix()}/{name}".removesuffix("/.")


def read_scalars(folder: Path | str, *, cache: bool = True) -> pd.DataFrame:
    """Every scalar of the event files in a folder and below.

    Columns: tag (categorical), step (int64), value (float64), wall_time (float64, seconds since 1970); and, when the
    files lie in several folders, run (categorical, the folder below the given one). Rows in the order of the files'
    names and of the records in them: where a resumed training went back, both lines are there (see `continued`).
    `frame.attrs["problems"]` lists what is damaged, `frame.attrs["restarts"]` where writers said that they went on:
    (index of the next row, step, run). cache: keep what was read in the user's cache folder.
    Raises RunError when there is no such folder, MissingExtra without NumPy and pandas.
    """
    _need_pandas()
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(Problem(str(folder), "there is no such folder", "name a folder with TensorBoard logs"))
    log = ScalarLog(folder, cache=cache)
    paths = log.event_files()
    columns = _Columns(sum(_size(path) for path in paths) // _LEAST_BYTES)
    problems, log._passed = log._passed, []
    for path in paths:  # one at a time, so that the points stand in memory once
        log.read(path)
        problems += log.problems
        if (file := log.drop(path)) is not None:
            columns.add(log.run_of(path), file)
    frame = columns.frame()
    frame.attrs["problems"] = tuple(problems)
    return frame


def continued(frame: pd.DataFrame) -> pd.DataFrame:
    """The line as it was trained in the end: what a restart repeats is left out.

    Where a writer says at which step it goes on, every earlier point at or after that step, as TensorBoard does. Where
    steps only go back, the earlier points of that tag that were written before; of two writers that wrote at the same
    time into one folder, both lines stay, but for points that are there twice.
    """
    import numpy as np

    by = ["run", "tag"] if "run" in frame.columns else ["tag"]
    keep = np.ones(len(frame), dtype=bool)
    steps, walls = frame["step"].to_numpy(), frame["wall_time"].to_numpy()
    for row, step, run in frame.attrs.get("restarts", ()):
        gone = (frame.index.to_numpy() < row) & (steps >= step)
        keep &= ~(gone & (frame["run"] == run).to_numpy() if "run" in frame.columns else gone)
    values = frame["value"].to_numpy()
    for rows in frame.groupby(by, observed=True, sort=False).indices.values():
        rows = rows[keep[rows]]
        keep[rows] = _kept(steps[rows], walls[rows], values[rows])
    return frame if keep.all() else frame[keep]


def joined(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines of one training whose logs lie in several folders, one for each time it was resumed, as it was trained
    in the end: each folder goes on from those before it, whatever their clocks say. Without the column `run`.
    """
    import numpy as np

    frame = continued(frame)
    if "run" not in frame.columns:
        return frame
    keep = np.ones(len(frame), dtype=bool)
    steps, runs = frame["step"].to_numpy(), frame["run"].cat.codes.to_numpy()
    for rows in frame.groupby("tag", observed=True, sort=False).indices.values():
        parts = np.split(rows, np.flatnonzero(np.diff(runs[rows])) + 1)
        bound = np.iinfo(np.int64).max
        for part in reversed(parts):
            keep[part] = steps[part] < bound
            bound = min(bound, steps[part].min(initial=bound))
    return frame[keep].drop(columns="run")


def _kept(steps: np.ndarray, walls: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which points of one line stand, in the order of writing."""
    import numpy as np

    back = np.flatnonzero(np.diff(steps) < 0) + 1
    if not len(back):
        return np.ones(len(steps), dtype=bool)
    if not (walls[back] < np.maximum.accumulate(walls)[back - 1]).any():
        # each went on from all before it: the lowest step that any later stretch begins with decides
        starts = np.minimum.accumulate(steps[back][::-1])[::-1]
        stretch = np.searchsorted(back, np.arange(len(steps)), side="right")
        return steps < np.append(starts, np.iinfo(np.int64).max)[stretch]
    keep = _once(steps, walls, values)
    first = np.append(0, back)  # each stretch's first row; a stretch itself never goes back
    ends = np.array([part.max() for part in np.split(walls, back)])
    for number, start in enumerate(first[:-1]):
        later = first[number + 1 :][walls[first[number + 1 :]] >= ends[number]]
        if len(later):
            here = slice(start, first[number + 1])
            keep[here] &= steps[here] < steps[later].min()
    return keep


def _once(steps: np.ndarray, walls: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of points that are there twice, as in a copy of the file, the first."""
    import numpy as np

    columns = np.stack([steps.astype(float), walls, values.astype(float)], axis=1)
    keep = np.zeros(len(steps), dtype=bool)
    keep[np.unique(columns, axis=0, return_index=True)[1]] = True
    return keep


@dataclass(frozen=True, slots=True)
class Summary:
    """One line in numbers. Steps are those of the first lowest and highest value; NaN and infinity do not count.

    bad: how many values are NaN or infinite.
    """

    tag: str
    count: int
    first: float
    last: float
    min: float
    min_step: int
    max: float
    max_step: int
    mean: float
    last_step: int
    bad: int


def summarize(frame: pd.DataFrame) -> dict[str, Summary]:
    """Each tag's line in numbers, as it was trained in the end."""
    import numpy as np

    frame = continued(frame)
    found = {}
    steps, values = frame["step"].to_numpy(), frame["value"].to_numpy()
    for tag, rows in frame.groupby("tag", observed=True, sort=False).indices.items():
        step, value = steps[rows], values[rows]
        finite = np.isfinite(value)
        bad = int(len(value) - finite.sum())
        if bad == len(value):
            nan = float("nan")
            last = int(step[-1])
            found[str(tag)] = Summary(str(tag), len(value), nan, nan, nan, last, nan, last, nan, last, bad)
            continue
        good, at = value[finite], step[finite]
        low, high = int(good.argmin()), int(good.argmax())
        found[str(tag)] = Summary(
            str(tag), len(value), float(good[0]), float(good[-1]), float(good[low]), int(at[low]),
            float(good[high]), int(at[high]), float(good.mean()), int(step[-1]), bad,
        )  # fmt: skip
    return found


class _Columns:
    """Columns that fill up. Room that is never written to costs no memory, so it may be given generously."""

    def __init__(self, room: int) -> None:
        import numpy as np

        self._room, self._count = max(room, 1), 0
        self._columns = {name: np.empty(self._room, dtype=dtype) for name, dtype in _COLUMNS}
        self._tags: dict[str, int] = {}
        self._runs: dict[str, int] = {}
        self._restarts: list[tuple[int, int, str]] = []

    def add(self, run: str, file: EventFile) -> None:
        import numpy as np

        tags, points = file.tags, file.points
        self._restarts += [(self._count + before, step, run) for before, step in file.restarts]
        if not len(points):
            return
        end = self._count + len(points)
        if end > self._room:
            self._room = end + end // 4
            self._columns = {name: np.resize(column, self._room) for name, column in self._columns.items()}
        if len(self._tags) + len(tags) > 32767:
            self._columns["tag"] = self._columns["tag"].astype("int32")
        here = slice(self._count, end)
        codes = np.array([self._tags.setdefault(tag, len(self._tags)) for tag in tags], dtype=np.int32)
        self._columns["tag"][here] = codes[points.tag]
        self._columns["run"][here] = self._runs.setdefault(run, len(self._runs))
        for name in ("step", "value", "wall_time"):
            self._columns[name][here] = getattr(points, name)
        self._count = end

    def frame(self) -> pd.DataFrame:
        import pandas as pd

        data = {name: column[: self._count] for name, column in self._columns.items()}
        data["tag"] = pd.Categorical.from_codes(data["tag"], list(self._tags))
        runs = data.pop("run")
        if len(self._runs) > 1:
            data["run"] = pd.Categorical.from_codes(runs, list(self._runs))
        frame = pd.DataFrame(data, copy=False)
        if self._restarts:
            frame.attrs["restarts"] = tuple(self._restarts)
        return frame


def _need_pandas() -> None:
    try:
        import pandas  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("reading a training's logs", "pandas", "audit") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
