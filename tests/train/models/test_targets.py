"""The layers told without torch are those of the models that torch builds, and come in sd-scripts' order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from torch import nn

from kohyakit.models import Model, build_meta, load_model
from kohyakit.planning.size import layers
from kohyakit.planning.size.architecture import read_architecture, standard
from kohyakit.planning.size.layers import NORM, Target
from kohyakit.planning.size.lora import lora_layers
from kohyakit.registry.families import MODELS, trained_here

OWNERS = {"Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"}  # diffusers' classes
TEXT = {"CLIPAttention", "CLIPSdpaAttention", "CLIPMLP"}
OUTER = {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}


def walked(module: nn.Module, owners: set[str]) -> dict[str, nn.Module]:
    """Path -> every Linear, convolution and normalisation inside modules of these classes."""
    inside = [path for path, part in module.named_modules() if type(part).__name__ in owners]
    kinds = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)
    return {
        path: part
        for path, part in module.named_modules()
        if isinstance(part, kinds) and any(path.startswith(f"{owner}.") for owner in inside)
    }


def expected_shape(target: Target) -> tuple[int, ...]:
    layer = target.layer
    if layer.kernel == NORM:
        return (layer.outputs,)
    return (layer.outputs, layer.inputs, *(() if layer.kernel == 0 else (layer.kernel, layer.kernel)))


def agree(model: Model, told: list[Target]) -> None:
    """The list names every such layer of the real modules and no other, each with its shape and its bias."""
    unet = walked(model.unet, OWNERS)
    if not MODELS[model.family.name].original_names:
        unet |= {path: model.unet.get_submodule(path) for path in OUTER}
    texts = [walked(encoder, TEXT) for encoder in model.text_encoders]
    assert {(target.part, target.layer.name) for target in told} == {
        (part, path) for part, found in enumerate((unet, *texts)) for path in found
    }
    assert len({target.name for target in told}) == len(told)
    for target in told:
        module = model.module(target)
        assert tuple(module.weight.shape) == expected_shape(target), target.name
        assert (module.bias is not None) == target.bias, target.name


@pytest.mark.parametrize("family", trained_here())
def test_a_model_of_the_true_size_has_the_layers_that_are_told(family: str) -> None:
    told = list(layers.targets(standard(family)))
    agree(build_meta(family), told)
    assert [target.name for target in build_meta(family).family.targets(build_meta(family))] == [t.name for t in told]


RECORDED = [
    ("training/sd15-tiny", "sd1", "training/basic", False),
    ("training/sd15-tiny", "sd1", "training/locon", True),
    ("training2/sd2-tiny", "sd2", "training2/v2_vpred", False),
    ("training2/sdxl-tiny", "sdxl", "training2/sdxl_basic", False),
]


@pytest.mark.shared
@pytest.mark.parametrize(("place", "family", "case", "convolutions"), RECORDED, ids=lambda value: str(value))
def test_recorded_models_have_them_in_sd_scripts_order(
    goldens: Path, place: str, family: str, case: str, convolutions: bool
) -> None:
    architecture = read_architecture(goldens / place)
    agree(load_model(goldens / place, family=family), list(layers.targets(architecture)))
    rows = json.loads((goldens / case / "lora_keys_creation_order.json").read_text(encoding="utf-8"))
    created = [row["key"].removesuffix(".alpha") for row in rows if row["key"].endswith(".alpha")]
    assert [name for name, _ in lora_layers(architecture, convolutions=convolutions)] == created


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "convolutions"), [("training/full_r16_bf16", False), ("training/full_r16_locon", True)]
)
def test_the_true_sd15_in_sd_scripts_order(goldens: Path, case: str, convolutions: bool) -> None:
    rows = json.loads((goldens / case / "lora_keys_creation_order.json").read_text(encoding="utf-8"))
    created = [row["key"].removesuffix(".alpha") for row in rows if row["key"].endswith(".alpha")]
    model = standard("sd1")
    assert model is not None
    assert [name for name, _ in lora_layers(model, convolutions=convolutions)] == created
