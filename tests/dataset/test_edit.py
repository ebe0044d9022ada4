"""Captions edited: what each operation does, and that no caption is ever lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kohyakit.dataset import edit
from kohyakit.dataset.caption import Caption
from kohyakit.errors import DatasetError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photos: a caption with a mark and a line end, one in Latin-1, one empty, one without."""
    folder = tmp_path / "img" / "10_dog"
    folder.mkdir(parents=True)
    for name in "abcd":
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfsks dog,  red ball , grass\r\n")
    (folder / "b.txt").write_bytes("café dog".encode("latin-1"))
    (folder / "c.txt").write_bytes(b"")
    return folder.parent


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.txt")}


def test_what_is_there(photos: Path) -> None:
    a, b, c, d = edit.caption_files(photos)
    assert a.text == "sks dog,  red ball , grass\r\n"
    assert "not UTF-8" in b.problem
    assert (c.raw, c.text, d.raw) == (b"", "", None)
    assert d.path.name == "d.txt"


def test_the_commoner_extension_is_taken(photos: Path) -> None:
    for path in photos.rglob("*.txt"):
        path.rename(path.with_suffix(".caption"))
    assert {file.path.suffix for file in edit.caption_files(photos)} == {".caption"}


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        (edit.add_tag("fog"), "a, b", "a, b, fog"),
        (edit.add_tag("fog", first=True), "a, b", "fog, a, b"),
        (edit.add_tag("B"), "a,b", "a,b"),
        (edit.add_tag("x"), "", "x"),
        (edit.remove_tag("B"), "a, b, c", "a, c"),
        (edit.replace_tag("b", "x"), "a, b, c", "a, x, c"),
        (edit.replace_tag("b", "c"), "a, b, c", "a, c"),
        (edit.add_tag("z"), "one, two\nthree\n", "one, two, z\nthree, z\n"),
        (edit.replace_text("red", "blue"), "red ball, reddish", "blue ball, bluedish"),
        (edit.replace_text(r"\bred\b", "blue", pattern=True), "red ball, reddish", "blue ball, reddish"),
        (edit.replace_text(r"(\w+) dog", r"dog of \1", pattern=True), "sks dog", "dog of sks"),
        (edit.prefix("photo of "), "a dog", "photo of a dog"),
        (edit.suffix(", 35mm"), "a dog\r\n", "a dog, 35mm\r\n"),
    ],
)
def test_operations(operation, before: str, after: str) -> None:
    assert operation(before) == after


@pytest.mark.parametrize("find", ["(", "[", "*", "(?P<x"])
def test_a_bad_pattern_is_a_sentence(find: str) -> None:
    with pytest.raises(DatasetError, match="regular expression"):
        edit.replace_text(find, "x", pattern=True)


def test_a_bad_template_is_a_sentence() -> None:
    with pytest.raises(DatasetError, match="regular expression"):
        edit.replace_text("a", r"\2", pattern=True)
    with pytest.raises(DatasetError, match="empty"):
        edit.replace_text("", "x")


def test_apply_and_undo_give_every_byte_back(photos: Path) -> None:
    before = everything(photos)
    edits = edit.proposed(edit.caption_files(photos), edit.add_tag("fog"))
    assert everything(photos) == before
    change, problems = edit.apply(photos, edits, "tag 'fog' added")
    assert problems == ()
    after = everything(photos)
    assert after["a.txt"] == b"\xef\xbb\xbfsks dog, red ball, grass, fog\r\n"
    assert after["b.txt"] == before["b.txt"]
    assert after["d.txt"] == b"fog"
    assert edit.undoable(photos) == (change,)
    undone, problems = edit.undo(photos, change)
    assert problems == ()
    assert everything(photos) == before
    assert edit.undoable(photos) == ()
    edit.undo(photos, undone)
    assert everything(photos) == after
    assert edit.undoable(photos) == (change,)


