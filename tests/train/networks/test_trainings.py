"""Each network learns what the code that it follows learns from the same start, with the same noise."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.train.networks.trainings import CASES, FOR_SDXL, photos_into, trained
from tests.train.observers import Losses
from tests.train.tiny_sdxl import write_tiny_sdxl


@pytest.fixture(scope="module")
def losses(tiny_model, tmp_path_factory) -> dict[str, list[float]]:
    folder = tmp_path_factory.mktemp("networks")
    photos, sdxl = photos_into(folder / "photos"), write_tiny_sdxl(folder / "sdxl")
    heard = {case: Losses() for case in CASES}
    for case, observer in heard.items():
        trained(case, sdxl if case in FOR_SDXL else tiny_model, photos, folder / case.replace(" ", "_"), observer)
    return {case: observer.heard for case, observer in heard.items()}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_losses_are_those_of_the_code_that_it_follows(losses, case):
    """The first ones of a method that begins with no update are the model's own; what is learnt shows from then on."""
    assert losses[case] == pytest.approx(CASES[case][2], abs=1e-5)
