"""Captions: every caption beside its picture; found, edited, changed in bulk, and nothing lost."""

import streamlit as st

from kohyakit.dashboard.pages import caption_desk
from kohyakit.dashboard.pages import captions as captioning
from kohyakit.dashboard.pages.caption_model import ask_a_model
from kohyakit.dashboard.pages.parts.page import choose_part, nothing, open_page
from kohyakit.dataset.editing.captions import caption_files

opened = open_page("Captions")
folder = captioning.choose_folder(opened)
if folder is None:
    nothing(
        "No photos in this project.",
        "Put photos with their captions into img/10_subject, or open the dashboard on a folder that has them.",
        "kohyakit init",
    )
    st.stop()

files = caption_files(folder)
if caption_desk.take_edits(folder, files):
    files = caption_files(folder)
captioning.leftovers()
with st.container(horizontal=True, vertical_alignment="bottom"):
    words = st.text_input(
        "Search",
        placeholder="Words in caption or file name",
        label_visibility="collapsed",
        icon=":material/search:",
        width="stretch",
    )
    kind = st.selectbox("Show", captioning.FILTERS, label_visibility="collapsed", width=190)
    tags = {tag: f"{tag}  ({many})" for tag, many in captioning.tags_of(files)}
    tag = st.selectbox(
        "Tag",
        list(tags),
        None,
        placeholder="Any tag",
        label_visibility="collapsed",
        width=220,
        format_func=lambda tag: tags[tag],
    )
asked = caption_desk.tag_filter()
found = [file for file in captioning.chosen_files(files, words or "", kind, tag) if caption_desk.fits(file, asked)]
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    parts = {
        "One by one": lambda: caption_desk.desk(opened, folder, found, files),
        "List": lambda: captioning.side_by_side(opened, folder, found),
        "Many at once": lambda: captioning.many_at_once(folder, found),
        "Ask a model": lambda: ask_a_model(opened, folder, files),
        "History": lambda: captioning.past(folder),
    }
    draw = choose_part(parts, key="edit")
    st.caption(f"{len(found)} of {len(files)} photos", width="content")
draw()
