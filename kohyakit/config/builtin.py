"""What the built-in trainer does not do, said before a training starts instead of being ignored in it."""

from __future__ import annotations

from kohyakit.config.network import NETWORK_ARG_SPECS, parse_network_args
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import Problem

_ELSEWHERE = "train with --backend sd-scripts, or take it out"

# Parameters that change the result and that the built-in trainer has no code for.
_CHANGES_RESULT = (
    "alpha_mask", "base_weights", "conditioning_data_dir", "dataset_class",
    "debug_dataset", "face_crop_aug_range", "fp8_base", "fp8_base_unet", "in_json", "masked_loss",
    "resume_from_huggingface", "skip_until_initial_step", "initial_epoch", "initial_step", "validation_split",
)  # fmt: skip
# Parameters about speed, memory or uploads: a training without them gives the same LoRA.
_CHANGES_COMFORT = (
    "cpu_offload_checkpointing", "deepspeed", "fused_backward_pass", "highvram", "huggingface_repo_id", "lowram",
    "mem_eff_attn", "save_state_to_huggingface", "torch_compile", "xformers",
)  # fmt: skip
_NETWORK_ARGS = (
    "conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "loraplus_lr_ratio", "loraplus_unet_lr_ratio",
    "loraplus_text_encoder_lr_ratio",
)  # fmt: skip
SCRIPTS = ("train_network.py", "sdxl_train_network.py")
FAMILIES = "Stable Diffusion 1.x, 2.x and XL"
NETWORK_MODULE = "networks.lora"


def unsupported(config: TrainConfig) -> tuple[Problem, ...]:
    """Every setting that the built-in trainer cannot honour: errors where the LoRA would differ, else hints."""
    found: list[Problem] = []
    if config.launch.script not in SCRIPTS:
        what = f"{config.launch.script} is not trained in process; the built-in trainer does LoRAs of {FAMILIES}"
        found.append(Problem("script", what, "train with --backend sd-scripts", "family_not_built_in"))
    module = config.network.network_module
    if module not in (None, NETWORK_MODULE):
        what = f"{module} is not trained in process; the built-in trainer does {NETWORK_MODULE}"
        found.append(Problem("network_module", what, "train with --backend sd-scripts", "network_not_built_in"))
    elif config.network.network_args:
        arguments = parse_network_args(config.network.network_args)
        for name in NETWORK_ARG_SPECS():
            if name not in _NETWORK_ARGS and getattr(arguments, name) is not None:
                found.append(
                    Problem("network_args", f"{name} has no effect in the built-in trainer", _ELSEWHERE, "not_built_in")
                )
    for names, severity, consequence in (
        (_CHANGES_RESULT, "error", "the built-in trainer cannot do this"),
        (_CHANGES_COMFORT, "hint", "the built-in trainer goes without; the LoRA is the same"),
    ):
        for name in names:
            if config[name] not in (SPECS()[name].default, None, False, 0, ()):
                cure = _ELSEWHERE if severity == "error" else ""
                found.append(Problem(name, consequence, cure, "not_built_in", severity))
    if config.saving.log_with in ("wandb", "all"):
        cure = "train with --backend sd-scripts for Weights & Biases"
        found.append(
            Problem("log_with", "the built-in trainer logs to TensorBoard only", cure, "not_built_in", "warning")
        )
    return tuple(found)
