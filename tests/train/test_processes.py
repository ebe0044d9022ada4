"""Several processes: who gets which batch, and a real training of two."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open

from kohyakit.formats import train_toml
from kohyakit.runs.registry import list_runs
from kohyakit.train.processes import allow_half_gradients, share_of


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


@pytest.mark.slow
def test_two_processes_train_one_lora(make_config, tmp_path):
    config = tmp_path / "two.toml"
    train_toml.write(make_config(max_train_epochs=1, mixed_precision="no"), config)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               "-m", "kohyakit.train", str(config), "--quiet"]  # fmt: skip
    # a GPU is hidden, or torch's barrier would look for a second one even among processes on the CPU
    hidden = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    there = {**os.environ, "OMP_NUM_THREADS": "1", **hidden}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=there)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = list_runs(tmp_path / "out")
    assert run.status == "finished"
    # 13 images with repeats in batches of two: 64x64 holds 12, 64x128 one; seven batches, four for each process
    assert run.record.steps == 4
    with safe_open(tmp_path / "out" / "tiny.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_total_batch_size"] == "4"
    assert metadata["ss_num_batches_per_epoch"] == "4"
