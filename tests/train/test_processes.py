"""Several processes: who gets which batch, and a real training of two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file

from kohyakit.config.train import TrainConfig
from kohyakit.formats import train_toml
from kohyakit.runs.logs.metrics import read_scalars
from kohyakit.runs.registry import list_runs
from kohyakit.train.processes import allow_half_gradients, average_in_one, share_of
from kohyakit.train.start import train_network
from tests.train.tiny_sdxl import write_tiny_sdxl

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("items", "count", "expected"),
    [
        (6, 2, [[0, 2, 4], [1, 3, 5]]),
        (5, 2, [[0, 2, 4], [1, 3, 0]]),
        (4, 3, [[0, 3], [1, 0], [2, 1]]),
        (1, 3, [[0], [0], [0]]),
        (3, 1, [[0, 1, 2]]),
    ],
)
def test_every_process_gets_as_many_batches(items, count, expected):
    assert [list(share_of(range(items), rank, count)) for rank in range(count)] == expected


def test_full_fp16_unscales_gradients_in_fp16():
    """torch's scaler refuses them; by hand: a gradient of 0.5 × 8 over a scale of 8 moves 1 by 0.1 × 0.5."""
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    (scaler.scale(weight.float().sum() * 0.5)).backward()
    with pytest.raises(ValueError, match="unscale FP16"):
        scaler.unscale_(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    allow_half_gradients(scaler)
    scaler.scale(torch.zeros(()))  # a scaler makes its scale at the first use
    scaler.step(optimizer)
    assert torch.allclose(weight.float(), torch.full((2,), 0.95), atol=1e-3)


def _parameters(*gradients: list[float] | None) -> list[torch.nn.Parameter]:
    found = []
    for gradient in gradients:
        found.append(torch.nn.Parameter(torch.zeros(len(gradient or [0.0, 0.0]))))
        found[-1].grad = torch.tensor(gradient) if gradient else None
    return found


def test_a_gradient_that_one_process_lacks_counts_as_zero_there():
    """By hand: (2, 4) and nothing is (1, 2); nothing and nothing is nothing; (1, 1) and (3, 5) is (2, 3)."""
    here = _parameters([2.0, 4.0], None, [1.0, 1.0])
    there = torch.tensor([0.0, 0.0, 0.0, 0.0, 3.0, 5.0, 0.0, 0.0, 1.0])  # three gradients, and which of them are real
    messages = []

    def add_up(bucket: torch.Tensor) -> torch.Tensor:
        messages.append(bucket)
        return bucket + there

    average_in_one(here, add_up, 2)
    assert len(messages) == 1
    assert here[0].grad.tolist() == [1.0, 2.0]
    assert here[1].grad is None
    assert here[2].grad.tolist() == [2.0, 3.0]


# Each process trains one config after the other, as if it were started for each, and says how it waits for others.
_TRAIN = """
import sys, torch
from kohyakit.cli import main
for file in sys.argv[1:]:
    try:
        main(["train", file, "--quiet"])
    except SystemExit as end:
        assert not end.code, (file, end.code)
world = torch.distributed.group.WORLD
print(torch.distributed.get_backend(), world._get_backend(torch.device("cpu")).options._timeout)
"""


def _launched(folder: Path, processes: int, *configs: TrainConfig) -> list[str]:
    """Train configs in several processes of this machine's CPU, which talk over gloo; what they print."""
    program = folder / "program.py"
    program.write_text(_TRAIN, encoding="utf-8")
    files = [folder / f"{number}.toml" for number, _ in enumerate(configs)]
    for config, file in zip(configs, files, strict=True):
        train_toml.write(config, file)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    # a GPU is hidden, or torch's barrier would look for a second one even among processes on the CPU
    hidden = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    there = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **hidden}
    done = subprocess.run(
        [*command, str(program), *map(str, files)], capture_output=True, text=True, encoding="utf-8", env=there
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def families(tiny_model, tmp_path_factory):
    """What each family is trained with; SDXL's captions are encoded ahead."""
    folder = write_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "model")
    cached = {"network_train_unet_only": True, "cache_text_encoder_outputs": True, "script": "sdxl_train_network.py"}
    return {"sd1": {}, "sdxl": {**cached, "pretrained_model_name_or_path": str(folder)}}


