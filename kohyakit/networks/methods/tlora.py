"""T-LoRA (Soboleva et al. 2025): the more noise there is in a picture, the fewer ranks learn from it.

Keys, strengths and first values are those of LyCORIS 4. A layer begins on singular vectors of its own weight, P λ Q,
and what is added is how far it has moved from there, so that the first update is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.config.arguments.lora_args import VECTORS
from kohyakit.models.noise.process import TRAIN_TIMESTEPS
from kohyakit.networks.base import Draw
from kohyakit.networks.rebuilt import Beside
from kohyakit.planning.size.layers import Target
from kohyakit.planning.size.targets import rank_and_alpha

# The least share of a file's directions in those that it was begun on; others of a weight share next to none.
_KIN = 0.5


class Triple(NamedTuple):
    """P λ Q: p [out, rank, …], strengths [1, rank], q [rank, in, …]."""

    p: Tensor
    strengths: Tensor
    q: Tensor


class TloraLayer(Beside):
    """kept: which ranks learn, 0 or 1 for each image of a batch, [B, rank]; None, or while nothing is trained: all."""

    kept: Tensor | None = None
    alpha: Tensor
    p_layer: nn.Linear
    q_layer: nn.Linear
    lambda_layer: Tensor
    base_p: Tensor
    base_q: Tensor
    base_lambda: Tensor

    def __init__(self, layer: Any, target: Target, settings: AdapterSettings) -> None:
        super().__init__(layer, target, settings)
        rank, alpha = rank_and_alpha(target, settings)
        alpha = float(alpha or rank)
        self.schedule = (rank, settings.min_rank, settings.rank_power)
        self.scale = alpha / rank
        self.register_buffer("alpha", torch.tensor(alpha, device=layer.weight.device))
        with torch.no_grad():
            for name, own, first in zip(("p", "lambda", "q"), self._now(), self._first(settings), strict=True):
                own.copy_(first.reshape(own.shape))
                self.register_buffer(f"base_{name}", own.detach().clone())

    def _first(self, settings: AdapterSettings) -> Triple:
        return begun(svd(self.layer.weight), self.schedule[0], settings.vectors)

    def _now(self) -> Triple:
        return Triple(self.p_layer.weight, self.lambda_layer, self.q_layer.weight)

    def draws(self) -> Iterator[Draw]:
        """What torch's constructors draw; nothing of it stays."""
        yield from (Draw(self.q_layer.weight, kept=False), Draw(self.p_layer.weight, kept=False))

    def factors(self) -> tuple[Tensor, Tensor]:
        return moved(self._now(), Triple(self.base_p, self.base_lambda, self.base_q))

    def forward(self, x: Tensor) -> Tensor | None:
        """The update of the layer's output; None when module dropout leaves it out."""
        if self.left_out():
            return None
        up, down = self.factors()
        low = self.operation(x, down)
        if self.training and self.kept is not None:
            kept = self.kept.repeat(1, 2).to(low.dtype)
            low = low * (kept[:, :, None, None] if x.ndim == 4 else kept[:, None, :] if x.ndim == 3 else kept)
        high = F.conv2d(low, up[:, :, None, None]) if x.ndim == 4 else F.linear(low, up)
        return high * (self.scale * self.multiplier)

    def weight_update(self) -> Tensor:
        """With all ranks."""
        up, down = self.factors()
        return (up @ down.flatten(1)).reshape(self.layer.weight.shape) * self.scale

    def file_state(self) -> dict[str, Tensor]:
        return {end: tensor for end, tensor in self.state_dict().items() if not end.startswith("base_")}

    def own_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Also where a file was begun, which may be other vectors than are asked for now."""
        found = super().own_state(tensors)
        first = nearest(self.layer.weight, found["q_layer.weight"]) if "q_layer.weight" in found else None
        if first is not None:
            bases = zip(("base_p", "base_lambda", "base_q"), first, strict=True)
            found |= {name: tensor.reshape(self.get_buffer(name).shape) for name, tensor in bases}
        return found


def ranks_at(timestep: int, rank: int, least: int, power: float) -> int:
    """How many ranks learn at a timestep: all at 0, `least` at the last, the fewer between them the greater power."""
    clear = (TRAIN_TIMESTEPS - timestep) / TRAIN_TIMESTEPS
    return min(rank, int(clear**power * (rank - least)) + least)


def kept_at(timesteps: Tensor, rank: int, least: int, power: float) -> Tensor:
    """0 or 1 for each rank at these timesteps [B], on their device: [B, rank]."""
    counts = _counts(rank, least, power, timesteps.device)[timesteps.long().clamp(0, TRAIN_TIMESTEPS - 1)]
    return (torch.arange(rank, device=timesteps.device) < counts[:, None]).float()


@cache
def _counts(rank: int, least: int, power: float, device: torch.device) -> Tensor:
    return torch.tensor([ranks_at(t, rank, least, power) for t in range(TRAIN_TIMESTEPS)], device=device)


def svd(weight: Tensor) -> Triple:
    """All of a weight [out, in, …] as P λ Q, the strongest first."""
    p, strengths, q = torch.linalg.svd(weight.detach().float().flatten(1), full_matrices=False)
    return Triple(p, strengths[None], q)


def begun(whole: Triple, rank: int, vectors: str) -> Triple:
    """The strongest, weakest or middle directions of a weight; ranks beyond its own are next to nothing."""
    own = whole.q.shape[0]
    count = min(rank, own)
    first = {"principal": 0, "last": own - count, "middle": (own - count) // 2}[vectors]
    chosen, more = slice(first, first + count), rank - count
    return Triple(
        F.pad(whole.p[:, chosen], (0, more)),
        F.pad(whole.strengths[:, chosen], (0, more), value=1e-6),
        F.pad(whole.q[chosen], (0, 0, 0, more)),
    )


def nearest(weight: Tensor, q: Tensor) -> Triple | None:
    """Those vectors of a weight on which q was begun, told by their directions; None where it was on none of them."""
    whole, own = svd(weight), q.detach().float().flatten(1).to(weight.device)
    starts = [begun(whole, len(own), vectors) for vectors in VECTORS]
    shares = [float((start.q @ own.T).square().sum() / own.square().sum()) for start in starts]
    best = max(range(len(starts)), key=shares.__getitem__)
    return starts[best] if shares[best] >= _KIN else None


def moved(now: Triple, first: Triple) -> tuple[Tensor, Tensor]:
    """What a triple has moved by, as up [out, 2 rank] times down [2 rank, in, …].

    P λ Q less its start, in differences that keep their digits where a product is worked out in half precision:
    P λ (Q - Q') + (P λ - P' λ') Q'.
    """
    up = now.p.flatten(1) * now.strengths
    before = first.p.flatten(1) * first.strengths
    return torch.cat([up, up - before], dim=1), torch.cat([now.q - first.q, first.q])


def matrix(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """The update of a file's layer before alpha, as a matrix. Raises ValueError for one begun on another weight."""
    now = Triple(
        tensors["p_layer.weight"], tensors["lambda_layer"].reshape(1, -1), tensors["q_layer.weight"].flatten(1)
    )
    first = nearest(base, now.q)
    if first is None:
        raise ValueError("a layer that was begun on another weight")
    up, down = moved(now, first)
    return up @ down
