"""The networks of LyCORIS, and sd-scripts' own LoHa and LoKr: which layer of the model gets which adapter."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kohyakit.config.arguments.adapters import AdapterSettings, settings_of
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.models.base import Model
from kohyakit.networks.base import Fill, Network
from kohyakit.networks.methods.norm import NormLayer
from kohyakit.networks.rebuilt import Beside
from kohyakit.planning.size.layers import NORM
from kohyakit.planning.size.targets import wanted
from kohyakit.registry.networks import ALGORITHMS


class LycorisNetwork(Network):
    """An adapter beside every layer that the settings name."""

    def __init__(self, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings

    @classmethod
    def over(cls, model: Model, settings: AdapterSettings, fill: Fill | None) -> LycorisNetwork:
        """fill gives each layer its first values, in LyCORIS' order of creation; None leaves them."""
        network = cls(settings)
        kind: type[Beside] = ALGORITHMS.load(settings.algo)
        for target in wanted(model.family.targets(model), settings):
            made = NormLayer if target.layer.kernel == NORM else kind
            network.add(target.name, made(model.module(target), target, settings), fill)
        return network

    def limit_norms(self, largest: float) -> tuple[int, float, float]:
        """As LyCORIS tells it: three zeros where no layer is shrunk."""
        found = super().limit_norms(largest)
        return found if found[0] else (0, 0.0, 0.0)


def build(
    model: Model, asked: NetworkConfig, *, fill: Fill, weights: Mapping[str, Tensor], as_sd_scripts: bool
) -> Network:
    """See `networks.base.NetworkBuild`. Raises ConfigError for a preset nobody knows."""
    return LycorisNetwork.over(model, settings_of(asked, as_lycoris=as_sd_scripts), fill)
