"""The parts of the Preset page."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import streamlit as st

from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.parts import forms
from kohyakit.dashboard.pages.parts.page import show_error, show_problems
from kohyakit.dashboard.read import preset
from kohyakit.dashboard.read.preset import Draft, Judged
from kohyakit.dashboard.read.project import Project
from kohyakit.dashboard.serve.start import start
from kohyakit.errors import KohyakitError, Problem
from kohyakit.planning.plan import Plan
from kohyakit.words import count, listed, number, size

_KEPT = "preset_draft"


def keep(draft: Draft) -> None:
    """Remember the draft, also while another page is looked at."""
    st.session_state[_KEPT] = draft


def chooser(project: Project) -> Draft | None:
    """The menu of presets and the field for one from elsewhere. Returns the draft as edited so far."""
    files = {f"{project.name(path)}": path for path in preset.presets_in(project)}
    files |= {f"template: {name}": path for name, path in preset.templates().items()}
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    asked = st.query_params.get("preset")
    if asked and asked not in files and project.holds(asked) and project.inside(asked).is_file():
        files[asked] = project.inside(asked)  # named by its address
    names = list(files)
    chosen = left.selectbox(
        "Preset",
        names,
        names.index(asked) if asked in files else None,
        placeholder="Choose a preset",
        label_visibility="collapsed",
    )
    with right.popover("From elsewhere", icon=":material/upload_file:", width="stretch"):
        given = st.file_uploader(
            "A preset (JSON) or config_file (TOML)", ["json", "toml", "txt", "args"], max_upload_size=2
        )
    try:
        if given is not None:
            return _current(Draft(given.name, given.getvalue().decode("utf-8-sig", errors="replace")))
        if chosen is None:
            return st.session_state.get(_KEPT)
        st.query_params["preset"] = chosen
        return _current(preset.open_file(files[chosen], chosen))
    except KohyakitError as error:
        show_error(error)
        return None


def _current(fresh: Draft) -> Draft:
    """The edits of before, as long as it is the same text of the same name; a changed file starts anew."""
    kept = st.session_state.get(_KEPT)
    if isinstance(kept, Draft) and (kept.where, kept.text) == (fresh.where, fresh.text):
        return kept
    keep(fresh)
    return fresh


def form(draft: Draft, judged: Judged) -> Draft:
    """The fields of one section, of a search, or of what this preset sets."""
    if judged.opened is None:
        return draft
    sections = {**forms.SECTIONS, "set": "Set in this preset"}
    find = st.text_input(
        "Find",
        placeholder="Find a parameter: rank, warm-up, max_resolution …",
        label_visibility="collapsed",
        icon=":material/search:",
        live=True,
    )
    if find:
        names = [spec.name for spec in SPECS().values() if preset.matches(spec, find)][:40]
    else:
        title = st.pills(
            "Section",
            list(sections.values()),
            default="Essentials",
            required=True,
            label_visibility="collapsed",
            key="section",
            wrap=True,
        )
        section = next(key for key, value in sections.items() if value == title)
        names = forms.names_of(section) if section != "set" else _set_names(draft, judged.opened)
    if not names:
        st.caption(
            "No parameter is called so or speaks of it." if find else "Nothing differs from sd-scripts' defaults."
        )
    key = hashlib.sha1(
        f"{draft.where}{draft.text}{st.session_state.get('preset_round', 0)}".encode(errors="replace")
    ).hexdigest()[:8]
    changed = forms.fields(names, draft, judged.opened, key=f"field_{key}")
    if draft.edits and st.button(
        f"Take back {count(len(draft.edits), 'edit')}", type="tertiary", icon=":material/undo:"
    ):
        st.session_state["preset_round"] = st.session_state.get("preset_round", 0) + 1
        return replace(draft, edits={})
    return changed


def _set_names(draft: Draft, opened: TrainConfig) -> list[str]:
    set_here = preset.changed_names(opened) | set(draft.edits)
    return [name for name in SPECS() if name in set_here]


def outcome(project: Project, draft: Draft, judged: Judged) -> Draft:
    """What is wrong with the preset and what it will do, errors first. Returns the draft, without unknown keys when so
    ticked.
    """
    told = [_here(project, problem) for problem in judged.problems]
    errors = [problem for problem in told if problem.severity == "error"]
    show_problems(errors, most=12)
    if judged.plan is not None and judged.plan.steps:
        plan_card(judged.plan)
    show_problems((problem for problem in told if problem.severity != "error"), most=12)
    if not told:
        st.success("Nothing to complain about.", icon=":material/check:")
    if judged.unknown and judged.config is not None:
        names = plain(listed(judged.unknown))
        return replace(
            draft, without_unknown=st.checkbox(f"Leave out what nobody reads: {names}", draft.without_unknown)
        )
    return draft


def _here(project: Project, problem: Problem) -> Problem:
    """The finding in a page's words: files named from the project's folder, buttons instead of a command's options."""
    cure = problem.cure.replace("leave it out with --skip-bad-images", "start without it")
    return replace(problem, where=problem.where.removeprefix(f"{project.root}{os.sep}"), cure=cure)


