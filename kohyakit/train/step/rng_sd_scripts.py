"""sd-scripts' order of random numbers, from torch's and Python's global streams, draw for draw, faults included."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kohyakit.dataset.buckets import Bucket
from kohyakit.networks.base import Adapter
from kohyakit.train.step.rng import (
    BatchSlot,
    Buckets,
    StepStream,
    never,
    restore_torch_streams,
    steps_before,
    torch_streams,
)


class SdScriptsOrder:
    """sd-scripts' order of draws, faults included (its reference states it draw by draw).

    T is torch's global stream (a GPU has one of its own, for what is drawn there); P is Python's `random`, kept here
    as an instance of its own so that nothing else can draw from it. With n workers each has a P of its own and, in an
    epoch's first batch, the order of the epoch before.
    """

    follows_sd_scripts = True

    def __init__(self, seed: int, workers: int = 0, persistent: bool = False) -> None:
        self.seed = seed
        self.workers = workers
        self.persistent = persistent
        self.python = random.Random()
        self._before: Any = None  # P as it was before the batch that was fetched last
        self._behind: Any = None  # P as it is to be behind the batch that is fetched next
        self._started = False
        self._passed_over = 0

    def begin(self, datasets: Sequence[Buckets], held: Sequence[Buckets] = (), shuffled: Sequence[int] = ()) -> None:
        self._datasets, self._held = datasets, held
        self.python.seed(self.seed)
        torch.manual_seed(self.seed)
        for count in shuffled:
            self.python.shuffle(list(range(count)))
        self._dataset_seed = self.python.randint(0, 2**31)
        self._main = _Shuffled.fresh(datasets, self.python)
        self._held_order = _Shuffled.fresh(held, self.python)
        self._held_crew: list[tuple[_Shuffled, random.Random]] = []
        self._crew: list[tuple[_Shuffled, random.Random]] = []

    def unet_loaded(self, unet: nn.Module) -> None:
        """sd-scripts constructs its U-Net on the CPU with torch's default initialisation; burn the same draws."""
        for shape in unet_uniform_shapes(unet):
            torch.empty(shape).uniform_()

    def fill(self, name: str, layer: Adapter) -> None:
        """An adapter's first values, with those that torch's constructors draw before them."""
        layer.stream = self.python
        with torch.no_grad():
            for draw in layer.draws():
                fresh = torch.zeros(draw.tensor.shape)
                if draw.kind == "normal":
                    fresh.normal_(std=draw.std)
                elif draw.kind == "uniform":
                    nn.init.kaiming_uniform_(fresh, a=math.sqrt(5))
                if draw.kept:
                    draw.tensor.copy_(fresh)

    def posterior(self, *key: object) -> torch.Generator | None:
        return None

    def cache_order(self, buckets: Sequence[Bucket]) -> list[int]:
        return sorted(range(len(buckets)), key=lambda i: buckets[i].area)

    def batches(self, epoch: int) -> Iterator[BatchSlot]:
        if not (self._started and self.persistent and self.workers):
            self._crew = self._hired(self._main)
        self._started = True
        sampler_seed = int(torch.empty((), dtype=torch.int64).random_().item())
        order = torch.randperm(self._main.batches, generator=torch.Generator().manual_seed(sampler_seed)).tolist()
        crew = self._crew or [(self._main, self.python)]
        order, self._passed_over = order[self._passed_over :], 0
        for position, index in enumerate(order):
            shuffled, stream = crew[position % len(crew)]
            slot = shuffled.slot(index, self._datasets)
            slot.streams = [stream] * len(slot.images)
            behind, self._behind, self._before = self._behind, None, self.python.getstate()
            yield slot
            if behind is not None:
                self._set_python(behind)
            shuffled.catch_up(epoch, self._dataset_seed, stream)

    def _hired(self, order: _Shuffled) -> list[tuple[_Shuffled, random.Random]]:
        """Workers start from the main process' order, each with a stream of its own."""
        base_seed = int(torch.empty((), dtype=torch.int64).random_().item())
        return [(order.copy(), random.Random(base_seed + w)) for w in range(self.workers)]

    def step_seen(self, batch: int, batches: int, accumulation: int, validated: Callable[[int], bool] = never) -> int:
        """As sd-scripts' loader has heard of it without workers: it fetches a batch ahead and is told one later.

        An epoch's first batch is fetched when the one before is done, so its second hears sooner. A validation tells
        the training's data set the step too, as it has no other to tell it to.
        """
        behind = 2 if batch > batches and (batch - 1) % batches == 0 else 3
        heard = [batch - ago for ago in (2, 1)[: 1 + (batch % batches == 0)] if batch >= ago and validated(batch - ago)]
        return steps_before(max(0, batch - behind, *heard), batches, accumulation)

    def step(self, epoch: int, position: int) -> StepStream:
        return StepStream(python=self.python)

    @contextmanager
    def aside(self, seed: int) -> Iterator[StepStream]:
        before, python = torch_streams(), self.python.getstate()
        torch.manual_seed(seed)
        self.python.seed(seed)
        try:
            yield StepStream(python=self.python)
        finally:
            restore_torch_streams(before)
            self.python.setstate(python)

    def held_batches(self, epoch: int) -> Iterator[BatchSlot]:
        """The batches of what is held back, within `aside`; their data sets count on after those trained.

        Without workers nothing tells these their epoch, and they believe in 0.
        """
        if not (self._held_crew and self.persistent):
            self._held_crew = self._hired(self._held_order)
        crew = self._held_crew or [(self._held_order, self.python)]
        for position in range(self._held_order.batches):
            shuffled, stream = crew[position % len(crew)]
            slot = shuffled.slot(position, self._held)
            slot.dataset += len(self._datasets)
            slot.streams = [stream] * len(slot.images)
            yield slot
            if self._held_crew:
                shuffled.catch_up(epoch, self._dataset_seed, stream)

    def state(self) -> dict[str, Any]:
        return {**torch_streams(), "python": self.python.getstate(), "python_before": self._before}

    def _set_python(self, state: Any) -> None:
        version, internal, gauss = state
        self.python.setstate((version, tuple(internal), gauss))

    def restore(self, state: dict[str, Any], epoch: int) -> None:
        """Bring back the streams as they were at an epoch's start, and the cumulative order after `epoch` epochs."""
        self._main.catch_up(epoch, self._dataset_seed, self.python)
        restore_torch_streams(state)
        self._set_python(state["python"])
        self._started = epoch > 0

    def restore_as_sd_scripts(self, state: dict[str, Any], passed_over: int) -> None:
        """As sd-scripts resumes: both streams as they were at the save, the order as fresh as at the start.

        passed_over: how many batches the first epoch's sampler drops without fetching them.
        """
        restore_torch_streams(state)
        self._set_python(state["python"])
        self._passed_over = passed_over

    def restore_step(self, state: dict[str, Any]) -> None:
        """Bring back T within an epoch, and P, from which a network may have drawn beside the batches (DyLoRA).

        When the state was written the next batch was there already: it is drawn from P as it was before it, and what
        comes behind it from P as it was then.
        """
        restore_torch_streams(state)
        if state.get("python_before") is not None:  # else an older state, in which the batches drew alone
            self._set_python(state["python_before"])
            self._behind = state["python"]


