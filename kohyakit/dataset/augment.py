"""What chance does to an image and its caption, drawn from an explicit generator in sd-scripts' order.

Per image: flip, random crop, colour (`draw_image`); then per caption: dropout, wildcards, shuffle, tag dropout
(`process_caption`). An option that is off draws nothing, and a dropped caption draws nothing further.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from kohyakit.dataset.sources.faces import FaceCrop

_WILDCARD = re.compile(r"\{([^}]+)\}")


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """sd-scripts' caption options of a subset; 0, "" and None are off.

    token_warmup_step: steps, or below 1 a fraction of all steps.
    """

    shuffle_caption: bool = False
    caption_separator: str = ","
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    secondary_separator: str | None = None
    enable_wildcard: bool = False
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    token_warmup_min: int = 1
    token_warmup_step: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """sd-scripts' image augmentations of a subset."""

    flip_aug: bool = False
    color_aug: bool = False
    random_crop: bool = False


@dataclass(frozen=True, slots=True)
class ImageDraw:
    """What was drawn for one image; None is no change.

    resized: what it is scaled to, where that is drawn too. hue_shift: OpenCV's half degrees, -8 to 8. gamma: 0.95 to
    1.05, the power of the 0..255 values.
    """

    flip: bool
    crop_left: int
    crop_top: int
    hue_shift: float | None = None
    gamma: float | None = None
    resized: tuple[int, int] | None = None


def draw_image(
    options: ImageOptions,
    resized: tuple[int, int],
    bucket: tuple[int, int],
    rng: random.Random,
    *,
    top_first: bool = False,
    around: Callable[[random.Random], FaceCrop] | None = None,
) -> ImageDraw:
    """Draw flip, crop and colour for one image of `resized` pixels going into `bucket` (both width, height).

    top_first: the crop's top is drawn before its left, as sd-scripts does without buckets. around: draws the crop in
    place of that, around a face.
    """
    flip = options.flip_aug and rng.random() < 0.5
    face = around(rng) if around else None
    if face:
        left, top = face.left, face.top
    else:
        trims = [have - want for have, want in zip(resized, bucket, strict=True)]
        crops = [_crop(trim, options.random_crop, rng) for trim in (trims[::-1] if top_first else trims)]
        left, top = crops[::-1] if top_first else crops
    hue_shift = gamma = None
    if options.color_aug and rng.random() <= 0.33:
        if rng.random() > 0.5:
            hue_shift = rng.uniform(-8, 8)
        else:
            gamma = rng.uniform(0.95, 1.05)
    return ImageDraw(flip, left, top, hue_shift, gamma, face.resized if face else None)


def _crop(trim: int, at_random: bool, rng: random.Random) -> int:
    if trim <= 0:
        return 0
    return rng.randint(0, trim) if at_random else trim // 2


def process_caption(
    text: str, options: CaptionOptions, rng: random.Random, epoch: int = 0, step: int = 0, *, max_train_steps: int = 0
) -> str:
    """The caption as this batch trains it.

    text: the caption read from its file, lines separated by newlines where wildcards are on. epoch, step: as the
    loader counts them, from 0. max_train_steps: what a fractional token_warmup_step is a fraction of.
    """
    if options.caption_prefix:
        text = f"{options.caption_prefix} {text}"
    if options.caption_suffix:
        text = f"{text} {options.caption_suffix}"
    if _is_dropped(options, rng, epoch):
        return ""
    text = _expand_wildcards(text, rng) if options.enable_wildcard else text.split("\n")[0]
    if options.shuffle_caption or options.token_warmup_step > 0 or options.caption_tag_dropout_rate > 0:
        text = _rearrange(text, options, rng, step, max_train_steps)
    if options.secondary_separator:
        text = text.replace(options.secondary_separator, options.caption_separator)
    return text


def _is_dropped(options: CaptionOptions, rng: random.Random, epoch: int) -> bool:
    by_chance = options.caption_dropout_rate > 0 and rng.random() < options.caption_dropout_rate
    every = options.caption_dropout_every_n_epochs
    return by_chance or (every > 0 and epoch % every == 0)


def _expand_wildcards(text: str, rng: random.Random) -> str:
    if "\n" in text:
        text = rng.choice(text.split("\n"))
    opening, closing = "\ue000", "\ue001"
    while opening in text or closing in text:
        opening, closing = opening + "\ue000", closing + "\ue001"
    text = text.replace("{{", opening).replace("}}", closing)
    text = _WILDCARD.sub(lambda match: rng.choice(match[1].split("|")), text)
    return text.replace(opening, "{").replace(closing, "}")


def _rearrange(text: str, options: CaptionOptions, rng: random.Random, step: int, max_train_steps: int) -> str:
    kept, free, suffix = split_tags(text, options)
    free = free[: _warmed_up(len(free), options, step, max_train_steps)]
    if options.shuffle_caption:
        rng.shuffle(free)
    rate = options.caption_tag_dropout_rate
    if rate > 0:
        free = [tag for tag in free if rng.random() >= rate]
    return ", ".join([*kept, *free, *suffix])


def split_tags(text: str, options: CaptionOptions) -> tuple[list[str], list[str], list[str]]:
    """A caption's tags: those that keep their place in front, those that move, those that stay at the end."""
    separator, barrier = options.caption_separator, options.keep_tokens_separator
    if barrier and barrier in text:
        parts = [[tag.strip() for tag in part.split(separator) if tag.strip()] for part in text.split(barrier, 2)]
        return parts[0], parts[1], parts[2] if len(parts) > 2 else []
    tags = [tag.strip() for tag in text.strip().split(separator)]
    return tags[: max(0, options.keep_tokens)], tags[max(0, options.keep_tokens) :], []


def _warmed_up(count: int, options: CaptionOptions, step: int, max_train_steps: int) -> int:
    """How many of the moving tags are shown at this step of the token warm-up."""
    steps = options.token_warmup_step
    if steps < 1:
        steps = math.floor(steps * max_train_steps)
    if not steps or step >= steps:
        return count
    return math.floor(step * ((count - options.token_warmup_min) / steps)) + options.token_warmup_min
