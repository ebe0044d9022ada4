"""Which network modules there are, which arguments each takes, and reading `network_args`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from kohyakit.config.arguments.network_args import NetworkArgs
from kohyakit.config.param import Spec, specs
from kohyakit.config.values import Unreadable, coerce
from kohyakit.errors import Problem

_PLUS = "loraplus_lr_ratio loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio"
_CONV, _DROP = "conv_dim conv_alpha", "rank_dropout module_dropout"
_BLOCKS = (
    "block_dims block_alphas conv_block_dims conv_block_alphas down_lr_weight mid_lr_weight up_lr_weight "
    "block_lr_zero_threshold"
)
_REG = "network_reg_lrs network_reg_dims"
_LOHA = f"{_CONV} {_DROP} {_PLUS} {_REG} use_tucker exclude_patterns include_patterns verbose"

# Which of the arguments each network module of sd-scripts (and LyCORIS) takes.
MODULE_ARGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        module: frozenset(names.split())
        for module, names in {
            "networks.lora": f"{_CONV} {_DROP} {_BLOCKS} {_PLUS}",
            "networks.lora_fa": f"{_CONV} {_DROP} {_BLOCKS}",
            "networks.dylora": f"{_CONV} unit {_PLUS}",
            "networks.oft": "enable_all_linear enable_conv",
            "networks.oft_flux": "enable_all_linear",
            "networks.loha": _LOHA,
            "networks.lokr": f"{_LOHA} factor",
            "networks.lora_flux": f"{_CONV} {_DROP} {_PLUS} {_REG} img_attn_dim txt_attn_dim img_mlp_dim txt_mlp_dim "
            "img_mod_dim txt_mod_dim single_dim single_mod_dim in_dims train_double_block_indices "
            "train_single_block_indices train_blocks split_qkv ggpo_sigma ggpo_beta train_t5xxl verbose",
            "networks.lora_sd3": f"{_CONV} {_DROP} {_PLUS} context_attn_dim context_mlp_dim context_mod_dim x_attn_dim "
            "x_mlp_dim x_mod_dim emb_dims train_block_indices split_qkv train_t5xxl verbose",
            "networks.lora_lumina": f"{_CONV} {_DROP} {_PLUS} attn_dim mlp_dim mod_dim refiner_dim embedder_dims "
            "train_blocks split_qkv verbose",
            "networks.lora_hunyuan_image": f"{_CONV} {_DROP} {_PLUS} {_REG} split_qkv ggpo_sigma ggpo_beta verbose",
            "networks.lora_anima": f"{_DROP} {_PLUS} {_REG} train_llm_adapter exclude_patterns include_patterns "
            "verbose",
            "lycoris.kohya": f"{_CONV} {_DROP} {_PLUS} algo preset factor dropout decompose_both use_tucker use_cp "
            "use_conv_cp disable_conv_cp use_scalar rank_dropout_scale train_norm block_size constraint rescaled "
            "dora_wd wd_on_output bypass_mode full_matrix rs_lora unbalanced_factorization train_on_input train_t5xxl",
        }.items()
    }
)


# Networks that know a rate for each text encoder; sd-scripts hands all others the first of several.
SEVERAL_TEXT_RATES = frozenset(
    {"networks.lora_flux", "networks.lora_sd3", "networks.lora_lumina", "networks.lora_anima"}
)


def NETWORK_ARG_SPECS() -> dict[str, Spec]:
    """Every known network argument by name."""
    return specs(NetworkArgs)


def parse_network_args(args: Iterable[str] | None, where: str = "network_args") -> NetworkArgs:
    """("conv_dim=8", "rank_dropout=0.1") -> NetworkArgs(conv_dim=8, rank_dropout=0.1).

    As sd-scripts: split at the first equals sign, a later one replaces an earlier one. Never raises: what cannot
    be read and what no network takes stand in `problems`.
    """
    good: dict[str, Any] = {}
    extras: dict[str, str] = {}
    problems: list[Problem] = []
    for text in args or ():
        name, equals, value = text.partition("=")
        spec = NETWORK_ARG_SPECS().get(name)
        if not equals:
            what = f"{text!r} is not name=value"
            problems.append(Problem(where, what, "write it like conv_dim=8", "bad_network_arg"))
        elif spec is None:
            extras[name] = value
            problems.append(_unknown(name, where))
        elif value.strip() in ("", "None"):
            good.pop(name, None)
        else:
            try:
                good[name] = coerce(spec, value)
            except Unreadable as wanted:
                problems.append(Problem(where, f"{name} is {value!r}, but {wanted}", name="bad_network_arg"))
    return NetworkArgs(**good, extras=MappingProxyType(extras), problems=tuple(problems))


def _unknown(name: str, where: str) -> Problem:
    near = difflib.get_close_matches(name, NETWORK_ARG_SPECS(), n=1, cutoff=0.75)
    cure = f"did you mean '{near[0]}'?" if near else "take it out unless your network module takes it"
    severity = "error" if near else "warning"
    return Problem(where, f"no network is known to take '{name}'", cure, "unknown_network_arg", severity)
