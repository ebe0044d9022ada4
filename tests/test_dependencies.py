"""What is imported is declared, what is declared is imported, and who lacks it is told the extra that brings it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from kohyakit.errors import missing_extra

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
NAMES = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}  # of modules called otherwise for pip
FOR_OTHERS = {
    "pyarrow": "pandas writes Parquet with it",
    "tensorboard": "torch writes event files with it",
    "bitsandbytes": "named in the registry", "dadaptation": "named in the registry",
    "lion-pytorch": "named in the registry", "prodigyopt": "named in the registry",
    "pytorch-optimizer": "named in the registry", "schedulefree": "named in the registry",
    "wandb": "imported by name, where log_with asks for it",
    "trackio": "imported by name, where log_trackio asks for it",
}  # fmt: skip
WITHOUT = {"packaging"}  # what goes another way where it is not there


def imported() -> set[str]:
    """The modules of others that the package and its pages import, wherever the statement stands."""
    found = set()
    for file in (*(ROOT / "kohyakit").rglob("*.py"), *(ROOT / "dashboards").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - {"kohyakit"} - WITHOUT


def packages(extra: str) -> set[str]:
    """What an extra brings, by the names for pip, with what it takes from the other extras."""
    found: set[str] = set()
    for line in EXTRAS[extra]:
        inner = re.fullmatch(r"kohyakit\[(.+)\]", line)
        found |= set().union(*map(packages, inner[1].split(","))) if inner else {re.split(r"[<>=]", line)[0]}
    return found


BASE = {re.split(r"[<>=]", line)[0] for line in PROJECT["dependencies"]}
OPTIONAL = sorted({NAMES.get(name, name) for name in imported()} - BASE)


def test_what_is_declared_is_imported() -> None:
    declared = BASE.union(*(packages(extra) for extra in EXTRAS if extra != "dev"))
    assert declared - {NAMES.get(name, name) for name in imported()} == set(FOR_OTHERS)


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_is_imported_is_in_the_extra_that_is_told(name: str) -> None:
    module = {pip: module for module, pip in NAMES.items()}.get(name, name)
    told = missing_extra(ModuleNotFoundError(name=module), "this")
    assert told is not None, f"nobody says how to install {name}"
    assert told.package == name
    assert name in packages(told.extra)
