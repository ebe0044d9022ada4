"""What a comparison says, as data: sentences, tables and the changes of a data set."""

from __future__ import annotations

import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.dashboard.draw.curves import tag_title
from kohyakit.dashboard.read import store
from kohyakit.dashboard.read.memo import Memo
from kohyakit.dashboard.read.rows import status_note
from kohyakit.dashboard.read.samples import steps_per_epoch
from kohyakit.dataset.fingerprint import in_words
from kohyakit.errors import Problem, RunError
from kohyakit.runs.comparison import insight
from kohyakit.runs.comparison.best import best, best_measured
from kohyakit.runs.comparison.compare import dataset_difference, settings_table
from kohyakit.runs.run import FAILED, LOST, Run
from kohyakit.words import number

if TYPE_CHECKING:
    import pandas as pd


_told = Memo(2000)


def statements(runs: Sequence[Run]) -> list[Problem]:
    """What the curves carry: which run is best and how sure that is, then each run's own, the gravest first."""
    own = [told for run in runs for told in (*_ending(run), *_measured(run), *of_run(run))]
    own.sort(key=attrgetter("rank"))
    failed = [told for told in own if told.severity == "error"]
    return [*failed, *_ranked(runs), *own[len(failed) :]]


def _told_of(run: Run, text: str, severity: str, name: str = "") -> Problem:
    """A sentence about one run; `where` is empty for those about all of them."""
    return Problem(run.record.version, text, name=name, severity=severity)


def _ending(run: Run) -> tuple[Problem, ...]:
    """That a run failed, and why: its curve looks like one that fell and was done."""
    if run.status not in NO_RESULT:
        return ()
    return (_told_of(run, f"{run.status}: {status_note(run)}".rstrip(": "), "error"),)


def _measured(run: Run) -> tuple[Problem, ...]:
    """Its best measurement, and that it needed no more steps."""
    found = [(best_measured(run), "good")]
    if run.record.outcome.startswith("stopped early"):
        found.append((run.record.outcome, "hint"))
    return tuple(_told_of(run, text[:1].upper() + text[1:], severity) for text, severity in found if text)


NO_RESULT = (FAILED, LOST)
"""Endings after which a run's loss says nothing of what it came to."""
_SHOWN_BY_THE_CHART: tuple[str, ...] = ("training_falls",)
_OF_A_RESULT = ("training_flat", "validation_falls", "over_fit")


def of_run(run: Run) -> tuple[Problem, ...]:
    """What a run's own curves tell beyond what a chart of them shows."""

    def make() -> tuple[Problem, ...]:
        frame = store.scalars_of(run).frame
        if frame is None:
            return ()
        found = insight.statements(frame, steps_per_epoch=steps_per_epoch(run))
        silent = _SHOWN_BY_THE_CHART + (_OF_A_RESULT if run.status in NO_RESULT else ())
        return tuple(
            _told_of(run, _in_words(statement), statement.severity, statement.name)
            for statement in found
            if statement.name not in silent
        )

    return _told.get(str(run.folder), (*store.log_stamp(run), run.status), make)


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]


def _in_words(statement: insight.Statement) -> str:
    """The sentence with Kohya's tags in words."""
    text = statement.what
    for tag in sorted(statement.tags, key=len, reverse=True):
        title = tag_title(tag)
        if title != tag:
            text = text.replace(tag, _lower(title))
    return text[:1].upper() + text[1:] if text[:1] != statement.what[:1] else text


def _ranked(runs: Sequence[Run]) -> tuple[Problem, ...]:
    """The best of several in a sentence with its number, the certainty and what may make the comparison unfair.

    Only runs that came to something, and on the same photos, are compared: the loss on other photos is another measure.
    """
    logged = [run for run in runs if run.status not in NO_RESULT and store.scalars_of(run).frame is not None]
    sets: dict[str, list[Run]] = {}
    for run in logged:
        sets.setdefault(run.record.images or run.record.images_by_name, []).append(run)
    others: tuple[Problem, ...] = ()
    if len(sets) > 1:
        groups = " | ".join(", ".join(run.record.version for run in group) for group in sets.values())
        what = f"trained on different photos, so their losses do not compare: {groups}"
        others = (Problem("", what, severity="hint"),)
    best_of = [told for group in sets.values() if len(group) > 1 for told in _best_of(group)]
    return tuple(dict.fromkeys((*(told for told in best_of if told.where), *others, *best_of)))


