"""The tensors that a model must hold, told without torch, are those of the models that torch builds."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from kohyakit.models import build_meta
from kohyakit.planning.inputs import model_tensors as wanted
from kohyakit.planning.size.architecture import VaeShape, standard


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_names_and_shapes_of_every_family(family: str) -> None:
    model, shape = build_meta(family), standard(family)
    parts = [(model.unet, wanted.unet_tensors(shape.unet))]
    parts.append((model.vae, wanted.vae_tensors(VaeShape((128, 256, 512, 512)))))
    for place, (encoder, text) in enumerate(zip(model.text_encoders, shape.text_encoders, strict=True)):
        parts.append((encoder, wanted.text_tensors(text, projection=place == 1)))
    for module, told in parts:
        own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items() if "position_ids" not in name}
        said = dict(told)
        assert set(said) == set(own)
        assert {name: shape for name, shape in said.items() if shape is not None and shape != own[name]} == {}
