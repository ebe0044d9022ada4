"""A project's runs: start the next one, list them, find one by name.

A project is the folder that holds `runs`: the output_dir of its trainings.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.fingerprint import Fingerprint, fingerprint
from kohyakit.errors import Problem, RunError
from kohyakit.files import refuse_links
from kohyakit.planning.as_json import plan_data
from kohyakit.registry import OPTIMIZERS
from kohyakit.runs import redact
from kohyakit.runs.comparison.compare import changes, same_images
from kohyakit.runs.earlier import with_version
from kohyakit.runs.process import this_process
from kohyakit.runs.record_file import unwritable, write_json, write_text
from kohyakit.runs.run import (
    CONFIG_FILE,
    DATASET_FILE,
    FAILED,
    LOST,
    PLAN_FILE,
    RUN_FILE,
    RUNNING,
    RUNS_DIR,
    SETTINGS_FILE,
    SOURCE_STEM,
    UNREADABLE,
    Clock,
    Record,
    Run,
    now,
    open_run,
    timestamp,
)
from kohyakit.runs.version import Version, next_version

if TYPE_CHECKING:
    from kohyakit.dataset.layout import Scan
    from kohyakit.planning.plan import Plan

HASH_CACHE = "fingerprints.json"  # in the runs folder: what each image hashed to when it was last read
_PACKAGES = (
    "kohyakit",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "xformers",
    "lycoris-lora",
    "numpy",
    "pillow",
    *sorted({entry.package for entry in OPTIMIZERS.values()} - {""}),
)


def start(
    config: TrainConfig,
    *,
    plan: Plan | None = None,
    scan: Scan | None = None,
    version: str | Version | None = None,
    parent: str | Version | None = None,
    note: str = "",
    clock: Clock = now,
) -> Run:
    """Make the run's folder under `<output_dir>/runs` and record what is about to happen; status `running`.

    plan: what make_plan gave. scan: what layout.scan gave; read from the config when None.
    version: a name of your own that is still free. parent: the run this one is measured against; without it the
    run whose state is resumed, else the newest with the same images, else the newest; never one that failed.
    Raises RunError for a version that is taken, an unknown parent, or a folder that cannot be written.
    """
    output_dir = Path(config.saving.output_dir or ".").absolute()
    runs = list_runs(output_dir)
    images = fingerprint(_scan(config, scan), cache=output_dir / RUNS_DIR / HASH_CACHE)
    chosen = Version.parse(version) if isinstance(version, str) else version
    moment = clock()
    record = Record(
        version=str(chosen or Version(1, 1)),
        status=RUNNING,
        note=note,
        output_name=config.saving.output_name or "",
        created=timestamp(moment),
        started=timestamp(moment),
        images=images.images,
        images_by_name=images.by_name,
        image_count=images.image_count,
        reg_count=images.reg_count,
        captions=images.captions,
        caption_count=images.caption_count,
        resumed_from=config.training.resume or "",
        cwd=Path.cwd().as_posix(),
        seeds={"seed": config.training.seed},
        packages=package_versions(),
        process=this_process(),
    )
    parent_run = _parent(runs, parent, record)
    record = replace(record, parent=str(parent_run.version) if parent_run else "")
    free = chosen or _name_for(record, parent_run, runs)
    folder, name = claim_folder(output_dir, free, fixed=chosen is not None, record=record)
    record = _called(record, name)
    run = Run(folder, record, clock=clock)
    run.owned = True
    try:
        _write_materials(run, config, plan, images)
        if parent_run is not None:
            run.update(changes=_changes(parent_run, run, config))
    except BaseException as error:
        with contextlib.suppress(OSError, RunError):
            run.finish(FAILED, f"could not be recorded: {error or type(error).__name__}")
        if not isinstance(error, OSError):
            raise
        raise unwritable(folder, error) from error
    return run


def list_runs(project: Path | str) -> tuple[Run, ...]:
    """Every run of a project in order of version, damaged ones too; () for a project without runs."""
    folder = Path(project).absolute() / RUNS_DIR
    try:
        names = [entry.name for entry in folder.iterdir() if Version.is_version(entry.name) and entry.is_dir()]
    except (OSError, ValueError):  # ValueError: a name that no folder can have
        return ()
    runs = []
    for name in sorted(names, key=Version.parse):
        try:
            runs.append(open_run(folder / name))
        except RunError:  # deleted between the listing and the reading
            continue
    return tuple(runs)


def find_projects(path: Path | str = ".") -> tuple[Path, ...]:
    """The projects at a path: itself, the project of a runs or run folder, else those up to two levels below."""
    path = Path(path).absolute()
    candidates = [path]
    if path.name == RUNS_DIR:
        candidates.append(path.parent)
    elif path.parent.name == RUNS_DIR and Version.is_version(path.name):
        candidates.append(path.parent.parent)
    for candidate in candidates:
        if _has_runs(candidate):
            return (candidate,)
    found = {runs.parent for pattern in (f"*/{RUNS_DIR}", f"*/*/{RUNS_DIR}") for runs in path.glob(pattern)}
    return tuple(sorted(project for project in found if _has_runs(project)))


def find_project(path: Path | str = ".") -> Path:
    """The one project at a path. Raises RunError when there is none, or more than one."""
    found = find_projects(path)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(project) for project in found[:5])
        raise RunError(Problem(str(path), f"holds {len(found)} projects with runs", f"name one of them: {names}"))
    cure = "name the folder that holds runs, such as a training's output_dir"
    if not Path(path).is_dir():
        raise RunError(Problem(str(path), "there is no such folder", cure))
    cure = "train with kohyakit train, or read older work with kohyakit runs import"
    raise RunError(Problem(str(path), "holds no runs", cure))


def find_run(runs: Sequence[Run], name: str) -> Run:
    """A run by its version or the name a person gave it. Raises RunError with those there are."""
    wanted = name.strip().lower()
    for run in runs:
        if str(run.version) == wanted or (run.record.name and run.record.name.lower() == wanted):
            return run
    versions = ", ".join(str(run.version) for run in runs[-12:]) or "none yet"
    raise RunError(Problem(name, "there is no such run", f"there are {versions}"))


def parent_of(run: Run, runs: Sequence[Run]) -> Run:
    """The run that a run is measured against. Raises RunError for one without."""
    if not run.record.parent:
        raise RunError(Problem(run.record.version, "has no parent to be compared with", "name two runs"))
    return find_run(runs, run.record.parent)


def package_versions() -> dict[str, str]:
    """Versions of what decides a training's result, read without importing any of it."""
    from importlib import metadata

    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if "kohyakit" not in found:
        from kohyakit import __version__

        found["kohyakit"] = __version__
    return found


