"""The parts of the Data set page: the audit as it stands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from kohyakit.dashboard.draw import charts, theme
from kohyakit.dashboard.pages.parts import widgets
from kohyakit.dashboard.pages.parts.page import Opened, nothing
from kohyakit.dashboard.read.memo import Memo, Stamp, stamp_of
from kohyakit.dashboard.read.preset import presets_in
from kohyakit.dashboard.read.project import Project
from kohyakit.errors import KohyakitError, rank_of
from kohyakit.formats import read as read_preset
from kohyakit.formats.text import read_text
from kohyakit.runs.logs.log_files import walk
from kohyakit.words import count, number

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.report.report import AuditReport

SMALL_SET = 300
"""So many images (each with a caption) are audited without being asked for; more wait for the button."""

_SHOWN, _SETS = 24, 60  # pictures of one finding, sets of like pictures on a page
_reports = Memo(6)


def folder_stamp(folder: Path) -> tuple[Stamp, int]:
    """Name, size and time of every file below a folder, and how many there are; changes when anything in it does."""
    seen = []
    for place, folders, files in walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            try:
                stat = os.stat(os.path.join(place, name))
            except OSError:
                continue
            seen.append((os.path.join(place, name), stat.st_size, stat.st_mtime_ns))
    return tuple(seen), len(seen)


def resolution_for(project: Project, folder: Path) -> int:
    """The resolution that this set is trained at: of the nearest preset that names it, or what lies in it, else 512."""
    presets = presets_in(project)[:MOST_PRESETS]

    def find() -> int:
        for path in presets:
            try:
                config, _ = read_preset(read_text(path), path.name)
                sides = [int(side) for side in str(config.dataset.resolution or "").split(",") if side.strip()]
                mine = config.dataset.train_data_dir
                trained = (project.root / mine).resolve() if mine else None
                if sides and trained and (folder.is_relative_to(trained) or trained.is_relative_to(folder)):
                    return max(sides)
            except (KohyakitError, ValueError, OSError):
                continue
        return 512

    return _resolutions.get((project.root, folder), stamp_of(*presets), find)


MOST_PRESETS = 30  # that are read to find the one that trains a folder
_resolutions = Memo(50)


def report_of(folder: Path, resolution: int) -> AuditReport | None:
    """The audit of a folder for a resolution, on which findings depend: kept while nothing in the folder changes, made
    anew when that is small or the button is pressed.
    """
    from kohyakit.audit.run import audit_dataset

    stamp, many = folder_stamp(folder)
    key = (folder, resolution)
    report = _reports.peek(key, stamp)
    if report is None:
        if many > 2 * SMALL_SET and not st.button(
            f"Audit {count(many, 'file')}", type="primary", icon=":material/search:"
        ):
            nothing(
                "This set was not looked at yet, or has changed.",
                "The audit opens every picture once and changes nothing.",
            )
            return None
        bar = st.progress(0.0, text="Opening every picture once …")

        def show(done: int, total: int) -> None:
            bar.progress(done / max(1, total))

        report = audit_dataset(folder, resolution=resolution, progress=show)
        bar.empty()
        _reports.put(key, stamp, report)
    return report


def headline(report: AuditReport) -> None:
    """The set in five numbers."""
    trained = report.images[report.images["repeats"] > 0]
    with st.container(horizontal=True, gap="large"):
        st.metric("Images", f"{len(report.images):,}", width="content")
        st.metric(
            "Samples an epoch", f"{int(trained['repeats'].sum()):,}", width="content", help="images times repeats"
        )
        st.metric("Errors", report.count("error"), width="content", help="would break a training")
        st.metric("Warnings", report.count("warning"), width="content", help="would spoil it without a word")
        st.metric("Hints", report.count("hint"), width="content", help="worth a look")


def findings(opened: Opened, report: AuditReport) -> None:
    """Every kind of finding with its pictures, sideways and damaged ones first. Duplicates have a view of their own."""
    summary = report.summary
    rows = [row for row in summary.itertuples() if not _is_duplicate(row.issue)]
    if not rows:
        st.success("Nothing to complain about in this set.", icon=":material/check:")
        return
    names = [row.issue for row in sorted(rows, key=lambda row: (_rank(row.issue, row.severity), -row.count))]
    titles = {row.issue: row.title for row in rows}
    chosen = st.pills(
        "Kinds", names, selection_mode="multi", format_func=lambda name: f"{titles[name]}  {_many(summary, name)}",
        label_visibility="collapsed", key="kinds",
    )  # fmt: skip
    orientation = dict(zip(report.images["path"], report.images["orientation"], strict=True))
    groups = []
    for name in chosen or names:
        issues = report.issues[report.issues["issue"] == name]
        items = [item for issue in issues.head(_SHOWN).itertuples() for item in _items(opened, issue, orientation)]
        action = issues.iloc[0]["action"]
        more = f" · the first {_SHOWN} are shown" if len(issues) > _SHOWN else ""
        groups.append(
            {"title": f"{_first_upper(titles[name])}: {len(issues)}", "note": f"{action}{more}", "items": items}
        )
    widgets.gallery(groups, key="findings", tile="13rem")


def _many(summary: pd.DataFrame, name: str) -> int:
    return int(summary.loc[summary["issue"] == name, "count"].iloc[0])


def _is_duplicate(issue: str) -> bool:
    return "duplicate" in issue or issue == "burst"


def _rank(issue: str, severity: str) -> int:
    """Sideways and damaged pictures first: nobody sees them in a file manager. Then by severity."""
    first = any(
        word in issue
        for word in ("orient", "exif", "sideways", "damaged", "truncat", "decode", "corrupt", "unreadable")
    )
    return 0 if first else 1 + rank_of(severity)


def _items(opened: Opened, issue: Any, orientation: dict[str, int]) -> list[dict[str, Any]]:
    """The finding as tiles: a turned photo as it is stored and as it is meant."""
    path = Path(issue.path)
    words = {"title": path.name, "note": issue.detail, "colour": theme.SEVERITY_COLOURS[issue.severity]}
    if issue.path not in orientation:  # a folder or a caption file
        return [{**words, "src": "", "badge": "folder" if path.is_dir() else "file"}]
    upright = {**words, "src": opened.picture_url(path, 320), "full": opened.picture_url(path, 1280)}
    if orientation[issue.path] == 1 or not any(word in issue.issue for word in ("orient", "exif", "sideways")):
        return [upright]
    stored = {key: opened.picture_url(path, width, upright=False) for key, width in (("src", 320), ("full", 1280))}
    return [
        {**words, **stored, "badge": "as stored"},
        {**upright, "badge": "as meant", "colour": theme.SEVERITY_COLOURS["good"]},
    ]


def duplicates(opened: Opened, report: AuditReport) -> None:
    """Each set of like pictures side by side, the one to keep first."""
    sets = report.groups()
    if not sets:
        st.success("No picture is there twice.", icon=":material/check:")
        return
    rows = {(row.group, row.path): row for row in report.issues[report.issues["group"] != ""].itertuples()}
    titles = dict(zip(report.summary["issue"], report.summary["title"], strict=True))
    groups = []
    for name, paths in list(sets.items())[:_SETS]:
        kind = titles.get(rows[name, paths[-1]].issue, "")
        series = rows[name, paths[0]].issue == "burst"  # of which several may be kept, none is the best
        items = [_twin(opened, rows[name, path], keep=not series and at == 0) for at, path in enumerate(paths)]
        groups.append({"title": f"{_first_upper(kind)}: {count(len(paths), 'picture')}", "items": items})
    if len(sets) > _SETS:
        st.caption(f"The first {_SETS} of {len(sets)} sets are shown.")
    widgets.gallery(groups, key="duplicates", tile="14rem")


def _twin(opened: Opened, row: Any, *, keep: bool) -> dict[str, Any]:
    path = Path(row.path)
    badge = {"badge": "keep", "colour": theme.SEVERITY_COLOURS["good"]} if keep else {}
    sources = {"src": opened.picture_url(path, 320), "full": opened.picture_url(path, 1280)}
    return {**sources, "title": path.name, "note": row.detail, **badge}


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def sizes(report: AuditReport) -> None:
    """Buckets with their load, what else could be chosen, and every picture's size."""
    table = report.buckets
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Buckets", anchor=False)
        if table.empty:
            st.caption("No picture falls into a bucket.")
        else:
            shown = table.head(30)
            option = charts.bar_chart(
                list(shown["bucket"]),
                [int(n) for n in shown["images"]],
                colour=theme.RUN_COLOURS[0],
                value_name="images",
                across=True,
            )
            st.echarts_chart(option, height=40 + 24 * len(shown), key="buckets")
    with right:
        st.subheader("Sizes in pixels", anchor=False)
        known = report.images.dropna(subset=["trained_width", "trained_height"]).head(20_000)
        points = [
            (float(row.trained_width), float(row.trained_height), Path(row.path).name)
            for row in known[["path", "trained_width", "trained_height"]].itertuples()
        ]
        side = report.settings.buckets.resolution[0]
        if points:
            option = charts.scatter_chart(
                points, x_name="width", y_name="height", guides=[side], colour=theme.RUN_COLOURS[0]
            )
            st.echarts_chart(option, height=340, key="scatter")
            st.caption(f"The dashed lines are {side} pixels; what lies below both is enlarged.")
    st.subheader("At other resolutions", anchor=False)
    st.dataframe(report.what_if(512, 640, 768, 1024), hide_index=True)


