"""What goes to the chart library: every point as the log has it, gaps as gaps, one hover over all runs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kohyakit.dashboard.draw import svg
from kohyakit.dashboard.draw.charts import bar_chart, curve_chart, scatter_chart
from kohyakit.dashboard.draw.curves import Line, calm_top, drawn, far_apart, tag_title


def lines() -> list[Line]:
    y = np.array([0.123456789, np.nan, 1e-7, 0.0, -2.5, 123456.789, np.inf])
    return [
        Line("1a", "loss/average", np.arange(7.0), y, "#111"),
        Line("2b", "loss/average", np.arange(7.0), y * 2, "#222"),
    ]


def test_points_gaps_and_short_numbers() -> None:
    option = curve_chart(lines(), axis="step")
    assert option["dataset"][0]["source"] == {
        "x": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "y": [0.123457, None, 1e-7, 0.0, -2.5, 123457.0, None],
    }
    assert [series["datasetIndex"] for series in option["series"]] == [0, 1]
    json.dumps(option, allow_nan=False)


def test_a_log_scale_shows_only_what_it_can() -> None:
    option = curve_chart(lines(), axis="epoch", log=True)
    assert option["dataset"][0]["source"]["y"] == [0.123457, None, 1e-7, None, None, 123457.0, None]
    assert option["yAxis"]["min"] == pytest.approx(9e-8)
    assert option["yAxis"]["max"] == pytest.approx(2 * 123457 * 1.1, rel=0.05)
    json.dumps(
        curve_chart([Line("1a", "x", np.arange(2.0), np.zeros(2), "#1")], axis="step", log=True), allow_nan=False
    )


def test_the_raw_line_stays_behind_and_out_of_the_hover() -> None:
    option = curve_chart(drawn(lines(), smoothing=0.5), axis="step")
    behind = [series for series in option["series"] if series.get("silent")]
    assert [series["name"] for series in behind] == ["1a raw", "2b raw"]
    assert not any(series["tooltip"]["show"] for series in behind)
    assert [series["encode"]["y"] for series in option["series"]] == ["y", "y", "smooth", "smooth"]
    assert option["legend"]["data"] == ["1a", "2b"]
    assert option["tooltip"]["trigger"] == "axis"


def test_other_charts_are_plain_data() -> None:
    json.dumps(scatter_chart([(1, 2, "a.png")], x_name="w", y_name="h", guides=[512], colour="#1"), allow_nan=False)
    across = bar_chart(["b"], [3], colour="#1", across=True)
    assert across["yAxis"]["data"] == ["b"]
    assert across["series"][0]["data"] == [3]


@pytest.mark.parametrize(("points", "style"), [(20, ("dashed", 2)), (500, ("solid", 1))])
def test_a_dense_line_is_thin_where_a_sparse_one_is_broken(points: int, style: tuple[str, int]) -> None:
    """The eleventh run has the first one's colour; a browser takes long over thousands of dashes."""
    x = np.arange(float(points))
    both = [Line("run", "loss/current", x, np.cos(x), "#111", dash) for dash in ("solid", "dashed")]
    plain, other = (one["lineStyle"] for one in curve_chart(both, axis="step")["series"])
    assert (plain["type"], plain["width"]) == ("solid", 2)
    assert (other["type"], other["width"]) == style


def test_a_small_chart_leaves_the_legend_to_another() -> None:
    assert curve_chart(lines(), axis="step")["legend"]["show"]
    assert not curve_chart(lines(), axis="step", legend=False)["legend"]["show"]


def test_a_failed_run_s_line_ends_in_a_cross_with_its_reason() -> None:
    fell = Line("1b", "loss/average", np.arange(50.0), np.linspace(1, 0.1, 50), "#333", broken="failed: not a number")
    went = Line("1a", "loss/average", np.arange(100.0), np.linspace(1, 0.2, 100), "#111")
    of_went, of_fell = curve_chart([went, fell], axis="step")["series"]
    assert "markPoint" not in of_went
    (point,) = of_fell["markPoint"]["data"]
    assert point["coord"] == [49.0, pytest.approx(0.1)]
    assert point["label"]["formatter"] == "1b failed: not a number"
    drawing = svg.chart([went, fell], axis="step")
    assert "1b failed: not a number" in drawing
    nan = Line("1c", "loss/average", np.arange(3.0), np.array([0.5, 0.4, np.nan]), "#555", broken="x")
    assert curve_chart([nan], axis="step")["series"][0]["markPoint"]["data"][0]["coord"] == [1.0, 0.4]
    never = Line("1c", "loss/average", np.arange(2.0), np.array([np.nan, np.nan]), "#555", broken="x")
    json.dumps(curve_chart([never], axis="step", log=True), allow_nan=False)


def test_a_wild_run_does_not_flatten_the_others() -> None:
    x = np.arange(100.0)
    calm = [Line(name, "loss", x, np.linspace(start, 0.1, 100), "#1") for name, start in (("1a", 0.2), ("1b", 0.3))]
    wild = Line("1c", "loss", x, np.linspace(0.2, 40, 100), "#2")
    top, names = calm_top([*calm, wild])
    assert 0.2 < top < 0.5
    assert [line.run for line in names] == ["1c"]
    assert calm_top(calm) is None
    assert calm_top([wild]) is None
    assert curve_chart([*calm, wild], axis="step", top=top)["yAxis"]["max"] == pytest.approx(top, rel=0.1)


@pytest.mark.parametrize(
    ("tag", "title"),
    [
        ("lr/d*lr/unet", "Learning rate times d, U-Net"),
        ("lr/group0", "Learning rate, group 0"),
        ("lr/te2", "Learning rate, text encoder 2"),
        ("my/own", "my/own"),
    ],
)
def test_tags_in_words(tag: str, title: str) -> None:
    assert tag_title(tag) == title


def test_rates_of_two_sizes_are_told_apart() -> None:
    """1e-4 beside 1 (Prodigy's) lies on the ground of a linear chart; 1e-4 beside 5e-4 does not."""
    steps = np.arange(4.0)

    def rate(top: float) -> Line:
        return Line("1a", "lr/unet", steps, np.array([0.0, top / 2, top, np.nan]), "#000")

    assert far_apart([rate(1e-4), rate(1.0)])
    assert not far_apart([rate(1e-4), rate(5e-4)])
    assert not far_apart([rate(0.0)])
