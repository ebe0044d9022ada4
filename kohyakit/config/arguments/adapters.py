"""What a LyCORIS network is made of, read from `network_args`: its algorithm, its layers, its ranks and strengths.

As LyCORIS 3.x reads them (`lycoris.kohya`), and sd-scripts' own `networks.loha` and `networks.lokr`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kohyakit.config.arguments.network_args import NetworkArgs
from kohyakit.config.arguments.network_modules import NETWORK_ARG_SPECS, parse_network_args
from kohyakit.config.arguments.presets import PRESETS, Options, Preset, lora_preset, oft_preset, preset_named
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry.networks import ALGORITHMS, NETWORKS

LYCORIS = "lycoris.kohya"
NATIVE = {module: entry.algo for module, entry in NETWORKS.items() if entry.algo}  # sd-scripts' own


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """A network of LyCORIS' kinds. An alpha of 0 means alpha = rank; a conv_dim of 0 leaves convolutions alone.

    scaled_ranks: make up for the ranks that rank_dropout leaves out. factor, decompose_both, full_matrix,
    unbalanced: LoKr's. group: ranks that DyLoRA trains at a time. constraint, rescaled: OFT's. vectors, min_rank,
    rank_power: T-LoRA's, the ranks at the last timestep and how fast they become fewer. native: as sd-scripts' own
    networks. as_lycoris: with LyCORIS' mistakes. prefix: what a layer's name begins with in the file, where it is
    not Kohya's. dims: ranks by layer name, a regular expression each. by_class (class, algorithm around it),
    by_name: what holds for some layers, as the preset has it. held: what holds for each layer of a file, and for no
    other; shapes: a layer's tensors as that file has them.
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
    group: int = 4
    constraint: float = 0.0
    rescaled: bool = False
    vectors: str = "principal"
    min_rank: int = 1
    rank_power: float = 1.0
    native: bool = False
    as_lycoris: bool = False
    prefix: str = ""
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    dims: tuple[tuple[str, int], ...] = ()
    by_class: Mapping[tuple[str, str], AdapterSettings] = field(default_factory=dict)
    by_name: Mapping[str, AdapterSettings] = field(default_factory=dict)
    held: Mapping[str, AdapterSettings] | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None


def adapter_settings(asked: NetworkConfig, *, as_lycoris: bool = False) -> AdapterSettings | None:
    """What a config asks for; None for a network of another kind. See `settings_of`."""
    return settings_of(asked, as_lycoris=as_lycoris) if asked.network_module in (LYCORIS, *NATIVE) else None


def settings_of(asked: NetworkConfig, *, as_lycoris: bool = False) -> AdapterSettings:
    """What a network of LyCORIS' kinds is made of. Raises ConfigError for a preset nobody knows.

    as_lycoris: with LyCORIS 3.x' mistakes: decompose_both=False counts as on, dropout, rank_dropout_scale and
    train_on_input are not looked at, two gradients of LoHa are crossed, and DyLoRA's file has another strength.
    """
    module = asked.network_module or ""
    args = parse_network_args(asked.network_args or ())
    if module in NATIVE:
        return _native(asked, args, NATIVE[module], as_lycoris=as_lycoris)
    preset = preset_named(args.preset or "full")
    found = _lycoris(asked, args, preset, as_lycoris=as_lycoris)

    def of(options: Options, algo: str) -> AdapterSettings:
        own = _with(asked, args, {"algo": algo, **options})
        layers = replace(preset, convolutions=preset.convolutions or bool(options.get("dim")))
        made = _lycoris(*own, layers, as_lycoris=as_lycoris)
        return replace(
            made,
            preset=preset,
            on_input=bool(options.get("train_on_input", made.on_input)),  # LyCORIS mistakes these three in network_args
            scaled_ranks=bool(options.get("rank_dropout_scale", made.scaled_ranks)),
            decompose_both=bool(options.get("decompose_both", made.decompose_both)),
        )

    algorithms = {found.algo, *(str(options["algo"]) for options in preset.by_class.values() if "algo" in options)}
    return replace(
        found,
        by_class={(name, algo): of(options, algo) for name, options in preset.by_class.items() for algo in algorithms},
        by_name={name: of(options, found.algo) for name, options in preset.by_name.items()},
    )


