"""Preset: open one, edit it with its own help, see at once what it will do, save it, start it."""

import streamlit as st

from kohyakit.dashboard.pages import preset as presetting
from kohyakit.dashboard.pages.parts.page import nothing, open_page
from kohyakit.dashboard.read.preset import judge

opened = open_page("Preset")
draft = presetting.chooser(opened.project)
if draft is None:
    nothing(
        "No preset is open.",
        "Choose one above: a kohya_ss JSON, a config_file TOML, a template. Dropping a file works too.",
    )
    st.stop()

judged = judge(draft)
form, outcome = st.columns([2, 1], gap="large")
with form:
    changed = presetting.form(draft, judged)
with outcome:
    changed = presetting.outcome(opened.project, changed, judged)
    presetting.save_and_start(opened.project, draft, judged)
if changed != draft:
    presetting.keep(changed)
    st.rerun()
