"""The dashboard's front: theme, navigation. Started by `kohyakit dashboard`."""

import streamlit as st

from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.read.project import Project

project = Project.current().enter()
st.set_page_config(page_title=f"{project.label} · kohyakit", page_icon=theme.ICON, layout="wide")
st.html(f"<style>{theme.PAGE_CSS}</style>")
st.logo(theme.LOGO, size="medium")

page = st.navigation(
    [
        st.Page("views/runs.py", title="Runs", default=True),
        st.Page("views/compare.py", title="Compare"),
        st.Page("views/samples.py", title="Samples"),
        st.Page("views/dataset.py", title="Data set"),
        st.Page("views/captions.py", title="Captions"),
        st.Page("views/preset.py", title="Preset"),
        st.Page("views/live.py", title="Live"),
        st.Page("views/run.py", title="Run", visibility="hidden"),  # reached from the others
    ],
    position="top",
)
page.run()
