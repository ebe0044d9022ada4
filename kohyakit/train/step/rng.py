"""Where every random number of a training comes from.

Two orders. `kohyakit` (the default) gives each module, image and step a stream of its own, named by the seed and by
what it is for: the data order does not depend on the network's shape, on logging or on the number of workers, and
the same seed gives the same numbers on every system. `sd-scripts` draws from torch's and Python's global streams in
the order in which sd-scripts draws, faults included, so that a run of theirs can be repeated number for number.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kohyakit.dataset.buckets import Bucket
from kohyakit.networks.base import Adapter


@dataclass(slots=True)
class BatchSlot:
    """One batch to be fetched: which dataset, which images, and the stream each image draws from.

    images: indices into the dataset's images. epoch: the epoch that the data set believes it is in (sd-scripts'
    first batch of an epoch still believes in the one before).
    """

    dataset: int
    bucket: int
    images: list[int]
    streams: list[random.Random]
    epoch: int


class Buckets(Protocol):
    """What an order needs to know of a dataset: per bucket the image indices with repeats, and the batch size."""

    batch_size: int

    @property
    def bucket_members(self) -> Sequence[Sequence[int]]: ...


class StepStream:
    """The draws of one step. A generator of None means torch's global stream on the tensor's own device."""

    def __init__(self, generator: torch.Generator | None = None, python: random.Random | None = None) -> None:
        self.generator = generator
        self._python = python

    def randn(self, shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Standard normal numbers on the device of `like`, in its dtype unless another is given."""
        dtype = dtype or like.dtype
        if self.generator is None:
            return torch.randn(tuple(shape), device=like.device, dtype=dtype)
        return torch.randn(tuple(shape), generator=self.generator).to(like.device, dtype)

    def randn_on_cpu(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers in float32 on the CPU, whatever trains: sd-scripts draws pyramid noise there."""
        return torch.randn(tuple(shape), generator=self.generator)

    def rand(self, like: Tensor) -> Tensor:
        """One number in [0, 1), shape [1]."""
        if self.generator is None:
            return torch.rand(1, device=like.device)
        return torch.rand(1, generator=self.generator).to(like.device)

    def uniform(self) -> float:
        """One number in [0, 1); sd-scripts takes it from Python's stream."""
        return float(torch.rand(1, generator=self.generator)) if self._python is None else self._python.random()

    def randint(self, low: int, high: int, count: int) -> Tensor:
        """`count` whole numbers in [low, high), on the CPU."""
        return torch.randint(low, high, (count,), generator=self.generator)


def _number(*key: object) -> int:
    """A whole number below 2**63 that depends on the key alone."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _steps_before(batch: int, batches: int, accumulation: int) -> int:
    """Optimizer steps made before a micro-batch; an epoch's last one steps, whatever is still to accumulate."""
    epochs, position = divmod(batch, batches)
    return epochs * -(-batches // accumulation) + position // accumulation


class KohyakitOrder:
    """A stream of its own for every purpose. See the module's text."""

    prefetchable = True

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _generator(self, *key: object) -> torch.Generator:
        return torch.Generator().manual_seed(_number(self.seed, *key))

    def begin(self, datasets: Sequence[Buckets]) -> None:
        self._datasets = datasets
        torch.manual_seed(_number(self.seed, "begin"))

    def unet_loaded(self, unet: nn.Module) -> None:
        """Nothing: the order does not depend on how a model is built."""

    def fill(self, name: str, layer: Adapter) -> None:
        """An adapter's first values from a stream of its own; uniform ones within 1 / sqrt(fan in)."""
        generator = self._generator("lora", name)
        with torch.no_grad():
            for draw in layer.draws():
                tensor = draw.tensor
                if not draw.kept:
                    continue
                if draw.kind == "zero":
                    tensor.zero_()
                elif draw.kind == "normal":
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * draw.std)
                else:
                    bound = 1 / math.sqrt(tensor[0].numel())
                    tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * bound)

    def posterior(self, *key: object) -> torch.Generator | None:
        """The stream of one image's VAE posterior sample; one sample an image and flip, whatever the epoch."""
        return self._generator("posterior", *key)

    def cache_order(self, buckets: Sequence[Bucket]) -> list[int]:
        """In which order latents are cached: any order gives the same numbers, and by bucket makes full batches."""
        return sorted(range(len(buckets)), key=lambda i: buckets[i])

    def batches(self, epoch: int) -> Iterator[BatchSlot]:
        """Every image exactly its repeats, every batch within one bucket, shuffled by (seed, epoch) alone."""
        stream = random.Random(f"{self.seed}/order/{epoch}")
        shuffled: list[tuple[int, int, array[int]]] = []
        ends = [0]  # up to which batch each bucket goes; a number a batch, as an epoch may have millions
        for d, dataset in enumerate(self._datasets):
            for b, members in enumerate(dataset.bucket_members):
                own = array("q", members)
                stream.shuffle(own)
                shuffled.append((d, b, own))
                ends.append(ends[-1] + math.ceil(len(own) / dataset.batch_size))
        order = array("q", range(ends[-1]))
        stream.shuffle(order)
        for position, number in enumerate(order):
            place = bisect_right(ends, number) - 1
            d, b, own = shuffled[place]
            size = self._datasets[d].batch_size
            start = (number - ends[place]) * size
            images = own[start : start + size].tolist()
            streams = [random.Random(f"{self.seed}/image/{epoch}/{position}/{i}") for i in range(len(images))]
            yield BatchSlot(d, b, images, streams, epoch)

    def step_seen(self, batch: int, batches: int, accumulation: int) -> int:
        """The step that a micro-batch's captions believe in (token warm-up): the one it is part of, from 0.

        batch: micro-batches since the start. batches: those of an epoch.
        """
        return _steps_before(batch, batches, accumulation)

    def step(self, epoch: int, position: int) -> StepStream:
        """The stream of one micro-batch. Dropout in the network draws from torch's global stream, seeded here."""
        torch.manual_seed(_number(self.seed, "dropout", epoch, position))
        return StepStream(self._generator("step", epoch, position))

    def state(self) -> dict[str, Any]:
        """Nothing to remember: every stream follows from the seed, the epoch and the position."""
        return {}

    def restore(self, state: dict[str, Any], epoch: int) -> None:
        """Nothing to bring back."""

    def restore_step(self, state: dict[str, Any]) -> None:
        """Nothing to bring back."""


