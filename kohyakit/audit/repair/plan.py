"""What a repair would do, worked out from an audit before anything is touched."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.audit.repair.captions import CaptionMend, recodings, renamings
from kohyakit.audit.repair.mend import ACTIONS
from kohyakit.dataset.images import EXTENSIONS
from kohyakit.errors import ConfigError, Problem
from kohyakit.files import link_on_the_way

if TYPE_CHECKING:
    from kohyakit.audit.report.report import AuditReport

QUARANTINE = "_quarantine"
# Latents that sd-scripts cached from the picture as it was: photo.npz, photo_1024x0768_sd.npz
_CACHE = re.compile(r"(_\d+x\d+_\w+)?\.npz$")
_CHOICES = {"damaged": ("quarantine", "reencode", "leave"), "duplicates": ("exact", "near", "none")}


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """What to mend. damaged: files that decode with damage: quarantine, reencode or leave. duplicates: of which to
    keep one: exact, near (exact too) or none. shrink: longest side in pixels, 0 for never. background: a colour.
    captions: give them their image's name and make them UTF-8.
    """

    orientation: bool = True
    extensions: bool = True
    modes: bool = True
    srgb: bool = False
    damaged: str = "quarantine"
    duplicates: str = "exact"
    shrink: int = 0
    background: str = "white"
    captions: bool = True

    def __post_init__(self) -> None:
        problems = [
            Problem(name, f"'{getattr(self, name)}' is no choice", f"choose one of {', '.join(choices)}")
            for name, choices in _CHOICES.items()
            if getattr(self, name) not in choices
        ]
        if self.shrink < 0 or 0 < self.shrink < 64:
            what = f"{self.shrink} pixels is no size for a photo"
            problems.append(Problem("shrink", what, "write 64 or more, or 0 for never"))
        if not _is_colour(self.background):
            what = f"'{self.background}' is no colour"
            problems.append(Problem("background", what, "write white, black or #rrggbb"))
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Step:
    """What will be done to one file, an image or (`recode`, `rename`) a caption.

    kind: `rewrite`, `rename`, `quarantine` or `recode`. actions: of mend.ACTIONS, for `rewrite`. target: where it will
    lie. companions: files with its stem that go with it, or None-target caches.
    """

    path: Path
    kind: str
    reason: str
    target: Path
    actions: tuple[str, ...] = ()
    companions: tuple[tuple[Path, Path], ...] = ()
    copies: tuple[tuple[Path, Path], ...] = ()
    caches: tuple[Path, ...] = ()
    format: str = ""
    orientation: int = 1
    digest: str = ""


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """steps: one an image, in order. left: what a repair cannot mend, with what to do by hand."""

    root: Path
    steps: tuple[Step, ...]
    left: tuple[Problem, ...]


def plan_repairs(report: AuditReport, options: RepairOptions) -> RepairPlan:
    """Steps for everything that the audit found and a repair can mend. Nothing is touched."""
    planner = _Planner(report, options)
    for row in report.images.itertuples():
        planner.consider(row)
    if options.captions:
        planner.mend_captions(report)
    return RepairPlan(report.root, tuple(planner.steps), tuple(planner.left))


class _Planner:
    def __init__(self, report: AuditReport, options: RepairOptions) -> None:
        self.root, self.options = report.root, options
        self.steps: list[Step] = []
        self.left: list[Problem] = []
        self._images = {Path(path) for path in report.images["path"]}
        self._copies = _copies_to_set_aside(report, options)
        self._taken: set[str] = set()
        self._linked: set[Path] = set()
        self._listings: dict[Path, list[str]] = {}
        self._stems: dict[tuple[Path, str], int] = defaultdict(int)
        for path in self._images:
            self._stems[path.parent, path.stem] += 1

    def consider(self, row: Any) -> None:
        path = Path(row.path)
        linked = link_on_the_way(self.root, path)
        if not os.path.lexists(path):
            self._leave(path, "is gone, or has a name that is no text", "give it a plain name")
        elif linked is not None:
            self._behind_a_link(linked, row)
        elif row.verdict in ("unreadable", "not_a_file"):
            self._leave(path, row.verdict_detail, "see to it by hand")
        elif row.verdict_severity == "error" and (row.verdict != "damaged" or self.options.damaged == "quarantine"):
            self._quarantine(path, row.verdict_detail)
        elif row.path in self._copies:
            self._quarantine(path, f"a copy of {self._copies[row.path]}")
        else:
            self._mend(path, row)

    def _behind_a_link(self, linked: Path, row: Any) -> None:
        """Said once a linked folder, and only where something in it wants mending."""
        wanted = row.verdict_severity in ("error", "warning") or self._actions(row) or row.path in self._copies
        if linked not in self._linked and (wanted or not row.extension_ok):
            self._linked.add(linked)
            what = f"is a link to {os.path.realpath(linked)}, and nothing is changed behind one"
            self._leave(linked, what, "repair that folder itself")

    def mend_captions(self, report: AuditReport) -> None:
        """Texts before the images, which may take their captions along; names after them, by where they lie then."""
        moved = {step.path: step.target for step in self.steps}
        aside = {step.path: step.target for step in self.steps if step.kind == "quarantine"}
        before: list[Step] = []
        after: list[Step] = []
        for mends, steps in ((recodings(report, aside), before), (renamings(report, moved), after)):
            for mend in mends:
                if isinstance(mend, CaptionMend):
                    kind = "recode" if mend.recode else "rename"
                    steps.append(Step(mend.path, kind, mend.reason, mend.target))
                else:
                    self.left.append(mend)
        self.steps = [*before, *self.steps, *after]

    def _mend(self, path: Path, row: Any) -> None:
        actions = self._actions(row)
        if row.verdict == "damaged" and row.verdict_severity in ("error", "warning") and "reencode" not in actions:
            self._leave(path, row.verdict_detail, "look at it, and get it anew if it is spoiled")
        if row.animated:
            self._leave(path, f"is animated ({row.frames} frames)", "save the frame you want as a PNG")
        if actions and not row.animated:
            wanted = _extension_after(row.format, actions)
            target = path if path.suffix.lower() in _same_endings(wanted) else self._renamed(path, wanted)
            reason = ", ".join(ACTIONS[action] for action in actions)
            self._add(path, "rewrite", reason, target, actions, row)
        elif self.options.extensions and not row.extension_ok and row.extension_wanted:
            if path.suffix.lower() in EXTENSIONS and row.extension_wanted not in EXTENSIONS:
                what = f"is {row.format} inside; renamed to {row.extension_wanted} it would not be trained"
                self._leave(path, what, "save it as PNG")
                return
            reason = f"is {row.format} inside, not {path.suffix or 'without an ending'}"
            self._add(path, "rename", reason, self._renamed(path, row.extension_wanted), (), row)

    def _actions(self, row: Any) -> tuple[str, ...]:
        options, found = self.options, []
        if options.damaged == "reencode" and row.verdict == "damaged" and row.verdict_severity == "error":
            found.append("reencode")
        if options.orientation and row.orientation != 1:
            found.append("upright")
        if options.modes:
            mode = row.mode or ""
            if mode in ("CMYK", "YCCK", "LAB", "HSV"):
                found.append("to_rgb")
            if row.bits and row.bits > 8:
                found.append("to_8_bits")
            if row.alpha:
                found.append("flatten")
            if mode in ("P", "PA"):
                found.append("from_palette")
            if _extension_after(row.format, ()) not in EXTENSIONS:
                found.append("to_png")
        if options.srgb and row.icc == "other" and "to_rgb" not in found:
            found.append("to_srgb")
        if options.shrink and row.width and max(row.width, row.height) > options.shrink:
            found.append("shrink")
        return tuple(found)

    def _quarantine(self, path: Path, reason: str) -> None:
        target = self._free(self.root / QUARANTINE / path.relative_to(self.root))
        linked = link_on_the_way(self.root, target)
        if linked is not None:
            self._leave(path, f"{reason}, but {linked.name} is a link", "put a real folder in the link's place")
            return
        self._add(path, "quarantine", reason, target, (), None)
        self._stems[path.parent, path.stem] -= 1

    def _add(self, path: Path, kind: str, reason: str, target: Path, actions: tuple[str, ...], row: Any) -> None:
        moved = path.with_suffix("") != target.with_suffix("")
        shared = self._stems[path.parent, path.stem] > 1
        companions = [p for p in self._companions(path) if not _CACHE.search(p.name)]
        caches = tuple(p for p in self._companions(path) if _CACHE.search(p.name)) if kind != "rename" else ()
        pairs = tuple((one, target.with_name(target.stem + one.name[len(path.stem) :])) for one in companions)
        pairs = tuple((one, other) for one, other in pairs if moved and not other.exists())
        # a caption that another image of the same name needs too stays, and is copied for a renamed one
        self.steps.append(
            Step(
                path, kind, reason, target, actions,
                companions=() if shared else pairs,
                copies=pairs if shared and kind != "quarantine" else (),
                caches=() if shared else caches,
                format=row.format if row else "",
                orientation=int(row.orientation) if row else 1,
                digest=row.digest if row else "",
            )
        )  # fmt: skip

    def _companions(self, path: Path) -> list[Path]:
        """Files beside an image with its stem, captions before all, that are no images themselves."""
        if path.parent not in self._listings:
            try:
                self._listings[path.parent] = sorted(os.listdir(path.parent))
            except OSError:
                self._listings[path.parent] = []
        found = []
        for name in self._listings[path.parent]:
            one = path.with_name(name)
            if one in self._images or not name.startswith(path.stem):
                continue
            if os.path.splitext(name)[0] == path.stem or _CACHE.fullmatch(name[len(path.stem) :]):
                found.append(one)
        return [one for one in found if one.is_file()]

    def _renamed(self, path: Path, extension: str) -> Path:
        return self._free(path.with_suffix(extension))

    def _free(self, target: Path) -> Path:
        """A name that nothing has, on systems that tell case apart or not: name, name_2, name_3 …"""
        candidate, number = target, 1
        while str(candidate).lower() in self._taken or os.path.lexists(candidate):
            number += 1
            candidate = target.with_name(f"{target.stem}_{number}{target.suffix}")
        self._taken.add(str(candidate).lower())
        return candidate

    def _leave(self, path: Path, what: str, cure: str) -> None:
        self.left.append(Problem(str(path.relative_to(self.root)), what, cure, severity="warning"))


def _copies_to_set_aside(report: AuditReport, options: RepairOptions) -> dict[str, str]:
    """Path of each copy to move -> name of the one kept, among copies of one subset."""
    kinds = {"exact": ("exact_duplicate",), "near": ("exact_duplicate", "near_duplicate"), "none": ()}
    rows = report.issues[report.issues["issue"].isin(kinds[options.duplicates])]
    subsets = dict(zip(report.images["path"], report.images["subset"], strict=True))
    found: dict[str, str] = {}
    for _, members in rows.groupby("group", sort=False):
        best = members[members["severity"] == "hint"]["path"]
        if best.empty:
            continue
        for path in members[members["severity"] != "hint"]["path"]:
            # in two subsets on purpose: other captions, other repeats, regularisation
            if subsets.get(path) == subsets.get(best.iloc[0]) and path != best.iloc[0]:
                found[path] = Path(best.iloc[0]).name
    return found


def _extension_after(format: str | None, actions: tuple[str, ...]) -> str:
    from kohyakit.dataset.decode.signature import EXTENSIONS as ENDINGS

    return ".png" if "to_png" in actions else ENDINGS.get(format or "", ("",))[0]


def _same_endings(extension: str) -> tuple[str, ...]:
    return (".jpg", ".jpeg") if extension == ".jpg" else (extension,)


def _is_colour(name: str) -> bool:
    try:
        from PIL import ImageColor
    except ImportError:
        return True
    try:
        ImageColor.getrgb(name)
    except ValueError:
        return False
    return True
