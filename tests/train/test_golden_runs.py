"""sd-scripts' own recorded runs, repeated: the same batches, captions, losses and files."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file

from kohyakit.config.read import read_values
from kohyakit.runs.metrics import read_scalars
from kohyakit.train import start
from kohyakit.train.trainer import Trainer

pytestmark = [pytest.mark.shared, pytest.mark.slow]

CASES = ["basic", "adafactor", "locon", "samples_ddim"]
# What differs between two runs of anything: times, the run's own number, and who wrote the file.
OWN = {
    "ss_session_id", "ss_training_started_at", "ss_training_finished_at", "sshs_model_hash", "modelspec.date",
    "modelspec.implementation_version",
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def repeated(request, goldens, tmp_path_factory):
    """One golden run trained by us: (golden folder, our output, per batch (files, captions, timesteps, loss))."""
    golden = goldens / "training" / request.param
    out = tmp_path_factory.mktemp(request.param)
    text = (golden / "config.toml").read_text(encoding="utf-8").replace("{goldens}", str(goldens / "training"))
    values = tomllib.loads(text) | {
        "output_dir": str(out / "output"),
        "logging_dir": str(out / "tb"),
        "rng_order": "sd-scripts",
        "exif_orientation": "ignore",
    }
    config, problems = read_values(values, "config.toml")
    assert not problems
    seen = []
    plain = Trainer._loss

    def spy(self, batch):
        losses = plain(self, batch)
        names = [e.image.record.path.relative_to(goldens / "training" / "dataset").as_posix() for e in batch.examples]
        seen.append((names, [e.caption for e in batch.examples], float(losses.detach().mean())))
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_loss", spy)
        run = start.train_network(config, progress=False, echo=lambda text: None)
    assert run.status == "finished"
    return golden, out, seen


def _steps(golden: Path) -> list[dict]:
    return [json.loads(line) for line in (golden / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_batch_and_caption_is_the_same(repeated):
    golden, _, seen = repeated
    steps = _steps(golden)
    assert [files for files, _, _ in seen] == [step["files"] for step in steps]
    assert [captions for _, captions, _ in seen] == [step["captions"] for step in steps]


def test_every_loss_is_within_1e_5(repeated):
    golden, _, seen = repeated
    for (_, _, loss), step in zip(seen, _steps(golden), strict=True):
        assert loss == pytest.approx(float.fromhex(step["loss_hex"]), rel=1e-5)


def test_the_files_have_the_same_names_keys_shapes_and_metadata(repeated):
    golden, out, _ = repeated
    names = sorted(path.name for path in (golden / "output").glob("*.safetensors"))
    assert sorted(path.name for path in (out / "output").glob("*.safetensors")) == names
    for name in names:
        with safe_open(golden / "output" / name, "pt") as theirs, safe_open(out / "output" / name, "pt") as ours:
            assert set(ours.keys()) == set(theirs.keys())
            for key in theirs.keys():  # noqa: SIM118 (safe_open is no mapping)
                ours_slice, theirs_slice = ours.get_slice(key), theirs.get_slice(key)
                assert ours_slice.get_shape() == theirs_slice.get_shape()
                assert ours_slice.get_dtype() == theirs_slice.get_dtype()
            expected = {k: v for k, v in theirs.metadata().items() if k not in OWN}
            assert {k: v for k, v in ours.metadata().items() if k not in OWN} == expected
            assert set(ours.metadata()) == set(theirs.metadata())


def test_the_final_weights_are_within_1e_3_of_what_was_learnt(repeated):
    golden, out, _ = repeated
    initial = load_file(golden / "lora_initial.safetensors")
    name = f"{golden.name}.safetensors"
    theirs, ours = load_file(golden / "output" / name), load_file(out / "output" / name)
    keys = [key for key in theirs if not key.endswith(".alpha")]
    difference = math.sqrt(sum(float(((ours[k] - theirs[k]).double() ** 2).sum()) for k in keys))
    learnt = math.sqrt(sum(float(((theirs[k] - initial[k].float()).double() ** 2).sum()) for k in keys))
    assert difference / learnt <= 1e-3


def test_tensorboard_has_the_same_tags_steps_and_values(repeated):
    golden, out, _ = repeated
    recorded = next(iter(json.loads((golden / "scalars.json").read_text(encoding="utf-8")).values()))
    frame = read_scalars(out / "tb")
    assert set(frame["tag"]) == set(recorded)
    for tag, points in recorded.items():
        rows = frame[frame["tag"] == tag]
        assert rows["step"].tolist() == [step for step, _ in points]
        assert rows["value"].tolist() == pytest.approx([value for _, value in points], rel=1e-5, abs=1e-12)


def test_samples_have_kohyas_names(repeated):
    golden, out, _ = repeated
    if not (golden / "output" / "sample").is_dir():
        assert not (out / "output" / "sample").exists()
        return

    def nameless(folder: Path) -> list[tuple[str, ...]]:
        """Names without the time of drawing."""
        parts = [path.stem.split("_") for path in folder.glob("*.png")]
        return sorted((*p[:4], *p[5:]) for p in parts)

    assert nameless(out / "output" / "sample") == nameless(golden / "output" / "sample")
