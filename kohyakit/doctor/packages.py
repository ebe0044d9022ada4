"""Which packages of kohyakit are installed, read from their metadata: none is imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, requires, version

from kohyakit.errors import Problem

# Packages that put the same module in the same place: the one installed last wins, and removing either breaks both.
TWINS = (
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-silicon"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ("pillow", "pillow-simd"),
    ("tensorboard", "tb-nightly"),
    ("tensorflow", "tensorflow-cpu", "tf-nightly"),
)
_GROUPS = ("all", "dev")  # extras that only put others together, or are for those who work on kohyakit
_NEED = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[[^\]]*\])?\s*(?P<range>[^;]*)(?:;.*extra == ['\"](?P<of>[\w-]+)['\"])?")


@dataclass(frozen=True, slots=True)
class Package:
    """One that kohyakit can use. version: the installed one, "" where there is none. wanted: the range, as declared."""

    name: str
    wanted: str
    version: str

    @property
    def fits(self) -> bool:
        """Whether the installed version lies in the range; True where that cannot be told."""
        try:
            from packaging.specifiers import InvalidSpecifier, SpecifierSet
        except ModuleNotFoundError:
            return True
        try:
            return not self.version or SpecifierSet(self.wanted).contains(self.version, prereleases=True)
        except InvalidSpecifier:
            return True


def extras() -> Mapping[str, tuple[Package, ...]]:
    """Extra -> its packages, "" being those that are always needed, as kohyakit's own metadata declare them.

    A package of several extras stands under the first: audit's under audit, though train needs them too.
    """
    found: dict[str, list[Package]] = {}
    seen: set[str] = set()
    for line in requires("kohyakit") or ():
        match = _NEED.match(line)
        if match is None or match["name"] == "kohyakit" or (match["of"] or "") in _GROUPS:
            continue
        if match["name"] in seen:
            continue
        seen.add(match["name"])
        wanted = match["range"].strip().strip("()").strip()
        found.setdefault(match["of"] or "", []).append(Package(match["name"], wanted, installed(match["name"])))
    return {name: tuple(packages) for name, packages in found.items()}


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def problems() -> Iterator[Problem]:
    """Packages that are too old or too new, and twins of which only one may be there."""
    for name, packages in extras().items():
        extra = f"[{name}]" if name else ""
        for package in packages:
            if not package.fits:
                what = f"{package.version} is installed, {package.wanted} is wanted"
                cure = f"pip install 'kohyakit{extra}'"
                yield Problem(package.name, what, cure, "package_version", "error")
    there = {re.sub(r"[-_.]+", "-", str(one.metadata["Name"] or "")).lower() for one in distributions()}
    for twins in TWINS:
        both = [name for name in twins if name in there]
        if len(both) > 1:
            what = f"{' and '.join(both)} are both installed and write over each other's files"
            cure = f"pip uninstall {' '.join(both)}, then install the one that you want again"
            yield Problem("", what, cure, "twin_packages", "warning")
