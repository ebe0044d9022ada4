"""A card whose memory is too small for a training, and the first change that makes it fit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from kohyakit.config.rules.reading import family, optimizer
from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning.machine import gpu_seen
from kohyakit.planning.size.memory import Loads, MemoryEstimate
from kohyakit.registry import OPTIMIZERS
from kohyakit.words import memory

USABLE = 0.95  # of a card's memory: the screen and other programs have the rest
_SAMPLE = 512  # side of a sample picture that every card can draw
_UNITS = {"": 30, "g": 30, "gb": 30, "gib": 30, "m": 20, "mb": 20, "mib": 20}


@dataclass(frozen=True, slots=True)
class Asked:
    """What memory is estimated from: settings, batches and sample pictures.

    blocks: transformer blocks that could wait in main memory, with what trains here.
    """

    config: TrainConfig
    loads: Loads
    samples: tuple[SamplePrompt, ...] = ()
    blocks: int = 0


Change = tuple[str, Callable[[Asked], Asked]]
Need = Callable[[Asked], MemoryEstimate | None]


def parse_memory(text: str) -> int:
    """`8`, `8GB` or `12288 MiB` in bytes; cards are sold by binary gigabytes. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not match or match[2] not in _UNITS or not float(match[1]):
        raise ValueError(f"'{text}' is no amount of memory; write it as 8GB or 12288MB")
    return int(float(match[1]) * 2 ** _UNITS[match[2]])


