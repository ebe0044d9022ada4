"""Options for accelerate and for the training program that a file carries as text: those that would run something.

`additional_parameters` and `extra_accelerate_launch_args` are handed on as they are, and both programs have options
that start other modules, read other settings or open a connection. A file may use the ones listed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kohyakit.config.arguments.named_code import NAMES_CODE, not_named
from kohyakit.config.rules.file_names import PARTS_OF_NAMES, name_faults
from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem
from kohyakit.formats import command
from kohyakit.formats.text import names

# Options of `accelerate launch` that only say how a training is spread and computed.
_FLAGS = names(
    "quiet cpu multi_gpu enable_cpu_affinity dynamo_use_fullgraph dynamo_use_dynamic same_network debug "
    "dynamo_use_regional_compilation use_deepspeed use_fsdp downcast_bf16 fp8_use_autocast_during_eval"
)
_WITH_VALUE = names(
    "mixed_precision num_processes num_machines num_cpu_threads_per_process dynamo_backend dynamo_mode gpu_ids "
    "main_process_port tee max_restarts monitor_interval zero_stage offload_optimizer_device offload_param_device "
    "offload_optimizer_nvme_path offload_param_nvme_path gradient_accumulation_steps gradient_clipping "
    "zero3_init_flag zero3_save_16bit_model fsdp_version fsdp_offload_params fsdp_min_num_params "
    "fsdp_sharding_strategy fsdp_reshard_after_forward fsdp_auto_wrap_policy fsdp_transformer_layer_cls_to_wrap "
    "fsdp_backward_prefetch fsdp_state_dict_type fsdp_forward_prefetch fsdp_use_orig_params "
    "fsdp_cpu_ram_efficient_loading fsdp_sync_module_states fsdp_activation_checkpointing fp8_backend fp8_margin "
    "fp8_interval fp8_format fp8_amax_history_len fp8_amax_compute_algo fp8_override_linear_precision "
    "fp8_opt_level"
)


def launch_words(config: TrainConfig) -> Iterator[Problem]:
    """Every word of the two texts that a file may not say."""
    launch = config.launch
    for where, text, look in (
        ("extra_accelerate_launch_args", launch.extra_accelerate_launch_args, _for_accelerate),
        ("additional_parameters", launch.additional_parameters, _for_the_script),
    ):
        if not text.strip():
            continue
        try:
            words = command.split(text)
        except ValueError:
            yield Problem(where, f"has a quote that is not closed: {text[:60]!r}", "close it", "bad_words")
            continue
        yield from look(words, where, config.allowed_code)


def _for_accelerate(words: Sequence[str], where: str, allowed: Sequence[str]) -> Iterator[Problem]:
    position = 0
    while position < len(words):
        word = words[position]
        name, equals, _ = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        position += 1
        if word in allowed:
            continue
        if word.startswith("--") and name in _WITH_VALUE:
            position += 0 if equals else 1
        elif not (word.startswith("--") and name in _FLAGS and not equals):
            what = f"{word[:80]!r} could start another program or let another machine in, so no file may say it"
            yield Problem(where, what, f"take it out, or: kohyakit launch … -- {word[:80]}", "launch_word")


def _for_the_script(words: Sequence[str], where: str, allowed: Sequence[str]) -> Iterator[Problem]:
    """Settings that name code, and beginnings of them, which the program's argparse completes."""
    values = command.parse(words).values
    for setting in NAMES_CODE:
        name = values.get(setting)
        problem = not_named(setting, str(name), allowed) if name else None
        if problem is not None:
            yield problem
    for setting in PARTS_OF_NAMES:
        yield from name_faults(setting, str(values.get(setting) or ""))
    for word in words:
        name = word[2:].partition("=")[0]
        meant = [whole for whole in ("config_file", *NAMES_CODE, *PARTS_OF_NAMES) if name and whole.startswith(name)]
        completed = name not in values or name == "config_file"
        if word.startswith("--") and meant and completed and word not in allowed:
            what = f"{word[:80]!r} stands for {meant[0]}, which is not taken from free text"
            yield Problem(where, what, f"write {meant[0]} as a setting of its own, or take it out", "launch_word")
