"""Old work counts: what Kohya's tools left behind, matched into runs and given versions in order.

The files are only read. What is found out goes into `runs/` below the given folder, or below another project.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kohyakit.config.train import SPECS
from kohyakit.errors import Problem, RunError
from kohyakit.files import read_text
from kohyakit.runs import redact, registry
from kohyakit.runs.comparison.compare import changes, same_images
from kohyakit.runs.old.kohya_files import Leftovers, LogFolder, ModelFile, SampleFile, SettingsFile, find
from kohyakit.runs.old.metadata_settings import dataset_from, settings_from
from kohyakit.runs.record_file import write_json, write_text
from kohyakit.runs.run import (
    FINISHED,
    INTERRUPTED,
    RUN_FILE,
    SETTINGS_FILE,
    SOURCE_STEM,
    Checkpoint,
    Record,
    Run,
    relative_to,
    timestamp,
)
from kohyakit.runs.version import Version, next_version

_SLACK = 60.0  # seconds by which two clocks' notes of one moment may differ
_WARM_UP = 6 * 3600.0  # from the click on Start to the first step: loading, caching thousands of images
_LONGEST = 14 * 86400.0  # from the click to the last file
_ONE_CLICK = 5.0  # seconds between the files that one click writes


@dataclass(slots=True)
class Training:
    """One training as it was pieced together, in seconds since 1970, None where nothing tells.

    ended: a guess to match files by, for want of better the date of a file, which a copy changes. told: when it ended
    as its files themselves say.
    """

    key: str
    name: str
    started: float | None
    ended: float | None
    told: float | None = None
    models: list[ModelFile] = field(default_factory=list)
    states: list[Path] = field(default_factory=list)
    settings: list[SettingsFile] = field(default_factory=list)
    log: LogFolder | None = None
    samples: list[SampleFile] = field(default_factory=list)

    @property
    def metadata(self) -> Mapping[str, str]:
        """Of the model that went furthest, a file under its own name before one that was renamed or resized."""
        best = max(self.models, key=lambda m: (m.name == self.name, _whole(m.metadata, "ss_steps") or 0), default=None)
        return best.metadata if best is not None else {}

    @property
    def source(self) -> SettingsFile | None:
        """The GUI's own preset before the TOML that it wrote from it."""
        return min(self.settings, key=lambda s: s.path.suffix.lower() != ".json", default=None)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made: new runs; trainings that were imported before; what could not be read."""

    runs: tuple[Run, ...]
    known: int
    problems: tuple[Problem, ...]


def import_runs(folder: Path | str, *, into: Path | str | None = None, dry_run: bool = False) -> Imported:
    """Piece together every training below a folder and record each as a run, oldest first.

    into: the project that gets the runs; the folder itself when None. dry_run: write nothing.
    What was imported before, and models that a kohyakit run names as its own, are passed over.
    Raises RunError for a folder that is missing or holds nothing of Kohya's.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise RunError(Problem(str(folder), "there is no such folder", "name the folder that holds the LoRA files"))
    project = Path(into).absolute() if into is not None else folder
    leftovers = find(folder)
    if not leftovers:
        what, cure = "holds nothing that Kohya's tools left", "name the folder with LoRA files, saved JSON or logs"
        raise RunError([Problem(str(folder), what, cure), *leftovers.problems])
    runs = list(registry.list_runs(project))
    known = {run.record.imported.get("key") for run in runs}
    own = {run.locate(checkpoint.file) for run in runs for checkpoint in run.record.checkpoints}
    own_logs = {log for run in runs for log in run.logs}
    trainings, problems = match(leftovers)
    new, passed = [], 0
    for training in trainings:
        paths = {model.path for model in training.models}
        if training.key in known or (paths and paths <= own) or (training.log and training.log.path in own_logs):
            passed += 1
        else:
            new.append(training)
    made: list[Run] = []
    for training in new:
        run = _record(training, project, [*runs, *made], folder, dry_run)
        made.append(run)
    return Imported(tuple(made), passed, tuple([*leftovers.problems, *problems]))


