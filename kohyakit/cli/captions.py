"""kohyakit captions: look through captions and change many at once"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kohyakit.cli import SuggestingGroup

_DIR = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_FILE = click.Path(path_type=Path, dir_okay=False)
_CHOICE = (
    click.option("--subset", "subsets", multiple=True, metavar="NAME", help="Only this folder; repeatable."),
    click.option("--file", "files", multiple=True, metavar="PATTERN", help="Only files such as 'IMG_*'; repeatable."),
    click.option("--where", default="", metavar="EXPR", help="Only captions such as 'church & !trees | tokens > 75'."),
    click.option("--finding", metavar="NAME", help="Only pictures that `kohyakit audit` names this finding of."),
    click.option("--extension", metavar=".txt", help="Of the caption files; not given, what most of them have."),
)
_DRY = click.option("--dry-run", is_flag=True, help="Show what would change, change nothing.")
_MOST = click.option("--show", "most", type=click.IntRange(min=0), default=5, show_default=True, metavar="N",
                     help="Captions shown before and after.")  # fmt: skip
_KEEP = click.option("--keep-tokens", "keep", type=click.IntRange(min=0), default=0, metavar="N",
                     help="Tags in front that stay as they are.")  # fmt: skip
_REGEX = click.option("--regex", "kind", flag_value="regex", help="As a regular expression.")
_TAG = click.option("--tag", "kind", flag_value="tag", help="A whole tag, without regard to case.")
_IGNORE = click.option("--ignore-case", is_flag=True, help="Without regard to case.")
_JSON = click.option("--json", "as_json", is_flag=True, help="The same as JSON.")


def _choosing(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_CHOICE):
        command = option(command)
    return command


def _changing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every change has."""
    return _choosing(_DRY(_MOST(command)))


@click.group(cls=SuggestingGroup)
def captions() -> None:
    """Look through the captions of a data set and change many at once.

    Every change is shown as counts and before and after, stands in the history that the dashboard shares
    (`DIR/.kohyakit/captions.jsonl`) and can be undone. What does not change stays as it is, byte for byte.

    \b
        kohyakit captions stats img
        kohyakit captions rename-tag img "grey sky" "overcast sky" --dry-run
        kohyakit captions add img fog --where "church & !trees" --subset 10_town
        kohyakit captions undo img
    """


@captions.command()
@_DIR
@_choosing
@_JSON
@click.option("--csv", type=_FILE, help="Write the tags, and the other tables beside them.")
@click.option("--html", type=_FILE, help="Write one page.")
@click.option("--all", "everything", is_flag=True, help="Print every row.")
def stats(folder: Path, as_json: bool, csv: Path | None, html: Path | None, everything: bool, **asked: Any) -> None:
    """Count what stands in the captions of DIR: tags, what stands together, lengths, what equals what."""
    from kohyakit.cli.views.captions import meant, show_statistics
    from kohyakit.dataset.captions.statistics import statistics

    found = statistics(folder, meant(folder, **asked))
    show_statistics(found, folder, as_json=as_json, csv=csv, html=html, everything=everything)


@captions.command()
@_DIR
@click.argument("text", required=False)
@_REGEX
@_TAG
@_IGNORE
@_choosing
@_JSON
def find(folder: Path, text: str | None, kind: str | None, ignore_case: bool, as_json: bool, **asked: Any) -> None:
    """Show the captions that hold TEXT, or that the options choose."""
    from kohyakit.cli.views.captions import meant, show_found
    from kohyakit.dataset.captions.operations import matches

    fits = matches(text, kind=kind or "text", ignore_case=ignore_case) if text is not None else None
    found = [one for one in meant(folder, **asked) if fits is None or (not one.problem and fits(one.text))]
    show_found(found, folder, as_json=as_json)


@captions.command()
@_DIR
@click.argument("find")
@click.argument("put")
@_REGEX
@_TAG
@_IGNORE
@_changing
def replace(folder: Path, find: str, put: str, kind: str | None, ignore_case: bool, **asked: Any) -> None:
    """Put PUT for FIND, anywhere in the text. With --regex, \\1 in PUT is the first group."""
    from kohyakit.dataset.captions.operations import substitute

    _do(folder, f"'{find}' → '{put}'", substitute(find, put, kind=kind or "text", ignore_case=ignore_case), asked)


@captions.command()
@_DIR
@click.argument("tags", nargs=-1, required=True)
@click.option("--first", "at", flag_value=1, type=int, help="In front.")
@click.option("--at", type=int, metavar="N", help="At this place: 1 the first, -1 the last.")
@click.option("--before", default="", metavar="TAG", help="Before this tag, where it stands.")
@click.option("--after", default="", metavar="TAG", help="After this tag, where it stands.")
@_changing
def add(folder: Path, tags: tuple[str, ...], at: int | None, before: str, after: str, **asked: Any) -> None:
    """Add TAGS that are not there yet, at the end or where the options say."""
    from kohyakit.dataset.captions.operations import add as operation

    _do(folder, f"'{', '.join(tags)}' added", operation(tags, at=at, before=before, after=after), asked)


