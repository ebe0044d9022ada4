"""networks.lora: a low-rank update beside every adapted layer, as Kohya defines it (Hu et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from kohyakit.errors import ConfigError, Problem
from kohyakit.models.weights import WeightFile

Init = Callable[[str, Tensor, Tensor], None]
Sizes = Mapping[str, tuple[int, float]]  # layer -> its rank and alpha
Layers = Iterable[tuple[str, nn.Module]]


class Adaptable(Protocol):
    """What a network asks of a model: (Kohya name, layer) of its text encoders and of its U-Net."""

    def text_layers(self) -> Layers: ...

    def unet_layers(self, *, convolutions: bool) -> Layers: ...


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What a LoRA is made of. conv_dim of None leaves the 3x3 convolutions alone; an alpha of 0 means alpha = dim.

    scale_low: scale what down gives, which is narrow, instead of what up gives; quicker, and other last bits.
    """

    dim: int = 4
    alpha: float = 1.0
    conv_dim: int | None = None
    conv_alpha: float = 1.0
    dropout: float | None = None
    rank_dropout: float | None = None
    module_dropout: float | None = None
    scale_low: bool = False

    def size_of(self, layer: nn.Module) -> tuple[int, float]:
        """Rank and alpha of a layer; a rank of 0 leaves it out."""
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            return self.conv_dim or 0, self.conv_alpha
        return self.dim, self.alpha


def read_lora(path: Path) -> dict[str, Tensor]:
    """All tensors of a LoRA file, .safetensors or a pickle of tensors. Raises ConfigError for any other file."""
    file = WeightFile(path)
    return {key: file.tensor(key) for key in file}


def sizes_in(state: Mapping[str, Tensor]) -> dict[str, tuple[int, float]]:
    """Rank and alpha of each layer in a LoRA's tensors. A layer without an alpha, as in old files, has its rank's."""
    sizes = {}
    for key, down in state.items():
        name, dot, rest = key.partition(".")
        if dot and rest == "lora_down.weight":
            alpha = state.get(f"{name}.alpha")
            sizes[name] = (down.shape[0], float(down.shape[0] if alpha is None else alpha))
    return sizes


class LoraLayer(nn.Module):
    """up(down(x)) × multiplier × alpha / dim, added to a layer's output.

    x: [B, T, in] or [B, in, H, W]. While training: neuron dropout after down, rank dropout (scaled by 1 / (1 - p)),
    module dropout (the whole update is left out). Weights are float32 and carry no bias.
    """

    def __init__(self, layer: nn.Module, dim: int, alpha: float, settings: LoraSettings) -> None:
        super().__init__()
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
        self.multiplier = 1.0
        self.settings = settings
        self._layer = [layer]  # in a list, so that the frozen layer is no child of the network
        self._hook: torch.utils.hooks.RemovableHandle | None = None

    def attach(self) -> None:
        """Add the update to the layer's output from now on."""
        self._hook = self._layer[0].register_forward_hook(self._add)

    def detach(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        update = self(inputs[0])
        return output if update is None else output + update

    def forward(self, x: Tensor) -> Tensor | None:
        """The update, shaped as the layer's output; None when module dropout leaves it out."""
        s = self.settings
        if self.training and s.module_dropout and torch.rand(1) < s.module_dropout:
            return None
        low = self.lora_down(x)
        scale = self.scale
        if self.training and s.dropout:
            low = F.dropout(low, p=s.dropout)
        if self.training and s.rank_dropout:
            keep = torch.rand((low.shape[0], self.dim), device=low.device) > s.rank_dropout
            keep = keep[:, :, None, None] if low.ndim == 4 else keep[:, None, :] if low.ndim == 3 else keep
            low = low * keep
            scale = scale / (1.0 - s.rank_dropout)
        scale *= self.multiplier
        return self.lora_up(low * scale) if s.scale_low else self.lora_up(low) * scale

    def weight_update(self) -> Tensor:
        """up × down × scale, in the shape of the layer's weight."""
        down, up = self.lora_down.weight, self.lora_up.weight
        if down.ndim == 2:
            return up @ down * self.scale
        return torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down) * self.scale


