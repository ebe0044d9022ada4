"""Which run is best, and how sure that is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kohyakit.errors import RunError
from kohyakit.runs.comparison.best import best, best_files, best_measured
from kohyakit.runs.run import Checkpoint, Record, Run

FILES = (
    *(Checkpoint(f"dog-{e:06}.safetensors", epoch=e, step=e * 100) for e in range(1, 10)),
    Checkpoint("dog.safetensors", epoch=10, step=1000),
    Checkpoint("dog-000005-state", kind="state", epoch=5, step=500),
)


def run(version: str, images: str = "same", **settings: object) -> Run:
    made = Run(Path("p/runs") / version, Record(version=version, images=images, checkpoints=FILES))
    made.settings = {"seed": 1, **settings}
    return made


def log(
    loss: float, seed: int, validation: list[float] | None = None, tag: str = "loss/validation/epoch_average"
) -> pd.DataFrame:
    steps = np.arange(1, 1001)
    values = np.random.default_rng(seed).normal(loss, 0.05, 1000)
    parts = [pd.DataFrame({"tag": "loss/current", "step": steps, "value": values, "wall_time": steps * 1.0})]
    if validation:
        epochs = np.arange(1, len(validation) + 1)
        line = {
            "tag": tag,
            "step": epochs,
            "value": validation,
            "wall_time": epochs * 100.0,
        }
        parts.append(pd.DataFrame(line))
    return pd.concat(parts, ignore_index=True).astype({"tag": "category"})


def test_training_loss_far_apart_is_clear() -> None:
    a, b = run("1a"), run("1b")
    ranking = best([a, b], read=lambda r: log(0.2 if r is a else 0.1, 1))
    assert ranking.best is b
    assert (ranking.metric, ranking.certainty) == ("loss/current", "clear")
    assert ranking.places[0].checkpoint == FILES[9]
    assert ranking.places[0].value == pytest.approx(0.1, abs=0.01)


def test_equal_runs_are_a_toss_up() -> None:
    """The same distribution, many seeds: hardly ever may one be called clearly better."""
    certainties = []
    for seed in range(60):
        a, b = run("1a"), run("1b")
        certainties.append(best([a, b], read=lambda r, a=a, s=seed: log(0.1, 2 * s + (r is a))).certainty)
    assert certainties.count("clear") <= 2
    assert certainties.count("toss-up") >= 40


def test_validation_goes_before_training_and_names_the_epoch() -> None:
    a, b, c = run("1a"), run("1b"), run("1c")
    lines = {"1a": [0.12, 0.11, 0.10, 0.11, 0.12], "1b": [0.15, 0.14, 0.13, 0.125, 0.121]}
    ranking = best([a, b, c], read=lambda r: log(0.01 if r is c else 0.1, 0, lines.get(r.record.version)))
    assert (str(ranking.best.version), ranking.metric) == ("1a", "loss/validation/epoch_average")
    assert ranking.places[0].checkpoint == FILES[2]
    assert ranking.without == (c,)


def test_fixed_noise_goes_before_training_and_after_validation() -> None:
    fixed = "loss/fixed_noise/epoch_average"
    a, b, c = run("1a", fixed_noises=4), run("1b", fixed_noises=8), run("1c")
    lines = {"1a": [0.12, 0.10, 0.11], "1b": [0.15, 0.14, 0.13]}
    ranking = best([a, b, c], read=lambda r: log(0.01 if r is c else 0.1, 0, lines.get(r.record.version), fixed))
    assert (str(ranking.best.version), ranking.metric, ranking.statistic) == ("1a", fixed, "lowest")
    assert any(caveat.startswith("training loss") for caveat in ranking.caveats)  # of photos that were trained
    assert "fixed_noises differs, so the losses measure different things" in ranking.caveats

    def read(r: Run) -> pd.DataFrame:
        return log(0.1, 0, [0.2, 0.1], "loss/validation/step_average" if r is c else fixed)

    ranking = best([a, c], read=read)
    assert (str(ranking.best.version), ranking.metric) == ("1c", "loss/validation/step_average")
    assert not any(caveat.startswith("training loss") for caveat in ranking.caveats)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, ""),
        ({"loss": "0.1", "step": 4}, ""),
        (
            {"tag": "loss/validation", "loss": 0.125, "error": 0.0125, "step": 1200, "epoch": 3, "file": "dog-best.x"},
            "lowest validation loss 0.125 ± 0.0125 after step 1,200, kept in dog-best.x",
        ),
        (
            {"tag": "loss/fixed_noise", "loss": 0.125, "error": None, "step": 4, "file": ""},
            "lowest loss with fixed noise 0.125 after step 4",
        ),
    ],
)
def test_the_best_measurement_in_words(told: dict, words: str) -> None:
    made = run("1a")
    made.record = replace(made.record, best=told)
    assert best_measured(made) == words


def test_the_file_kept_as_the_best_is_spoken_for() -> None:
    made = run("1a")
    made.record = replace(made.record, best={"file": "dog-best.safetensors"})
    assert best_files([made]) == [Path("p/dog-best.safetensors")]


def test_the_last_epoch_is_the_file_without_a_number() -> None:
    files = (Checkpoint("dog-000001.safetensors", epoch=1), Checkpoint("dog.safetensors"))
    made = Run(Path("p/runs/1a"), Record(version="1a", checkpoints=files))
    made.settings = {}
    place = best([made], read=lambda r: log(0.1, 0, [0.3, 0.2])).places[0]
    assert place.checkpoint == files[1]
    assert best([made], read=lambda r: log(0.1, 0, [0.2, 0.3])).places[0].checkpoint == files[0]


def test_numbers_that_do_not_compare_are_named() -> None:
    a, b = run("1a", min_snr_gamma=5.0), run("2a", images="other", loss_type="huber")
    caveats = " / ".join(best([a, b], read=lambda r: log(0.1, 0)).caveats)
    assert "learned by heart" in caveats
    assert "different photos" in caveats
    assert "loss_type, min_snr_gamma differ" in caveats or "min_snr_gamma, loss_type differ" in caveats


def test_a_best_run_whose_file_is_no_longer_its_own_names_none() -> None:
    made = Run(Path("p/runs/1a"), Record(version="1a", checkpoints=(Checkpoint("dog.safetensors", replaced_by="1b"),)))
    made.settings = {}
    ranking = best([made], read=lambda r: log(0.1, 0))
    assert ranking.places[0].checkpoint is None
    assert "models of 1a were overwritten by 1b" in ranking.caveats


def test_a_metric_of_ones_own() -> None:
    frame = log(0.1, 0)
    assert best([run("1a")], metric="loss/current", read=lambda r: frame).metric == "loss/current"
    with pytest.raises(RunError, match="no run has the metric 'nothing'"):
        best([run("1a")], metric="nothing", read=lambda r: frame)
    with pytest.raises(RunError, match="no run has a loss"):
        best([run("1a")], read=lambda r: frame[:0])


def test_a_run_whose_loss_is_not_a_number_is_not_ranked() -> None:
    a, b = run("1a"), run("1b")
    ranking = best([a, b], read=lambda r: log(0.1, 0) if r is a else log(0.1, 0).assign(value=np.nan))
    assert [place.run for place in ranking.places] == [a]
    assert ranking.without == (b,)


def test_a_failed_run_is_never_the_best() -> None:
    a, b, c = run("1a"), run("1b"), run("1c")
    a.record = replace(a.record, status="failed")
    broke = log(0.01, 0)
    broke.loc[broke.index[-1], "value"] = np.nan
    ranking = best([a, b, c], read=lambda r: {a: log(0.05, 1), b: log(0.2, 2), c: broke}[r])
    assert [place.run for place in ranking.places] == [b]
    assert ranking.unfit == (a, c)
    told = " / ".join(ranking.caveats)
    assert "1a failed" in told
    assert "1c's loss became NaN" in told
    with pytest.raises(RunError, match="no run ended well"):
        best([a, c], read=lambda r: {a: log(0.05, 1), c: broke}[r])


def test_a_failed_run_with_the_lowest_validation_loss_is_not_the_best() -> None:
    a, b = run("1a"), run("1b")
    broke = log(0.1, 1, [0.3, 0.01, 0.02])
    broke.loc[999, "value"] = np.nan  # the last training loss
    assert best([a, b], read=lambda r: broke if r is a else log(0.1, 1, [0.3, 0.2, 0.25])).best is b


def test_only_runs_on_the_same_photos_are_ranked() -> None:
    a, b, c = run("1a"), run("1b"), run("2a", images="other")
    ranking = best([a, b, c], read=lambda r: log({a: 0.3, b: 0.2, c: 0.1}[r], 1))
    assert [place.run for place in ranking.places] == [b, a]
    assert (ranking.elsewhere, ranking.without) == ((c,), ())
    assert any("2a trained on other photos" in caveat for caveat in ranking.caveats)
    d = run("2b", images="other")  # of two sets with as many runs the later
    ranking = best([a, b, c, d], read=lambda r: log({a: 0.3, b: 0.2, c: 0.1, d: 0.4}[r], 1))
    assert [place.run for place in ranking.places] == [c, d]
    ranking = best([a, c], read=lambda r: log({a: 0.3, c: 0.1}[r], 1))
    assert ranking.certainty == "unknown"
    assert "different photos" in ranking.because