def plan_card(plan: Plan) -> None:
    """The plan in numbers."""
    with st.container(border=True):
        first, second = st.columns(2)
        first.metric(
            "Steps",
            f"{plan.steps:,}" if plan.steps else "–",
            help="Optimizer steps; " + plain(f"decided by {plan.length.decided_by}"),
        )
        second.metric(
            "Epochs", f"{plan.epochs:,}" if plan.steps else "–", help=count(plan.steps_per_epoch, "step") + " each"
        )
        images = sum(bucket.images for part in plan.datasets for bucket in part.buckets)
        first.metric("Images an epoch", f"{images:,}", help="with repeats, after buckets")
        second.metric("LoRA file", size(plan.lora_bytes + plan.metadata_bytes) if plan.lora_bytes else "–")
        rates = plan.learning_rates
        encoders = ", ".join(number(rate) for rate in rates.text_encoder) or "not trained"
        lines = [
            f"Learning rate: U-Net {number(rates.unet) if rates.unet else 'not trained'}, text encoder {encoders}",
            f"Warm-up: {count(plan.warmup_steps, 'step')}" if plan.warmup_steps else "",
            f"Files: {plan.saves[0].file} … {plan.saves[-1].file}"
            if len(plan.saves) > 1
            else "".join(f"File: {s.file}" for s in plan.saves),
            f"Samples: {count(len(plan.samples), 'prompt')} at {count(len(plan.sample_steps), 'point')}"
            if plan.samples
            else "",
        ]
        st.caption("  \n".join(plain(line) for line in lines if line))
        buckets = [(f"{b.bucket.width} × {b.bucket.height}", b.images) for part in plan.datasets for b in part.buckets]
        if buckets:
            with st.expander(f"{count(len(buckets), 'bucket')}"):
                st.dataframe(
                    {"bucket": [name for name, _ in buckets], "images": [many for _, many in buckets]}, hide_index=True
                )


def save_and_start(project: Project, draft: Draft, judged: Judged) -> None:
    """Save under a name, never over a file without a word; start what is seen."""
    if judged.config is None:
        return
    with st.container(border=True):
        stem = Path(draft.where).stem if draft.path else Path(draft.where).stem or "preset"
        name = st.text_input("Name", stem, key=f"save_name_{draft.where}")
        kind = st.segmented_control(
            "Form",
            ["toml", "json"],
            default="toml",
            required=True,
            format_func={"toml": "TOML", "json": "kohya_ss JSON"}.__getitem__,
        )
        there = (project.root / preset.PRESET_DIR / f"{name.removesuffix('.' + kind)}.{kind}").exists()
        again = there and st.checkbox("Replace the file of that name (it is kept as .old)")
        if st.button("Save", width="stretch", icon=":material/save:", disabled=there and not again):
            try:
                path = preset.save(judged.config, project, name, kind, replace_old=again)
                st.toast(f"Saved as {plain(project.name(path))}")
            except KohyakitError as error:
                show_error(error)
        bad, blocked = judged.bad_images, len(judged.errors) > len(judged.bad_images)
        words = "Start training" + (f" without {count(len(bad), 'photo')}" if bad and not blocked else "")
        if st.button(words, width="stretch", type="primary", icon=":material/play_arrow:", disabled=blocked):
            _start(project, draft, judged.config, skip_bad_images=bool(bad))
        if blocked:
            st.caption("A training can start once the errors above are gone.")
        elif bad:
            names = plain(listed([Path(one.where).name for one in bad]))
            st.caption(f"Left out: {names}. The Data set page shows what is wrong.")


def _start(project: Project, draft: Draft, config: TrainConfig, *, skip_bad_images: bool) -> None:
    """An untouched file is trained as it is, so that the run keeps its text; edits go into a TOML of their own."""
    try:
        if draft.path is not None and not draft.edits and not draft.without_unknown and project.holds(draft.path):
            begun = start(project, draft.path, skip_bad_images=skip_bad_images)
        else:
            folder = project.inside(".kohyakit/started")
            folder.mkdir(parents=True, exist_ok=True)
            stem = "".join(c if c.isalnum() or c in "-_ " else "-" for c in Path(draft.where).stem) or "preset"
            number_of = sum(1 for _ in folder.glob(f"{stem}-*.toml")) + 1
            path = folder / f"{stem}-{number_of}.toml"
            preset.write(config, path)
            begun = start(project, path, skip_bad_images=skip_bad_images)
    except KohyakitError as error:
        show_error(error)
        return
    st.session_state["started"] = begun.name
    st.switch_page("views/live.py")
