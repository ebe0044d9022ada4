"""The parts of a run's own page: how it ended and why, its note, what differs, its files, settings and log."""

from __future__ import annotations

import streamlit as st

from kohyakit.config.train import SPECS
from kohyakit.dashboard.draw import charts
from kohyakit.dashboard.draw import curves as lines_as_drawn
from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.parts import widgets
from kohyakit.dashboard.pages.parts.page import Opened, nothing, sentence_list, show_error, show_problems
from kohyakit.dashboard.read import report, store
from kohyakit.dashboard.read.rows import TROUBLE, changed, seconds_of, status_note
from kohyakit.dashboard.read.samples import position, samples_of
from kohyakit.dashboard.serve.start import tail
from kohyakit.errors import KohyakitError
from kohyakit.runs.comparison.compare import Row, settings_table, show
from kohyakit.runs.run import Checkpoint, Run
from kohyakit.runs.verdict import sentences
from kohyakit.words import duration, number, size, when


def choose(opened: Opened) -> Run:
    """The run that the address names, else the first picked, else the newest; the menu changes it."""
    by_version = {run.record.version: run for run in opened.runs}
    names = list(by_version)
    asked = st.query_params.get("run") or next((run.record.version for run in opened.picked), "")
    chosen = st.selectbox(
        "Run",
        names,
        names.index(asked) if asked in by_version else len(names) - 1,
        format_func=lambda name: title(by_version[name]),
        label_visibility="collapsed",
        width=420,
    )
    st.query_params["run"] = chosen
    return by_version[chosen]


def title(run: Run) -> str:
    return f"{run.record.version}  {run.record.name or run.record.output_name}".strip()


def ending(run: Run) -> None:
    """How it ended, and of one that failed why, with the last that it said."""
    note = status_note(run)
    if run.status in TROUBLE:
        st.error(plain(f"{run.status}: {note}" if note else run.status), icon=":material/error:")
        said = tail(run.log_file, 12)
        if said:
            st.caption("The last lines of its log:")
            st.code(said, language=None, wrap_lines=True)
    elif note:
        st.caption(plain(f"{run.status}: {note}"))


def facts(run: Run) -> None:
    """The run in numbers and where it came from."""
    record = run.record
    line = (store.summaries([run])[record.version] or store.Summary()).line
    with st.container(horizontal=True, gap="medium"):
        st.metric("Status", run.status, width="content")
        st.metric("Started", when(record.started or record.created), width="content")
        st.metric("Took", duration(seconds_of(run)), width="content")
        st.metric("Photos", f"{record.image_count:,}" if record.image_count else "–", width="content")
        st.metric("Steps", f"{record.steps:,}" if record.steps else "–", width="content")
        st.metric("Loss at the end", number(line.last) if line else "–", width="content")
    device = f" · {record.device}" if record.device else ""
    st.caption(plain(f"{changed(run)}{device}"))


def note_form(run: Run) -> None:
    """Its name and note, written into its record as soon as the field is left."""
    if run.problem is not None:
        return
    keys = {field: f"{field}_{run.folder}_{hash(getattr(run.record, field))}" for field in ("name", "note")}
    st.text_input("Name", run.record.name, key=keys["name"], placeholder="a name beside the version",
                  on_change=_save, args=(run, "name", keys["name"]))  # fmt: skip
    st.text_area("Note", run.record.note, key=keys["note"], height=110, placeholder="what it was for, what came of it",
                 on_change=_save, args=(run, "note", keys["note"]))  # fmt: skip
    st.button("Save name and note", icon=":material/save:")  # to press it is to leave the field


def _save(run: Run, field: str, key: str) -> None:
    text = (st.session_state[key] or "").strip()
    try:
        run.update(**{field: " ".join(text.split()) if field == "name" else text})
    except KohyakitError as error:
        show_error(error)
    else:
        st.toast("Saved")


def curve(run: Run) -> None:
    """Its loss, and what it tells."""
    scalars = store.scalars_of(run)
    wanted = ("loss/average", "loss/current", *scalars.tags)
    tag = next((tag for tag in wanted if tag in scalars.tags), None)
    if tag is None:
        show_problems(scalars.problems)
        return
    lines, _ = store.lines_of([run], tag, "step")
    title_of = lines_as_drawn.tag_title(tag)
    option = charts.curve_chart(lines_as_drawn.drawn(lines), axis="step", title=title_of, legend=False)
    st.echarts_chart(option, height=260, key=f"curve_{run.folder}")
    told = [(one.severity, "", one.what) for one in report.of_run(run)]
    if told:
        st.html(sentence_list(told[:6]))


def files(run: Run) -> None:
    """What it wrote, and what became of each file."""
    if not run.record.checkpoints:
        st.caption("It saved no file.")
        return
    written = run.record.checkpoints
    st.dataframe(
        {
            "file": [one.file for one in written],
            "kind": [one.kind for one in written],
            "epoch": [one.epoch for one in written],
            "step": [one.step for one in written],
            "size": [size(one.bytes) if one.bytes else "" for one in written],
            "now": [_fate(run, one) for one in written],
        },
        hide_index=True,
    )
    told = [(severity, "", plain(text)) for severity, text in sentences(run.record.verdict)]
    if told:
        st.html(sentence_list(told))


def _fate(run: Run, one: Checkpoint) -> str:
    if one.replaced_by:
        return f"overwritten by {one.replaced_by}"
    return "there" if run.has(one.file) else "gone"


def settings(run: Run) -> None:
    """What differs from the defaults, or everything."""
    everything = st.toggle("Show defaults too", key="all_settings")
    table = report.settings_frame([run], only_differences=False, bookkeeping=True)
    if not everything:
        rows = settings_table([run], only_differences=False)
        table = table.loc[[row.name for row in rows if not _at_default(row)]]
    if table.empty:
        st.caption("It kept no settings.")
        return
    st.dataframe(table, width="stretch", height=min(36 * len(table) + 40, 560), row_height=36)


def _at_default(row: Row) -> bool:
    return row.name in SPECS() and row.texts[0] == show(SPECS()[row.name].default)


def pictures(opened: Opened, run: Run) -> None:
    """The last samples."""
    drawn = samples_of(run)
    last = max((position(sample) for sample in drawn), default=0)
    newest = [sample for sample in drawn if position(sample) == last]
    if not newest:
        return
    items = [
        {
            "src": opened.picture_url(one.path, 320), "full": opened.picture_url(one.path),
            "title": one.prompt or one.path.name, "note": f"seed {one.seed}" if one.seed is not None else "",
        }
        for one in newest
    ]  # fmt: skip
    widgets.gallery([{"title": f"Samples, {newest[0].label}", "items": items}], key=f"last_{run.folder}", tile="11rem")


def log(run: Run) -> None:
    """The end of what it printed; the whole of it as a file."""
    text = tail(run.log_file, 200, 65_536)
    if not text:
        nothing("It kept no log.", "Runs read in from older work have none.")
        return
    st.code(text, language=None, wrap_lines=True, height=420)
    name = f"{run.record.version}-log.txt"
    st.download_button("Whole log", lambda: run.log_file.read_bytes(), name, "text/plain", on_click="ignore",
                       icon=":material/download:", type="tertiary")  # fmt: skip


def links(run: Run) -> None:
    chosen = {"runs": run.record.version}
    with st.container(horizontal=True):
        st.page_link("views/compare.py", label="Compare", icon=":material/show_chart:", query_params=chosen)
        st.page_link("views/samples.py", label="Samples", icon=":material/photo_library:", query_params=chosen)