@dataclass(slots=True)
class _Shuffled:
    """The cumulative order of a data set group: per dataset its batch indices and its buckets' members."""

    indices: list[list[tuple[int, int]]]
    members: list[list[list[int]]]
    epoch: int = 0

    @classmethod
    def fresh(cls, datasets: Sequence[Buckets], stream: random.Random) -> _Shuffled:
        """As after make_buckets: shuffled once with seed 0, before the data set's own seed is set."""
        members = [[list(bucket) for bucket in dataset.bucket_members] for dataset in datasets]
        indices = [
            [(b, i) for b, bucket in enumerate(group) for i in range(math.ceil(len(bucket) / dataset.batch_size))]
            for dataset, group in zip(datasets, members, strict=True)
        ]
        shuffled = cls(indices, members)
        shuffled._shuffle(0, stream)
        return shuffled

    @property
    def batches(self) -> int:
        return sum(len(indices) for indices in self.indices)

    def copy(self) -> _Shuffled:
        return _Shuffled([list(i) for i in self.indices], [[list(b) for b in g] for g in self.members], self.epoch)

    def _shuffle(self, seed: int, stream: random.Random) -> None:
        for indices, group in zip(self.indices, self.members, strict=True):
            stream.seed(seed)
            stream.shuffle(indices)
            for bucket in group:
                stream.shuffle(bucket)

    def catch_up(self, epoch: int, dataset_seed: int, stream: random.Random) -> None:
        """Each dataset runs through its missed epochs by itself, as sd-scripts' set_current_epoch does."""
        if epoch <= self.epoch:
            return
        for d in range(len(self.indices)):
            part = _Shuffled([self.indices[d]], [self.members[d]])
            for e in range(self.epoch + 1, epoch + 1):
                part._shuffle(dataset_seed + e, stream)
        self.epoch = epoch

    def slot(self, index: int, datasets: Sequence[Buckets]) -> BatchSlot:
        for d, indices in enumerate(self.indices):
            if index < len(indices):
                bucket, batch = indices[index]
                size = datasets[d].batch_size
                return BatchSlot(d, bucket, self.members[d][bucket][batch * size : (batch + 1) * size], [], self.epoch)
            index -= len(indices)
        raise IndexError(index)


def unet_uniform_shapes(unet: nn.Module) -> Iterator[torch.Size]:
    """Shapes that sd-scripts' U-Net initialises, in its order of construction: down, mid, then up blocks."""
    for block in ("conv_in", "time_embedding", "down_blocks", "mid_block", "up_blocks", "conv_out"):
        for module in _in_construction_order(getattr(unet, block)):
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                yield module.weight.shape
                if module.bias is not None:
                    yield module.bias.shape


_ORDER = {
    name: position
    for names in (
        ("conv1", "time_emb_proj", "conv2", "conv_shortcut"),
        ("proj_in", "transformer_blocks", "proj_out"),
        ("to_q", "to_k", "to_v", "to_out"),
        ("attn1", "ff", "attn2"),
    )
    for position, name in enumerate(names)
}


def _in_construction_order(module: nn.Module) -> Iterator[nn.Module]:
    """The leaves of a module of diffusers in the order in which sd-scripts constructs its own."""
    children = dict(module.named_children())
    if not children:
        yield module
    if "resnets" in children:  # a resnet, its attention, the next resnet …; the mid block: both resnets first
        resnets, attentions = (
            list(children.pop(name).children()) if name in children else [] for name in ("resnets", "attentions")
        )
        together = zip(resnets, attentions, strict=True) if len(resnets) == len(attentions) else [resnets, attentions]
        for group in together:
            for part in group:
                yield from _in_construction_order(part)
    for name in sorted(children, key=lambda name: _ORDER.get(name, len(_ORDER))):
        yield from _in_construction_order(children[name])