def card_memory() -> int | None:
    """Bytes of the first NVIDIA card, as its driver tells; None where there is none that can be asked."""
    program = shutil.which("nvidia-smi") if gpu_seen() else None
    if program is None:
        return None
    import subprocess

    asked = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits", "--id=0"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout
        return int(told.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def too_small(asked: Asked, card: int, need: Need, allowed: Callable[[TrainConfig], bool]) -> Problem | None:
    """What is wrong where the estimate does not fit into the card's memory, with what makes it fit.

    need: the estimate of changed settings. allowed: whether a training of them would start.
    """
    now = need(asked)
    if now is None or now.total <= card * USABLE:
        return None
    free = f"of the card's {memory(card)} about {memory(int(card * USABLE))} are free for it"
    what = f"{_PHASES[now.highest]} needs about {memory(now.total)}, and {free}"
    return Problem("memory", what, _cure(asked, card * USABLE, need, allowed), "memory_too_small", "warning")


_PHASES = {"step": "a step", "sample": "drawing a sample", "caching": "encoding ahead of the first step"}


def _cure(asked: Asked, room: float, need: Need, allowed: Callable[[TrainConfig], bool]) -> str:
    """The first change that is enough, alone or with better ones before it."""

    def after(changes: Sequence[Change]) -> int | None:
        """Bytes with these changes; None where no training of them would start."""
        changed = asked
        for _, change in changes:
            changed = change(changed)
        found = need(changed) if allowed(changed.config) else None
        return found.total if found else None

    now = after(()) or 0
    helping: list[Change] = []
    for change in _changes(asked):
        alone, together = after([change]), after([*helping, change])
        if alone is not None and alone <= room:
            return f"set {change[0]} (then about {memory(alone)})"
        if together is None or together > now:
            continue
        helping.append(change)
        now = together
        if now <= room:
            return _fewest(helping, room, after)
    return f"take a smaller model or another card; the least that settings bring it to is about {memory(now)}"


def _fewest(changes: list[Change], room: float, after: Callable[[Sequence[Change]], int | None]) -> str:
    """These changes without those that the others make needless, the least worth first."""
    for change in reversed(changes[:-1]):
        fewer = [one for one in changes if one is not change]
        if (after(fewer) or room + 1) <= room:
            changes = fewer
    *first, last = (name for name, _ in changes)
    return f"set {', '.join(first)} and {last} (then about {memory(after(changes) or 0)})"


def _changes(asked: Asked) -> Iterator[Change]:
    """What could help, the best first: what leaves the LoRA as it is, then what changes it little, then the rest."""
    config, dataset = asked.config, asked.config.dataset
    if not (config.training.sdpa or config.training.xformers or config.training.mem_eff_attn):
        yield "sdpa = true", _set(sdpa=True)  # of sd-scripts: the trainer here has no other attention
    if not config.training.gradient_checkpointing:
        yield "gradient_checkpointing = true", _set(gradient_checkpointing=True)
    two = family(config) == "sdxl"
    if two and config.network.network_train_unet_only:
        yield "cache_text_encoder_outputs = true", _set(cache_text_encoder_outputs=True)
    yield "cache_latents = true", _set(cache_latents=True)
    if config.training.highvram:
        yield "highvram = false", _set(highvram=False)
    if config.training.lowram:
        yield "lowram = false", _set(lowram=False)
    if dataset.vae_batch_size > 1:
        yield "vae_batch_size = 1", _set(vae_batch_size=1)
    if any(max(prompt.size) > _SAMPLE for prompt in asked.samples):
        yield f"--w {_SAMPLE} --h {_SAMPLE} in the sample prompts", _smaller_samples
    if config.training.mixed_precision == "no":
        yield "mixed_precision = bf16", _set(mixed_precision="bf16")
    eight = f"{OPTIMIZERS.canonical(optimizer(config))}8bit" if optimizer(config) in OPTIMIZERS else ""
    if eight in OPTIMIZERS:
        yield f"optimizer_type = {eight}", _set(optimizer_type=eight, use_8bit_adam=False)
    if not (config.model.fp8_base or config.model.fp8_base_unet):
        yield "fp8_base = true", _set(fp8_base=True)
    yield from _more_blocks(asked)
    if any(data.batch_size > 1 for data, _ in asked.loads):
        yield "train_batch_size = 1 (gradient_accumulation_steps makes up for it)", _one_at_a_time
    if not config.network.network_train_unet_only:
        unet_only = {"network_train_unet_only": True, **({"cache_text_encoder_outputs": True} if two else {})}
        yield f"{' = true, '.join(unet_only)} = true", _set(**unet_only)
    for side in (768, 512):
        if any(max(data.resolution) > side for data, _ in asked.loads):
            yield f"resolution = {side}", _resolution(side)


def _more_blocks(asked: Asked) -> Iterator[Change]:
    """A quarter of the blocks after the other; each costs time, so no more of them than needed."""
    for quarter in range(1, 5):
        count = -(-asked.blocks * quarter // 4)
        if count > (asked.config.training.blocks_to_swap or 0):
            yield f"blocks_to_swap = {count}", _set(blocks_to_swap=count)


def _set(**values: object) -> Callable[[Asked], Asked]:
    return lambda asked: replace(asked, config=asked.config.with_values(**values))


def _one_at_a_time(asked: Asked) -> Asked:
    loads = [(replace(data, batch_size=1), rows) for data, rows in asked.loads]
    return replace(asked, loads=loads, config=asked.config.with_values(train_batch_size=1))


def _smaller_samples(asked: Asked) -> Asked:
    small = (replace(p, width=min(p.width, _SAMPLE), height=min(p.height, _SAMPLE)) for p in asked.samples)
    return replace(asked, samples=tuple(small))


def _resolution(side: int) -> Callable[[Asked], Asked]:
    """The same buckets, shrunk to the area of a square of this side."""

    def change(asked: Asked) -> Asked:
        loads = []
        for data, rows in asked.loads:
            share = min(1.0, side / (data.resolution[0] * data.resolution[1]) ** 0.5)
            shrunk = tuple(
                replace(row, bucket=type(row.bucket)(int(row.bucket.width * share), int(row.bucket.height * share)))
                for row in rows
            )
            loads.append((data, shrunk))
        return replace(asked, loads=loads)

    return change
