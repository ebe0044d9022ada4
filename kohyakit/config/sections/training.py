"""Length, seed, precision, memory, resuming, validation."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Length, seed, precision, memory, resuming, validation."""

    resume: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="A saved training state (a folder ending in -state) to go on from: weights, optimizer, schedule and "
        "random numbers.",
        tip="Needs save_state in the run before. Length, saves and samples may change; other changes are refused.",
    )
    resume_with_changes: bool = param(
        False,
        own=True,
        help="Go on from a state although settings or pictures are not as it was made with. They are then in force "
        "from there on; with other pictures, captions or batches the epoch begins anew.",
        tip="Off, so that a change is said before it is taken.",
    )
    resume_as: str = param(
        "kohyakit",
        choices=("kohyakit", "sd-scripts"),
        own=True,
        help="How resume goes on: at the very batch, as if never stopped; or as sd-scripts does it, which starts the "
        "epoch anew in a fresh order and counts steps from 0 (only with rng_order sd-scripts).",
        tip="sd-scripts only to repeat one of its resumed runs number for number.",
    )
    mem_eff_attn: bool = param(
        False,
        help="An early memory-saving attention of sd-scripts' own; slower than xformers and sdpa.",
        tip="Only where neither of those works.",
    )
    torch_compile: bool = param(
        False,
        help="Compile the model with torch.compile before training: a slow start, then somewhat quicker steps. Trained "
        "here, the transformer blocks are compiled, once for all bucket shapes; the last bits become others.",
        tip="Off for short runs and on Windows; with sd-scripts many bucket shapes mean many compilations.",
    )
    dynamo_backend: str = param(
        "inductor",
        choices=(
            "no",
            "eager",
            "aot_eager",
            "inductor",
            "aot_ts_nvfuser",
            "nvprims_nvfuser",
            "cudagraphs",
            "ofi",
            "fx2trt",
            "onnxrt",
            "tensort",
            "ipex",
            "tvm",
        ),
        help="The compiler that torch_compile uses; without torch_compile it does nothing. no compiles nothing "
        "(the GUI writes it).",
        tip="inductor.",
    )
    joined_qkv: bool = param(
        False,
        own=True,
        help="Let LoRAs of one input (q, k and v of self-attention, k and v of attention to the text, those of the "
        "text encoders too) take it in one product instead of three or two: fewer kernels to launch, the same LoRA "
        "but for the last bits.",
        tip="On a GPU that waits for its processor, as it does at batch 1; on a CPU it brings nothing.",
    )
    xformers: bool = param(
        False,
        help="Use xformers' attention, which saves memory; the package must fit the installed torch. The GUI's "
        "CrossAttention box chooses between this and sdpa.",
        tip="sdpa is as good and needs no package.",
    )
    sdpa: bool = param(
        False,
        help="Use torch's own memory-saving attention.",
        tip="On, unless you use xformers.",
    )
    max_train_steps: int = param(
        1600,
        ge=0,
        help="Length of the run in steps (batches, after gradient accumulation). sd-scripts and the GUI form "
        "start at 1600; max_train_epochs goes before it.",
        tip="1500 to 3000 for a subject with AdamW; better set max_train_epochs and keep several saves.",
    )
    max_train_epochs: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Length of the run in epochs: times that every picture is seen, repeats included. Replaces "
        "max_train_steps.",
        tip="10 with repeats chosen so that an epoch has 100 to 300 steps.",
    )
    max_data_loader_n_workers: int = param(
        8,
        ge=0,
        help="Processes that load pictures, at most the number of CPU cores; 0 loads them in the training process.",
        tip="0 to 2 with cached latents and on Windows, where starting processes is slow.",
    )
    persistent_data_loader_workers: bool = param(
        False,
        help="Keep the loading processes alive between epochs instead of starting them anew.",
        tip="On when epochs are short; it cannot go with 0 workers.",
    )
    seed: int | None = param(
        None,
        blank=("",),
        gui_blank=(0,),
        help="Start of all random numbers. Not given, another one each run. The GUI's 0 means not given; in a "
        "TOML 0 is a seed.",
        tip="Fix it (42) to compare settings.",
    )
    gradient_checkpointing: bool = param(
        False,
        help="Recompute the network's inner values instead of keeping them: far less memory, about a third "
        "slower. The result stays the same.",
        tip="On for SDXL up to 16 GB and SD 1.5 up to 8 GB.",
    )
    gradient_accumulation_steps: int = param(
        1,
        ge=1,
        help="Batches that are added up before a step: the effect of a larger batch without its memory.",
        tip="2 to 4 when only batch 1 fits; the number of steps shrinks accordingly.",
    )
    mixed_precision: str = param(
        "no",
        choices=("no", "fp16", "bf16"),
        help="Number format of the computation: fp16 and bf16 halve memory and time.",
        tip="bf16 on RTX 30 and later, fp16 on older cards, no on a CPU.",
    )
    full_fp16: bool = param(
        False,
        help="Keep gradients and the LoRA itself in fp16 too. Needs mixed_precision fp16; can become unstable.",
        tip="Only when memory is short.",
    )
    full_bf16: bool = param(
        False,
        help="Keep gradients and the LoRA itself in bf16 too. Needs mixed_precision bf16; small updates get lost.",
        tip="Only when memory is short, with an optimizer that rounds stochastically if possible.",
    )
    lowram: bool = param(
        False,
        help="Load the model straight into graphics memory, for machines with less main memory than that.",
        tip="On Colab and Kaggle.",
    )
    highvram: bool = param(
        False,
        help="Do not clear the graphics memory cache between latents; quicker caching, more memory. Trained here, the "
        "VAE and the text encoders also stay in graphics memory once their outputs are cached.",
        tip="On with 24 GB or more.",
    )
    cpu_offload_checkpointing: bool = param(
        False,
        help="Keep gradient checkpoints in main memory: saves some graphics memory and costs time. In sd-scripts not "
        "with blocks_to_swap.",
        tip="The last resort for large transformers.",
    )
    training_comment: str | None = param(
        None,
        blank=("",),
        help="A remark that is stored in the LoRA's metadata.",
        tip="The trigger word, so that you find it in a year.",
    )
    skip_until_initial_step: bool = param(
        False,
        help="Read and throw away data up to initial_step, so that the rest is seen in the original order.",
        tip="On with initial_step or initial_epoch after an interruption.",
    )
    initial_epoch: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Number of the epoch to start counting at; 1 is the first. Does not move the learning rate schedule.",
        tip="resume sets this by itself.",
    )
    initial_step: int | None = param(
        None,
        ge=0,
        blank=("",),
        help="Number of the step to start counting at; goes before initial_epoch. Must be below the run's length.",
        tip="resume sets this by itself.",
    )
    validate_every_n_steps: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Measure the validation loss every so many steps; not given, once per epoch.",
        tip="Only with validation_split or fixed_noises.",
    )
    validate_every_n_epochs: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Measure the validation loss every so many epochs; not given, each epoch.",
        tip="Only with validation_split or fixed_noises.",
    )
    max_validation_steps: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="At most so many validation batches each time; not given, all.",
        tip="10 to 20 keep the pause short.",
    )
    fixed_noises: int = param(
        0,
        ge=0,
        le=1000,
        own=True,
        help="Measure the loss on the training's own photos with so many fixed noises for each, which no step trains "
        "on; 0 is off. With validation_split it is the photos held back, and 0 stands for 4.",
        tip="4 for some dozen photos, none of which need be taken away; each time costs half a step or less for every "
        "noise and batch.",
    )
    early_stop_patience: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        own=True,
        help="End the training when so many measurements in a row bring no lower loss than the best before them; not "
        "given, never.",
        tip="3 to 5; only with validation_split or fixed_noises.",
    )
    blocks_to_swap: int | None = param(
        None,
        unset=0,
        ge=0,
        blank=(0, ""),
        help="Transformer blocks that wait in main memory and are swapped in when needed: less graphics memory, "
        "slower. sd-scripts has it for Flux, SD3, Lumina, HunyuanImage and Anima; trained here, also for Stable "
        "Diffusion, whose frozen blocks are only copied in, one ahead, with gradient_checkpointing.",
        tip="Flux: 16 for 12 GB, 28 for 8 GB. Here as few as kohyakit check --vram names; SDXL has 70, SD 1.x and 2.x "
        "16, and more than there are means all.",
    )
    epoch: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        own=True,
        help="The GUI's epoch box. No sd-scripts program reads it: the GUI computes max_train_steps from it when "
        "those are 0. kohyakit takes it as the wanted number of epochs where the preset says nothing else.",
        tip="Write max_train_epochs, which every program understands.",
    )
    rng_order: str = param(
        "kohyakit",
        choices=("kohyakit", "sd-scripts"),
        own=True,
        help="In which order random numbers are drawn: kohyakit's (each epoch sees each picture, whatever the "
        "network), or exactly sd-scripts', its stale first batch included.",
        tip="sd-scripts only to repeat one of its runs number for number.",
    )
