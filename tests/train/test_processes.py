"""Several processes: who gets which batch, and a real training of two."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from safetensors import safe_open

from kohyakit.formats import train_toml
from kohyakit.runs.registry import list_runs
from kohyakit.train.processes import share_of


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


@pytest.mark.slow
def test_two_processes_train_one_lora(make_config, tmp_path):
    config = tmp_path / "two.toml"
    train_toml.write(make_config(max_train_epochs=1, mixed_precision="no"), config)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               "-m", "kohyakit.train", str(config), "--quiet"]  # fmt: skip
    there = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
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
