"""What Streamlit has not: a runs table with pictures and a tree, a gallery, a wall of samples, a desk for captions.

Their scripts set every word as text; nothing that comes from a file is ever markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_FILES = Path(__file__).resolve().parent.parent.parent / "draw" / "components"


def _part(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


@cache
def _component(name: str):
    import streamlit as st

    css = _part("base.css") + _part(f"{name}.css")
    return st.components.v2.component(f"kohyakit_{name}", css=css, js=_part(f"{name}.js"))


def runs_table(rows: str, picked: Sequence[str], *, key: str) -> list[str]:
    """Draw the table and return the ids that are picked now, those of hidden rows too. rows: as `rows.rows_text` gives
    them. `picked` is where it starts; a new key starts it anew.
    """
    result = _component("runs_table")(
        data={"rows": rows, "picked": list(picked)},
        default={"picked": list(picked)},
        key=key,
        on_picked_change=lambda: None,
    )
    return list(result.picked or [])


def gallery(groups: Sequence[dict[str, Any]], *, key: str, tile: str = "9.5rem", cover: bool = False) -> None:
    """Groups of {title, note, items}; an item has src, full, title, note, badge, colour (all but src optional)."""
    _component("gallery")(data={"groups": list(groups), "tile": tile, "cover": cover}, key=key)


def sample_wall(data: dict[str, Any], *, key: str) -> Any:
    """A wall or before/after pairs (the shape: components/sample_wall.js). Returns the slider's step, or None."""
    result = _component("sample_wall")(
        data=data, default={"step": data.get("start")}, key=key, on_step_change=lambda: None
    )
    return result.step


def caption_desk(data: dict[str, Any], *, key: str) -> None:
    """Photos and captions by keys (the shape: components/caption_desk.js). What was typed stands in the session's
    state under the key, as `edits` (number, edits as [photo, text as shown, text]) and `filter` (with, without).
    """
    _component("caption_desk")(
        data=data, default={"edits": None, "filter": None}, key=key,
        on_edits_change=lambda: None, on_filter_change=lambda: None,
    )  # fmt: skip
