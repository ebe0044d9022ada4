"""The verdict on what a training wrote: kept in its record, told in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from kohyakit.lora.inspect import inspect
from kohyakit.lora.verdict import judge_run
from kohyakit.runs.run import Checkpoint, Record, Run, open_run
from kohyakit.runs.verdict import sentences
from tests.lora.made import made


def judged(project: Path, state: dict[str, torch.Tensor]) -> Run:
    folder = project / "runs" / "1a"
    folder.mkdir(parents=True)
    save_file(state, project / "dog.safetensors")
    run = Run(folder, Record(version="1a"))
    run.update(status="finished", checkpoints=(Checkpoint("old.safetensors"), Checkpoint("dog.safetensors")))
    judge_run(run)
    return open_run(folder)


def test_who_reads_it_and_who_does_not(tmp_path: Path) -> None:
    """LoHa: A1111, ComfyUI, Forge and InvokeAI compute it, diffusers 0.3x has no place for it; see docs/lora.md."""
    run = judged(tmp_path, made("sd1", "loha"))
    assert run.record.verdict["file"] == "dog.safetensors"
    told = {text.split(" ")[0]: severity for severity, text in sentences(run.record.verdict) if severity != "good"}
    assert told["diffusers"] == "warning"
    (good,) = [text for severity, text in sentences(run.record.verdict) if severity == "good"]
    assert "A1111" in good
    assert "ComfyUI" in good
    assert "diffusers" not in good


def test_a_broken_file_is_a_finding(tmp_path: Path) -> None:
    state = made("sd1")
    name = next(name for name in state if name.endswith("lora_up.weight"))
    state[name] = torch.full_like(state[name], float("nan"))
    severities = {severity for severity, _ in sentences(judged(tmp_path, state).record.verdict)}
    assert "error" in severities


def test_a_run_whose_files_are_gone_has_no_verdict(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "1a"
    folder.mkdir(parents=True)
    run = Run(folder, Record(version="1a"))
    run.update(status="finished", checkpoints=(Checkpoint("dog.safetensors"),), verdict={"file": "kept"})
    assert judge_run(run).record.verdict == {"file": "kept"}
    assert judge_run(run.update(verdict={})).record.verdict == {}


def test_a_record_from_a_stranger_says_nothing_it_should_not() -> None:
    assert list(sentences({"problems": "x", "programs": [3, {"name": "A", "lost": 1}], "file": 7})) == [
        ("warning", "A loses 1 layer")
    ]


@pytest.mark.parametrize(
    ("version", "family"),
    [("sd_v1", "sd1"), ("sd_v2_v", "sd2"), ("sdxl_base_v1-0", "sdxl"), ("sd_1.5", "sd1"), ("sdxl_1.0", "sdxl"),
     ("tiny_v1", ""), ("wan2_v2", ""), ("", "")],
)  # fmt: skip
def test_a_record_names_a_family_or_none(tmp_path: Path, version: str, family: str) -> None:
    """Where the layers' widths tell nothing; names as sd-scripts and other trainers write them."""
    path = tmp_path / "a.safetensors"
    tensors = {f"lora_unet_x.{end}": torch.ones(2, 2) for end in ("lora_up.weight", "lora_down.weight")}
    save_file(tensors, path, {"ss_base_model_version": version})
    assert inspect(path).family == family
