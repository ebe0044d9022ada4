"""ECharts options from lines: one hover over all runs, zoom, the raw line behind the smooth one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kohyakit.dashboard.draw.curves import AXES, Line

_AXIS_NAMES = {**AXES, "time": "Hours of training"}
_CROSS = "path://M0,0L10,10M10,0L0,10"
_DENSE = 80  # points from which a broken line is drawn thin instead: its many dashes cannot be seen, and take long


_TOOLTIP = {
    "trigger": "axis",
    "confine": True,
    "order": "valueAsc",
    "valueFormatter": "%.5g",
    "axisPointer": {"type": "line", "snap": True},
    "padding": [6, 10],
}
_TOOLBOX = {
    "right": 0,
    "top": 2,
    "itemSize": 12,
    "itemGap": 10,
    "feature": {
        "dataZoom": {"title": {"zoom": "zoom: drag over the chart", "back": "zoom back"}},
        "restore": {"title": "show all"},
    },
}


def curve_chart(
    lines: Sequence[Line],
    *,
    axis: str,
    log: bool = False,
    title: str = "",
    legend: bool = True,
    top: float | None = None,
) -> dict[str, Any]:
    """The option of one chart, plain data. lines: as `curves.drawn` gives them. top: where the value axis ends."""
    far = max((float(line.x[-1]) for line in lines if len(line.x)), default=0.0)
    behind = [_series(line, place, raw=True) for place, line in enumerate(lines) if line.smooth is not None]
    return {
        "animation": False,
        "dataset": [{"source": _columns(line, log)} for line in lines],
        "aria": {
            "label": {
                "description": f"{title} of {', '.join(line.run for line in lines)}, over {_AXIS_NAMES[axis].lower()}"
            }
        },
        "grid": {"left": 4, "right": 18, "top": 44, "bottom": 22, "containLabel": True},
        "title": {"text": title, "left": 0, "top": 4, "textStyle": {"fontSize": 14, "fontWeight": 600}},
        "legend": _legend([line.run for line in lines], min(40 + 8 * len(title), 320), shown=legend),
        "tooltip": _TOOLTIP,
        "toolbox": _TOOLBOX,
        "dataZoom": [{"type": "inside", "zoomOnMouseWheel": "ctrl", "moveOnMouseWheel": False, "filterMode": "none"}],
        "xAxis": {
            "type": "value",
            "min": "dataMin",
            "max": "dataMax",
            "name": _AXIS_NAMES[axis],
            "nameLocation": "middle",
            "nameGap": 24,
            "splitLine": {"show": False},
            "axisLine": {"onZero": False},
            "axisLabel": {"hideOverlap": True, "showMaxLabel": False},
        },
        "yAxis": {"type": "log", **_log_bounds(lines)}
        if log
        else {"type": "value", "scale": True, "splitNumber": 4, **({"max": float(f"{top:.2g}")} if top else {})},
        "series": [*behind, *(_series(line, place, log=log, far=far) for place, line in enumerate(lines))],
    }


def _legend(runs: list[str], left: int, *, shown: bool) -> dict[str, Any]:
    return {
        "show": shown,
        "type": "scroll",
        "icon": "roundRect",
        "itemWidth": 14,
        "itemHeight": 4,
        "itemGap": 14,
        "top": 5,
        "right": 84,
        "left": left,
        "data": runs,
    }


def _log_bounds(lines: Sequence[Line]) -> dict[str, float]:
    """A little room around the values; ECharts by itself would go out to whole powers of ten."""
    values = [
        part[np.isfinite(part) & (part > 0)] for line in lines for part in (line.y, line.smooth) if part is not None
    ]
    known = np.concatenate(values) if values else np.empty(0)
    return {"min": float(f"{known.min() * 0.9:.2g}"), "max": float(f"{known.max() * 1.1:.2g}")} if len(known) else {}


def _series(line: Line, place: int, *, raw: bool = False, log: bool = False, far: float = 0.0) -> dict[str, Any]:
    """One drawn line of the dataset at `place`. raw: the line behind the smooth one."""
    broken = line.dash if len(line.x) < _DENSE else "solid"
    width = 1 if raw or broken != line.dash else 2
    style = {"color": line.colour, "width": width, "type": broken, "opacity": 0.25 if raw else 1}
    made: dict[str, Any] = {
        "type": "line",
        "datasetIndex": place,
        "encode": {"x": "x", "y": "y" if raw or line.smooth is None else "smooth"},
        "showSymbol": len(line.x) == 1,
        "lineStyle": style,
        "itemStyle": {"color": line.colour},
        "emphasis": {"disabled": True},
    }
    if raw:
        return {**made, "name": f"{line.run} raw", "silent": True, "tooltip": {"show": False}, "z": 1}
    return {**made, "name": line.run, "z": 2, **_broken_end(line, log, far)}


def _broken_end(line: Line, log: bool, far: float) -> dict[str, Any]:
    """A cross with its reason where a line ends before its time, so that it is no line that fell and was done."""
    if not line.broken or line.end is None or (log and line.end[1] <= 0):
        return {}
    point = {
        "coord": list(line.end),
        "symbol": _CROSS,
        "symbolSize": 11,
        "itemStyle": {"color": "transparent", "borderColor": line.colour, "borderWidth": 2.5},
        "label": {
            "show": True,
            "formatter": f"{line.run} {line.broken}",
            "position": "top" if line.end[0] < 0.75 * far else "left",
            "distance": 8,
            "offset": [0, 0 if line.end[0] < 0.75 * far else -14],
            "color": line.colour,
            "fontWeight": 600,
            "fontSize": 12,
        },
    }
    return {"markPoint": {"silent": True, "animation": False, "data": [point]}}


def _columns(line: Line, log: bool) -> dict[str, list[float | None]]:
    """x, y and smooth as columns: half the text, and a fifth of the browser's work, of a pair a point."""
    columns = {"x": _column(line.x, 8, False), "y": _column(line.y, 6, log)}
    return columns if line.smooth is None else {**columns, "smooth": _column(line.smooth, 6, log)}


