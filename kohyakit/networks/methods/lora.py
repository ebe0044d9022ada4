"""networks.lora: a low-rank update beside every adapted layer, as Kohya defines it (Hu et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from kohyakit.config.arguments.blocks import Blocks, block_number, blocks_of
from kohyakit.config.arguments.presets import lora_preset
from kohyakit.config.sections.network import NetworkArgs, NetworkConfig, parse_network_args
from kohyakit.errors import ConfigError, Problem
from kohyakit.models.base import Model
from kohyakit.networks.base import Adapter, Draw, Fill, Network, Part, shrinking
from kohyakit.networks.joined import Joined, of_one_input
from kohyakit.planning.size.layers import Target
from kohyakit.registry.families import MODELS

Sizes = Mapping[str, tuple[int, float]]  # layer -> its rank and alpha


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What a LoRA is made of. conv_dim of None leaves the 3x3 convolutions alone; an alpha of 0 means alpha = dim.

    blocks: ranks, alphas and rates of the U-Net's blocks, which go before; the text encoders keep dim and alpha.
    scale_low: scale what down gives, which is narrow, instead of what up gives; quicker, and other last bits.
    widened: also what is no 3x3 convolution around the transformers, as sd-scripts' own class does once it has read a
    file for base_weights.
    """

    dim: int = 4
    alpha: float = 1.0
    conv_dim: int | None = None
    conv_alpha: float = 1.0
    dropout: float | None = None
    rank_dropout: float | None = None
    module_dropout: float | None = None
    scale_low: bool = False
    blocks: Blocks | None = None
    widened: bool = False

    @property
    def convolutions(self) -> bool:
        """Whether the 3x3 convolutions of a block may be adapted."""
        return self.conv_dim is not None or bool(self.blocks and self.blocks.conv_dims)

    def size_of(self, target: Target) -> tuple[int, float]:
        """Rank and alpha of a layer; a rank of 0 leaves it out."""
        if self.blocks and not target.part:
            return self.blocks.size_of(target.name, target.layer.kernel)
        if target.layer.kernel > 1:
            return self.conv_dim or 0, self.conv_alpha
        return self.dim, self.alpha


def sizes_in(state: Mapping[str, Tensor]) -> dict[str, tuple[int, float]]:
    """Rank and alpha of each layer in a LoRA's tensors. A layer without an alpha, as in old files, has its rank's."""
    sizes = {}
    for key, down in state.items():
        name, dot, rest = key.partition(".")
        if dot and rest == "lora_down.weight":
            alpha = state.get(f"{name}.alpha")
            sizes[name] = (down.shape[0], float(down.shape[0] if alpha is None else alpha))
    return sizes


class LoraLayer(Adapter):
    """up(down(x)) × multiplier × alpha / dim, added to a layer's output.

    x: [B, T, in] or [B, in, H, W]. While training: neuron dropout after down, rank dropout (scaled by 1 / (1 - p)),
    module dropout (the whole update is left out). Weights are float32 and carry no bias.

    joined: with whom it takes its input in one product, which has the scale in it.
    """

    joined: Joined | None = None

    def __init__(self, layer: nn.Module, dim: int, alpha: float, settings: LoraSettings) -> None:
        super().__init__(layer)
        device = layer.weight.device
        if isinstance(layer, nn.Conv2d):
            shape = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
            self.lora_down = skip_init(nn.Conv2d, layer.in_channels, dim, **shape, bias=False, device=device)
            self.lora_up = skip_init(nn.Conv2d, dim, layer.out_channels, 1, bias=False, device=device)
        else:
            self.lora_down = skip_init(nn.Linear, layer.in_features, dim, bias=False, device=device)
            self.lora_up = skip_init(nn.Linear, dim, layer.out_features, bias=False, device=device)
        alpha = alpha or dim
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.dim = dim
        self.scale = alpha / dim
        self.settings = settings

    def draws(self) -> Iterator[Draw]:
        """Down's and up's default, then down's again, which is kept."""
        down, up = self.lora_down.weight, self.lora_up.weight
        yield from (Draw(down, kept=False), Draw(up, kept=False), Draw(down), Draw(up, "zero"))

    def forward(self, x: Tensor) -> Tensor | None:
        """The update, shaped as the layer's output; None when module dropout leaves it out."""
        s, joined = self.settings, self.joined
        if self.training and s.module_dropout and torch.rand(1) < s.module_dropout:
            if joined:
                joined.left_out(self)
            return None
        scale = self._strength()
        low = joined.low(self, x, scale) if joined else self.lora_down(x)
        if self.training and s.dropout:
            low = F.dropout(low, p=s.dropout)
        if self.training and s.rank_dropout:
            keep = torch.rand((low.shape[0], self.dim), device=low.device) > s.rank_dropout
            keep = keep[:, :, None, None] if low.ndim == 4 else keep[:, None, :] if low.ndim == 3 else keep
            low = low * keep
        if joined:
            return self.lora_up(low)
        return self.lora_up(low * scale) if s.scale_low else self.lora_up(low) * scale

    def _strength(self) -> float:
        """alpha / dim × multiplier, and what makes up for ranks that are left out."""
        dropped = self.settings.rank_dropout if self.training else None
        return (self.scale / (1.0 - dropped) if dropped else self.scale) * self.multiplier

    def weight_update(self) -> Tensor:
        """up × down × scale, in the shape of the layer's weight."""
        return product(self.lora_up.weight, self.lora_down.weight) * self.scale

    def limit_norm(self, largest: float) -> tuple[bool, Tensor]:
        ratio = shrinking(self.weight_update().norm(), largest)
        shrunk = bool(ratio != 1)
        if shrunk:
            self.lora_down.weight.mul_(ratio.sqrt())
            self.lora_up.weight.mul_(ratio.sqrt())
        return shrunk, self.weight_update().norm()