@captions.command()
@_DIR
@click.argument("tags", nargs=-1)
@click.option("--regex", is_flag=True, help="TAGS are regular expressions that fit a whole tag.")
@click.option("--at", type=int, metavar="N", help="In place of TAGS: the tag at this place, 1 the first, -1 the last.")
@_changing
def remove(folder: Path, tags: tuple[str, ...], regex: bool, at: int | None, **asked: Any) -> None:
    """Take TAGS out, whole tags, `*` for any signs."""
    from kohyakit.dataset.captions.operations import remove as operation

    what = f"'{', '.join(tags)}' removed" if tags else f"tag {at} removed"
    _do(folder, what, operation(tags, at=at, regex=regex), asked)


@captions.command("rename-tag")
@_DIR
@click.argument("old")
@click.argument("new")
@_changing
def rename_tag(folder: Path, old: str, new: str, **asked: Any) -> None:
    """Put the tag NEW in the place of OLD; where NEW is there already, OLD just goes."""
    from kohyakit.dataset.captions.operations import rename_tag as operation

    _do(folder, f"tag '{old}' → '{new}'", operation(old, new), asked)


@captions.command()
@_DIR
@click.option("--by", type=click.Choice(["name", "frequent"]), default="name", show_default=True,
              help="By the alphabet, or the most frequent of the chosen captions first.")  # fmt: skip
@_KEEP
@_changing
def sort(folder: Path, by: str, keep: int, **asked: Any) -> None:
    """Put the tags of each caption in order."""
    from kohyakit.cli.views.captions import meant, without_shown
    from kohyakit.dataset.captions.bulk import tag_counts
    from kohyakit.dataset.captions.operations import sort as operation

    counts = tag_counts(meant(folder, **without_shown(asked))) if by == "frequent" else None
    _do(folder, f"tags sorted by {by}", operation(by, keep=keep, counts=counts), asked)


@captions.command()
@_DIR
@_changing
def dedupe(folder: Path, **asked: Any) -> None:
    """Keep each tag of a caption once, at its first place."""
    from kohyakit.dataset.captions.operations import dedupe as operation

    _do(folder, "doubled tags removed", operation(), asked)


@captions.command()
@_DIR
@click.option("--tags", type=click.IntRange(min=1), metavar="N", help="Keep no more than the first N tags.")
@click.option("--tokens", type=click.IntRange(min=1), metavar="N", help="Keep the tags that fit into N CLIP tokens.")
@_changing
def trim(folder: Path, tags: int | None, tokens: int | None, **asked: Any) -> None:
    """Take out needless blanks and empty tags, and what is too long where that is asked for."""
    from kohyakit.dataset.captions.operations import trim as operation

    limits = [f"to {tags} tags"] * bool(tags) + [f"to {tokens} tokens"] * bool(tokens)
    _do(folder, " ".join(["trimmed", " and ".join(limits)]).strip(), operation(tags=tags, tokens=tokens), asked)


@captions.command()
@_DIR
@click.argument("how", type=click.Choice(["lower", "upper", "title", "sentence"]))
@_KEEP
@_changing
def case(folder: Path, how: str, keep: int, **asked: Any) -> None:
    """Write letters small, capital, each word's first, or the caption's first."""
    from kohyakit.dataset.captions.operations import case as operation

    _do(folder, f"letters: {how}", operation(how, keep=keep), asked)


@captions.command()
@_DIR
@click.argument("pattern")
@_changing
def template(folder: Path, pattern: str, **asked: Any) -> None:
    """Write each caption by a PATTERN, such as "photo of {class}, {caption}".

    Fields: {caption}, {tags}, {first}, {rest}, {last}, {name} of the picture, {subset}, {class} of the folder
    without its repeats, {n} counts. A separator after an empty field goes with it; {{ is a brace.
    """
    from kohyakit.cli.views.captions import settle
    from kohyakit.dataset.captions.bulk import preview_template
    from kohyakit.dataset.captions.operations import template as operation

    filled = operation(pattern)
    settle(folder, f"template '{pattern}'", lambda files: preview_template(folder, files, filled), **asked)


@captions.command()
@_DIR
@click.option("--from", "source", default="", metavar="NAME", help="Their encoding, where it cannot be told.")
@click.option("--bom", "mark", is_flag=True, help="With a byte order mark.")
@click.option("--newlines", type=click.Choice(["lf", "crlf"]), help="Line ends; not given, they stay.")
@_changing
def encode(folder: Path, source: str, mark: bool, newlines: str | None, **asked: Any) -> None:
    """Save captions as UTF-8, from whatever they were saved in."""
    from kohyakit.cli.views.captions import settle
    from kohyakit.dataset.captions.bulk import preview_encoding

    settle(folder, "saved as UTF-8",
           lambda files: preview_encoding(folder, files, source=source, mark=mark, newlines=newlines or ""),
           **asked)  # fmt: skip