def match(leftovers: Leftovers) -> tuple[list[Training], list[Problem]]:
    """Files -> trainings, oldest first; and a hint for saved settings that belong to none."""
    launches = _launches(leftovers.settings)
    trainings = _from_models(leftovers.models)
    dated = [training for training in trainings if training.started is not None]
    undated = [training for training in trainings if training.started is None]
    taken: set[Path] = set()
    for some in (dated, undated):  # files that tell their time choose first
        _give_settings(some, launches, leftovers.zone, taken)
        known = [training for training in some if training.started is not None or training.settings]
        _give_logs(known, [log for log in leftovers.logs if log.path not in taken])
        taken |= {training.log.path for training in some if training.log}
    trainings = dated + [training for training in undated if training.settings]
    trainings += _without_models(launches, leftovers, taken)
    mute = [training.models[0].path.name for training in undated if not training.settings]
    idle = [launch[0].path.name for launch in launches if launch[0].path not in taken]
    problems = [
        *_told(mute, "LoRA files carry no metadata, and no saved settings tell of their training"),
        *_told(idle, "saved settings belong to no training that left a model or a log"),
    ]
    trainings.sort(key=lambda training: (training.started or training.ended or 0.0, training.name))
    _give_samples(trainings, leftovers.samples, leftovers.zone)
    _give_states(trainings, leftovers.states)
    return trainings, problems


def _from_models(models: Sequence[ModelFile]) -> list[Training]:
    """One training a session of sd-scripts; files saved without metadata by folder and name."""
    found: dict[str, Training] = {}
    for model in models:
        key = model.training or f"{model.path.parent.as_posix()}/{model.name}"
        started = _moment(model.metadata, "ss_training_started_at")
        told = _moment(model.metadata, "ss_training_finished_at")
        ended = told or model.modified
        name = model.metadata.get("ss_output_name") or model.name
        training = found.setdefault(key, Training(key, name, started, ended))
        training.ended = max(training.ended or ended, ended)
        training.told = max(filter(None, (training.told, told)), default=None)
        training.models.append(model)
    return list(found.values())


def _give_logs(trainings: list[Training], logs: Sequence[LogFolder]) -> None:
    """Each log to the training in whose time it began, the nearest pairs first; without a time, by when both ended."""
    pairs = []
    for training in trainings:
        for log in logs:
            if training.started is not None and training.ended is not None:
                distance = abs(log.started - training.started)
                fits = training.started - _SLACK <= log.started <= training.ended + _SLACK
            else:
                distance = abs((log.ended or log.modified) - (training.ended or 0.0))
                fits = distance <= 10 * _SLACK
            if fits:
                pairs.append((distance, id(log), training, log))
    taken: set[int] = set()
    for _, number, training, log in sorted(pairs, key=lambda pair: pair[:2]):
        if training.log is None and number not in taken:
            training.log = log
            training.started = training.started if training.started is not None else log.started
            taken.add(number)


def _launches(settings: Sequence[SettingsFile]) -> list[list[SettingsFile]]:
    """Files that one click wrote: the same output_name within seconds."""
    found: list[list[SettingsFile]] = []
    for one in sorted(settings, key=lambda one: (one.output_name, one.wall)):
        last = found[-1][-1] if found else None
        if last is not None and last.output_name == one.output_name and one.wall - last.wall <= _ONE_CLICK:
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _give_settings(
    trainings: list[Training], launches: list[list[SettingsFile]], zone: float, taken: set[Path]
) -> None:
    """Each launch to the training of its name that began soonest after it and does not contradict it.

    A training that does not tell when it began takes the last launch of its name before its files.
    """
    pairs = []
    for training in trainings:
        for launch in launches:
            if launch[0].output_name != training.name:
                continue
            wait = (training.started or training.ended or 0.0) - (launch[0].wall - zone)
            longest = _WARM_UP if training.started is not None else _LONGEST
            if -_SLACK <= wait <= longest and not _contradicts(launch[0], training):
                pairs.append((abs(wait), id(launch[0]), training, launch))
    for _, _, training, launch in sorted(pairs, key=lambda pair: pair[:2]):
        if not training.settings and launch[0].path not in taken:
            training.settings = launch
            taken |= {settings.path for settings in launch}


