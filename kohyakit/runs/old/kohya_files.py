"""What Kohya's tools leave behind: LoRA files with metadata, saved settings, log folders, sample pictures. Only read.

Names, as sd-scripts and its GUI give them: `<name>-000004.safetensors`, `<name>-step00000500.safetensors`,
`<name>.safetensors`, `<name>_20260131-184502.json`, `config_lora-20260131-184502.toml`,
`<logging_dir>/<prefix>20260131184510/network_train/events.out.tfevents.<seconds>…`,
`sample/<name>_e000004_00_20260131190230_42.png`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kohyakit.config.train import TrainConfig
from kohyakit.errors import KohyakitError, Problem
from kohyakit.files import read_text
from kohyakit.formats.weights import safetensors_header
from kohyakit.runs.logs.event_file import last_moment
from kohyakit.runs.logs.log_files import is_log, walk
from kohyakit.runs.run import RUN_FILE, RUNS_DIR

_NUMBERED = re.compile(r"(?P<name>.+?)(?:-(?P<epoch>\d{6})|-step(?P<step>\d{8}))?")
_SETTINGS = re.compile(r"(?:config_(?:lora|dreambooth|finetune|textual_inversion)-|(?P<name>.+)_)(?P<time>\d{8}-\d{6})")
_SAMPLE = re.compile(r"(?P<name>.*?)_(?:e\d{6}|\d{6})_\d{2,}_(?P<time>\d{14})(?:_\d+)?")
_LOG_TIME = re.compile(r"(\d{14})$")
_EVENTS = re.compile(r"events\.out\.tfevents\.(\d{9,11})")
_MAX_DEPTH = 8
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A LoRA. metadata: its own texts, {} for one saved without. name: output_name as the file's name has it."""

    path: Path
    name: str
    epoch: int | None
    step: int | None
    bytes: int
    modified: float
    metadata: Mapping[str, str]

    @property
    def training(self) -> str:
        """What files of one training share: sd-scripts' random number for it with its start; "" without metadata."""
        session, started = self.metadata.get("ss_session_id", ""), self.metadata.get("ss_training_started_at", "")
        return f"{session}@{started}" if session or started else ""


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A saved preset or config_file. wall: the time in its name, as if in UTC (it is in the zone of its machine)."""

    path: Path
    output_name: str
    wall: float
    config: TrainConfig
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class LogFolder:
    """A folder with event files. started: seconds since 1970. zone: seconds by which its machine was ahead of UTC.

    ended: the last event's own time, None where no event can be read. modified: the files' date, which a copy changes.
    """

    path: Path
    started: float
    modified: float
    zone: float | None
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A sample picture. wall: the time in its name, as if in UTC."""

    path: Path
    name: str
    wall: float


@dataclass(slots=True)
class Leftovers:
    """All that was found below a folder. problems: files that look like it but cannot be read."""

    models: list[ModelFile] = field(default_factory=list)
    states: list[Path] = field(default_factory=list)
    settings: list[SettingsFile] = field(default_factory=list)
    logs: list[LogFolder] = field(default_factory=list)
    samples: list[SampleFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def zone(self) -> float:
        """What the training machine's clock was ahead of UTC: told by log folders, else this machine's own."""
        told = [log.zone for log in self.logs if log.zone is not None]
        if told:
            return max(set(told), key=told.count)
        offset = datetime.now().astimezone().utcoffset()
        return offset.total_seconds() if offset else 0.0

    def __bool__(self) -> bool:
        return bool(self.models or self.settings or self.logs)


def find(folder: Path) -> Leftovers:
    """Everything below a folder that Kohya's tools wrote; hidden folders and kohyakit's own runs are passed over."""
    found = Leftovers()
    for path, subfolders, files in _walk(folder):
        events = [name for name in files if _EVENTS.match(name) and is_log(name) and (path / name).is_file()]
        if events:
            found.logs.append(_log(path, events))
        found.states += [path / name for name in subfolders if name.endswith("-state")]
        for name in sorted(files):
            _sort_in(path / name, found)
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for place, subfolders, files in walk(folder):
        path = Path(place)
        if len(path.relative_to(folder).parts) >= _MAX_DEPTH:
            subfolders.clear()
        subfolders[:] = sorted(
            name for name in subfolders
            if not name.startswith(".") and not (name == RUNS_DIR and any((path / name).glob(f"*/{RUN_FILE}")))
        )  # fmt: skip
        yield path, list(subfolders), files
        subfolders[:] = [name for name in subfolders if not name.endswith("-state")]


def _sort_in(path: Path, found: Leftovers) -> None:
    suffix = path.suffix.lower()
    try:
        if suffix == ".safetensors":
            if (model := _model(path)) is not None:
                found.models.append(model)
        elif suffix in (".json", ".toml"):
            if (match := _SETTINGS.fullmatch(path.stem)) and (settings := _read_settings(path, match)) is not None:
                found.settings.append(settings)
        elif suffix in _PICTURES and (match := _SAMPLE.fullmatch(path.stem)):
            found.samples.append(SampleFile(path, match["name"], _wall(match["time"])))
    except KohyakitError as error:
        found.problems += error.problems
    except (OSError, ValueError) as error:
        found.problems.append(Problem(path.name, f"cannot be read ({error})", "", "unreadable", "warning"))


def _model(path: Path) -> ModelFile | None:
    """A LoRA, by its metadata or its tensors' names; None for any other model."""
    header = safetensors_header.read(path)
    marks = (".alpha", "lora_down.weight", "lora_A.weight", ".hada_w1_a", ".lokr_w1", ".lokr_w1_a")
    adapter = any(name.endswith(marks) for name in header.tensors)
    if not adapter and "ss_network_module" not in header.metadata:
        return None
    match = _NUMBERED.fullmatch(path.stem)
    assert match is not None
    stat = path.stat()
    epoch, step = (int(match[key]) if match[key] else None for key in ("epoch", "step"))
    return ModelFile(path, match["name"], epoch, step, stat.st_size, stat.st_mtime, header.metadata)


def _read_settings(path: Path, match: re.Match[str]) -> SettingsFile | None:
    """None for a file of that name that holds no settings of a training."""
    from kohyakit import formats

    text = read_text(path, encoding="utf-8-sig")
    if not any(key in text for key in ("output_name", "pretrained_model_name_or_path")):
        return None
    config, problems = formats.read(text, path.name)
    name = config.saving.output_name or match["name"] or ""
    return SettingsFile(path, name, _wall(match["time"].replace("-", "")), config, tuple(problems))


def _log(path: Path, events: list[str]) -> LogFolder:
    times = [float(match[1]) for name in events if (match := _EVENTS.match(name))]
    modified = max((path / name).stat().st_mtime for name in events)
    started, zone = min(times), None
    for part in (path.name, path.parent.name):
        if match := _LOG_TIME.search(part):
            # the folder's name is local time, the event file's is not: the difference is the time zone
            zone = round((_wall(match[1]) - started) / 900) * 900.0
            zone = zone if abs(zone) <= 14 * 3600 else None
            break
    moments = (last_moment(path / name) for name in events)
    return LogFolder(path, started, modified, zone, max(filter(None, moments), default=None))


def _wall(digits: str) -> float:
    """YYYYMMDDHHMMSS as if in UTC -> seconds. Raises ValueError for what is no date."""
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
