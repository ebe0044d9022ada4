"""The exported page, the tables and the drawn charts."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from kohyakit.dashboard.draw import export_page, svg
from kohyakit.dashboard.draw.curves import Line
from kohyakit.dashboard.pages.parts.page import Opened
from kohyakit.dashboard.read import report, store
from kohyakit.dashboard.read.project import Project
from kohyakit.runs.run import Run, open_run


def opened(project: Path, *versions: str) -> tuple[Opened, tuple[Run, ...]]:
    runs = tuple(open_run(project / "runs" / version) for version in versions)
    return Opened(Project.open(project), project, store.runs_of(project), runs), runs


def test_the_page_stands_alone_and_says_what_differs(project: Path) -> None:
    text = export_page.page(*opened(project, "1b", "2a"))
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "default-src 'none'" in text
    assert "3 photos added, 2 removed, 1 caption changed" in text
    assert "<del>" in text
    assert text.count("<svg") == 5
    assert text.count("data:image/webp;base64,") == 3 + 2 + 4
    assert "later epochs over-fit" in text


def test_markup_in_files_is_escaped(project: Path) -> None:
    evil = "</title><script>alert(1)</script>"
    open_run(project / "runs" / "1a").update(name=evil, note=evil, changes=[evil], parent="1b", output_name=evil)
    text = export_page.page(*opened(project, "1a", "1b"))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_photos_outside_the_project_are_named_but_not_read(project: Path, tmp_path: Path) -> None:
    import json

    file = project / "runs" / "2a" / "dataset.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    for entry in data["entries"]:
        entry["root"] = str(tmp_path / "elsewhere")
    file.write_text(json.dumps(data), encoding="utf-8")
    text = export_page.page(*opened(project, "1b", "2a"))
    assert "added: beach-09.jpg" in text
    assert text.count("data:image/webp;base64,") == 2 + 4


def test_settings_as_a_table(project: Path) -> None:
    _, runs = opened(project, "1a", "1b")
    table = report.settings_frame(runs)
    assert table["change"].to_dict() == {"network_dim": "× 2", "network_alpha": "× 2"}
    assert len(report.settings_frame(runs, only_differences=False, bookkeeping=True)) > 200


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "\t=1"])
def test_a_spreadsheet_runs_nothing(project: Path, text: str) -> None:
    import json

    settings = project / "runs" / "1a" / "settings.json"
    settings.write_text(json.dumps({"training_comment": text}), encoding="utf-8")
    _, runs = opened(project, "1a", "1b")
    rows = list(csv.reader(io.StringIO(report.settings_frame(runs, bookkeeping=True).to_csv())))
    cells = [cell for row in rows for cell in row]
    assert "'" + text in cells
    assert "-1" not in cells or "'-1" not in cells


def test_metrics_as_csv_are_every_point(project: Path) -> None:
    _, runs = opened(project, "1a")
    rows = list(csv.DictReader(io.StringIO(report.metrics_csv(runs))))
    assert len(rows) == 4 * 300 + 20
    frame = store.scalars_of(runs[0]).frame
    assert frame is not None
    assert [float(row["value"]) for row in rows] == frame["value"].tolist()


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.071, 0.28, [0.1, 0.15, 0.2, 0.25]), (3, 3, [3]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert svg.ticks(low, high, 5) == wanted


def test_log_ticks() -> None:
    assert svg.log_ticks(0.01, 1.0) == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert svg.log_ticks(1e-8, 1.0)[0] == 1e-8


def path_points(document: str) -> list[tuple[float, float]]:
    (path,) = re.findall(r'data-run="1a" d="([^"]*)"', document)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)]


def test_a_drawn_line_lies_where_its_numbers_say() -> None:
    """Straight down from the upper left to the lower right, five per cent of room above and below."""
    document = svg.chart(
        [Line("1a", "loss", np.array([0.0, 1.0]), np.array([2.0, 1.0]), "#000")], axis="step", title="a < b & c"
    )
    ElementTree.fromstring(document)
    (x0, y0), (x1, y1) = path_points(document)
    assert (x0, x1) == (64, svg.WIDTH - 18)
    top, bottom = 40, svg.HEIGHT - 44
    assert y0 == pytest.approx(top + (bottom - top) * 0.05 / 1.1, abs=0.1)
    assert y1 == pytest.approx(bottom - (bottom - top) * 0.05 / 1.1, abs=0.1)


def test_gaps_and_what_a_log_scale_cannot_show() -> None:
    line = Line("1a", "loss", np.arange(5.0), np.array([1.0, np.nan, 10.0, 0.0, 100.0]), "#000")
    document = svg.chart([line], axis="step", log=True)
    assert len(path_points(document)) == 3
    assert re.findall(r'data-run="1a" d="([^"]*)"', document)[0].count("M") == 3
    nothing = svg.chart([Line("1a", "loss", np.arange(2.0), np.full(2, np.nan), "#000")], axis="step")
    assert "no finite value" in nothing


def test_captions_before_and_after() -> None:
    assert report.marked("a, b, c", "a, c, d") == "a, <del>b</del>, c, <ins>d</ins>"
    assert report.marked("", "x <b>") == "<ins>x</ins> <ins>&lt;b&gt;</ins>" or "&lt;b&gt;" in report.marked(
        "", "x <b>"
    )
    assert report.marked("same", "same") == "same"
