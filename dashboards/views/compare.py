"""Compare: the picked runs' curves, settings and data sets side by side."""

import streamlit as st

from kohyakit.dashboard.pages import compare as comparing
from kohyakit.dashboard.pages.page import nothing, open_page, pick_runs

opened = open_page("Compare")
if not opened.runs:
    nothing("No training has run here yet.", "Once there are two, this page shows what differs and which was better.")
    st.stop()
runs = pick_runs(opened, key="compare")
if not runs:
    nothing("Nothing is picked.", "Pick runs in the field above, or tick them on the Runs page.")
    st.stop()

view = st.segmented_control(
    "View",
    ["Curves", "Settings", "Data sets", "Export"],
    default="Curves",
    required=True,
    key="view",
    bind="query-params",
    label_visibility="collapsed",
)
if view == "Curves":
    comparing.curves(runs)
elif view == "Settings":
    comparing.settings(runs)
elif view == "Data sets":
    comparing.photos(opened, runs)
else:
    comparing.export(opened, runs)
