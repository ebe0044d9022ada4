"""How a training is started: the script, processes, machines."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchConfig:
    """How a training is started: the script, processes, machines."""

    ddp_timeout: int | None = param(None)
    ddp_gradient_as_bucket_view: bool = param(False)
    ddp_static_graph: bool = param(False)
    config_file: str | None = param(None, blank=("",))
    deepspeed: bool = param(False)
    zero_stage: int = param(2, choices=(0, 1, 2, 3))
    offload_optimizer_device: str | None = param(None, choices=("cpu", "nvme"), blank=("",))
    offload_optimizer_nvme_path: str | None = param(None, blank=("",))
    offload_param_device: str | None = param(None, choices=("cpu", "nvme"), blank=("",))
    offload_param_nvme_path: str | None = param(None, blank=("",))
    zero3_init_flag: bool = param(False)
    zero3_save_16bit_model: bool = param(False)
    fp16_master_weights_and_gradients: bool = param(False)
    script: str = param("train_network.py", own=True)
    num_processes: int = param(1, ge=1, own=True)
    num_machines: int = param(1, ge=1, own=True)
    multi_gpu: bool = param(False, own=True)
    gpu_ids: str | None = param(None, blank=("",), own=True)
    main_process_port: int | None = param(None, blank=(0, ""), own=True)
    num_cpu_threads_per_process: int = param(2, ge=1, own=True)
    dynamo_mode: str = param("default", choices=("default", "reduce-overhead", "max-autotune"), own=True)
    dynamo_use_fullgraph: bool = param(False, own=True)
    dynamo_use_dynamic: bool = param(False, own=True)
    extra_accelerate_launch_args: str = param("", own=True)
    additional_parameters: str = param("", own=True)
