"""sd-scripts' own recorded runs, repeated: the same batches, captions, losses and files."""

from __future__ import annotations

import json
import math
import shutil
import tomllib
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file

from kohyakit.config.read import read_values
from kohyakit.errors import DatasetError
from kohyakit.runs.logs.metrics import read_scalars
from kohyakit.train import start
from kohyakit.train.callbacks import Quiet, Seen
from kohyakit.train.step.rng_sd_scripts import SdScriptsOrder
from tests.train.their_state import as_sd_scripts

pytestmark = [pytest.mark.shared, pytest.mark.slow]

# Folder of recordings -> its runs that need nothing beyond what is trained in process.
CASES = {
    "training": ("basic", "adafactor", "locon", "lycoris_loha", "samples_ddim"),
    "training2": (
        "base_weights", "block_lr_only", "cache_disk", "dataset_config", "init_from", "loraplus", "loss_huber_snr",
        "masked", "no_bucket", "noise_multires", "optim_adafactor_relative", "optim_prodigy_default", "resume_full",
        "sdxl_basic", "sdxl_te_cache_disk", "v2_vpred", "validation", "wildcard_tags",
    ),
}  # fmt: skip
# What differs between two runs of anything: times, the run's own number, who wrote the file, and hashes of weights.
OWN = {
    "ss_session_id", "ss_training_started_at", "ss_training_finished_at", "sshs_model_hash", "sshs_legacy_hash",
    "modelspec.date", "modelspec.implementation_version",
}  # fmt: skip


@pytest.fixture(scope="module")
def places(goldens, tmp_path_factory):
    """What {name} stands for in the recordings; {lab}/cache_ds is a copy that caches may be written beside."""
    lab = tmp_path_factory.mktemp("lab")
    for name in ("cache_ds", "cache_ds2"):
        shutil.copytree(goldens / "training" / "dataset", lab / name)
    return {"{goldens2}": goldens / "training2", "{goldens}": goldens / "training", "{lab}": lab}


def recorded_config(golden: Path, places: dict[str, Path], out: Path) -> dict:
    """The recorded run's settings, its output moved to `out`, in the order of draws of sd-scripts."""

    def filled(file: Path) -> str:
        text = file.read_text(encoding="utf-8")
        for name, place in places.items():
            text = text.replace(name, place.as_posix())
        return text

    values = tomllib.loads(filled(golden / "config.toml")) | {
        "output_dir": str(out / "output"), "logging_dir": str(out / "tb"),
        "rng_order": "sd-scripts", "exif_orientation": "ignore",
        "script": "sdxl_train_network.py" if golden.name.startswith("sdxl") else "train_network.py",
    }  # fmt: skip
    if "dataset_config" in values:
        (out / "dataset.toml").write_text(filled(golden / "dataset.toml"), encoding="utf-8")
        values["dataset_config"] = str(out / "dataset.toml")
    return values


@pytest.fixture(scope="module")
def trained(goldens, places, tmp_path_factory):
    """trained("training/basic") -> (golden folder, our output, per batch (files, captions, loss)); each trains once."""

    @cache
    def train(name: str):
        golden = goldens / name
        out = tmp_path_factory.mktemp(golden.name)
        config, problems = read_values(recorded_config(golden, places, out), "config.toml")
        assert not problems
        watching = Recording(places)
        run = start.train_network(config, progress=False, echo=lambda text: None, callbacks=[watching])
        assert run.status == "finished"
        return golden, out, watching.recorded

    return train


@pytest.fixture(scope="module", params=[f"{folder}/{name}" for folder, names in CASES.items() for name in names])
def repeated(request, trained):
    """One golden run trained by us."""
    return trained(request.param)


class Recording(Quiet):
    """Every batch as the recordings tell it: its files, captions and loss."""

    def __init__(self, places: dict[str, Path]) -> None:
        self._places = places
        self.recorded: list[tuple[list[str], list[str], float]] = []

    def seen(self, seen: Seen) -> None:
        examples = seen.batch.examples
        names = [_as_recorded(e.image.record.path, self._places) for e in examples]
        self.recorded.append((names, [e.caption for e in examples], float(seen.losses.mean())))


def test_what_sd_scripts_stops_at_is_refused_before_the_first_step(goldens, places, tmp_path):
    """no_bucket_small_images has no step: "image size is small"."""
    golden = goldens / "training2" / "no_bucket_small_images"
    config, _ = read_values(recorded_config(golden, places, tmp_path), "config.toml")
    with pytest.raises(DatasetError, match=r"s3_small.jpg: at 100x100 pixels it is smaller"):
        start.train_network(config, progress=False, echo=lambda text: None)
    assert not (tmp_path / "output").exists()


def _as_recorded(path: Path, places: dict[str, Path]) -> str:
    """A picture's path as steps.jsonl has it: below the first data set's folder, or below one of the places."""
    for name, place in {"": places["{goldens}"] / "dataset", **places}.items():
        if path.is_relative_to(place):
            return f"{name}/{path.relative_to(place).as_posix()}".removeprefix("/")
    return path.as_posix()


def _recorded_file(golden: Path, name: str) -> Path:
    """A file of a recording, also where it is another recording's (`same_as.json`)."""
    if (golden / name).exists():
        return golden / name
    folder, case, rest = json.loads((golden / "same_as.json").read_text(encoding="utf-8"))[name].split("/", 2)
    return golden.parent.parent / folder.replace("goldens", "training") / case / rest


