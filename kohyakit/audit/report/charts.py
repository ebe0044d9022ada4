"""The report's charts as inline SVG; colours come from the page's CSS variables, so light and dark both work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_POINTS = 4000  # dots that a scatter draws at most
_NAMED = 1200  # dots that carry their file's name


def svg(width: float, height: float, parts: Iterable[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, said: object, anchor: str = "start", kind: str = "label") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(str(said))}</text>'


def _bar(x: float, y: float, width: float, height: float, kind: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" rx="3" class="{kind}">'
        f"<title>{escape(title)}</title></rect>"
    )


def bucket_chart(buckets: pd.DataFrame, most: int = 24) -> str:
    """A bar a bucket, by shape from tall to wide, each with its outline; lone buckets are marked."""
    table = buckets.head(most).assign(ratio=lambda t: t["width"] / t["height"]).sort_values("ratio")
    row, left, width = 28, 136, 520
    longest = max(table["images"].max(), 1)
    largest = max(table["width"].max(), table["height"].max())
    parts = []
    for place, bucket in enumerate(table.itertuples()):
        middle = place * row + row / 2
        w, h = 24 * bucket.width / largest, 24 * bucket.height / largest
        parts.append(
            f'<rect x="{20 - w / 2:.1f}" y="{middle - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" class="outline"/>'
        )
        parts.append(_text(left - 12, middle + 4, f"{bucket.width} × {bucket.height}", "end"))
        length = (width - left - 116) * bucket.images / longest
        title = f"{bucket.images} images, {bucket.samples} samples an epoch, scaled {bucket.mean_scale:.2f} times"
        parts.append(_bar(left, middle - 8, length, 16, "lone" if bucket.images == 1 else "bar", title))
        parts.append(_text(left + max(length, 1) + 8, middle + 4, f"{bucket.images:,}", kind="value"))
        parts.append(_text(width, middle + 4, f"{bucket.mean_cropped:.0%} cut", "end", "faint"))
    return svg(width, len(table) * row, parts, "images per bucket")


def size_chart(images: pd.DataFrame, resolution: tuple[int, int]) -> str:
    """Width against height on logarithmic axes; below the line a picture is smaller than the resolution's area."""
    known = images[images["trained_width"].notna() & (images["repeats"] >= 0)]
    if len(known) > _POINTS:
        known = known.sample(_POINTS, random_state=0)
    widths, heights = known["trained_width"].astype(float), known["trained_height"].astype(float)
    area = math.sqrt(resolution[0] * resolution[1])
    low = max(16.0, min(widths.min(), heights.min(), area) / 1.3)
    high = max(widths.max(), heights.max(), area) * 1.3
    size, left, foot = 420, 52, 36

    def place(value: float) -> float:
        return (
            (math.log(min(max(value, low), high)) - math.log(low))
            / (math.log(high) - math.log(low))
            * (size - left - 18)
        )

    parts = []
    for tick in (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384):
        if low <= tick <= high:
            x, y = left + place(tick), size - foot - place(tick)
            parts.append(f'<path d="M{x:.1f} {size - foot}V18M{left} {y:.1f}H{size - 12}" class="grid"/>')
            parts.append(_text(x, size - foot + 18, tick, "middle"))
            parts.append(_text(left - 8, y + 4, tick, "end"))
    # width x height = area is a straight line here; points beyond the axes are clamped
    ends = [(w, area * area / w) for w in (max(low, area * area / high), min(high, area * area / low))]
    (x1, y1), (x2, y2) = ((left + place(w), size - foot - place(h)) for w, h in ends)
    parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="limit"/>')
    parts.append(_text((x1 + x2) / 2 - 8, (y1 + y2) / 2 + 14, f"{resolution[0]}×{resolution[1]}", "end", "mark"))
    named = len(known) <= _NAMED
    for path, w, h in zip(known["path"], widths, heights, strict=True):
        kind = "dot small" if w * h < 0.9 * area * area else "dot"
        title = f"<title>{escape(f'{path}: {w:.0f} × {h:.0f}')}</title>" if named else ""
        parts.append(
            f'<circle cx="{left + place(w):.1f}" cy="{size - foot - place(h):.1f}" r="3.2" class="{kind}">'
            f"{title}</circle>"
        )
    parts.append(_text(size - 12, size - 4, "width, pixels", "end", "faint"))
    parts.append(_text(left, 10, "height, pixels", kind="faint"))
    return svg(size, size, parts, "sizes of the images")


