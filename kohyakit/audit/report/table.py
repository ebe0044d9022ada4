"""The report as text for a terminal: counts, findings worst first, subsets, buckets; readable at 80 columns."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.dataset.images import shown
from kohyakit.errors import SEVERITIES
from kohyakit.words import cells, columns, count, padded

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.report.frames import Frames

Paint = Callable[[str, str], str]  # (text, severity or "title") -> text
_VERDICTS = {
    "error": "A training would stop or miss images.",
    "warning": "A training would run, and be spoiled silently.",
    "hint": "A training would run well; the hints are worth a look.",
    None: "Nothing to mend.",
}


def as_text(report: Frames, *, width: int = 80, rows: int | None = 8, paint: Paint = lambda text, kind: text) -> str:
    """The whole report. width: columns. rows: findings shown per issue, None for all. paint: colours, if any."""
    parts = [_head(report, width), _summary(report, width, paint), *_findings(report, width, rows, paint)]
    if len(report.subsets) > 1:
        parts.append(_subsets(report, width, paint))
    parts.append(_buckets(report, paint, rows))
    if report.settings.what_if:
        parts.append(_what_if(report, paint))
    parts.append(_verdict(report, paint))
    return "\n\n".join(part for part in parts if part)


def relative(path: str, root: Path) -> str:
    """A path below the audited folder, as one printable line; others stay whole."""
    try:
        below = os.path.relpath(path, root)
    except ValueError:  # another drive
        return shown(path)
    return shown(path if below.startswith("..") else below)


def _head(report: Frames, room: int) -> str:
    images, settings = report.images, report.settings
    subsets = f" in {len(report.subsets)} subsets" if len(report.subsets) > 1 else ""
    width, height = settings.buckets.resolution
    buckets = "buckets" if settings.buckets.enable_bucket else "no buckets"
    looked = "headers and captions only" if settings.quick else "every file decoded"
    said = f"{count(len(images), 'image')}{subsets}, {len(report.captions):,} captions"
    return (
        f"{_short(shown(report.root), room - len(said) - 2)}: {said}\n"
        f"judged for {width}x{height} with {buckets}; {looked}"
    )


def _summary(report: Frames, width: int, paint: Paint) -> str:
    rows = [
        (paint(f"{row.severity:7}", row.severity), f"{row.count:,}", row.issue, row.title)
        for row in report.counts.itertuples(index=False, name="Row")
    ]
    if not rows:
        return ""
    wide = max(len(row[1]) for row in rows), max(len(row[2]) for row in rows)
    room = width - 12 - sum(wide)
    return "\n".join(f"{s} {n:>{wide[0]}}  {issue:{wide[1]}}  {_short(title, room)}" for s, n, issue, title in rows)


def _findings(report: Frames, width: int, rows: int | None, paint: Paint) -> Iterator[str]:
    for issue in report.summary.itertuples(index=False, name="Row"):
        found = report.issues[report.issues["issue"] == issue.issue]
        groups = found[found["group"] != ""]
        if len(groups):  # the copies of a group together, the one to keep first
            order = {g: place for place, g in enumerate(dict.fromkeys(groups["group"]))}
            found = found.assign(_g=found["group"].map(order), _k=found["severity"] != "hint")
            found = found.sort_values(["_g", "_k"], kind="stable")
        yield _section(found, issue, report.root, width, rows, paint)


def _section(found: pd.DataFrame, issue: Any, root: Path, width: int, rows: int | None, paint: Paint) -> str:
    actions = found.loc[found["severity"] == issue.severity, "action"].unique()
    lines = [paint(f"{issue.issue} ({issue.count:,})", "title")]
    if len(actions) == 1:
        lines += textwrap.wrap(f"→ {actions[0]}", width, initial_indent="  ", subsequent_indent="    ")
    some = found.head(rows) if rows else found
    paths = [_short(relative(path, root), 34) for path in some["path"]]
    column = min(34, max(map(cells, paths), default=0))
    for path, row in zip(paths, some.itertuples(index=False, name="Row"), strict=True):
        said = row.detail if len(actions) == 1 else f"{row.detail} → {row.action}"
        mark = paint("•", row.severity)
        texts = textwrap.wrap(shown(said), max(20, width - column - 6)) or [""]
        lines.append(f"  {mark} {padded(path, column)}  {texts[0]}")
        lines += [" " * (column + 6) + text for text in texts[1:]]
    if len(found) > len(some):
        lines.append(f"    … and {len(found) - len(some):,} more (--all shows them)")
    return "\n".join(lines)


def _subsets(report: Frames, width: int, paint: Paint) -> str:
    rows = [
        (_short(shown(row.subset), width - 44) + (" (reg)" if row.is_reg else ""), f"{row.images:,}",
         f"{row.repeats:,}", f"{row.samples:,}", f"{row.captions:,}")
        for row in report.subsets.head(20).itertuples()
    ]  # fmt: skip
    return _grid("subsets", ("subset", "images", "repeats", "samples", "captions"), rows, paint)


def _buckets(report: Frames, paint: Paint, most: int | None) -> str:
    table = report.buckets
    if len(table) < 2:
        return ""
    top = int(table["images"].max())
    rows = [
        (
            row.bucket,
            f"{row.images:,}",
            f"{row.mean_scale:.2f}",
            f"{row.mean_cropped:.0%}",
            "█" * max(1, round(20 * row.images / top)),
        )
        for row in (table.head(most + 4) if most else table).itertuples()
    ]
    more = f"\n  … and {len(table) - len(rows)} more" if len(table) > len(rows) else ""
    return _grid("buckets", ("bucket", "images", "scale", "cut", ""), rows, paint, left=(0, 4)) + more


def _what_if(report: Frames, paint: Paint) -> str:
    rows = [
        (
            row.resolution,
            f"{row.buckets}",
            f"{row.lone_images}",
            f"{row.too_small:,}",
            f"{row.mean_cropped:.1%}",
            f"{row.batches:,}",
        )
        for row in report.what_if().itertuples()
    ]
    return _grid("what if", ("resolution", "buckets", "lone", "too small", "cut", "batches"), rows, paint)


def _grid(
    title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], paint: Paint, left: tuple[int, ...] = (0,)
) -> str:
    right = [at for at in range(len(heads)) if at not in left]
    return "\n".join([paint(title, "title"), *(f"  {line}".rstrip() for line in columns([heads, *rows], right=right))])


def _verdict(report: Frames, paint: Paint) -> str:
    counts = {severity: report.count(severity) for severity in SEVERITIES}
    worst = next((severity for severity, many in counts.items() if many), None)
    said = ", ".join(count(many, name) for name, many in counts.items() if many)
    return paint(f"{said}. {_VERDICTS[worst]}" if said else _VERDICTS[None], worst or "title")


def _short(text: str, room: int) -> str:
    """Shortened in the middle, so that the file's own name and number stay."""
    if cells(text) <= room:
        return text
    keep = room - 1
    tail = keep * 2 // 3
    return text[: keep - tail] + "…" + text[-tail:]
