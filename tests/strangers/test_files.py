"""Files that are none, never end or lead elsewhere, in the places where we read and write."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kohyakit.dataset.captions.caption import BadCaption, read_lines
from kohyakit.dataset.decode.headers import BadImage
from kohyakit.dataset.editing import captions as edit
from kohyakit.dataset.images import read_header
from kohyakit.errors import ConfigError, DatasetError, KohyakitError
from kohyakit.files import draft_for, link_on_the_way, read_bytes
from kohyakit.formats import load, prompt_lines
from kohyakit.formats.weights import safetensors_header
from kohyakit.runs.record_file import read_json
from tests.strangers.conftest import MARK, snapshot

pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(12 << 30)  # 12 GiB that take no place


def folder(path: Path) -> None:
    path.mkdir()


MAKERS = [pytest.param(maker, id=maker.__name__, marks=pipes) for maker in (pipe, zeros, huge, folder)]
READERS = {
    "caption": (lambda path: read_lines(path), BadCaption),
    "preset": (lambda path: load(path), ConfigError),
    "prompts": (lambda path: prompt_lines.read(path), ConfigError),
    "weights": (lambda path: safetensors_header.read(path), KohyakitError),
    "image": (lambda path: read_header(path), BadImage),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", MAKERS)
def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path, make: Callable[[Path], None], reader: str) -> None:
    path = tmp_path / "a.txt"
    make(path)
    read, error = READERS[reader]
    with pytest.raises(error) as told:
        read(path)
    assert len(str(told.value)) < 300
    assert "Errno" not in str(told.value)


@pytest.mark.parametrize("make", MAKERS)
def test_a_record_that_is_no_file_is_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "run.json")
    assert read_json(tmp_path / "run.json") is None


@pytest.mark.parametrize("make", MAKERS)
def test_no_memory_is_taken_for_what_is_too_large(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    with pytest.raises(OSError):
        read_bytes(tmp_path / "a", 1000)


@pipes
def test_audit_and_check_go_past_pipes(
    set_: Path, picture: Callable[..., Path], kohyakit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("pandas")
    (set_ / "10_dog").mkdir()
    for name in ("a", "b"):
        picture("drawn.jpg").rename(set_ / "10_dog" / f"{name}.jpg")
    os.mkfifo(set_ / "10_dog" / "a.txt")
    zeros(set_ / "10_dog" / "b.txt")
    os.mkfifo(set_ / "10_dog" / "c.jpg")
    (set_ / "a.toml").write_text(
        'pretrained_model_name_or_path = "m"\nresolution = "64"\ntrain_data_dir = "."\ncaption_extension = ".txt"\n',
        encoding="utf-8",
    )
    for words in (("audit", ".", "--workers", "1"), ("audit", ".", "--quick"), ("check", "a.toml")):
        done = kohyakit(*words, cwd=set_, timeout=40)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def captions(set_: Path) -> Path:
    for name in ("a", "b"):
        (set_ / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        (set_ / f"{name}.txt").write_text(f"photo {name}", encoding="utf-8")
    return set_


@pytest.mark.parametrize("linked", [".kohyakit", ".kohyakit/captions.jsonl"])
def test_the_history_of_captions_is_not_written_through_a_link(home: Path, captions: Path, linked: str) -> None:
    (captions / linked).parent.mkdir(exist_ok=True)
    (captions / linked).symlink_to(home / (".ssh" if linked == ".kohyakit" else ".bashrc"))
    before = snapshot(home)
    edits = edit.proposed(edit.caption_files(captions), edit.add_tag("new"))
    with pytest.raises(DatasetError, match="link"):
        edit.apply(captions, edits, "add a tag")
    assert edit.history(captions) == ()
    assert snapshot(home) == before


def test_a_caption_that_is_a_link_is_left(home: Path, captions: Path) -> None:
    (captions / "a.txt").unlink()
    (captions / "a.txt").symlink_to(home / ".bashrc")
    before = snapshot(home, without=(captions,))
    files = edit.caption_files(captions)
    assert [("link" in file.problem, file.raw) for file in files] == [(True, None), (False, b"photo b")]
    edit.apply(captions, edit.proposed(files, edit.add_tag("new")), "add a tag")
    assert snapshot(home, without=(captions,)) == before
    assert (captions / "a.txt").is_symlink()


OUTSIDE = ("../../.bashrc", "/etc/passwd", ".git/hooks/pre-commit", "usercustomize.py", "a/../../../.bashrc", 7)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_history_from_elsewhere_puts_nothing_back_but_captions(home: Path, captions: Path, name: object) -> None:
    (captions / ".kohyakit").mkdir()
    line = {"id": "1", "time": "", "what": "x", "undoes": "", "edits": [{"file": name, "old": "evil", "new": None}]}
    (captions / ".kohyakit" / "captions.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    before = snapshot(home)
    for change in edit.undoable(captions):
        edit.undo(captions, change)
    assert snapshot(home) == before


def test_a_draft_cannot_be_foreseen(tmp_path: Path) -> None:
    """A link that waits under the name of a draft would have us write through it."""
    names = {draft_for(tmp_path / "a.txt").name for _ in range(100)}
    assert len(names) == 100


def test_the_way_to_a_file_is_looked_at_below_the_root_only(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "linked").symlink_to(tmp_path, target_is_directory=True)
    root = tmp_path / "root"
    assert link_on_the_way(root, root / "sub" / "a.jpg") is None
    assert link_on_the_way(root, root / "linked" / "a.jpg") == root / "linked"
    assert link_on_the_way(root, root / "linked") is None


class Evil:
    """Pickled, it is an order to make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return (os.system, (f'"{sys.executable}" -c "open({str(self.mark)!r}, chr(119))"',))


def test_the_pickle_itself_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / MARK)))
    assert (tmp_path / MARK).exists()


def bombs(mark: Path) -> dict[str, bytes]:
    """The same order in the shapes in which weights come."""
    import io

    torch = pytest.importorskip("torch")
    zipped, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": Evil(mark)}, zipped)
    torch.save({"state_dict": Evil(mark)}, old, _use_new_zipfile_serialization=False)
    header = json.dumps({"__metadata__": {"x": "__import__('os').system('true')"}}).encode()
    return {
        "zip": zipped.getvalue(), "old": old.getvalue(), "bare": pickle.dumps(Evil(mark)),
        "safetensors": struct.pack("<Q", len(header)) + header,
    }  # fmt: skip


@pytest.mark.parametrize("shape", ["zip", "old", "bare", "safetensors"])
def test_weights_and_states_run_nothing(tmp_path: Path, shape: str) -> None:
    mark = tmp_path / MARK
    data = bombs(mark)[shape]
    from kohyakit.models.weights import WeightFile
    from kohyakit.train.output.state import load_state

    for ending in (".ckpt", ".pt", ".bin", ".safetensors"):
        path = tmp_path / f"model{ending}"
        path.write_bytes(data)
        with contextlib.suppress(KohyakitError):
            assert list(WeightFile(path)) == []
    state = tmp_path / "last-state"
    state.mkdir()
    (state / "train_state.json").write_text("{}", encoding="utf-8")
    from safetensors.torch import save_file

    save_file({}, state / "network.safetensors")
    for name in ("state.pt", "network.safetensors", "random_states_0.pkl", "optimizer.bin"):
        (state / name).write_bytes(data)
        with pytest.raises(KohyakitError):
            load_state(state)
    assert not mark.exists()
