"""The base model that ships for the demo: small, whole, in half precision, with the figures that it reached."""

from __future__ import annotations

import json

import pytest

from kohyakit.demo.base import write_base_model
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


def test_its_text_encoder_has_the_names_of_published_models(tmp_path):
    """transformers 4, which sd-scripts asks for, takes any other for a file without weights, and goes on at random."""
    load_file = pytest.importorskip("safetensors.torch").load_file
    written = load_file(write_base_model(tmp_path / "base") / "text_encoder" / "model.safetensors")
    shipped = load_file(base_model() / "text_encoder" / "model.safetensors")
    assert {
        "text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight",
        "text_model.encoder.layers.0.self_attn.k_proj.weight", "text_model.encoder.layers.0.mlp.fc1.bias",
        "text_model.encoder.layers.0.layer_norm1.weight", "text_model.final_layer_norm.bias",
    } <= set(written)  # fmt: skip
    assert all(name.startswith("text_model.") for name in written)
    assert {name.removeprefix("text_model.") for name in shipped} == {n.removeprefix("text_model.") for n in written}
    assert all(
        tensor.equal(written[f"text_model.{name.removeprefix('text_model.')}"]) for name, tensor in shipped.items()
    )
