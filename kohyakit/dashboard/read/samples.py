"""The pictures a training drew on its way: from its index `samples.jsonl`, else from Kohya's file names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kohyakit.dashboard.read.memo import Memo, stamp_of
from kohyakit.files import read_text
from kohyakit.runs.run import Run

INDEX_FILE = "samples.jsonl"
_INDEX_LIMIT = 64 << 20  # bytes; a sample takes 500
_NAME = re.compile(
    r"(?P<stem>.*?)_?(?P<at>e?\d{6})_(?P<index>\d{2,})_(?P<time>\d{14})(?:_(?P<seed>\d+))?\.(?:png|jpg|jpeg|webp)",
    re.IGNORECASE,
)
"""`{output_name}_{e000001 | 000100}_{index:02}_{time}[_{seed}].png`, as sd-scripts names them."""


@dataclass(frozen=True)
class Sample:
    """One picture. step, epoch: None where neither index nor name tells. strength: the LoRA's, None as trained."""

    path: Path
    index: int
    step: int | None = None
    epoch: int | None = None
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    strength: float | None = None
    time: str = ""

    @property
    def label(self) -> str:
        parts = [f"step {self.step}"] if self.step is not None else []
        return " · ".join([*parts, *([f"epoch {self.epoch}"] if self.epoch is not None else [])]) or "unknown step"


def samples_of(run: Run) -> tuple[Sample, ...]:
    """A run's samples by step, then prompt; () when its folder is gone or empty. Nothing is decoded."""
    return _seen(run)[0]


def last_sample(run: Run) -> Sample | None:
    """The newest sample: of the last step the first prompt."""
    return _seen(run)[1]


def _seen(run: Run) -> tuple[tuple[Sample, ...], Sample | None]:
    folder = run.samples or run.project / "sample"
    stamp = stamp_of(folder, folder / INDEX_FILE)

    def make() -> tuple[tuple[Sample, ...], Sample | None]:
        found = _of_run(run, _FOLDERS.get(str(folder), stamp, lambda: _read(folder)))
        last = max((position(sample) for sample in found), default=0)
        return found, min((s for s in found if position(s) == last), key=lambda s: s.index, default=None)

    return _CACHE.get(str(run.folder), (*stamp, run.record.started, run.record.ended), make)


def position(sample: Sample) -> int:
    """Where a sample stands on the slider: its step, else its epoch, else the start."""
    return sample.step if sample.step is not None else sample.epoch or 0


def prompts(samples: Iterable[Sample]) -> tuple[tuple[int, str], ...]:
    """The prompts as they are listed: (index, words), words empty where only names tell."""
    found: dict[tuple[int, str], None] = {}
    for sample in sorted(samples, key=lambda s: s.index):
        found[sample.index, sample.prompt] = None
    return tuple(found)


