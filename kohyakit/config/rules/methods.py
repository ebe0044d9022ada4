"""What sd-scripts stops for in network, precision, memory, base model and loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kohyakit.config.arguments import blocks
from kohyakit.config.rules.reading import (
    Finding,
    family,
    network_args,
    optimizer,
    optimizer_args,
    rule,
    trains_lora,
)
from kohyakit.config.scripts import FINETUNE_SCRIPTS, TI_SCRIPTS
from kohyakit.config.sections.network import MODULE_ARGS, NetworkArgs
from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem
from kohyakit.registry.families import MODELS, in_group, is_unet
from kohyakit.registry.networks import NETWORKS
from kohyakit.registry.optimizers import optimizer_entry


@rule("error")
def network_of_another_family(config: TrainConfig) -> Finding:
    module, kind = config.network.network_module or "", family(config)
    families = NETWORKS[module].families if module in NETWORKS else ()
    also = MODELS[in_group(kind)].networks if kind else ()
    if trains_lora(config) and families and kind and kind not in families and module not in also:
        return f"network_module {module} does not fit {config.launch.script}", (
            "choose the script of the base model's family, or the network module that belongs to it"
        )
    return None


@rule("error")
def weights_for_dim_missing(config: TrainConfig) -> Finding:
    if trains_lora(config) and config.network.dim_from_weights and config.network.network_weights is None:
        return "dim_from_weights is on, but network_weights names no file", "name the LoRA file or switch it off"
    return None


@rule("error")
def block_count_wrong(config: TrainConfig) -> Finding:
    return _first(blocks.wrong_lengths, config)


@rule("error")
def block_weight_unreadable(config: TrainConfig) -> Finding:
    """sd-scripts notes a curve that it does not know and trains every block at the full rate."""
    return _first(blocks.unreadable, config)


def _first(judge: Callable[[NetworkArgs, int], Iterable[Problem]], config: TrainConfig) -> Finding:
    args, count = network_args(config), MODELS[in_group(family(config)) or "sd1"].blocks
    if "block_dims" not in MODULE_ARGS.get(config.network.module, ()) or not blocks.asked(args):
        return None
    return next(((problem.what, problem.cure) for problem in judge(args, count)), None)


@rule("error")
def dylora_ranks_do_not_fit(config: TrainConfig) -> Finding:
    args, rank, module = network_args(config), config.network.rank, config.network.module
    if config.network.dim_from_weights or not trains_lora(config):
        return None
    if module == "networks.dylora" and args.conv_dim is not None and args.conv_dim != rank:
        return f"DyLoRA needs conv_dim equal to network_dim, but they are {args.conv_dim} and {rank}", "make them equal"
    lycoris = module == "lycoris.kohya" and (args.algo or "").lower() == "dylora"
    if module != "networks.dylora" and not lycoris:
        return None
    name, group = ("block_size", args.block_size or 4) if lycoris else ("unit", args.unit or 1)
    for option, dim in (("network_dim", rank), ("conv_dim", args.conv_dim or 0)):
        if dim % group:
            return f"DyLoRA's {name} {group} does not divide {option} {dim}", f"choose a {name} that does"
    return None


@rule("error")
def oft_without_the_unet(config: TrainConfig) -> Finding:
    only_text = config.network.network_train_text_encoder_only
    if trains_lora(config) and config.network.network_module == "networks.oft" and only_text:
        return "networks.oft adapts the U-Net alone, but network_train_text_encoder_only is on", "switch it off"
    return None


@rule("error")
def full_precision_needs_mixed(config: TrainConfig) -> Finding:
    run = config.training
    wanted = "fp16" if run.full_fp16 else "bf16" if run.full_bf16 else ""
    if wanted == "bf16" and config.launch.script in ("train_db.py", "fine_tune.py", *TI_SCRIPTS):
        return None  # these programs do not look at full_bf16
    if wanted and run.mixed_precision != wanted and config.launch.script not in TI_SCRIPTS:
        return f"full_{wanted} needs mixed_precision {wanted}, but it is {run.mixed_precision}", (
            f"set mixed_precision to {wanted} or switch full_{wanted} off"
        )
    return None


@rule("error")
def adamw_in_full_fp16(config: TrainConfig) -> Finding:
    """A LoRA's first gradients are partly 0, and 0 / (0 + eps) is NaN where fp16 rounds eps to 0, below 3e-8."""
    name, entry = optimizer(config), optimizer_entry(optimizer(config))
    if entry is None or entry.in_fp16 != "nan":
        return None
    eps = optimizer_args(config).get("eps", entry.arguments["eps"])
    if trains_lora(config) and config.training.full_fp16 and isinstance(eps, (int, float)) and eps < 3e-8:
        return f"{name} in full_fp16 gives NaN in the first step, as its eps of {eps:g} is 0 in fp16", (
            "switch full_fp16 off, or choose AdamW8bit or Adafactor, or add eps=1e-4 to optimizer_args"
        )
    return None


