"""The parts of the Captions page: find, read, edit one by one or many at once, take back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import streamlit as st

from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.pages.parts.page import Opened, nothing, show_error, show_problems
from kohyakit.dashboard.read import report
from kohyakit.dashboard.read.project import Project
from kohyakit.dataset.captions.caption import Caption
from kohyakit.dataset.editing import captions as edit
from kohyakit.dataset.editing.captions import CaptionFile, Edit
from kohyakit.dataset.walk import list_folder
from kohyakit.errors import KohyakitError, Problem
from kohyakit.words import count, when

PER_PAGE = 18
FILTERS = ("All", "Without caption", "Empty", "Unreadable", "Too long")
_PICTURE = "width:100%;height:128px;object-fit:cover;border-radius:6px;display:block"
LONGEST = 75  # tokens that one stretch of the text encoder takes


def image_folders(project: Project, depth: int = 3) -> list[Path]:
    """Folders of the project that hold a data set: those with images in them or in folders directly below, the
    outermost first; what trainings wrote (samples, runs) does not count, nor do pictures that lie beside `img`.
    """
    found: list[Path] = []
    seen: set[Path] = set()

    def look(folder: Path, left: int) -> bool:
        if (real := folder.resolve()) in seen:  # a link that leads back
            return False
        seen.add(real)
        try:
            listing = list_folder(folder)
            below = [path for path in listing.at(listing.folders) if not _skipped(path)]
        except OSError:
            return False
        holds = bool(listing.taken())
        inner = [look(path, left - 1) for path in below] if left else []
        if holds or any(inner):
            found.append(folder)
        return holds

    look(project.root, depth)
    loose = project.root / "img" in found or not _has_images(project.root)
    return sorted(
        (path for path in found if path != project.root or not loose),
        key=lambda path: (len(path.parts), path.name),
    )


def _skipped(path: Path) -> bool:
    return path.name.startswith((".", "_")) or path.name in ("sample", "runs", "logs", "log", "model")


def _has_images(folder: Path) -> bool:
    try:
        return bool(list_folder(folder).taken())
    except OSError:
        return False


def choose_folder(opened: Opened, key: str = "folder") -> Path | None:
    """The menu of data sets; its choice is kept in the address and shared by the Data set and Captions pages."""
    folders = image_folders(opened.project)
    if not folders:
        return None
    names = [opened.project.name(folder) for folder in folders]
    asked = st.query_params.get(key) or st.session_state.get("data_folder")
    chosen = st.selectbox(
        "Folder",
        names,
        names.index(asked) if asked in names else 0,
        format_func=lambda name: name if name != "." else "this folder",
        label_visibility="collapsed",
    )
    st.session_state["data_folder"] = chosen
    st.query_params[key] = chosen
    return folders[names.index(chosen)]


def chosen_files(files: Sequence[CaptionFile], words: str, kind: str, tag: str | None) -> list[CaptionFile]:
    """The files that fit: every word in name or caption, the kind, and the tag."""
    found = []
    for file in files:
        pool = f"{file.image.name} {file.text}".lower()
        if (
            all(word in pool for word in words.lower().split())
            and _is(file, kind)
            and (not tag or Caption.parse(file.text).has(tag))
        ):
            found.append(file)
    return found


def _is(file: CaptionFile, kind: str) -> bool:
    if kind == "Without caption":
        return file.raw is None and not file.problem
    if kind == "Empty":
        return file.raw is not None and not file.problem and not file.text.strip()
    if kind == "Unreadable":
        return bool(file.problem)
    if kind == "Too long":
        from kohyakit.dataset.captions.tokens import count_tokens

        return count_tokens(file.text) > LONGEST
    return True


def tags_of(files: Sequence[CaptionFile]) -> list[tuple[str, int]]:
    """Every tag with in how many captions it stands, the most frequent first."""
    counts = Counter(tag for file in files for tag in dict.fromkeys(Caption.parse(file.text).tags))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def side_by_side(opened: Opened, folder: Path, files: Sequence[CaptionFile]) -> None:
    """A page of pictures with their captions as fields. What is typed is written as soon as the field is left, so that
    no other page, filter or closed browser loses it; History takes each back.
    """
    if not files:
        nothing("No caption fits.", "Take a filter out.")
        return
    pages = -(-len(files) // PER_PAGE)
    page = st.pagination(pages, key="caption_page") if pages > 1 else 1
    round_ = st.session_state.get("caption_round", 0)
    places = st.grid(min_column_width=430, gap="medium")
    for file in files[(page - 1) * PER_PAGE : page * PER_PAGE]:
        with places.container():
            _field(opened, folder, file, round_)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Save captions", icon=":material/save:")  # to press it is to leave the field
        st.caption("A caption is saved when you leave its field; History takes it back.")


def _field(opened: Opened, folder: Path, file: CaptionFile, round_: int) -> None:
    """A picture, how many tokens its caption has, and the caption to be edited."""
    name = file.image.relative_to(folder).as_posix()
    picture, words = st.columns([1, 3], wrap=False)
    small, large = (escape(opened.picture_url(file.image, width)) for width in (160, 1280))
    image = f'<img alt="" loading="lazy" src="{small}" style="{_PICTURE}">'
    linked = f'<a href="{large}" target="_blank" title="open the picture">{image}</a>'
    picture.html((linked if small else "<small>outside the project</small>") + _tokens(file))
    with words:
        if file.problem:
            st.text(name)
            st.caption(f":red[{plain(file.problem)}]")
            return
        key = f"caption_{name}_{round_}_{hash(file.raw)}"
        st.text_area(
            plain(name), file.text, key=key, height=96, placeholder="no caption", on_change=_save_one,
            args=(folder, file, name, key),
        )  # fmt: skip
        refused = st.session_state.get("caption_refused", {}).get(str(file.path))
        if refused is not None:
            st.caption("It could not be saved. You had typed:")
            st.code(refused, language=None, wrap_lines=True)


def _tokens(file: CaptionFile) -> str:
    """How long the caption is for the text encoder, under its picture."""
    if file.problem or not file.text.strip():
        return ""
    from kohyakit.dataset.captions.tokens import count_tokens

    many = count_tokens(file.text)
    colour = f"color:{theme.SEVERITY_COLOURS['warning']}" if many > LONGEST else "opacity:.65"
    return f'<div style="font-size:.78rem;text-align:center;{colour}">{count(many, "token")}</div>'


def _save_one(folder: Path, file: CaptionFile, name: str, key: str) -> None:
    """Write what was typed into one field; of a file that is not as it was shown, keep what was typed on the page."""
    text = st.session_state[key] or ""
    made = edit.rewritten(file, text)
    if made is None:
        return
    refused = st.session_state.setdefault("caption_refused", {})
    try:
        _, problems = edit.apply(folder, [made], f"{name} by hand")
    except KohyakitError as error:
        problems = error.problems
    if problems:
        refused[str(file.path)] = text
    else:
        refused.pop(str(file.path), None)
        st.toast(f"{plain(file.path.name)} saved")
    st.session_state["caption_problems"] = tuple(problems)


def many_at_once(folder: Path, files: Sequence[CaptionFile]) -> None:
    """One operation on all that the filter shows, seen before it is done."""
    kinds = ["Add a tag", "Remove a tag", "Replace a tag", "Find and replace", "Put before", "Put after"]
    kind = st.selectbox("What", kinds)
    try:
        operation, words = _operation(kind)
        edits = edit.proposed(files, operation) if operation else ()
    except KohyakitError as error:
        show_error(error)
        return
    if operation is None:
        st.caption(f"It will be shown before it is done, on {count(len(files), 'caption')} that the filter leaves.")
        return
    if not edits:
        st.info("No caption would change.")
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{count(len(edits), 'caption')} would change**", width="content")
        agreed = st.button(f"Change {count(len(edits), 'caption')}", type="primary")
    st.html(report.caption_html([(one.path.name, _shown(one.old), _shown(one.new)) for one in edits], most=40))
    if agreed:
        _apply(folder, edits, words)


def _operation(kind: str) -> tuple[Callable[[str], str] | None, str]:
    """The operation that the fields describe, None while they are empty, and its name for the history."""
    if kind == "Add a tag":
        tag, first = st.text_input("Tag"), st.checkbox("As the first tag")
        return (edit.add_tag(tag, first=first) if tag.strip() else None), f"tag '{tag}' added"
    if kind == "Remove a tag":
        tag = st.text_input("Tag")
        return (edit.remove_tag(tag) if tag.strip() else None), f"tag '{tag}' removed"
    if kind == "Replace a tag":
        old, new = st.columns(2)
        before, after = old.text_input("Tag"), new.text_input("By")
        ready = before.strip() and after.strip()
        return (edit.replace_tag(before, after) if ready else None), f"tag '{before}' → '{after}'"
    if kind == "Find and replace":
        find, put = st.columns(2)
        before, after = find.text_input("Find"), put.text_input("Replace by")
        pattern = st.checkbox("Regular expression")
        return (edit.replace_text(before, after, pattern=pattern) if before else None), f"'{before}' → '{after}'"
    words = st.text_input("Words", help="As they are, with their spaces and commas.")
    make = edit.prefix if kind == "Put before" else edit.suffix
    return (make(words) if words else None), f"'{words}' put {'before' if kind == 'Put before' else 'after'}"


def _shown(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8-sig", errors="replace")


def _apply(folder: Path, edits: Sequence[Edit], what: str) -> None:
    if not edits:
        st.toast("Nothing was changed.")
        return
    try:
        change, problems = edit.apply(folder, edits, what)
    except KohyakitError as error:
        show_error(error)
        return
    _finish(f"{count(len(change.edits), 'caption')} changed; History takes it back", problems)


def past(folder: Path) -> None:
    """Every change with a way back."""
    changes = edit.history(folder)
    if not changes:
        nothing(
            "Nothing was changed here yet.",
            "Every change of a caption made on this page will stand here, with a way back.",
        )
        return
    standing = {change.id for change in edit.undoable(folder)}
    for change in reversed(changes[-50:]):
        left, right = st.columns([5, 1], vertical_alignment="center", wrap=False)
        left.markdown(
            f"{plain(change.what)}  \n:gray[{plain(when(change.time))} · {count(len(change.edits), 'caption')}]"
        )
        if change.id in standing and right.button(
            "Take back", key=f"undo_{change.id}", icon=":material/undo:", type="tertiary"
        ):
            try:
                _, problems = edit.undo(folder, change)
            except KohyakitError as error:
                show_error(error)
                return
            _finish("Taken back", problems)


def _finish(words: str, problems: Sequence[Problem]) -> None:
    """Read the captions anew and say what happened; what was left alone stays on the page."""
    st.session_state["caption_round"] = st.session_state.get("caption_round", 0) + 1
    st.session_state["caption_problems"] = tuple(problems)
    st.toast(words)
    st.rerun()


def leftovers() -> None:
    """Files that the last change did not touch, and why."""
    show_problems(st.session_state.pop("caption_problems", ()))
