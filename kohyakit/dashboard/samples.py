"""The pictures a training drew on its way: from its index `samples.jsonl`, else from Kohya's file names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kohyakit.dashboard.memo import Memo, stamp_of
from kohyakit.runs.run import Run

INDEX_FILE = "samples.jsonl"
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
    folder = run.samples or run.project / "sample"
    stamp = (*stamp_of(folder, folder / INDEX_FILE), run.record.started, run.record.ended)
    return _CACHE.get(str(run.folder), stamp, lambda: _read(run, folder))


def last_sample(run: Run) -> Sample | None:
    """The newest sample: of the last step the first prompt."""
    found = samples_of(run)
    if not found:
        return None
    last = max(position(sample) for sample in found)
    return min((s for s in found if position(s) == last), key=lambda s: s.index)


def position(sample: Sample) -> int:
    """Where a sample stands on the slider: its step, else its epoch, else the start."""
    return sample.step if sample.step is not None else sample.epoch or 0


def prompts(samples: Iterable[Sample]) -> tuple[tuple[int, str], ...]:
    """The prompts as they are listed: (index, words), words empty where only names tell."""
    found: dict[tuple[int, str], None] = {}
    for sample in sorted(samples, key=lambda s: s.index):
        found[sample.index, sample.prompt] = None
    return tuple(found)


def strengths(samples: Iterable[Sample]) -> tuple[float, ...]:
    return tuple(sorted({s.strength for s in samples if s.strength is not None}))


_CACHE = Memo(600)


def _read(run: Run, folder: Path) -> tuple[Sample, ...]:
    try:
        names = sorted(
            entry.name for entry in folder.iterdir() if entry.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")
        )
    except OSError:
        return ()
    indexed = dict(_indexed(run, folder, set(names)))
    named = (_from_name(run, folder, name) for name in names if name not in indexed)
    mine = [s for s in indexed.values() if s is not None] + [s for s in named if s is not None]
    return tuple(sorted(mine, key=lambda s: (position(s), s.index, s.path.name)))


def _indexed(run: Run, folder: Path, names: set[str]) -> Iterable[tuple[str, Sample | None]]:
    """Each line of the index whose file lies beside it. A line cut off by a killed training is passed over,
    and one of another run is known not to be ours."""
    try:
        lines = (folder / INDEX_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        name = entry.get("file") if isinstance(entry, dict) else None
        # Only a plain name counts: the index must not be able to point out of its own folder.
        if isinstance(name, str) and name in names:
            yield name, _from_entry(folder / name, entry) if _belongs(run, entry) else None


def _belongs(run: Run, entry: dict[str, Any]) -> bool:
    owner = entry.get("run")
    return owner in (None, "") or str(owner) in (run.record.version, run.folder.name)


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
        strength=entry.get("strength") if isinstance(entry.get("strength"), (int, float)) else None,
        time=str(entry.get("time") or ""),
    )


def _from_name(run: Run, folder: Path, name: str) -> Sample | None:
    """A sample of this run told by its name: the same output_name, drawn while the run went on."""
    match = _NAME.fullmatch(name)
    if (
        match is None
        or (run.record.output_name and match["stem"] != run.record.output_name)
        or not _during(run, match["time"])
    ):
        return None
    per_epoch = steps_per_epoch(run)
    epoch = int(match["at"][1:]) if match["at"].startswith("e") else None
    step = int(match["at"]) if epoch is None else (round(epoch * per_epoch) if per_epoch else None)
    seed = int(match["seed"]) if match["seed"] else None
    return Sample(folder / name, int(match["index"]), step, epoch, seed=seed, time=match["time"])


def steps_per_epoch(run: Run) -> float | None:
    """From the run's plan, else its record; None when neither tells."""
    plan = run.plan()
    planned = plan.get("steps_per_epoch") or (plan.get("length") or {}).get("steps_per_epoch")
    if isinstance(planned, (int, float)) and planned > 0:
        return float(planned)
    if run.record.steps and run.record.epochs:
        return run.record.steps / run.record.epochs
    return None


def _during(run: Run, stamp: str) -> bool:
    """Whether a name's local time lies within the run, a minute either side; yes where the run keeps no times."""
    try:
        moment = datetime.strptime(stamp, "%Y%m%d%H%M%S").astimezone()
        started = datetime.fromisoformat(run.record.started) if run.record.started else None
        ended = datetime.fromisoformat(run.record.ended) if run.record.ended else None
    except ValueError:
        return True
    late = started is not None and (started - moment).total_seconds() > 60
    early = ended is not None and (moment - ended).total_seconds() > 60
    return not (late or early)


def _whole(value: Any) -> int | None:
    return (
        int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63 else None
    )


def wall(runs: Sequence[Run], picture_url) -> dict[str, Any]:
    """What the wall of samples draws: a column a run, a row a prompt, the slider's steps over all of them."""
    found = [samples_of(run) for run in runs]
    keys: dict[tuple[int, str], None] = {}
    for samples in found:
        for key in prompts(s for s in samples if s.strength is None):
            keys[key] = None
    steps: dict[int, str] = {}
    for sample in sorted((s for samples in found for s in samples), key=position):
        steps[position(sample)] = sample.label
    rows = []
    for index, prompt in sorted(keys):
        cells = [
            [_cell(s, picture_url) for s in samples if (s.index, s.prompt) == (index, prompt) and s.strength is None]
            for samples in found
        ]
        sized = next((s for samples in found for s in samples if s.index == index and s.width and s.height), None)
        shape = f"{sized.width} / {sized.height}" if sized else "1"
        rows.append({"prompt": prompt or f"Prompt {index + 1}", "cells": cells, "shape": shape})
    return {"rows": rows, "steps": [{"value": value, "label": label} for value, label in sorted(steps.items())]}


def _cell(sample: Sample, picture_url) -> dict[str, Any]:
    return {
        "step": position(sample),
        "label": sample.label,
        "src": picture_url(sample.path, 640),
        "full": picture_url(sample.path, None),
        "seed": sample.seed,
    }
