"""A LoRA file to start from (`network_weights`) against the network that would be trained, from its header alone."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kohyakit.config.arguments.adapters import LYCORIS, NATIVE, AdapterSettings, adapter_settings, settings_of
from kohyakit.config.arguments.blocks import asked, blocks_of
from kohyakit.config.rules.methods import block_count_wrong, block_weight_unreadable, dylora_ranks_do_not_fit
from kohyakit.config.rules.reading import network_args, trains_lora
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.formats.weights import header as weight_header
from kohyakit.formats.weights import safetensors_header
from kohyakit.formats.weights.header import Shapes
from kohyakit.planning.inputs.missing import exists
from kohyakit.planning.size.architecture import Architecture
from kohyakit.planning.size.held import held_settings
from kohyakit.planning.size.layers import Layer, targets
from kohyakit.planning.size.lora import Rank, lora_layers, lora_shapes, ranks
from kohyakit.planning.size.targets import misfits, settings_for, tensors_of, wanted
from kohyakit.registry.families import MODELS
from kohyakit.registry.networks import NETWORKS

# Plain LoRAs whose layers and tensors are known here; DyLoRA writes one file a rank.
MODULES = tuple(module for module, entry in NETWORKS.items() if entry.low_rank and "unit" not in entry.arguments)
_DOWN, _UP, _ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
_FORMATS = {"F32": "<f", "F16": "<e", "F64": "<d"}
# What only one family's files hold -> what they are.
_SIGNS = {
    "lora_te1_": "SDXL", "lora_unet_input_blocks_": "SDXL", "lora_te_text_model": "Stable Diffusion 1.x or 2.x",
    "lora_unet_down_blocks_": "Stable Diffusion 1.x or 2.x", "lora_unet_double_blocks_": "Flux",
    "lora_unet_joint_blocks_": "Stable Diffusion 3",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """A LoRA file as its header tells it. ranks: of each layer. alphas: of each where the file's kind shows numbers."""

    name: str
    shapes: Shapes
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)

    def rank(self, layer: str) -> int:
        return self.ranks[layer]


def read(config: TrainConfig) -> tuple[NetworkWeights | None, tuple[Problem, ...]]:
    """The file named by network_weights, where there is one. One that is not there is missing_files' finding."""
    name = config.network.network_weights
    path = Path(name or "")
    if not name or not exists(name) or not trains_lora(config):
        return None, ()
    try:
        header = weight_header.read(path)
    except KohyakitError as error:
        found = (replace(p, where=shown(name), name="weights_unreadable", severity="error") for p in error.problems)
        return None, tuple(found)
    layers = {key.removesuffix(_DOWN): shape[0] for key, shape in header.shapes.items() if _is_down(key, shape)}
    return NetworkWeights(path.name, header.shapes, layers, _alphas(path)), ()


def _is_down(key: str, shape: tuple[int, ...]) -> bool:
    return key.endswith(_DOWN) and len(shape) >= 2


def _alphas(path: Path) -> dict[str, float]:
    """The numbers under `.alpha`, read straight from a .safetensors file."""
    if path.suffix.lower() != ".safetensors":
        return {}
    header = safetensors_header.read(path)
    found = {}
    with path.open("rb") as file:
        for key, tensor in header.tensors.items():
            if key.endswith(_ALPHA) and tensor.elements == 1 and tensor.dtype in (*_FORMATS, "BF16"):
                file.seek(header.data_start + tensor.offsets[0])
                raw = file.read(tensor.bytes)
                padded = b"\0\0" + raw if tensor.dtype == "BF16" else raw
                found[key.removesuffix(_ALPHA)] = struct.unpack(_FORMATS.get(tensor.dtype, "<f"), padded)[0]
    return found


def adapted(config: TrainConfig, model: Architecture, weights: NetworkWeights | None) -> list[tuple[str, Layer]]:
    """The layers of the network: all that the settings name or, with dim_from_weights, those that the file has."""
    network, args = config.network, network_args(config)
    held = weights.ranks if weights is not None and network.dim_from_weights else None
    layers = lora_layers(
        model,
        text_encoder=not network.network_train_unet_only,
        unet=not network.network_train_text_encoder_only,
        convolutions=held is not None or bool(args.conv_dim or args.conv_block_dims),
    )
    rank = rank_of(config, model, weights)
    return [(name, layer) for name, layer in layers if (held is None or name in held) and rank(name, layer)]


def rank_of(config: TrainConfig, model: Architecture, weights: NetworkWeights | None) -> Rank:
    """How each layer's rank is found; 0 for one that is left out."""
    if weights is not None and config.network.dim_from_weights:
        return lambda name, layer: weights.ranks[name]
    args, network = network_args(config), config.network
    plain = ranks(network.rank, args.conv_dim)
    own = blocks_of(args, network.rank, network.network_alpha, MODELS[model.family].blocks)
    if own is None:
        return plain
    return lambda name, layer: own.size_of(name, layer.kernel)[0] if "_unet_" in name else plain(name, layer)


