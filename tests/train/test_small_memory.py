"""Trainings with what saves memory, held against the same trainings without it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file

from kohyakit.train.start import train_network
from tests.train.observers import Losses

SHORT = {"max_train_epochs": None, "max_train_steps": 2}


def rounded(name: str, weight: torch.Tensor, scaled: bool) -> torch.Tensor:
    """What is left of a weight in float8_e4m3fn.

    scaled: of matrices within blocks, a row by the least power of two with which 448 is not exceeded.
    """
    scale = torch.ones(())
    if scaled:
        if weight.ndim < 2 or not re.search(r"\.\d+\.", name):
            return weight
        largest = weight.flatten(1).abs().amax(dim=1).clamp(min=2.0**-30)
        scale = (2 ** (largest / 448).log2().ceil()).view(-1, *[1] * (weight.ndim - 1))
    return (weight / scale).to(torch.float8_e4m3fn).float() * scale


@pytest.fixture(scope="module")
def rounded_model(tiny_model, tmp_path_factory):
    """rounded_model(scaled) -> the tiny model with the numbers in its U-Net rounded before it is read."""

    def make(scaled: bool) -> Path:
        folder = tmp_path_factory.mktemp("rounded") / "model"
        shutil.copytree(tiny_model, folder)
        file = folder / "unet/diffusion_pytorch_model.safetensors"
        save_file({name: rounded(name, weight, scaled) for name, weight in load_file(file).items()}, file)
        return folder

    return make


def losses(config) -> list[float]:
    heard = Losses()
    train_network(config, progress=False, echo=lambda text: None, callbacks=[heard])
    return heard.heard


@pytest.mark.parametrize("scaled", [True, False], ids=["a scale for each row", "as sd-scripts"])
def test_a_base_in_8_bits_trains_as_one_whose_file_was_rounded(make_config, rounded_model, tmp_path, scaled):
    common = SHORT | {
        "mixed_precision": "bf16",
        "train_batch_size": 1,
        "rng_order": "kohyakit" if scaled else "sd-scripts",
    }
    model = rounded_model(scaled)
    plain = losses(make_config(**common, pretrained_model_name_or_path=str(model), output_dir=str(tmp_path / "b")))
    ours = losses(make_config(**common, fp8_base=True))
    assert ours == pytest.approx(plain, rel=1e-5)


@pytest.fixture(scope="module")
def without(config_into, tmp_path_factory):
    """The plain training of the next test, with a sample in between: its folder and losses."""
    folder = tmp_path_factory.mktemp("without")
    return folder / "out", losses(config_into(folder, **SHORT, **SAMPLES))


SAMPLES = {"sample_prompts": "town --w 64 --h 64 --s 2 --d 1", "sample_every_n_steps": 1}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"blocks_to_swap": 2}, "2 transformer blocks of 10 in main memory"),
        ({"blocks_to_swap": 99, "lowram": True}, "10 transformer blocks of 10 in main memory"),
        ({"cpu_offload_checkpointing": True, "blocks_to_swap": 3}, "3 transformer blocks of 10 in main memory"),
    ],
    ids=["two", "all", "checkpoints too"],
)  # fmt: skip
def test_what_saves_memory_changes_nothing_in_the_lora(config_into, without, tmp_path, values, said):
    from PIL import Image

    folder, expected = without
    config = config_into(tmp_path, **SHORT, **SAMPLES, **values, gradient_checkpointing=True)
    assert losses(config) == pytest.approx(expected, rel=1e-6)
    ours, theirs = (load_file(place / "tiny.safetensors") for place in (tmp_path / "out", folder))
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in theirs)
    drawn = [sorted((place / "sample").glob("*.png")) for place in (tmp_path / "out", folder)]
    assert len(drawn[0]) == 2
    for one, other in zip(*drawn, strict=True):
        assert Image.open(one).tobytes() == Image.open(other).tobytes()
    (run,) = (tmp_path / "out/runs").glob("1*")
    assert said in (run / "log.txt").read_text(encoding="utf-8")
    assert json.loads((run / "plan.json").read_text(encoding="utf-8"))["memory"]["waiting"] > 0
