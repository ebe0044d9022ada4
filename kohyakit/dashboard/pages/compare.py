"""The four views of the Compare page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import streamlit as st

from kohyakit.dashboard.draw import charts, export_page, svg
from kohyakit.dashboard.draw import curves as lines_as_drawn
from kohyakit.dashboard.draw.curves import AXES, tag_group, tag_title
from kohyakit.dashboard.draw.lines import Look, all_tags, drawn_lines, kept
from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.parts import widgets
from kohyakit.dashboard.pages.parts.page import Opened, nothing, sentence_list, show_problems
from kohyakit.dashboard.read import report, store
from kohyakit.errors import Problem
from kohyakit.runs.run import Run
from kohyakit.words import listed


def curves(runs: Sequence[Run]) -> None:
    """What the curves tell, then a chart a metric, all with the same axis and smoothing."""
    tags = all_tags(runs)
    if not tags:
        nothing(
            "These runs have no curves.",
            "A training logs when logging_dir is set; the settings can be compared all the same.",
        )
        show_problems(problem for run in runs for problem in store.scalars_of(run).problems)
        return
    _statements(runs)
    look = _controls()
    shown = st.pills(
        "Metrics",
        tags,
        selection_mode="multi",
        default=_first_tags(tags),
        format_func=tag_title,
        key="tags",
        label_visibility="collapsed",
    )
    problems = []
    wide = [tag for tag in shown if tag_group(tag) != "lr"]
    small = [tag for tag in shown if tag_group(tag) == "lr"]
    for tag in wide:
        problems += _chart(runs, tag, look, height=380 if tag == wide[0] else 280)
    for column, tag in zip(st.columns(2) * len(small), small, strict=False):
        with column:
            problems += _chart(runs, tag, look, height=220, legend=not wide)  # the chart above has it
    show_problems(problems)
    st.caption(
        "Zoom: the dashed square, then drag; or Ctrl and the wheel. Drawn lines keep their lowest and highest points."
    )


def _controls() -> Look:
    by_label = {label: axis for axis, label in AXES.items()}
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        over = st.segmented_control(
            "Over", list(by_label), default=AXES["step"], required=True, key="over", bind="query-params",
            label_visibility="collapsed", persist_state="session",
        )  # fmt: skip
        log = st.toggle("Log scale", key="log", bind="query-params", persist_state="session")
        smoothing = st.slider(
            "Smoothing", 0.0, 0.99, 0.6, 0.01, key="smooth", bind="query-params", width=210,
            persist_state="session",
            help="An exponential moving average, its start debiased; the raw line stays behind it. 0 is the raw line.",
        )  # fmt: skip
        part = st.slider(
            "Part", 0, 100, (0, 100), 1, format="%d%%", key="part", bind="query-params", width=210,
            persist_state="session",
            help="A stretch of the training, drawn anew with all its detail.",
        )  # fmt: skip
    return Look(by_label[over], smoothing, log, part)


def _chart(runs: Sequence[Run], tag: str, look: Look, *, height: int, legend: bool = True) -> list[Problem]:
    drawn, problems = drawn_lines(runs, tag, look)
    if drawn:
        rates = tag_group(tag) == "lr"
        log = look.log or (rates and lines_as_drawn.far_apart(drawn))
        calm = None if log or rates else lines_as_drawn.calm_top(drawn)

        def make() -> dict[str, Any]:
            top = calm[0] if calm else None
            return charts.curve_chart(drawn, axis=look.axis, log=log, title=tag_title(tag), legend=legend, top=top)

        option = kept(("option", look.log, legend), runs, tag, look, make)
        st.echarts_chart(option, height=height, key=f"chart_{tag}")
        if calm:
            names = plain(listed([line.run for line in calm[1]]))
            st.caption(f"{names} go{'es' if len(calm[1]) == 1 else ''} above this chart; Log scale shows all of it.")
    return problems


def _statements(runs: Sequence[Run], most: int = 4) -> None:
    """Sentences about the curves, each with its numbers; of many the gravest, the rest behind a fold, so that the
    curves stay in sight.
    """
    told = [(one.severity, one.where, one.what) for one in report.statements(runs)]
    if not told:
        return
    with st.container(border=True):
        st.markdown("**What the curves tell**")
        st.html(sentence_list(told[:most]))
        if len(told) > most:
            with st.expander(f"{len(told) - most} more"):
                st.html(sentence_list(told[most:]))


def settings(runs: Sequence[Run]) -> None:
    """A row a setting, a column a run; only what differs unless asked."""
    with st.container(horizontal=True, vertical_alignment="center"):
        everything = st.toggle("Show equal settings too", key="everything")
        bookkeeping = st.toggle(
            "Names and folders too",
            key="bookkeeping",
            help="output_name, logging_dir and others that change no picture",
        )
    table = report.settings_frame(runs, only_differences=not everything, bookkeeping=bookkeeping)
    if len(runs) < 2 and not everything:
        nothing("One run differs from nothing.", "Pick another, or show equal settings too.")
    elif table.empty:
        nothing("The settings are the same.", "What differs may be the photos or captions: see Data sets.")
    else:
        st.dataframe(table, width="stretch", height=min(36 * len(table) + 40, 640), row_height=36)
        st.download_button(
            "CSV",
            table.to_csv(),
            "settings.csv",
            "text/csv",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
        )


def photos(opened: Opened, runs: Sequence[Run]) -> None:
    """Photos added and removed as pictures, captions before and after, from each run to the next."""
    if len(runs) < 2:
        nothing("One run has nothing to differ from.", "Pick a second one.")
        return
    for before, after in pairwise(runs):
        st.subheader(f"{before.record.version} → {after.record.version}", anchor=False)
        if not before.dataset.entries or not after.dataset.entries:
            st.caption("One of the two kept no list of its photos (runs read in from older work have none).")
            continue
        change = report.dataset_change(before, after)
        st.caption(plain(", ".join(change.words)) or "The same photos and captions.")
        groups = [
            {"title": title, "items": [_photo(opened, path, name) for path, name in items]}
            for title, items in (("Added", change.added), ("Removed", change.removed), ("Edited", change.changed))
            if items
        ]  # fmt: skip
        if groups:
            widgets.gallery(
                groups, key=f"photos_{before.record.version}_{after.record.version}", tile="7.5rem", cover=True
            )
        if change.captions:
            st.html(report.caption_html(change.captions))


def _photo(opened: Opened, path, name: str) -> dict:
    return {"src": opened.picture_url(path, 320), "full": opened.picture_url(path, 1280), "title": name}


def export(opened: Opened, runs: Sequence[Run]) -> None:
    """The comparison as one HTML file, its numbers as CSV, each chart as SVG."""
    names = "-".join(run.record.version for run in runs[:6])
    st.markdown("**One file** with the curves, what they tell, settings, photos and last samples. It needs no network.")
    _download(
        "Comparison as HTML", lambda: export_page.page(opened, runs), f"compare-{names}.html", "text/html", main=True
    )
    st.markdown("**Numbers** for a spreadsheet.")
    with st.container(horizontal=True):
        table = report.settings_frame
        _download(
            "Settings as CSV",
            lambda: table(runs, only_differences=False, bookkeeping=True).to_csv(),
            f"settings-{names}.csv",
            "text/csv",
        )
        _download("Metrics as CSV", lambda: report.metrics_csv(runs), f"metrics-{names}.csv", "text/csv")
    st.markdown(
        "**Charts** as SVG. A chart on the Curves view saves itself as PNG: point at it, then the arrow above it."
    )
    with st.container(horizontal=True):
        for tag in all_tags(runs):
            _download(tag_title(tag), partial(chart_svg, runs, tag), f"{_file_name(tag, runs)}.svg", "image/svg+xml")


def _download(label: str, make: Callable[[], str], name: str, media_type: str, *, main: bool = False) -> None:
    """The file is made when it is asked for, not on every look at the page."""
    kind: Literal["primary", "secondary"] = "primary" if main else "secondary"
    st.download_button(
        label, make, name, media_type, on_click="ignore", type=kind, icon=":material/download:", key=name
    )


def chart_svg(runs: Sequence[Run], tag: str) -> str:
    drawn, _ = drawn_lines(runs, tag)
    return svg.chart(drawn, axis="step", title=tag_title(tag))


def _file_name(tag: str, runs: Sequence[Run]) -> str:
    return "-".join(["".join(c if c.isalnum() else "-" for c in tag), *(run.record.version for run in runs[:6])])


def _first_tags(tags: Sequence[str]) -> list[str]:
    """What is drawn before anything is chosen: a loss and a validation; the learning rates where there is no loss."""
    wanted = [tag for tag in ("loss/average", "loss/current") if tag in tags][:1] or [
        tag for tag in tags if tag_group(tag) == "loss"
    ][:1]
    wanted += [tag for tag in tags if tag_group(tag) == "validation"][:1]
    rates = sorted((tag for tag in tags if tag.startswith("lr/")), key=lambda tag: tag.startswith("lr/group"))
    return wanted or rates[:2]