def _column(values: np.ndarray, digits: int, log: bool) -> list[float | None]:
    """Numbers for JSON, short, None for a gap, and on a log scale for what is not above 0."""
    good = np.isfinite(values) & (values > 0 if log else True)
    column: list[float | None] = _short(np.where(good, values, 0), digits).tolist()
    for place in np.flatnonzero(~good).tolist():
        column[place] = None
    return column


def _short(values: np.ndarray, digits: int) -> np.ndarray:
    """Rounded to so many significant digits, so that the text that goes to the browser is short."""
    with np.errstate(divide="ignore"):
        power = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values))))
    whole = np.where(values == 0, 1.0, power)
    return np.round(values * whole) / whole


def scatter_chart(
    points: Sequence[tuple[float, float, str]], *, x_name: str, y_name: str, guides: Sequence[float] = (), colour: str
) -> dict[str, Any]:
    """Points with a name each (image sizes); guides: diagonal aspect ratios are not drawn, lines at equal sides are."""
    return {
        "animation": False,
        "grid": {"left": 8, "right": 18, "top": 12, "bottom": 26, "containLabel": True},
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": {
            "type": "value",
            "scale": True,
            "name": x_name,
            "nameLocation": "middle",
            "nameGap": 26,
            "splitLine": {"show": False},
        },
        "yAxis": {"type": "value", "scale": True, "name": y_name, "nameLocation": "middle", "nameGap": 46},
        "series": [
            {
                "type": "scatter",
                "symbolSize": 7,
                "itemStyle": {"color": colour, "opacity": 0.6},
                "data": [{"value": [x, y], "name": name} for x, y, name in points],
                "markLine": {
                    "silent": True,
                    "symbol": "none",
                    "lineStyle": {"type": "dashed", "opacity": 0.5},
                    "label": {"show": False},
                    "data": [item for side in guides for item in ({"xAxis": side}, {"yAxis": side})],
                },
            }
        ],
    }


def bar_chart(
    names: Sequence[str], values: Sequence[float], *, colour: str, value_name: str = "", across: bool = False
) -> dict[str, Any]:
    """One bar a name; across: bars lie, names at the left."""
    names_axis = {"type": "category", "data": list(names), "axisTick": {"show": False}, "inverse": across}
    value_axis = {
        "type": "value",
        "name": value_name,
        "nameLocation": "middle",
        "nameGap": 26,
        "minInterval": 1,
        "splitNumber": 3,
    }
    return {
        "animation": False,
        "grid": {"left": 8, "right": 26, "top": 12, "bottom": 8, "containLabel": True},
        "tooltip": {"trigger": "axis", "confine": True, "axisPointer": {"type": "none"}},
        "xAxis": value_axis if across else names_axis,
        "yAxis": names_axis if across else value_axis,
        "series": [
            {
                "type": "bar",
                "data": list(values),
                "barMaxWidth": 22,
                "name": value_name,
                "itemStyle": {"color": colour, "borderRadius": 2},
            }
        ],
    }