def _with(asked: NetworkConfig, args: NetworkArgs, options: Options) -> tuple[NetworkConfig, NetworkArgs]:
    """The same with what a preset says of some layers: dim and alpha are for convolutions too. Raises ConfigError."""
    texts = [f"{name}={value}" for name, value in options.items() if name not in ("dim", "alpha")]
    own = parse_network_args(texts, "preset")
    if own.problems:
        raise ConfigError(own.problems)
    given = {name: value for name in NETWORK_ARG_SPECS() if (value := getattr(own, name)) is not None}
    dim, alpha = options.get("dim"), options.get("alpha")
    for name, value in (("dim", dim), ("alpha", alpha)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise ConfigError(Problem("preset", f"{name} is {value!r}", "write a number", "preset_wrong"))
    if dim:
        asked, given = replace(asked, network_dim=int(dim)), given | {"conv_dim": int(dim)}
    if alpha:
        asked, given = replace(asked, network_alpha=float(alpha)), given | {"conv_alpha": float(alpha)}
    return asked, replace(args, **given)


def _lycoris(asked: NetworkConfig, args: NetworkArgs, preset: Preset, *, as_lycoris: bool) -> AdapterSettings:
    dim = asked.rank
    algo = ALGORITHMS.canonical(args.algo or "lora")
    taken = ALGORITHMS[algo].arguments
    dropout = asked.network_dropout if args.dropout is None else args.dropout
    bypass = bool(args.bypass_mode)
    return AdapterSettings(
        algo=algo,
        preset=preset,
        dim=dim,
        alpha=asked.network_alpha,
        conv_dim=_conv_dim(dim, args, preset),
        conv_alpha=asked.network_alpha if args.conv_alpha is None else args.conv_alpha,
        dropout=0.0 if as_lycoris and not bypass else dropout or 0.0,
        rank_dropout=0.0 if as_lycoris and algo == "glora" else args.rank_dropout or 0.0,
        module_dropout=args.module_dropout or 0.0,
        scaled_ranks=bool(args.rank_dropout_scale) and not as_lycoris,
        tucker=_tucker(args),
        scalar=bool(args.use_scalar),
        norms=bool(args.train_norm),
        dora=bool(args.dora_wd) and "dora_wd" in taken,
        dora_on_output=args.wd_on_output is not False,
        bypass=bypass,
        rs_lora=bool(args.rs_lora),
        factor=-1 if args.factor is None else args.factor,
        decompose_both=args.decompose_both is not None if as_lycoris else bool(args.decompose_both),
        full_matrix=bool(args.full_matrix),
        unbalanced=bool(args.unbalanced_factorization),
        on_input=bool(args.train_on_input) and not as_lycoris,
        group=args.block_size or 4,
        constraint=args.constraint or 0.0,
        rescaled=bool(args.rescaled),
        vectors=args.sig_type or "principal",
        min_rank=1 if args.min_rank is None else args.min_rank,
        rank_power=1.0 if args.alpha_rank_scale is None else args.alpha_rank_scale,
        as_lycoris=as_lycoris,
    )


def _conv_dim(dim: int, args: NetworkArgs, preset: Preset) -> int:
    if not preset.convolutions:
        return 0
    return dim if args.conv_dim is None else args.conv_dim


def _tucker(args: NetworkArgs) -> bool:
    asked = args.use_tucker or args.use_cp or args.use_conv_cp
    return bool(asked) and not args.disable_conv_cp


def _native(asked: NetworkConfig, args: NetworkArgs, algo: str, *, as_lycoris: bool) -> AdapterSettings:
    dim = asked.rank
    found = AdapterSettings(
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
        group=args.unit or 1,
        native=True,
        as_lycoris=as_lycoris,
        exclude=_patterns("exclude_patterns", args.exclude_patterns),
        include=_patterns("include_patterns", args.include_patterns),
        dims=_dims(args.network_reg_dims),
    )
    if algo == "dylora":
        return replace(found, conv_alpha=asked.network_alpha)  # it looks at no other
    return _oft(found, args) if algo == "diag-oft" else found


def _oft(found: AdapterSettings, args: NetworkArgs) -> AdapterSettings:
    """networks.oft: alpha is how far the outputs may turn. In sd-scripts any text switches its two switches on."""
    linear, convolutions = (
        value is not None if found.as_lycoris else bool(value) for value in (args.enable_all_linear, args.enable_conv)
    )
    return replace(
        found,
        preset=oft_preset(all_linear=linear, convolutions=convolutions),
        conv_dim=found.dim if convolutions else 0,
        constraint=found.alpha,
        prefix="oft_unet",
    )


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
