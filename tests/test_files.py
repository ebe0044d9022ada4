"""Files are written whole or not at all, set aside under a free name, and locked against others."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kohyakit import files


class Stop(BaseException):
    """What comes in between, as Ctrl-C does."""


def _stopped(done: object) -> None:
    raise Stop


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.writing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("draft", [None, "a.txt.part"])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, draft: str | None) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(Stop), files.writing(path, draft=draft and tmp_path / draft) as file:
        _stopped(file.write(b"half"))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights, and links only for some")
def test_the_new_file_has_the_rights_of_the_old_and_no_link_is_followed(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "a.txt", tmp_path / "theirs"
    path.write_text("old")
    path.chmod(0o640)
    elsewhere.write_text("theirs")
    files.part_of(path).symlink_to(elsewhere)  # where a killed program, or somebody else, left something
    files.write_bytes(path, b"new", draft=files.part_of(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert elsewhere.read_text() == "theirs"
    assert names(tmp_path) == ["a.txt", "theirs"]


@pytest.mark.skipif(os.name == "nt", reason="Windows makes links only for some")
def test_a_file_that_is_a_link_is_neither_read_nor_replaced_where_none_is_wanted(tmp_path: Path) -> None:
    link, elsewhere = tmp_path / "a.txt", tmp_path / "theirs"
    elsewhere.write_text("theirs")
    for target in (elsewhere, tmp_path / "nowhere"):
        link.symlink_to(target)
        with pytest.raises(OSError, match="it is a link") as error:
            files.write_bytes(link, b"new", draft=tmp_path / "draft", links=False)
        assert error.value.errno == errno.ELOOP
        with pytest.raises(OSError, match="it is a link"):
            files.read_bytes(link, links=False)
        assert link.is_symlink()
        link.unlink()
    assert elsewhere.read_text() == "theirs"
    assert names(tmp_path) == ["theirs"]
    assert files.read_bytes(elsewhere, links=False) == b"theirs"


def test_a_draft_that_was_left_behind_goes_and_a_folder_of_its_name_stays(tmp_path: Path) -> None:
    path, draft, folder = tmp_path / "a.txt", tmp_path / "a.part", tmp_path / "b.part"
    draft.write_text("left behind, and longer than what is written now")
    folder.mkdir()
    files.write_bytes(path, b"one", draft=draft)
    assert path.read_bytes() == b"one"
    files.write_bytes(path, b"two", draft=folder)
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a.txt", "b.part"]


def test_line_ends_and_half_characters_stay(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "one\r\ntwo\n\ud800", errors="surrogatepass")
    assert (tmp_path / "a").read_bytes() == b"one\r\ntwo\n\xed\xa0\x80"
    with pytest.raises(UnicodeEncodeError):
        files.write_text(tmp_path / "b", "\ud800")
    assert names(tmp_path) == ["a"]


def test_a_folder_is_replaced_or_stands_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(Stop), files.folder_in_place_of(folder) as fresh:
        _stopped((fresh / "new").touch())
    assert (names(tmp_path), names(folder)) == (["state"], ["old"])
    with files.folder_in_place_of(folder) as fresh:
        (fresh / "new").touch()
        assert names(folder) == ["old"]
    assert (names(tmp_path), names(folder)) == (["state"], ["new"])


def test_a_free_name_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dog.json"
    assert files.free_name(path) == path
    for _ in range(2):
        files.free_name(path).touch()
    assert files.free_name(path).name == "dog (3).json"
    assert files.free_name(path, "{name}.old-{number}", first=1).name == "dog.json.old-1"
    if os.name != "nt":
        (tmp_path / "dog (3).json").symlink_to("nowhere")  # a link to nothing is something too
        assert files.free_name(path).name == "dog (4).json"


def test_a_line_goes_behind_one_that_was_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    for line in (b"1", b"2"):
        files.append_line(journal, line)
    journal.write_bytes(journal.read_bytes() + b'{"cut')
    files.append_line(journal, b"3")
    assert journal.read_bytes() == b'1\n2\n{"cut\n3\n'


def test_a_lock_is_held_by_one_and_let_go_by_the_dead(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    hold = (
        "import sys, time; from pathlib import Path; from kohyakit.files import held\n"
        "with held(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", hold, str(lock)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(TimeoutError), files.held(lock, 0.05):
            raise AssertionError("held twice")
    finally:
        other.kill()
        other.wait()
    with files.held(lock, 5):
        assert lock.exists()
    assert not lock.exists()


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    counted = tmp_path / "count"
    counted.write_text("0")

    def more() -> None:
        for _ in range(20):
            with files.held(tmp_path / "lock"):
                now = int(counted.read_text())
                files.write_text(counted, str(now + 1), sync=False)

    threads = [threading.Thread(target=more) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.read_text() == "80"


def test_no_other_module_moves_a_draft_into_place() -> None:
    """os.replace, fsync and temporary files elsewhere would be another way of writing whole, with faults of its own."""
    ways = re.compile(r"os\.replace\(|os\.fsync\(|mkstemp\(|NamedTemporaryFile\(|flock\(|O_EXCL|draft\.replace\(")
    room = Path(files.__file__).parent
    texts = {file.relative_to(room).as_posix(): file.read_text(encoding="utf-8") for file in room.rglob("*.py")}
    assert {name for name, text in texts.items() if ways.search(text)} == {"files.py"}
