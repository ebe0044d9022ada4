"""What the Compare page draws before anything is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from kohyakit.dashboard.pages.compare import _first_tags
from kohyakit.dashboard.read import report, store

LOSS, VALIDATION = "loss/average", "loss/validation/step_average"
RATES = ["lr/textencoder", "lr/unet"]


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ([LOSS, "loss/current", VALIDATION, *RATES], [LOSS, VALIDATION]),
        (["loss/current", *RATES], ["loss/current"]),
        (RATES, RATES),
        (["lr/group0", *RATES], RATES),
    ],
)
def test_learning_rates_wait_to_be_asked_for(tags: list[str], wanted: list[str]) -> None:
    assert _first_tags(tags) == wanted


def told(project: Path, *names: str) -> list[tuple[str, str, str]]:
    runs = {run.record.version: run for run in store.runs_of(project)}
    return [(one.severity, one.where, one.what) for one in report.statements([runs[name] for name in names])]


def test_a_failed_run_is_told_first_and_never_the_best(project: Path) -> None:
    """1c failed after 120 of 300 steps, its loss low: the curve alone would say that it fell and was done."""
    said = told(project, "1a", "1b", "1c")
    assert said[0] == ("error", "1c", "failed: CUDA out of memory at step 120")
    best = [version for severity, version, text in said if severity == "good" and ("best" in text or "first" in text)]
    assert len(best) == 1
    assert best[0] in ("1a", "1b")
    assert not any(version == "1c" and "falls" in text for _, version, text in said)


def test_best_only_among_runs_on_the_same_photos(project: Path) -> None:
    for run in store.runs_of(project)[:-1]:
        run.update(images="first" if run.record.version.startswith("1") else "second")
    said = told(project, "1a", "2a")
    assert not any("best" in text or "toss-up" in text for _, _, text in said)
    assert ("hint", "", "trained on different photos, so their losses do not compare: 1a | 2a") in said
    said = told(project, "1a", "1b", "2a")
    assert [version for severity, version, _ in said if severity == "good"] in (["1a"], ["1b"])


def test_sentences_speak_in_words_and_not_of_what_the_chart_shows(project: Path) -> None:
    texts = [text for _, _, text in told(project, "1a", "1b", "2a")]
    assert texts
    assert not any("loss/" in text or " falls (" in text for text in texts), texts


def test_the_best_measurement_and_an_early_stop_are_told(project: Path) -> None:
    (run,) = [run for run in store.runs_of(project) if run.record.version == "1a"]
    best = {
        "tag": "loss/fixed_noise",
        "loss": 0.125,
        "error": 0.01,
        "step": 40,
        "epoch": 2,
        "file": "x-best.safetensors",
    }
    run.update(best=best, outcome="stopped early after step 60 of 90: 2 times no loss below 0.125 of step 40")
    said = told(project, "1a")
    assert ("good", "1a", "Lowest loss with fixed noise 0.125 ± 0.01 after step 40, kept in x-best.safetensors") in said
    assert any(text.startswith("Stopped early after step 60 of 90") for _, version, text in said if version == "1a")
