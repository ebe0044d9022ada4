"""Going on from a state: what may change, what is refused, by check and train alike, and what is in force then."""

from __future__ import annotations

import json
import math
import os
import shutil
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kohyakit.errors import KohyakitError, RunError
from kohyakit.planning.as_json import plan_data
from kohyakit.planning.make import check_plan
from kohyakit.runs.logs.metrics import read_scalars
from kohyakit.train.callbacks import Quiet
from kohyakit.train.output.state_of_sd_scripts import check_optimizer
from kohyakit.train.start import train_network
from tests.train.observers import Losses
from tests.train.their_state import as_sd_scripts

BASE = {"network_dropout": 0.1, "shuffle_caption": True, "lr_scheduler": "cosine", "max_train_epochs": 2}


@pytest.fixture(scope="module")
def states(config_into, tmp_path_factory) -> Path:
    """A whole training of 14 steps, with states after 3, 6, 9 and 12; returns its output_dir."""
    folder = tmp_path_factory.mktemp("states")
    train(config_into(folder, **BASE, save_every_n_steps=3, save_state=True))
    return folder / "out"


@pytest.fixture
def state(states, tmp_path) -> Path:
    """A copy of the state after three steps, mid-epoch, and of the run that made it."""
    shutil.copytree(states, tmp_path / "out")
    return tmp_path / "out" / "tiny-step00000003-state"


def train(config, said: list[str] | None = None):
    return train_network(config, progress=False, echo=(said if said is not None else []).append)


def refusal(config) -> str:
    """The sentence with which check and train refuse it, and nothing is written."""
    (problem,) = check_plan(config).errors
    runs = Path(config.saving.output_dir) / "runs"
    before = sorted(runs.iterdir())
    with pytest.raises(KohyakitError) as caught:
        train(config)
    assert caught.value.problems == (problem,)
    assert sorted(runs.iterdir()) == before
    assert "\n" not in str(problem)
    return str(problem)


def test_length_saves_samples_names_and_speed_may_change(make_config, state, states):
    free = {"save_every_n_steps": 5, "save_precision": "fp16", "sample_prompts": "town --w 64 --h 64 --s 1",
            "sample_every_n_epochs": 1, "max_data_loader_n_workers": 2, "cache_latents": True,
            "gradient_checkpointing": False, "training_comment": "again", "output_name": "tiny"}  # fmt: skip
    config = make_config(**BASE, **free, resume=str(state))
    assert not check_plan(config).errors
    assert train(config).status == "finished"
    ours, whole = load_file(state.parent / "tiny.safetensors"), load_file(states / "tiny.safetensors")
    assert all(torch.equal(ours[key], whole[key].half()) for key in whole)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"learning_rate": 1e-3}, "learning_rate 0.01 → 0.001"),
        ({"noise_offset": 0.05, "min_snr_gamma": 5}, "noise_offset none → 0.05, min_snr_gamma none → 5"),
        ({"network_dropout": None}, "network_dropout 0.1 → none"),
        ({"shuffle_caption": False}, "shuffle_caption on → off"),
        ({"train_batch_size": 1}, "train_batch_size 2 → 1"),
        ({"seed": 8}, "seed 7 → 8"),
        ({"resolution": "192,192"}, "resolution 128x128 → 192x192"),
        ({"optimizer_args": ["weight_decay=0.5"]}, "optimizer_args none → weight_decay=0.5"),
        ({"lr_scheduler": "linear"}, "lr_scheduler cosine → linear"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps 1 → 2"),
    ],
)
def test_what_decides_the_numbers_is_refused_unless_asked_for(make_config, state, values, told):
    config = make_config(**{**BASE, **values}, resume=str(state))
    sentence = refusal(config)
    assert told in sentence
    assert "resume_with_changes=true" in sentence
    assert not check_plan(config.with_values(resume_with_changes=True)).errors


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"optimizer_type": "SGD"}, "optimizer_type adamw → sgd"),
        ({"network_dim": 4}, "network_dim 2 → 4"),
        ({"network_args": ["conv_dim=2"]}, "conv_dim none → 2"),
        ({"network_train_unet_only": True}, "network_train_unet_only off → on"),
        ({"network_args": ["loraplus_lr_ratio=4"]}, "U-Net → text encoder (LoRA+) + U-Net (LoRA+)"),
        ({"text_encoder_lr": 0.0}, "trained parts text encoder + U-Net → U-Net"),
        ({"rng_order": "sd-scripts"}, "rng_order kohyakit"),
    ],
)
def test_what_the_state_cannot_belong_to_is_refused_in_any_case(make_config, state, values, told):
    assert told in refusal(make_config(**{**BASE, **values}, resume=str(state), resume_with_changes=True))


