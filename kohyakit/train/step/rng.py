"""Where every random number of a training comes from.

Two orders. `kohyakit` (the default) gives each module, image and step a stream of its own, named by the seed and by
what it is for: the data order does not depend on the network's shape, on logging or on the number of workers, and
the same seed gives the same numbers on every system. `sd-scripts` (rng_sd_scripts.py) draws from torch's and Python's
global streams in the order in which sd-scripts draws, faults included, so that a run of theirs can be repeated number
for number.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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


def never(batch: int) -> bool:
    return False


class Order(Protocol):
    """Whoever is asked for every draw of a training, in turn."""

    seed: int
    follows_sd_scripts: bool

    def begin(self, datasets: Sequence[Buckets], held: Sequence[Buckets] = (), shuffled: Sequence[int] = ()) -> None:
        """Before anything is loaded. held: what is held back; shuffled: lists that were shuffled to choose it."""

    def unet_loaded(self, unet: nn.Module) -> None:
        """After the U-Net is there, where its family draws while it is built."""

    def fill(self, name: str, layer: Adapter) -> None:
        """An adapter's first values."""

    def posterior(self, *key: object) -> torch.Generator | None:
        """What an image's VAE sample is drawn from; None is torch's own stream on the VAE's device."""

    def cache_order(self, buckets: Sequence[Bucket]) -> list[int]:
        """In which order images in these buckets have their latents cached."""

    def batches(self, epoch: int) -> Iterator[BatchSlot]:
        """The batches of an epoch, from 1, with the streams that their images draw from."""

    def step_seen(self, batch: int, batches: int, accumulation: int, validated: Callable[[int], bool] = never) -> int:
        """The step that a micro-batch's captions believe in; batch: micro-batches before, batches: of an epoch.

        validated: whether a validation follows a micro-batch.
        """

    def step(self, epoch: int, position: int) -> StepStream:
        """The draws of a micro-batch: noise, timesteps."""

    def aside(self, seed: int) -> AbstractContextManager[StepStream]:
        """Draws that begin at a seed; those of the training go on afterwards as if there had been none."""

    def state(self) -> dict[str, Any]:
        """What a state folder keeps."""

    def restore(self, state: dict[str, Any], epoch: int) -> None:
        """As at the start of an epoch, `epoch` of them being over."""

    def restore_step(self, state: dict[str, Any]) -> None:
        """As within an epoch, after the batches that were done have been drawn once more."""

    def restore_as_sd_scripts(self, state: dict[str, Any], passed_over: int) -> None:
        """As sd-scripts goes on; passed_over: batches that the first epoch drops without fetching them."""


def torch_streams() -> dict[str, Any]:
    """torch's global streams: the CPU's and, where a GPU is in use, the GPU's own, which noise is drawn from there."""
    streams = {"torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        streams["cuda"] = torch.cuda.get_rng_state()
    return streams


def restore_torch_streams(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _number(*key: object) -> int:
    """A whole number below 2**63 that depends on the key alone."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream_of(*key: object) -> StepStream:
    """Draws that depend on the key alone."""
    return StepStream(torch.Generator().manual_seed(_number(*key)))


def steps_before(batch: int, batches: int, accumulation: int) -> int:
    """Optimizer steps made before a micro-batch; an epoch's last one steps, whatever is still to accumulate."""
    epochs, position = divmod(batch, batches)
    return epochs * -(-batches // accumulation) + position // accumulation


class KohyakitOrder:
    """A stream of its own for every purpose. See the module's text."""

    follows_sd_scripts = False

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _generator(self, *key: object) -> torch.Generator:
        return torch.Generator().manual_seed(_number(self.seed, *key))

    def begin(self, datasets: Sequence[Buckets], held: Sequence[Buckets] = (), shuffled: Sequence[int] = ()) -> None:
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

    def step_seen(self, batch: int, batches: int, accumulation: int, validated: Callable[[int], bool] = never) -> int:
        """The step that a micro-batch's captions believe in (token warm-up): the one it is part of, from 0.

        batch: micro-batches since the start. batches: those of an epoch.
        """
        return steps_before(batch, batches, accumulation)

    def step(self, epoch: int, position: int) -> StepStream:
        """The stream of one micro-batch. Dropout in the network draws from torch's global stream, seeded here."""
        torch.manual_seed(_number(self.seed, "dropout", epoch, position))
        return StepStream(self._generator("step", epoch, position))

    @contextmanager
    def aside(self, seed: int) -> Iterator[StepStream]:
        before = torch_streams()
        torch.manual_seed(_number(seed, "aside"))
        try:
            yield StepStream()
        finally:
            restore_torch_streams(before)

    def state(self) -> dict[str, Any]:
        """Nothing to remember: every stream follows from the seed, the epoch and the position."""
        return {}

    def restore(self, state: dict[str, Any], epoch: int) -> None:
        """Nothing to bring back."""

    def restore_step(self, state: dict[str, Any]) -> None:
        """Nothing to bring back."""

    def restore_as_sd_scripts(self, state: dict[str, Any], passed_over: int) -> None:
        """Nothing to bring back; a training in this order is never gone on with as sd-scripts does it."""