@rule("warning")
def adaptive_in_full_fp16(config: TrainConfig) -> Finding:
    """Their rate starts at a millionth, and a millionth of a gradient is 0 in fp16, so that it never grows."""
    name, entry = optimizer(config), optimizer_entry(optimizer(config))
    if trains_lora(config) and config.training.full_fp16 and entry and entry.in_fp16 == "stuck":
        return f"{name} in full_fp16 does not get off the ground: its first steps are 0 in fp16", (
            "switch full_fp16 off, or choose AdamW8bit or Adafactor"
        )
    return None


@rule("error")
def fp8_needs_mixed(config: TrainConfig) -> Finding:
    eight = config.model.fp8_base or config.model.fp8_base_unet
    if trains_lora(config) and eight and family(config) != "anima" and config.training.mixed_precision == "no":
        return "fp8_base needs mixed_precision fp16 or bf16, but it is no", "set mixed_precision to bf16 or fp16"
    return None


@rule("error")
def offloads_exclude_each_other(config: TrainConfig) -> Finding:
    run, kind = config.training, family(config)
    asserted = kind in ("flux", "sd3", "anima") and config.launch.script != "sd3_train.py"
    if asserted and run.blocks_to_swap and run.cpu_offload_checkpointing:
        return "blocks_to_swap and cpu_offload_checkpointing do not go together", "switch one of them off"
    if kind == "anima" and config.families.unsloth_offload_checkpointing:
        other = "cpu_offload_checkpointing" if run.cpu_offload_checkpointing else "blocks_to_swap"
        if config[other]:
            return f"unsloth_offload_checkpointing and {other} do not go together", "switch one of them off"
    return None


@rule("error")
def sdxl_is_not_v2(config: TrainConfig) -> Finding:
    if family(config) == "sdxl" and config.model.v2:
        return "v2 is on, but SDXL is trained", "switch v2 off"
    return None


@rule("error")
def chroma_needs_t5_mask(config: TrainConfig) -> Finding:
    if family(config) == "flux" and config.families.model_type == "chroma" and not config.families.apply_t5_attn_mask:
        return "Chroma needs apply_t5_attn_mask", "set it to true"
    return None


@rule("error")
def adaptive_noise_scale_without_noise_offset(config: TrainConfig) -> Finding:
    if config.noise_loss.adaptive_noise_scale is not None and config.noise_loss.noise_offset is None:
        return "adaptive_noise_scale needs noise_offset", "set noise_offset, for example 0.05, or take both out"
    return None


@rule("error")
def v_loss_does_not_fit(config: TrainConfig) -> Finding:
    loss, v = config.noise_loss, config.model.v_parameterization
    if loss.scale_v_pred_loss_like_noise_pred and not v:
        return (
            "scale_v_pred_loss_like_noise_pred needs v_parameterization",
            "switch it off unless the base is a v model",
        )
    if loss.v_pred_like_loss and v:
        return "v_pred_like_loss does not go with v_parameterization", "take it out"
    return None


@rule("error")
def huber_threshold_zero(config: TrainConfig) -> Finding:
    """With a threshold of 0 huber is 0 everywhere, and the exponential schedule takes the logarithm of it."""
    loss = config.noise_loss
    if loss.loss_type not in ("huber", "smooth_l1"):
        return None
    none = [name for name in ("huber_c", "huber_scale") if config[name] == 0]
    if none and loss.huber_schedule != "snr":
        return f"{none[0]} is 0, so that loss_type {loss.loss_type} has no threshold", f"set {none[0]}, or loss_type l1"
    return None


@rule("error")
def huber_snr_on_flow_model(config: TrainConfig) -> Finding:
    loss = config.noise_loss
    if (
        loss.loss_type in ("huber", "smooth_l1")
        and loss.huber_schedule == "snr"
        and family(config)
        and not is_unet(family(config))
    ):
        return f"loss_type {loss.loss_type} with huber_schedule snr does not work on this model family", (
            "set huber_schedule to constant or exponential"
        )
    return None


@rule("error")
def block_lr_count_wrong(config: TrainConfig) -> Finding:
    text = config.finetune.block_lr
    if config.launch.script != "sdxl_train.py" or config.launch.script not in FINETUNE_SCRIPTS or not text:
        return None
    try:
        count = len([float(part) for part in text.split(",")])
    except ValueError:
        return f"block_lr is {text!r}", f"write {MODELS['sdxl'].blocks} numbers joined by commas"
    wanted = MODELS["sdxl"].blocks
    if count != wanted:
        return f"block_lr has {count} numbers, but {wanted} are needed", "give one for each block of the U-Net"
    return None
