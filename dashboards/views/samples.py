"""Samples: every prompt at every step of the picked runs, all moved by one slider."""

import streamlit as st

from kohyakit.dashboard.pages import samples as sampling
from kohyakit.dashboard.pages.parts.page import choose_part, nothing, open_page, pick_runs
from kohyakit.dashboard.read.samples import samples_of, strengths

opened = open_page("Samples")
if not opened.runs:
    nothing(
        "No training has run here yet.",
        "A training draws samples when sample_prompts and sample_every_n_epochs are set.",
    )
    st.stop()
runs = pick_runs(opened, key="samples", most=12) or sampling.newest_with_samples(opened.runs)
found = {run.record.version: samples_of(run) for run in runs}
if not any(found.values()):
    nothing(
        "No samples of these runs.",
        "Set sample_prompts and sample_every_n_epochs in the preset; the next training draws them.",
    )
    st.stop()

parts = {
    "Side by side": lambda: sampling.side_by_side(opened, runs),
    "Before and after": lambda: sampling.before_after(opened, runs),
}
if any(strengths(samples) for samples in found.values()):
    parts["Epochs × strengths"] = lambda: sampling.strength_grid(opened, runs)
choose_part(parts, key="show")()
