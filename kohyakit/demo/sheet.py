"""One picture of all samples: a row a prompt and run, from before the first step to the end."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from kohyakit.runs.run import Run

_GAP = 6


def write_sheet(runs: Sequence[Run], path: Path) -> Path:
    """Write the sheet as PNG, on no ground: the runs below each other, each a row a prompt and a column a moment."""
    from PIL import Image

    rows = [row for run in runs for row in _rows(run)]
    with Image.open(rows[0][0]) as first:
        side = first.width
    wide = max(len(row) for row in rows) * (side + _GAP) + _GAP
    sheet = Image.new("RGBA", (wide, len(rows) * (side + _GAP) + _GAP))
    for y, row in enumerate(rows):
        for x, place in enumerate(row):
            with Image.open(place) as picture:
                sheet.paste(picture, (_GAP + x * (side + _GAP), _GAP + y * (side + _GAP)))
    sheet.save(path)
    return path


def _rows(run: Run) -> list[list[Path]]:
    """The run's samples, a list a prompt, in the order of its steps."""
    folder = run.samples or run.project / "sample"
    told = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    rows: dict[int, list[Path]] = defaultdict(list)
    for record in told:
        if record["run"] == str(run.version):
            rows[record["index"]].append(folder / record["file"])
    return [rows[index] for index in sorted(rows)]