def test_other_photos_or_captions_are_refused(make_config, photos, state, tmp_path):
    other = tmp_path / "img"
    shutil.copytree(photos, other)
    config = make_config(**BASE, resume=str(state), train_data_dir=str(other))
    assert not check_plan(config).errors  # the same photos in another place
    (other / "2_town" / "town0.txt").write_text("something else", encoding="utf-8")
    assert "other captions" in refusal(config)
    shutil.copy(other / "2_town" / "town1.png", other / "2_town" / "town3.png")
    assert "other photos" in refusal(config)
    (other / "2_town").rename(other / "3_town")
    assert "folders 1_statue + 2_town → 1_statue + 3_town" in refusal(config)


def test_changes_that_are_asked_for_are_in_force_and_in_the_record(make_config, state, photos, tmp_path):
    """A constant rate of 0.002 and a weight decay: every logged rate says so from the first step on."""
    other = tmp_path / "img"
    shutil.copytree(photos, other)
    (other / "2_town" / "town0.txt").write_text("something else", encoding="utf-8")
    config = make_config(
        **{**BASE, "lr_scheduler": "constant"}, learning_rate=0.002, optimizer_args=["weight_decay=0.25"],
        train_data_dir=str(other), resume=str(state), resume_with_changes=True, logging_dir=str(tmp_path / "log"),
    )  # fmt: skip
    seen = []

    class Watch(Quiet):
        def step(self, report):
            seen.append((report.step, report.epoch, report.position))

    run = train_network(config, progress=False, echo=lambda text: None, callbacks=[Watch()])
    frame = read_scalars(tmp_path / "log")
    rates = frame[frame.tag == "lr/unet"]
    assert rates.value.tolist() == pytest.approx([0.002] * len(rates))
    assert rates.step.tolist()[0] == 4
    assert seen[0] == (4, 1, 0)  # another data set: the epoch begins anew
    assert "learning_rate 0.01 → 0.002" in run.record.changes
    assert "optimizer_args none → weight_decay=0.25" in run.record.changes
    assert any("caption" in change for change in run.record.changes)
    assert run.record.parent == "1a"
    made = json.loads((tmp_path / "out" / "tiny-step00000003-state" / "train_state.json").read_text(encoding="utf-8"))
    assert made["made_with"]["settings"]["learning_rate"] == 0.01


def test_longer_epochs_than_before_are_trained_to_the_last_step(make_config, states, tmp_path):
    """Step 9 is in the second epoch of seven batches; now 13 steps are one epoch, and four of them are still to do."""
    shutil.copytree(states, tmp_path / "out")
    values = BASE | {"max_train_epochs": None, "max_train_steps": 13, "train_batch_size": 1}
    state = tmp_path / "out" / "tiny-step00000009-state"
    config = make_config(**values, save_every_n_epochs=1, resume=str(state), resume_with_changes=True)
    losses = Losses()
    train_network(config, progress=False, echo=lambda text: None, callbacks=[losses])
    assert len(losses.heard) == 4
    with safe_open(tmp_path / "out" / "tiny.safetensors", "pt") as file:
        assert file.metadata()["ss_steps"] == "13"
    assert [row["file"] for row in plan_data(check_plan(config))["files"]] == ["tiny.safetensors"]


def test_a_longer_training_follows_the_longer_schedule_at_once(make_config, state, tmp_path):
    """By hand: the rate after step n of 28 is 0.01 * (1 + cos(pi n / 28)) / 2."""
    config = make_config(**{**BASE, "max_train_epochs": 4}, resume=str(state), logging_dir=str(tmp_path / "log"))
    train(config)
    frame = read_scalars(tmp_path / "log")
    rates = frame[frame.tag == "lr/unet"]
    expected = [0.01 * (1 + math.cos(math.pi * n / 28)) / 2 for n in range(4, 29)]
    assert rates.value.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_a_state_that_has_done_all_is_refused(make_config, states, state):
    sentence = refusal(make_config(**{**BASE, "max_train_epochs": None, "max_train_steps": 3}, resume=str(state)))
    assert "has done 3 steps, and only 3 are asked for; raise" in sentence


