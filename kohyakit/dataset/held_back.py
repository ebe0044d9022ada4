"""Which photos of a folder are held back from training, so that the loss can be measured on them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choice:
    """Chooses the photos that are held back; ask it folder by folder, first for all trained parts, then the others.

    seed: of the training. As sd-scripts: each part is cut from a list of its own, shuffled with validation_seed or
    else with the training's stream, and both cuts are rounded up, so that a photo may stand in both parts or, drawn
    twice from that stream, in none. Else: a photo stands in exactly one part, and the order is left alone.
    """

    def __init__(self, seed: int | None, *, as_sd_scripts: bool) -> None:
        self._seed = seed or 0
        self._stream = random.Random(seed or 0)
        self.as_sd_scripts = as_sd_scripts

    def shuffles(self, share: float, seed: int | None) -> bool:
        """Whether the training's own stream moves by such a choice."""
        return self.as_sd_scripts and share > 0 and seed is None

    def part(self, photos: Sequence[T], folder: str, share: float, seed: int | None, *, held: bool) -> tuple[T, ...]:
        """One part of a folder's photos: those held back, or those trained. seed: validation_seed."""
        if not share:
            return () if held else tuple(photos)
        if self.as_sd_scripts:
            return self._as_there(photos, share, seed, held)
        return self._fair(photos, folder, share, seed, held)

    def _as_there(self, photos: Sequence[T], share: float, seed: int | None, held: bool) -> tuple[T, ...]:
        shuffled = list(photos)
        (self._stream if seed is None else random.Random(seed)).shuffle(shuffled)
        if held:
            return tuple(shuffled[len(shuffled) - round(len(shuffled) * share) :])
        return tuple(shuffled[: math.ceil(len(shuffled) * (1 - share))])

    def _fair(self, photos: Sequence[T], folder: str, share: float, seed: int | None, held: bool) -> tuple[T, ...]:
        places = list(range(len(photos)))
        random.Random(f"{self._seed if seed is None else seed}/held back/{folder}").shuffle(places)
        count = math.floor(len(photos) * share + 0.5)
        chosen = set(places[: count if share == 1 else min(count, len(photos) - 1)])
        return tuple(photo for place, photo in enumerate(photos) if (place in chosen) == held)
