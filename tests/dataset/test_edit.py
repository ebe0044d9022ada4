"""Captions edited: what each operation does, and that no caption is ever lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kohyakit.dataset.captions.caption import Caption
from kohyakit.dataset.editing import captions as edit
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


SIGNS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"]  # str.splitlines breaks at each, JSON lines do not


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("where", ["caption", "tag", "what"])
def test_signs_that_look_like_line_ends_keep_their_history(tmp_path: Path, sign: str, where: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    old = f"a cat{sign if where == 'caption' else ' '}on a mat".encode()
    (tmp_path / "a.txt").write_bytes(old)
    operation = edit.add_tag(f"caf{sign}e") if where == "tag" else edit.replace_text("cat", "dog")
    files = edit.caption_files(tmp_path)
    change, _ = edit.apply(tmp_path, edit.proposed(files, operation), f"x{sign}y" if where == "what" else "x")
    assert edit.history(tmp_path) == edit.undoable(tmp_path) == (change,)
    edit.undo(tmp_path, change)
    assert (tmp_path / "a.txt").read_bytes() == old


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot hold these names")
@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\nb", os.fsdecode(b"a\xe9b")])
def test_so_do_odd_names(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png", format="PNG")
    change, _ = edit.apply(tmp_path, edit.proposed(edit.caption_files(tmp_path), edit.add_tag("cat")), "x")
    assert edit.history(tmp_path) == (change,)
    assert (tmp_path / f"{name}.txt").read_bytes() == b"cat"


@pytest.mark.parametrize("said", [", , ,", "\u200b\ufeff\u2060", "\u3164", " \t"])
def test_nothing_is_glued_onto_a_caption_that_says_nothing(tmp_path: Path, said: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(said, encoding="utf-8")
    (file,) = edit.caption_files(tmp_path)
    for operation in (edit.add_tag("cat"), edit.prefix("cat"), edit.suffix("cat")):
        assert operation(file.text) == "cat"


@pytest.mark.parametrize("data", ["a cat".encode("utf-16-le"), "a cat".encode("utf-16"), b"a cat\0\0", b"\xff\xfe\0"])
def test_what_is_no_text_is_not_edited(tmp_path: Path, data: bytes) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(data)
    files = edit.caption_files(tmp_path)
    assert files[0].problem
    assert edit.proposed(files, edit.add_tag("cat")) == ()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_followed_or_named(tmp_path: Path) -> None:
    inside, outside = tmp_path / "img", tmp_path / "other"
    for folder in (inside / "10_dog", outside):
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        (folder / "a.txt").write_text("a dog", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(inside / "10_dog" / "b.png")
    (inside / "10_dog" / "b.txt").symlink_to(outside / "a.txt")
    (inside / "20_cat").symlink_to(outside)
    (inside / "30_loop").symlink_to(inside)
    files = edit.caption_files(inside)
    assert [(file.path.relative_to(inside).as_posix(), bool(file.problem)) for file in files] == [
        ("10_dog/a.txt", False), ("10_dog/b.txt", True), ("20_cat/a.txt", True),
    ]  # fmt: skip
    assert str(outside / "a.txt") in files[1].problem
    assert str(outside) in files[2].problem
    (inside / ".kohyakit").symlink_to(outside)
    with pytest.raises(DatasetError, match="is a link"):
        edit.apply(inside, edit.proposed(files, edit.add_tag("x")), "x")
    assert sorted(path.name for path in outside.iterdir()) == ["a.png", "a.txt"]


def test_a_caption_whose_name_differs_unseen_is_named_and_not_doubled(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / f"{unicodedata.normalize('NFD', 'müller')}.png")
    (tmp_path / f"{unicodedata.normalize('NFC', 'müller')}.txt").write_text("a man", encoding="utf-8")
    (file,) = edit.caption_files(tmp_path)
    if file.problem:  # some disks hold the two names as one
        assert "writes its accents in another way" in file.problem
    else:
        assert file.text == "a man"


EDITOR = """
import sys
from pathlib import Path
from kohyakit.dataset.editing import captions as edit
folder, mine, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    while True:
        edits = edit.proposed(edit.caption_files(folder), edit.add_tag(f"{mine}{number}"))
        if edit.apply(folder, edits, f"{mine}{number}")[0].edits:
            break