def product(up: Tensor, down: Tensor, middle: Tensor | None = None) -> Tensor:
    """up [out, rank] times down [rank, in × kernel], in the shape of the layer's weight.

    middle: LyCORIS' core tensor [rank, rank, kernel], beside which down has a kernel of 1.
    """
    if middle is not None:
        down = torch.einsum("mnkl,ni->mikl", middle, down.flatten(1))
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


class LoraNetwork(Network):
    """All of a model's LoRA layers under Kohya's names; its state dict is Kohya's file."""

    kind: ClassVar[type[LoraLayer]] = LoraLayer

    def __init__(self, settings: LoraSettings) -> None:
        super().__init__()
        self.settings = settings

    @classmethod
    def over(cls, model: Model, settings: LoraSettings, fill: Fill | None, sizes: Sizes | None = None) -> LoraNetwork:
        """Layers beside all of a model's layers that Kohya's networks adapt, or beside those that sizes name.

        fill(name, layer) gives each its values, in the order of creation. sizes: make these layers, and no others,
        whatever the settings say (`sizes_in` reads them from a file). Raises ConfigError where they are of another kind
        of model.
        """
        network = cls(settings)
        around = settings.convolutions or sizes is not None or settings.widened
        preset = lora_preset(convolutions=around)
        for target, layer in model.layers(preset):
            dim, alpha = settings.size_of(target) if sizes is None else sizes.get(target.name, (0, 0.0))
            if dim:
                network.add(target.name, cls.kind(layer, dim, alpha, settings), fill)
        for half, made in (("lora_te", network.text_encoder_names), ("lora_unet", network.unet_names)):
            named = [name for name in sizes or () if name.startswith(half)]
            if named and not made:
                what = f"holds layers that this model does not have ({len(named)}, such as {named[0]})"
                cure = "give a LoRA of the same model family, under Kohya's names"
                raise ConfigError(Problem("network_weights", what, cure))
        return network

    def join(self) -> int:
        """Those of q, k and v of one attention, where their strength is the same."""
        count = 0
        for names in of_one_input(name for name, _ in self.layers()):
            of_scale: dict[float, list[LoraLayer]] = {}
            for _, layer in self.layers(names):
                of_scale.setdefault(layer.scale, []).append(layer)
            for layers in of_scale.values():
                if len(layers) > 1:
                    count += len(layers)
                    together = Joined(layers)
                    for layer in layers:
                        layer.joined = together
        return count

    def unet_parts(self, lr: float | None) -> Iterator[Part]:
        """A group a block where blocks have rates of their own, in the order in which their first layers are made."""
        rates = self.settings.blocks.rates if self.settings.blocks else None
        if rates is None or not lr:
            yield from super().unet_parts(lr)
            return
        found: dict[int, list[str]] = {}
        for name in self.unet_names:
            found.setdefault(block_number(name), []).append(name)
        for number, names in found.items():
            yield f"unet_block{number}", names, lr * rates[number]


def build(
    model: Model, asked: NetworkConfig, *, fill: Fill, weights: Mapping[str, Tensor], as_sd_scripts: bool
) -> Network:
    """See `networks.base.NetworkBuild`. With dim_from_weights it has the layers and ranks of the file."""
    return built(LoraNetwork, model, asked, fill, weights, as_sd_scripts=as_sd_scripts)


def built(
    kind: type[LoraNetwork], model: Model, asked: NetworkConfig, fill: Fill, weights: Mapping[str, Tensor],
    *, as_sd_scripts: bool,
) -> LoraNetwork:  # fmt: skip
    """A network of this kind over a model, as `build` says."""
    sizes = sizes_in(weights) if asked.dim_from_weights else None
    settings = settings_of(asked, MODELS[model.family.name].blocks, scale_low=not as_sd_scripts)
    settings = replace(settings, widened=as_sd_scripts and bool(asked.base_weights))
    return kind.over(model, settings, fill, sizes)


def draw_as_sd_scripts(model: Model, weights: Mapping[str, Tensor], fill: Fill) -> None:
    """The first values that sd-scripts draws for a network of a file of base_weights, and drops."""
    LoraNetwork.over(model, LoraSettings(), fill, sizes_in(weights))


def arguments_of(asked: NetworkConfig) -> NetworkArgs:
    """A network that is made as a file has it takes no arguments, in sd-scripts too; check says which are set."""
    return parse_network_args(() if asked.dim_from_weights else asked.network_args or ())


def settings_of(asked: NetworkConfig, blocks: int, *, scale_low: bool) -> LoraSettings:
    """blocks: how many the model's U-Net has. Raises ConfigError."""
    arguments = arguments_of(asked)
    return LoraSettings(
        dim=asked.rank,
        alpha=asked.network_alpha,
        conv_dim=arguments.conv_dim,
        conv_alpha=1.0 if arguments.conv_alpha is None else arguments.conv_alpha,
        dropout=None if asked.dim_from_weights else asked.network_dropout,
        rank_dropout=arguments.rank_dropout,
        module_dropout=arguments.module_dropout,
        scale_low=scale_low,
        blocks=blocks_of(arguments, asked.rank, asked.network_alpha, blocks),
    )