def _told(names: list[str], what: str) -> list[Problem]:
    """A hint that counts files and names the first few; none for no files."""
    if not names:
        return []
    shown = ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")
    return [Problem("", f"{len(names)} {what} ({shown})", "", "passed_over", "hint")]


def _contradicts(settings: SettingsFile, training: Training) -> bool:
    """Whether the settings say another rank or seed than the model's own metadata."""
    told = settings_from(training.metadata)
    asked = {"network_dim": settings.config.network.network_dim, "seed": settings.config.training.seed}
    return any(None not in (told.get(name), value) and told[name] != value for name, value in asked.items())


def _without_models(launches: list[list[SettingsFile]], leftovers: Leftovers, taken: set[Path]) -> list[Training]:
    """Logs that no model explains: trainings that failed early, or whose files were deleted."""
    found = []
    free = [log for log in leftovers.logs if log.path not in taken]
    for log in sorted(free, key=lambda log: log.started):
        near = [
            launch for launch in launches
            if launch[0].path not in taken and -_SLACK <= log.started - (launch[0].wall - leftovers.zone) <= _WARM_UP
        ]  # fmt: skip
        launch = max(near, key=lambda launch: launch[0].wall, default=[])
        name = launch[0].output_name if launch else ""
        training = Training(f"log {log.path.as_posix()}", name, log.started, log.ended)
        training.log, training.settings = log, list(launch)
        taken |= {settings.path for settings in launch}
        found.append(training)
    return found


def _give_samples(trainings: list[Training], samples: Sequence[SampleFile], zone: float) -> None:
    for sample in samples:
        moment = sample.wall - zone
        fits = [
            training for training in trainings
            if sample.name in (training.name, "") and training.started is not None and training.ended is not None
            and training.started - _SLACK <= moment <= training.ended + 10 * _SLACK
        ]  # fmt: skip
        if fits:
            max(fits, key=lambda training: training.started or 0.0).samples.append(sample)


def _give_states(trainings: list[Training], states: Sequence[Path]) -> None:
    """`<name>-000004-state` to the training of that name in its folder, the one that went on when it was written."""
    for state in states:
        stem = state.name.removesuffix("-state")
        fits = [
            training for training in trainings
            if any(model.path.parent == state.parent for model in training.models)
            and stem.startswith(training.name) and training.name
        ]  # fmt: skip
        written = state.stat().st_mtime
        during = [t for t in fits if (t.started or 0) - _SLACK <= written <= (t.ended or 0) + 10 * _SLACK]
        if during or fits:
            max(during or fits, key=lambda training: (len(training.name), training.started or 0)).states.append(state)


def _record(training: Training, project: Path, runs: list[Run], folder: Path, dry_run: bool) -> Run:
    """The run of a training, written unless it is a dry run."""
    told, images, captions = dataset_from(training.metadata)
    source = training.source
    settings = _settings(training)
    record = replace(
        _plain_record(training, project), images=images, images_by_name=images, captions=captions,
        image_count=sum(told["photos"].values()), reg_count=sum(told["reg"].values()),
        seeds={"seed": settings.get("seed")},
        imported={
            "key": training.key, "from": relative_to(folder, project), "partial": source is None, "dataset": told,
            "files": [relative_to(settings.path, project) for settings in training.settings],
        },
    )  # fmt: skip
    same = [run for run in runs if same_images(run.record, record)]
    parent = next(reversed(same or runs), None)
    name = next_version(parent.version if parent else None, bool(same), [run.version for run in runs])
    record = replace(record, version=str(name), parent=str(parent.version) if parent else "")
    run = Run(project / registry.RUNS_DIR / str(name), record)
    run.settings = settings
    if parent is not None:
        run.record = replace(run.record, changes=changes(parent, run))
    if not dry_run:
        _write(run, project, name, source)
    return run


