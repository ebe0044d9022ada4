"""The settings that a LoRA's `ss_…` metadata tell, under sd-scripts' own option names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from kohyakit.config.read import Unreadable, coerce
from kohyakit.config.train import SPECS
from kohyakit.dataset.fingerprint import mark_by_name

# metadata that keep an option under another name; those that only look like options of a training
_OTHER_NAMES = {
    "batch_size_per_device": "train_batch_size", "sd_model_name": "pretrained_model_name_or_path", "vae_name": "vae",
    "num_epochs": "max_train_epochs",
}  # fmt: skip
_COUNTS_OF_THE_RUN = frozenset({"epoch", "output_name", "v2"})


def settings_from(metadata: Mapping[str, str]) -> dict[str, Any]:
    """ss_network_dim "16" -> {"network_dim": 16}; what cannot be read or is no option is left out."""
    found: dict[str, Any] = {}
    for key, text in metadata.items():
        name = key.removeprefix("ss_")
        if not key.startswith("ss_") or name in _COUNTS_OF_THE_RUN:
            continue
        name = _OTHER_NAMES.get(name, name)
        if name in SPECS():
            try:
                found[name] = coerce(SPECS()[name], _plain(text))
            except Unreadable:
                continue
    if match := re.fullmatch(r"\((\d+), *(\d+)\)", metadata.get("ss_resolution", "")):
        found["resolution"] = f"{match[1]},{match[2]}"
    found.update(_optimizer(metadata.get("ss_optimizer", "")))
    if "ss_network_module" in metadata:
        arguments = _json(metadata, "ss_network_args") or {}
        found["network_args"] = tuple(f"{name}={value}" for name, value in arguments.items()) or None
    return found


def dataset_from(metadata: Mapping[str, str]) -> tuple[dict[str, Any], str, str]:
    """(photos and regularisation images by folder, the images' mark, the captions' mark); "" where nothing tells.

    The images' mark is equal for the same folders with the same number of photos each: the files themselves are not
    told, so a photo that was exchanged for another goes unseen. The captions' mark rests on the tags' frequencies.
    """
    photos, reg = (_counts(_json(metadata, f"ss_{kind}dataset_dirs")) for kind in ("", "reg_"))
    if not photos:
        for dataset in _json(metadata, "ss_datasets") or ():
            for number, subset in enumerate(dataset.get("subsets", ())):
                folder = str(subset.get("image_dir") or number)
                (reg if subset.get("is_reg") else photos)[folder] = _whole(subset.get("img_count"))
    if not photos and (count := _whole(metadata.get("ss_num_train_images"))):
        photos = {"": count}
    images = mark_by_name(photos, reg)
    tags = _json(metadata, "ss_tag_frequency")
    text = json.dumps([images, tags], sort_keys=True, ensure_ascii=False)
    captions = f"tags-{hashlib.sha256(text.encode()).hexdigest()[:24]}" if tags else ""
    return {"photos": photos, "reg": reg}, images, captions


def _counts(data: Any) -> dict[str, int]:
    """{"10_sks dog": {"n_repeats": 10, "img_count": 20}} -> {"10_sks dog": 20}."""
    return {
        str(name): _whole(about.get("img_count")) for name, about in (data or {}).items() if isinstance(about, dict)
    }


def _optimizer(text: str) -> dict[str, Any]:
    """ "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1)" -> AdamW8bit and its arguments."""
    match = re.fullmatch(r"([\w.]+)(?:\((.*)\))?", text.strip(), re.DOTALL)
    if not match or text == "None":
        return {}
    found: dict[str, Any] = {"optimizer_type": match[1].rpartition(".")[2], "optimizer_args": None}
    if match[2]:
        parts = re.split(r",(?![^(\[]*[)\]])", match[2])  # not at a comma within brackets
        found["optimizer_args"] = tuple(part.strip() for part in parts if part.strip())
    return found


def _plain(text: str) -> Any:
    return None if text == "None" else text


def _json(metadata: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(metadata.get(key) or "null")
    except ValueError:
        return None


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0
