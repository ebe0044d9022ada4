"""Full memory is one sentence with what to change, in the training and in its samples."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from kohyakit.config.train import TrainConfig
from kohyakit.errors import RunError
from kohyakit.train.callbacks import Quiet
from kohyakit.train.out_of_memory import is_out_of_memory, out_of_memory
from kohyakit.train.start import train_network

CUDA = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.79 GiB, 4.00 MiB is free."


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError(CUDA), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: not enough memory: you tried"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError(CUDA), False),
    ],
)
def test_what_counts_as_full_memory(error, full):
    assert is_out_of_memory(error) == full
    assert (out_of_memory(error, TrainConfig(), "step 1") is not None) == full


@pytest.mark.parametrize(
    ("values", "cures"),
    [
        ({"train_batch_size": 4}, ["cache_latents", "gradient_checkpointing", "mixed_precision", "train_batch_size"]),
        ({"mixed_precision": "bf16", "random_crop": True}, ["gradient_checkpointing"]),
        ({"mixed_precision": "fp16", "gradient_checkpointing": True, "cache_latents": True}, []),
    ],
)
def test_only_what_is_not_in_force_is_advised(values, cures):
    said = str(out_of_memory(torch.OutOfMemoryError(CUDA), TrainConfig().with_values(**values), "step 3, epoch 1"))
    assert said.startswith("step 3, epoch 1: the GPU's memory is full")
    assert said.endswith("lower resolution")
    names = ("cache_latents", "gradient_checkpointing", "mixed_precision", "train_batch_size")
    assert [name for name in names if name in said] == cures


def test_a_training_that_fills_the_memory_ends_with_a_sentence_and_keeps_its_steps(make_config, tmp_path):
    class Filling(Quiet):
        def seen(self, seen) -> None:
            if seen.position == 2:
                raise torch.OutOfMemoryError(CUDA)

    with pytest.raises(RunError, match=r"step 3, epoch 1: the GPU's memory is full.*gradient_checkpointing") as caught:
        train_network(make_config(), progress=False, echo=lambda text: None, callbacks=[Filling()])
    assert caught.value.exit_code == 2
    (run,) = (tmp_path / "out" / "runs").glob("1*")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "failed"
    assert "memory is full" in record["outcome"]
    assert (tmp_path / "out" / "tiny-step00000002.safetensors").exists()


def test_before_the_first_step_it_says_so(make_config):
    def echo(line: str) -> None:
        if line.startswith("loading"):
            raise torch.OutOfMemoryError(CUDA)

    with pytest.raises(RunError, match="before the first step: the GPU's memory is full"):
        train_network(make_config(), progress=False, echo=echo)


def test_a_sample_that_fills_the_memory_is_told_and_the_training_goes_on(make_config):
    class Filling(Quiet):
        """Full as soon as the network is used without being trained."""

        def ready(self, trained) -> None:
            for _, layer in trained.layers():
                layer.register_forward_hook(self.full)

        def full(self, layer, inputs, output) -> None:
            if not layer.training:
                raise torch.OutOfMemoryError(CUDA)

    prompt = {"sample_prompts": "town --w 64 --h 64 --s 2", "sample_every_n_epochs": 1}
    run = train_network(make_config(max_train_epochs=1, **prompt), progress=False, echo=lambda text: None,
                        callbacks=[Filling()])  # fmt: skip
    assert run.status == "finished"
    log = run.log_file.read_text(encoding="utf-8")
    assert "the GPU's memory is full; smaller pictures" in log
