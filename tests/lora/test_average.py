"""Saves of one training averaged: the mean worked out by hand, the shares by their integral, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kohyakit.errors import ConfigError
from kohyakit.lora.average import WIDEST, average, exponent_of, power_shares
from tests import door

LAYER = "lora_unet_down_blocks_0_attentions_0"


def save(path: Path, seed: int, steps: int | None, rank: int = 2, alpha: float = 1.0, near: float = 1.0) -> Path:
    """near: how much of it is its own, beside what all have."""
    common, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    state = {"dora_scale": (1, 6), "lora_up.weight": (5, rank), "lora_down.weight": (rank, 6)}
    tensors = {
        f"{LAYER}.{name}": torch.randn(shape, generator=common) + near * torch.randn(shape, generator=own)
        for name, shape in state.items()
    }
    if seed < 100:  # the others are DoRAs
        tensors.pop(f"{LAYER}.dora_scale")
    tensors[f"{LAYER}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path, {"ss_network_dim": str(rank), **({"ss_steps": str(steps)} if steps else {})})
    return path


@pytest.fixture
def saves(tmp_path: Path) -> list[Path]:
    return [save(tmp_path / f"dog-{steps}.safetensors", steps, steps) for steps in (30, 10, 20)]


def test_a_plain_mean_of_each_tensor(saves: list[Path], tmp_path: Path) -> None:
    done = average(saves, tmp_path / "mean.safetensors")
    found, files = load_file(tmp_path / "mean.safetensors"), [load_file(path) for path in saves]
    for name, tensor in found.items():
        wanted = np.mean([file[name].numpy() for file in files], axis=0)
        assert tensor.numpy() == pytest.approx(wanted, abs=1e-6)
    assert [(one.path.stem, one.steps) for one in done.shares] == [("dog-10", 10), ("dog-20", 20), ("dog-30", 30)]
    with safe_open(tmp_path / "mean.safetensors", "pt") as file:
        assert file.metadata()["ss_steps"] == "30"  # of the last one
        assert file.metadata()["modelspec.merged_from"] == "dog-10, dog-20, dog-30"


def test_how_far_it_is_from_the_mean_of_the_updates(saves: list[Path], tmp_path: Path) -> None:
    def update(path: Path) -> np.ndarray:
        file = load_file(path)
        return 0.5 * file[f"{LAYER}.lora_up.weight"].numpy() @ file[f"{LAYER}.lora_down.weight"].numpy()

    done = average(saves, tmp_path / "mean.safetensors")
    wanted = np.mean([update(path) for path in saves], axis=0)
    off = np.linalg.norm(update(tmp_path / "mean.safetensors") - wanted) / np.linalg.norm(wanted)
    assert done.errors == {LAYER: pytest.approx(off, rel=1e-4)}
    near = [save(tmp_path / f"near-{steps}.safetensors", steps, steps, near=0.01) for steps in (1, 2)]
    assert average(near, tmp_path / "close.safetensors").errors[LAYER] < 1e-3


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25, WIDEST])
def test_the_shares_are_those_of_the_profile(width: float) -> None:
    exponent = exponent_of(width)
    times = (np.arange(200_000) + 0.5) / 200_000
    weights = times**exponent / (times**exponent).sum()
    mean = (weights * times).sum()
    assert np.sqrt((weights * (times - mean) ** 2).sum()) == pytest.approx(width, rel=1e-3)
    steps = [100, 300, 350, 400]
    nearest = np.abs(times[:, None] * 400 - np.array(steps)).argmin(axis=1)
    wanted = [float(weights[nearest == place].sum()) for place in range(4)]
    assert power_shares(steps, exponent) == pytest.approx(wanted, abs=1e-4)


def test_dora_is_averaged_too_and_its_update_not_told(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{seed}.safetensors", seed, seed) for seed in (100, 200)]
    assert average(files, tmp_path / "mean.safetensors").errors == {}
    one, two, mean = (load_file(path)[f"{LAYER}.dora_scale"] for path in (*files, tmp_path / "mean.safetensors"))
    assert torch.allclose(mean, (one + two) / 2)


def test_what_is_not_of_one_training_is_refused_with_every_reason(saves: list[Path], tmp_path: Path) -> None:
    other = [
        save(tmp_path / "wide.safetensors", 1, 40, rank=4), save(tmp_path / "strong.safetensors", 2, 50, alpha=2.0),
        save(tmp_path / "silent.safetensors", 3, None),
    ]  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        average([*saves, *other], tmp_path / "mean.safetensors", width=0.1)
    told = {(Path(problem.where).stem, problem.name) for problem in raised.value.problems}
    assert told == {("wide", "not_one_training"), ("strong", "not_one_training"), ("silent", "steps_unknown")}
    assert not (tmp_path / "mean.safetensors").exists()
    with pytest.raises(ConfigError, match="one file has no average"):
        average(saves[:1], tmp_path / "mean.safetensors")
    with pytest.raises(ConfigError, match=r"0\.3, but a width"):
        average(saves, tmp_path / "mean.safetensors", width=0.3)


def test_the_command(saves: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "mean.safetensors"
    done = door.kohyakit("lora", "average", *saves, "-o", target, "--width", 0.25)
    assert done.returncode == 0
    assert f"wrote {target}: the mean of 3 files" in done.stdout
    assert "dog-30.safetensors  step 30" in done.stdout
    assert "1 layers are not the mean of the updates" in done.stdout
