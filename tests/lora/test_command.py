"""The commands as a person types them: each writes what it says, and refuses in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner
from safetensors.torch import load_file

from kohyakit.cli import group
from kohyakit.networks.file import save_lora

NAME = "lora_unet_up_blocks_1_attentions_0_proj_in"


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return write(tmp_path / "a.safetensors", 0)


def write(path: Path, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    state = {
        f"{NAME}.lora_up.weight": torch.randn(40, 8, generator=generator),
        f"{NAME}.lora_down.weight": torch.randn(8, 30, generator=generator),
        f"{NAME}.alpha": torch.tensor(4.0),
    }
    save_lora(path, state, None, {"ss_network_dim": "8", "ss_output_name": "cat"})
    return path


def run(*arguments: object):
    return CliRunner().invoke(group, ["lora", *map(str, arguments)])


def test_check_shows_and_gives_json(lora: Path) -> None:
    shown = run("check", lora, "--layers", "--for", "ComfyUI")
    assert shown.exit_code == 0
    assert "1 lora, rank 8" in shown.output
    assert NAME in shown.output
    (data,) = json.loads(run("check", lora, "--json").output)
    assert (data["methods"], data["layers"][0]["alpha"]) == ({"lora": 1}, 4.0)


def test_a_broken_file_exits_with_1(tmp_path: Path) -> None:
    state = {f"{NAME}.lora_up.weight": torch.full((4, 2), float("nan")), f"{NAME}.lora_down.weight": torch.ones(2, 4)}
    save_lora(tmp_path / "b.safetensors", state, None, {})
    result = run("check", tmp_path / "b.safetensors")
    assert result.exit_code == 1
    assert "NaN" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["merge", "{a}:0.5", "{b}:-0.25", "-o", "{o}", "--rank", "3"], "1 layers are not the exact sum"),
        (["merge", "{a}", "{b}", "-o", "{o}", "--block", "up 1=0.5", "--save-precision", "fp16"], "wrote"),
        (["merge", "{a}:0.5", "{b}", "-o", "{o}", "--as-sd-scripts", "--concat"], "1 layers, as merge_lora.py would"),
        (["resize", "{a}", "--rank", "2", "-o", "{o}"], "rank 2,"),
        (["resize", "{a}", "--size", "1kb", "-o", "{o}"], "rank 3,"),  # 280 bytes a direction in fp32
        (["convert", "{a}", "--to", "diffusers", "-o", "{o}", "--fold-alpha"], "wrote"),
        (["strip", "{a}", "-o", "{o}"], "1 entries taken out"),
        (["set", "{a}", "modelspec.title=Cat", "ss_output_name=", "-o", "{o}"], "wrote"),
    ],
)
def test_each_writes_a_file(lora: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    other, out = write(tmp_path / "b.safetensors", 1), tmp_path / "out.safetensors"
    before = lora.read_bytes()
    result = run(*(text.format(a=lora, b=other, o=out) for text in arguments))
    assert result.exit_code == 0, result.output
    assert said in result.output
    assert load_file(out)
    assert lora.read_bytes() == before


def test_diff_and_pair(lora: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "b.safetensors", 1)
    assert "up 1" in run("diff", lora, other).output
    assert "both can be used" in run("pair", lora, other).output or "about" in run("pair", lora, other).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resize", "{a}", "-o", "{o}"], "no rule is given"),
        (["resize", "{a}", "--rank", "2", "--keep", "0.5", "-o", "{o}"], "more than one rule"),
        (["resize", "{a}", "--of-base", "0.1", "-o", "{o}"], "no model is given to measure by"),
        (["resize", "{a}", "--rank", "2", "--base", "{a}", "-o", "{o}"], "is looked at by --of-base and --size only"),
        (["resize", "{a}", "--size", "big", "-o", "{o}"], "no size"),
        (["merge", "{a}", "--block", "up 1", "-o", "{o}"], "no BLOCK=FACTOR"),
        (["merge", "{a}", "-o", "{a}"], "is there already"),
        (["merge", "{a}", "-o", "{o}", "--concat"], "--concat: does not go with a true sum"),
        (["merge", "{a}", "-o", "{o}", "--as-sd-scripts", "--rank", "2"], "--rank: does not go with"),
        (["merge", "{a}", "-o", "{o}", "--into", "{a}"], "no Stable Diffusion checkpoint"),
        (["check", "{o}"], "no such file"),
    ],
)
def test_wrong_use_is_one_sentence(lora: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run(*(text.format(a=lora, o=tmp_path / "out.safetensors") for text in arguments))
    assert result.exit_code != 0
    assert said in str(result.exception)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "{a}", "modelspec.title=Cat", "-o", "{o}"],
        ["strip", "{a}", "-o", "{o}"],
        ["merge", "{a}", "{a}", "-o", "{o}"],
        ["resize", "{a}", "--rank", "2", "-o", "{o}"],
    ],
)
def test_a_waiting_draft_that_is_a_link_is_not_followed(lora: Path, tmp_path: Path, arguments: list[str]) -> None:
    outside, out = tmp_path / "outside.txt", tmp_path / "out.safetensors"
    outside.write_bytes(b"somebody else's")
    waiting = tmp_path / "out.safetensors.part"
    waiting.symlink_to(outside)
    result = run(*(text.format(a=lora, o=out) for text in arguments))
    assert result.exit_code == 0, result.output
    assert outside.read_bytes() == b"somebody else's"
    assert not out.is_symlink()
    assert not waiting.is_symlink()
    assert load_file(out)
