"""Live: the training that runs now. It is a process of its own; this page only looks, and can ask it to stop."""

import streamlit as st

from kohyakit.dashboard.pages import live as watching
from kohyakit.dashboard.pages.parts.page import open_page

opened = open_page("Live")


@st.fragment(run_every=watching.REFRESH_SECONDS)
def now() -> None:
    fresh = opened.again()
    running = watching.active(fresh)
    waiting = watching.just_started(fresh, running)
    for run in running:
        watching.panel(fresh, run)
    if not running and not waiting:
        watching.ended(watching.latest(fresh))


now()
