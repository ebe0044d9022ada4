"""`kohyakit runs`: list, show, compare, rank, import, tidy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from kohyakit.cli import SuggestingGroup
from kohyakit.words import count, size

_PROJECT = click.option(
    "-p", "--project", type=click.Path(path_type=Path), default=".", metavar="DIR",
    help="The folder that holds runs (a training's output_dir); this folder by default.",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="The same as JSON.")


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, ensure_ascii=False, indent=2, default=str))


@click.group(cls=SuggestingGroup)
def runs() -> None:
    """List, compare and import trainings: the number is the photos, the letter the settings (1a, 1b, 2a).

    \b
        kohyakit runs list my-lora/model --filter "network_dim >= 32 and loss.last < 0.1"
        kohyakit runs diff 1a 1b
        kohyakit runs import D:/kohya/output
    """


@runs.command("list")
@click.argument("project", type=click.Path(path_type=Path), default=".")
@click.option("--filter", "expression", metavar="EXPR", help="Only runs that fit: images > 20 and loss.last < 0.1.")
@_JSON
def list_command(project: Path, expression: str | None, as_json: bool) -> None:
    """List the runs of PROJECT, the folder that holds runs.

    \b
        kohyakit runs list --filter "network_dim >= 32 and status == 'finished'"
    """
    from kohyakit.cli.views import runs as runs_view
    from kohyakit.runs.as_json import run_data
    from kohyakit.runs.comparison import filter as filters
    from kohyakit.runs.registry import find_project, list_runs

    found = list(list_runs(find_project(project)))
    chosen = filters.matching(found, expression) if expression else found
    summaries = {run: _summary(run) for run in chosen}
    if as_json:
        _print_json([run_data(run, summaries[run]) for run in chosen])
        return
    runs_view.show_list(chosen, summaries)
    if expression:
        click.echo(f"{len(chosen)} of {len(found)} runs fit", err=True)


@runs.command()
@click.argument("version")
@click.option("--settings", is_flag=True, help="Every setting that is not the default, too.")
@_PROJECT
@_JSON
def show(version: str, settings: bool, project: Path, as_json: bool) -> None:
    """Show one run: what changed, its curves and what they tell, its files."""
    from kohyakit.cli.views import runs as runs_view
    from kohyakit.cli.views import terminal
    from kohyakit.runs import registry
    from kohyakit.runs.as_json import run_data
    from kohyakit.runs.comparison import compare

    every = registry.list_runs(registry.find_project(project))
    run = registry.find_run(every, version)
    summary = _summary(run)
    told, problems = _curves(run) if summary else ((), ())
    changed = compare.not_default(run)
    if as_json:
        told_data = [{"kind": s.name, "text": s.what, "severity": s.severity, "numbers": s.numbers} for s in told]
        _print_json({**run_data(run, summary), "settings": compare.settings_in_force(run), "statements": told_data})
        return
    runs_view.show_run(run, summary, told, compare.story(run, every))
    if settings:
        terminal.heading("Settings that are not the default")
        terminal.table(runs_view.setting_lines(changed))
    runs_view.problems([*([run.problem] if run.problem else []), *problems])


@runs.command()
@click.argument("versions", nargs=-1, required=True)
@_PROJECT
@_JSON
def diff(versions: tuple[str, ...], project: Path, as_json: bool) -> None:
    """Show what differs between runs: settings, photos, captions. One alone is compared with its parent."""
    from kohyakit.cli.views import runs as runs_view
    from kohyakit.runs import registry
    from kohyakit.runs.as_json import diff_data

    every = registry.list_runs(registry.find_project(project))
    chosen = [registry.find_run(every, version) for version in versions]
    if len(chosen) == 1:
        chosen.insert(0, registry.parent_of(chosen[0], every))
    if as_json:
        _print_json(diff_data(chosen))
    else:
        runs_view.show_diff(chosen)


@runs.command()
@click.option("--metric", metavar="TAG", help="Rank by this tag, lower is better; by default validation loss, if any.")
@click.option("--filter", "expression", metavar="EXPR", help="Only among the runs that fit.")
@_PROJECT
@_JSON
def best(metric: str | None, expression: str | None, project: Path, as_json: bool) -> None:
    """Say which run was best, by which number, and how sure that is."""
    from kohyakit.cli.views import runs as runs_view
    from kohyakit.runs.as_json import ranking_data
    from kohyakit.runs.comparison import best as ranking
    from kohyakit.runs.comparison import filter as filters
    from kohyakit.runs.registry import find_project, list_runs

    every = list(list_runs(find_project(project)))
    chosen = filters.matching(every, expression) if expression else every
    ranked = ranking.best(chosen, metric=metric)
    if as_json:
        _print_json(ranking_data(ranked))
    else:
        runs_view.show_ranking(ranked)


@runs.command()
@click.argument("version")
@click.argument("name")
@_PROJECT
@_JSON
def rename(version: str, name: str, project: Path, as_json: bool) -> None:
    """Give a run a name beside its version; '' takes it away. No file is renamed."""
    _change(version, project, as_json, name=name)


@runs.command()
@click.argument("version")
@click.argument("text")
@_PROJECT
@_JSON
def note(version: str, text: str, project: Path, as_json: bool) -> None:
    """Write a note to a run; '' takes it away."""
    _change(version, project, as_json, note=text)


@runs.command()
@click.argument("version")
@_PROJECT
@_JSON
def restore(version: str, project: Path, as_json: bool) -> None:
    """Put a run's files back under their names, where a later training of the same output_name moved them aside."""
    from kohyakit.cli.views import terminal
    from kohyakit.runs import earlier, registry

    run = registry.find_run(registry.list_runs(registry.find_project(project)), version)
    moved = earlier.restore(run)
    if as_json:
        _print_json({"run": run.record.version, "files": [str(path) for path in moved.values()]})
    else:
        place = terminal.near(run.project)
        click.echo(f"{count(len(moved), 'file')} of {run.record.version} back in {place}")


