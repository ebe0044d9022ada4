"""The views of the Samples page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.pages.parts import widgets
from kohyakit.dashboard.pages.parts.page import Opened
from kohyakit.dashboard.read import store
from kohyakit.dashboard.read.samples import Sample, at_strengths, position, samples_of, steps_per_epoch, strengths, wall
from kohyakit.runs.run import Run


def newest_with_samples(runs: Sequence[Run]) -> tuple[Run, ...]:
    """What to show when nothing is picked: the newest run that drew any."""
    return next(((run,) for run in reversed(runs) if samples_of(run)), ())


def side_by_side(opened: Opened, runs: Sequence[Run]) -> None:
    """A column a run, a row a prompt, the slider over all steps. The step stays in the address."""
    over = _over(runs)
    made = wall(runs, opened.picture_url, over=over)
    try:
        start = float(st.query_params.get("step", ""))
    except ValueError:
        start = None
    columns = [
        {"title": _title(run), "colour": theme.run_colour(slot)}
        for slot, run in zip(store.slots(runs), runs, strict=True)
    ]
    cell = "16rem" if len(runs) < 3 else "11rem"
    data = {"mode": "wall", "columns": columns, "cell": cell, "start": start, **made}
    step = widgets.sample_wall(data, key=f"wall_{over}")
    if step is not None and st.query_params.get("step") != str(step):
        st.query_params["step"] = str(step)


def _over(runs: Sequence[Run]) -> str:
    """What the slider counts: steps, or epochs where the runs' are of other lengths."""
    lengths = {steps_per_epoch(run) for run in runs}
    if len(lengths) < 2 or None in lengths:
        return "step"
    words = {"step": "Steps", "epoch": "Epochs"}
    return st.segmented_control(
        "Slider", list(words), default="epoch", required=True, format_func=words.__getitem__,
        key="slider_over", bind="query-params", label_visibility="collapsed",
        help="These runs' epochs are of different lengths.",
    )  # fmt: skip


def _title(run: Run) -> str:
    return f"{run.record.version}  {run.record.name}".strip()


def before_after(opened: Opened, runs: Sequence[Run]) -> None:
    """Two moments, of one run or of two, under a divider that can be drawn across."""
    moments = [(run, at) for run in runs for at in sorted({position(s) for s in samples_of(run)})]
    labels = {f"{run.record.version} · {_label(run, at)}": (run, at) for run, at in moments}
    left, right = st.columns(2)
    one = left.selectbox("Before", list(labels), index=0, key="before")
    two = right.selectbox("After", list(labels), index=len(labels) - 1, key="after")
    sides = [_at(*labels[name]) for name in (one, two)]
    pairs = [
        {
            "prompt": f"{prompt or f'Prompt {index + 1}'}",
            "left": {"src": opened.picture_url(sides[0][index, prompt].path), "label": one},
            "right": {"src": opened.picture_url(sides[1][index, prompt].path), "label": two},
        }
        for index, prompt in sides[0] if (index, prompt) in sides[1]
    ]  # fmt: skip
    if pairs:
        widgets.sample_wall({"mode": "split", "steps": [], "pairs": pairs}, key="split")
    else:
        st.info("These two have no prompt in common.")


def _at(run: Run, at: int) -> dict[tuple[int, str], Sample]:
    return {(s.index, s.prompt): s for s in samples_of(run) if position(s) == at and s.strength is None}


def _label(run: Run, at: int) -> str:
    return next(s.label for s in samples_of(run) if position(s) == at)


def strength_grid(opened: Opened, runs: Sequence[Run]) -> None:
    """Epochs down, strengths across, of one run and one prompt."""
    with_grid = [run for run in runs if strengths(samples_of(run))]
    left, right = st.columns(2)
    run = left.selectbox("Run", with_grid, format_func=_title, key="grid_run")
    drawn = at_strengths(samples_of(run))
    chosen = drawn[right.selectbox("Prompt", list(drawn), key="grid_prompt")]
    groups = []
    for at in sorted({position(s) for s in chosen}):
        row = sorted((s for s in chosen if position(s) == at), key=lambda s: (_at_strength(s), s.index))
        items = [
            {"src": opened.picture_url(s.path, 320), "full": opened.picture_url(s.path),
             "badge": f"strength {_at_strength(s):g}", "note": f"seed {s.seed}" if s.seed is not None else ""}
            for s in row
        ]  # fmt: skip
        if items:
            groups.append({"title": row[0].label, "items": items})
    widgets.gallery(groups, key="grid", tile="10rem")


def _at_strength(sample: Sample) -> float:
    return 1.0 if sample.strength is None else sample.strength