def _best_of(logged: Sequence[Run]) -> tuple[Problem, ...]:

    def make() -> tuple[Problem, ...]:
        try:
            ranking = best(logged, read=lambda run: store.scalars_of(run).frame)
        except RunError:
            return ()
        first = ranking.places[0]
        if len(ranking.places) < 2:
            return ()
        sure = {"clear": "clearly the best", "likely": "likely the best", "toss-up": "first, but it is a toss-up"}
        words = sure.get(ranking.certainty, "first")
        file = f", kept in {Path(first.checkpoint.file).name}" if first.checkpoint else ""
        at = "epoch" if store.per_epoch(ranking.metric) else "step"
        what = f"{_lower(tag_title(ranking.metric))}, {ranking.statistic}: {number(first.value)} at {at} {first.step:,}"
        text = f"{words}: {what}{file} ({ranking.because})"
        caveats = tuple(Problem("", caveat, severity="hint") for caveat in ranking.caveats)
        return (_told_of(first.run, text, "good"), *caveats)

    key = ("ranking", *(str(run.folder) for run in logged))
    return _told.get(key, tuple(store.log_stamp(run) for run in logged), make)


def settings_frame(runs: Sequence[Run], *, only_differences: bool = True, bookkeeping: bool = False) -> pd.DataFrame:
    """A row a setting, a column a run; values as people read them; of two runs' numbers, how they differ."""
    import pandas as pd

    rows = [
        row for row in settings_table(runs, only_differences=only_differences) if bookkeeping or not row.bookkeeping
    ]
    frame = pd.DataFrame(
        [[row.section, *(_cell(text) for text in row.texts)] for row in rows],
        index=pd.Index([row.name for row in rows], name="setting"),
        columns=["section", *(run.record.version for run in runs)],
    )
    if len(runs) == 2:
        frame["change"] = [_change(*row.values) for row in rows]
    return frame


def _cell(text: str) -> str:
    """A spreadsheet takes a text that begins so for a formula and runs it."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _change(before: object, after: object) -> str:
    """Of two numbers the factor, which is what matters of a rank or a rate."""
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in (before, after)) or not before or not after:
        return ""
    factor = after / before  # type: ignore[operator]
    return f"× {factor:.3g}" if factor >= 1 else f"÷ {1 / factor:.3g}"


def metrics_csv(runs: Sequence[Run]) -> str:
    """Every point of every run: run, tag, step, value, wall_time."""
    import pandas as pd

    frames = []
    for run in runs:
        frame = store.scalars_of(run).frame
        if frame is not None:
            frames.append(
                frame[["tag", "step", "value", "wall_time"]].astype({"tag": str}).assign(run=run.record.version)
            )
    if not frames:
        return "run,tag,step,value,wall_time\n"
    out = io.StringIO()
    pd.concat(frames)[["run", "tag", "step", "value", "wall_time"]].to_csv(out, index=False, lineterminator="\n")
    return out.getvalue()


@dataclass(frozen=True)
class DatasetChange:
    """From one run to another: (path, name) of photos, (name, before, after) of captions, and all of it in words."""

    words: tuple[str, ...]
    added: tuple[tuple[Path, str], ...]
    removed: tuple[tuple[Path, str], ...]
    changed: tuple[tuple[Path, str], ...]
    captions: tuple[tuple[str, str, str], ...]


def dataset_change(before: Run, after: Run) -> DatasetChange:
    """What became of the photos and captions between two runs that both kept lists."""
    found = dataset_difference(before, after)

    def photos(run: Run, items) -> tuple[tuple[Path, str], ...]:
        return tuple((run.locate(entry.path.as_posix()), entry.file) for entry in items)

    return DatasetChange(
        in_words(found),
        photos(after, found.added),
        photos(before, found.removed),
        photos(after, [new for _, new in found.changed]),
        tuple((new.file, old.caption or "", new.caption or "") for old, new in found.recaptioned),
    )


def caption_html(changes: Sequence[tuple[str, str, str]], most: int = 200) -> str:
    """Captions with what went struck through and what came underlined, everything escaped."""
    rows = [f"<p><b>{escape(name)}</b><br>{marked(old, new)}</p>" for name, old, new in changes[:most]]
    more = f"<p>and {len(changes) - most} more</p>" if len(changes) > most else ""
    return (
        "<style>.captions p{margin:0 0 .6rem!important;font-size:.9rem}.captions b{font-size:.85rem}"
        ".captions del{color:#d9534f}.captions ins{color:#3ea36b}</style>"
        f'<div class="captions">{"".join(rows)}{more}</div>'
    )


def marked(old: str, new: str) -> str:
    """One text that shows both: tag by tag when they are tags, else word by word. HTML, escaped."""
    sign = "," if "," in old + new else None
    a, b = ([part.strip() for part in text.split(sign) if part.strip()] for text in (old, new))
    joint = ", " if sign else " "
    pieces = []
    for action, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if action == "equal":
            pieces.append(escape(joint.join(a[a0:a1])))
            continue
        if a1 > a0:
            pieces.append(f"<del>{escape(joint.join(a[a0:a1]))}</del>")
        if b1 > b0:
            pieces.append(f"<ins>{escape(joint.join(b[b0:b1]))}</ins>")
    return joint.join(pieces) or "<i>empty</i>"
