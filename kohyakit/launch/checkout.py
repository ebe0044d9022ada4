"""An sd-scripts checkout and the Python that runs it: found, and looked at before anything is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kohyakit.config.arguments.named_code import package_of
from kohyakit.config.rules.reading import optimizer
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError, Problem, RunError
from kohyakit.registry import OPTIMIZERS

# Modules that every training program of sd-scripts imports -> the package that brings them.
_MODULES = {
    "torch": "torch",
    "accelerate": "accelerate",
    "transformers": "transformers",
    "diffusers": "diffusers",
    "safetensors": "safetensors",
    "toml": "toml",
    "voluptuous": "voluptuous",
    "imagesize": "imagesize",
    "cv2": "opencv-python",
    "einops": "einops",
    "PIL": "pillow",
    "numpy": "numpy",
}
_PROBE = """\
import importlib.metadata, importlib.util, json, platform, sys
found = {"versions": {"python": platform.python_version()}, "missing": []}
for word in sys.argv[1:]:
    module, package = word.split("=")
    try:
        there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        found["missing"].append(package)
        continue
    try:
        found["versions"][package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_PROBE_SECONDS = 60
_SOMEBODYS = "module "  # before the name of one that no known package brings: nothing is proposed to pip then


@dataclass(frozen=True, slots=True)
class Checkout:
    """folder: the one with train_network.py. script: the program's whole path. python: the interpreter that runs it.

    versions: of that Python, its packages, and the checkout's commit where it has one.
    """

    folder: Path
    script: Path
    python: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def old(self) -> bool:
        """Whether that Python is older than 3.11 and cannot be told to leave the working folder off its path."""
        parts = self.versions.get("python", "").split(".")[:2]
        return parts[0] == "3" and len(parts) == 2 and parts[1].isdigit() and int(parts[1]) < 11


def find(config: TrainConfig, directory: Path | str | None, python: str | None = None) -> Checkout:
    """The checkout, with everything that would keep it from starting found first. One probe subprocess.

    directory: an sd-scripts checkout, or a kohya_ss one that holds it. python: its interpreter; without it that of
    the checkout's venv, else this one. Raises ConfigError or RunError with every problem at once.
    """
    if directory is None:
        cure = "give --sd-scripts DIR; git clone https://github.com/kohya-ss/sd-scripts makes one"
        raise ConfigError(Problem("--sd-scripts", "no sd-scripts checkout is named", cure, "checkout_missing"))
    folder = Path(directory).absolute()
    if (folder / "sd-scripts" / "library").is_dir():
        folder = folder / "sd-scripts"
    problems = _files(folder, config)
    if problems:
        raise ConfigError(problems)
    python = python or _python_of(folder)
    versions = _packages(python, folder, config)
    return Checkout(folder, folder / config.launch.script, python, {**versions, **_commit(folder)})


def _files(folder: Path, config: TrainConfig) -> list[Problem]:
    if not folder.is_dir():
        return [Problem(str(folder), "there is no such folder", "look at --sd-scripts", "checkout_missing")]
    if not (folder / "library").is_dir() or not any(folder.glob("*train*.py")):
        what = "is no sd-scripts checkout: it has no library/ and no training programs"
        return [Problem(str(folder), what, "name the folder with train_network.py", "checkout_missing")]
    if not (folder / config.launch.script).is_file():
        what = f"this checkout has no {config.launch.script}"
        return [
            Problem(str(folder), what, "update it (git pull); newer families need a newer sd-scripts", "script_missing")
        ]
    return []


def _python_of(folder: Path) -> str:
    """The interpreter of a virtual environment in the checkout or, for kohya_ss, beside it; else this one."""
    inside = ("Scripts/python.exe",) if os.name == "nt" else ("bin/python", "bin/python3")
    for place in (folder, folder.parent):
        for name in ("venv", ".venv"):
            for executable in inside:
                if (place / name / executable).is_file():
                    return str(place / name / executable)
    return sys.executable


def wanted_modules(config: TrainConfig) -> dict[str, str]:
    """Module -> package that this config needs in the checkout's Python."""
    found = dict(_MODULES)
    name = optimizer(config)
    if name in OPTIMIZERS:
        entry = OPTIMIZERS[name]
        found |= {entry.module: entry.package} if entry.package else {}
    elif "." in (asked := config.optimizer.optimizer_type):
        module = asked.split(".")[0]
        found[module] = package_of("optimizer_type", asked) or _SOMEBODYS + module
    if (config.network.network_module or "").startswith("lycoris"):
        found["lycoris"] = "lycoris-lora"
    if config.training.xformers:
        found["xformers"] = "xformers"
    if config.saving.log_with in ("wandb", "all"):
        found["wandb"] = "wandb"
    if config.saving.log_with != "wandb":
        found["tensorboard"] = "tensorboard"
    return found


def _packages(python: str, folder: Path, config: TrainConfig) -> dict[str, str]:
    """Package -> version in that Python. Raises RunError when it does not answer or lacks any of them."""
    words = [f"{module}={package}" for module, package in wanted_modules(config).items()]
    try:
        done = subprocess.run(
            [python, "-c", _PROBE, *words], capture_output=True, encoding="utf-8", errors="replace",
            timeout=_PROBE_SECONDS, cwd=folder, check=False,
        )  # fmt: skip
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except FileNotFoundError:
        problem = Problem(python, "there is no such Python", "name one with --python", "python_missing")
        raise RunError(problem) from None
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        what = f"does not answer ({type(error).__name__})"
        raise RunError(Problem(python, what, "name another with --python", "python_broken")) from None
    missing = found["missing"]
    unknown = [name.removeprefix(_SOMEBODYS) for name in missing if name.startswith(_SOMEBODYS)]
    if unknown:
        what = f"has no module {unknown[0]}, which optimizer_type names"
        raise RunError(Problem(python, what, "look at the spelling, or install what brings it", "packages_missing"))
    if missing:
        install = f"{python} -m pip install {' '.join(missing)}"
        if len(missing) > 3:
            install = f"{python} -m pip install -r {folder / 'requirements.txt'}"
        what = f"lacks {', '.join(missing)}, which this training needs"
        raise RunError(Problem(python, what, f"{install}, or name another with --python", "packages_missing"))
    return dict(found["versions"])


def _commit(folder: Path) -> dict[str, str]:
    """The commit that is checked out, read without git; {} where that cannot be told."""
    try:
        head = (folder / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = (folder / ".git" / head[5:]).read_text(encoding="utf-8").strip()
    except OSError:
        return {}
    return {"sd-scripts": head[:12]}
