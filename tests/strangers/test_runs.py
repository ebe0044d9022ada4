"""Records of runs that came with somebody else's project: nothing outside the project is moved, read on or written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kohyakit.errors import KohyakitError, RunError
from kohyakit.runs.earlier import keep_earlier
from kohyakit.runs.prune import LIST_FILE, TRASH_DIR, bring_back, candidates, prune
from kohyakit.runs.registry import claim_folder, list_runs
from kohyakit.runs.run import RUNS_DIR, open_run
from kohyakit.runs.version import Version
from tests.strangers.conftest import snapshot


def record(project: Path, *files: str, **values: object) -> Path:
    """A run's record as it lies on disk, written by hand."""
    folder = project / RUNS_DIR / "1a"
    folder.mkdir(parents=True)
    checkpoints = [{"file": file, "kind": "state", "epoch": 1, "step": 1, "bytes": 1} for file in files]
    data = {"version": "1a", "status": "finished", "output_name": "x", "checkpoints": checkpoints, **values}
    (folder / "run.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


@pytest.mark.parametrize("imported", [True, False])
def test_prune_takes_nothing_from_outside(home: Path, set_: Path, imported: bool) -> None:
    (set_ / "linked").symlink_to(home / "photos", target_is_directory=True)
    (set_ / "own-state").mkdir()
    files = ("../../.ssh/id_rsa", str(home / ".bashrc"), "linked/mine.jpg", "own-state")
    record(set_, *files, imported={"key": "x"} if imported else {})
    before = snapshot(home, without=(set_,))
    found = candidates(list_runs(set_), imported=True)
    assert [one.path for one in found] == [set_ / "own-state"]
    prune(set_, found)
    assert snapshot(home, without=(set_,)) == before


@pytest.mark.parametrize(
    "entry",
    [
        {"from": "../../.config/autostart/x", "to": "1a/x"}, {"from": "HOME/.bashrc2", "to": "1a/x"},
        {"from": "x", "to": "../../../../../.ssh/id_rsa"}, {"from": "x", "to": "HOME/.ssh/id_rsa"},
        {"from": "linked/x", "to": "1a/x"}, {"from": "x", "to": "1a/x", "run": "../../.."}, {"from": 1, "to": 2},
        "text", None,
    ],
)  # fmt: skip
def test_a_trash_list_brings_nothing_out_and_loses_nothing(home: Path, set_: Path, entry: object) -> None:
    trash = set_ / RUNS_DIR / TRASH_DIR / "20260101-000000"
    (trash / "1a").mkdir(parents=True)
    (trash / "1a" / "x").write_text("a stranger's file", encoding="utf-8")
    (set_ / "linked").symlink_to(home / "photos", target_is_directory=True)
    if isinstance(entry, dict):
        entry = {"run": "1a", "checkpoint": {"file": "x"}, **entry}
        entry = json.loads(json.dumps(entry).replace("HOME", str(home)))
    (trash / LIST_FILE).write_text(json.dumps({"moved": [entry]}), encoding="utf-8")
    before = snapshot(home, without=(trash,))
    moved = bring_back(set_)
    assert moved.files == ()
    assert len(moved.skipped) == 1
    assert snapshot(home, without=(trash,)) == before
    assert (trash / "1a" / "x").exists()


def test_runs_are_not_kept_nor_thrown_away_through_a_link(home: Path, set_: Path) -> None:
    (set_ / RUNS_DIR).symlink_to(home / "photos", target_is_directory=True)
    before = snapshot(home)
    with pytest.raises(RunError, match="link"):
        claim_folder(set_, Version.parse("1a"))
    with pytest.raises(RunError, match="link"):
        prune(set_, ())
    with pytest.raises(RunError, match="link"):
        bring_back(set_)
    assert snapshot(home) == before


def test_an_earlier_lora_is_not_moved_aside_through_a_link(home: Path, set_: Path) -> None:
    run = open_run(record(set_))
    (set_ / "last.safetensors").write_bytes(b"earlier")
    (set_ / "replaced").symlink_to(home / "photos", target_is_directory=True)
    before = snapshot(home)
    with pytest.raises(KohyakitError, match="link"):
        keep_earlier(run, set_ / "last.safetensors")
    assert snapshot(home) == before


def test_a_draft_that_waits_as_a_link_is_not_written_through(home: Path, set_: Path) -> None:
    pytest.importorskip("torch")
    from kohyakit.networks.file import write_whole

    (set_ / "last.safetensors.part").symlink_to(home / ".bashrc")
    before = snapshot(home, without=(set_,))
    write_whole(set_ / "last.safetensors", b"weights")
    assert snapshot(home, without=(set_,)) == before
    assert (set_ / "last.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("text", ["[" * 100_000, "5", "null", "[]", '{"version": 5}', '{"checkpoints": 7}', "\x00", ""])
def test_a_damaged_record_is_a_damaged_run(set_: Path, text: str) -> None:
    folder = record(set_)
    (folder / "run.json").write_text(text, encoding="utf-8")
    assert [run.problem is not None for run in list_runs(set_)] == [True]
    shutil.rmtree(folder)