class SdScriptsOrder:
    """sd-scripts' order of draws, faults included (its reference states it draw by draw).

    T is torch's global stream (a GPU has one of its own, for what is drawn there); P is Python's `random`, kept here
    as an instance of its own so that nothing else can draw from it. With n workers each has a P of its own and, in an
    epoch's first batch, the order of the epoch before.
    """

    prefetchable = False

    def __init__(self, seed: int, workers: int = 0, persistent: bool = False) -> None:
        self.seed = seed
        self.workers = workers
        self.persistent = persistent
        self.python = random.Random()
        self._started = False
        self._passed_over = 0

    def begin(self, datasets: Sequence[Buckets]) -> None:
        self._datasets = datasets
        self.python.seed(self.seed)
        torch.manual_seed(self.seed)
        self._dataset_seed = self.python.randint(0, 2**31)
        self._main = _Shuffled.fresh(datasets, self.python)
        self._crew: list[tuple[_Shuffled, random.Random]] = []

    def unet_loaded(self, unet: nn.Module) -> None:
        """sd-scripts constructs its U-Net on the CPU with torch's default initialisation; burn the same draws."""
        for shape in unet_uniform_shapes(unet):
            torch.empty(shape).uniform_()

    def fill(self, name: str, layer: Adapter) -> None:
        """An adapter's first values, with those that torch's constructors draw before them."""
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
            base_seed = int(torch.empty((), dtype=torch.int64).random_().item())
            self._hire(base_seed)
        self._started = True
        sampler_seed = int(torch.empty((), dtype=torch.int64).random_().item())
        order = torch.randperm(self._main.batches, generator=torch.Generator().manual_seed(sampler_seed)).tolist()
        crew = self._crew or [(self._main, self.python)]
        order, self._passed_over = order[self._passed_over :], 0
        for position, index in enumerate(order):
            shuffled, stream = crew[position % len(crew)]
            slot = shuffled.slot(index, self._datasets)
            slot.streams = [stream] * len(slot.images)
            yield slot
            shuffled.catch_up(epoch, self._dataset_seed, stream)

    def _hire(self, base_seed: int) -> None:
        """Workers start from the main process' order, each with a stream of its own."""
        self._crew = [(self._main.copy(), random.Random(base_seed + w)) for w in range(self.workers)]

    def step_seen(self, batch: int, batches: int, accumulation: int) -> int:
        """As sd-scripts' loader has heard of it without workers: it fetches a batch ahead and is told one later.

        An epoch's first batch is fetched when the one before is done, so its second hears sooner.
        """
        behind = 2 if batch > batches and batch % batches == 1 else 3
        return _steps_before(max(0, batch - behind), batches, accumulation)

    def step(self, epoch: int, position: int) -> StepStream:
        return StepStream(python=self.python)

    def state(self) -> dict[str, Any]:
        return {**_torch_streams(), "python": self.python.getstate()}

    def restore(self, state: dict[str, Any], epoch: int) -> None:
        """Bring back the streams as they were at an epoch's start, and the cumulative order after `epoch` epochs."""
        self._main.catch_up(epoch, self._dataset_seed, self.python)
        _restore_torch_streams(state)
        version, internal, gauss = state["python"]
        self.python.setstate((version, tuple(internal), gauss))
        self._started = epoch > 0

    def restore_as_sd_scripts(self, state: dict[str, Any], passed_over: int) -> None:
        """As sd-scripts resumes: both streams as they were at the save, the order as fresh as at the start.

        passed_over: how many batches the first epoch's sampler drops without fetching them.
        """
        _restore_torch_streams(state)
        version, internal, gauss = state["python"]
        self.python.setstate((version, tuple(internal), gauss))
        self._passed_over = passed_over

    def restore_step(self, state: dict[str, Any]) -> None:
        """Bring back T within an epoch; P is right already, as the batches before were fetched once more."""
        _restore_torch_streams(state)


def _torch_streams() -> dict[str, Any]:
    """torch's global streams: the CPU's and, where a GPU is in use, the GPU's own, which noise is drawn from there."""
    streams = {"torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        streams["cuda"] = torch.cuda.get_rng_state()
    return streams


def _restore_torch_streams(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


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
        resnets, attentions = list(children.pop("resnets")), list(children.pop("attentions", []))
        together = zip(resnets, attentions, strict=True) if len(resnets) == len(attentions) else [resnets, attentions]
        for group in together:
            for part in group:
                yield from _in_construction_order(part)
    for name in sorted(children, key=lambda name: _ORDER.get(name, len(_ORDER))):
        yield from _in_construction_order(children[name])