def test_an_older_state_that_does_not_tell_goes_on_with_a_hint(make_config, state):
    file = state / "train_state.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    del data["made_with"], data["run"], data["steps"]
    file.write_text(json.dumps(data), encoding="utf-8")
    said = []
    assert train(make_config(**BASE, resume=str(state)), said).status == "finished"
    assert any("does not tell what it was made with" in line for line in said)


def _rezip(file: Path, change) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in change(parts).items():
            archive.writestr(name, data)


def _flip(file: Path, at: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 0xFF
    file.write_bytes(data)


def _position(state: Path, **values) -> None:
    file = state / "train_state.json"
    data = {**json.loads(file.read_text(encoding="utf-8")), **values}
    file.write_text(json.dumps({k: v for k, v in data.items() if v != "drop"}), encoding="utf-8")


def _as_file(state: Path) -> None:
    shutil.rmtree(state)
    state.write_bytes(b"x")


def _of_sd_scripts(state: Path) -> None:
    for file in list(state.iterdir()):
        file.unlink()
    for name in ("model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        (state / name).write_bytes(b"x")
    (state / "train_state.json").write_text('{"current_epoch": 1, "current_step": 15}', encoding="utf-8")


DAMAGE = {
    "a file": (_as_file, "is a file, not a state folder"),
    "empty": (lambda s: [f.unlink() for f in s.iterdir()], "train_state.json is missing"),
    "of sd-scripts": (_of_sd_scripts, "scheduler.bin does not tell how many steps were done"),
    "no network": (lambda s: (s / "network.safetensors").unlink(), "network.safetensors is missing"),
    "network a folder": (lambda s: ((s / "network.safetensors").unlink(), (s / "network.safetensors").mkdir()),
                         "network.safetensors is no regular file"),
    "network cut": (lambda s: (s / "network.safetensors").write_bytes((s / "network.safetensors").read_bytes()[:-9]),
                    "is cut off"),
    "network changed": (lambda s: _flip(s / "network.safetensors", 0.99), "has changed since it was written"),
    "network empty": (lambda s: (s / "network.safetensors").write_bytes(b""), "network.safetensors is empty"),
    "tensors cut": (lambda s: (s / "state.pt").write_bytes((s / "state.pt").read_bytes()[:-30]), "damaged or cut off"),
    "tensors changed": (lambda s: _flip(s / "state.pt", 0.5), "state.pt cannot be read"),
    "tensors a text": (lambda s: (s / "state.pt").write_text("hello", encoding="utf-8"), "damaged or cut off"),
    "no json": (lambda s: (s / "train_state.json").write_text("{", encoding="utf-8"), "it is no JSON"),
    "a list": (lambda s: (s / "train_state.json").write_text("[]", encoding="utf-8"), "not what a training writes"),
    "deep": (lambda s: (s / "train_state.json").write_text("[" * 100_000, encoding="utf-8"), "it is no JSON"),
    "bytes": (lambda s: (s / "train_state.json").write_bytes(b"\xff\xfe\x00"), "it is no JSON"),
    "no step": (lambda s: _position(s, current_step="drop"), "the step is missing"),
    "step a text": (lambda s: _position(s, current_step="3"), "current_step is 3"),
    "epoch zero": (lambda s: _position(s, current_epoch=0), "current_epoch is 0"),
    "negative": (lambda s: _position(s, batches_done=-1), "batches_done is -1"),
    "losses": (lambda s: _position(s, losses=[None]), "losses is no list of numbers"),
    "made with a list": (lambda s: _position(s, made_with=[1]), "not what a training writes"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_check_and_train_say_the_same_of_a_state_that_is_none(make_config, state, damage):
    spoil, told = DAMAGE[damage]
    spoil(state)
    sentence = refusal(make_config(**BASE, resume=str(state)))
    assert told in sentence
    assert state.name in sentence


def test_a_state_that_would_run_code_is_refused_and_runs_nothing(make_config, state, tmp_path):
    mark = tmp_path / "ran"
    pickle = b"cos\nsystem\n(V" + f"touch {mark}".encode() + b"\ntR."
    _rezip(state / "state.pt", lambda parts: {n: pickle if n.endswith("data.pkl") else d for n, d in parts.items()})
    assert "it would run code of os" in refusal(make_config(**BASE, resume=str(state)))
    assert not mark.exists()


def test_a_state_of_another_network_is_one_sentence(make_config, state):
    """The settings say the same, the tensors do not: somebody put another file in."""
    file = state / "network.safetensors"
    tensors = load_file(file)
    dropped = next(key for key in tensors if key.endswith("lora_up.weight"))
    save_file({key: tensor for key, tensor in tensors.items() if key != dropped}, file)
    with pytest.raises(KohyakitError, match="the state holds another network: 1 of ") as caught:
        train(make_config(**BASE, resume=str(state)))
    assert dropped in str(caught.value)


def test_a_composed_state_holds_what_sd_scripts_writes(state):
    """As seen in folders that sd-scripts 0.10.1 wrote with --save_state, at steps and at epochs' ends, by AdamW."""
    theirs = as_sd_scripts(state, state.parent / "theirs-state")
    names = {"model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl", "train_state.json"}
    assert {path.name for path in theirs.iterdir()} == names
    with safe_open(theirs / "model.safetensors", "pt") as network:
        assert network.metadata() == {"format": "pt"}
        keys = list(network.keys())
    assert {key.partition(".")[2] for key in keys} == {"alpha", "lora_down.weight", "lora_up.weight"}
    optimizer, schedule, streams = (
        torch.load(theirs / name, weights_only=False)
        for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl")
    )
    assert {"lr", "betas", "eps", "weight_decay", "initial_lr", "decoupled_weight_decay"} <= {
        *optimizer["param_groups"][0]
    }
    assert set(optimizer["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert {"base_lrs", "last_epoch", "_step_count", "_last_lr", "lr_lambdas"} <= set(schedule)
    assert schedule["lr_lambdas"] == [{}, {}]
    assert set(streams) == {"step", "random_state", "numpy_random_seed", "torch_manual_seed"}
    assert streams["numpy_random_seed"][0] == "MT19937"
    assert streams["torch_manual_seed"].dtype == torch.uint8
    assert set(json.loads((theirs / "train_state.json").read_text("utf-8"))) == {"current_epoch", "current_step"}


def test_a_state_of_sd_scripts_goes_on_with_what_it_holds(make_config, state, states):
    """No seed, no position within the epoch, no settings: all that follows from the config and the schedule's steps."""
    theirs = as_sd_scripts(state, state.parent / "theirs-state")
    config = make_config(**BASE, resume=str(theirs))
    told = {problem.name: problem for problem in check_plan(config).findings}["state_of_sd_scripts"]
    assert told.severity == "hint"
    assert "weights, optimizer, schedule and step are taken up" in told.what
    assert "does not tell its settings, photos and losses" in told.what
    said: list[str] = []
    assert train(config, said).status == "finished"
    assert "going on after step 3 of 14" in said
    ours, whole = load_file(theirs.parent / "tiny.safetensors"), load_file(states / "tiny.safetensors")
    assert all(torch.equal(ours[key], whole[key]) for key in whole)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"optimizer_type": "SGD", "optimizer_args": ["momentum=0.9"]}, "settings that SGD does not know"),
        ({"text_encoder_lr": 0.0}, "its optimizer trains"),
        ({"network_dim": 4}, "is of rank 2"),
    ],
)
def test_a_state_of_sd_scripts_for_another_training_is_refused(make_config, state, values, told):
    theirs = as_sd_scripts(state, state.parent / "theirs-state")
    with pytest.raises(KohyakitError, match=told):
        train(make_config(**{**BASE, **values}, resume=str(theirs)))


def test_nothing_in_a_state_of_sd_scripts_is_run(make_config, state, tmp_path):
    theirs = as_sd_scripts(state, state.parent / "theirs-state")
    for name in ("random_states_0.pkl", "optimizer.bin"):
        held = {"state": Evil(tmp_path), "param_groups": [], "random_state": 1, "torch_manual_seed": 1}
        torch.save(held, theirs / name)
        sentence = refusal(make_config(**BASE, resume=str(theirs), rng_order="sd-scripts"))
        assert f"{name} cannot be read" in sentence
        assert "which is not done" in sentence
    assert not (tmp_path / "made").exists()


class Evil:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self._folder / "made"),))


@pytest.mark.parametrize(
    "held",
    [[], {"state": {}, "param_groups": [1]}, {"state": {}, "param_groups": [{"lr": 1.0}]},
     {"state": {0: {"exp_avg": 1}}, "param_groups": [{"params": [0]}]}, {"state": {"x": 1}, "param_groups": []}],
)  # fmt: skip
def test_an_optimizers_pickle_may_hold_anything(held):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises(RunError, match="resume with the settings"):
        check_optimizer(optimizer, held)
