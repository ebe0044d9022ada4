"""Runs: every training of the project, who came from whom, and which to compare."""

import streamlit as st

from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.parts import widgets
from kohyakit.dashboard.pages.parts.page import keep_pick, nothing, open_page
from kohyakit.dashboard.read import store
from kohyakit.dashboard.read.rows import rows_text, told
from kohyakit.dashboard.read.search import filtered
from kohyakit.runs.run import RUNNING

opened = open_page("Runs")
if not opened.runs:
    nothing(
        "No training has run here yet.",
        "Start one on the Preset page, or in a terminal. Trainings made by Kohya's own tools can be read in.",
        "kohyakit train preset.json\nkohyakit runs import FOLDER",
    )
    st.stop()

first = store.summaries(opened.runs)
unread = None in first.values()
refresh = 1 if unread else 3 if any(run.status == RUNNING for run in opened.runs) else None


@st.fragment(run_every=refresh)
def body() -> None:
    """The whole page: a click in the table draws only this again."""
    search, action = st.columns([3, 2], vertical_alignment="center")
    text = search.text_input(
        "Filter",
        key="filter",
        bind="query-params",
        placeholder="network_dim >= 32 and loss.last < 0.1",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    runs = opened.again().runs
    summaries = first if runs is opened.runs and not unread else store.summaries(runs)
    picked, shown = table(runs, summaries, text or "")
    with action, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.caption(told(len(runs), shown, len(picked)))
        if picked:
            chosen = {"runs": ",".join(picked)}
            one = {**chosen, "run": picked[-1]}
            st.page_link("views/run.py", label=f"About {picked[-1]}", icon=":material/article:", query_params=one)
            st.page_link("views/compare.py", label="Compare", icon=":material/show_chart:", query_params=chosen)
            st.page_link("views/samples.py", label="Samples", icon=":material/photo_library:", query_params=chosen)
    if unread and None not in summaries.values():
        st.rerun()  # everything is read: no more refreshing


def table(runs, summaries, text: str) -> tuple[list[str], int]:
    """Draw the runs that fit; returns which are picked, also of those that do not fit, and how many stand there."""
    known = {run.record.version for run in runs}
    picked = [name for name in st.session_state.get("picked", []) if name in known]
    shown, problem = filtered(runs, text)
    if problem:
        st.warning(plain(problem))
    if not shown:
        nothing("No run fits the filter.", "Take a condition out, or clear the field.")
        return picked, 0
    if st.session_state.get("table_pick") != picked:
        # The pick came from elsewhere (the address, another page): a fresh table takes it over.
        st.session_state["table_round"] = st.session_state.get("table_round", 0) + 1
    rows = rows_text(shown, summaries, opened.picture_url)
    now = widgets.runs_table(rows, picked, key=f"runs_{st.session_state['table_round']}")
    now = [name for name in now if name in known]
    st.session_state["table_pick"] = now
    if now != picked:
        keep_pick(now)
    return now, len(shown)


body()
