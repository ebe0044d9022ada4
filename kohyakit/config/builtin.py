"""What the built-in trainer does not do, said before a training starts instead of being ignored in it."""

from __future__ import annotations

from collections.abc import Iterator

from kohyakit.config.network import NETWORK_ARG_SPECS, parse_network_args
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import Problem

_ELSEWHERE = "train with --backend sd-scripts; taken out, it gives another LoRA"
_OTHER_BACKEND = "train with --backend sd-scripts"

# Parameters that change the result and that the built-in trainer has no code for.
_CHANGES_RESULT = (
    "alpha_mask", "base_weights", "conditioning_data_dir", "dataset_class",
    "debug_dataset", "face_crop_aug_range", "fp8_base", "fp8_base_unet", "in_json", "masked_loss",
    "resume_from_huggingface", "validation_split",
)  # fmt: skip
# What sd-scripts needs to find its place again after an interruption.
_NOT_NEEDED = ("initial_epoch", "initial_step", "skip_until_initial_step")
# Parameters about speed, memory or uploads: a training without them gives the same LoRA.
_CHANGES_COMFORT = (
    "cpu_offload_checkpointing", "deepspeed", "fused_backward_pass", "huggingface_repo_id",
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
    """Every setting that the built-in trainer cannot honour: errors where the LoRA would differ, else hints.

    Where it does not train this at all, that alone is said: the rest holds for the program that does.
    """
    if config.launch.script not in SCRIPTS:
        what = f"{config.launch.script} is not trained in process; the built-in trainer does LoRAs of {FAMILIES}"
        return (Problem("script", what, _OTHER_BACKEND, "family_not_built_in"),)
    module = config.network.network_module
    if module not in (None, NETWORK_MODULE):
        what = f"{module} is not trained in process; the built-in trainer does {NETWORK_MODULE}"
        return (Problem("network_module", what, _OTHER_BACKEND, "network_not_built_in"),)
    return (*_arguments(config), *_named(config), *_not_needed(config))


def _arguments(config: TrainConfig) -> Iterator[Problem]:
    arguments = parse_network_args(config.network.network_args or ())
    for name in NETWORK_ARG_SPECS():
        if name not in _NETWORK_ARGS and getattr(arguments, name) is not None:
            yield Problem("network_args", f"the built-in trainer cannot do {name}", _ELSEWHERE, "not_built_in")


def _named(config: TrainConfig) -> Iterator[Problem]:
    for names, severity, consequence, cure in (
        (_CHANGES_RESULT, "error", "the built-in trainer cannot do this", _ELSEWHERE),
        (_CHANGES_COMFORT, "hint", "the built-in trainer goes without; the LoRA is the same", ""),
    ):
        for name in names:
            if config[name] not in (SPECS()[name].default, None, False, 0, ()):
                yield Problem(name, consequence, cure, "not_built_in", severity)
    if config.saving.log_with in ("wandb", "all"):
        cure = "train with --backend sd-scripts for Weights & Biases"
        yield Problem("log_with", "the built-in trainer logs to TensorBoard only", cure, "not_built_in", "warning")


def _not_needed(config: TrainConfig) -> Iterator[Problem]:
    """sd-scripts counts and skips batches with these; here a state knows the very batch at which it stopped."""
    for name in _NOT_NEEDED:
        if config[name] in (None, False, 0) or (name == "initial_epoch" and config[name] == 1):
            continue
        if config.training.resume_as == "sd-scripts" and name != "initial_step":
            continue  # then they act as there
        if config.training.resume:
            what = "it can go: a training that resumes here goes on at the very batch where its state stopped"
            yield Problem(name, what, "", "not_needed", "hint")
        else:
            what = "it is not looked at: without resume a training here begins at its first step"
            yield Problem(name, what, "take it out, or name a state in resume", "not_needed", "warning")