def captions(report: AuditReport) -> None:
    """Lengths and tags of the captions."""
    frame = report.captions
    if frame.empty:
        nothing("No captions yet.", "Write them on the Captions page, or let a captioner make a first draft.")
        st.page_link("views/captions.py", label="To the captions", icon=":material/edit_note:")
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Tags", anchor=False)
        tags = report.tags().head(25)
        option = charts.bar_chart(
            [str(tag) for tag in tags["tag"]],
            [int(n) for n in tags["images"]],
            colour=theme.RUN_COLOURS[2],
            value_name="captions",
            across=True,
        )
        st.echarts_chart(option, height=40 + 22 * len(tags), key="tags")
    with right:
        st.subheader("Tokens", anchor=False)
        known = frame["tokens"].dropna().astype(int)
        edges = list(range(0, max(80, int(known.max()) + 5) if len(known) else 80, 5))
        many = [int(((known >= low) & (known < low + 5)).sum()) for low in edges]
        option = charts.bar_chart(
            [str(edge) for edge in edges], many, colour=theme.RUN_COLOURS[2], value_name="captions"
        )
        st.echarts_chart(option, height=260, key="tokens")
        if len(known):
            st.caption(
                f"{number(float(known.mean()), 3)} tokens on average, {int(known.max())} at most; "
                "the text encoder takes 75 at a time."
            )
        st.subheader("By folder", anchor=False)
        st.dataframe(report.caption_lengths(), hide_index=True)
    st.page_link("views/captions.py", label="To the captions", icon=":material/edit_note:")
