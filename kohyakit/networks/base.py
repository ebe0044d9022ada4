"""What all networks share: layers beside a frozen model, their groups, keys, norms, and what a file of them holds.

A method is a layer (`Adapter`): what it adds to a layer of the model, and its first values. The trainer knows the
container only (`Network`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from kohyakit.config.sections.network import NetworkConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.models.base import Model
from kohyakit.networks.file import save_lora


@dataclass(frozen=True, slots=True)
class Draw:
    """The first values of one tensor: uniform (Kaiming's with a = sqrt(5)), normal with a deviation `std`, or zero.

    kept: whether they stay; others are what torch's constructors draw before, which sd-scripts' order repeats.
    """

    tensor: Tensor
    kind: str = "uniform"
    std: float = 1.0
    kept: bool = True


@contextmanager
def at_strength(network: Any, multiplier: float | None) -> Iterator[None]:
    """Every layer of a network at this strength, and afterwards as before. None of either: nothing changes."""
    modules: Iterable[Any] = network.modules() if isinstance(network, nn.Module) and multiplier is not None else ()
    before = [(layer, layer.multiplier) for layer in modules if getattr(layer, "multiplier", multiplier) != multiplier]
    try:
        for layer, _ in before:
            layer.multiplier = multiplier
        yield
    finally:
        for layer, was in before:
            layer.multiplier = was


class Adapter(nn.Module):
    """One method's addition to one layer of the model. Subclasses give `forward`, `draws` and `weight_update`."""

    multiplier = 1.0
    stream: random.Random | None = None  # sd-scripts' own, of Python, where its order of draws is followed
    plus: ClassVar[tuple[str, ...]] = ("lora_up.weight",)  # what LoRA+ gives a rate of its own begins so
    frozen: ClassVar[tuple[str, ...]] = ()  # and what stays as it was drawn

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = [layer]  # in a list, so that the frozen layer is no child of the network
        self._hook: torch.utils.hooks.RemovableHandle | None = None

    @property
    def layer(self) -> Any:
        """The model's own layer: Linear, convolution or normalisation."""
        return self._layer[0]

    def attach(self) -> None:
        """Add the update to the layer's output from now on."""
        self._hook = self.layer.register_forward_hook(self._add)

    def detach(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        update = self(inputs[0])
        return output if update is None else output + update

    def draws(self) -> Iterator[Draw]:
        """First values, in the order in which Kohya's or LyCORIS' own code draws them."""
        raise NotImplementedError

    def weight_update(self) -> Tensor:
        """What is added to the layer's weight, in its shape, every strength but the multiplier in it."""
        raise NotImplementedError

    def bias_update(self) -> Tensor | None:
        """The same of the layer's bias, where the method changes it."""
        return None

    def file_state(self) -> dict[str, Tensor]:
        """Ending -> tensor of what a file holds of this layer."""
        return self.state_dict()

    def own_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`file_state` read backwards: what `state_dict` has for these tensors of a file."""
        own = {end: tensor for end, tensor in self.state_dict().items() if end in tensors}
        found = {end: tensors[end].reshape(tensor.shape) for end, tensor in own.items()}
        scalar = getattr(self, "scalar", None)
        if isinstance(scalar, Tensor):  # a file has it within its tensors
            found["scalar"] = tensors.get("scalar", torch.ones_like(scalar))
        return found

    def limit_norm(self, largest: float) -> tuple[bool, Tensor] | None:
        """Shrink an update whose norm exceeds `largest`: (whether it was, its norm now). None: cannot be."""
        return None


Fill = Callable[[str, Adapter], None]
Part = tuple[str, list[str], float | None]  # what it is called in the log, its layers, its learning rate


class NetworkBuild(Protocol):
    """How a network module is built over a model: what its entry in NETWORKS names."""

    def __call__(
        self, model: Model, asked: NetworkConfig, *, fill: Fill, weights: Mapping[str, Tensor], as_sd_scripts: bool
    ) -> Network:
        """A network whose layers are made, filled in the order of creation, and not attached yet.

        weights: of the file that it starts from, empty without one. as_sd_scripts: number for number as there.
        """


class Network(nn.Module):
    """All adapters of a model under Kohya's names. `state_dict` is what a resume needs, `file_state` Kohya's file."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder_names: list[str] = []
        self.unet_names: list[str] = []

    def add(self, name: str, layer: Adapter, fill: Fill | None) -> None:
        """Take a layer in. fill gives it its first values; None leaves them (meta device, or about to be loaded)."""
        if fill is not None:
            fill(name, layer)
        self.add_module(name, layer)
        (self.text_encoder_names if name.startswith("lora_te") else self.unet_names).append(name)

    def layers(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, Any]]:
        """(name, layer) of all, or of the named ones."""
        for name in self.text_encoder_names + self.unet_names if names is None else names:
            yield name, self.get_submodule(name)

    def attach(self, *, text_encoder: bool = True, unet: bool = True) -> None:
        """Put the wanted layers beside their models and drop the others: they are neither trained nor saved."""
        for wanted, names in ((text_encoder, self.text_encoder_names), (unet, self.unet_names)):
            for name, layer in list(self.layers(names)):
                if wanted:
                    layer.attach()
                else:
                    delattr(self, name)
            if not wanted:
                names.clear()

    def detach(self) -> None:
        for _, layer in self.layers():
            layer.detach()

    def join(self) -> int:
        """Have layers of one input take it in one product, where the method can; how many layers there are that do."""
        return 0

    def see(self, timesteps: Tensor) -> None:
        """How noisy each image of the batch is that the model is asked about next, [B], for methods that go by it."""

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model as it is by itself, meanwhile."""
        self.detach()
        try:
            yield
        finally:
            for _, layer in self.layers():
                layer.attach()

    def file_state(self) -> dict[str, Tensor]:
        """Kohya's file: its keys and tensors."""
        return {f"{name}.{end}": tensor for name, layer in self.layers() for end, tensor in layer.file_state().items()}

    def save(self, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str], *, legacy_hash: bool) -> None:
        """Write Kohya's file, whole or not at all. Raises RunError."""
        save_lora(path, self.file_state(), dtype, metadata, legacy_hash=legacy_hash)

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
        text: Part = ("textencoder", self.text_encoder_names, text_encoder_lr)
        for ratio, parts in ((text_encoder_ratio, [text]), (unet_ratio, self.unet_parts(unet_lr))):
            for title, names, lr in parts:
                for parameters, factor, suffix in self._split(names, ratio) if lr else ():
                    groups.append({"params": parameters, "lr": (lr or 0) * factor})
                    titles.append(title + suffix)
        return groups, titles

    def unet_parts(self, lr: float | None) -> Iterable[Part]:
        """Into what the U-Net's layers are divided for the optimizer: one part, unless a method has rates by block."""
        return (("unet", self.unet_names, lr),)

    def _split(self, names: Iterable[str], ratio: float | None) -> Iterator[tuple[list[nn.Parameter], float, str]]:
        """The trained parameters of some layers, the up matrices apart where they have a rate of their own."""
        plain: list[nn.Parameter] = []
        plus: list[nn.Parameter] = []
        for _, layer in self.layers(names):
            for end, parameter in layer.named_parameters():
                if not end.startswith(layer.frozen):
                    (plus if ratio and end.startswith(layer.plus) else plain).append(parameter)
        if plain:
            yield plain, 1.0, ""
        if plus:
            yield plus, ratio or 1.0, " plus"

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
        own = self.file_state()
        wrong = [
            f"{key} is {tuple(state[key].shape)}, but this network needs {tuple(tensor.shape)}"
            for key, tensor in own.items()
            if key in state and _sides(state[key]) != _sides(tensor)
        ]
        if wrong:
            cure = "set network_dim and conv_dim as that file has them, or use dim_from_weights"
            raise ConfigError(Problem(where, f"{wrong[0]} ({len(wrong)} tensors differ)", cure))
        if not any(key in state for key in own):
            raise ConfigError(
                Problem(where, "holds none of this network's layers", "give a LoRA of the same model family")
            )
        for name, layer in self.layers():
            tensors = {end: state[f"{name}.{end}"] for end in layer.file_state() if f"{name}.{end}" in state}
            if not alphas:
                tensors.pop("alpha", None)
            if tensors:
                layer.load_state_dict(layer.own_state(tensors), strict=False)

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
        found = [limited for _, layer in self.layers() if (limited := layer.limit_norm(largest)) is not None]
        if not found:
            return 0, 0.0, 0.0
        norms = torch.stack([norm for _, norm in found])
        return sum(shrunk for shrunk, _ in found), float(norms.mean()), float(norms.max())


def _sides(tensor: Tensor) -> list[int]:
    """Without the ones behind: a 1x1 convolution's tensors are also found as those of a Linear."""
    sides = list(tensor.shape)
    while len(sides) > 2 and sides[-1] == 1:
        sides.pop()
    return sides


def shrinking(norm: Tensor, largest: float) -> Tensor:
    """The factor that brings a norm down to `largest`; 1 for smaller ones. As sd-scripts computes it."""
    norm = norm.clamp(min=largest / 2)
    return norm.clamp(max=largest) / norm
