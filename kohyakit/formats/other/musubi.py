"""musubi-tuner (by kohya-ss): a flat TOML with sd-scripts' names for what both know; it trains other models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kohyakit.config.scripts import ONLY_IN
from kohyakit.formats.other.carrying import Reading, Rule, Trainer, same_names

_NETWORKS = (
    "lora_wan", "lora_framepack", "lora_flux_2", "lora_flux_kontext", "lora_qwen_image", "lora_zimage",
    "lora_kandinsky", "lora_hv_1_5", "lora_hidream", "lora_ideogram4", "lora_krea2",
)  # fmt: skip
_MODEL = "names a part of a model that sd-scripts does not train"
_PLACING = "where parts of a large model are kept; sd-scripts has no such option"
_RULES: Mapping[str, Rule] = {
    "network_module": lambda reading, value: reading.drop(f"{str(value)[:40]} is for its own models"),
    "fp8_base": f"!{_PLACING}",
    "vae": f"!{_MODEL}",
    "dataset_config": "!a dataset_config of musubi-tuner has other keys; name one of sd-scripts with --dataset-config",
}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= {inner: item for inner, item in value.items() if not isinstance(item, dict)}
        else:
            flat[key] = value
    return flat


def _own(values: Mapping[str, Any]) -> bool:
    flat = _flat(values)
    module = str(flat.get("network_module", ""))
    if "dit" in flat and "pretrained_model_name_or_path" not in flat:
        return True
    return module.startswith("networks.") and module[9:] in _NETWORKS and "pretrained_model_name_or_path" not in flat


def _read(values: Mapping[str, Any], reading: Reading) -> None:
    flat = _flat(values)
    other = {name: f"!{_PLACING}" for name in flat if name in ONLY_IN and "train_network.py" not in ONLY_IN[name]}
    same_names(reading, flat, {**other, **_RULES})
    reading.warn(
        "is a training of musubi-tuner, whose models no program of sd-scripts trains",
        "its rates, lengths, rank and saving are carried over; name a base model and a network_module",
    )


TRAINER = Trainer(
    "musubi", "musubi-tuner", _own, _read,
    (
        (r"(dit|vae|t5|clip|text_encoder|image_encoder|ckpt|task|byt5|unconditional_dit|turbo_dit|model_version)",
         _MODEL),
        (r"(fp8|offload|blocks_to_swap|block_swap|img_in|split_attn|flash|sage|use_pinned|vae_|compile|cuda_)",
         _PLACING),
        (r"(timestep|flow_shift|preserve_distribution|num_timestep|self_flow|dino|one_frame|f1|latent_window)",
         "how its models draw their time steps"),
    ),
)  # fmt: skip
