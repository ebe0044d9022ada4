"""Transformer blocks whose frozen weights wait in main memory and come to the device for as long as they compute.

Nothing is copied back, as nothing changes: a block's weights lie in main memory for good, in one piece (pinned beside a
GPU), and are copied into one of two places on the device. While one block computes, the next is on its way; in the
backward pass, which works each block out anew, that is the one before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.planning.size.blocks import PLACES, waiting

_ALIGNED = 256  # bytes; kernels read whole lines
_BLOCK = re.compile(r"(.+\.)?transformer_blocks\.\d+")


def transformer_blocks(module: nn.Module) -> list[nn.Module]:
    """A U-Net's blocks in the order in which they compute, which is down, mid, up, as the alphabet has it too."""
    found = [(name, block) for name, block in module.named_modules() if _BLOCK.fullmatch(name)]
    return [block for _, block in sorted(found, key=lambda pair: pair[0].partition(".")[0])]


def let_wait(module: nn.Module, count: int, device: torch.device) -> Waiting:
    """Put a frozen module on the device, but for so many of its blocks, spread evenly."""
    blocks = transformer_blocks(module)
    chosen = [blocks[place] for place in waiting(count, len(blocks))]
    theirs = {id(part) for block in chosen for part in block.modules()}
    for part in module.modules():
        if id(part) not in theirs:
            for tensor in _tensors(part, recurse=False):
                tensor.data = tensor.data.to(device)
    return Waiting(chosen, device)


def _tensors(module: nn.Module, *, recurse: bool = True) -> Iterable[Tensor]:
    return chain(module.parameters(recurse), module.buffers(recurse))


@dataclass(slots=True)
class _Block:
    """One block's tensors, and all their bytes in main memory. views: of these bytes, one for each tensor."""

    tensors: list[Tensor]
    host: Tensor
    views: list[Tensor]

    @classmethod
    def of(cls, module: nn.Module, *, pinned: bool) -> _Block:
        tensors = list(_tensors(module))
        host = torch.empty(sum(map(_room, tensors)), dtype=torch.uint8, pin_memory=pinned)
        block = cls(tensors, host, _views(tensors, host))
        for tensor, view in zip(tensors, block.views, strict=True):
            view.copy_(tensor.detach())
        block.leave()
        return block

    def enter(self, place: Tensor) -> None:
        for tensor, view in zip(self.tensors, _views(self.tensors, place), strict=True):
            tensor.data = view

    def leave(self) -> None:
        for tensor, view in zip(self.tensors, self.views, strict=True):
            tensor.data = view


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNED) * _ALIGNED


def _views(tensors: Iterable[Tensor], space: Tensor) -> list[Tensor]:
    """Tensors of the same shapes and types, one after the other in the bytes of `space`."""
    found, start = [], 0
    for tensor in tensors:
        found.append(space[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape))
        start += _room(tensor)
    return found


@dataclass(slots=True)
class _Place:
    """Room for a block on the device. holds: its number, -1 for none. ready: when its copy has arrived (CUDA)."""

    space: Tensor
    holds: int = -1
    ready: Any = None


class Waiting:
    """Blocks that take turns in the same two places. Their forward brings each of them in before it computes.

    blocks: in the order in which they compute; each is worked out anew for its backward pass (gradient checkpointing),
    as its weights are gone by then.
    """

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._blocks = [_Block.of(block, pinned=self._stream is not None) for block in blocks]
        largest = max((len(block.host) for block in self._blocks), default=0)
        self._places = [_Place(torch.empty(largest, dtype=torch.uint8, device=device)) for _ in self._blocks[:PLACES]]
        self._last, self._step = -1, 1
        for number, module in enumerate(blocks):
            module.register_forward_pre_hook(lambda block, inputs, number=number: self._begin(number))

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def resident(self) -> tuple[int, ...]:
        """Numbers of the blocks that are on the device now, or on their way."""
        return tuple(sorted(place.holds for place in self._places if place.holds >= 0))

    @property
    def bytes(self) -> tuple[int, int]:
        """In main memory, and of the places on the device."""
        return sum(len(block.host) for block in self._blocks), sum(len(place.space) for place in self._places)

    def _begin(self, number: int) -> None:
        place = self._bring(number, keep=-1)
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_event(place.ready)
        ahead = self._next(number)
        if ahead is not None:
            self._bring(ahead, keep=number)

    def _next(self, number: int) -> int | None:
        """The block that computes after this one, as far as can be told from the one before; None at the turn."""
        count = len(self._blocks)
        if not torch.is_grad_enabled():  # a picture is drawn: round and round
            self._last = number
            return (number + 1) % count if count > 1 else None
        if number != self._last:
            self._step = -1 if number < self._last and number else 1
        self._last = number
        ahead = number + self._step
        return ahead if 0 <= ahead < count else None

    def _bring(self, number: int, *, keep: int) -> _Place:
        """See to it that a block is in one of the places, but not in that of `keep`."""
        for place in self._places:
            if place.holds == number:
                return place
        place = next(place for place in self._places if place.holds != keep or keep < 0)
        if place.holds >= 0:
            self._blocks[place.holds].leave()
        block = self._blocks[number]
        room = place.space[: len(block.host)]
        if self._stream is None:
            room.copy_(block.host)
        else:
            now = torch.cuda.current_stream(self._device)
            with torch.cuda.stream(self._stream):
                self._stream.wait_stream(now)  # all that still reads what was in this place
                room.copy_(block.host, non_blocking=True)
                place.ready = self._stream.record_event()
        block.enter(place.space)
        place.holds = number
        return place
