"""Run: one training, how it ended and why, its note, files, settings and log."""

import streamlit as st

from kohyakit.dashboard.pages import one_run
from kohyakit.dashboard.pages.parts.page import choose_part, nothing, open_page

opened = open_page("Run")
if not opened.runs:
    nothing("No training has run here yet.", "Start one on the Preset page, or in a terminal.")
    st.stop()
run = one_run.choose(opened)
one_run.ending(run)
one_run.facts(run)
left, right = st.columns([3, 2], gap="large")
with left:
    one_run.curve(run)
with right:
    one_run.note_form(run)
    one_run.links(run)
parts = {
    "Files": lambda: one_run.files(run),
    "Settings": lambda: one_run.settings(run),
    "Samples": lambda: one_run.pictures(opened, run),
    "Log": lambda: one_run.log(run),
}
choose_part(parts, key="part_of_run")()