def _scan(config: TrainConfig, scan: Scan | None) -> Scan:
    if scan is not None:
        return scan
    from kohyakit.dataset import layout

    return layout.scan(config)


def _parent(runs: Sequence[Run], wanted: str | Version | None, record: Record) -> Run | None:
    readable = [run for run in runs if run.status != UNREADABLE]
    if wanted is not None:
        return find_run(runs, str(wanted))
    if record.resumed_from:
        resumed = _maker_of(readable, Path(record.resumed_from))
        if resumed is not None:
            return resumed
    newest = sorted(filter(_bore_fruit, readable), key=lambda run: (run.record.created, run.version))
    same = [run for run in newest if same_images(run.record, record)]
    return next(reversed(same or newest), None)


def _bore_fruit(run: Run) -> bool:
    """Whether a run can be measured against: not one that failed, or was killed before it saved anything."""
    return run.status != FAILED and (run.status != LOST or bool(run.record.checkpoints))


def _maker_of(runs: Sequence[Run], state: Path) -> Run | None:
    """The newest run that wrote a state folder."""
    for run in sorted(runs, key=lambda run: run.record.created, reverse=True):
        files = (checkpoint.file for checkpoint in run.record.checkpoints if not checkpoint.replaced_by)
        if any(run.locate(file).absolute() == state.absolute() for file in files):
            return run
    return None


