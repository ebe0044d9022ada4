"""Aspect-ratio buckets."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketConfig:
    """Aspect-ratio buckets."""

    enable_bucket: bool = param(
        False,
        help="Sort pictures by aspect ratio into buckets of equal area, so that nothing has to be cut to one shape.",
        tip="On, unless every picture already has exactly the training resolution.",
    )
    min_bucket_reso: int = param(
        256,
        ge=1,
        help="Smallest side of a bucket in pixels, rounded down to a multiple of bucket_reso_steps. It may not "
        "exceed the resolution's smaller side. Checked but not used while bucket_no_upscale is on.",
        tip="256 for 512 training, 512 for SDXL.",
    )
    max_bucket_reso: int = param(
        1024,
        ge=1,
        help="Largest side of a bucket in pixels, rounded up to a multiple of bucket_reso_steps. It may not be "
        "below the resolution's larger side. Checked but not used while bucket_no_upscale is on.",
        tip="1024 for 512 training, 2048 for SDXL; panoramas need more.",
    )
    bucket_reso_steps: int = param(
        64,
        ge=1,
        help="Bucket sides are multiples of this many pixels. It must divide by 64 for SD 1.x/2.x, by 32 for "
        "SDXL, Flux, SD3 LoRA and HunyuanImage, by 16 for Anima and Lumina.",
        tip="64; 32 on SDXL cuts less off the edges but makes more buckets, each with fewer pictures.",
    )
    bucket_no_upscale: bool = param(
        False,
        help="Never enlarge a picture: small ones keep their size in a bucket of their own, large ones are scaled "
        "down to the resolution's area.",
        tip="On for photographs of mixed sizes; off when small pictures should count like large ones.",
    )
