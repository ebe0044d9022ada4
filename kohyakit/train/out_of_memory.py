"""Memory that is full, the GPU's or the computer's, said so that a person knows what to change."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem, RunError
from kohyakit.words import memory

_MAIN_MEMORY = "DefaultCPUAllocator: not enough memory"
_GPU = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


def out_of_memory(error: BaseException, config: TrainConfig, where: str) -> RunError | None:
    """The sentence for an error that means full memory; None for any other. where: when in the training it came."""
    if not is_out_of_memory(error):
        return None
    main = isinstance(error, MemoryError) or _MAIN_MEMORY in str(error)
    what = "the computer's main memory is full" if main else f"the GPU's memory is full{_how_full()}"
    *first, last = _cures(config)
    cure = f"{', '.join(first)}, or {last}" if first else last
    return RunError(Problem(where, what, f"close other programs, or {cure}" if main else cure, "out_of_memory"))


def is_out_of_memory(error: BaseException) -> bool:
    """torch's own error, or one of CUDA's libraries, which come as plain RuntimeErrors."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in (*_GPU, _MAIN_MEMORY))


def _how_full() -> str:
    """Which card, how much it has, and who holds it, where a card is there to be asked."""
    if not torch.cuda.is_available():
        return ""
    free, total = torch.cuda.mem_get_info()
    own = torch.cuda.memory_reserved()
    shares = [f"{memory(own)} by this training", f"{memory(total - free - own)} by all else"]
    return f" ({torch.cuda.get_device_name()}, {memory(total)}: {', '.join(shares)})"


def _cures(config: TrainConfig) -> Iterator[str]:
    """What is not in force yet and would help, beginning with what changes the LoRA least."""
    dataset, training = config.dataset, config.training
    if not (dataset.cache_latents or dataset.cache_latents_to_disk or dataset.color_aug or dataset.random_crop):
        yield "set cache_latents = true"
    if not training.gradient_checkpointing:
        yield "set gradient_checkpointing = true"
    if training.mixed_precision == "no":
        yield "set mixed_precision to fp16 or bf16"
    elif not (config.model.fp8_base or config.model.fp8_base_unet):
        yield "set fp8_base = true"
    if dataset.train_batch_size > 1:
        yield "lower train_batch_size (gradient_accumulation_steps makes up for it)"
    yield "lower resolution"