class LoraNetwork(nn.Module):
    """All of a model's LoRA layers under Kohya's names; its state dict is Kohya's file."""

    def __init__(self, settings: LoraSettings) -> None:
        super().__init__()
        self.settings = settings
        self.text_encoder_names: list[str] = []
        self.unet_names: list[str] = []

    @classmethod
    def over(
        cls, model: Adaptable, settings: LoraSettings, init: Init | None, sizes: Sizes | None = None
    ) -> LoraNetwork:
        """Layers beside all of a model's layers that Kohya's networks adapt, or beside those that sizes name.

        Raises ConfigError where sizes are of another kind of model.
        """
        unet = model.unet_layers(convolutions=settings.conv_dim is not None or sizes is not None)
        network = cls.create(model.text_layers(), unet, settings, init, sizes)
        for half, made in (("lora_te", network.text_encoder_names), ("lora_unet", network.unet_names)):
            named = [name for name in sizes or () if name.startswith(half)]
            if named and not made:
                what = f"holds layers that this model does not have ({len(named)}, such as {named[0]})"
                cure = "give a LoRA of the same model family, under Kohya's names"
                raise ConfigError(Problem("network_weights", what, cure))
        return network

    @classmethod
    def create(
        cls,
        text_layers: Layers,
        unet_layers: Layers,
        settings: LoraSettings,
        init: Init | None,
        sizes: Sizes | None = None,
    ) -> LoraNetwork:
        """A layer beside each (Kohya name, layer); init(name, down, up) fills each in the order of creation.

        init of None leaves the weights as they are (meta device, or about to be loaded). sizes: make these layers,
        and no others, whatever the settings say (`sizes_in` reads them from a file).
        """
        network = cls(settings)
        for names, layers in ((network.text_encoder_names, text_layers), (network.unet_names, unet_layers)):
            for name, layer in layers:
                dim, alpha = settings.size_of(layer) if sizes is None else sizes.get(name, (0, 0.0))
                if not dim:
                    continue
                lora = LoraLayer(layer, dim, alpha, settings)
                if init is not None:
                    init(name, lora.lora_down.weight, lora.lora_up.weight)
                network.add_module(name, lora)
                names.append(name)
        return network

    def layers(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, LoraLayer]]:
        """(name, layer) of all, or of the named ones."""
        for name in self.text_encoder_names + self.unet_names if names is None else names:
            yield name, self.get_submodule(name)

    def attach(self, *, text_encoder: bool = True, unet: bool = True) -> None:
        """Put the wanted layers beside their models and drop the others: they are neither trained nor saved."""
        for wanted, names in ((text_encoder, self.text_encoder_names), (unet, self.unet_names)):
            for name in list(names):
                if wanted:
                    self.get_submodule(name).attach()
                else:
                    delattr(self, name)
            if not wanted:
                names.clear()

    def detach(self) -> None:
        for _, layer in self.layers():
            layer.detach()

    def set_multiplier(self, multiplier: float) -> None:
        for _, layer in self.layers():
            layer.multiplier = multiplier

    def parameter_groups(
        self,
        text_encoder_lr: float | None,
        unet_lr: float | None,
        text_encoder_ratio: float | None = None,
        unet_ratio: float | None = None,
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """The optimizer's groups and their names, text encoder first; a group whose rate is 0 or None is left out.

        ratio: LoRA+'s factor on the rate of the up matrices, which splits a group in two (Hayou et al. 2024).
        """
        groups: list[dict[str, Any]] = []
        titles: list[str] = []
        for title, names, lr, ratio in (
            ("textencoder", self.text_encoder_names, text_encoder_lr, text_encoder_ratio),
            ("unet", self.unet_names, unet_lr, unet_ratio),
        ):
            if not lr:
                continue
            plain: list[nn.Parameter] = []
            plus: list[nn.Parameter] = []
            for _, layer in self.layers(names):
                plain.append(layer.lora_down.weight)
                (plus if ratio else plain).append(layer.lora_up.weight)
            for parameters, factor, suffix in ((plain, 1.0, ""), (plus, ratio, " plus")):
                if parameters:
                    groups.append({"params": parameters, "lr": lr * factor if suffix else lr})
                    titles.append(title + suffix)
        return groups, titles

    def train_only(self, parameters: Iterable[nn.Parameter]) -> None:
        """No gradient for the others, such as those of a part whose rate is 0.

        sd-scripts goes on adding to these gradients, which no optimizer clears, and clips by the norm of all.
        """
        trained = {id(parameter) for parameter in parameters}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in trained)

    def load_kohya_state(self, state: Mapping[str, Tensor], where: str, *, alphas: bool = True) -> None:
        """Start from a LoRA's tensors. Raises ConfigError when layers or ranks do not fit.

        alphas: take theirs into the file to be written, though this network goes on at its own, as sd-scripts does.
        """
        own = self.state_dict()
        wrong = [
            f"{key} is {tuple(state[key].shape)}, but this network needs {tuple(tensor.shape)}"
            for key, tensor in own.items()
            if key in state and state[key].shape != tensor.shape
        ]
        if wrong:
            cure = "set network_dim and conv_dim as that file has them, or use dim_from_weights"
            raise ConfigError(Problem(where, f"{wrong[0]} ({len(wrong)} tensors differ)", cure))
        if not any(key in state for key in own):
            raise ConfigError(
                Problem(where, "holds none of this network's layers", "give a LoRA of the same model family")
            )
        wanted = {key: t for key, t in state.items() if key in own and (alphas or not key.endswith(".alpha"))}
        self.load_state_dict(wanted, strict=False)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Every weight of a training that goes on; alpha stays as it is asked for now. Raises ConfigError."""
        weights = {key: tensor for key, tensor in self.state_dict().items() if not key.endswith(".alpha")}
        wrong = [key for key, tensor in weights.items() if key not in state or state[key].shape != tensor.shape]
        if wrong:
            what = f"the state holds another network: {len(wrong)} of {len(weights)} tensors differ, such as {wrong[0]}"
            raise ConfigError(Problem("resume", what, "resume with the settings that it was made with"))
        self.load_state_dict({key: state[key] for key in weights}, strict=False)

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters())

    @torch.no_grad()
    def limit_norms(self, largest: float) -> tuple[int, float, float]:
        """Shrink every update whose norm exceeds `largest`. Returns (layers shrunk, mean norm, largest norm)."""
        norms: list[Tensor] = []
        shrunk = 0
        for _, layer in self.layers():
            norm = layer.weight_update().norm().clamp(min=largest / 2)
            ratio = norm.clamp(max=largest) / norm
            if ratio != 1:
                shrunk += 1
                layer.lora_down.weight.mul_(ratio.sqrt())
                layer.lora_up.weight.mul_(ratio.sqrt())
            norms.append(layer.weight_update().norm())
        stacked = torch.stack(norms)
        return shrunk, float(stacked.mean()), float(stacked.max())