def _exact(processes: int) -> dict[str, object]:
    """Six batches: three steps of two or two of three.

    Half of the layers are left out of each batch at random, so the processes have gradients for other layers; one
    step without momentum is the sum of gradients, so equal weights are equal gradients.
    """
    return {"max_train_epochs": None, "max_train_steps": 6 // processes, "mixed_precision": "no",
            "learning_rate": 1.0, "optimizer_type": "SGD", "max_grad_norm": 0.0, "network_dropout": 0.2,
            "network_args": ["module_dropout=0.5", "rank_dropout=0.2"], "fixed_noises": 2,
            "validate_every_n_steps": 2}  # fmt: skip


# as sd-scripts measures, a batch in each process; nothing is learnt, so that only the batches tell
_HELD_BACK = {
    "rng_order": "sd-scripts", "validation_split": 0.4, "validation_seed": 3, "max_validation_steps": 1,
    "max_train_epochs": 1, "learning_rate": 1e-12, "mixed_precision": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def two(config_into, families, tmp_path_factory):
    """Two processes' trainings: each family exactly, photos held back, an epoch of the usual (folder, what is said)."""
    home = tmp_path_factory.mktemp("two")
    exact = [config_into(home / name, **_exact(2), **families[name], ddp_timeout=9) for name in ("sd1", "sdxl")]
    usual = config_into(home / "usual", max_train_epochs=1, mixed_precision="no")
    held_back = config_into(home / "held back", **_HELD_BACK)
    return home, _launched(home, 2, *exact, held_back, usual)


@pytest.fixture(scope="module")
def three(config_into, families, tmp_path_factory):
    home = tmp_path_factory.mktemp("three")
    return home, _launched(home, 3, config_into(home / "sdxl", **_exact(3), **families["sdxl"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "number", "processes"), [("sd1", "two", 2), ("sdxl", "two", 2), ("sdxl", "three", 3)]
)
def test_several_processes_learn_what_one_learns_from_all_their_batches(
    request, make_config, tmp_path, families, family, number, processes
):
    """Beside one process that adds up as many batches before a step."""
    together, _ = request.getfixturevalue(number)
    train_network(
        make_config(**_exact(processes), **families[family], gradient_accumulation_steps=processes),
        progress=False, echo=lambda text: None,
    )  # fmt: skip
    ours, theirs = load_file(together / family / "out/tiny.safetensors"), load_file(tmp_path / "out/tiny.safetensors")
    assert set(ours) == set(theirs)
    assert sum(float(theirs[key].abs().sum()) for key in theirs if "lora_up" in key) > 0
    for key in theirs:
        assert torch.allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-7), key
    measured = validations(tmp_path / "out")
    assert list(measured) == ["loss/fixed_noise/step_average", "loss/fixed_noise/step_error"]
    assert validations(together / family / "out") == pytest.approx(measured, rel=1e-4)


def validations(project: Path) -> dict[str, float]:
    """What was measured on photos or with noise of their own, the last of each tag."""
    (run,) = list_runs(project)
    frame = read_scalars(run.folder)
    rows = frame[frame["tag"].str.contains("validation|fixed_noise")].sort_values("step")
    return dict(sorted(zip(rows["tag"], rows["value"], strict=True)))


@pytest.mark.slow
def test_as_in_sd_scripts_the_first_process_measures_its_own_batches(two, make_config, tmp_path):
    """It gathers nothing, so what one process finds in the first batch alone is what two log."""
    train_network(make_config(**_HELD_BACK), progress=False, echo=lambda text: None)
    ours, theirs = validations(two[0] / "held back/out"), validations(tmp_path / "out")
    name = "loss/validation/epoch_average"
    assert ours[name] == pytest.approx(theirs[name], rel=1e-5)


@pytest.mark.slow
def test_processes_wait_as_long_as_asked(two):
    _, said = two
    assert said == ["gloo 0:09:00"] * 2


@pytest.mark.slow
def test_two_processes_train_one_lora(two):
    home, _ = two
    (run,) = list_runs(home / "usual" / "out")
    assert run.status == "finished"
    # 13 images with repeats in batches of two: 64x64 holds 12, 64x128 one; seven batches, four for each process
    assert run.record.steps == 4
    assert json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))["steps"] == 4
    with safe_open(home / "usual" / "out" / "tiny.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_total_batch_size"] == "4"
    assert metadata["ss_num_batches_per_epoch"] == "4"
