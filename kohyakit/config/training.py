"""Length, seed, precision, memory, resuming, validation."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Length, seed, precision, memory, resuming, validation."""

    resume: str | None = param(None, blank=("",))
    mem_eff_attn: bool = param(False)
    torch_compile: bool = param(False)
    dynamo_backend: str = param("inductor", choices=("eager", "aot_eager", "inductor", "aot_ts_nvfuser", "nvprims_nvfuser", "cudagraphs", "ofi", "fx2trt", "onnxrt", "tensort", "ipex", "tvm"))
    xformers: bool = param(False)
    sdpa: bool = param(False)
    max_train_steps: int = param(1600)
    max_train_epochs: int | None = param(None, blank=(0, ""))
    max_data_loader_n_workers: int = param(8)
    persistent_data_loader_workers: bool = param(False)
    seed: int | None = param(None, blank=(0, ""))
    gradient_checkpointing: bool = param(False)
    gradient_accumulation_steps: int = param(1)
    mixed_precision: str = param("no", choices=("no", "fp16", "bf16"))
    full_fp16: bool = param(False)
    full_bf16: bool = param(False)
    lowram: bool = param(False)
    highvram: bool = param(False)
    cpu_offload_checkpointing: bool = param(False)
    training_comment: str | None = param(None, blank=("",))
    skip_until_initial_step: bool = param(False)
    initial_epoch: int | None = param(None)
    initial_step: int | None = param(None)
    validate_every_n_steps: int | None = param(None)
    validate_every_n_epochs: int | None = param(None)
    max_validation_steps: int | None = param(None)
    blocks_to_swap: int | None = param(None, blank=(0, ""))
    epoch: int | None = param(None, ge=1, own=True)
    rng_order: str = param("kohyakit", choices=("kohyakit", "sd-scripts"), own=True)
