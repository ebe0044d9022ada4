"""The layers of a whole model beside a LoRA: their weights stay mapped and are read one at a time."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from kohyakit.formats.weights import model_kind
from kohyakit.models import Model, load_model


def load(place: Path | str, family: str | None = None) -> Model:
    """A model from disk. family: not given, what the file or folder is seen to be. Raises ConfigError."""
    return load_model(place, family=family or model_kind.family_at(place) or "sd1", dtype=None)


def layers(model: Model, *, convolutions: bool) -> dict[str, nn.Module]:
    """Kohya name -> layer, of all that a LoRA takes. convolutions: those outside the U-Net's transformers too."""
    return dict([*model.text_layers(), *model.unet_layers(convolutions=convolutions)])


def weight(layer: nn.Module) -> Tensor:
    """A layer's weight in single precision."""
    found = layer.weight
    assert isinstance(found, Tensor)
    return found.detach().float()
