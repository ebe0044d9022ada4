"""lora-scripts (SD-Trainer, by Akegarasu): a flat TOML or JSON of its form; most names are sd-scripts' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kohyakit.formats.other.carrying import Reading, Rule, Trainer, pairs, same_names
from kohyakit.formats.text import names

_SCRIPTS = {
    "sd-lora": "train_network.py",
    "sdxl-lora": "sdxl_train_network.py",
    "sd3-lora": "sd3_train_network.py",
    "flux-lora": "flux_train_network.py",
    "lumina-lora": "lumina_train_network.py",
    "lumina2-lora": "lumina_train_network.py",
    "anima-lora": "anima_train_network.py",
    "hunyuan-image-lora": "hunyuan_image_train_network.py",
    "sd-dreambooth": "train_db.py",
    "sdxl-finetune": "sdxl_train.py",
    "flux-finetune": "flux_train.py",
}
# names that only its form has
_OWN = frozenset(
    names("""
        model_train_type enable_preview positive_prompts negative_prompts randomly_choice_prompt
        sample_cfg lycoris_algo dylora_unit enable_block_weights enable_base_weight
        optimizer_args_custom network_args_custom ui_custom_params prodigy_d0 prodigy_d_coef
        lokr_factor prompt_file
    """)
)


def _own(values: Mapping[str, Any]) -> bool:
    if "model_train_type" in values:
        return True
    about, data = values.get("metadata"), values.get("data")
    if isinstance(about, dict) and isinstance(data, dict) and "author" in about:
        return True
    return len(_OWN.intersection(values)) > 1


def _script(reading: Reading, value: Any) -> None:
    script = _SCRIPTS.get(str(value))
    if script:
        reading.take("script", script, f"script = {script}")
    else:
        reading.drop(f"no program of sd-scripts trains {str(value)[:40]}")


def _algo(reading: Reading, value: Any) -> None:
    reading.argument("network_args", "algo", value)


def _into(where: str, name: str) -> Rule:
    def rule(reading: Reading, value: Any) -> None:
        if value in (None, "", False):
            reading.drop("off")
        else:
            reading.argument(where, name, value)

    return rule


def _pairs(where: str) -> Rule:
    return lambda reading, value: pairs(reading, where, value)


def _text_encoder(reading: Reading, value: Any) -> None:
    reading.take("text_encoder_lr", [value] if not isinstance(value, list) else value)


def _listed(reading: Reading, value: Any) -> None:
    """Text over several lines or with blanks, where sd-scripts wants a list."""
    reading.take(reading.key, value.split() if isinstance(value, str) else value)


_RULES: Mapping[str, Rule] = {
    "model_train_type": _script,
    "lr_restart_cycles": "lr_scheduler_num_cycles",
    "batch_size": "train_batch_size",
    "optimizer_args_custom": _pairs("optimizer_args"),
    "network_args_custom": _pairs("network_args"),
    "optimizer_args": _pairs("optimizer_args"),
    "network_args": _pairs("network_args"),
    "lycoris_algo": _algo,
    "conv_dim": _into("network_args", "conv_dim"),
    "conv_alpha": _into("network_args", "conv_alpha"),
    "dropout": _into("network_args", "dropout"),
    "train_norm": _into("network_args", "train_norm"),
    "dora_wd": _into("network_args", "dora_wd"),
    "lokr_factor": _into("network_args", "factor"),
    "dylora_unit": _into("network_args", "unit"),
    "train_t5xxl": _into("network_args", "train_t5xxl"),
    "down_lr_weight": _into("network_args", "down_lr_weight"),
    "mid_lr_weight": _into("network_args", "mid_lr_weight"),
    "up_lr_weight": _into("network_args", "up_lr_weight"),
    "block_lr_zero_threshold": _into("network_args", "block_lr_zero_threshold"),
    "prodigy_d0": _into("optimizer_args", "d0"),
    "prodigy_d_coef": _into("optimizer_args", "d_coef"),
    "text_encoder_lr": _text_encoder,
    "base_weights": _listed,
    "base_weights_multiplier": _listed,
    "prompt_file": "sample_prompts",
    "gpu_ids": lambda reading, value: reading.take(
        "gpu_ids", ",".join(map(str, value)) if isinstance(value, list) else value
    ),
    "enable_block_weights": "!a switch of the form; the block weights beside it are what counts",
    "enable_base_weight": "!a switch of the form; base_weights beside it is what counts",
    "enable_preview": "!a switch of the form; the prompts beside it are what counts",
    "randomly_choice_prompt": "!prompts are not drawn from captions here",
    "positive_prompts": "!a part of sample_prompts",
    "negative_prompts": "!a part of sample_prompts",
    "sample_width": "!a part of sample_prompts",
    "sample_height": "!a part of sample_prompts",
    "sample_cfg": "!a part of sample_prompts",
    "sample_seed": "!a part of sample_prompts",
    "sample_steps": "!a part of sample_prompts",
    "ui_custom_params": "!free text of the form; put what it says into the file itself",
}


def _read(values: Mapping[str, Any], reading: Reading) -> None:
    data = values.get("data")
    if isinstance(data, dict) and isinstance(values.get("metadata"), dict):
        reading.walk({"metadata": values["metadata"]}, {})
        values = data
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and not key.endswith("_args"):
            flat |= value
        else:
            flat[key] = value
    same_names(reading, flat, _RULES)
    if flat.get("lycoris_algo") and not flat.get("network_module"):
        reading.values["network_module"] = "lycoris.kohya"
    _prompt(flat, reading)


def _prompt(values: Mapping[str, Any], reading: Reading) -> None:
    """The one prompt that its form asks for, as it hands it on itself."""
    positive = values.get("positive_prompts")
    if not isinstance(positive, str) or not positive.strip() or "sample_prompts" in reading.values:
        return
    if values.get("enable_preview") is False:
        for name in ("sample_every_n_epochs", "sample_every_n_steps"):
            reading.values.pop(name, None)
        return
    line = " ".join(positive.split())
    options = (
        ("n", "negative_prompts"), ("w", "sample_width"), ("h", "sample_height"), ("l", "sample_cfg"),
        ("s", "sample_steps"), ("d", "sample_seed"),
    )  # fmt: skip
    for option, name in options:
        if values.get(name) not in (None, "") and not isinstance(values[name], (list, dict)):
            line += f" --{option} {' '.join(str(values[name]).split())}"
    reading.values["sample_prompts"] = line


TRAINER = Trainer(
    "lora-scripts", "lora-scripts", _own, _read,
    (("metadata", "tells people about the template"), ("save_n_epoch_ratio", "sd-scripts has save_every_n_epochs")),
)  # fmt: skip
