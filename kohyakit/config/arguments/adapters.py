"""What a LyCORIS network is made of, read from `network_args`: its algorithm, its layers, its ranks and strengths.

As LyCORIS 3.x reads them (`lycoris.kohya`), and sd-scripts' own `networks.loha` and `networks.lokr`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kohyakit.config.arguments.network_args import NetworkArgs
from kohyakit.config.arguments.network_modules import parse_network_args
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry.networks import ALGORITHMS, NETWORKS

LYCORIS = "lycoris.kohya"
NATIVE = {module: entry.algo for module, entry in NETWORKS.items() if entry.algo}  # sd-scripts' own


@dataclass(frozen=True, slots=True)
class Preset:
    """Which layers a network adapts: those inside modules of these classes, and those whose names begin so.

    Classes and names are those of sd-scripts' own models. convolutions: also those larger than 1x1.
    on_input: what the names of layers end in that (IA)^3 scales by their inputs.
    """

    unet_modules: tuple[str, ...] = ()
    unet_names: tuple[str, ...] = ()
    text_modules: tuple[str, ...] = ("CLIPAttention", "CLIPMLP")
    convolutions: bool = False
    endings: tuple[str, ...] = ()
    on_input: tuple[str, ...] = ()


_OUTER = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")
_BLOCKS = ("ResnetBlock2D", "Downsample2D", "Upsample2D")
_ALL = ("Transformer2DModel", *_BLOCKS)

# LyCORIS' own, as far as they speak of Stable Diffusion.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "full": Preset(_ALL, _OUTER, convolutions=True),
        "full-lin": Preset(("Transformer2DModel", "ResnetBlock2D"), _OUTER[2:]),
        "attn-mlp": Preset(("Transformer2DModel",)),
        "attn-only": Preset(("CrossAttention",), text_modules=("CLIPAttention",)),
        "unet-only": Preset(_ALL, _OUTER, (), convolutions=True),
        "unet-transformer-only": Preset(("Transformer2DModel",), (), ()),
        "unet-convblock-only": Preset(_BLOCKS, _OUTER[:2], (), convolutions=True),
        "ia3": Preset(
            text_modules=(), endings=("to_k", "to_v", "ff.net.2", "k_proj", "v_proj", "mlp.fc2"),
            on_input=("ff.net.2", "mlp.fc2"),
        ),
    }
)  # fmt: skip


def lora_preset(*, convolutions: bool = False) -> Preset:
    """What sd-scripts' own networks adapt of a U-Net: its transformers, or also the convolutions around them."""
    return Preset(_ALL if convolutions else _ALL[:1], convolutions=convolutions)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """A network of LyCORIS' kinds. An alpha of 0 means alpha = rank; a conv_dim of 0 leaves convolutions alone.

    scaled_ranks: make up for the ranks that rank_dropout leaves out. factor, decompose_both, full_matrix,
    unbalanced: LoKr's. native: as sd-scripts' own networks. crossed: LoHa's core tensors with the gradients that both
    give them, half of them another's. dims: ranks by layer name, a regular expression each.
    """

    algo: str = "lora"
    preset: Preset = field(default_factory=lambda: PRESETS["full"])
    dim: int = 4
    alpha: float = 1.0
    conv_dim: int = 4
    conv_alpha: float = 1.0
    dropout: float = 0.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    scaled_ranks: bool = False
    tucker: bool = False
    scalar: bool = False
    norms: bool = False
    dora: bool = False
    dora_on_output: bool = True
    bypass: bool = False
    rs_lora: bool = False
    factor: int = -1
    decompose_both: bool = False
    full_matrix: bool = False
    unbalanced: bool = False
    on_input: bool = False
    native: bool = False
    crossed: bool = False
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    dims: tuple[tuple[str, int], ...] = ()


def adapter_settings(asked: NetworkConfig, *, as_lycoris: bool = False) -> AdapterSettings | None:
    """What a config asks for; None for a network of another kind. See `settings_of`."""
    return settings_of(asked, as_lycoris=as_lycoris) if asked.network_module in (LYCORIS, *NATIVE) else None


def settings_of(asked: NetworkConfig, *, as_lycoris: bool = False) -> AdapterSettings:
    """What a network of LyCORIS' kinds is made of. Raises ConfigError for a preset nobody knows.

    as_lycoris: with LyCORIS 3.x' mistakes: decompose_both=False counts as on, dropout, rank_dropout_scale and
    train_on_input are not looked at, and two gradients of LoHa are crossed.
    """
    module = asked.network_module or ""
    args = parse_network_args(asked.network_args or ())
    if module in NATIVE:
        return _native(asked, args, NATIVE[module], as_lycoris=as_lycoris)
    return _lycoris(asked, args, as_lycoris=as_lycoris)


