"""What the built-in trainer does not do, said before a training starts instead of being ignored in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from kohyakit.config.arguments.adapters import LYCORIS, adapter_settings
from kohyakit.config.rules.reading import network_args
from kohyakit.config.sections.network import MODULE_ARGS, NETWORK_ARG_SPECS
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry import networks
from kohyakit.registry.families import MODELS, titles_here, trained_here
from kohyakit.registry.networks import ALGORITHMS, NETWORKS

_ELSEWHERE = "train with --backend sd-scripts; taken out, it gives another LoRA"
_OTHER_BACKEND = "train with --backend sd-scripts"

# Parameters that change the result and that the built-in trainer has no code for.
_CHANGES_RESULT = (
    "dataset_class", "debug_dataset",
)  # fmt: skip
# What speaks to the Hugging Face hub: a training here sends nothing anywhere and fetches nothing.
_HUB = {
    "huggingface_repo_id": "upload the files when it is done: hf upload REPOSITORY FOLDER",
    "save_state_to_huggingface": "set save_state, and upload the folder when it is done",
    "resume_from_huggingface": "fetch the state with hf download, and name its folder in resume",
}
# What sd-scripts needs to find its place again after an interruption.
_NOT_NEEDED = ("initial_epoch", "initial_step", "skip_until_initial_step")
_WITHOUT = "the built-in trainer goes without; the LoRA is the same"
_ATTENTION = "torch's own attention (sdpa) is used, which takes as little memory; the LoRA is the same"
_ONE_MESSAGE = "gradients go to the other processes in one message, and a layer without one stalls none, so it can go"
# Parameters about speed, memory or uploads, and what is done instead: a training without them gives the same LoRA.
_CHANGES_COMFORT = {
    "cache_info": _WITHOUT,
    "ddp_gradient_as_bucket_view": _ONE_MESSAGE,
    "ddp_static_graph": _ONE_MESSAGE,
    "fused_backward_pass": "it saves the gradients of a whole model; those of a LoRA are few, so it can go",
    "mem_eff_attn": _ATTENTION,
    "xformers": _ATTENTION,
}
# What torch.compile takes for dynamo_backend; the others were those of older versions, or need packages of their own.
COMPILERS = ("no", "eager", "aot_eager", "inductor", "cudagraphs")
_SPLITTING = re.compile(r"--use[-_](?:deepspeed|fsdp|megatron[-_]lm)")  # of accelerate launch
SCRIPTS = tuple(dict.fromkeys(MODELS[name].scripts["lora"] for name in trained_here()))


def unsupported(config: TrainConfig) -> tuple[Problem, ...]:
    """Every setting that the built-in trainer cannot honour: errors where the LoRA would differ, else hints.

    Where it does not train this at all, that alone is said: the rest holds for the program that does.
    """
    if config.launch.script not in SCRIPTS:
        what = f"{config.launch.script} is not trained in process; the built-in trainer does LoRAs of {titles_here()}"
        return (Problem("script", what, _OTHER_BACKEND, "family_not_built_in"),)
    module = config.network.module
    if module not in NETWORKS or not NETWORKS[module].target:
        what = f"{module} is not trained in process; the built-in trainer does {', '.join(networks.trained_here())}"
        return (Problem("network_module", what, _OTHER_BACKEND, "network_not_built_in"),)
    found = _lycoris(config) if module == LYCORIS else _arguments(config, NETWORKS[module].here)
    return (*found, *_named(config), *_hub(config), *_not_needed(config), *_levers(config))


def _arguments(config: TrainConfig, taken: Collection[str]) -> Iterator[Problem]:
    for name in NETWORK_ARG_SPECS():
        if name not in taken and getattr(network_args(config), name) is not None:
            yield Problem("network_args", f"the built-in trainer cannot do {name}", _ELSEWHERE, "not_built_in")
    yield from _settings(config)


def _settings(config: TrainConfig) -> Iterator[Problem]:
    """What reads these arguments and cannot."""
    network, module = config.network, config.network.network_module
    try:
        settings = adapter_settings(network)
    except ConfigError as error:
        yield from error.problems
        return
    if settings is None or not network.network_dropout or network.dim_from_weights:
        return
    if settings.native or "dropout" not in ALGORITHMS[settings.algo].arguments:
        what = f"{module} has no dropout of single values" + ("" if settings.native else f" with algo={settings.algo}")
        yield Problem("network_dropout", what, "take it out, or use module_dropout", "network_arg_ignored", "warning")


def _lycoris(config: TrainConfig) -> Iterator[Problem]:
    """An algorithm of LyCORIS that is not trained here, and arguments that the chosen one does not look at."""
    args = network_args(config)
    algo = args.algo or "lora"
    if algo not in ALGORITHMS:
        what = f"algo={algo} is not trained in process; the built-in trainer does {', '.join(ALGORITHMS)}"
        yield Problem("network_args", what, _OTHER_BACKEND, "not_built_in")
        return
    for name in sorted(MODULE_ARGS[LYCORIS].difference(ALGORITHMS[algo].arguments)):
        value, default = getattr(args, name), name == "wd_on_output"  # the only one that is on by itself
        if value is None or value == default:
            continue
        what = f"algo={algo} does not look at {name}"
        yield Problem("network_args", what, "take it out", "network_arg_ignored", "warning")
    dora = args.dora_wd and "dora_wd" in ALGORITHMS[algo].arguments
    if dora and not args.bypass_mode and args.wd_on_output is not False:
        what = "DoRA on the output axis, LyCORIS' default, is drawn otherwise by ComfyUI up to mid 2026"
        yield Problem("network_args", what, "add wd_on_output=False if it is to be drawn there", "dora_axis", "hint")
    if dora and args.bypass_mode:
        what = "dora_wd has no effect with bypass_mode, in LyCORIS too"
        yield Problem("network_args", what, "take one of the two out", "network_arg_ignored", "warning")
    yield from _settings(config)


def _levers(config: TrainConfig) -> Iterator[Problem]:
    """What saves memory or time, where it cannot be had as it is asked for."""
    training = config.training
    if training.blocks_to_swap and not training.gradient_checkpointing:
        what = "without gradient_checkpointing every block's weights would have to stay for its backward pass"
        yield Problem("blocks_to_swap", what, "set gradient_checkpointing = true", "not_built_in")
    if training.cpu_offload_checkpointing and not training.gradient_checkpointing:
        what = "without gradient_checkpointing there are no checkpoints to keep in main memory"
        yield Problem("cpu_offload_checkpointing", what, "set gradient_checkpointing = true", "not_needed", "warning")
    if training.joined_qkv and not NETWORKS[config.network.module].joins:
        can = " and ".join(name for name, entry in NETWORKS.items() if entry.joins)
        what = f"it joins LoRAs of {can} only, so {config.network.module} is computed as without"
        yield Problem("joined_qkv", what, "take it out", "not_needed", "warning")
    if training.torch_compile and training.dynamo_backend not in COMPILERS:
        what = f"torch_compile here knows {', '.join(COMPILERS)}, not {training.dynamo_backend}"
        yield Problem("dynamo_backend", what, "set dynamo_backend = inductor", "not_built_in")
    words = config.launch.extra_accelerate_launch_args
    asked = [("deepspeed", "it splits")] if config.launch.deepspeed else []
    asked += [("extra_accelerate_launch_args", f"{word} splits") for word in _SPLITTING.findall(words)]
    for where, what in asked:
        cure = "take it out; where the model does not fit, set gradient_checkpointing with fp8_base or blocks_to_swap"
        yield Problem(
            where, f"{what} a frozen model between GPUs, which slows every step, and is not done here", cure,
            "not_built_in",
        )  # fmt: skip


def _named(config: TrainConfig) -> Iterator[Problem]:
    asked = [(name, "error", "the built-in trainer cannot do this", _ELSEWHERE) for name in _CHANGES_RESULT]
    asked += [(name, "hint", instead, "") for name, instead in _CHANGES_COMFORT.items()]
    for name, severity, consequence, cure in asked:
        if config[name] not in (SPECS()[name].default, None, False, 0, ()):
            yield Problem(name, consequence, cure, "not_built_in", severity)


def _hub(config: TrainConfig) -> Iterator[Problem]:
    """Refused by name, so that nobody finds after a training of hours that nothing was sent."""
    for name, cure in _HUB.items():
        if config[name]:
            what = "a training in process works offline: nothing is sent to the hub or fetched from it while it runs"
            yield Problem(name, what, f"take it out; {cure}", "not_built_in")


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
