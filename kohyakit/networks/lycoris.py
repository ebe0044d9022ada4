"""The networks of LyCORIS, and sd-scripts' own LoHa and LoKr: which layer of the model gets which adapter."""

from __future__ import annotations

from torch import nn

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.models.base import Model
from kohyakit.networks.base import Adapter, Fill, Network
from kohyakit.networks.methods.norm import NormLayer
from kohyakit.planning.size.architecture import Architecture, Parameters, TextShape, unet_of_config
from kohyakit.planning.size.targets import NORM, Target, targets
from kohyakit.registry import ALGORITHMS


class LycorisNetwork(Network):
    """An adapter beside every layer that the settings name."""

    def __init__(self, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings

    @classmethod
    def over(cls, model: Model, settings: AdapterSettings, fill: Fill | None) -> LycorisNetwork:
        """fill gives each layer its first values, in LyCORIS' order of creation; None leaves them."""
        network = cls(settings)
        kind: type[Adapter] = ALGORITHMS.load(settings.algo)
        for target in targets(architecture_of(model), settings):
            made = NormLayer if target.layer.kernel == NORM else kind
            network.add(target.name, made(_module(model, target), target, settings), fill)
        return network

    def limit_norms(self, largest: float) -> tuple[int, float, float]:
        """As LyCORIS tells it: three zeros where no layer is shrunk."""
        found = super().limit_norms(largest)
        return found if found[0] else (0, 0.0, 0.0)


def architecture_of(model: Model) -> Architecture:
    """The shape of a model in memory."""
    texts = (encoder.config for encoder in model.text_encoders)
    shapes = tuple(TextShape(c.num_hidden_layers, c.hidden_size, c.intermediate_size) for c in texts)
    return Architecture(model.family.name, unet_of_config(model.unet.config), shapes, Parameters(0, 0, 0), known=True)


def _module(model: Model, target: Target) -> nn.Module:
    """The layer of the model that a target names."""
    part = model.text_encoders[target.part - 1] if target.part else model.unet
    return part.get_submodule(target.layer.name)
