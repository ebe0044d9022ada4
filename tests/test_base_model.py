"""The base model that ships for the demo: small, whole, in half precision, with the figures that it reached."""

from __future__ import annotations

import json

import pytest

from kohyakit.formats.weights import safetensors_header
from kohyakit.resources import base_model

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


def test_it_is_small_enough_for_the_wheel():
    files = [path for path in base_model().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12_000_000
    assert {path.relative_to(base_model()).parts[0] for path in files} == {*WEIGHTS, "figures.json"}


@pytest.mark.parametrize("part", WEIGHTS)
def test_every_weight_is_in_half_precision(part):
    header = safetensors_header.read(base_model() / part / WEIGHTS[part])
    assert len(header.tensors) > 30
    assert {tensor.dtype for tensor in header.tensors.values()} == {"F16"}


def test_its_figures_stand_beside_it():
    told = json.loads((base_model() / "figures.json").read_text(encoding="utf-8"))
    assert {"seed", "vae_steps", "unet_steps", "sharp_steps"} <= set(told)
    weights = sum((base_model() / part / name).stat().st_size for part, name in WEIGHTS.items())
    assert told["bytes"] == weights
    assert told["base"]["score"] > 0.8
