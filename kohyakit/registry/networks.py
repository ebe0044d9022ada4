"""Network methods: what sd-scripts' and LyCORIS' modules take and fit, and where the code is that trains each here.

One entry a module (`network_module`), and one an algorithm of LyCORIS (`algo`). What is said of a method elsewhere
(rules, forms, help, docs, sizes) is a view of these two tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.registry.table import Entry, Table


@dataclass(frozen=True, slots=True)
class NetworkEntry(Entry):
    """target: the function that builds it (`networks.base.NetworkBuild`), "" where only sd-scripts trains it.

    arguments: all that the module takes from network_args, each explained in `NetworkArgs`; here: those that the
    built-in trainer acts on. families: groups of model families that it fits. algo: the algorithm of a module that has
    one of its own. unread: programs that lose its file. low_rank: up times down, and nothing else. by_rank: its
    strength is alpha over rank. several_rates: it knows a rate for each text encoder; sd-scripts hands all others the
    first of several. joins: its layers of one input can take it in one product (joined_qkv).
    """

    families: tuple[str, ...] = ()
    here: tuple[str, ...] = ()
    algo: str = ""
    unread: tuple[str, ...] = ()
    low_rank: bool = False
    by_rank: bool = True
    several_rates: bool = False
    joins: bool = False


@dataclass(frozen=True, slots=True)
class AlgorithmEntry(Entry):
    """target: its layer, a `Beside` (`networks.rebuilt`). shapes: "module:function" without torch, which tells what the
    file holds of a layer: (target, rank, settings) -> {ending: shape}. unread: programs that lose its file; where that
    hangs on an argument too, see `planning.unread`."""

    shapes: str = ""
    unread: tuple[str, ...] = ()


_PLUS = "loraplus_lr_ratio loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio"
_CONV, _DROP = "conv_dim conv_alpha", "rank_dropout module_dropout"
_BLOCKS = (
    "block_dims block_alphas conv_block_dims conv_block_alphas down_lr_weight mid_lr_weight up_lr_weight "
    "block_lr_zero_threshold"
)
_OFT = "enable_all_linear enable_conv"
_REG = "network_reg_lrs network_reg_dims"
_LOHA = f"{_CONV} {_DROP} {_PLUS} {_REG} use_tucker exclude_patterns include_patterns verbose"
_LOHA_HERE = f"{_CONV} {_DROP} use_tucker exclude_patterns include_patterns network_reg_dims"
_SD, _BUILD = ("sd", "sdxl"), "kohyakit.networks.lycoris:build"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NETWORKS: Table[NetworkEntry] = Table(
    "network",
    {
        "networks.lora": NetworkEntry(
            "kohyakit.networks.methods.lora:build", "LoRA, and LoCon with conv_dim", families=_SD, low_rank=True,
            joins=True, arguments=_words(f"{_CONV} {_DROP} {_BLOCKS} {_PLUS}"),
            here=_words(f"{_CONV} {_DROP} {_BLOCKS} {_PLUS}"),
        ),
        "networks.lora_fa": NetworkEntry(
            "kohyakit.networks.methods.lora_fa:build", "LoRA whose down matrices stay as they were drawn", families=_SD,
            low_rank=True, joins=True,
            arguments=_words(f"{_CONV} {_DROP} {_BLOCKS}"), here=_words(f"{_CONV} {_DROP} {_BLOCKS}"),
        ),
        "networks.dylora": NetworkEntry(
            _BUILD, "LoRA that can be cut to smaller ranks afterwards", families=_SD, low_rank=True, algo="dylora",
            arguments=_words(f"conv_dim unit {_PLUS}"), here=_words(f"conv_dim unit {_PLUS}"),
        ),
        "networks.oft": NetworkEntry(
            _BUILD, "turns a layer's outputs", families=_SD, by_rank=False, algo="diag-oft",
            unread=("A1111", "Forge", "ComfyUI", "diffusers", "InvokeAI"),
            arguments=_words(_OFT), here=_words(_OFT),
        ),
        "networks.oft_flux": NetworkEntry(
            "", "the same for Flux", families=("flux",), by_rank=False, arguments=("enable_all_linear",),
        ),
        "networks.loha": NetworkEntry(
            _BUILD, "sd-scripts' own LoHa, for SDXL", families=("sdxl", "anima"), algo="loha",
            arguments=_words(_LOHA), here=_words(_LOHA_HERE),
        ),
        "networks.lokr": NetworkEntry(
            _BUILD, "sd-scripts' own LoKr, for SDXL", families=("sdxl", "anima"), algo="lokr",
            arguments=_words(f"{_LOHA} factor"), here=_words(f"{_LOHA_HERE} factor"),
        ),
        "networks.lora_flux": NetworkEntry(
            "", "LoRA of Flux", families=("flux",), several_rates=True,
            arguments=_words(
                f"{_CONV} {_DROP} {_PLUS} {_REG} img_attn_dim txt_attn_dim img_mlp_dim txt_mlp_dim img_mod_dim "
                "txt_mod_dim single_dim single_mod_dim in_dims train_double_block_indices train_single_block_indices "
                "train_blocks split_qkv ggpo_sigma ggpo_beta train_t5xxl verbose"
            ),
        ),
        "networks.lora_sd3": NetworkEntry(
            "", "LoRA of Stable Diffusion 3", families=("sd3",), several_rates=True,
            arguments=_words(
                f"{_CONV} {_DROP} {_PLUS} context_attn_dim context_mlp_dim context_mod_dim x_attn_dim x_mlp_dim "
                "x_mod_dim emb_dims train_block_indices split_qkv train_t5xxl verbose"
            ),
        ),
        "networks.lora_lumina": NetworkEntry(
            "", "LoRA of Lumina", families=("lumina",), several_rates=True,
            arguments=_words(
                f"{_CONV} {_DROP} {_PLUS} attn_dim mlp_dim mod_dim refiner_dim embedder_dims train_blocks split_qkv "
                "verbose"
            ),
        ),
        "networks.lora_hunyuan_image": NetworkEntry(
            "", "LoRA of HunyuanImage", families=("hunyuan_image",),
            arguments=_words(f"{_CONV} {_DROP} {_PLUS} {_REG} split_qkv ggpo_sigma ggpo_beta verbose"),
        ),
        "networks.lora_anima": NetworkEntry(
            "", "LoRA of Anima", families=("anima",), several_rates=True,
            arguments=_words(f"{_DROP} {_PLUS} {_REG} train_llm_adapter exclude_patterns include_patterns verbose"),
        ),
        "lycoris.kohya": NetworkEntry(
            _BUILD, "the networks of LyCORIS 3.x, chosen by algo", ("lycoris",),
            arguments=_words(
                f"{_CONV} {_DROP} {_PLUS} algo preset factor dropout decompose_both use_tucker use_cp use_conv_cp "
                "disable_conv_cp use_scalar rank_dropout_scale train_norm block_size constraint rescaled dora_wd "
                "wd_on_output bypass_mode full_matrix rs_lora unbalanced_factorization train_on_input train_t5xxl "
                "sig_type min_rank alpha_rank_scale"
            ),
        ),
    },
)  # fmt: skip

_LAYERS = "algo preset conv_dim conv_alpha module_dropout train_norm"
_MATRIX = f"{_LAYERS} rank_dropout rank_dropout_scale"
_TUCKER = (
    f"{_MATRIX} dropout use_tucker use_cp use_conv_cp disable_conv_cp use_scalar dora_wd wd_on_output bypass_mode "
    "rs_lora"
)

# name: (layer under networks/methods/, help, what it takes from network_args)
_ALGORITHMS = {
    "lora": ("locon:LoconLayer", "LoRA and LoCon: up times down", f"{_TUCKER} {_PLUS}"),
    "loha": ("loha:LohaLayer", "two low-rank products, multiplied number by number", _TUCKER),
    "lokr": (
        "lokr:LokrLayer", "a Kronecker product of a small and a large matrix",
        f"{_TUCKER} factor decompose_both full_matrix unbalanced_factorization",
    ),
    "full": ("full:FullLayer", "the whole difference, weights and biases: fine-tuning in a LoRA's file", _MATRIX),
    "ia3": ("ia3:Ia3Layer", "a factor for each output or input of a layer", f"{_LAYERS} train_on_input"),
    "dylora": ("dylora:DyloraLayer", "LoRA that can be cut to smaller ranks afterwards", f"{_LAYERS} block_size"),
    "glora": (
        "glora:GloraLayer", "LoRA beside a mixture of the layer's inputs", f"{_MATRIX} dropout use_scalar rs_lora",
    ),
    "tlora": (
        "tlora:TloraLayer", "LoRA of fewer ranks the more noise there is, begun on the weight's singular vectors",
        f"{_LAYERS} sig_type min_rank alpha_rank_scale",
    ),
    "diag-oft": (
        "oft:OftLayer", "turns a layer's outputs block by block", f"{_LAYERS} rank_dropout constraint rescaled",
    ),
    "boft": ("boft:BoftLayer", "turns a layer's outputs in several rounds", f"{_LAYERS} constraint rescaled"),
}  # fmt: skip

_PLAIN_ONLY = ("diffusers", "sd-scripts")  # which read plain LoRA
_ALL = ("A1111", "Forge", "ComfyUI", *_PLAIN_ONLY, "InvokeAI")
_UNREAD = {
    "tlora": _ALL,
    "loha": _PLAIN_ONLY, "lokr": _PLAIN_ONLY, "full": _PLAIN_ONLY, "ia3": ("Forge", "ComfyUI", *_PLAIN_ONLY),
    "glora": ("A1111", *_PLAIN_ONLY, "InvokeAI"), "diag-oft": ("A1111", "Forge", *_PLAIN_ONLY, "InvokeAI"),
    "boft": ("A1111", "Forge", *_PLAIN_ONLY, "InvokeAI"),
}  # fmt: skip

ALGORITHMS: Table[AlgorithmEntry] = Table(
    "algo of LyCORIS",
    {
        name: AlgorithmEntry(
            f"kohyakit.networks.methods.{target}", text, ("locon",) if name == "lora" else (),
            unread=_UNREAD.get(name, ()), arguments=_words(arguments),
            shapes=f"kohyakit.planning.size.shapes:{name.replace('-', '_')}",
        )
        for name, (target, text, arguments) in _ALGORITHMS.items()
    },
)  # fmt: skip


def trained_here() -> tuple[str, ...]:
    """The modules that the built-in trainer has code for."""
    return tuple(name for name, entry in NETWORKS.items() if entry.target)
