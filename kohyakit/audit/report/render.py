"""The report as files and plain data: JSON, CSV, Parquet. Files are written whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.errors import SEVERITIES
from kohyakit.files import write_bytes

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.report.frames import Frames


def as_plain(report: Frames) -> dict[str, Any]:
    """`images`, `issues` and `summary` of plain JSON values; numbers that are missing are None.

    A row of `issues` has `group` only where it names duplicates.
    """
    width, height = report.settings.buckets.resolution
    issues = _rows(report.issues)
    for row in issues:
        if not row["group"]:
            del row["group"]
    summary = {
        "folder": str(report.root),
        "images": len(report.images),
        "ok": report.ok,
        **{f"{severity}s": report.count(severity) for severity in SEVERITIES},
        "issues": {
            row.issue: {"title": row.title, "severity": row.severity, "count": int(row.count)}
            for row in report.summary.itertuples(index=False, name="Row")
        },
        "resolution": f"{width}x{height}",
        "subsets": _rows(report.subsets),
        "buckets": _rows(report.buckets),
        "what_if": _rows(report.what_if()) if report.settings.what_if else [],
        "captions": _rows(report.caption_lengths()) if len(report.captions) else [],
        "thresholds": dict(report.settings.thresholds),
    }
    return {"images": _rows(report.images), "issues": issues, "summary": summary}


def dump_json(report: Frames) -> str:
    """The report as one JSON object."""
    return json.dumps(as_plain(report), ensure_ascii=False, indent=1, allow_nan=False)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {name: [_value(value) for value in frame[name].tolist()] for name in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _value(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) else None


def write_tables(report: Frames, path: Path, kind: str) -> tuple[Path, ...]:
    """Images to `path`, issues beside it; kind: csv or parquet. Returns both paths."""
    beside = path.with_name(f"{path.stem}.issues{path.suffix}")
    for frame, target in ((report.images, path), (report.issues, beside)):
        data = _csv(frame) if kind == "csv" else _parquet(frame)
        write_bytes(target, data)
    return path, beside


def _csv(frame: pd.DataFrame) -> bytes:
    # the mark at the front makes Excel read it as UTF-8
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8-sig")


def _parquet(frame: pd.DataFrame) -> bytes:
    return frame.to_parquet(index=False)