def _steps(golden: Path) -> list[dict]:
    return [json.loads(line) for line in (golden / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_batch_and_caption_is_the_same(repeated):
    golden, _, seen = repeated
    steps = _steps(golden)
    assert [files for files, _, _ in seen] == [step["files"] for step in steps]
    assert [captions for _, captions, _ in seen] == [step["captions"] for step in steps]


@pytest.mark.parametrize("case", [f"{folder}/{name}" for folder, names in CASES.items() for name in names])
def test_captions_believe_in_the_step_that_sd_scripts_loader_has_heard_of(goldens, case):
    steps = _steps(goldens / case)
    config = json.loads((goldens / case / "args_effective.json").read_text(encoding="utf-8"))
    batches = max(sum(s["epoch"] == e for s in steps) for e in (1, 2, 3))
    order, accumulation = SdScriptsOrder(42), config["gradient_accumulation_steps"]
    expected = [step["dataset_step_at_fetch"] for step in steps]

    def validated(batch: int) -> bool:
        """After the recorded steps and each epoch, where anything is held back; one batch is one step there."""
        every = (config.get("validate_every_n_steps") or len(steps) + 1, batches)
        return bool(config.get("validation_split")) and any((batch + 1) % number == 0 for number in every)

    assert [order.step_seen(i, batches, accumulation, validated) for i in range(len(steps))] == expected


def test_every_loss_is_within_1e_5(repeated):
    golden, _, seen = repeated
    for (_, _, loss), step in zip(seen, _steps(golden), strict=True):
        assert loss == pytest.approx(float.fromhex(step["loss_hex"]), rel=1e-5)


def test_the_files_have_the_same_names_keys_shapes_and_metadata(repeated):
    golden, out, _ = repeated
    written = {path.name for path in (out / "output").glob("*.safetensors")}
    recorded = json.loads((golden / "metadata.json").read_text(encoding="utf-8"))
    assert written == set(recorded)
    for name in written:
        with safe_open(out / "output" / name, "pt") as ours:
            assert _comparable(ours.metadata()) == _comparable(recorded[name])
            assert set(ours.metadata()) == set(recorded[name])
    for name in (path.name for path in (golden / "output").glob("*.safetensors")):
        with safe_open(golden / "output" / name, "pt") as theirs, safe_open(out / "output" / name, "pt") as ours:
            assert set(ours.keys()) == set(theirs.keys())
            for key in theirs.keys():  # noqa: SIM118 (safe_open is no mapping)
                ours_slice, theirs_slice = ours.get_slice(key), theirs.get_slice(key)
                assert ours_slice.get_shape() == theirs_slice.get_shape()
                assert ours_slice.get_dtype() == theirs_slice.get_dtype()


def _comparable(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key not in OWN}


def test_the_final_weights_are_within_1e_3_of_what_was_learnt(repeated):
    golden, out, _ = repeated
    initial = load_file(_recorded_file(golden, "lora_initial.safetensors"))
    name = f"{golden.name}.safetensors"
    theirs, ours = load_file(golden / "output" / name), load_file(out / "output" / name)
    keys = [key for key in theirs if not key.endswith(".alpha")]
    difference = math.sqrt(sum(float(((ours[k] - theirs[k]).double() ** 2).sum()) for k in keys))
    learnt = math.sqrt(sum(float(((theirs[k] - initial[k].float()).double() ** 2).sum()) for k in keys))
    assert difference / learnt <= 1e-3


def test_tensorboard_has_the_same_tags_steps_and_values(repeated):
    golden, out, _ = repeated
    _scalars_are_as_recorded(golden, out)


def _scalars_are_as_recorded(golden: Path, out: Path) -> None:
    recorded = next(iter(json.loads((golden / "scalars.json").read_text(encoding="utf-8")).values()))
    frame = read_scalars(out / "tb")
    assert set(frame["tag"]) == set(recorded)
    for tag, points in recorded.items():
        rows = frame[frame["tag"] == tag]
        assert rows["step"].tolist() == [step for step, _ in points], tag
        near = 2e-5 if tag.endswith("_divergence") else 1e-12  # that of two losses near 1, taken from each other
        assert rows["value"].tolist() == pytest.approx([value for _, value in points], rel=1e-5, abs=near), tag


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


@pytest.mark.parametrize(("case", "by"), [("resume_plain", shutil.copytree), ("resume_skip", as_sd_scripts)])
def test_a_resumed_run_is_repeated(goldens, places, trained, tmp_path, case, by):
    """From our own state of the run before, gone on from as sd-scripts does it; the second from what accelerate
    writes of the same training.
    """
    _, full, _ = trained("training2/resume_full")
    golden, state = goldens / "training2" / case, tmp_path / "state1"
    by(full / "output" / "resume_full-000001-state", state)
    values = recorded_config(golden, places, tmp_path)
    own = {"resume": str(state), "resume_as": "sd-scripts", "tokenizer_cache_dir": ""}
    config, problems = read_values(values | own, "config.toml")
    assert not problems
    assert start.train_network(config, progress=False, echo=lambda text: None).status == "finished"
    frame = read_scalars(tmp_path / "tb")
    losses = [float.fromhex(step["loss_hex"]) for step in _steps(golden)]
    assert frame[frame["tag"] == "loss/current"]["value"].tolist() == pytest.approx(losses, rel=1e-5)
    _scalars_are_as_recorded(golden, tmp_path)
