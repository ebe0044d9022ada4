"""DyLoRA (Valipour et al. 2023): a LoRA that is trained at many ranks, so that it can be cut to fewer afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.networks.base import Draw, shrinking
from kohyakit.networks.methods.lora import product
from kohyakit.networks.rebuilt import Beside
from kohyakit.planning.size.layers import Target
from kohyakit.planning.size.shapes import Tensors
from kohyakit.planning.size.targets import rank_and_alpha, tensors_of


class DyloraLayer(Beside):
    """Each step draws how many groups of ranks count, and trains the last of them.

    sd-scripts' own lets the ranks beyond act too, and has a piece for each rank; LyCORIS leaves them out, and has one
    for each group. While nothing is trained all ranks act, as the file has them.
    """

    plus = ("lora_B.",)
    alpha: Tensor

    def __init__(self, layer: Any, target: Target, settings: AdapterSettings) -> None:
        super().__init__(layer, target, settings)
        rank, alpha = rank_and_alpha(target, settings)
        self.rank, alpha = rank, float(alpha or rank)
        self.shapes = tensors_of(target, settings)
        self.group = settings.group
        # LyCORIS trains at alpha over the number of groups; its file says alpha, which is drawn at alpha over rank.
        told = alpha if settings.native or settings.as_lycoris else alpha * self.group
        self.register_buffer("alpha", torch.tensor(told, device=layer.weight.device))
        self.scale = (alpha if settings.native else alpha * self.group) / rank

    def make(self, shapes: Tensors, device: torch.device) -> None:
        down, up = shapes["lora_down.weight"], shapes["lora_up.weight"]
        native = self.settings.native
        piece, count = (1, down[0]) if native else (self.settings.group, down[0] // self.settings.group)
        flat = not native or self.layer.weight.ndim == 2 or self.layer.weight.shape[-1] == 1
        a = (piece, math.prod(down[1:])) if flat else (piece, *down[1:])
        b = (up[0], piece) if flat else (up[0], piece, 1, 1)
        first, second = ("lora_A", "lora_B") if native else ("down_list", "up_list")
        for name, shape in ((first, a), (second, b)) if native else ((second, b), (first, a)):
            self.add_module(name, nn.ParameterList([torch.empty(shape, device=device) for _ in range(count)]))

    @property
    def pieces(self) -> tuple[nn.ParameterList, nn.ParameterList]:
        """Down's and up's."""
        lists: list[Any] = list(self.children())
        return (lists[0], lists[1]) if self.settings.native else (lists[1], lists[0])

    def draws(self) -> Iterator[Draw]:
        down, up = self.pieces
        yield from map(Draw, down)
        yield from (Draw(piece, "zero") for piece in up)

    def forward(self, x: Tensor) -> Tensor | None:
        if self.left_out():
            return None
        if not self.training:
            return self._through(x, *self._whole()) * (self.scale * self.multiplier)
        first = self._drawn()
        down, up = self._step(first, first + self.group)
        return self._through(x, down, up) * (self._step_scale(first) * self.multiplier)

    def _drawn(self) -> int:
        """The first rank of the group that is trained in this step, from the stream that the reference draws from."""
        groups = self.rank // self.group
        if self.stream is None:
            return int(torch.randint(groups, (1,))) * self.group
        if self.settings.native:
            return self.stream.randint(0, self.rank - 1) // self.group * self.group
        return self.stream.randint(0, groups - 1) * self.group

    def _step_scale(self, first: int) -> float:
        end = first + self.group
        return self.scale * (math.sqrt(self.rank / end) if self.settings.native else self.rank / end)

    def _step(self, first: int, end: int) -> tuple[Tensor, Tensor]:
        """Down and up of a step: the trained group as it is, the ranks before it, and sd-scripts' after it, still."""
        step = self.pieces[0][0].shape[0]
        last = self.rank if self.settings.native else end
        halves = []
        for pieces, axis in zip(self.pieces, (0, 1), strict=True):
            chosen = [
                piece if first <= number * step < end else piece.detach()
                for number, piece in enumerate(pieces)
                if number * step < last
            ]
            halves.append(torch.cat(chosen, dim=axis))
        return halves[0], halves[1]

    def _whole(self) -> tuple[Tensor, Tensor]:
        down, up = self.pieces
        return torch.cat(list(down)), torch.cat(list(up), dim=1)

    def _through(self, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        if x.ndim != 4:
            return F.linear(F.linear(x, down), up)
        kernel = self.layer.weight.shape[2:]
        low = self.operation(x, down.reshape(down.shape[0], -1, *kernel))
        return F.conv2d(low, up.reshape(*up.shape[:2], 1, 1))

    def weight_update(self) -> Tensor:
        down, up = self._whole()
        return product(up, down).reshape(self.layer.weight.shape) * self.scale

    def file_state(self) -> dict[str, Tensor]:
        down, up = self._whole()
        return {
            "alpha": self.alpha, "lora_down.weight": down.reshape(self.shapes["lora_down.weight"]),
            "lora_up.weight": up.reshape(self.shapes["lora_up.weight"]),
        }  # fmt: skip

    def own_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {"alpha": tensors["alpha"]} if "alpha" in tensors else {}
        names = ("lora_A", "lora_B") if self.settings.native else ("down_list", "up_list")
        ends = ("lora_down.weight", "lora_up.weight")
        for name, end, pieces, axis in zip(names, ends, self.pieces, (0, 1), strict=True):
            if end in tensors:
                parts = tensors[end].split(pieces[0].shape[axis], dim=axis)
                found |= {f"{name}.{n}": part.reshape(pieces[n].shape) for n, part in enumerate(parts)}
        return found

    def limit_norm(self, largest: float) -> tuple[bool, Tensor] | None:
        """Neither sd-scripts' nor LyCORIS' own has a limit; here it acts but where they are repeated."""
        if self.stream is not None:
            return None
        norm = self.weight_update().norm()
        ratio = shrinking(norm, largest)
        for pieces in self.pieces:
            for piece in pieces:
                piece.mul_(ratio.sqrt())
        return bool(ratio != 1), norm * ratio
