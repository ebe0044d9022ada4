"""What every page begins with: the project, its runs, and which of them are picked. The pick lives in the address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from operator import attrgetter
from pathlib import Path

import streamlit as st

from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.read import pictures, store
from kohyakit.dashboard.read.project import Project
from kohyakit.errors import KohyakitError, Problem
from kohyakit.runs.run import Run
from kohyakit.words import listed

_ICONS = {"error": ":material/error:", "warning": ":material/warning:", "hint": ":material/info:"}


@dataclass(frozen=True)
class Opened:
    """A page's view of the project. folder: the output_dir whose runs are shown, None without runs."""

    project: Project
    folder: Path | None
    runs: tuple[Run, ...]
    picked: tuple[Run, ...]

    def again(self) -> Opened:
        """The same with the runs as they are now, for a part of a page that refreshes itself."""
        folders = store.run_projects(self.project.root)
        folder = self.folder or (folders[0] if folders else None)
        return replace(self, folder=folder, runs=store.runs_of(folder) if folder else ())

    def picture_url(self, path: Path, width: int | None = None, *, upright: bool = True) -> str:
        return pictures.url(self.project, path, width, upright=upright)


def parse_pick(text: str, known: Sequence[str]) -> tuple[list[str], list[str]]:
    """`1a,2b` -> (the versions that there are, in that order and once each; those that there are not)."""
    asked = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    return [name for name in asked if name in known], [name for name in asked if name not in known]


def open_page(title: str, *, subtitle: str = "") -> Opened:
    """Draw the title, find the project's runs and take the pick from the address, else from the page before."""
    project = Project.current()
    head, chooser = st.columns([4, 1.4], vertical_alignment="bottom")
    head.title(title, anchor=False)
    if subtitle:
        head.caption(subtitle)
    folders = store.run_projects(project.root)
    folder = _choose_folder(chooser, project, folders) if len(folders) > 1 else (folders[0] if folders else None)
    runs = store.runs_of(folder) if folder else ()
    known = [run.record.version for run in runs]
    text = st.query_params.get("runs")
    if text is None:
        text = ",".join(st.session_state.get("picked", []))
    names, missing = parse_pick(text, known)
    if missing:
        # The address keeps them, so that the sentence stands until something else is picked.
        st.warning(f"Not in this project: {plain(listed(missing))}. They may have been renamed or deleted.")
        st.session_state["picked"] = names
    else:
        keep_pick(names)
    by_version = {run.record.version: run for run in runs}
    return Opened(project, folder, runs, tuple(by_version[name] for name in names))


def keep_pick(names: Iterable[str]) -> None:
    """Remember the pick for the next page and write it into the address."""
    names = list(names)
    st.session_state["picked"] = names
    text = ",".join(names)
    if names and st.query_params.get("runs") != text:
        st.query_params["runs"] = text
    elif not names and "runs" in st.query_params:
        del st.query_params["runs"]


def pick_runs(opened: Opened, *, key: str, most: int = 20) -> tuple[Run, ...]:
    """The pick as a field on a page that compares; changing it changes the address."""
    labels = {run.record.version: f"{run.record.version}  {run.record.name}".strip() for run in opened.runs}
    field = f"pick_{key}"
    st.session_state[field] = [run.record.version for run in opened.picked][:most]
    names = st.multiselect(
        "Runs",
        list(labels),
        key=field,
        max_selections=most,
        format_func=labels.__getitem__,
        placeholder="Pick runs",
        label_visibility="collapsed",
        on_change=lambda: keep_pick(st.session_state[field]),
    )
    by_version = {run.record.version: run for run in opened.runs}
    return tuple(by_version[name] for name in names)


def _choose_folder(place, project: Project, folders: Sequence[Path]) -> Path:
    """Several output folders below the project: which one's runs are shown, kept in the address."""
    names = [project.name(folder) or "." for folder in folders]
    asked = st.query_params.get("in") or st.session_state.get("run_folder")
    chosen = place.selectbox("Output folder", names, index=names.index(asked) if asked in names else 0)
    st.session_state["run_folder"] = chosen
    st.query_params["in"] = chosen
    return folders[names.index(chosen)]


def show_problems(problems: Iterable[Problem], *, most: int = 20) -> None:
    """Findings, worst first, each one sentence. One stands in a box of its own, several make a list."""
    found = sorted(dict.fromkeys(problems), key=attrgetter("rank"))
    if len(found) == 1:
        draw = {"error": st.error, "warning": st.warning, "hint": st.info}
        draw.get(found[0].severity, st.info)(plain(found[0]), icon=_ICONS.get(found[0].severity))
    elif found:
        with st.container(border=True):
            st.html(sentence_list([(problem.severity, "", str(problem)) for problem in found[:most]]))
            if len(found) > most:
                st.caption(f"and {len(found) - most} more")


def sentence_list(sentences: Iterable[tuple[str, str, str]]) -> str:
    """(severity, who, text) as an HTML list, a coloured dot before each; every word escaped."""
    items = "".join(
        f'<li><span style="color:{theme.SEVERITY_COLOURS.get(severity, theme.SEVERITY_COLOURS["hint"])}">●</span>'
        f"<span>{f'<b>{escape(who)}</b> ' if who else ''}{escape(text)}</span></li>"
        for severity, who, text in sentences
    )
    return f'<ul class="k-sentences">{items}</ul>'


def show_error(error: KohyakitError) -> None:
    show_problems(error.problems)


def choose_part(parts: Mapping[str, Callable[[], None]], *, key: str) -> Callable[[], None]:
    """A row of names, the first chosen at first and the choice in the address -> what draws the chosen part."""
    name = st.segmented_control(
        "View", list(parts), default=next(iter(parts)), required=True, key=key, bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    return parts[name]


def nothing(title: str, next_step: str, code: str = "") -> None:
    """An empty state: what is missing and what to do next."""
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(f"**{title}**", text_alignment="center")
        st.caption(next_step, text_alignment="center")
        if code:
            st.code(code, language=None, width="content")
