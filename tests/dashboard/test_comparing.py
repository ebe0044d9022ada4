"""What the Compare page draws before anything is chosen."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")

from kohyakit.dashboard.comparing import _first_tags

LOSS, VALIDATION = "loss/average", "loss/validation/step_average"
RATES = ["lr/textencoder", "lr/unet"]


@pytest.mark.parametrize(
    ("tags", "runs", "wanted"),
    [
        ([LOSS, "loss/current", VALIDATION, *RATES], 8, [LOSS, VALIDATION, *RATES]),
        ([LOSS, "loss/current", VALIDATION, *RATES], 9, [LOSS, VALIDATION]),
        (["loss/current", *RATES], 20, ["loss/current"]),
        (RATES, 20, RATES),
        (["lr/group0", *RATES], 1, RATES),
    ],
)
def test_of_many_runs_the_learning_rates_wait(tags: list[str], runs: int, wanted: list[str]) -> None:
    assert _first_tags(tags, runs) == wanted
