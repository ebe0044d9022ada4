"""ai-toolkit (by ostris): a YAML or JSON job, `job`, `config.name`, `config.process[0]` with its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kohyakit.formats.other.carrying import Reading, Rule, Trainer, number, size
from kohyakit.registry.families import MODELS

_OPTIMIZERS = {
    "adam": "Adam", "adamw": "AdamW", "adamw8bit": "AdamW8bit", "adamw8": "AdamW8bit", "lion": "Lion",
    "lion8bit": "Lion8bit", "adafactor": "Adafactor", "prodigy": "Prodigy", "dadaptation": "DAdaptation",
    "dadaptationadam": "DAdaptAdam", "dadaptationlion": "DAdaptLion", "adagrad": "Adagrad",
}  # fmt: skip
_PRECISIONS = {
    "fp16": "fp16", "float16": "fp16", "bf16": "bf16", "bfloat16": "bf16", "fp32": "no", "float32": "no", "float": "no",
}  # fmt: skip
_ALSO = {"chroma": "flux", "lumina2": "lumina"}  # its names of families, where they are not ours
_SAMPLERS = {"ddpm": "ddim", "ddim": "ddim", "euler": "euler", "euler_a": "euler_a", "lms": "lms", "dpm": "dpm_2"}


def _own(values: Mapping[str, Any]) -> bool:
    config = values.get("config")
    return "job" in values and isinstance(config, dict) and ("process" in config or "name" in config)


def _list(where: str, name: str) -> Rule:
    return lambda reading, value: reading.argument(where, name, value)


def _one_of(name: str, table: Mapping[str, str]) -> Rule:
    def rule(reading: Reading, value: Any) -> None:
        found = table.get(str(value).lower())
        if found:
            reading.take(name, found, f"{name} = {found}")
        else:
            what = f"{reading.key} is {str(value)[:40]}, which sd-scripts does not have"
            reading.warn(what, f"choose {name} yourself")
            reading.drop(f"{name} has no such choice")

    return rule


def _arch(family: str) -> Rule:
    def rule(reading: Reading, value: Any) -> None:
        if value is True:
            _take(reading, family)
        else:
            reading.drop("off")

    return rule


def _take(reading: Reading, family: str) -> None:
    entry = MODELS[family]
    script = entry.scripts["lora"]
    reading.values |= {"v2": True} if entry.v2 else {}
    reading.take("script", script, f"script = {script}")


def _named_arch(reading: Reading, value: Any) -> None:
    name = str(value).lower().split(":")[0]
    name = _ALSO.get(name, name)
    if name not in MODELS:
        reading.warn(f"no program of sd-scripts trains {str(value)[:40]}", "choose a base model that it does")
        reading.drop("no program of sd-scripts trains it")
        return
    _take(reading, name)


def _kind(reading: Reading, value: Any) -> None:
    kind = str(value).lower()
    if kind in ("lora", "lierla", "locon", "c3lier"):
        reading.take("network_module", "networks.lora", "network_module = networks.lora")
    elif kind in ("lokr", "loha"):
        reading.args.setdefault("network_args", {})["algo"] = kind
        reading.take("network_module", "lycoris.kohya", "network_module = lycoris.kohya")
    else:
        reading.warn(f"network.type {kind[:40]} has no counterpart", "a plain LoRA stands in")
        reading.drop("a plain LoRA stands in")


def _off(name: str) -> Rule:
    def rule(reading: Reading, value: Any) -> None:
        if value in (None, "", 0, False):
            reading.drop("off")
        else:
            reading.take(name, value)

    return rule


def _unet(reading: Reading, value: Any) -> None:
    reading.take("network_train_text_encoder_only", True) if value is False else reading.drop("on, as here")


_OUTER: Mapping[str, Rule] = {
    "config.name": lambda reading, value: reading.take("output_name", value if isinstance(value, str) else None),
    "config.training_folder": "output_dir",
    "config.log_dir": "logging_dir",
}
_RULES: Mapping[str, Rule] = {
    "type": lambda reading, value: reading.drop("the kind of job"),
    "training_folder": "output_dir",
    "sqlite_db_path": "!ai-toolkit's own list of jobs",
    "network.type": _kind,
    "network.linear": "network_dim",
    "network.rank": "network_dim",
    "network.linear_alpha": "network_alpha",
    "network.alpha": "network_alpha",
    "network.conv": _list("network_args", "conv_dim"),
    "network.conv_alpha": _list("network_args", "conv_alpha"),
    "network.dropout": _off("network_dropout"),
    "network.pretrained_lora_path": _off("network_weights"),
    "network.lokr_factor": _list("network_args", "factor"),
    "save.dtype": _one_of("save_precision", {**_PRECISIONS, "fp32": "float", "float32": "float", "float": "float"}),
    "save.save_every": "save_every_n_steps",
    "save.save_format": lambda reading, value: reading.take("save_model_as", "safetensors"),
    "train.batch_size": "train_batch_size",
    "train.steps": "max_train_steps",
    "train.gradient_accumulation_steps": "gradient_accumulation_steps",
    "train.gradient_accumulation": "gradient_accumulation_steps",
    "train.train_unet": _unet,
    "train.gradient_checkpointing": "gradient_checkpointing",
    "train.optimizer": _one_of("optimizer_type", _OPTIMIZERS),
    "train.lr": "learning_rate",
    "train.unet_lr": "unet_lr",
    "train.text_encoder_lr": lambda reading, value: reading.take("text_encoder_lr", [value]),
    "train.lr_scheduler": "lr_scheduler",
    "train.dtype": _one_of("mixed_precision", _PRECISIONS),
    "train.min_snr_gamma": _off("min_snr_gamma"),
    "train.snr_gamma": _off("min_snr_gamma"),
    "train.noise_offset": _off("noise_offset"),
    "train.max_grad_norm": "max_grad_norm",
    "train.xformers": _off("xformers"),
    "train.sdp": _off("sdpa"),
    "model.name_or_path": "pretrained_model_name_or_path",
    "model.arch": _named_arch,
    "model.is_xl": _arch("sdxl"),
    "model.is_v2": _arch("sd2"),
    "model.is_v3": _arch("sd3"),
    "model.is_flux": _arch("flux"),
    "model.is_lumina2": _arch("lumina"),
    "model.is_v_pred": _off("v_parameterization"),
    "model.vae_path": _off("vae"),
    "sample.sampler": _one_of("sample_sampler", {**_SAMPLERS, "flowmatch": "euler"}),
    "sample.sample_every": "sample_every_n_steps",
    "logging.use_wandb": lambda reading, value: (
        reading.take("log_with", "wandb", "log_with = wandb") if value is True else reading.drop("off")
    ),
    "logging.project_name": "log_tracker_name",
    "logging.run_name": "wandb_run_name",
    "log_dir": "logging_dir",
}


def _read(values: Mapping[str, Any], reading: Reading) -> None:
    config = values["config"]
    name = config.get("name")
    steps = config.get("process")
    process = steps[0] if isinstance(steps, list) and steps and isinstance(steps[0], dict) else {}
    reading.walk({key: value for key, value in values.items() if key != "config"}, {"job": "!the kind of job"})
    outer = {key: value for key, value in config.items() if key != "process"}
    reading.walk(outer, _OUTER, "config.")
    _name_in(process, name if isinstance(name, str) else "")
    inner = {key: value for key, value in process.items() if key not in ("datasets", "sample")}
    reading.walk(inner, _RULES)
    kind = str(process.get("type", ""))
    if kind not in ("sd_trainer", "ui_trainer", "diffusion_trainer"):
        told = f"its job is of type {kind[:40] or '?'}, but only trainings of a LoRA are carried over"
        reading.warn(told, "give a job of type sd_trainer", "error")
    elif not isinstance(process.get("network"), dict):
        what = "it trains the whole model, but only LoRA trainings are carried over"
        reading.warn(what, "add a network to it", "error")
    if isinstance(steps, list) and len(steps) > 1:
        reading.warn(f"holds {len(steps)} processes; the first is carried over", "split the others off")
    _sample(process.get("sample"), reading)
    _datasets(process.get("datasets"), reading)
    _rest(process, reading)


def _name_in(tables: Any, name: str, depth: int = 0) -> None:
    """`[name]` stands for the job's name."""
    if depth > 12:
        return
    for key, value in tables.items() if isinstance(tables, dict) else enumerate(tables):
        if isinstance(value, str) and "[name]" in value:
            tables[key] = value.replace("[name]", name)
        elif isinstance(value, (dict, list)):
            _name_in(value, name, depth + 1)


