"""sd-scripts' resumed runs, repeated: our own state of the run before, gone on from as sd-scripts does it."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torch")

from kohyakit.config.read import read_values
from kohyakit.runs.logs.metrics import read_scalars
from kohyakit.train.start import train_network
from tests.train.their_state import as_sd_scripts

pytestmark = [pytest.mark.shared, pytest.mark.slow]


def _config(goldens: Path, case: str, out: Path, **more):
    text = (goldens / "training2" / case / "config.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text.replace("{goldens}", str(goldens / "training")))
    own = {"output_dir": str(out / "output"), "logging_dir": str(out / "tb"), "rng_order": "sd-scripts",
           "exif_orientation": "ignore", "tokenizer_cache_dir": ""}  # fmt: skip
    config, problems = read_values({**values, **own, **more}, case)
    assert not problems
    return config


def _losses(goldens: Path, case: str) -> list[float]:
    lines = (goldens / "training2" / case / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    return [float.fromhex(json.loads(line)["loss_hex"]) for line in lines]


def _trained(config) -> list[float]:
    assert train_network(config, progress=False, echo=lambda text: None).status == "finished"
    frame = read_scalars(Path(config.saving.logging_dir))
    return frame[frame.tag == "loss/current"].value.tolist()


@pytest.fixture(scope="module")
def full(goldens, tmp_path_factory) -> Path:
    """resume_full, whole; its losses are looked at here as all else hangs on them."""
    folder = tmp_path_factory.mktemp("full")
    assert _trained(_config(goldens, "resume_full", folder)) == pytest.approx(_losses(goldens, "resume_full"), rel=1e-5)
    return folder / "output" / "resume_full-000001-state"


@pytest.mark.parametrize(("case", "by"), [("resume_plain", shutil.copytree), ("resume_skip", as_sd_scripts)])
def test_a_resumed_run_is_repeated(goldens, full, tmp_path, case, by):
    """From our state and, the second, from what accelerate writes of the same training."""
    state = tmp_path / "state1"
    by(full, state)
    config = _config(goldens, case, tmp_path, resume=str(state), resume_as="sd-scripts")
    assert _trained(config) == pytest.approx(_losses(goldens, case), rel=1e-5)
    frame = read_scalars(tmp_path / "tb")
    recorded = next(iter(json.loads((goldens / "training2" / case / "scalars.json").read_text("utf-8")).values()))
    assert set(frame.tag) == set(recorded)
    for tag, points in recorded.items():
        rows = frame[frame.tag == tag]
        assert rows.step.tolist() == [step for step, _ in points], tag
        assert rows.value.tolist() == pytest.approx([value for _, value in points], rel=1e-5, abs=1e-12), tag
