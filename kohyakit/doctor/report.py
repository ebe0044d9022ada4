"""The report: Python, packages, devices, disk, settings of the surroundings; no secret and no person's path in it."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kohyakit.doctor import devices, packages
from kohyakit.errors import Problem
from kohyakit.planning.machine import gpu_seen
from kohyakit.runs.logs.scalar_cache import cache_folder
from kohyakit.words import size

_LOW_BYTES = 5_000_000_000  # an SDXL checkpoint does not fit
# What changes where things are looked for or what computes. A name with a token is told as set, never its value.
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "KOHYAKIT_CACHE",
    "OMP_NUM_THREADS", "PYTHONPATH", "PYTORCH_CUDA_ALLOC_CONF", "WANDB_API_KEY",
)  # fmt: skip
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)
_CHECKOUTS = ("sd-scripts", "kohya_ss/sd-scripts", "kohya_ss", "sd-scripts-main")


@dataclass(frozen=True, slots=True)
class Report:
    """sections: title -> rows of (what, how it is). problems: what stands in the way, worst first."""

    sections: Mapping[str, tuple[tuple[str, str], ...]]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)

    def as_data(self) -> dict[str, Any]:
        sections = {title: dict(rows) for title, rows in self.sections.items()}
        return {"ok": self.ok, **sections, "problems": [asdict(problem) for problem in self.problems]}


def examine(folder: Path) -> Report:
    """Look at this machine. folder: the one that a person works in, whose disk counts and beside which checkouts lie.

    Takes some seconds where torch is installed, as a process of its own imports it.
    """
    found = devices.ask()
    sections = {
        "System": tuple(_system()),
        "Packages": tuple(_packages()),
        "Devices": tuple(devices.in_words(found)),
        "Disk": tuple((name, f"{size(free)} free") for name, free in _disks(folder)),
        "sd-scripts": tuple((clean(str(place)), "") for place in checkouts(folder)) or (("none found nearby", ""),),
        "Surroundings": tuple(_variables()) or (("nothing set", ""),),
    }
    told = [*packages.problems(), *devices.problems(found, has_nvidia=_has_nvidia()), *_full(folder)]
    told = [replace(problem, what=clean(problem.what)) for problem in told]
    told.sort(key=lambda problem: ("error", "warning", "hint").index(problem.severity))
    return Report(sections, tuple(told))


def clean(text: str) -> str:
    """The text without the person's folder and name, so that it can be shown to anybody."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?=[/\\]|$|[^\w.-])", "~", text)
    text = re.sub(r"\bhf_\w+", "hf_…", text)
    with_name = _user()
    return re.sub(rf"(?<!\w){re.escape(with_name)}(?!\w)", "user", text) if with_name else text


def checkouts(folder: Path) -> Iterator[Path]:
    """Folders with sd-scripts' training programs: in the given folder, beside it and at home."""
    seen = set()
    for place in (folder, folder.parent, Path.home()):
        for candidate in (place, *(place / name for name in _CHECKOUTS)):
            try:
                there = (candidate / "train_network.py").is_file() and (candidate / "library").is_dir()
                real = candidate.resolve()
            except (OSError, RuntimeError):
                continue
            if there and real not in seen:
                seen.add(real)
                yield candidate


def _system() -> Iterator[tuple[str, str]]:
    apart = sys.prefix != sys.base_prefix
    yield "kohyakit", packages.installed("kohyakit") or "not installed, run from its folder"
    yield "Python", f"{platform.python_version()}, {'a virtual environment' if apart else 'the system’s own'}"
    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield "processors", str(os.cpu_count() or "?")


def _packages() -> Iterator[tuple[str, str]]:
    for extra, found in packages.extras().items():
        missing = [package.name for package in found if not package.version]
        there = ", ".join(f"{package.name} {package.version}" for package in found if package.version)
        line = f"pip install 'kohyakit[{extra}]'" if extra else "pip install kohyakit"
        if missing:
            there = f"{there}; " if there else ""
            there += f"without {', '.join(missing)}: {line}"
        yield extra or "base", there


def _disks(folder: Path) -> Iterator[tuple[str, int]]:
    places = {"this folder": folder, "caches": cache_folder(), "temporary": Path(tempfile.gettempdir())}
    for name, place in places.items():
        there = next((one for one in (place, *place.parents) if one.exists()), None)
        if there is not None:
            yield name, shutil.disk_usage(there).free


def _full(folder: Path) -> Iterator[Problem]:
    for name, free in _disks(folder):
        if free < _LOW_BYTES:
            what = f"the disk has {size(free)} left, and a training writes models, states and caches"
            yield Problem(name, what, "make room", "disk_low", "warning")


def _variables() -> Iterator[tuple[str, str]]:
    for name in _VARIABLES:
        if value := os.environ.get(name):
            yield name, "set" if _SECRET.search(name) else clean(value)


def _has_nvidia() -> bool:
    return gpu_seen() or shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
    return "" if name in ("root", "user") or len(name) < 3 else name