def test_a_file_that_somebody_else_changed_is_left_alone(photos: Path) -> None:
    files = edit.caption_files(photos)
    edits = edit.proposed(files, edit.add_tag("fog"))
    files[0].path.write_text("mine", encoding="utf-8")
    change, problems = edit.apply(photos, edits, "fog")
    assert [problem.where for problem in problems] == ["a.txt"]
    assert files[0].path.read_text(encoding="utf-8") == "mine"
    files[2].path.write_text("mine too", encoding="utf-8")
    _, problems = edit.undo(photos, change)
    assert [problem.where for problem in problems] == ["c.txt"]
    assert files[2].path.read_text(encoding="utf-8") == "mine too"
    assert not files[3].path.exists()


def test_a_crash_after_the_journal_can_be_undone(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is written first: whatever of the files was written when the power went, the old texts are there."""
    before = everything(photos)
    edits = edit.proposed(edit.caption_files(photos), edit.add_tag("fog"))
    wrote = []

    def crash(one: edit.Edit) -> None:
        if wrote:
            raise KeyboardInterrupt
        wrote.append(one)
        one.path.write_bytes(one.new or b"")

    with monkeypatch.context() as patch:
        patch.setattr(edit, "_write", crash)
        with pytest.raises(KeyboardInterrupt):
            edit.apply(photos, edits, "fog")
    assert everything(photos) != before
    (change,) = edit.undoable(photos)
    _, problems = edit.undo(photos, change)
    assert problems == ()
    assert everything(photos) == before


def test_nothing_is_changed_when_the_journal_cannot_be_written(photos: Path) -> None:
    before = everything(photos)
    (photos / ".kohyakit").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(DatasetError, match="nothing was changed"):
        edit.apply(photos, edit.proposed(edit.caption_files(photos), edit.add_tag("fog")), "fog")
    assert everything(photos) == before


def test_a_cut_journal_keeps_what_is_whole(photos: Path) -> None:
    first, _ = edit.apply(photos, edit.proposed(edit.caption_files(photos), edit.add_tag("one")), "one")
    journal = photos / edit.JOURNAL
    journal.write_text(journal.read_text(encoding="utf-8") + '{"id": "x", "ti', encoding="utf-8")
    second, _ = edit.apply(photos, edit.proposed(edit.caption_files(photos), edit.add_tag("two")), "two")
    assert [change.id for change in edit.history(photos)] == [first.id, second.id]


def test_a_journal_cannot_point_out_of_its_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("mine", encoding="utf-8")
    journal = photos / edit.JOURNAL
    journal.parent.mkdir()
    line = {"id": "x", "time": "", "what": "", "edits": [{"file": "../secret.txt", "old": "theirs", "new": "mine"}]}
    journal.write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert edit.history(photos) == ()


def test_latin_1_survives_being_removed_and_put_back(photos: Path) -> None:
    b = edit.caption_files(photos)[1]
    change, _ = edit.apply(photos, [edit.Edit(b.path, b.raw, b"new")], "rewritten")
    edit.undo(photos, edit.history(photos)[0])
    assert b.path.read_bytes() == "café dog".encode("latin-1")
    assert change.edits[0].old == b.raw


def test_no_photos(tmp_path: Path) -> None:
    assert edit.caption_files(tmp_path) == ()
    with pytest.raises(DatasetError, match="is not a folder"):
        edit.caption_files(tmp_path / "none")


WORDS = st.characters(codec="utf-8", exclude_characters="\r\n")


@given(st.text(WORDS, max_size=60), st.text(WORDS, min_size=1, max_size=12))
def test_adding_then_removing_a_new_tag_changes_no_other(text: str, tag: str) -> None:
    before = Caption.parse(text)
    if not tag.strip() or "," in tag or before.has(tag):
        return
    back = edit.remove_tag(tag)(edit.add_tag(tag)(text))
    assert Caption.parse(back).tags == before.tags
