"""What counts where a parameter is not given stands in its declaration, and every reader takes it from there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kohyakit
from kohyakit.config.param import standing
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.runs.comparison.meaning import in_force

# As sd-scripts 0.10 reads a parameter that nobody gave, by its source.
SD_SCRIPTS = {
    "network_dim": 4, "clip_skip": 1, "max_token_length": 75, "min_timestep": 0, "max_timestep": 1000,
    "output_name": "last", "save_model_as": "safetensors", "optimizer_type": "AdamW",
}  # fmt: skip


@pytest.mark.parametrize("name", SD_SCRIPTS)
def test_what_sd_scripts_takes(name: str) -> None:
    config = TrainConfig()
    assert standing(getattr(config, SPECS()[name].section), name) == SD_SCRIPTS[name]
    assert in_force(name, {}) == SD_SCRIPTS[name]


def test_the_config_tells_what_is_in_force() -> None:
    plain = TrainConfig()
    assert (plain.network.rank, plain.network.module) == (4, "networks.lora")
    assert (plain.model.tokens, plain.model.skip, plain.noise_loss.timesteps) == (75, 1, (0, 1000))
    assert (plain.saving.name, plain.saving.extension, plain.optimizer.in_force) == ("last", ".safetensors", "AdamW")
    asked = plain.with_values(
        network_dim=16, max_token_length=225, min_timestep=100, max_timestep=0, output_name="dog", save_model_as="pt",
        learning_rate=1e-4, text_encoder_lr=(5e-5, 1e-5), use_8bit_adam=True,
    )  # fmt: skip
    assert (asked.network.rank, asked.model.tokens, asked.noise_loss.timesteps) == (16, 225, (100, 0))
    assert (asked.saving.name, asked.saving.extension, asked.optimizer.in_force) == ("dog", ".pt", "AdamW8bit")
    assert (asked.optimizer.unet_rate, asked.optimizer.text_rate) == (1e-4, 5e-5)


def test_no_other_file_says_what_an_absent_parameter_counts_as() -> None:
    """`config.network.network_dim or 4` anywhere else would be a second truth."""
    named = {name for name, spec in SPECS().items() if spec.about.unset not in (None, 0)}
    found = []
    room = Path(kohyakit.__file__).parent
    for file in room.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or)):
                continue
            first, last = node.values[0], node.values[-1]
            name = first.attr if isinstance(first, ast.Attribute) else ""
            if name in named and isinstance(last, ast.Constant) and last.value == SPECS()[name].about.unset:
                found.append(f"{file.relative_to(room)}:{node.lineno} {name}")
    assert found == []
