"""A repair journal, a lock or an undo folder that came with somebody else's data set moves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kohyakit.errors import DatasetError

pytest.importorskip("PIL")
pytest.importorskip("pandas")

from kohyakit.audit.repair.journal import Journal, runs
from kohyakit.audit.repair.run import repair_dataset, undo_repair
from tests.strangers.conftest import snapshot

UNDO = ".kohyakit_undo"
RUN = f"{UNDO}/20260101-000000"
FIRST = '{"event": "run", "version": 1}'


def journal(folder: Path, *moves: tuple[str, str], finished: bool = False) -> Path:
    """A journal as the format has it, written by hand."""
    lines = [FIRST, json.dumps({"event": "step", "moves": [{"source": a, "target": b} for a, b in moves]})]
    return raw_journal(folder, "\n".join([*lines, *(['{"event": "finished"}'] if finished else [])]).encode() + b"\n")


def raw_journal(folder: Path, data: bytes) -> Path:
    path = folder / RUN / "journal.jsonl"
    for part in ("originals", "new"):
        (path.parent / part).mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def photo(set_: Path, picture: Callable[..., Path]) -> Path:
    path = set_ / "a.jpg"
    shutil.copyfile(picture("drawn.jpg"), path)
    return path


# the names as another person's journal could have them; HOME stands for the sandbox's
OUTSIDE = [
    ("../../.ssh/id_rsa", "key.txt"),
    ("HOME/.ssh/id_rsa", "key.txt"),
    ("a.jpg", "../../.local/lib/evil.pth"),
    ("a.jpg", "HOME/.bashrc2"),
    ("sub/../../../photos/mine.jpg", "mine.jpg"),
    (f"{UNDO}/../../../.ssh/id_rsa", "key.txt"),
    (f"{RUN}/originals/../../../../../.bashrc", "rc"),
    ("a.jpg", ".git/hooks/pre-commit"),
    ("a.jpg", f"{UNDO}/lock"),
    ("a.jpg", f"{UNDO}/20250101-000000/new/b.jpg"),
    ("", "b.jpg"),
    ("a\0.jpg", "b.jpg"),
    ("a.jpg", "\ud800.jpg"),
]


@pytest.mark.parametrize("moves", OUTSIDE, ids=lambda moves: repr(moves)[:50])
@pytest.mark.parametrize("way", ["repair", "resume", "undo", "undo finished"])
def test_no_end_of_a_move_leaves_the_folder(
    home: Path, set_: Path, photo: Path, moves: tuple[str, str], way: str
) -> None:
    given = tuple(name.replace("HOME", str(home)) for name in moves)
    given = given[::-1] if way.startswith("undo") else given
    path = journal(set_, given, finished=way == "undo finished")
    before = snapshot(home)
    with pytest.raises(DatasetError) as told:
        undo_repair(set_) if way.startswith("undo") else repair_dataset(set_, workers=0, resume=way == "resume")
    assert snapshot(home) == before
    assert str(path) in str(told.value)
    assert "nothing of it was moved" in str(told.value)


def test_a_repair_of_another_machine_is_not_gone_on_with_unasked(home: Path, set_: Path, photo: Path) -> None:
    """Both ends are inside, so a person may ask for it; by itself it is refused, named, and changes nothing."""
    journal(set_, ("a.jpg", "b.jpg"))
    before = snapshot(home)
    with pytest.raises(DatasetError, match=r"begun elsewhere.*--resume"):
        repair_dataset(set_, workers=0)
    with pytest.raises(DatasetError, match="begun elsewhere"):
        repair_dataset(set_, workers=0, dry_run=True)
    assert snapshot(home) == before
    assert repair_dataset(set_, workers=0, resume=True).resumed
    assert (set_ / "b.jpg").is_file()
    assert undo_repair(set_).problems == ()
    assert photo.is_file()


def test_ones_own_repair_is_gone_on_with_and_a_copy_of_it_is_not(home: Path, set_: Path, photo: Path) -> None:
    """As after a kill: the step stands in the journal, its move was not made."""
    own = Journal.begin(set_, {})
    own._write({"event": "step", "moves": [{"source": "a.jpg", "target": "b.jpg"}]})
    copied = home / "copied"
    shutil.copytree(set_, copied, symlinks=True)
    with pytest.raises(DatasetError, match="begun elsewhere"):
        repair_dataset(copied, workers=0)
    assert (copied / "a.jpg").is_file()
    assert repair_dataset(set_, workers=0).resumed
    assert (set_ / "b.jpg").is_file()


SHAPES = {
    "a number": b"5\n",
    "a list": b"[1, 2]\n",
    "a text": b'"run"\n',
    "nothing": b"null\n",
    "another event": b'{"event": "party"}\n',
    "no moves": b'{"event": "step"}\n',
    "moves of another kind": b'{"event": "step", "moves": {"source": "a.jpg", "target": "b.jpg"}}\n',
    "a move that is a text": b'{"event": "step", "moves": ["a.jpg"]}\n',
    "half a move": b'{"event": "step", "moves": [{"source": "a.jpg"}]}\n',
    "numbers for names": b'{"event": "step", "moves": [{"source": 1, "target": 2}]}\n',
    "no UTF-8": b"\xff\xfe\x00\n",
    "very deep": b'{"event": "step", "moves": ' + b"[" * 100_000 + b"\n",
    "a long number": b'{"event": ' + b"9" * 10_000 + b"}\n",
    "prose": b"dear diary\n",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("undo", [True, False])
def test_a_damaged_journal_is_one_sentence(home: Path, set_: Path, photo: Path, shape: str, undo: bool) -> None:
    path = raw_journal(set_, FIRST.encode() + b"\n" + SHAPES[shape])
    before = snapshot(home)
    with pytest.raises(DatasetError) as told:
        undo_repair(set_) if undo else repair_dataset(set_, workers=0)
    assert len(told.value.problems) == 1
    assert str(told.value).startswith(f"{path}: line 2 is not what a repair writes; ")
    assert snapshot(home) == before


@pytest.mark.parametrize("cut", range(1, 90, 4))
def test_a_line_that_a_crash_cut_short_is_passed_over(set_: Path, photo: Path, cut: int) -> None:
    whole = json.dumps({"event": "step", "moves": [{"source": "a.jpg", "target": "b.jpg"}]}).encode()
    raw_journal(set_, FIRST.encode() + b"\n" + whole[: min(cut, len(whole) - 1)])
    assert not repair_dataset(set_, workers=0).resumed
    assert photo.is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_journal_or_lock_that_is_a_pipe_waits_for_nobody(set_: Path, photo: Path) -> None:
    path = raw_journal(set_, b"")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DatasetError, match="pipe or a device"):
        undo_repair(set_)
    shutil.rmtree(set_ / UNDO)
    (set_ / UNDO).mkdir()
    os.mkfifo(set_ / UNDO / "lock")
    with pytest.raises(DatasetError, match=r"lock: is no lock.*pipe or a device.*delete it"):
        repair_dataset(set_, workers=0)


def test_a_lock_of_another_machine_is_named(set_: Path, photo: Path) -> None:
    (set_ / UNDO).mkdir()
    lock = set_ / UNDO / "lock"
    lock.write_text('{"pid": 1, "born": "x", "host": "other"}', encoding="utf-8")
    with pytest.raises(DatasetError) as told:
        repair_dataset(set_, workers=0)
    assert str(lock) in str(told.value)
    assert "'other'" in str(told.value)


NO_LOCKS = ("", "{", "[]", "5", '{"pid": "x", "born": 1, "host": 2}', '{"pid": 1}', '{"pid": 1e400}')


@pytest.mark.parametrize("text", NO_LOCKS)
def test_a_lock_that_is_none_never_ends_in_a_traceback(set_: Path, photo: Path, text: str) -> None:
    (set_ / UNDO).mkdir()
    (set_ / UNDO / "lock").write_text(text, encoding="utf-8")
    with contextlib.suppress(DatasetError):
        assert repair_dataset(set_, workers=0).done == ()


LINKS = [UNDO, RUN, f"{RUN}/journal.jsonl", f"{UNDO}/lock"]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("undo", [True, False])
def test_our_own_files_are_not_followed_through_a_link(
    home: Path, set_: Path, photo: Path, name: str, undo: bool
) -> None:
    """The real thing lies elsewhere in the home, as the stranger hopes to have it written over."""
    journal(set_, ("a.jpg", "b.jpg"))
    elsewhere = home / "elsewhere"
    if name.endswith("lock"):
        elsewhere.write_text("precious", encoding="utf-8")
    else:
        shutil.move(set_ / name, elsewhere)
    (set_ / name).symlink_to(elsewhere)
    before = snapshot(home)
    with pytest.raises(DatasetError, match="link"):
        undo_repair(set_) if undo else repair_dataset(set_, workers=0, resume=True)
    assert snapshot(home) == before


@pytest.mark.parametrize("part", ["originals", "new", "sub"])
def test_no_move_goes_through_a_linked_folder(home: Path, set_: Path, photo: Path, part: str) -> None:
    inner = f"{RUN}/{part}" if part != "sub" else part
    journal(set_, ("a.jpg", f"{inner}/mine.txt"), (f"{inner}/mine.jpg", "stolen.jpg"))
    shutil.rmtree(set_ / inner, ignore_errors=True)
    (set_ / inner).symlink_to(home / "photos", target_is_directory=True)
    before = snapshot(home, without=(set_,))
    with pytest.raises(DatasetError, match="is a link"):
        repair_dataset(set_, workers=0, resume=True)
    undo_repair(set_)
    assert snapshot(home, without=(set_,)) == before


def test_photos_are_not_moved_out_through_a_linked_quarantine(home: Path, set_: Path, photo: Path) -> None:
    shutil.copyfile(photo, set_ / "copy.jpg")
    (set_ / "_quarantine").symlink_to(home / "photos", target_is_directory=True)
    before = snapshot(home)
    made = repair_dataset(set_, workers=0)
    assert made.done == ()
    assert [str(problem) for problem in made.problems if "_quarantine is a link" in problem.what]
    assert snapshot(home) == before


def test_nothing_is_changed_behind_a_linked_folder(home: Path, set_: Path, picture: Callable[..., Path]) -> None:
    """The photo there stands on its side; that folder's owner may repair it, this data set's repair does not."""
    own = home / "photos" / "turned.jpg"
    shutil.copyfile(picture("turned.jpg", orientation=6), own)
    (set_ / "10_dog").mkdir()
    (set_ / "10_dog" / "more").symlink_to(home / "photos", target_is_directory=True)
    shutil.copyfile(own, set_ / "10_dog" / "b.jpg")
    before = snapshot(home / "photos")
    made = repair_dataset(set_, workers=0)
    assert snapshot(home / "photos") == before
    assert [problem.where for problem in made.problems] == ["10_dog/more"]
    assert [step.path.name for step, _ in made.done] == ["b.jpg"]
    assert undo_repair(set_).problems == ()
    assert runs(set_)[0].state == "undone"