@captions.command("import")
@_DIR
@click.option("--from", "sources", multiple=True, type=click.Choice(["json", "xmp", "iptc", "exif", "text"]),
              help="Where to look, in this order; repeatable; not given, everywhere.")  # fmt: skip
@click.option("--metadata", type=_FILE, help="One JSON for all pictures: sd-scripts' in_json, or JSON lines.")
@click.option("--key", "keys", multiple=True, metavar="NAME", help="In JSON, in place of caption, tags …; repeatable.")
@click.option("--mode", type=click.Choice(["skip", "overwrite", "append", "prepend"]), default="skip",
              show_default=True, help="What becomes of captions that are there.")  # fmt: skip
@click.option("--keep-underscores", "underscores", is_flag=True, help="In a booru's tags.")
@_changing
def import_(folder: Path, metadata: Path | None, keys: tuple[str, ...], underscores: bool, **asked: Any) -> None:
    """Write captions from what pictures, and JSON or XMP beside them, say.

    \b
        kohyakit captions import img --dry-run
        kohyakit captions import img --metadata meta_cap.json --mode append
        kohyakit captions import img --from text

    The first place that says something counts: JSON beside the picture (photo.jpg.json, photo.json), XMP, IPTC, EXIF,
    PNG texts (of A1111 and Forge the prompt). A workflow of ComfyUI is no caption and is named.
    """
    from kohyakit.cli.views.captions import settle, show_taken
    from kohyakit.dataset.metadata.sidecars import Reading, read_metadata
    from kohyakit.dataset.metadata.take import SOURCES, Asked, preview_import

    in_one, mode, given = read_metadata(metadata) if metadata else None, asked.pop("mode"), asked.pop("sources")
    sources = given or (() if in_one else SOURCES)
    wanted = Asked(sources, mode, in_one, Reading(keys, underscores))
    what = f"imported from {', '.join([*([metadata.name] if metadata else ()), *sources])}"
    settle(folder, what, lambda files: show_taken(preview_import(folder, files, wanted)), pictures=True, **asked)


@captions.command("export")
@_DIR
@click.option("--to", "ways", multiple=True, type=click.Choice(["json", "metadata", "text", "exif", "xmp"]),
              help="JSON beside each picture, one JSON for all, or into pictures; repeatable.")  # fmt: skip
@click.option("--out", type=_FILE, help="Where `metadata` is written.")
@click.option("--take-back", is_flag=True, help="Take out again what was last put into pictures, to the byte.")
@_changing
def export(folder: Path, ways: tuple[str, ...], out: Path | None, take_back: bool, **asked: Any) -> None:
    """Give captions to other programs; caption files stay as they are.

    \b
        kohyakit captions export img --to metadata --out meta_cap.json
        kohyakit captions export img --to json
        kohyakit captions export img --to text --to exif
        kohyakit captions export img --take-back

    json is photo.jpg.json (taken back by `captions undo`), metadata what sd-scripts reads as in_json. text puts a
    caption into a PNG as Description, exif into a JPEG as ImageDescription, xmp into both with its tags as subjects:
    only metadata are exchanged, no pixel is encoded anew. A training then sees other files, though.
    """
    from kohyakit.cli.views import captions_export as view

    view.check(ways, out, take_back=take_back)
    if take_back:
        view.take_back(folder)
    else:
        view.export(folder, tuple(dict.fromkeys(ways)), out, **asked)


@captions.command()
@_DIR
@_JSON
def history(folder: Path, as_json: bool) -> None:
    """List what was done to the captions of DIR, here and in the dashboard."""
    from kohyakit.cli.views.captions import show_history
    from kohyakit.dataset.editing.captions import history as changes
    from kohyakit.dataset.editing.captions import undoable

    show_history(changes(folder), undoable(folder), folder, as_json=as_json)


@captions.command()
@_DIR
@click.argument("step", required=False, default="")
@_DRY
def undo(folder: Path, step: str, dry_run: bool) -> None:
    """Take a change back: the last one that stands, or STEP of the history. Undoing is a step too."""
    from kohyakit.cli.views.captions import show_diff, show_undone
    from kohyakit.dataset.captions.bulk import find_change
    from kohyakit.dataset.editing.captions import undo as take_back

    number, change = find_change(folder, step)
    if dry_run:
        show_diff(number, change, folder, back=True)
        return
    show_undone(number, change, *take_back(folder, change))


@captions.command()
@_DIR
@click.argument("step", required=False, default="")
@_JSON
def diff(folder: Path, step: str, as_json: bool) -> None:
    """Show what a change did, before and after: the last one that stands, or STEP of the history."""
    from kohyakit.cli.views.captions import show_diff
    from kohyakit.dataset.captions.bulk import find_change

    number, change = find_change(folder, step)
    show_diff(number, change, folder, as_json=as_json)


def _do(folder: Path, what: str, operation: Callable[[str], str], asked: dict[str, Any]) -> None:
    from kohyakit.cli.views.captions import settle
    from kohyakit.dataset.captions.bulk import preview

    settle(folder, what, lambda files: preview(files, operation), **asked)
