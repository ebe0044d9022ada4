"""Several processes: who gets which batch, and a real training of two."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file

from kohyakit.formats import train_toml
from kohyakit.runs.registry import list_runs
from kohyakit.train.processes import allow_half_gradients, average_in_one, share_of
from kohyakit.train.start import train_network
from tests.train.tiny_sdxl import write_tiny_sdxl


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


def _launched(config, folder, processes: int) -> None:
    """Train a config in several processes of this machine's CPU, which talk over gloo."""
    file = folder / "several.toml"
    train_toml.write(config, file)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
               "-m", "kohyakit", "train", str(file), "--quiet"]  # fmt: skip
    # a GPU is hidden, or torch's barrier would look for a second one even among processes on the CPU
    hidden = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    there = {**os.environ, "OMP_NUM_THREADS": "1", **hidden}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=there)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def families(tiny_model, tmp_path_factory):
    """What each family is trained with; SDXL's captions are encoded ahead."""
    folder = write_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "model")
    cached = {"network_train_unet_only": True, "cache_text_encoder_outputs": True, "script": "sdxl_train_network.py"}
    return {"sd1": {}, "sdxl": {**cached, "pretrained_model_name_or_path": str(folder)}}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "processes"), [("sd1", 2), ("sdxl", 2), ("sdxl", 3)])
def test_several_processes_learn_what_one_learns_from_all_their_batches(
    make_config, tmp_path, families, family, processes
):
    """Six batches: three steps of two or two of three, beside one process that adds up as many before a step.

    Half of the layers are left out of each batch at random, so the processes have gradients for other layers; one
    step without momentum is the sum of gradients, so equal weights are equal gradients.
    """
    common = {"max_train_epochs": None, "max_train_steps": 6 // processes, "mixed_precision": "no",
              "learning_rate": 1.0, "optimizer_type": "SGD", "max_grad_norm": 0.0, "network_dropout": 0.2,
              "network_args": ["module_dropout=0.5", "rank_dropout=0.2"], **families[family]}  # fmt: skip
    alone = make_config(**common, gradient_accumulation_steps=processes, output_dir=str(tmp_path / "alone"))
    train_network(alone, progress=False, echo=lambda text: None)
    _launched(make_config(**common, ddp_timeout=9, output_dir=str(tmp_path / "together")), tmp_path, processes)
    ours = load_file(tmp_path / "together" / "tiny.safetensors")
    theirs = load_file(tmp_path / "alone" / "tiny.safetensors")
    assert set(ours) == set(theirs)
    assert sum(float(theirs[key].abs().sum()) for key in theirs if "lora_up" in key) > 0
    for key in theirs:
        assert torch.allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-7), key


_ASKED = """
import torch
from kohyakit.train.processes import Processes
Processes("no", patience=7)
world = torch.distributed.group.WORLD
print(torch.distributed.get_backend(), world._get_backend(torch.device("cpu")).options._timeout)
"""


@pytest.mark.slow
def test_processes_wait_as_long_as_asked():
    one = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    there = {**os.environ, **one, "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", _ASKED], capture_output=True, text=True, encoding="utf-8", env=there)
    assert done.stdout == "gloo 0:07:00\n", done.stderr[-2000:]


@pytest.mark.slow
def test_two_processes_train_one_lora(make_config, tmp_path):
    _launched(make_config(max_train_epochs=1, mixed_precision="no"), tmp_path, 2)
    (run,) = list_runs(tmp_path / "out")
    assert run.status == "finished"
    # 13 images with repeats in batches of two: 64x64 holds 12, 64x128 one; seven batches, four for each process
    assert run.record.steps == 4
    assert json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))["steps"] == 4
    with safe_open(tmp_path / "out" / "tiny.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_total_batch_size"] == "4"
    assert metadata["ss_num_batches_per_epoch"] == "4"