@runs.command()
@click.argument("versions", nargs=-1)
@click.option("--dry-run/--yes", default=True, show_default=True, help="Only list what could go, or move it.")
@click.option("--undo", is_flag=True, help="Bring back what the last pruning moved.")
@click.option("--imported", is_flag=True, help="Also files that Kohya's own tools wrote.")
@_PROJECT
@_JSON
def prune(versions: tuple[str, ...], dry_run: bool, undo: bool, imported: bool, project: Path, as_json: bool) -> None:
    """List states and in-between models that could go; --yes moves them to runs/trash, --undo brings them back."""
    from kohyakit.cli.views import runs as runs_view
    from kohyakit.cli.views import terminal
    from kohyakit.runs import as_json as data
    from kohyakit.runs import prune as pruning
    from kohyakit.runs import registry
    from kohyakit.runs.comparison import best as ranking

    place = registry.find_project(project)
    if undo:
        moved = pruning.bring_back(place)
        _tell_moved(moved, f"brought back {count(len(moved.files), 'file')}", as_json)
        return
    every = registry.list_runs(place)
    chosen = [registry.find_run(every, version) for version in versions] or list(every)
    found = pruning.candidates(chosen, keep=ranking.best_files(chosen), imported=imported)
    if not dry_run and found:
        moved = pruning.prune(place, found)
        files = f"{count(len(moved.files), 'file')} ({size(moved.bytes)})"
        text = f"moved {files} to {terminal.near(moved.trash)}"
        _tell_moved(moved, f"{text}; kohyakit runs prune --undo brings them back", as_json)
    elif as_json:
        _print_json([data.candidate_data(candidate) for candidate in found])
    elif found:
        runs_view.show_candidates(found)
        total = size(sum(candidate.bytes for candidate in found))
        click.echo(
            f"{count(len(found), 'file')}, {total}. Nothing was moved; --yes moves them to runs/trash.",
            err=True,
        )
    else:
        click.echo("Nothing could go.", err=True)


@runs.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="DIR", help="Keep the runs there; in FOLDER by default."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be imported.")
@_JSON
def import_command(folder: Path, into: Path | None, dry_run: bool, as_json: bool) -> None:
    """Read what Kohya's tools left below FOLDER: LoRA files, saved JSON and TOML, logs, samples. They are only read."""
    from kohyakit.cli.views import runs as runs_view
    from kohyakit.planning.as_json import finding_data
    from kohyakit.runs.as_json import run_data
    from kohyakit.runs.old.importing import import_runs

    done = import_runs(folder, into=into, dry_run=dry_run)
    if as_json:
        problems = [finding_data(problem) for problem in done.problems]
        _print_json({"runs": [run_data(run) for run in done.runs], "known": done.known, "problems": problems})
        return
    runs_view.show_list(done.runs, {run: _summary(run) for run in done.runs})
    runs_view.problems(done.problems)
    verb = "would be imported" if dry_run else "imported"
    known = f", {done.known} known before" if done.known else ""
    click.echo(f"{count(len(done.runs), 'run')} {verb}{known}.", err=True)


def _summary(run: Any) -> dict[str, Any]:
    """A run's metrics in numbers; {} where they cannot be read, so that a list is still a list."""
    from kohyakit.errors import MissingExtra
    from kohyakit.runs.comparison.summary import run_summary

    try:
        return dict(run_summary(run))
    except (MissingExtra, OSError):
        return {}


def _curves(run: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What a run's curves tell, and what is wrong with its logs; a sentence instead where pandas is missing."""
    from kohyakit.errors import MissingExtra
    from kohyakit.runs.comparison.best import scalars
    from kohyakit.runs.comparison.insight import statements
    from kohyakit.runs.comparison.summary import log_problems

    try:
        return statements(scalars(run)), log_problems(run)
    except MissingExtra as missing:
        return (), missing.problems


def _change(version: str, project: Path, as_json: bool, **values: str) -> None:
    from kohyakit.dataset.images import shown
    from kohyakit.runs import registry
    from kohyakit.runs.as_json import run_data

    run = registry.find_run(registry.list_runs(registry.find_project(project)), version)
    run.update(**values)
    if as_json:
        _print_json(run_data(run))
    else:
        click.echo(f"{run.record.version}: {shown(' · '.join(filter(None, (run.record.name, run.record.note))))}")


def _tell_moved(moved: Any, text: str, as_json: bool) -> None:
    from kohyakit.cli.views import runs as runs_view
    from kohyakit.runs.as_json import moved_data

    if as_json:
        _print_json(moved_data(moved))
    else:
        click.echo(text)
        runs_view.problems(moved.skipped)
    if moved.skipped:
        sys.exit(1)
