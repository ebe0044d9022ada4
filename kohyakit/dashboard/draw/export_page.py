"""A comparison as one HTML file that opens anywhere: no network, no script from elsewhere, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.dashboard.draw import svg, theme
from kohyakit.dashboard.draw.curves import tag_title
from kohyakit.dashboard.draw.lines import all_tags, drawn_lines
from kohyakit.dashboard.read import pictures, report
from kohyakit.dashboard.read.samples import last_sample, position, prompts, samples_of
from kohyakit.runs.run import Run
from kohyakit.words import duration, when

if TYPE_CHECKING:
    from kohyakit.dashboard.pages.parts.page import Opened

_COLOURS = {name: f"var(--{name})" for name in theme.LIGHT}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(opened: Opened, runs: Sequence[Run]) -> str:
    """The whole document. Every text of the user's is escaped, and the policy in its head forbids any request."""
    names = ", ".join(run.record.version for run in runs)
    parts = [
        f"<h1>{escape(opened.project.label)}: {escape(names)}</h1>",
        _overview(runs),
        _statements(runs),
        _curves(runs),
        _settings(runs),
        _photos(opened, runs),
        _samples(opened, runs),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(opened.project.label)} {escape(names)}</title>"
        f"<style>{_variables()}{_part('export.css')}</style></head><body><main>{''.join(parts)}</main>"
        f"<script>{_part('export.js')}</script></body></html>"
    )


def _part(name: str) -> str:
    return (Path(__file__).resolve().parent / "components" / name).read_text(encoding="utf-8")


def _variables() -> str:
    def block(colours: dict[str, str]) -> str:
        return ";".join(f"--{name}:{value}" for name, value in colours.items())

    return f":root{{{block(theme.LIGHT)}}}@media(prefers-color-scheme:dark){{:root{{{block(theme.DARK)}}}}}"


def _overview(runs: Sequence[Run]) -> str:
    rows = []
    for run in runs:
        record = run.record
        cells = (
            record.version, record.name or record.output_name, run.status, when(record.started),
            duration(record.seconds), str(record.image_count or "–"),
            ", ".join(record.changes) if record.parent else "first run", record.note,
        )  # fmt: skip
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    heads = ("run", "name", "status", "started", "took", "images", "what changed", "note")
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"


def _statements(runs: Sequence[Run]) -> str:
    told = report.statements(runs)
    items = "".join(f"<li><b>{escape(one.where)}</b> {escape(one.what)}</li>" for one in told)
    return f"<h2>What the curves tell</h2><ul>{items}</ul>" if items else ""


def _curves(runs: Sequence[Run]) -> str:
    made = []
    for tag in all_tags(runs):
        lines, _ = drawn_lines(runs, tag)
        if lines:
            drawn = svg.chart(lines, axis="step", title=tag_title(tag), colours=_COLOURS, ground=False)
            made.append(f"<figure>{drawn}</figure>")
    return f"<h2>Curves</h2>{''.join(made)}" if made else ""


def _settings(runs: Sequence[Run]) -> str:
    table = report.settings_frame(runs, only_differences=len(runs) > 1)
    if table.empty:
        return "<h2>Settings</h2><p>No setting differs.</p>"
    heads = "".join(f"<th>{escape(str(name))}</th>" for name in ("setting", *table.columns))
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th>{''.join(f'<td>{escape(str(value))}</td>' for value in row)}</tr>"
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    )
    return f"<h2>Settings{' that differ' if len(runs) > 1 else ''}</h2><table><tr>{heads}</tr>{rows}</table>"


def _photos(opened: Opened, runs: Sequence[Run]) -> str:
    made = []
    for before, after in pairwise(runs):
        if not before.dataset.entries or not after.dataset.entries:
            continue
        change = report.dataset_change(before, after)
        if not change.words:
            continue
        made.append(f"<h3>{before.record.version} → {after.record.version}: {escape(', '.join(change.words))}</h3>")
        for title, items in (("added", change.added), ("removed", change.removed), ("edited", change.changed)):
            tiles = "".join(_tile(opened, path, f"{title}: {name}", 160) for path, name in items[:60])
            made.append(f'<div class="tiles">{tiles}</div>' if tiles else "")
        if change.captions:
            made.append(report.caption_html(change.captions))
    return f"<h2>Photos and captions</h2>{''.join(made)}" if made else ""


def _samples(opened: Opened, runs: Sequence[Run]) -> str:
    made = []
    for index, prompt in dict.fromkeys(key for run in runs for key in prompts(samples_of(run))):
        tiles = []
        for run in runs:
            last = last_sample(run)
            found = [
                s
                for s in samples_of(run)
                if last and position(s) == position(last) and (s.index, s.prompt) == (index, prompt)
            ]
            tiles += [
                _tile(
                    opened,
                    s.path,
                    f"{run.record.version} · {s.label}" + (f" · seed {s.seed}" if s.seed is not None else ""),
                    320,
                )
                for s in found
            ]
        if tiles:
            made.append(
                f'<h3>{escape(prompt or f"Prompt {index + 1}")}</h3><div class="tiles large">{"".join(tiles)}</div>'
            )
    return f"<h2>Last samples</h2>{''.join(made)}" if made else ""


def _tile(opened: Opened, path: Path, words: str, width: int) -> str:
    """A thumbnail as data in the page; outside the project only its words."""
    image = ""
    if opened.project.holds(path):
        made = pictures.read(opened.project, opened.project.name(path), width)
        image = f'<img alt="" src="data:{made.media_type};base64,{base64.b64encode(made.body).decode()}">'
    return f"<figure>{image}<figcaption>{escape(words)}</figcaption></figure>"
