"""One photo and its caption at a time, by keys: the desk of the Captions page. What it is told is written from here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.captions import LONGEST, tags_of
from kohyakit.dashboard.pages.parts.page import Opened
from kohyakit.dashboard.pages.parts.widgets import caption_desk
from kohyakit.dashboard.read.memo import Memo
from kohyakit.dataset.captions.caption import Caption
from kohyakit.dataset.captions.tokens import count_tokens_of
from kohyakit.dataset.editing import captions as edit
from kohyakit.dataset.editing.captions import CaptionFile, Edit
from kohyakit.errors import KohyakitError

_KEY = "caption_desk"
_rows = Memo(8)


def take_edits(folder: Path, files: Sequence[CaptionFile]) -> bool:
    """Write what the desk has told since the last time -> was anything written? A caption is changed only where it is
    still as the desk showed it; of any other the desk keeps what was typed, and is told why.
    """
    told = _state("edits") or {}
    number, edits = told.get("number", 0), told.get("edits")
    if not isinstance(edits, list) or number <= st.session_state.get("caption_desk_done", 0):
        return False
    st.session_state["caption_desk_done"] = number
    known = {_id(file, folder): file for file in files}
    refused: dict[str, str] = {}
    made: dict[str, Edit] = {}
    for name, seen, text in edits:
        file = known.get(name)
        if file is None or file.problem:
            refused[name] = plain(file.problem) if file else "This photo is not there any more."
        elif file.text != text and file.text != seen:
            refused[name] = "This caption was changed elsewhere while you wrote."
        else:
            try:
                one = edit.rewritten(file, text)
            except UnicodeEncodeError:  # half of a character
                refused[name] = "There is a sign in it that no file can hold; take it out."
                continue
            if one is not None:
                made[name] = one
    refused |= _written(folder, made) if made else {}
    st.session_state["caption_desk_refused"] = refused
    return bool(made)


def _written(folder: Path, made: Mapping[str, Edit]) -> dict[str, str]:
    """Write the edits -> name: why it could not be, of those that could not."""
    words = f"{next(iter(made))} by hand" if len(made) == 1 else f"{len(made)} captions by hand"
    try:
        _, problems = edit.apply(folder, made.values(), words)
    except KohyakitError as error:
        return dict.fromkeys(made, plain(str(error.problems[0])))
    said = {problem.where: plain(str(problem)) for problem in problems}
    return {name: said[one.path.name] for name, one in made.items() if one.path.name in said}


def tag_filter() -> dict[str, list[str]]:
    """The tags that the desk was asked to show only photos with, and without."""
    found = _state("filter") or {}
    return {name: [tag for tag in found.get(name) or () if isinstance(tag, str)] for name in ("with", "without")}


def fits(file: CaptionFile, tags: Mapping[str, Sequence[str]]) -> bool:
    if not tags["with"] and not tags["without"]:
        return True
    caption = Caption.parse(file.text)
    return all(map(caption.has, tags["with"])) and not any(map(caption.has, tags["without"]))


def desk(opened: Opened, folder: Path, files: Sequence[CaptionFile], every: Sequence[CaptionFile]) -> None:
    """Draw the desk. files: those that the filters leave; every: the whole set, whose tags are offered."""
    caption_desk(
        {
            "rows": _told(opened, folder, files, every),
            "folder": str(folder),
            "filter": tag_filter(),
            "refused": st.session_state.get("caption_desk_refused", {}),
            "done": st.session_state.get("caption_desk_done", 0),
        },
        key=_KEY,
    )


def _told(opened: Opened, folder: Path, files: Sequence[CaptionFile], every: Sequence[CaptionFile]) -> str:
    """Photos, captions, tokens and tags as one text, made again only when a caption or the choice has changed."""
    stamp = hashlib.sha256()
    for group in (files, every):
        for file in group:
            stamp.update(repr((str(file.image), file.raw, file.problem)).encode("utf-8", "surrogatepass"))
        stamp.update(b"/")

    def make() -> str:
        tags = tags_of(every)
        lengths = dict(zip((tag for tag, _ in tags), count_tokens_of(tag for tag, _ in tags), strict=True))
        tokens = count_tokens_of(file.text for file in files)
        items = [
            [
                _id(file, folder),
                file.text,
                opened.picture_url(file.image, 160),
                opened.picture_url(file.image, 1280),
                many,
                plain(file.problem),
            ]
            for file, many in zip(files, tokens, strict=True)
        ]
        return json.dumps({"items": items, "tags": [[tag, many, lengths[tag]] for tag, many in tags], "room": LONGEST})

    return _rows.get(str(folder), (stamp.hexdigest(),), make)


def _id(file: CaptionFile, folder: Path) -> str:
    return file.image.relative_to(folder).as_posix()


def _state(name: str) -> dict[str, Any] | None:
    found = st.session_state.get(_KEY)
    value = found.get(name) if found is not None and hasattr(found, "get") else None
    return value if isinstance(value, dict) else None
