"""Data set: the audit as it stands, worst first, and from there to the captions."""

import streamlit as st

from kohyakit.dashboard.pages import captions as captioning
from kohyakit.dashboard.pages import data_set as auditing
from kohyakit.dashboard.pages import mend as mending
from kohyakit.dashboard.pages.parts.page import choose_part, nothing, open_page

opened = open_page("Data set")
left, right = st.columns([3, 1], vertical_alignment="bottom")
with left:
    folder = captioning.choose_folder(opened)
if folder is None:
    nothing(
        "No photos in this project.",
        "Put them into img/10_subject (10 repeats of each), or open the dashboard on a folder that has photos.",
        "kohyakit init",
    )
    st.stop()
trained = auditing.resolution_for(opened.project, folder)
sides = sorted({trained, 512, 640, 768, 1024})
resolution = right.selectbox(
    "Resolution",
    sides,
    sides.index(trained),
    format_func=lambda side: f"judged at {side} pixels",
    label_visibility="collapsed",
)
report = auditing.report_of(folder, resolution)
if report is None:
    st.stop()
auditing.headline(report)
parts = {
    "Findings": lambda: auditing.findings(opened, report),
    "Duplicates": lambda: auditing.duplicates(opened, report),
    "Sizes": lambda: auditing.sizes(report),
    "Captions": lambda: auditing.captions(report),
    "Mend": lambda: mending.mend(folder, report),
}
choose_part(parts, key="look")()
