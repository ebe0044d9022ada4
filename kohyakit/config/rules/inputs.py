"""What sd-scripts stops for in what goes in and comes out: model, folders, buckets, caching, samples, logs."""

from __future__ import annotations

from kohyakit.config.rules.reading import Finding, family, own_folders, resolution, rule, trains_lora
from kohyakit.config.scripts import BUCKET_STEPS, TI_SCRIPTS
from kohyakit.config.train import TrainConfig


@rule("error")
def base_model_missing(config: TrainConfig) -> Finding:
    if config.model.pretrained_model_name_or_path is None:
        return (
            "no base model is named",
            "set pretrained_model_name_or_path to a .safetensors file or a diffusers folder",
        )
    return None


@rule("error")
def images_missing(config: TrainConfig) -> Finding:
    data = config.dataset
    if own_folders(config) and data.train_data_dir is None and not data.in_json:
        return "no pictures are named", "set train_data_dir to the folder that holds the <repeats>_<name> folders"
    return None


@rule("error")
def resolution_missing(config: TrainConfig) -> Finding:
    if own_folders(config) and config.dataset.resolution is None:
        return "no resolution is given", "set resolution, for example 512,512 for SD 1.5 or 1024,1024 for SDXL"
    return None


@rule("error")
def output_dir_missing(config: TrainConfig) -> Finding:
    if config.saving.output_dir is None:
        return "no output_dir is given, so the first save would fail", "set output_dir"
    return None


@rule("error")
def network_module_missing(config: TrainConfig) -> Finding:
    if trains_lora(config) and config.network.network_module is None:
        return "no network_module is given", "set network_module to networks.lora"
    return None


@rule("error")
def token_string_missing(config: TrainConfig) -> Finding:
    if config.launch.script in TI_SCRIPTS and config.finetune.token_string is None:
        return "an embedding is trained, but it has no token_string", "set token_string to the new word"
    return None


@rule("error")
def resolution_unreadable(config: TrainConfig) -> Finding:
    try:
        resolution(config)
    except ValueError:
        return f"resolution is {config.dataset.resolution!r}", "write one number or width,height, such as 768,512"
    return None


@rule("error")
def bucket_steps_do_not_divide(config: TrainConfig) -> Finding:
    wanted = BUCKET_STEPS.get(config.launch.script, 1)
    steps = config.bucket.bucket_reso_steps
    if own_folders(config) and config.bucket.enable_bucket and steps % wanted:
        better = max(wanted, round(steps / wanted) * wanted)
        return (
            f"bucket_reso_steps is {steps}, but {config.launch.script} needs a multiple of {wanted}",
            f"set it to {better}",
        )
    return None


def _bucket_bounds(config: TrainConfig) -> tuple[int, int, int, int] | None:
    """Smaller and larger side, smallest and largest bucket after sd-scripts' rounding; None without buckets."""
    try:
        size = resolution(config)
    except ValueError:
        return None
    if not (own_folders(config) and config.bucket.enable_bucket) or size is None:
        return None
    low, high, steps = config.bucket.min_bucket_reso, config.bucket.max_bucket_reso, config.bucket.bucket_reso_steps
    return min(size), max(size), low - low % steps, high + (-high % steps)


@rule("error")
def min_bucket_above_resolution(config: TrainConfig) -> Finding:
    bounds = _bucket_bounds(config)
    if bounds and bounds[0] < bounds[2]:
        return (
            f"min_bucket_reso is {config.bucket.min_bucket_reso}, above the resolution's smaller side {bounds[0]}",
            f"lower it to {bounds[0]} or less",
        )
    return None


@rule("error")
def max_bucket_below_resolution(config: TrainConfig) -> Finding:
    bounds = _bucket_bounds(config)
    if bounds and bounds[1] > bounds[3]:
        return (
            f"max_bucket_reso is {config.bucket.max_bucket_reso}, below the resolution's larger side {bounds[1]}",
            f"raise it to {bounds[1]} or more",
        )
    return None


@rule("error")
def caching_latents_excludes_augmentation(config: TrainConfig) -> Finding:
    data = config.dataset
    named = [name for name in ("color_aug", "random_crop") if config[name]]
    if own_folders(config) and (data.cache_latents or data.cache_latents_to_disk) and named:
        return f"latents are cached, but {' and '.join(named)} change(s) the pictures each time", (
            f"switch cache_latents or {named[0]} off"
        )
    return None


@rule("error")
def caching_text_excludes_caption_changes(config: TrainConfig) -> Finding:
    if not (_caches_text(config) and own_folders(config)) or config.launch.script == "lumina_train_network.py":
        return None
    names = ["shuffle_caption", "caption_dropout_rate", "token_warmup_step", "caption_tag_dropout_rate"]
    if family(config) == "anima":
        names.remove("caption_dropout_rate")
    named = [name for name in names if config[name]]
    if named:
        return f"text encoder outputs are cached, but {' and '.join(named)} would change captions", (
            f"switch cache_text_encoder_outputs or {named[0]} off"
        )
    return None


def _caches_text(config: TrainConfig) -> bool:
    data = config.dataset
    return family(config) not in ("", "sd") and (
        data.cache_text_encoder_outputs or data.cache_text_encoder_outputs_to_disk
    )


@rule("error")
def caching_text_excludes_training_it(config: TrainConfig) -> Finding:
    if not _caches_text(config):
        return None
    if trains_lora(config) and family(config) in ("sdxl", "anima") and not config.network.network_train_unet_only:
        return "text encoder outputs are cached, so the text encoders cannot be trained", "set network_train_unet_only"
    trained = config.finetune.train_text_encoder
    if trained and (
        config.launch.script == "sdxl_train.py"
        or (config.launch.script == "sd3_train.py" and not config.finetune.use_t5xxl_cache_only)
    ):
        return "text encoder outputs are cached, but train_text_encoder is on", "switch one of the two off"
    return None


@rule("error")
def face_crop_range_unreadable(config: TrainConfig) -> Finding:
    text = config.dataset.face_crop_aug_range
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if low > high:
        return f"face_crop_aug_range is {text!r}", "write the lower and the upper factor, such as 2.0,4.0"
    return None


@rule("error")
def persistent_workers_without_workers(config: TrainConfig) -> Finding:
    run = config.training
    if run.persistent_data_loader_workers and run.max_data_loader_n_workers == 0 and not config.launch.deepspeed:
        return "persistent_data_loader_workers is on, but there are 0 workers", (
            "switch it off or set max_data_loader_n_workers to 1 or more"
        )
    return None


@rule("error")
def samples_without_prompts(config: TrainConfig) -> Finding:
    asked = config.sampling
    every = asked.sample_at_first or asked.sample_every_n_epochs or asked.sample_every_n_steps
    if every and asked.sample_prompts is None:
        return "samples are wanted, but sample_prompts names no file; the run would stop at the first one", (
            "name a prompt file or take the sample_… settings out"
        )
    return None


@rule("error")
def tensorboard_without_logging_dir(config: TrainConfig) -> Finding:
    if config.saving.log_with in ("tensorboard", "all") and config.saving.logging_dir is None:
        return f"log_with is {config.saving.log_with}, but there is no logging_dir", "set logging_dir to a folder"
    return None


@rule("error")
def initial_step_beyond_the_end(config: TrainConfig) -> Finding:
    run = config.training
    if trains_lora(config) and run.max_train_epochs is None and (run.initial_step or 0) >= max(1, run.max_train_steps):
        return f"initial_step {run.initial_step} is not below max_train_steps {run.max_train_steps}", (
            "raise max_train_steps to the run's whole length"
        )
    return None
