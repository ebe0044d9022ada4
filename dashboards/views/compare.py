"""Compare: the picked runs' curves, settings and data sets side by side."""

import streamlit as st

from kohyakit.dashboard.pages import compare as comparing
from kohyakit.dashboard.pages.parts.page import choose_part, nothing, open_page, pick_runs

opened = open_page("Compare")
if not opened.runs:
    nothing("No training has run here yet.", "Once there are two, this page shows what differs and which was better.")
    st.stop()
runs = pick_runs(opened, key="compare")
if not runs:
    nothing("Nothing is picked.", "Pick runs in the field above, or tick them on the Runs page.")
    st.stop()

parts = {
    "Curves": lambda: comparing.curves(runs),
    "Settings": lambda: comparing.settings(runs),
    "Data sets": lambda: comparing.photos(opened, runs),
    "Export": lambda: comparing.export(opened, runs),
}
choose_part(parts, key="view")()
