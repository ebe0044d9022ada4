"""Runs: every training of the project, who came from whom, and which to compare."""

import streamlit as st

from kohyakit.dashboard import store, widgets
from kohyakit.dashboard.page import keep_pick, nothing, open_page
from kohyakit.dashboard.rows import table_rows
from kohyakit.dashboard.search import filtered
from kohyakit.dashboard.words import count, plain
from kohyakit.runs.run import RUNNING

opened = open_page("Runs")
if not opened.runs:
    nothing(
        "No training has run here yet.",
        "Start one on the Preset page, or in a terminal. Trainings made by Kohya's own tools can be read in.",
        "kohyakit train preset.json\nkohyakit runs import FOLDER",
    )
    st.stop()

search, action = st.columns([3, 2], vertical_alignment="bottom")
with search:
    text = st.text_input(
        "Filter",
        key="filter",
        bind="query-params",
        placeholder="network_dim >= 32 and loss.last < 0.1",
        label_visibility="collapsed",
        icon=":material/search:",
    )


@st.fragment(run_every=3 if any(run.status == RUNNING for run in opened.runs) else None)
def table() -> None:
    summaries = store.summaries(opened.runs)
    runs, problem = filtered(opened.runs, summaries, text or "")
    if problem:
        st.warning(plain(problem))
    if not runs:
        nothing("No run fits the filter.", "Take a condition out, or clear the field.")
        return
    picked = [run.record.version for run in opened.picked]
    reset = (
        "/".join([text or "", *picked])
        if "table_pick" not in st.session_state or st.session_state["table_pick"] != picked
        else st.session_state["table_reset"]
    )
    st.session_state["table_reset"] = reset
    now = widgets.runs_table(table_rows(runs, summaries, opened.picture_url), picked, reset=reset)
    st.session_state["table_pick"] = now
    if now != picked:
        keep_pick(now)
        st.rerun()
    if any(summary is None for summary in summaries.values()):
        st.rerun(scope="fragment")


with action, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
    many = len(opened.picked)
    st.caption(
        f"{count(many, 'run')} picked" if many else f"{count(len(opened.runs), 'run')}; pick some to compare them"
    )
    if many:
        st.page_link("views/compare.py", label="Compare", icon=":material/show_chart:")
        st.page_link("views/samples.py", label="Samples", icon=":material/photo_library:")
table()