_PROMPT = (("n", "neg"), ("w", "width"), ("h", "height"), ("s", "sample_steps"), ("l", "guidance_scale"))


def _sample(table: Any, reading: Reading) -> None:
    if not isinstance(table, dict):
        return
    reading.walk({"sample": table}, _RULES)
    prompts = table.get("prompts")
    items = table.get("samples") if isinstance(table.get("samples"), list) else prompts
    lines = []
    for place, item in enumerate(items if isinstance(items, list) else ()):
        one = {**table, **item} if isinstance(item, dict) else {**table, "prompt": item}
        prompt = one.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            continue
        line = " ".join(prompt.split())
        for option, key in _PROMPT:
            value = one.get(key)
            if value not in (None, "", False) and not isinstance(value, (dict, list)) and f" --{option} " not in line:
                line += f" --{option} {' '.join(str(value).split())}"
        seed = number(one.get("seed"))
        if seed is not None:
            line += f" --d {int(seed) + (place if table.get('walk_seed') is True else 0)}"
        lines.append(line)
    if lines:
        reading.values["sample_prompts"] = "\n".join(lines[:200])
    for path in list(reading.leaves):
        if path.startswith("sample.") and path not in reading.told and path != "sample.sample_start_step":
            reading.key = path
            reading.note("mapped", "sample_prompts")