def histogram(values: Sequence[float], marks: Sequence[float], what: str) -> str:
    """How many captions have how many tokens; marks: limits drawn as lines where they fall inside."""
    width, height, left, foot = 520, 220, 36, 34
    top = max(max(values), 10)
    step = next(s for s in (1, 2, 5, 10, 25, 50, 100, 1000, 10**9) if top / s <= 40)
    bins = [0] * (int(top // step) + 1)
    for value in values:
        bins[int(value // step)] += 1
    across = (width - left - 8) / len(bins)
    tallest = max(bins)
    parts = [f'<path d="M{left} {height - foot}H{width - 8}" class="grid"/>']
    for place, count in enumerate(bins):
        if count:
            tall = (height - foot - 24) * count / tallest
            title = (
                f"{count} captions with {place * step} to {place * step + step - 1} {what}"
                if step > 1
                else f"{count} captions with {place} {what}"
            )
            parts.append(
                _bar(left + place * across + 1, height - foot - tall, max(across - 2, 1.5), tall, "bar", title)
            )
    every = max(1, len(bins) // 8)
    for place in range(0, len(bins), every):
        parts.append(_text(left + place * across, height - foot + 18, place * step, "middle"))
    for mark in marks:
        if mark < len(bins) * step:
            x = left + mark / step * across
            parts.append(
                f'<path d="M{x:.1f} 18V{height - foot}" class="limit"/>' + _text(x + 4, 16, f"{mark:g}", kind="mark")
            )
    parts.append(_text(left - 6, 28, f"{tallest:,}", "end"))
    parts.append(_text(width - 8, height - 2, what, "end", "faint"))
    return svg(width, height, parts, f"captions by {what}")


def bars(names: Sequence[str], counts: Sequence[float], label: str) -> str:
    """Horizontal bars with names, the largest first as given."""
    row, left, width = 24, 172, 520
    longest = max(counts, default=1) or 1
    parts = []
    for place, (name, count) in enumerate(zip(names, counts, strict=True)):
        middle = place * row + row / 2
        length = (width - left - 60) * count / longest
        short = name if len(name) <= 24 else name[:23] + "…"
        parts.append(_text(left - 10, middle + 4, short, "end"))
        parts.append(_bar(left, middle - 7, length, 14, "bar", f"{name}: {count:,}"))
        parts.append(_text(left + max(length, 1) + 8, middle + 4, f"{count:,}", kind="value"))
    return svg(width, max(row, len(names) * row), parts, label)


def heat(table: pd.DataFrame) -> str:
    """A square table of counts as shades; the diagonal is left out of the scale."""
    names = [str(name) for name in table.columns]
    cell, left, top = 26, 150, 110
    size = len(names) * cell
    values = table.to_numpy()
    most = max((values[i, j] for i in range(len(names)) for j in range(len(names)) if i != j), default=0) or 1
    parts = []
    for i, name in enumerate(names):
        short = name if len(name) <= 18 else name[:17] + "…"
        parts.append(_text(left - 8, top + i * cell + 17, short, "end"))
        x = left + i * cell + 16
        parts.append(f'<text transform="translate({x} {top - 8}) rotate(-50)" class="label">{escape(short)}</text>')
        for j in range(len(names)):
            share = 0.0 if i == j else values[i, j] / most
            title = f"{names[i]} with {names[j]}: {values[i, j]}" if i != j else f"{names[i]}: {values[i, i]}"
            kind = "cell own" if i == j else "cell"
            parts.append(
                f'<rect x="{left + j * cell}" y="{top + i * cell}" width="{cell - 2}" height="{cell - 2}" rx="3" '
                f'class="{kind}" style="--share:{share:.3f}"><title>{escape(title)}</title></rect>'
            )
    return svg(left + size + 70, top + size, parts, "tags that stand together")