def _name_for(record: Record, parent: Run | None, runs: Sequence[Run]) -> Version:
    """The number belongs to the images: whichever run trained on the same ones lends its own."""
    same = [run for run in runs if run.status != UNREADABLE and same_images(run.record, record)]
    if parent is not None and parent in same:
        same = [parent]
    base = same[-1].version if same else parent.version if parent else None
    return next_version(base, bool(same), [run.version for run in runs])


def claim_folder(
    project: Path, name: Version, *, fixed: bool = False, record: Record | None = None
) -> tuple[Path, Version]:
    """Claim the folder; when another training took the name in the same moment, the next letter.

    record: stands in the folder from the moment others see it, so that a training which starts beside this one
    knows what it is compared with; its version becomes the name.
    """
    runs = project / RUNS_DIR
    fresh = runs / f".new-{uuid.uuid4().hex}"
    try:
        refuse_links(project, runs)
        runs.mkdir(parents=True, exist_ok=True)
        while not _take(runs / str(name), name, fresh, record):
            if fixed:
                cure = "leave --version out for the next free one"
                raise RunError(Problem(str(name), "there is a run of this name already", cure))
            name = Version(name.number, name.letter + 1)
    except OSError as error:
        what = f"runs cannot be kept there ({error.strerror})"
        raise RunError(Problem(str(project), what, "choose another output_dir")) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return runs / str(name), name


def _take(folder: Path, name: Version, fresh: Path, record: Record | None) -> bool:
    """Whether the folder is this training's now. A rename never replaces a folder that holds something."""
    try:
        if record is None:
            folder.mkdir()
            return True
        if folder.exists():
            return False
        fresh.mkdir(exist_ok=True)
        write_json(fresh / RUN_FILE, _called(record, name).to_json())
        fresh.rename(folder)
        return True
    except OSError:
        if folder.exists():
            return False
        raise


def _called(record: Record, name: Version) -> Record:
    return replace(record, version=str(name), output_name=with_version(record.output_name, name))


def output_name(config: TrainConfig, version: Version) -> str | None:
    """The name of a run's files: the config's, with the version where `{version}` stands in it."""
    name = config.saving.output_name
    return None if name is None else with_version(name, version)


def called(plan: Plan, version: Version) -> Plan:
    """The plan with the run's version in every name where `{version}` stands."""
    return plan.called(lambda name: with_version(name, version))


def _write_materials(run: Run, config: TrainConfig, plan: Plan | None, images: Fingerprint) -> None:
    from kohyakit.formats import train_toml

    clean = redact.without_secrets(config)
    secrets = redact.secret_values(config)
    settings = {name: value for name, value in clean.items() if not redact.is_secret(name)}
    write_json(run.folder / SETTINGS_FILE, {**settings, **clean.extras})
    write_text(run.folder / DATASET_FILE, images.dumps())
    if config.source is not None and config.source.text:
        suffix = config.source.path.suffix if config.source.path else ""
        suffix = suffix or {"gui-json": ".json", "toml": ".toml"}.get(config.source.format, ".txt")
        write_text(run.folder / f"{SOURCE_STEM}{suffix}", redact.blot(config.source.text, secrets))
    named = clean.with_values(output_name=output_name(config, run.version))
    write_text(run.folder / CONFIG_FILE, redact.blot(train_toml.dumps(named), secrets))
    if plan is not None:
        write_json(run.folder / PLAN_FILE, plan_data(called(plan, run.version)))


def _changes(parent: Run, run: Run, config: TrainConfig) -> tuple[str, ...]:
    resumed = (f"resumed from {Path(config.training.resume).name}",) if config.training.resume else ()
    return (*resumed, *changes(parent, run))


def _has_runs(project: Path) -> bool:
    folder = project / RUNS_DIR
    try:
        return any(Version.is_version(entry.name) for entry in folder.iterdir())
    except OSError:
        return False