def adapters(config: TrainConfig, model: Architecture, weights: NetworkWeights | None) -> AdapterSettings | None:
    """What a network of LyCORIS' kinds is made of, where that can be read; that it cannot is a finding elsewhere."""
    network = config.network
    if not trains_lora(config):
        return None
    try:
        settings = adapter_settings(network, as_lycoris=config.training.rng_order == "sd-scripts")
        if settings is None or not network.dim_from_weights:
            return settings
        return None if weights is None else _held(config, model, weights)
    except ConfigError:
        return None


def _held(config: TrainConfig, model: Architecture, weights: NetworkWeights) -> AdapterSettings:
    """Raises ConfigError where the file is of another model."""
    base = settings_of(replace(config.network, network_args=None))
    alphas = {f"{name}{_ALPHA}": alpha for name, alpha in weights.alphas.items()}
    return held_settings(base, targets(model), weights.shapes, alphas)


def judged(config: TrainConfig, model: Architecture | None, weights: NetworkWeights | None) -> Iterator[Problem]:
    """Does the network fit the model, and the file the network?"""
    if model is None or not model.known:
        return
    settings = adapters(config, model, weights)
    if settings is not None and not dylora_ranks_do_not_fit(config):
        yield from misfits(targets(model), settings)
    if weights is None:
        return
    where = shown(config.network.network_weights or "")
    if config.network.network_module in (LYCORIS, *NATIVE) and trains_lora(config):
        yield from _judged_adapters(where, config, model, weights, settings)
    elif of_known_layers(config):
        layers = adapted(config, model, weights)
        yield from fitting(where, weights.shapes, layers, rank_of(config, model, weights))


def _judged_adapters(
    where: str, config: TrainConfig, model: Architecture, weights: NetworkWeights, settings: AdapterSettings | None
) -> Iterator[Problem]:
    """The same for networks of LyCORIS' kinds, whose tensors are told by their settings."""
    if config.network.dim_from_weights:
        try:
            _held(config, model, weights)
        except ConfigError as error:
            yield from (replace(problem, where=where, name="weights_of_another_model") for problem in error.problems)
        return
    if settings is None or any(misfits(targets(model), settings)):
        return
    wanted_shapes = {
        f"{target.name}.{ending}": shape
        for target in wanted(targets(model), settings)
        for ending, shape in tensors_of(target, settings_for(target, settings)).items()
    }
    common = [key for key in wanted_shapes if key in weights.shapes]
    other = [key for key in common if wanted_shapes[key] and weights.shapes[key] != wanted_shapes[key]]
    if not common:
        cure = "give a file of the same model family and the same network, or set dim_from_weights to true"
        yield Problem(where, "holds none of this network's layers", cure, "weights_of_another_model")
    elif other:
        first = other[0]
        what = f"{first} is {weights.shapes[first]}, but this network needs {wanted_shapes[first]}"
        cure = "set network_dim and conv_dim as the file has them, or dim_from_weights to true"
        yield Problem(where, f"{what} ({len(other)} tensors differ)", cure, "weights_of_another_rank")


def of_known_layers(config: TrainConfig) -> bool:
    """A plain LoRA whose ranks, by kind of layer or by block, can be read."""
    if config.network.network_module not in MODULES or not trains_lora(config):
        return False
    args = network_args(config)
    return not (asked(args) and (block_count_wrong(config) or block_weight_unreadable(config)))


def fitting(where: str, shapes: Shapes, layers: Iterable[tuple[str, Layer]], rank: Rank) -> Iterator[Problem]:
    """At most one finding: a LoRA of another family, of another rank, or of other layers altogether."""
    common = 0
    other_rank: list[str] = []
    for name, layer in layers:
        own = rank(name, layer)
        for key, needed in lora_shapes(name, layer, own).items():
            if key not in shapes:
                continue
            common += 1
            held = shapes[key]
            if held == tuple(needed):
                continue
            down = shapes.get(name + _DOWN, ())
            theirs = lora_shapes(name, layer, down[0] if down else own)[key]
            if held != tuple(theirs):
                what = f"{key} is {held}, but this model needs {tuple(needed)}"
                yield Problem(where, what, "give a LoRA of the same model family", "weights_of_another_model")
                return
            other_rank.append(name)
    if not common:
        kind = next((kind for start, kind in _SIGNS.items() if any(key.startswith(start) for key in shapes)), "")
        what = "holds none of this network's layers" + (f"; it is a LoRA of {kind}" if kind else "")
        yield Problem(where, what, "give a LoRA of the same model family", "weights_of_another_model")
    elif other_rank:
        yield _other_rank(where, shapes, list(dict.fromkeys(other_rank)), dict(layers), rank)


def _other_rank(where: str, shapes: Shapes, names: list[str], layers: Mapping[str, Layer], rank: Rank) -> Problem:
    first = names[0]
    held, own = shapes.get(first + _DOWN, (0,))[0], rank(first, layers[first])
    option = "conv_dim" if layers[first].kernel == 3 and own != held else "network_dim"
    what = f"is of rank {held} in {first}, but {option} gives {own} ({len(names)} layers differ)"
    return Problem(where, what, f"set {option} to {held}, or dim_from_weights to true", "weights_of_another_rank")
