"""LoRA_Easy_Training_Scripts (by derrian-distro): a TOML of tables `[general_args.args]`, `[network_args.args]` …,
with the image folders in `[[subsets]]`. The names inside are sd-scripts' own, save for some of its form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kohyakit.formats.dataset_toml import SubsetTable
from kohyakit.formats.other.carrying import Reading, Rule, Trainer, pairs, same_names, size

_REPLACE = "${replace}"  # which its form fills with easy_name


def _own(values: Mapping[str, Any]) -> bool:
    return any(
        isinstance(table, dict) and key.endswith("_args") and ("args" in table or "dataset_args" in table)
        for key, table in values.items()
    )


def _resolution(reading: Reading, value: Any) -> None:
    text = size(value)
    if text is None:
        reading.drop("no size such as 512 or [768, 512]")
    else:
        reading.take("resolution", text)


def _network(reading: Reading, value: Any) -> None:
    pairs(reading, "network_args", value)


def _warmup(reading: Reading, value: Any) -> None:
    reading.take("lr_warmup_steps", value, "lr_warmup_steps, as a share of the steps")


def _fa(reading: Reading, value: Any) -> None:
    if value is True:
        reading.take("network_module", "networks.lora_fa", "network_module = networks.lora_fa")
    else:
        reading.drop("off")


def _sdxl(reading: Reading, value: Any) -> None:
    script = "sdxl_train_network.py" if value is True else "train_network.py"
    reading.take("script", script, f"script = {script}")


def _rules(table: str) -> Mapping[str, Rule]:
    args, data = f"{table}.args.", f"{table}.dataset_args."
    return {
        f"{args}sdxl": _sdxl,
        f"{args}fa": _fa,
        f"{args}warmup_ratio": _warmup,
        f"{args}network_args": _network,
        f"{args}optimizer_args": lambda reading, value: pairs(reading, "optimizer_args", value),
        f"{args}lr_scheduler_args": lambda reading, value: pairs(reading, "lr_scheduler_args", value),
        f"{args}text_encoder_lr": lambda reading, value: reading.take(
            "text_encoder_lr", value if isinstance(value, list) else [value]
        ),
        f"{args}algo": lambda reading, value: reading.argument("network_args", "algo", value),
        f"{data}resolution": _resolution,
        f"{data}batch_size": "train_batch_size",
        **{f"{args}{name}": "!its form's own: names and lists of tags beside the LoRA"
           for name in ("easy_name", "save_toml", "save_toml_location", "tag_occurrence", "tag_file_location")},
    }  # fmt: skip


def _read(values: Mapping[str, Any], reading: Reading) -> None:
    for key, table in values.items():
        if key == "subsets" and isinstance(table, list):
            _subsets(table, reading)
        elif isinstance(table, dict) and ("args" in table or "dataset_args" in table):
            for part in ("args", "dataset_args"):
                inner = table.get(part)
                if isinstance(inner, dict):
                    lists = {name: _Pairs(item) if isinstance(item, dict) else item for name, item in inner.items()}
                    same_names(reading, lists, _rules(key), f"{key}.{part}.")
        else:
            reading.walk({key: table}, {"train_mode.train_mode": _mode, "train_mode": _mode})
    if any("algo=" in str(item) for item in reading.values.get("network_args", ())):
        reading.values.setdefault("network_module", "lycoris.kohya")
    reading.values.setdefault("network_module", "networks.lora")
    if values.get("flux_args"):
        reading.values["script"] = "flux_train_network.py"
    _fill_in(values, reading)


class _Pairs(list[str]):
    """A table of arguments as the list that it means, so that it counts as one key."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        super().__init__(f"{name}={_plain(item)}" for name, item in table.items() if item not in (None, False))


def _plain(item: Any) -> str:
    return ",".join(map(str, item)) if isinstance(item, list) else str(item)


def _mode(reading: Reading, value: Any) -> None:
    if str(value).lower() in ("ti", "textual_inversion"):
        reading.warn("trains an embedding, not a LoRA", "only the settings that both have are carried over")
    reading.drop("a LoRA is trained" if str(value).lower() == "lora" else "only LoRA trainings are carried over")


def _subsets(tables: list[Any], reading: Reading) -> None:
    """Its image folders, whose options are those of a dataset_config."""
    known = {name for name in SubsetTable.__dataclass_fields__ if name not in ("kind", "custom_attributes")}
    for place, table in enumerate(tables):
        if not isinstance(table, dict):
            continue
        subset: dict[str, Any] = {}
        for name, value in table.items():
            reading.key = f"subsets[{place}].{name}"
            reading.leaves[reading.key] = value
            if name in known and value is not None and not isinstance(value, dict):
                subset[name] = value
                reading.note("mapped", f"{name} of a subset in the dataset_config")
            elif name == "name":
                reading.drop("a label of its form")
        if isinstance(subset.get("image_dir"), str):
            reading.subsets.append(subset)


def _fill_in(values: Mapping[str, Any], reading: Reading) -> None:
    saving = values.get("saving_args")
    inner = saving.get("args") if isinstance(saving, dict) else None
    name = inner.get("easy_name") if isinstance(inner, dict) else None
    for key, value in reading.values.items():
        if isinstance(value, str) and _REPLACE in value:
            reading.values[key] = value.replace(_REPLACE, name if isinstance(name, str) else "")


TRAINER = Trainer("easy-scripts", "LoRA_Easy_Training_Scripts", _own, _read)
