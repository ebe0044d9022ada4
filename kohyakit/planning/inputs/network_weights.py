"""A LoRA file to start from (`network_weights`) against the network that would be trained, from its header alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kohyakit.config.arguments.adapters import LYCORIS, NATIVE, AdapterSettings, adapter_settings, settings_of
from kohyakit.config.arguments.blocks import asked, blocks_of
from kohyakit.config.rules.methods import block_count_wrong, block_weight_unreadable, dylora_ranks_do_not_fit
from kohyakit.config.rules.reading import network_args, trains_lora
from kohyakit.config.scripts import model_family
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.formats.weights.header import Shapes
from kohyakit.planning.inputs import lora_layout
from kohyakit.planning.inputs.lora_layout import DOWN
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
_UP = ".lora_up.weight"
Named = list[tuple[str, Layer]]
# What only one family's files hold -> what they are.
_SIGNS = {
    "lora_te1_": "SDXL", "lora_unet_input_blocks_": "SDXL", "lora_te_text_model": "Stable Diffusion 1.x or 2.x",
    "lora_unet_down_blocks_": "Stable Diffusion 1.x or 2.x", "lora_unet_double_blocks_": "Flux",
    "lora_unet_joint_blocks_": "Stable Diffusion 3",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """A LoRA file as its header tells it. ranks: of each layer. alphas: of each where the file's kind shows numbers.

    kohya: it has Kohya's own keys, the only ones that sd-scripts takes.
    """

    name: str
    shapes: Shapes
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    kohya: bool = True

    def rank(self, layer: str) -> int:
        return self.ranks[layer]


def read(config: TrainConfig) -> tuple[NetworkWeights | None, tuple[Problem, ...]]:
    """The file named by network_weights, where there is one. One that is not there is missing_files' finding."""
    name = config.network.network_weights
    path = Path(name or "")
    if not name or not exists(name) or not trains_lora(config):
        return None, ()
    try:
        header = lora_layout.read(path, sdxl=_is_sdxl(config))
    except KohyakitError as error:
        found = (replace(p, where=shown(name), name="weights_unreadable", severity="error") for p in error.problems)
        return None, tuple(found)
    layers = {key.removesuffix(DOWN): shape[0] for key, shape in header.shapes.items() if _is_down(key, shape)}
    return NetworkWeights(path.name, header.shapes, layers, header.alphas, header.kohya), ()


def _is_sdxl(config: TrainConfig) -> bool:
    kind = model_family(config.launch.script, v2=config.model.v2)
    return kind in MODELS and MODELS[kind].original_names


def _is_down(key: str, shape: tuple[int, ...]) -> bool:
    return key.endswith(DOWN) and len(shape) >= 2


def adapted(config: TrainConfig, model: Architecture, weights: NetworkWeights | None, backend: str = "") -> Named:
    """The layers of the network: all that the settings name or, with dim_from_weights, those that the file has."""
    network, args = config.network, network_args(config)
    held = weights.ranks if weights is not None and network.dim_from_weights else None
    convolved = bool(args.conv_dim or args.conv_block_dims)
    layers = lora_layers(
        model,
        text_encoder=not network.network_train_unet_only,
        unet=not network.network_train_text_encoder_only,
        convolutions=held is not None or convolved or _widened(config, backend),
    )
    rank = rank_of(config, model, weights)
    found = ((name, layer) for name, layer in layers if held is not None or convolved or layer.kernel != 3)
    return [(name, layer) for name, layer in found if (held is None or name in held) and rank(name, layer)]


def _widened(config: TrainConfig, backend: str) -> bool:
    """Once sd-scripts has read a file for base_weights, its networks also adapt what lies around the transformers."""
    as_there = backend == "sd-scripts" or config.training.rng_order == "sd-scripts"
    return as_there and bool(config.network.base_weights) and config.network.module == "networks.lora"


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
    alphas = {f"{name}.alpha": alpha for name, alpha in weights.alphas.items()}
    return held_settings(base, targets(model), weights.shapes, alphas)


