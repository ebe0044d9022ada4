"""The captions page's view of a model that captions: chosen, started as a process of its own, watched, stopped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.parts.page import Opened, show_error
from kohyakit.dashboard.serve.start import CAPTIONS_DIR, Start, start_captions, starts, tail
from kohyakit.dataset.editing.captions import CaptionFile
from kohyakit.errors import KohyakitError
from kohyakit.registry import CAPTIONERS
from kohyakit.words import count, when

_MODES = {
    "skip": "leave them",
    "overwrite": "write them anew",
    "append": "put it after them",
    "prepend": "put it before them",
}
_DONE = re.compile(r"(\d{1,9}) of (\d{1,9}) captioned")


def ask_a_model(opened: Opened, folder: Path, files: Sequence[CaptionFile]) -> None:
    """Which model, what it does where a caption is there already, and how it goes."""
    newest = starts(opened.project, 1, CAPTIONS_DIR)
    if not any(one.alive and (one.is_ours or one.process.born) for one in newest):
        _form(opened, folder, files)
    _watch(opened)


def _form(opened: Opened, folder: Path, files: Sequence[CaptionFile]) -> None:
    without = sum(1 for file in files if not file.text.strip() and not file.problem)
    with st.container(border=True):
        left, right = st.columns(2)
        name = left.selectbox("Model", list(CAPTIONERS), format_func=lambda name: f"{name}: {CAPTIONERS[name].help}")
        place = right.text_input("Its folder, hub name or address", placeholder="the usual one")
        mode = left.selectbox("Captions that are there already", list(_MODES), format_func=_MODES.__getitem__)
        trigger = right.text_input("Trigger word", placeholder="stands first in every caption")
        undesired = left.text_input("Tags never to write", placeholder="photo, outdoors", help="Of taggers.")
        fetch = right.checkbox("Fetch the model where it is not there yet", help="From the hub, over the network.")
        many = without if mode == "skip" else sum(1 for file in files if not file.problem)
        if st.button(f"Caption {count(many, 'photo')}", type="primary", disabled=not many):
            options = ["--with", name, "--mode", mode, "--trigger", trigger]
            options += ["--model", place] if place.strip() else []
            options += ["--download"] if fetch else []
            for tag in filter(None, (part.strip() for part in undesired.split(","))):
                options += ["--undesired", tag]
            try:
                start_captions(opened.project, folder, options)
            except KohyakitError as error:
                show_error(error)
            else:
                st.rerun()
    st.caption("What is written stands in History and can be taken back. Pictures stay on this machine, unless a "
               "server elsewhere is named.")  # fmt: skip


@st.fragment(run_every=2)
def _watch(opened: Opened) -> None:
    newest = next(iter(starts(opened.project, 1, CAPTIONS_DIR)), None)
    if newest is None:
        return
    alive = newest.alive
    known = st.session_state.get("captioning_seen")
    st.session_state["captioning_seen"] = (newest.name, alive)
    said = tail(newest.log, 12)
    _progress(newest, alive, said)
    if (
        alive
        and newest.is_ours
        and st.button("Stop", icon=":material/stop_circle:", help="What is done is kept; starting again goes on.")
    ):
        newest.stop()
    if said:
        st.code(said, language=None, wrap_lines=True)
    if known == (newest.name, True) and not alive:
        st.rerun()  # the page shows what was written


def _progress(one: Start, alive: bool, said: str) -> None:
    state = "captioning now" if alive else "ended" if one.exit_code in (0, None) else f"ended with code {one.exit_code}"
    begun = when(datetime.fromtimestamp(one.time, UTC).isoformat())
    st.markdown(f"**{plain(one.preset)}**, started {plain(begun)}: {state}")
    found = _DONE.findall(said)
    if found and alive:
        done, total = map(int, found[-1])
        st.progress(min(1.0, done / max(1, total)))
