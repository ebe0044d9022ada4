"""What an audit is asked: the resolution and buckets to judge by, the captions' extension, the thresholds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kohyakit.dataset.buckets import BucketSettings, CannotPlace, select_bucket
from kohyakit.errors import ConfigError, Problem

if TYPE_CHECKING:
    from kohyakit.config.train import TrainConfig

# Without a config: what the kohya_ss GUI starts with, but upscaling, so that what is too small shows.
DEFAULT_BUCKETS = BucketSettings((512, 512), enable_bucket=True, max_bucket_reso=2048)


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """buckets: resolution (width, height) and bucket options. batch_size: for lone images. upright: whether the
    trainer applies EXIF orientation. caption_extension: None takes the one that most captions have.
    max_token_length: what the config trains (75, 150, 225), None where unknown. what_if: further resolutions, pixels.
    """

    buckets: BucketSettings = DEFAULT_BUCKETS
    batch_size: int = 1
    caption_extension: str | None = None
    upright: bool = True
    max_token_length: int | None = None
    what_if: tuple[tuple[int, int], ...] = ()
    quick: bool = False
    thresholds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def default_workers() -> int:
    """As many as there are processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def settings_from(
    config: TrainConfig | None = None, *, resolution: Any = None, what_if: Any = (), **asked: Any
) -> AuditSettings:
    """Settings from a training config, where there is one, and what was asked beside it.

    resolution: `768`, `"768,512"` or (768, 512), above the config's. what_if: several of such.
    Raises ConfigError with every problem, also where no image could be placed in any bucket.
    """
    problems: list[Problem] = []
    base = AuditSettings() if config is None else _from_config(config, problems)
    buckets = base.buckets
    if resolution is not None:
        size = _size(resolution, "resolution", problems)
        buckets = at_resolution(buckets, size) if size else buckets
    sizes = [_size(value, "what-if", problems) for value in _several(what_if)]
    try:
        select_bucket(buckets.resolution, buckets)
    except CannotPlace as error:
        problems.append(Problem("buckets", str(error), name="bad_buckets"))
    if problems:
        raise ConfigError(problems)
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(base, buckets=buckets, what_if=tuple(size for size in sizes if size), **given)


def at_resolution(buckets: BucketSettings, size: tuple[int, int]) -> BucketSettings:
    """The same bucket options for another resolution; the bounds give way where they would exclude it."""
    return replace(
        buckets,
        resolution=size,
        min_bucket_reso=min(buckets.min_bucket_reso, *size),
        max_bucket_reso=max(buckets.max_bucket_reso, *size),
    )


def _from_config(config: TrainConfig, problems: list[Problem]) -> AuditSettings:
    from kohyakit.dataset.layout import parse_resolution

    size = DEFAULT_BUCKETS.resolution
    if config.dataset.resolution is not None:
        size = parse_resolution(config.dataset.resolution, "resolution", problems) or size
    bucket = config.bucket
    return AuditSettings(
        buckets=BucketSettings(
            size,
            bucket.enable_bucket,
            bucket.min_bucket_reso,
            bucket.max_bucket_reso,
            bucket.bucket_reso_steps,
            bucket.bucket_no_upscale,
        ),
        batch_size=config.dataset.train_batch_size,
        caption_extension=config.dataset.caption_extention or config.dataset.caption_extension,
        upright=config.dataset.exif_orientation == "apply",
        max_token_length=config.model.tokens,
    )


def _size(value: Any, where: str, problems: list[Problem]) -> tuple[int, int] | None:
    from kohyakit.dataset.layout import parse_resolution

    text = value.replace("x", ",") if isinstance(value, str) else value
    return parse_resolution(text, where, problems)


def _several(what_if: Any) -> list[Any]:
    if isinstance(what_if, str):
        return [part for part in what_if.replace(" ", "").split(",") if part]
    return [what_if] if isinstance(what_if, int) else list(what_if or ())
