"""Prompts become text states: CLIP tokens in chunks of 75, clip skip, weighted captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kohyakit.dataset.captions.tokens import CHUNK, EOS, chunks, encode, parse_weights, weighted_chunks
from kohyakit.models.text import TextEncoder

MAX_CHUNKS = 3  # of 75 tokens in a sample prompt; what is longer is cut off


class Conditioning(NamedTuple):
    """What the U-Net is told of a batch.

    states: [B, T, dim], for cross attention. pooled: [B, dim] and sizes: [B, 6] (original height and width, crop top
    and left, target height and width, in pixels) where the family has them.
    """

    states: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditioning:
        """Everything there, states and pooled in this dtype."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        sizes = None if self.sizes is None else self.sizes.to(device)
        return Conditioning(self.states.to(device, dtype), pooled, sizes)

    def of(self, places: Sequence[int]) -> Conditioning:
        """Of these images of the batch."""
        rows = list(places)
        return Conditioning(self.states[rows], *(None if part is None else part[rows] for part in self[1:]))


class Tokens(NamedTuple):
    """input_ids: [batch, chunks, 77] int64. weights: the same shape, float32, or None for plain prompts."""

    input_ids: Tensor
    weights: Tensor | None = None


def tokenize(
    prompts: Iterable[str], max_token_length: int | None = None, *, weighted: bool = False, pad_token_id: int = EOS
) -> Tokens:
    """Prompts as CLIP takes them; what is longer than max_token_length is cut off.

    max_token_length: 75 (or None), 150 or 225. weighted: read A1111's `(tag:1.3)` and `[tag]`.
    pad_token_id: of the model's family, what stands after a prompt's end.
    """
    if weighted:
        rows, weights = zip(*(weighted_chunks(prompt, max_token_length) for prompt in prompts), strict=True)
        return Tokens(_padded(torch.tensor(rows), pad_token_id), torch.tensor(weights))
    ids = [chunks(encode(prompt), max_token_length) for prompt in prompts]
    return Tokens(_padded(torch.tensor(ids), pad_token_id))


def _padded(input_ids: Tensor, pad: int) -> Tensor:
    """Replace the end tokens after the first one of each prompt (Stable Diffusion 2.x fills up with 0).

    As sd-scripts: a chunk that is full keeps its end token, and one that is empty begins with an end token.
    """
    if pad == EOS:
        return input_ids
    body = input_ids[:, :, 1:-1].flatten(1)
    ended = (body == EOS).cumsum(1)
    body = torch.where(ended > 1, pad, body).view_as(input_ids[:, :, 1:-1])
    closing = torch.where(torch.isin(body[:, :, -1:], torch.tensor([EOS, pad])), pad, EOS)
    several = input_ids.shape[1] > 1
    opening = torch.where((body[:, :, :1] == pad) & several, EOS, body[:, :, :1])
    return torch.cat([input_ids[:, :, :1], opening, body[:, :, 1:], closing], dim=2)


def encode_prompts(
    text_encoder: TextEncoder, input_ids: Tensor, *, clip_skip: int | None = None, weights: Tensor | None = None
) -> Tensor:
    """Text states for the U-Net's cross attention.

    input_ids: [batch, chunks, 77]. clip_skip n takes hidden state -n, then the final layer norm.
    weights: [batch, chunks, 77]; each token's state is multiplied by its weight and the mean is not restored,
    which is what sd-scripts computes in training. Returns [batch, chunks * 75 + 2, dim]: the first chunk's
    start mark, 75 states of each chunk, the last chunk's end mark. Raises ConfigError for a clip_skip too deep.
    """
    states = text_encoder(input_ids.flatten(0, 1), clip_skip).unflatten(0, input_ids.shape[:2])
    return joined_states(states, weights)


def joined_states(states: Tensor, weights: Tensor | None) -> Tensor:
    """Chunks of states put together, each token's multiplied by its weight where there are any.

    states: [batch, chunks, 77, dim]; weights: [batch, chunks, 77]. Returns [batch, chunks * 75 + 2, dim].
    """
    states = _joined(states)
    return states if weights is None else states * _joined(weights.to(states)).unsqueeze(-1)


def encode_weighted(text_encoder: TextEncoder, prompts: Sequence[str], clip_skip: int | None) -> Tensor:
    """Text states of sample prompts: [prompts, chunks * 77, dim], every chunk with its own marks.

    `(tag:1.3)` counts always, and the mean over a prompt is restored after weighing, other than in training.
    """
    longest = max(sum(len(encode(text)) for text, _ in parse_weights(prompt)) for prompt in prompts)
    count = min(MAX_CHUNKS, max(1, -(-longest // CHUNK)))
    rows = [weighted_chunks(prompt, count * CHUNK) for prompt in prompts]
    ids = torch.tensor([row for row, _ in rows], device=text_encoder.device)
    weights = torch.tensor([row for _, row in rows], device=ids.device).flatten(1)
    states = text_encoder(ids.flatten(0, 1), clip_skip).unflatten(0, ids.shape[:2]).flatten(1, 2)
    if (weights == 1).all():
        return states
    mean = states.float().mean(dim=(-2, -1), keepdim=True)
    states = states * weights.to(states.dtype).unsqueeze(-1)
    ratio = mean / states.float().mean(dim=(-2, -1), keepdim=True)
    return states * ratio.nan_to_num(nan=1.0).to(states.dtype)


def _joined(rows: Tensor) -> Tensor:
    """[batch, chunks, 77, ...] -> [batch, chunks * 75 + 2, ...]"""
    return torch.cat([rows[:, 0, :1], rows[:, :, 1:-1].flatten(1, 2), rows[:, -1, -1:]], dim=1)
