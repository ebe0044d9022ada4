"""OneTrainer (by Nerogar): a JSON of its training configuration, whole or only what differs from its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kohyakit.formats.other import onetrainer_lists
from kohyakit.formats.other.carrying import Reading, Rule, Trainer, number, size
from kohyakit.formats.text import names
from kohyakit.registry import OPTIMIZERS
from kohyakit.registry.families import MODELS

# its model types -> the family, and v_parameterization
_MODELS: Mapping[str, tuple[str, bool]] = {
    "STABLE_DIFFUSION_15": ("sd1", False),
    "STABLE_DIFFUSION_20": ("sd2", True),
    "STABLE_DIFFUSION_20_BASE": ("sd2", False),
    "STABLE_DIFFUSION_21": ("sd2", True),
    "STABLE_DIFFUSION_21_BASE": ("sd2", False),
    "STABLE_DIFFUSION_XL_10_BASE": ("sdxl", False),
    "STABLE_DIFFUSION_3": ("sd3", False),
    "STABLE_DIFFUSION_35": ("sd3", False),
    "FLUX_DEV_1": ("flux", False),
    "CHROMA_1": ("flux", False),
    "ANIMA": ("anima", False),
}
_OPTIMIZERS = {
    "ADAM": "Adam", "ADAMW": "AdamW", "ADAMW_8BIT": "AdamW8bit", "LION": "Lion", "LION_8BIT": "Lion8bit",
    "SGD": "SGD", "PRODIGY": "Prodigy", "ADAFACTOR": "Adafactor", "SCHEDULE_FREE_ADAMW": "AdamWScheduleFree",
    "SCHEDULE_FREE_SGD": "SGDScheduleFree", "DADAPT_ADAM": "DAdaptAdam", "DADAPT_ADAN": "DAdaptAdan",
    "DADAPT_LION": "DAdaptLion", "DADAPT_SGD": "DAdaptSGD", "DADAPT_ADA_GRAD": "DAdaptAdaGrad",
    "ADAGRAD": "Adagrad", "RMSPROP": "RMSprop",
}  # fmt: skip
_SCHEDULES = {
    "CONSTANT": "constant", "LINEAR": "linear", "COSINE": "cosine", "COSINE_WITH_RESTARTS": "cosine_with_restarts",
    "COSINE_WITH_HARD_RESTARTS": "cosine_with_restarts", "ADAFACTOR": "adafactor",
}  # fmt: skip
_PRECISIONS = {"FLOAT_16": "fp16", "BFLOAT_16": "bf16", "FLOAT_32": "no", "TFLOAT_32": "no"}
_SAVED = {"FLOAT_16": "fp16", "BFLOAT_16": "bf16", "FLOAT_32": "float"}
_UNITS = {"EPOCH": "epochs", "STEP": "steps"}
_MARKS = frozenset(
    names("""
        training_method model_type base_model_name output_model_destination concept_file_name
        workspace_dir sample_definition_file_name learning_rate_scheduler train_dtype output_dtype
        layer_filter_preset lora_rank optimizer_defaults backup_after aspect_ratio_bucketing
        latent_caching __version
    """)
)


def _own(values: Mapping[str, Any]) -> bool:
    return len(_MARKS.intersection(values)) > 2 or {"training_method", "model_type"} <= values.keys()


def _method(reading: Reading, value: Any) -> None:
    if value == "LORA":
        reading.drop("a LoRA is trained")
        return
    reading.warn(f"training_method is {str(value)[:40]}, but only LoRA trainings are carried over",
                 "set it to LORA in OneTrainer, and save it again", "error")  # fmt: skip
    reading.drop("only LoRA trainings are carried over")


def _model(reading: Reading, value: Any) -> None:
    found = _MODELS.get(str(value))
    if found is None:
        reading.warn(f"no program of sd-scripts trains {str(value)[:40]}", "choose a base model that it does")
        reading.drop("no program of sd-scripts trains it")
        return
    family, v = MODELS[found[0]], found[1]
    reading.values |= {"v2": family.v2, "v_parameterization": v}
    if value == "CHROMA_1":
        reading.values["model_type"] = "chroma"
    if found[0] == "flux":
        reading.values.setdefault("network_module", "networks.lora_flux")
    script = family.scripts["lora"]
    reading.take("script", script, f"script = {script}" + (", v2" if family.v2 else ""))


def _choice(name: str, table: Mapping[str, str]) -> Rule:
    def rule(reading: Reading, value: Any) -> None:
        if str(value) in table:
            reading.take(name, table[str(value)], f"{name} = {table[str(value)]}")
        else:
            what = f"{reading.key} is {str(value)[:40]}, which sd-scripts does not have"
            reading.warn(what, f"choose {name} yourself")
            reading.drop(f"{name} has no such choice")

    return rule


def _destination(reading: Reading, value: Any) -> None:
    folder, _, name = str(value).replace("\\", "/").rpartition("/")
    reading.values |= {"output_dir": folder} if folder else {}
    reading.take("output_name", name.rpartition(".")[0] or name, "output_dir and output_name")


def _resolution(reading: Reading, value: Any) -> None:
    first = str(value).split(",")[0]
    text = size(first)
    if text is None:
        reading.drop("no size such as 512")
        return
    if "," in str(value):
        reading.warn(f"trains on several resolutions ({str(value)[:60]}); {first} is taken",
                     "sd-scripts takes several as several [[datasets]]")  # fmt: skip
    reading.take("resolution", text)


def _timestep(name: str) -> Rule:
    def rule(reading: Reading, value: Any) -> None:
        share = number(value)
        if share is None or share in (0.0, 1.0) or not 0 <= share <= 1:
            reading.drop("all time steps")
        else:
            reading.take(name, round(share * 1000), f"{name} = {round(share * 1000)}")

    return rule


def _skip(reading: Reading, value: Any) -> None:
    layers = number(value)
    if layers:
        reading.take("clip_skip", int(layers) + 1, f"clip_skip = {int(layers) + 1}, which counts from 1")
    else:
        reading.drop("no layer is skipped")


def _checkpointing(reading: Reading, value: Any) -> None:
    on = value is True or str(value).upper() in ("ON", "CPU_OFFLOADED", "TRUE")
    reading.take("gradient_checkpointing", on)


def _attention(reading: Reading, value: Any) -> None:
    name = {"XFORMERS": "xformers", "SDP": "sdpa"}.get(str(value))
    if name:
        reading.take(name, True, name)
    else:
        reading.drop("sd-scripts' own attention stands in")


def _weight(reading: Reading, value: Any) -> None:
    reading.drop("loss_weight_fn says which" if value in ("CONSTANT", None) else "see loss_weight_strength")
    if value == "DEBIASED_ESTIMATION":
        reading.values["debiased_estimation_loss"] = True


def _off(name: str) -> Rule:
    """0 is off."""

    def rule(reading: Reading, value: Any) -> None:
        if number(value):
            reading.take(name, value)
        else:
            reading.drop("off")

    return rule


def _clip(reading: Reading, value: Any) -> None:
    reading.take("max_grad_norm", 0.0 if value is None else value)


_RULES: Mapping[str, Rule] = {
    "training_method": _method,
    "model_type": _model,
    "base_model_name": "pretrained_model_name_or_path",
    "vae.model_name": "vae",
    "output_model_destination": _destination,
    "output_dtype": _choice("save_precision", _SAVED),
    "train_dtype": _choice("mixed_precision", _PRECISIONS),
    "learning_rate": "learning_rate",
    "learning_rate_scheduler": _choice("lr_scheduler", _SCHEDULES),
    "learning_rate_cycles": lambda reading, value: reading.take("lr_scheduler_num_cycles", int(number(value) or 1)),
    "learning_rate_warmup_steps": lambda reading, value: reading.take("lr_warmup_steps", _steps(value)),
    "epochs": "max_train_epochs",
    "batch_size": "train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "resolution": _resolution,
    "aspect_ratio_bucketing": "enable_bucket",
    "latent_caching": "cache_latents",
    "dataloader_threads": "max_data_loader_n_workers",
    "attention_mechanism": _attention,
    "gradient_checkpointing": _checkpointing,
    "clip_grad_norm": _clip,
    "lora_rank": "network_dim",
    "lora_alpha": "network_alpha",
    "lora_model_name": "network_weights",
    "dropout_probability": _off("network_dropout"),
    "unet.learning_rate": "unet_lr",
    "transformer.learning_rate": "unet_lr",
    "text_encoder.learning_rate": lambda reading, value: reading.take("text_encoder_lr", value and [value]),
    "text_encoder_layer_skip": _skip,
    "offset_noise_weight": _off("noise_offset"),
    "perturbation_noise_weight": _off("ip_noise_gamma"),
    "rescale_noise_scheduler_to_zero_terminal_snr": "zero_terminal_snr",
    "force_v_prediction": lambda reading, value: (
        reading.take("v_parameterization", True) if value is True else reading.drop("by the model type")
    ),
    "min_noising_strength": _timestep("min_timestep"),
    "max_noising_strength": _timestep("max_timestep"),
    "min_snr_gamma": _off("min_snr_gamma"),
    "loss_weight_fn": _weight,
    "masked_training": "masked_loss",
    "multi_gpu": "multi_gpu",
}


def _steps(value: Any) -> int | float:
    """More than 1 counts steps, less is a share of them, in its words and in ours."""
    found = number(value) or 0
    return int(found) if found > 1 or found == 0 else found


def _read(values: Mapping[str, Any], reading: Reading) -> None:
    values = _as_today(values)
    reading.walk(values, _RULES)
    _parts(values, reading)
    _network(values, reading)
    _optimizer(values.get("optimizer"), reading)
    if values.get("loss_weight_fn") == "MIN_SNR_GAMMA":
        reading.key = "loss_weight_strength"
        reading.take("min_snr_gamma", values.get("loss_weight_strength", 5.0))
    for key, name in (("save_every", "save_every_n"), ("sample_after", "sample_every_n")):
        _interval(values, key, name, reading)
    onetrainer_lists.samples(values.get("samples"), reading)
    onetrainer_lists.concepts(values.get("concepts"), values.get("concept_file_name"), reading)
    _defaults(reading)


def _as_today(values: Mapping[str, Any]) -> dict[str, Any]:
    """Older files hold the optimizer's settings and the parts' flat."""
    new = dict(values)
    if isinstance(new.get("optimizer"), str):
        flat = [key for key in new if key.startswith("optimizer_") and key != "optimizer_defaults"]
        inner = {key[10:]: new.pop(key) for key in flat}
        new["optimizer"] = {"optimizer": new["optimizer"], **inner}
    for part in ("unet", "text_encoder"):
        for old, key in ((f"{part}_learning_rate", "learning_rate"), (f"train_{part}", "train")):
            if old in new:
                table = new.get(part)
                new[part] = {**(table if isinstance(table, dict) else {}), key: new.pop(old)}
    return new


def _parts(values: Mapping[str, Any], reading: Reading) -> None:
    """Which parts are trained."""

    def off(part: str) -> bool:
        table = values.get(part)
        return isinstance(table, dict) and table.get("train") is False

    two = reading.values.get("script") == MODELS["sdxl"].scripts["lora"]
    for part in ("unet", "text_encoder", "text_encoder_2"):
        reading.key = f"{part}.train"
        if reading.key in reading.leaves:
            reading.note("mapped" if off(part) else "dropped", "not trained" if off(part) else "on, as here")
    if off("unet"):
        reading.values["network_train_text_encoder_only"] = True
    elif off("text_encoder") and (not two or off("text_encoder_2")):
        reading.values["network_train_unet_only"] = True
        reading.values.pop("text_encoder_lr", None)


def _network(values: Mapping[str, Any], reading: Reading) -> None:
    kind = str(values.get("peft_type", "LORA"))
    reading.key = "peft_type"
    if kind in ("LOHA", "LOKR"):
        reading.values["network_module"] = "lycoris.kohya"
        reading.argument("network_args", "algo", kind.lower())
        if kind == "LOKR" and values.get("lokr_dim"):
            reading.key = "lokr_dim"
            reading.take("network_dim", values["lokr_dim"])
    elif kind != "LORA":
        reading.warn(f"peft_type {kind[:40]} has no counterpart", "a plain LoRA stands in")
        reading.drop("a plain LoRA stands in")
    elif "peft_type" in values:
        reading.drop("a LoRA is trained")
    if values.get("lora_decompose") is True:
        reading.key = "lora_decompose"
        reading.values["network_module"] = "lycoris.kohya"
        reading.args.setdefault("network_args", {}).setdefault("algo", "locon")
        reading.argument("network_args", "dora_wd", True)
    reading.values.setdefault("network_module", "networks.lora")


def _optimizer(table: Any, reading: Reading) -> None:
    if not isinstance(table, dict):
        return
    name = str(table.get("optimizer", "ADAMW"))
    reading.key = "optimizer.optimizer"
    known = _OPTIMIZERS.get(name)
    if known is None:
        reading.warn(f"sd-scripts has no optimizer {name[:40]}", "AdamW stands in; choose another with --set")
        known = "AdamW"
    reading.take("optimizer_type", known)
    usual = ("betas", "eps", "weight_decay", "momentum")
    taken = OPTIMIZERS[known].arguments if known in OPTIMIZERS else usual
    betas = [table.get(f"beta{place}") for place in (1, 2)]
    for key, value in table.items():
        reading.key = f"optimizer.{key}"
        if key == "optimizer" or isinstance(value, (dict, list)):
            continue
        if value is None:
            reading.drop("not given")
        elif key in ("beta1", "beta2") and "betas" in taken and None not in betas:
            reading.argument("optimizer_args", "betas", f"{betas[0]},{betas[1]}")
        elif key in taken:
            reading.argument("optimizer_args", key, value)
        else:
            reading.drop(f"{known} does not take it, or it is OneTrainer's own")


def _interval(values: Mapping[str, Any], key: str, name: str, reading: Reading) -> None:
    count, unit = number(values.get(key)), str(values.get(f"{key}_unit", ""))
    for each in (key, f"{key}_unit"):
        reading.key = each
        if each not in values:
            continue
        if unit in _UNITS and count and count >= 1:
            reading.take(f"{name}_{_UNITS[unit]}", int(count))
        else:
            reading.drop(f"every {values.get(key)} {unit or '?'}: sd-scripts counts epochs or steps"[:120])


def _defaults(reading: Reading) -> None:
    for name, value in (
        ("learning_rate", 3e-6), ("max_train_epochs", 100), ("train_batch_size", 1), ("network_dim", 16),
        ("network_alpha", 1.0), ("lr_scheduler", "constant"), ("lr_warmup_steps", 200), ("resolution", "512"),
        ("mixed_precision", "fp16"), ("optimizer_type", "AdamW"), ("enable_bucket", True), ("cache_latents", True),
        ("caption_extension", ".txt"), ("gradient_checkpointing", True),
    ):  # fmt: skip
        reading.default(name, value)
    if reading.values["lr_scheduler"] == "constant" and reading.values["lr_warmup_steps"]:
        reading.values["lr_scheduler"] = "constant_with_warmup"
    if reading.values["mixed_precision"] == "no":
        reading.values.pop("full_fp16", None)


TRAINER = Trainer(
    "onetrainer", "OneTrainer", _own, _read,
    (
        (r"(backup|rolling|workspace|cache_dir|debug|tensorboard|cloud|secrets|validat|continue_last|prevent_over|offline|"
         r"huggingface_cache|include_train|clear_cache|only_cache|train_device|temp_device|device_indexes|__version|uuid)",
         "how OneTrainer keeps its files and its machine"),
        (r"(ema|fused_|async_|gradient_reduce|compile|enable_autocast|fallback_train|force_circular|quantization|"
         r"layer_filter|learning_rate_scaler|learning_rate_min_factor|custom_learning|scheduler_params|loss_scaler)",
         "sd-scripts does not have it"),
        (r"(prior|transformer|unconditional|effnet|decoder|text_encoder_[234]|embedding|additional_embeddings|bundle_|"
         r"preserve_embedding|lokr_|oft_|lora_|peft_)", "a part or a method that is not trained here"),
        (r"(unet|text_encoder|vae)\.", "how OneTrainer holds this part"),
        (r"(mse|mae|log_cosh|huber|vb)_|loss_weight|unmasked|normalize_masked|masked_prior|timestep_|noising|dynamic_|"
         r"generalized_offset|force_epsilon|custom_conditioning|frames", "OneTrainer's own way with losses and noise"),
        (r"(sample|samples_to|non_ema|save_|output_model_format|concepts\[|concept_file|optimizer)",
         "OneTrainer's own way of saving, sampling and loading"),
    ),
)  # fmt: skip