def _datasets(tables: Any, reading: Reading) -> None:
    rules: Mapping[str, tuple[str, bool]] = {
        "folder_path": ("image_dir", False), "dataset_path": ("image_dir", False),
        "num_repeats": ("num_repeats", False),
        "caption_ext": ("caption_extension", False), "caption_dropout_rate": ("caption_dropout_rate", True),
        "shuffle_tokens": ("shuffle_caption", True), "keep_tokens": ("keep_tokens", True), "is_reg": ("is_reg", True),
        "token_dropout_rate": ("caption_tag_dropout_rate", True), "flip_x": ("flip_aug", True),
        "random_crop": ("random_crop", True), "alpha_mask": ("alpha_mask", True),
    }  # fmt: skip
    resolutions: list[str] = []
    for place, table in enumerate(tables if isinstance(tables, list) else ()):
        if not isinstance(table, dict):
            continue
        subset: dict[str, Any] = {}
        for key, value in table.items():
            reading.key = f"datasets[{place}].{key}"
            reading.leaves[reading.key] = value
            if key in rules and isinstance(value, (str, int, float)):
                name, quiet = rules[key]
                if value or not quiet:
                    text = f".{value}" if name == "caption_extension" and not str(value).startswith(".") else value
                    subset[name] = text
                reading.note("mapped", f"{name} of a subset in the dataset_config")
            elif key == "resolution":
                resolutions += [size(each) or "" for each in (value if isinstance(value, list) else [value])]
                reading.note("mapped", "resolution")
            elif key in ("cache_latents", "cache_latents_to_disk"):
                reading.take(key, bool(value))
            elif key == "buckets":
                reading.take("enable_bucket", bool(value))
        if isinstance(subset.get("image_dir"), str):
            subset["image_dir"] = subset["image_dir"].replace("\\", "/")
            reading.subsets.append(subset)
    sizes = [each for each in dict.fromkeys(resolutions) if each]
    if sizes:
        reading.values["resolution"] = sizes[0]
    if len(sizes) > 1:
        reading.warn(f"trains on several resolutions ({', '.join(sizes)}); {sizes[0]} is taken",
                     "sd-scripts takes several as several [[datasets]]")  # fmt: skip


def _rest(process: Mapping[str, Any], reading: Reading) -> None:
    train = process.get("train")
    train = train if isinstance(train, dict) else {}
    reading.key = "train.train_text_encoder"
    if train.get("train_text_encoder") is not True:
        reading.values["network_train_unet_only"] = True
        reading.note("mapped", "network_train_unet_only")
    else:
        reading.note("dropped", "on, as here")
    for key, where in (("optimizer_params", "optimizer_args"), ("lr_scheduler_params", "lr_scheduler_args")):
        table = train.get(key)
        for name, value in table.items() if isinstance(table, dict) else ():
            reading.key = f"train.{key}.{name}"
            if isinstance(value, (dict, list)) and not all(isinstance(item, (int, float)) for item in value):
                continue
            reading.argument(where, name, value)
    for name, value in (
        ("max_train_steps", 1000), ("learning_rate", 1e-6), ("train_batch_size", 1), ("network_dim", 4),
        ("network_alpha", 1.0), ("optimizer_type", "AdamW"), ("lr_scheduler", "constant"), ("mixed_precision", "no"),
        ("save_every_n_steps", 1000), ("resolution", "512"), ("enable_bucket", True), ("caption_extension", ".txt"),
        ("gradient_checkpointing", True), ("save_precision", "fp16"), ("network_module", "networks.lora"),
    ):  # fmt: skip
        reading.default(name, value)
    if reading.values.get("script") == "flux_train_network.py" and reading.values["network_module"] == "networks.lora":
        reading.values["network_module"] = "networks.lora_flux"


TRAINER = Trainer(
    "ai-toolkit", "ai-toolkit", _own, _read,
    (
        (r"meta", "tells people about the LoRA"),
        (r"(config\.)?trigger_word", "write the trigger word into the captions; sd-scripts has no such option"),
        (r"(config\.)?(device|performance_log|sqlite|log_)", "how ai-toolkit runs"),
        (r"train\.(noise_scheduler|timestep|content_or_style|linear_timesteps|ema|skip_first|force_first|"
         r"disable_sampling|loss_|bypass|unload|cache_text|diff_output|blank_prompt|switch_boundary|start_step|train_refiner)",
         "ai-toolkit's own way with noise and losses"),
        (r"(save|model|network|logging|train|slider|datasets\[|sample)",
         "ai-toolkit's own; sd-scripts does not have it"),
    ),
)  # fmt: skip
