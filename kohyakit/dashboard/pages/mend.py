"""The Mend view of the Data set page: what `kohyakit repair` would do, doing it, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.parts.page import nothing, sentence_list, show_error, show_problems
from kohyakit.errors import KohyakitError
from kohyakit.words import count

if TYPE_CHECKING:
    from kohyakit.audit.repair.plan import RepairOptions
    from kohyakit.audit.report.report import AuditReport

_SHOWN = 60
_COPIES = {"exact": "Copies of one file", "near": "Like pictures too", "none": "No copies"}


def mend(folder: Path, report: AuditReport) -> None:
    """What would be done with these choices, and the buttons that do it and take it back."""
    from kohyakit.audit.repair.run import repair_dataset

    options = _options()
    try:
        plan = repair_dataset(folder, options=options, dry_run=True, report=report)
    except KohyakitError as error:
        show_error(error)
        return
    steps = plan.to_dict()["steps"]
    if steps:
        st.html(sentence_list([("hint", step["path"], _what(step)) for step in steps[:_SHOWN]]))
        if len(steps) > _SHOWN:
            st.caption(f"and {len(steps) - _SHOWN} more")
    else:
        nothing("Nothing to mend with these choices.", "What is left is named under Findings.")
    show_problems(st.session_state.pop("mend_problems", plan.problems))
    with st.container(horizontal=True, vertical_alignment="center"):
        if steps and st.button(f"Mend {count(len(steps), 'file')}", type="primary", icon=":material/healing:"):
            _run(folder, options, report)
        if st.button("Take the last repair back", icon=":material/undo:", type="tertiary"):
            _undo(folder)
    st.caption(
        "Nothing is deleted: what does not decode, and copies, go to _quarantine with their captions; originals are "
        "kept beside the photos."
    )


def _options() -> RepairOptions:
    from kohyakit.audit.repair.run import RepairOptions

    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        damaged = st.toggle("Set damaged photos aside", True, key="mend_damaged")
        upright = st.toggle("Turn photos upright", True, key="mend_upright")
        formats = st.toggle("Names and formats", True, key="mend_formats")
        copies = st.segmented_control(
            "Set copies aside", list(_COPIES), default="exact", required=True, format_func=_COPIES.__getitem__,
            key="mend_copies", label_visibility="collapsed",
        )  # fmt: skip
    return RepairOptions(
        orientation=upright, extensions=formats, modes=formats, damaged="quarantine" if damaged else "leave",
        duplicates=copies,
    )  # fmt: skip


def _what(step: dict) -> str:
    return step["reason"] + (f" → {step['target']}" if step["target"] != step["path"] else "")


def _run(folder: Path, options: RepairOptions, report: AuditReport) -> None:
    from kohyakit.audit.repair.run import repair_dataset

    try:
        with st.spinner("Mending …"):
            done = repair_dataset(folder, options=options, report=report)
    except KohyakitError as error:
        show_error(error)
        return
    _finish(f"{count(len(done.done), 'file')} mended; it can be taken back", done.problems)


def _undo(folder: Path) -> None:
    from kohyakit.audit.repair.run import undo_repair

    try:
        undone = undo_repair(folder)
    except KohyakitError as error:
        show_error(error)
        return
    _finish("Taken back" if undone.folder else "There is no repair to take back.", undone.problems)


def _finish(words: str, problems) -> None:
    """Look at the set anew and say what happened; what was left alone stays on the page."""
    if problems:
        st.session_state["mend_problems"] = tuple(problems)
    st.toast(plain(words))
    st.rerun()
