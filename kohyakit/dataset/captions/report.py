"""Statistics of captions as a page for the terminal and as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.dataset.captions.statistics import ROOMS, Statistics, facts
from kohyakit.dataset.images import shown
from kohyakit.words import columns as aligned
from kohyakit.words import cut

if TYPE_CHECKING:
    import pandas as pd

_WIDE = 44  # characters of a tag or caption in a table of the terminal
_HTML_ROWS = 500
_HOW = {"case": "capitals", "form": "plural, article, underscore", "order": "order of words", "spelling": "one letter"}
Table = tuple[str, Sequence[str], list[Sequence[Any]], int]  # title, heads, rows, how many there are in all


def as_text(found: Statistics, *, rows: int | None = 12) -> str:
    """rows: of each table at most; None for all."""
    lines = [_opening(found), ""]
    lines += [f"- {shown(fact)}" for fact in facts(found)]
    for title, heads, body, whole in _tables(found, rows):
        more = f" ({len(body)} of {whole:,})" if whole > len(body) else ""
        lines += ["", f"{title}{more}", *_columns(heads, body)]
    return "\n".join(lines)


def as_html(found: Statistics, title: str) -> str:
    parts = [f"<p>{escape(_opening(found))}</p><ul>"]
    parts += [f"<li>{escape(fact)}</li>" for fact in facts(found)]
    parts.append("</ul>")
    for name, heads, body, whole in _tables(found, _HTML_ROWS):
        more = f" <small>({len(body)} of {whole:,})</small>" if whole > len(body) else ""
        parts.append(f"<h2>{escape(name)}{more}</h2><div class=wide><table>{_row(heads, 'th')}")
        parts += [_row(row, "td") for row in body]
        parts.append("</table></div>")
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def write_csv(found: Statistics, path: Path) -> list[Path]:
    """The tags into this file, every other frame beside it: NAME-pairs.csv and so on. Returns what was written."""
    written = []
    for name, frame in found.frames().items():
        target = path if name == "tags" else path.with_name(f"{path.stem}-{name}{path.suffix or '.csv'}")
        frame.to_csv(target, index=False, encoding="utf-8")
        written.append(target)
    return written


def _opening(found: Statistics) -> str:
    many, tokens = len(found.captions), found.captions["tokens"]
    said = f"{many:,} captions, {len(found.tags):,} different tags"
    said += f"; {found.without:,} pictures without a caption" if found.without else ""
    said += f"; {found.unreadable:,} captions cannot be read (see `kohyakit captions encode`)" * bool(found.unreadable)
    middle = f"; {tokens.median():g} tokens in the middle, {tokens.max()} at most" if many else ""
    return said + middle


def _tables(found: Statistics, most: int | None) -> Iterator[Table]:
    tags, captions = found.tags, found.captions
    heads: tuple[str, ...] = ("tag", "images", "weighted", "share", "first", "only_in")
    yield _table("Tags, by images times repeats", tags, most, heads)
    often = found.pairs.loc[found.pairs["images"] > 1]
    yield _table("Stand together", often, most, ("a", "b", "images", "share"))
    alike = found.alike.assign(how=found.alike["how"].map(_HOW))
    yield _table("May be the same", alike, most, ("tag", "images", "other", "other_images", "how"))
    yield _table("Captions that equal each other", found.same, most, ("caption", "images", "subsets"))
    if len(found.subsets) > 1:
        only = tags.loc[tags["only_in"] != ""]
        yield _table("In one folder only", only, most, ("only_in", "tag", "images"))
    heads = ("subset", "captions", "without", "median_tokens", "most_tokens", *(f"above_{room}" for room in ROOMS))
    yield _table("Folders, and tokens against what fits", found.subsets, None, heads)
    long = captions.loc[captions["cut"] != ""].sort_values(["tokens", "path"], ascending=[False, True])
    yield _table("What is cut off at 75 tokens", long, most, ("path", "tokens", "cut"))


def _table(title: str, frame: pd.DataFrame, most: int | None, heads: Sequence[str]) -> Table:
    kept = frame if most is None else frame.head(most)
    body: list[Sequence[Any]] = [[_cell(head, value) for head, value in zip(heads, row, strict=True)]
            for row in kept[list(heads) if len(frame) else []].itertuples(index=False)]  # fmt: skip
    return title, [head.replace("_", " ") for head in heads], body, len(frame)


def _cell(head: str, value: Any) -> str:
    if head == "share":
        return f"{value:.0%}"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _columns(heads: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    rows = [[cut(shown(cell), _WIDE) for cell in row] for row in body]
    if not rows:
        return ["  none"]
    columns = list(zip(*rows, strict=True))
    numbers = [at for at, column in enumerate(columns) if all(map(_is_number, column))]
    return [f"  {line}".rstrip() for line in aligned([heads, *rows], right=numbers)]


def _is_number(cell: str) -> bool:
    return cell.rstrip("%").replace(",", "").replace(".", "").isdigit()


def _row(cells: Iterable[str], kind: str) -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(str(cell))}</{kind}>" for cell in cells) + "</tr>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem }} .wide {{ overflow-x: auto; max-height: 32rem }}
table {{ border-collapse: collapse; width: 100% }} th {{ text-align: left; opacity: .65; font-weight: 500 }}
td, th {{ padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8883; vertical-align: top }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""
