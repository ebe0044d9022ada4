"""What a config's own text and rules tell, and how all findings of a plan are put in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from kohyakit.config.read import nearest
from kohyakit.config.rules import check_rules
from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem
from kohyakit.planning.inputs.missing import with_places

# Errors that make the others idle: what is trained at all, by which program, on which model. They come first.
DECIDING = (
    "script_unknown", "model_of_another_family", "family_not_built_in", "network_not_built_in", "wrong_model",
    "base_model_missing", "model_missing", "model_unreadable",
)  # fmt: skip

# What another part says again after the first has said it.
_SAID_ALREADY = {
    "no_folder": ("images_missing",),
    "no_resolution": ("resolution_missing",),
    "bad_resolution": ("resolution_unreadable",),
    "bucket_settings": ("min_bucket_above_resolution", "max_bucket_below_resolution", "bucket_steps_do_not_divide"),
    "bucket_reso_steps": ("bucket_steps_do_not_divide", "model_of_another_family"),
    "bucket_steps_do_not_divide": ("model_of_another_family",),
    "steps_override_epochs": ("epoch_is_not_read",),
    "family_not_built_in": ("script_unknown",),
    "rate_too_low": ("schedule_does_not_fall",),
    "warmup_beyond_the_run": ("warmup_longer_than_run",),
    "state_of_another_network": ("state_of_another",),
}

# Where sd-scripts would stop, over settings that a training in process does not look at (see rules/not_in_process).
_ELSEWHERE_ONLY = ("initial_step_beyond_the_end",)


def config_findings(config: TrainConfig, backend: str = "") -> Iterator[Problem]:
    """What rules find in the settings alone, and what reading the file left as notes."""
    here = backend == "kohyakit"
    for problem in check_rules(config, here=here):
        if here and problem.name in _ELSEWHERE_ONLY:
            continue
        own = here and problem.name == "foreign_argument"
        yield replace(problem, severity="error") if own else problem  # the trainer here refuses any of them
    notes, odd = (config.source.notes, config.source.problems) if config.source else ((), ())
    yield from odd
    for note in notes:
        if note.action == "differs" and note.key not in ("max_train_epochs", "max_train_steps"):
            yield Problem(note.key, note.text, "", "gui_differs", "hint")
    said = " ".join(problem.what for problem in odd if problem.name == "unknown_parameter")
    unknown = [note.key for note in notes if note.action == "unknown" and f"'{note.key}'" not in said]
    meant = {key: near for key in unknown if (near := nearest(key))}
    for key, near in meant.items():
        yield Problem(key, "nothing reads this name", f"did you mean {near}?", "unknown_parameter", "warning")
    rest = [key for key in unknown if key not in meant]
    if rest:
        what = f"nothing reads {', '.join(rest[:6])}" + (f" and {len(rest) - 6} more" if len(rest) > 6 else "")
        yield Problem("", what, "look for a spelling mistake", "unknown_parameter", "warning")


def in_order(config: TrainConfig, problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Worst first, the deciding before the others, else in the order found, each once."""
    placed = tuple(dict.fromkeys(with_places(config, problems)))
    named = {problem.name for problem in placed}
    kept = (p for p in placed if not named.intersection(_SAID_ALREADY.get(p.name, ())))
    return tuple(sorted(kept, key=_rank))


def _rank(problem: Problem) -> tuple[int, int]:
    deciding = DECIDING.index(problem.name) if problem.name in DECIDING else len(DECIDING)
    return problem.rank, deciding