"""


def test_two_editors_lose_none_of_a_thousand_edits(tmp_path: Path) -> None:
    """One edits the subset, the other the folder above it: two journals, one caption."""
    photos = tmp_path / "img" / "10_dog"
    photos.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(photos / "a.png")
    (photos / "a.txt").write_text("dog", encoding="utf-8")
    command = [sys.executable, "-c", EDITOR]
    both = [
        subprocess.Popen([*command, str(place), name, "500"]) for place, name in ((photos, "x"), (photos.parent, "y"))
    ]
    assert [editor.wait(120) for editor in both] == [0, 0]
    expected = {"dog", *(f"{name}{number}" for name in "xy" for number in range(500))}
    assert set(Caption.parse((photos / "a.txt").read_text(encoding="utf-8")).tags) == expected
    for place, name in ((photos, "x"), (photos.parent, "y")):
        assert [change.what for change in edit.history(place)] == [f"{name}{number}" for number in range(500)]
    assert sorted(path.name for path in photos.rglob("*")) == [".kohyakit", "a.png", "a.txt", "captions.jsonl"]


@pytest.mark.skipif(os.name == "nt", reason="needs fork to be quick")
def test_fifty_kills_leave_each_caption_old_or_new_and_the_history_true(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text("start", encoding="utf-8")
    rng = random.Random(0)
    cut = 0
    first = tmp_path / "0.txt"
    for kill in range(50):
        known = first.stat().st_ino
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                for again in range(10_000):
                    operation = edit.replace_text("start" if again % 2 else "tag", "tag" if again % 2 else "start")
                    edit.apply(tmp_path, edit.proposed(edit.caption_files(tmp_path), operation), f"{kill} {again}")
                    edit.apply(tmp_path, edit.proposed(edit.caption_files(tmp_path), edit.add_tag(f"{again}")), "more")
            os._exit(0)
        deadline = time.monotonic() + (20 if kill % 3 == 0 else rng.uniform(0, 0.05))
        while time.monotonic() < deadline and (kill % 3 or first.stat().st_ino == known):
            time.sleep(0.0005)  # every third is killed when it has written a first file, however slow the disk
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        told = dict.fromkeys((tmp_path / f"{number}.txt" for number in range(12)), b"start")
        for change in edit.history(tmp_path):
            cut += change.cut
            for one in change.edits:
                assert told[one.path] == one.old
                told[one.path] = one.new or b""
        assert {path: path.read_bytes() for path in told} == told
    change, problems = edit.apply(tmp_path, [edit.Edit(path, text, b"end") for path, text in told.items()], "end")
    assert len(change.edits) == 12
    assert problems == ()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", *[".png"] * 12, *[".txt"] * 12]
    assert cut, "no kill fell between two files"


def test_an_undo_that_was_cut_off_can_be_gone_on_with(photos: Path) -> None:
    before = everything(photos)
    change, _ = edit.apply(photos, edit.proposed(edit.caption_files(photos), edit.add_tag("fog")), "fog")
    undone, _ = edit.undo(photos, change)
    # as if killed after its first file: its second line is not there, two files are as the change left them
    journal = photos / edit.JOURNAL
    journal.write_bytes(b"\n".join(journal.read_bytes().split(b"\n")[:-2]) + b"\n")
    for one in change.edits[1:]:
        one.path.write_bytes(one.new or b"")
    assert [len(one.edits) for one in edit.history(photos)] == [3, 1]
    assert edit.undoable(photos) == (change,)
    edit.undo(photos, change)
    assert everything(photos) == before
    assert edit.undoable(photos) == ()
    assert undone.undoes == change.id
