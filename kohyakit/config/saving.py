"""What is written: models, states, metadata, logs, uploads."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class SavingConfig:
    """What is written: models, states, metadata, logs, uploads."""

    console_log_level: str | None = param(None, choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), blank=("",))
    console_log_file: str | None = param(None, blank=("",))
    console_log_simple: bool = param(False)
    metadata_title: str | None = param(None, blank=("",))
    metadata_author: str | None = param(None, blank=("",))
    metadata_description: str | None = param(None, blank=("",))
    metadata_license: str | None = param(None, blank=("",))
    metadata_tags: str | None = param(None, blank=("",))
    metadata_usage_hint: str | None = param(None, blank=("",))
    metadata_thumbnail: str | None = param(None, blank=("",))
    metadata_merged_from: str | None = param(None, blank=("",))
    metadata_trigger_phrase: str | None = param(None, blank=("",))
    metadata_preprocessor: str | None = param(None, blank=("",))
    metadata_is_negative_embedding: str | None = param(None, blank=("",))
    output_dir: str | None = param(None, blank=("",))
    output_name: str | None = param(None, blank=("",))
    huggingface_repo_id: str | None = param(None, blank=("",))
    huggingface_repo_type: str | None = param(None, blank=("",))
    huggingface_path_in_repo: str | None = param(None, blank=("",))
    huggingface_token: str | None = param(None, blank=("",), secret=True)
    huggingface_repo_visibility: str | None = param(None, blank=("",))
    save_state_to_huggingface: bool = param(False)
    resume_from_huggingface: bool = param(False)
    async_upload: bool = param(False)
    save_precision: str | None = param(None, choices=("float", "fp16", "bf16"), blank=("",))
    save_every_n_epochs: int | None = param(None, blank=(0, ""))
    save_every_n_steps: int | None = param(None, blank=(0, ""))
    save_n_epoch_ratio: int | None = param(None)
    save_last_n_epochs: int | None = param(None, blank=(0, ""))
    save_last_n_epochs_state: int | None = param(None, blank=(0, ""))
    save_last_n_steps: int | None = param(None, blank=(0, ""))
    save_last_n_steps_state: int | None = param(None, blank=(0, ""))
    save_state: bool = param(False)
    save_state_on_train_end: bool = param(False)
    logging_dir: str | None = param(None, blank=("",))
    log_with: str | None = param(None, choices=("tensorboard", "wandb", "all"), blank=("",))
    log_prefix: str | None = param(None, blank=("",))
    log_tracker_name: str | None = param(None, blank=("",))
    wandb_run_name: str | None = param(None, blank=("",))
    log_tracker_config: str | None = param(None, blank=("",))
    wandb_api_key: str | None = param(None, blank=("",), secret=True)
    log_config: bool = param(False)
    output_config: bool = param(False)
    no_metadata: bool = param(False)
    save_model_as: str = param("safetensors", choices=("ckpt", "pt", "safetensors"))
