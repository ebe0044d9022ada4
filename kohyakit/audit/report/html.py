"""The self-contained HTML report: findings with thumbnails, buckets, sizes, captions. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit import words
from kohyakit.audit.report import charts
from kohyakit.audit.report.table import _VERDICTS as VERDICTS
from kohyakit.audit.report.table import relative
from kohyakit.audit.report.thumbs import thumbnails
from kohyakit.errors import SEVERITIES
from kohyakit.files import write_text

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.report.frames import Frames

_CARDS, _GROUPS, _LINES = 36, 24, 200  # cards, groups of duplicates and lines of text shown per issue
_SIDEWAYS = ("exif_orientation", "suspected_sideways")
_HERE = Path(__file__).parent


def write_html(report: Frames, path: Path) -> Path:
    """Write the report to a file, whole or not at all. Raises OSError."""
    write_text(path, as_html(report))
    return path


def as_html(report: Frames) -> str:
    found = _Found(report)
    title = escape(f"Audit of {report.root.name or report.root}")
    body = "".join((_head(report), _overview(report), *found.sections(), *_pictures(report), *_captions(report)))
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<style>{style}</style></head><body><main>{body}"
        "<footer>Made by kohyakit. Nothing was changed; <code>kohyakit repair</code> mends what can be mended, "
        f"with a way back.</footer></main><script>{script}</script></body></html>"
    )


def _head(report: Frames) -> str:
    width, height = report.settings.buckets.resolution
    looked = "headers and captions only" if report.settings.quick else "every file decoded"
    buckets = "with buckets" if report.settings.buckets.enable_bucket else "without buckets"
    worst = next((s for s in SEVERITIES if report.count(s)), None)
    captions = ', <a href="#captions">captions</a>' if len(report.captions) else ""
    tiles = [("images", len(report.images), ""), *((f"{s}s", report.count(s), s) for s in SEVERITIES)]
    tiles += [
        ("captions", len(report.captions), ""),
        ("subsets", len(report.subsets), ""),
        ("buckets", len(report.buckets), ""),
    ]
    drawn = "".join(
        f'<div class="tile {kind if count else ""}"><b>{count:,}</b><span>{name}</span></div>'
        for name, count, kind in tiles
    )
    return (
        f"<header><div><h1>{escape(relative(str(report.root), Path('/nowhere')))}</h1>"
        f'<p class="soft">Judged for {width} × {height} {buckets}; {looked}. '
        f'Charts: <a href="#pictures">pictures</a>{captions}.</p></div>'
        '<button id="theme" type="button">Light / dark</button></header>'
        f'<div class="verdict {worst or "good"}">{escape(VERDICTS[worst])}</div><div class="tiles">{drawn}</div>'
    )


def _overview(report: Frames) -> str:
    if not len(report.summary):
        return ""
    most = int(report.counts["count"].max())
    rows = "".join(
        f'<tr data-severity="{row.severity}"><td><span class="chip {row.severity}">{row.severity}</span></td>'
        f'<td><a href="#{escape(row.issue)}">{escape(row.title)}</a></td>'
        f'<td class="faint wide">{escape(row.issue)}</td>'
        f'<td class="n">{row.count:,}</td>'
        f'<td style="width:30%"><span class="meter {row.severity}" style="width:{100 * row.count / most:.1f}%">'
        "</span></td></tr>"
        for row in report.counts.itertuples()
    )
    buttons = "".join(
        f'<button type="button" data-show="{kind}" aria-pressed="{str(kind == "all").lower()}">{name}</button>'
        for kind, name in (("all", "Everything"), ("error", "Errors"), ("warning", "Warnings"), ("hint", "Hints"))
    )
    return (
        f'<div class="bar-head"><h2>What was found</h2><div class="filters">{buttons}</div></div>'
        f'<div class="panel"><table>{rows}</table></div>'
    )


class _Found:
    """The findings, issue by issue, with one thumbnail a picture and way of showing it."""

    def __init__(self, report: Frames) -> None:
        self._report = report
        self._facts = report.images.drop_duplicates("path").set_index("path")
        self._chosen = {row.issue: self._choose(row.issue) for row in report.summary.itertuples()}
        self._thumbs = thumbnails(self._wanted())

    def _choose(self, issue: str) -> pd.DataFrame:
        found = self._report.issues[self._report.issues["issue"] == issue]
        if issue.endswith("_duplicate"):
            return found[found["group"].isin(found["group"].unique()[:_GROUPS])]
        return found.head(_CARDS if found["path"].isin(self._facts.index).any() else _LINES)

    def _wanted(self) -> Iterator[tuple[str, bool]]:
        for issue, found in self._chosen.items():
            for path in found["path"]:
                if path in self._facts.index:
                    yield path, True
                    if issue in _SIDEWAYS:
                        yield path, False

    def sections(self) -> Iterator[str]:
        for row in self._report.summary.itertuples():
            chosen = self._chosen[row.issue]
            actions = chosen.loc[chosen["severity"] == row.severity, "action"].unique()
            action = f'<p class="action">{escape(_sentence(actions[0]))}</p>' if len(actions) == 1 else ""
            if row.issue.endswith("_duplicate"):
                groups = "".join(self._group(group) for _, group in chosen.groupby("group", sort=False))
                content = f'<div class="groups">{groups}</div>'
            elif chosen["path"].isin(self._facts.index).any():
                cards = "".join(self._card(one, row.issue, len(actions) > 1) for one in chosen.itertuples())
                content = f'<div class="cards">{cards}</div>'
            else:
                content = f'<div class="panel list">{"".join(map(self._line, chosen.itertuples()))}</div>'
            left = row.count - len(chosen)
            more = f'<p class="more">and {left:,} more; --csv or --json lists them all</p>' if left else ""
            yield (
                f'<section class="issue" id="{escape(row.issue)}" data-severity="{row.severity}">'
                f'<h2><span class="chip {row.severity}">{row.severity}</span>{escape(_sentence(row.title, ""))} '
                f'<span class="faint">{row.count:,}</span></h2>{action}{content}{more}</section>'
            )

    def _card(self, one: Any, issue: str, with_action: bool) -> str:
        if one.path not in self._facts.index:
            return f'<div class="card"><div class="said">{self._line(one)}</div></div>'
        turned = issue in _SIDEWAYS and self._facts.at[one.path, "orientation"] != 1
        shots = (
            [self._shot(one.path, False, "as stored"), self._shot(one.path, True, "as meant")]
            if turned
            else [self._shot(one.path, True)]
        )
        action = f'<div class="faint">{escape(one.action)}</div>' if with_action else ""
        return (
            f'<div class="card{" pair" if turned else ""}"><div class="shots">{"".join(shots)}</div><div class="said">'
            f'<div class="name">{self._name(one.path)}</div>'
            f'<div class="soft">{escape(one.detail)}</div>{action}</div></div>'
        )

    def _group(self, group: pd.DataFrame) -> str:
        ordered = group.assign(_k=group["severity"] != "hint").sort_values("_k", kind="stable")
        cards = []
        for one in ordered.head(12).itertuples():
            size = self._facts.loc[one.path]
            facts = (
                f"{size['shown_width']} × {size['shown_height']}, {words.size(size['file_size'])}"
                if size["width"] is not None
                else ""
            )
            cards.append(
                f'<div class="card{" keep" if one.severity == "hint" else ""}">{self._shot(one.path, True)}'
                f'<div class="said"><div class="name">{self._name(one.path)}</div>'
                f'<div class="faint">{escape(facts)}</div>'
                f'<div class="soft">{escape(one.detail)}</div></div></div>'
            )
        rest = f'<p class="more">and {len(ordered) - 12} more</p>' if len(ordered) > 12 else ""
        return f'<div class="panel group">{"".join(cards)}{rest}</div>'

    def _shot(self, path: str, upright: bool, caption: str = "") -> str:
        uri = self._thumbs.get((path, upright), "")
        label = f"<figcaption>{caption}</figcaption>" if caption else ""
        if not uri:
            return '<figure><div class="blank">no picture can be shown</div></figure>'
        name = escape(self._name_text(path), quote=True)
        return f'<figure><img loading="lazy" src="{uri}" alt="{name}">{label}</figure>'

    def _line(self, one: Any) -> str:
        name = f'<span class="name">{self._name(one.path)}</span>'
        return f'<div>{name} <span class="soft">{escape(one.detail)}</span></div>'

    def _name_text(self, path: str) -> str:
        return relative(path, self._report.root)

    def _name(self, path: str) -> str:
        return escape(self._name_text(path))


def _sentence(text: str, end: str = ".") -> str:
    return text[:1].upper() + text[1:] + end


def _panel(title: str, content: str, kind: str = "") -> str:
    return f'<div class="panel {kind}"><h3>{escape(title)}</h3>{content}</div>'


def _pictures(report: Frames) -> Iterator[str]:
    panels = []
    if len(report.buckets):
        panels.append(_panel(f"Images per bucket ({len(report.buckets)})", charts.bucket_chart(report.buckets)))
    if report.images["trained_width"].notna().any():
        panels.append(
            _panel(
                "Sizes, and the resolution's area",
                charts.size_chart(report.images, report.settings.buckets.resolution),
                "square",
            )
        )
    if len(report.subsets) > 1:
        names = [("reg: " if r.is_reg else "") + f"{r.subset}" for r in report.subsets.itertuples()][:20]
        panels.append(
            _panel(
                "Samples an epoch: images times repeats",
                charts.bars(names, report.subsets["samples"].tolist()[:20], "samples"),
            )
        )
    if report.settings.what_if:
        panels.append(_panel("At other resolutions", _table(_narrow(report.what_if()))))
    if panels:
        yield f'<h2 id="pictures">Pictures</h2><div class="panels">{"".join(panels)}</div>'


def _captions(report: Frames) -> Iterator[str]:
    if not len(report.captions):
        return
    tags = report.tags().head(20)
    panels = [
        _panel("Tokens per caption", charts.histogram(report.captions["tokens"].tolist(), (75, 150, 225), "tokens"))
    ]
    if len(tags) > 1:
        panels.append(_panel("Commonest tags", charts.bars(tags["tag"].tolist(), tags["images"].tolist(), "tags")))
        panels.append(_panel("Tags that stand together", charts.heat(report.co_occurrence(top=14)), "square"))
    panels.append(
        _panel(
            "Lengths by subset",
            _table(
                report.caption_lengths()[
                    ["subset", "captions", "different", "min_tokens", "median_tokens", "max_tokens"]
                ]
            ),
        )
    )
    yield f'<h2 id="captions">Captions</h2><div class="panels">{"".join(panels)}</div>'


def _narrow(table: pd.DataFrame) -> pd.DataFrame:
    table = table.drop(columns=["images", *(["unplaced"] if not table["unplaced"].any() else [])])
    return table.assign(mean_cropped=[f"{share:.1%}" for share in table["mean_cropped"]])


def _table(frame: pd.DataFrame) -> str:
    heads = "".join(
        f'<th class="{"" if place == 0 else "n"}">{escape(str(name).replace("_", " "))}</th>'
        for place, name in enumerate(frame.columns)
    )
    rows = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in frame.itertuples(index=False, name=None))
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _cells(row: Iterable[Any]) -> Iterator[str]:
    for place, value in enumerate(row):
        said = f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        yield f'<td class="{"" if place == 0 else "n"}">{escape(said)}</td>'