def judged(
    config: TrainConfig, model: Architecture | None, weights: NetworkWeights | None, backend: str
) -> Iterator[Problem]:
    """Does the network fit the model, and the file the network?"""
    where = shown(config.network.network_weights or "")
    if weights is not None and backend == "sd-scripts" and not weights.kohya:
        yield _not_kohyas(where)
        return
    if model is None or not model.known:
        return
    settings = adapters(config, model, weights)
    if settings is not None and not dylora_ranks_do_not_fit(config):
        yield from misfits(targets(model), settings)
    if weights is None:
        return
    if config.network.network_module in (LYCORIS, *NATIVE) and trains_lora(config):
        yield from _judged_adapters(where, config, model, weights, settings)
    elif of_known_layers(config):
        layers = adapted(config, model, weights, backend)
        found = list(fitting(where, weights.shapes, layers, rank_of(config, model, weights)))
        yield from found or (*_left_out(config, where, weights, layers), *_other_alpha(config, where, weights, layers))


def _not_kohyas(where: str) -> Problem:
    what = "has another program's layer names, of which sd-scripts takes none"
    return Problem(where, what, f'write it anew with: kohyakit lora convert "{where}" OUT.safetensors --to kohya',
                   "weights_of_another_layout")  # fmt: skip


def _left_out(config: TrainConfig, where: str, weights: NetworkWeights, layers: Named) -> Iterator[Problem]:
    """Tensors beside the two that a plain LoRA has, such as DoRA's."""
    names = {name for name, _ in layers}
    own = (DOWN, _UP, ".alpha")
    found = [key for key in weights.shapes if key.partition(".")[0] in names and not key.endswith(own)]
    if found:
        module = config.network.module
        what = f"holds {len(found)} tensors that {module} has no place for, such as {found[0]}; it goes on without them"
        cure = "take a network_module that has them, or train from another file"
        yield Problem(where, what, cure, "weights_left_out", "warning")


def _other_alpha(config: TrainConfig, where: str, weights: NetworkWeights, layers: Named) -> Iterator[Problem]:
    """The LoRA in the file begins weaker or stronger than it was."""
    network, args = config.network, network_args(config)
    if network.dim_from_weights:
        return
    for name, layer in layers:
        rank = weights.ranks.get(name, 0)
        held = weights.alphas.get(name, 0.0 if f"{name}.alpha" in weights.shapes else float(rank))  # 0: not told
        own, option = network.network_alpha or rank, "network_alpha"
        if layer.kernel == 3:
            own, option = (1.0 if args.conv_alpha is None else args.conv_alpha) or rank, "conv_alpha"
        if rank and abs(held - own) > 1e-3 * held > 0:
            share = f"it begins at {own / held:.3g} of its strength"
            what = f"has an alpha of {held:g} in {name}, and {option} is {own:g}: {share}"
            cure = f"set {option} to {held:g}, or dim_from_weights to true"
            yield Problem(where, what, cure, "weights_of_another_alpha", "warning")
            return


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
    other = [key for key in common if wanted_shapes[key] and not _alike(weights.shapes[key], wanted_shapes[key])]
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
            if _alike(held, needed):
                continue
            down = shapes.get(name + DOWN, ())
            theirs = lora_shapes(name, layer, down[0] if down else own)[key]
            if not _alike(held, theirs):
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


def _alike(held: Sequence[int], wanted: Sequence[int]) -> bool:
    """The same shape but for sides of 1, as a 1x1 convolution's and a Linear's are."""
    return [side for side in held if side != 1] == [side for side in wanted if side != 1]


def _other_rank(where: str, shapes: Shapes, names: list[str], layers: Mapping[str, Layer], rank: Rank) -> Problem:
    first = names[0]
    held, own = shapes.get(first + DOWN, (0,))[0], rank(first, layers[first])
    option = "conv_dim" if layers[first].kernel == 3 and own != held else "network_dim"
    what = f"is of rank {held} in {first}, but {option} gives {own} ({len(names)} layers differ)"
    return Problem(where, what, f"set {option} to {held}, or dim_from_weights to true", "weights_of_another_rank")
