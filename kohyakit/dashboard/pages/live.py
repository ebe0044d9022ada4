"""The parts of the Live page: what runs now, what was started, how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from kohyakit.dashboard.draw import charts
from kohyakit.dashboard.draw import curves as lines_as_drawn
from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.parts import widgets
from kohyakit.dashboard.pages.parts.page import Opened, nothing, show_error, show_problems
from kohyakit.dashboard.read import gpu, store
from kohyakit.dashboard.read.rows import TROUBLE, seconds_of, status_note
from kohyakit.dashboard.read.samples import position, samples_of
from kohyakit.dashboard.serve.start import Start, memory_of, start, starts, tail
from kohyakit.errors import KohyakitError
from kohyakit.runs.comparison.summary import TRAINING
from kohyakit.runs.process import is_alive
from kohyakit.runs.run import RUNNING, Run
from kohyakit.words import duration, memory, number, when

REFRESH_SECONDS = 2


def active(opened: Opened) -> tuple[Run, ...]:
    """The trainings that run in this project now, in any of its output folders; newest first."""
    folders = store.run_projects(opened.project.root)
    found = [run for folder in folders for run in store.runs_of(folder) if run.status == RUNNING]
    return tuple(sorted(found, key=lambda run: run.record.started, reverse=True))


def latest(opened: Opened) -> Run | None:
    """The run that ended last."""
    return max(opened.runs, key=lambda run: run.record.started or "", default=None)


def progress_of(run: Run) -> dict[str, Any]:
    """step, steps, share 0 to 1, speed in steps a second, seconds_left, epoch, epochs, loss, rate, memory in bytes;
    None where nothing tells. Speed counts from the first step on: what went before was loading.
    """
    told = run.progress()
    step, steps = _whole(told.get("step")), _whole(told.get("steps")) or run.record.steps
    speed = told.get("steps_per_second") or _logged_speed(run)
    left = told.get("seconds_left")
    if left is None and speed and step is not None and steps:
        left = max(0, steps - step) / speed
    gib = told.get("memory_gib")
    used = gib * 1024**3 if isinstance(gib, (int, float)) else None
    if used is None and run.record.process:
        used = memory_of(run.record.process)
    rates = told.get("rates")
    return {
        "step": step, "steps": steps, "share": min(1.0, step / steps) if step and steps else 0.0, "speed": speed,
        "seconds_left": left, "epoch": _whole(told.get("epoch")),
        "epochs": _whole(told.get("epochs")) or run.record.epochs, "loss": told.get("average", told.get("loss")),
        "memory": used, "rate": next(iter(rates.values()), None) if isinstance(rates, dict) else None,
    }  # fmt: skip


def _logged_speed(run: Run, last: int = 50) -> float | None:
    """Steps a second over the last points of its log, for trainings that tell no speed themselves."""
    scalars = store.scalars_of(run)
    tag = next((tag for tag in TRAINING if tag in scalars.tags), None)
    if tag is None:
        return None
    step, _, wall = (column[-last:] for column in store.series(scalars, tag))
    return float((step[-1] - step[0]) / (wall[-1] - wall[0])) if len(step) > 1 and wall[-1] > wall[0] else None


def speed_text(speed: float | None) -> str:
    """`2.4 it/s`, or `3.1 s/it` of slow ones."""
    if not speed or speed <= 0:
        return "–"
    return f"{number(speed, 3)} it/s" if speed >= 1 else f"{number(1 / speed, 3)} s/it"


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def panel(opened: Opened, run: Run) -> None:
    """One training as it goes."""
    now = progress_of(run)
    name = f"{run.record.version}  {run.record.name or run.record.output_name}".strip()
    head, stop = st.columns([4, 1], vertical_alignment="center")
    head.subheader(plain(name), anchor=False)
    with stop:
        _stop(run)
    doing = (
        f"step {now['step']:,} of {now['steps']:,}"
        if now["step"] and now["steps"]
        else "getting ready: model, captions, caches"
    )
    st.progress(now["share"], text=doing)
    with st.container(horizontal=True, gap="large"):
        st.metric("Time left", duration(now["seconds_left"]), width="content")
        st.metric("So far", duration(seconds_of(run)), width="content")
        st.metric("Epoch", f"{now['epoch'] or '–'} / {now['epochs'] or '–'}", width="content")
        st.metric("Speed", speed_text(now["speed"]), width="content")
        st.metric("Loss", number(now["loss"]), width="content")
        st.metric("Learning rate", number(now["rate"]), width="content")
        st.metric("Memory", memory(now["memory"]) if now["memory"] else "–", width="content")
        for place, card in enumerate(gpu.loads() if _is_here(run) else ()):
            used = f"{memory(card.used)} of {memory(card.total)}"
            st.metric(f"GPU {place}" if place else "GPU", f"{card.busy} %", width="content", help=f"{used} in use")
    _curves(run)
    _newest(opened, run)
    text = tail(run.log_file)
    if text:
        with st.expander("Log"):
            st.code(text, language=None, wrap_lines=True)


def _is_here(run: Run) -> bool:
    """Whether it trains on this machine."""
    return run.record.process is not None and is_alive(run.record.process) is True


def _stop(run: Run) -> None:
    if run.stop_requested():
        st.caption("It stops after this step and saves what it has.")
        return
    with st.popover("Stop", icon=":material/stop_circle:", width="stretch"):
        st.write("The training ends after the step it is in and saves what it has.")
        st.button("Stop after this step", key=f"stop_{run.folder}", type="primary", on_click=_ask, args=(run,))


def _ask(run: Run) -> None:
    try:
        run.request_stop()
    except KohyakitError as error:
        show_error(error)


def _curves(run: Run) -> None:
    scalars = store.scalars_of(run)
    measured = ("validation/step", "validation/epoch", "fixed_noise/step", "fixed_noise/epoch")
    wanted: tuple[str, ...] = ("loss/average", *(f"loss/{name}_average" for name in measured))
    shown = [tag for tag in wanted if tag in scalars.tags]
    if not shown and scalars.tags:
        shown = [scalars.tags[0]]
    for tag in shown:
        lines, _ = store.lines_of([run], tag, "step")
        option = charts.curve_chart(lines_as_drawn.drawn(lines), axis="step", title=lines_as_drawn.tag_title(tag))
        st.echarts_chart(option, height=240, key=f"live_{run.folder}_{tag}")
    show_problems(problem for problem in scalars.problems if problem.severity != "hint")


def _newest(opened: Opened, run: Run) -> None:
    drawn = samples_of(run)
    if not drawn:
        return
    last = max(position(sample) for sample in drawn)
    items = [
        {
            "src": opened.picture_url(s.path, 320), "full": opened.picture_url(s.path),
            "title": s.prompt or s.path.name, "note": f"seed {s.seed}" if s.seed is not None else "",
        }
        for s in drawn if position(s) == last
    ]  # fmt: skip
    widgets.gallery(
        [{"title": f"Newest samples, {next(s.label for s in drawn if position(s) == last)}", "items": items}],
        key=f"newest_{run.folder}",
        tile="11rem",
    )


def just_started(opened: Opened, running: Sequence[Run]) -> bool:
    """Trainings started here that have no run yet, or ended without one. Returns whether one is still getting ready."""
    waiting = False
    known = {run.record.process.pid for run in running if run.record.process}
    for one in starts(opened.project)[:3]:
        if one.process.pid in known:
            continue
        if one.alive:
            waiting = True
            st.info(f"{plain(one.preset)} is starting: reading the preset, looking at the photos, loading the model.")
            _log(one)
        elif one.exit_code and not _made_a_run(opened, one):
            st.error(f"{plain(one.preset)} could not start.", icon=":material/error:")
            _log(one)
            _again_without(opened, one)
    return waiting


def _again_without(opened: Opened, one: Start) -> None:
    """A training that stopped at photos that do not decode can start without them."""
    option = "--skip-bad-images"
    if option not in tail(one.log) or not one.file or not opened.project.holds(one.file):
        return
    st.caption("The photos named can be mended or replaced (see Data set), or left out.")
    if st.button("Start without the photos named", key=f"without_{one.name}", icon=":material/play_arrow:"):
        try:
            start(opened.project, opened.project.inside(one.file), skip_bad_images=True)
        except KohyakitError as error:
            show_error(error)


def _made_a_run(opened: Opened, one: Start) -> bool:
    from datetime import UTC, datetime

    begun = datetime.fromtimestamp(one.time, UTC).isoformat(timespec="seconds")
    folders = store.run_projects(opened.project.root)
    return any((run.record.started or "") >= begun for folder in folders for run in store.runs_of(folder))


def _log(one: Start) -> None:
    text = tail(one.log)
    if text:
        st.code(text, language=None, wrap_lines=True)


def ended(run: Run | None) -> None:
    """Nothing runs: the last one's end in a sentence, and where to go."""
    if run is None:
        nothing(
            "No training runs.",
            "Start one on the Preset page, or in a terminal in this folder.",
            "kohyakit train preset.json",
        )
        return
    name = f"{run.record.version}  {run.record.name or run.record.output_name}".strip()
    with st.container(border=True):
        moment = when(run.record.ended or run.record.started)
        st.markdown(f"No training runs. The last was **{plain(name)}**: {plain(run.status)}, {plain(moment)}.")
        note = status_note(run)
        if note and run.status in TROUBLE:
            st.error(plain(note), icon=":material/error:")
        elif note:
            st.caption(plain(note))
        with st.container(horizontal=True):
            st.page_link(
                "views/run.py",
                label="All about it",
                icon=":material/article:",
                query_params={"run": run.record.version},
            )
            st.page_link(
                "views/compare.py",
                label="Its curves",
                icon=":material/show_chart:",
                query_params={"runs": run.record.version},
            )
            st.page_link(
                "views/samples.py",
                label="Its samples",
                icon=":material/photo_library:",
                query_params={"runs": run.record.version},
            )
            st.page_link("views/preset.py", label="Start another", icon=":material/tune:")
    text = tail(run.log_file)
    if text:
        with st.expander("Log of the last run", expanded=run.status in TROUBLE):
            st.code(text, language=None, wrap_lines=True)
