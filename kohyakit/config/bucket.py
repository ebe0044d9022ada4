"""Aspect-ratio buckets."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketConfig:
    """Aspect-ratio buckets."""

    enable_bucket: bool = param(False)
    min_bucket_reso: int = param(256)
    max_bucket_reso: int = param(1024)
    bucket_reso_steps: int = param(64)
    bucket_no_upscale: bool = param(False)
