"""How a training is started: the script, processes, machines."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchConfig:
    """How a training is started: the script, processes, machines."""

    ddp_timeout: int | None = param(
        None,
        ge=0,
        blank=(0, ""),
        help="Minutes that processes wait for each other before they give up; not given, accelerate's 10 (NCCL).",
        tip="Raise it when one process caches latents for long.",
    )
    ddp_gradient_as_bucket_view: bool = param(
        False,
        help="Several GPUs: let gradients share memory with the exchange buffers.",
        tip="Saves a little memory.",
    )
    ddp_static_graph: bool = param(
        False,
        help="Several GPUs: promise that every step uses the same parameters.",
        tip="Helps gradient checkpointing with several GPUs.",
    )
    config_file: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="The TOML that sd-scripts reads its settings from. It stands on the command line, never inside the TOML.",
        tip="kohyakit train takes the file itself.",
    )
    deepspeed: bool = param(
        False,
        help="Train through DeepSpeed, which must be installed; the loader then uses one worker.",
        tip="For full fine-tuning on several GPUs under Linux.",
    )
    zero_stage: int = param(
        2,
        choices=(0, 1, 2, 3),
        help="DeepSpeed: what is split between GPUs: 0 nothing, 1 optimizer states, 2 also gradients, 3 also the "
        "model.",
        tip="2.",
    )
    offload_optimizer_device: str | None = param(
        None,
        choices=("cpu", "nvme"),
        blank=("",),
        help="DeepSpeed stages 2 and 3: keep optimizer states in main memory or on a disk.",
        tip="cpu.",
    )
    offload_optimizer_nvme_path: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="DeepSpeed stage 3: folder on the fast disk for optimizer states.",
        tip="Only with offload_optimizer_device nvme.",
    )
    offload_param_device: str | None = param(
        None,
        choices=("cpu", "nvme"),
        blank=("",),
        help="DeepSpeed stage 3: keep the model in main memory or on a disk.",
        tip="cpu.",
    )
    offload_param_nvme_path: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="DeepSpeed stage 3: folder on the fast disk for the model.",
        tip="Only with offload_param_device nvme.",
    )
    zero3_init_flag: bool = param(
        False,
        help="DeepSpeed stage 3: build the model already split.",
        tip="For models larger than one GPU.",
    )
    zero3_save_16bit_model: bool = param(
        False,
        help="DeepSpeed stage 3: gather and save the model in 16 bits.",
        tip="On to get a usable file at stage 3.",
    )
    fp16_master_weights_and_gradients: bool = param(
        False,
        help="DeepSpeed: keep master weights and gradients in fp16; the optimizer must support it.",
        tip="Off.",
    )
    script: str = param(
        "train_network.py",
        own=True,
        help="The sd-scripts program that the settings are for; it says what is trained (LoRA, whole model, "
        "embedding) and on which family. kohyakit's own trainer takes train_network.py and sdxl_train_network.py.",
        tip="In a preset the family check boxes decide; set it for a TOML whose family cannot be told.",
    )
    num_processes: int = param(
        1,
        ge=1,
        own=True,
        help="Processes, one for each GPU. Steps per epoch shrink by as much.",
        tip="1 on one GPU.",
    )
    num_machines: int = param(
        1,
        ge=1,
        own=True,
        help="Computers that train together, each with its own GPUs; accelerate must be started on every one.",
        tip="1.",
    )
    multi_gpu: bool = param(
        False,
        own=True,
        help="Tell accelerate to spread the run over several GPUs of this computer.",
        tip="On with num_processes above 1.",
    )
    gpu_ids: str | None = param(
        None,
        blank=("",),
        own=True,
        metavar="ID,ID",
        help="Which GPUs accelerate may use, such as 0 or 0,1; not given, it decides.",
        tip="1 for the second GPU.",
    )
    main_process_port: int | None = param(
        None,
        unset=29500,
        ge=0,
        le=65535,
        blank=(0, ""),
        own=True,
        help="Network port over which the processes meet; not given, 29500.",
        tip="Set another when two runs share a computer.",
    )
    num_cpu_threads_per_process: int = param(
        2,
        ge=1,
        own=True,
        help="CPU threads that each training process may use.",
        tip="2 to 8; more rarely helps.",
    )
    dynamo_mode: str = param(
        "default",
        choices=("default", "reduce-overhead", "max-autotune"),
        own=True,
        help="accelerate: how hard torch.compile tries.",
        tip="default.",
    )
    dynamo_use_fullgraph: bool = param(
        False,
        own=True,
        help="accelerate: fail rather than compile in parts.",
        tip="Off.",
    )
    dynamo_use_dynamic: bool = param(
        False,
        own=True,
        help="accelerate: compile once for changing shapes, such as buckets.",
        tip="On if you compile with buckets.",
    )
    extra_accelerate_launch_args: str = param(
        "",
        own=True,
        help="Further options for accelerate launch, as on its command line.",
        tip="Quotes work as in a shell here; in the GUI they do not.",
    )
    additional_parameters: str = param(
        "",
        own=True,
        help="Further options for the training program, as on its command line; they go before the TOML.",
        tip="kohyakit check reads them; better write them as settings of their own.",
    )
