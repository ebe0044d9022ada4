"""A training that was cut off or stopped: the state that it left, and the line that goes on from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.errors import Problem, RunError
from kohyakit.formats.weights import state_folder
from kohyakit.formats.weights.state_folder import StateFolder, standing_against
from kohyakit.runs.resume import going_on


def unfinished(config: TrainConfig, scan: Scan, steps: int) -> Iterator[Problem]:
    """The newest training of this name was cut off or stopped, and a state of it goes on: says with which line."""
    from kohyakit.runs.registry import list_runs
    from kohyakit.runs.run import INTERRUPTED, LOST, STOPPED

    if config.training.resume or not config.saving.output_dir:
        return
    folder = Path(config.saving.output_dir)
    name = config.saving.output_name or ""
    runs = [run for run in list_runs(folder) if run.record.output_name == name and not run.record.imported]
    last = max(runs, key=lambda run: (run.record.created, run.version), default=None)
    if last is None or last.status not in (LOST, INTERRUPTED, STOPPED):
        return
    how = "was cut off" if last.status == LOST else f"was {last.status}"
    state = _newest_state(folder, str(last.version), last.record.checkpoints)
    if state is None:
        if last.status == LOST:
            what = f"run {last.version} {how} and left no state to go on from"
            yield Problem("resume", what, "set save_state to true to have one the next time", "unfinished_run", "hint")
        return
    asked = config.with_values(resume=str(state.folder))
    against = [*standing_against(state.position, config.training.rng_order, steps), *going_on(asked, scan)[1]]
    if any(problem.severity == "error" for problem in against):
        return
    what = f"run {last.version} {how}; its last state has {state.position.current_step} steps done"
    yield Problem("resume", what, f"go on with: {go_on_line(config, state.folder)}", "unfinished_run", "hint")


def go_on_line(config: TrainConfig, state: Path) -> str:
    """The command that goes on from a state."""
    source = config.source.path if config.source and config.source.path else "CONFIG"
    return f'kohyakit train "{source}" --set "resume={state}"'


def _newest_state(folder: Path, run: str, recorded: Iterable[Any]) -> StateFolder | None:
    """Of a run's states the one with the most steps that is whole. One that was being replaced stands as .old."""
    names = {checkpoint.file for checkpoint in recorded if checkpoint.kind == "state" and not checkpoint.replaced_by}
    found = []
    for file in folder.absolute().glob(f"*/{state_folder.POSITION_FILE}"):
        place = file.parent
        try:
            state = state_folder.read(place)
        except RunError:
            continue
        if not state.by_sd_scripts and (state.run == run or (not state.run and place.name in names)):
            found.append(state)
    for state in sorted(found, key=lambda s: (s.position.current_step, s.folder.suffix == ""), reverse=True):
        try:
            return state_folder.look(state.folder)
        except RunError:
            continue
    return None