def _lycoris(asked: NetworkConfig, args: NetworkArgs, *, as_lycoris: bool) -> AdapterSettings:
    dim = asked.rank
    algo = ALGORITHMS.canonical(args.algo or "lora")
    preset = preset_named(args.preset or "full")
    dropout = asked.network_dropout if args.dropout is None else args.dropout
    bypass = bool(args.bypass_mode)
    return AdapterSettings(
        algo=algo,
        preset=preset,
        dim=dim,
        alpha=asked.network_alpha,
        conv_dim=(dim if args.conv_dim is None else args.conv_dim) if preset.convolutions else 0,
        conv_alpha=asked.network_alpha if args.conv_alpha is None else args.conv_alpha,
        dropout=0.0 if as_lycoris and not bypass else dropout or 0.0,
        rank_dropout=args.rank_dropout or 0.0,
        module_dropout=args.module_dropout or 0.0,
        scaled_ranks=bool(args.rank_dropout_scale) and not as_lycoris,
        tucker=_tucker(args),
        scalar=bool(args.use_scalar),
        norms=bool(args.train_norm),
        dora=bool(args.dora_wd) and "dora_wd" in ALGORITHMS[algo].arguments,
        dora_on_output=args.wd_on_output is not False,
        bypass=bypass,
        rs_lora=bool(args.rs_lora),
        factor=-1 if args.factor is None else args.factor,
        decompose_both=args.decompose_both is not None if as_lycoris else bool(args.decompose_both),
        full_matrix=bool(args.full_matrix),
        unbalanced=bool(args.unbalanced_factorization),
        on_input=bool(args.train_on_input) and not as_lycoris,
        crossed=as_lycoris,
    )


def _tucker(args: NetworkArgs) -> bool:
    asked = args.use_tucker or args.use_cp or args.use_conv_cp
    return bool(asked) and not args.disable_conv_cp


def _native(asked: NetworkConfig, args: NetworkArgs, algo: str, *, as_lycoris: bool) -> AdapterSettings:
    dim = asked.rank
    return AdapterSettings(
        algo=algo,
        preset=lora_preset(convolutions=args.conv_dim is not None),
        dim=dim,
        alpha=asked.network_alpha,
        conv_dim=args.conv_dim or 0,
        conv_alpha=1.0 if args.conv_alpha is None else args.conv_alpha,
        rank_dropout=args.rank_dropout or 0.0,
        module_dropout=args.module_dropout or 0.0,
        scaled_ranks=True,
        tucker=bool(args.use_tucker),
        factor=-1 if args.factor is None else args.factor,
        native=True,
        crossed=as_lycoris,
        exclude=_patterns("exclude_patterns", args.exclude_patterns),
        include=_patterns("include_patterns", args.include_patterns),
        dims=_dims(args.network_reg_dims),
    )


def preset_named(name: str) -> Preset:
    """One of LyCORIS' presets. Raises ConfigError for a file, which is not read in process, and unknown names."""
    if name in PRESETS:
        return PRESETS[name]
    cure = f"choose one of {', '.join(PRESETS)}, or train with --backend sd-scripts"
    raise ConfigError(Problem("network_args", f"preset {name} is none of LyCORIS' own", cure, "not_built_in"))


def _patterns(name: str, text: str | None) -> tuple[str, ...]:
    """A list of regular expressions, written as Python writes it. Raises ConfigError."""
    if not text:
        return ()
    try:
        found = ast.literal_eval(text)
        patterns = tuple(map(str, found if isinstance(found, (list, tuple)) else [found]))
        for pattern in patterns:
            re.compile(pattern)
    except (ValueError, SyntaxError, re.error):
        what, cure = f"{name} is {text!r}", "write it as ['pattern', 'pattern'], each a regular expression"
        raise ConfigError(Problem("network_args", what, cure, "bad_network_arg")) from None
    return patterns


def _dims(text: str | None) -> tuple[tuple[str, int], ...]:
    """`regular expression=rank, …`. Raises ConfigError."""
    found = []
    for part in filter(None, (one.strip() for one in (text or "").split(","))):
        pattern, _, rank = (text.strip() for text in part.partition("="))
        try:
            re.compile(pattern)
            found.append((pattern, int(rank)))
        except (ValueError, re.error):
            what, cure = f"network_reg_dims has {part!r}", "write regular expression=rank, comma-separated"
            raise ConfigError(Problem("network_args", what, cure, "bad_network_arg")) from None
    return tuple(found)