def at_strengths(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Of prompts that were drawn at another strength than as trained: words -> all their samples."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.prompt, []).append(sample)
    return {words: drawn for words, drawn in found.items() if strengths(drawn)}


def strengths(samples: Iterable[Sample]) -> tuple[float, ...]:
    return tuple(sorted({s.strength for s in samples if s.strength is not None}))


_CACHE, _FOLDERS = Memo(5000), Memo(8)


@dataclass(frozen=True)
class _Named:
    """A picture that the index does not tell of, by its name. time: when it was drawn, None for no real time."""

    name: str
    match: re.Match[str]
    time: datetime | None


@dataclass(frozen=True)
class _Folder:
    """A folder of samples, read once for all the runs that draw into it.

    listed: owner as the index names it, "" for nobody -> (name, entry); named: the stem of a name -> pictures.
    """

    path: Path
    listed: Mapping[str, Sequence[tuple[str, dict[str, Any]]]]
    named: Mapping[str, Sequence[_Named]]


def _read(folder: Path) -> _Folder:
    try:
        names = {name for name in os.listdir(folder) if name.lower().endswith((".png", ".jpg", ".jpeg", ".webp"))}
    except OSError:
        names = set()
    entries = dict(_indexed(folder, names))
    listed: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, entry in entries.items():
        listed.setdefault(str(entry.get("run") or ""), []).append((name, entry))
    named: dict[str, list[_Named]] = {}
    for name in names - entries.keys():
        if match := _NAME.fullmatch(name):
            named.setdefault(match["stem"], []).append(_Named(name, match, _moment(match["time"])))
    return _Folder(folder, listed, named)


def _moment(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, "%Y%m%d%H%M%S").astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def _indexed(folder: Path, names: set[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each line of the index whose file lies beside it; one cut off by a killed training is passed over."""
    try:
        lines = read_text(folder / INDEX_FILE, _INDEX_LIMIT, errors="replace").split("\n")
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        name = entry.get("file") if isinstance(entry, dict) else None
        # Only a plain name counts: the index must not be able to point out of its own folder.
        if isinstance(name, str) and name in names:
            yield name, entry


def _of_run(run: Run, folder: _Folder) -> tuple[Sample, ...]:
    owners = dict.fromkeys(("", run.record.version, run.folder.name))
    found = [_from_entry(folder.path / name, entry) for owner in owners for name, entry in folder.listed.get(owner, ())]
    stem = run.record.output_name
    named = folder.named.get(stem, ()) if stem else (one for group in folder.named.values() for one in group)
    found += _from_names(run, folder.path, named)
    return tuple(sorted(found, key=lambda s: (position(s), s.index, s.path.name)))


def _from_entry(path: Path, entry: dict[str, Any]) -> Sample:
    return Sample(
        path,
        index=_whole(entry.get("index")) or 0,
        step=_whole(entry.get("step")),
        epoch=_whole(entry.get("epoch")),
        prompt=str(entry.get("prompt") or ""),
        negative_prompt=str(entry.get("negative_prompt") or ""),
        seed=_whole(entry.get("seed")),
        width=_whole(entry.get("width")),
        height=_whole(entry.get("height")),
        strength=_strength(entry.get("network_multiplier")),
        time=str(entry.get("time") or ""),
    )


def _strength(told: Any) -> float | None:
    return None if isinstance(told, bool) or not isinstance(told, (int, float)) or told == 1 else float(told)


def _from_names(run: Run, folder: Path, named: Iterable[_Named]) -> Iterator[Sample]:
    """Samples of this run told by their names: the same output_name, drawn while the run went on."""
    first, last = _time(run.record.started), _time(run.record.ended)
    mine = [one for one in named if one.time is None or _within(one.time, first, last)]
    per_epoch = steps_per_epoch(run) if mine else None
    for name, match in ((one.name, one.match) for one in mine):
        epoch = int(match["at"][1:]) if match["at"].startswith("e") else None
        step = int(match["at"]) if epoch is None else (round(epoch * per_epoch) if per_epoch else None)
        seed = int(match["seed"]) if match["seed"] else None
        yield Sample(folder / name, int(match["index"]), step, epoch, seed=seed, time=match["time"])


def steps_per_epoch(run: Run) -> float | None:
    """From the run's plan, else its record; None when neither tells."""
    plan = run.plan()
    planned = plan.get("steps_per_epoch") or (plan.get("length") or {}).get("steps_per_epoch")
    if isinstance(planned, (int, float)) and planned > 0:
        return float(planned)
    if run.record.steps and run.record.epochs:
        return run.record.steps / run.record.epochs
    return None


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone() if text else None
    except (ValueError, OverflowError, OSError):
        return None


def _within(moment: datetime, first: datetime | None, last: datetime | None) -> bool:
    """Whether a name's local time lies within the run, a minute either side; yes where the run keeps no times."""
    late = first is not None and (first - moment).total_seconds() > 60
    early = last is not None and (moment - last).total_seconds() > 60
    return not (late or early)


def _whole(value: Any) -> int | None:
    return (
        int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63 else None
    )


def by_epoch(sample: Sample, per_epoch: float | None) -> float | None:
    """The epoch after which a sample was drawn; None where nothing tells."""
    if sample.epoch is not None:
        return float(sample.epoch)
    return round(sample.step / per_epoch, 2) if sample.step is not None and per_epoch else None


def wall(runs: Sequence[Run], picture_url, *, over: str = "step") -> dict[str, Any]:
    """What the wall of samples draws: a column a run, a row a prompt, the slider's places over all of them.

    over: step, or epoch, where runs whose epochs are of other lengths line up; samples that have none are left out.
    """
    found = [samples_of(run) for run in runs]
    place: dict[Path, float] = {}
    for run, samples in zip(runs, found, strict=True):
        per_epoch = steps_per_epoch(run) if over == "epoch" else None
        for sample in samples:
            at = by_epoch(sample, per_epoch) if over == "epoch" else position(sample)
            if at is not None:
                place[sample.path] = at
    found = [
        tuple(sorted((s for s in samples if s.path in place), key=lambda s: (place[s.path], s.index)))
        for samples in found
    ]
    keys: dict[tuple[int, str], None] = {}
    for samples in found:
        for key in prompts(s for s in samples if s.strength is None):
            keys[key] = None
    steps: dict[float, str] = {}
    for sample in sorted((s for samples in found for s in samples), key=lambda s: place[s.path]):
        at = place[sample.path]
        steps[at] = f"epoch {at:g}" if over == "epoch" else sample.label
    rows = []
    for index, prompt in sorted(keys):
        cells = [
            [
                _cell(s, place[s.path], picture_url)
                for s in samples
                if (s.index, s.prompt) == (index, prompt) and s.strength is None
            ]
            for samples in found
        ]
        sized = next((s for samples in found for s in samples if s.index == index and s.width and s.height), None)
        shape = f"{sized.width} / {sized.height}" if sized else "1"
        wide = sized.width if sized else 0
        rows.append({"prompt": prompt or f"Prompt {index + 1}", "cells": cells, "shape": shape, "wide": wide})
    return {"rows": rows, "steps": [{"value": value, "label": label} for value, label in sorted(steps.items())]}


def _cell(sample: Sample, place: float, picture_url) -> dict[str, Any]:
    return {
        "step": place,
        "label": sample.label,
        "src": picture_url(sample.path, 640),
        "full": picture_url(sample.path, None),
        "seed": sample.seed,
    }
