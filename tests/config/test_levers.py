"""What saves memory or time elsewhere and cannot be had here: refused with the reason, or said to be needless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kohyakit.config.rules.not_in_process import unsupported
from kohyakit.config.train import TrainConfig
from kohyakit.planning import machine
from kohyakit.planning.findings import config_findings

LORA = {"network_module": "networks.lora", "network_dim": 4}


@pytest.mark.parametrize(
    ("values", "severity", "words"),
    [
        ({"deepspeed": True}, "error", "with fp8_base or blocks_to_swap"),
        ({"extra_accelerate_launch_args": "--quiet --use_fsdp --fsdp_version 2"}, "error", "--use_fsdp splits"),
        ({"extra_accelerate_launch_args": "--use-deepspeed"}, "error", "with fp8_base or blocks_to_swap"),
        ({"blocks_to_swap": 4}, "error", "gradient_checkpointing"),
        ({"torch_compile": True, "dynamo_backend": "tvm"}, "error", "not tvm"),
        ({"cpu_offload_checkpointing": True}, "warning", "no checkpoints"),
        ({"joined_qkv": True, "network_module": "networks.oft"}, "warning", "networks.oft is computed as without"),
        ({"joined_qkv": True, "network_module": "lycoris.kohya"}, "warning", "lycoris.kohya is computed as without"),
        ({"fused_backward_pass": True, "optimizer_type": "Adafactor"}, "hint", "those of a LoRA are few"),
        ({"xformers": True}, "hint", "sdpa"),
        ({"mem_eff_attn": True}, "hint", "sdpa"),
        ({"ddp_static_graph": True}, "hint", "one message"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_is_asked_for_is_answered(values: dict[str, Any], severity: str, words: str) -> None:
    (found,) = unsupported(TrainConfig().with_values(**LORA | values))
    assert found.severity == severity
    assert words in f"{found.what} {found.cure}"


@pytest.mark.parametrize(
    "values",
    [
        {"blocks_to_swap": 4, "gradient_checkpointing": True},
        {"cpu_offload_checkpointing": True, "gradient_checkpointing": True},
        {"torch_compile": True},
        {"joined_qkv": True},
        {"joined_qkv": True, "network_module": "networks.lora_fa"},
        {"dynamo_backend": "tvm"},
        {"fp8_base": True, "mixed_precision": "bf16"},
        {"fp8_base_unet": True, "mixed_precision": "bf16", "script": "sdxl_train_network.py"},
    ],
    ids=lambda value: next(iter(value)),
)
def test_what_is_done_here_is_not_spoken_of(values: dict[str, Any]) -> None:
    assert unsupported(TrainConfig().with_values(**LORA | values)) == ()


def test_what_the_trainer_here_reads_has_an_effect_there_only() -> None:
    config = TrainConfig().with_values(**LORA, blocks_to_swap=4, text_encoder_batch_size=8, t5xxl="t5.safetensors")
    said = {backend: [p.what for p in config_findings(config, backend) if "does not read" in p.what]
            for backend in ("kohyakit", "sd-scripts")}  # fmt: skip
    assert [what.split()[4].rstrip(",") for what in said["kohyakit"]] == ["t5xxl"]
    assert len(said["sd-scripts"]) == 3


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CXX", "")

    def names(**values: Any) -> list[str]:
        return [found.name for found in machine.machine_problems(TrainConfig().with_values(**LORA, **values))]

    monkeypatch.setenv("PATH", str(tmp_path))
    assert names(torch_compile=True) == ["compiler_missing"]
    assert names(torch_compile=True, dynamo_backend="aot_eager") == names() == []
    compiler = tmp_path / "my-c++"
    compiler.write_text("#!/bin/sh\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert names(torch_compile=True) == []


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_what_splits_a_model_between_gpus_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    (found,) = machine.machine_problems(TrainConfig().with_values(**LORA))
    assert found.severity == "error"
    assert "between GPUs" in found.what
    assert "fp8_base or blocks_to_swap" in found.cure
