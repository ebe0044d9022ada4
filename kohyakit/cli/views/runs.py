"""Runs on a terminal: aligned, quiet, colour only where it says something."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import click

from kohyakit.cli.views.terminal import heading, severity, table, width
from kohyakit.dataset.fingerprint import subset_words
from kohyakit.dataset.images import shown
from kohyakit.errors import Problem
from kohyakit.runs.comparison.best import Ranking, best_measured
from kohyakit.runs.comparison.compare import Row, dataset_difference, settings_table, show
from kohyakit.runs.comparison.insight import Statement
from kohyakit.runs.comparison.summary import TRAINING, VALIDATION
from kohyakit.runs.logs.metrics import Summary
from kohyakit.runs.prune import Candidate
from kohyakit.runs.run import Checkpoint, Run
from kohyakit.runs.verdict import sentences
from kohyakit.words import cut, duration, number, size, when

_STATUS = {
    "finished": "green", "running": "cyan", "stopped": "yellow", "interrupted": "yellow", "lost": "red",
    "failed": "red", "unreadable": "red", "planned": None,
}  # fmt: skip
_MOST = 12  # files of one kind that are named


def status(run: Run) -> str:
    return click.style(run.status, fg=_STATUS.get(run.status))


def problems(found: Iterable[Problem]) -> None:
    for problem in found:
        click.echo(f"{severity(problem.severity)}: {shown(str(problem))}", err=True)


def show_list(runs: Sequence[Run], summaries: Mapping[Run, Mapping[str, Summary]]) -> None:
    """One line a run: version, name, status, when, how long, photos, losses, what changed."""
    depth = _depths(runs)
    validated = any(_last(summaries.get(run, {}), VALIDATION) != "–" for run in runs)
    rows = []
    for run in runs:
        found = summaries.get(run, {})
        name = "  " * depth[run] + click.style(run.record.version, bold=True)
        losses = [_last(found, TRAINING), *([_last(found, VALIDATION)] if validated else [])]
        photos = str(run.record.image_count or "–")
        rows.append(
            (
                name,
                status(run),
                when(run.record.started or run.record.created),
                duration(run.record.seconds),
                photos,
                *losses,
                _words(run),
            )
        )
    heads = (
        "run",
        "status",
        "started",
        "took",
        "photos",
        "loss",
        *(["validation"] if validated else []),
        "what changed",
    )
    table(rows, heads, right=frozenset(range(3, len(heads) - 1)))


def show_run(run: Run, summary: Mapping[str, Summary], told: Sequence[Statement], story: str) -> None:
    record = run.record
    name = f"  {shown(record.name)}" if record.name else ""
    click.echo(f"{click.style(record.version, bold=True)}{name}  {status(run)}  {shown(record.outcome)}".rstrip())
    took = f", took {duration(record.seconds)}" if record.seconds else ""
    facts = [
        ("started", f"{when(record.started or record.created)}{took}"),
        ("model", shown(record.output_name)),
        ("photos", _photos(run)),
        ("best", shown(best_measured(run))),
        ("device", shown(record.device)),
        ("lineage", shown(story)),
        ("note", shown(record.note)),
        ("folder", shown(run.folder)),
        *(("log", shown(log)) for log in run.logs),
    ]
    for label, text in facts:
        if text:
            lines = textwrap.wrap(text, width() - 11, break_long_words=False, break_on_hyphens=False)
            click.echo(f"  {label:<8} " + f"\n{'':11}".join(lines))
    if summary:
        heading("Curves")
        curves = [
            (shown(tag), number(line.last), number(line.min), f"{line.min_step:,}", f"{line.count:,}")
            for tag, line in summary.items()
        ]
        table(curves, ("", "last", "lowest", "at", "points"), right=frozenset({1, 2, 3, 4}))
    if told:
        heading("What they tell")
        for statement in told:
            click.echo(f"  {severity(statement.severity, '•')} {shown(statement.what)}")
    if record.checkpoints:
        heading("Files")
        for checkpoint in record.checkpoints:
            click.echo(f"  {shown(checkpoint.file)}  {size(checkpoint.bytes)}{_fate(run, checkpoint)}")
    if record.verdict:
        heading(f"Its LoRA (kohyakit lora check '{shown(str(record.verdict.get('file', '')))}')")
        for kind, sentence in sentences(record.verdict):
            click.echo(f"  {severity(kind, '•')} {shown(sentence)}")


def _fate(run: Run, checkpoint: Checkpoint) -> str:
    """What became of a file, where it is not there as the run wrote it."""
    if checkpoint.replaced_by:
        return click.style(f"  overwritten by {checkpoint.replaced_by}", fg="yellow")
    return "" if run.has(checkpoint.file) else click.style("  gone", fg="yellow")


def show_diff(runs: Sequence[Run]) -> None:
    rows = [row for row in settings_table(runs) if not row.bookkeeping]
    if rows:
        heading("Settings")
        _show_settings(runs, rows)
    for run in runs[1:]:
        _show_dataset_difference(runs[0], run)
    if not rows and all(not dataset_difference(runs[0], run) for run in runs[1:]):
        click.echo("Nothing that was recorded differs.")


def _show_settings(runs: Sequence[Run], rows: Sequence[Row]) -> None:
    """A column a run where that fits the terminal; a setting whose values do not gets a line a run below its name."""
    versions = [run.record.version for run in runs]
    texts = {row.name: [shown(text) for text in row.texts] for row in rows}
    room = (width() - max(map(len, texts)) - 2 * len(runs)) // len(runs)
    short = {name: values for name, values in texts.items() if max(map(len, (*values, *versions))) <= room}
    if short:
        table([(name, *values) for name, values in short.items()], ("", *versions))
    indent = max(map(len, versions)) + 6
    for name, values in texts.items():
        if name in short:
            continue
        click.echo(name)
        for version, value in zip(versions, values, strict=True):
            lines = textwrap.wrap(value, width() - indent, break_on_hyphens=False) or [""]
            click.echo(f"    {version:<{indent - 6}}  " + f"\n{'':{indent}}".join(lines))


def show_ranking(ranking: Ranking) -> None:
    first = ranking.places[0]
    best = click.style(first.run.record.version, bold=True, fg="green")
    file = f": {shown(first.checkpoint.file)}" if first.checkpoint else ""
    click.echo(f"{best}{file}")
    click.echo(f"by {ranking.metric} ({ranking.statistic}); how sure: {ranking.certainty}, {ranking.because}")
    click.echo()
    rows = []
    for place in ranking.places:
        error = f"± {number(place.error)}" if place.error else ""
        rows.append((place.run.record.version, number(place.value), error, f"{place.step:,}"))
    table(rows, ("run", ranking.metric, "", "at"), right=frozenset({1, 3}))
    for caveat in ranking.caveats:
        click.echo(f"{click.style('mind', fg='yellow')}: {caveat}")
    lacking = [run.record.version for run in ranking.without if run not in ranking.unfit]
    if lacking:
        click.echo(f"without {ranking.metric}: {', '.join(lacking)}")


def show_candidates(found: Sequence[Candidate]) -> None:
    rows = [(c.run.record.version, shown(c.path.name), size(c.bytes), c.why) for c in found]
    table(rows, ("run", "file", "size", "why"), right=frozenset({2}))


def _photos(run: Run) -> str:
    record = run.record
    if not record.image_count:
        return ""
    parts = [str(record.image_count)]
    parts += [f"{record.caption_count} with a caption"] if record.caption_count else []
    parts += [f"{record.reg_count} for regularisation"] if record.reg_count else []
    return ", ".join(parts)


def _last(summary: Mapping[str, Summary], tags: Sequence[str]) -> str:
    line = next((summary[tag] for tag in tags if tag in summary), None)
    return "–" if line is None else number(line.last)


def _words(run: Run) -> str:
    if run.problem is not None:
        return shown(run.problem.what)
    record = run.record
    parts = [record.name, record.note, f"from {record.parent}: {', '.join(record.changes)}" if record.changes else ""]
    return shown("; ".join(part for part in parts if part) or record.output_name)


def _depths(runs: Sequence[Run]) -> dict[Run, int]:
    """0 for the first run of a number, 1 for the others: the indent shows which share their photos."""
    numbers: set[int] = set()
    depths = {}
    for run in runs:
        depths[run] = int(run.version.number in numbers)
        numbers.add(run.version.number)
    return depths


def _show_dataset_difference(before: Run, after: Run) -> None:
    found = dataset_difference(before, after)
    if not found:
        return
    heading(f"Photos and captions, {before.record.version} → {after.record.version}")
    marks = (
        ("+", "green", [entry.file for entry in found.added]),
        ("-", "red", [entry.file for entry in found.removed]),
        ("~", "yellow", [f"{new.file} (edited)" for _, new in found.changed]),
        (">", None, [f"{old.file} → {new.file}" for old, new in found.renamed]),
        ("T", "cyan", [f"{new.file}: {_first(old.caption)} → {_first(new.caption)}" for old, new in found.recaptioned]),
        ("×", None, [f"{old.folder}: {words}" for old, new in found.subsets for words in subset_words(old, new)]),
    )
    for mark, colour, lines in marks:
        for line in lines[:_MOST]:
            click.echo(f"  {click.style(mark, fg=colour)} {cut(shown(line), width() - 4)}")
        if len(lines) > _MOST:
            click.echo(f"  {click.style(mark, fg=colour)} … {len(lines) - _MOST} more; --json lists all")


def _first(caption: str | None) -> str:
    text = (caption or "").strip().partition("\n")[0]
    return f"'{cut(text, 40)}'" if text else "none"


def setting_lines(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name, shown(show(value))) for name, value in values.items()]
