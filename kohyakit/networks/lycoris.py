"""The networks of LyCORIS, and sd-scripts' own LoHa and LoKr: which layer of the model gets which adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from kohyakit.config.arguments.adapters import AdapterSettings, settings_of
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.errors import ConfigError
from kohyakit.models.base import Model
from kohyakit.networks.base import Fill, Network
from kohyakit.networks.methods.norm import NormLayer
from kohyakit.networks.methods.tlora import TloraLayer, kept_at
from kohyakit.networks.rebuilt import Beside
from kohyakit.planning.size.held import held_settings, scalars
from kohyakit.planning.size.layers import NORM
from kohyakit.planning.size.targets import misfits, settings_for, wanted
from kohyakit.registry.networks import ALGORITHMS


class LycorisNetwork(Network):
    """An adapter beside every layer that the settings name."""

    def __init__(self, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings

    @classmethod
    def over(cls, model: Model, settings: AdapterSettings, fill: Fill | None) -> LycorisNetwork:
        """fill gives each layer its first values, in LyCORIS' order of creation; None leaves them.

        Raises ConfigError where a layer cannot be cut into the blocks that are asked for.
        """
        network = cls(settings)
        problems = list(misfits(model.family.targets(model), settings))
        if problems:
            raise ConfigError(problems)
        for target in wanted(model.family.targets(model), settings):
            own = settings_for(target, settings)
            kind: type[Beside] = NormLayer if target.layer.kernel == NORM else ALGORITHMS.load(own.algo)
            network.add(target.name, kind(model.module(target), target, own), fill)
        return network

    def see(self, timesteps: Tensor) -> None:
        """T-LoRA's layers of the U-Net learn with fewer ranks; a text encoder knows of no noise and has all."""
        made: dict[tuple[int, int, float], Tensor] = {}
        for name, layer in self.named_children():
            if isinstance(layer, TloraLayer) and not name.startswith("lora_te"):
                if layer.schedule not in made:
                    made[layer.schedule] = kept_at(timesteps, *layer.schedule)
                layer.kept = made[layer.schedule]

    def limit_norms(self, largest: float) -> tuple[int, float, float]:
        """As LyCORIS tells it: three zeros where no layer is shrunk."""
        found = super().limit_norms(largest)
        return found if found[0] else (0, 0.0, 0.0)


def build(
    model: Model, asked: NetworkConfig, *, fill: Fill, weights: Mapping[str, Tensor], as_sd_scripts: bool
) -> Network:
    """See `networks.base.NetworkBuild`. Raises ConfigError for a preset nobody knows.

    With dim_from_weights each layer is as the file has it, and network_args count for nothing, as in LyCORIS.
    """
    if not asked.dim_from_weights:
        return LycorisNetwork.over(model, settings_of(asked, as_lycoris=as_sd_scripts), fill)
    base = settings_of(replace(asked, network_args=None), as_lycoris=as_sd_scripts)
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    numbers = {key: float(weights[key]) for key in scalars(weights) if weights[key].numel() == 1}
    settings = held_settings(base, model.family.targets(model), shapes, numbers)
    return LycorisNetwork.over(model, settings, fill)
