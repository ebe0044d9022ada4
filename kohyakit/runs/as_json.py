"""Runs, comparisons and rankings as plain data: what `--json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kohyakit.dataset.fingerprint import Difference, ImageEntry
from kohyakit.planning.as_json import finding_data
from kohyakit.runs.comparison.best import Ranking
from kohyakit.runs.comparison.compare import NOT_RECORDED, Row, changes, dataset_difference, settings_table
from kohyakit.runs.logs.metrics import Summary
from kohyakit.runs.prune import Candidate, Moved
from kohyakit.runs.run import Run


def run_data(run: Run, summary: Mapping[str, Summary] | None = None) -> dict[str, Any]:
    """A run's record with what is derived from it: folder, status as it is now, metrics in numbers."""
    data = {**run.record.to_json(), "status": run.status, "folder": str(run.folder)}
    data.pop("process")
    if run.problem is not None:
        data["problem"] = finding_data(run.problem)
    if summary is not None:
        data["metrics"] = {
            tag: {name: finite(value) for name, value in asdict(line).items() if name != "tag"}
            for tag, line in summary.items()
        }
    return data


def diff_data(runs: Sequence[Run]) -> dict[str, Any]:
    """Settings that differ, and what became of the images from the first run to each of the others."""
    return {
        "runs": [run.record.version for run in runs],
        "settings": [row_data(row) for row in settings_table(runs)],
        "datasets": [
            {"from": runs[0].record.version, "to": run.record.version, "changes": list(changes(runs[0], run)),
             **difference_data(dataset_difference(runs[0], run))}
            for run in runs[1:]
        ],
    }  # fmt: skip


def row_data(row: Row) -> dict[str, Any]:
    return {
        "name": row.name, "section": row.section, "bookkeeping": row.bookkeeping,
        "values": [None if value is NOT_RECORDED else value for value in row.values],
        "recorded": [value is not NOT_RECORDED for value in row.values],
    }  # fmt: skip


def difference_data(found: Difference) -> dict[str, Any]:
    def image(entry: ImageEntry) -> dict[str, Any]:
        return {"file": entry.file, "path": str(entry.path), "is_reg": entry.is_reg}

    return {
        "added": [image(entry) for entry in found.added],
        "removed": [image(entry) for entry in found.removed],
        "edited": [image(new) for _, new in found.changed],
        "renamed": [{"from": old.file, "to": new.file} for old, new in found.renamed],
        "captions": [{"file": new.file, "from": old.caption, "to": new.caption} for old, new in found.recaptioned],
        "subsets": [{"from": asdict(old), "to": asdict(new)} for old, new in found.subsets],
    }


def ranking_data(ranking: Ranking) -> dict[str, Any]:
    return {
        "metric": ranking.metric, "statistic": ranking.statistic, "certainty": ranking.certainty,
        "because": ranking.because, "caveats": list(ranking.caveats),
        "places": [
            {
                "version": place.run.record.version, "value": finite(place.value), "error": place.error,
                "step": place.step, "checkpoint": place.checkpoint.file if place.checkpoint else None,
            }
            for place in ranking.places
        ],
        "without": [run.record.version for run in ranking.without],
        "unfit": [run.record.version for run in ranking.unfit],
        "elsewhere": [run.record.version for run in ranking.elsewhere],
    }  # fmt: skip


def candidate_data(candidate: Candidate) -> dict[str, Any]:
    return {
        "run": candidate.run.record.version, "file": str(candidate.path), "kind": candidate.checkpoint.kind,
        "bytes": candidate.bytes, "why": candidate.why,
    }  # fmt: skip


def moved_data(moved: Moved) -> dict[str, Any]:
    return {
        "trash": str(moved.trash), "files": [str(path) for path in moved.files], "bytes": moved.bytes,
        "skipped": [finding_data(problem) for problem in moved.skipped],
    }  # fmt: skip


def finite(value: Any) -> Any:
    """JSON knows no NaN."""
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