def _plain_record(training: Training, project: Path) -> Record:
    """All but the version, the data set and the settings."""
    metadata = training.metadata
    steps, epochs = _whole(metadata, "ss_steps"), _whole(metadata, "ss_epoch")
    wanted = _whole(metadata, "ss_max_train_steps")
    result = any(model.epoch is None and model.step is None for model in training.models)
    finished = result and (steps is None or wanted is None or steps >= wanted)
    started = None if training.started is None else timestamp(datetime.fromtimestamp(training.started, UTC))
    last = max(filter(None, (training.told, training.log.ended if training.log else None)), default=None)
    ended = None if last is None else timestamp(datetime.fromtimestamp(last, UTC))
    seconds = last - training.started if last and training.started and last >= training.started else None
    guess = None if training.ended is None else timestamp(datetime.fromtimestamp(training.ended, UTC))
    folders = [sample.path.parent for sample in training.samples]
    commit = metadata.get("ss_sd_scripts_commit_hash", "")
    return Record(
        version="1a", status=FINISHED if finished else INTERRUPTED, output_name=training.name,
        outcome=_outcome(training, steps, wanted, epochs), steps=steps, epochs=epochs,
        created=started or ended or guess or "", started=started or "", ended=ended or "",
        seconds=round(seconds, 1) if seconds is not None else None,
        packages={"sd-scripts": commit} if commit and commit != "(unknown)" else {},
        logs=(relative_to(training.log.path, project),) if training.log else (),
        samples=relative_to(max(set(folders), key=folders.count), project) if folders else "",
        checkpoints=_checkpoints(training, project),
    )  # fmt: skip


def _checkpoints(training: Training, project: Path) -> tuple[Checkpoint, ...]:
    models = [
        Checkpoint(
            relative_to(model.path, project), "model", model.epoch or _whole(model.metadata, "ss_epoch"),
            model.step or _whole(model.metadata, "ss_steps"), model.bytes,
        )
        for model in training.models
    ]  # fmt: skip
    states = [Checkpoint(relative_to(state, project), "state") for state in training.states]
    return tuple(sorted(models, key=lambda c: (c.step or 0, len(c.file)))) + tuple(states)


def _outcome(training: Training, steps: int | None, wanted: int | None, epochs: int | None) -> str:
    if not training.models:
        return "no model was found"
    count = len(training.models)
    parts = [f"{count} model{'s' * (count != 1)}"]
    if steps is not None:
        parts.insert(0, f"{steps} of {wanted} steps" if wanted else f"{steps} steps")
    if epochs:
        parts.insert(1, f"{epochs} epoch{'s' * (epochs != 1)}")
    return ", ".join(parts)


def _settings(training: Training) -> dict[str, Any]:
    """Of the saved preset or TOML, what the model's metadata add; without a file, the metadata alone."""
    told = settings_from(training.metadata)
    source = training.source
    if source is None:
        return told
    clean = redact.without_secrets(source.config)
    asked = {name: value for name, value in clean.items() if not redact.is_secret(name)}
    missing = {name: value for name, value in told.items() if asked.get(name) in (None, SPECS()[name].default)}
    return {**asked, **missing, **clean.extras}


def _write(run: Run, project: Path, name: Version, source: SettingsFile | None) -> None:
    folder, _ = registry.claim_folder(project, name, fixed=True)
    write_json(folder / RUN_FILE, run.record.to_json())
    write_json(folder / SETTINGS_FILE, run.settings)
    if source is not None:
        text = read_text(source.path, encoding="utf-8-sig")
        clean = redact.blot(text, redact.secret_values(source.config))
        write_text(folder / f"{SOURCE_STEM}{source.path.suffix}", clean)


def _moment(metadata: Mapping[str, str], key: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(metadata[key]) if metadata.get(key) else None
    return None


def _whole(metadata: Mapping[str, str], key: str) -> int | None:
    with contextlib.suppress(ValueError):
        return int(metadata[key]) if metadata.get(key) else None
    return None
