"""The verdict on what a training wrote: kept in its record, told in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

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
    assert told["diffusers"] == "error"
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
    run = judged(tmp_path, made("sd1"))
    (tmp_path / "dog.safetensors").unlink()
    before = run.record.verdict
    assert judge_run(run).record.verdict == before


def test_a_record_from_a_stranger_says_nothing_it_should_not() -> None:
    assert list(sentences({"problems": "x", "programs": [3, {"name": "A", "lost": 1}], "file": 7})) == [
        ("error", "A loses 1 layer")
    ]
