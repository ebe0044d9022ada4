"""What a stranger's folder has in the place of our own files: links, pipes, notes of anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kohyakit import files
from kohyakit.config.train import TrainConfig
from kohyakit.dashboard.pages.data_set import folder_stamp
from kohyakit.dashboard.read.project import Project
from kohyakit.dashboard.serve.start import CAPTIONS_DIR, starts
from kohyakit.dataset.editing import captions
from kohyakit.dataset.faults import of_folder
from kohyakit.dataset.walk import find_tree
from kohyakit.doctor import report
from kohyakit.errors import ConfigError, RunError
from kohyakit.planning.make import make_plan
from kohyakit.runs.logs.log_files import walk
from kohyakit.runs.run import Record, Run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need rights there")


def test_a_lock_behind_a_linked_history_stays(tmp_path: Path) -> None:
    other = tmp_path / "other" / ".kohyakit"
    other.mkdir(parents=True)
    (other / "captions.lock").write_text("somebody's", encoding="utf-8")
    subset = tmp_path / "data" / "10_x"
    subset.mkdir(parents=True)
    (subset / "a.png").write_bytes(b"")
    (subset / "a.txt").write_text("one", encoding="utf-8")
    (subset / ".kohyakit").symlink_to(other)
    edits = captions.proposed(captions.caption_files(tmp_path / "data"), captions.add_tag("two"))
    captions.apply(tmp_path / "data", edits, "two")
    assert (subset / "a.txt").read_text(encoding="utf-8") == "one, two"
    assert (other / "captions.lock").read_text(encoding="utf-8") == "somebody's"


@pytest.mark.parametrize("linked", ["stop", "run", "runs"])
def test_no_run_is_written_through_a_link(tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "model" / "runs" / "1a"
    if linked == "stop":
        folder.mkdir(parents=True)
        (folder / "stop").symlink_to(outside / "new")
    elif linked == "run":
        folder.parent.mkdir(parents=True)
        folder.symlink_to(outside)
    else:
        folder.parent.parent.mkdir(parents=True)
        (outside / "1a").mkdir()
        folder.parent.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    run = Run(folder, Record(version="1a"))
    with pytest.raises(RunError, match="is a link"):
        run.request_stop()
    if linked != "stop":
        with pytest.raises(RunError, match="is a link"):
            run.update(note="x")
    assert sorted(outside.rglob("*")) == before


@pytest.mark.parametrize("waiting", ["pipe", "link", "folder"])
def test_a_folder_takes_its_place_whatever_waits_beside_it(tmp_path: Path, waiting: str) -> None:
    """Under the draft's name and under that of the one before; what a person keeps as NAME.old stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    state = tmp_path / "state"
    state.mkdir()
    (state / "before").touch()
    for name in ("state.part", "state.old"):
        place = tmp_path / name
        if waiting == "pipe":
            os.mkfifo(place)
        elif waiting == "link":
            place.symlink_to(outside)
        else:
            place.mkdir()
            (place / "mine").touch()
    for number in range(2):
        with files.folder_in_place_of(state) as fresh:
            (fresh / f"after{number}").touch()
    assert [path.name for path in state.iterdir()] == ["after1"]
    assert (outside / "kept").exists()
    assert os.path.lexists(tmp_path / "state.old")
    assert waiting != "folder" or (tmp_path / "state.old" / "mine").exists()
    assert not os.path.lexists(tmp_path / "state.part")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "state", "state.old"]


def test_a_folder_in_the_place_of_a_draft_is_nobodys_to_remove(tmp_path: Path) -> None:
    part = tmp_path / "dog.safetensors.part"
    part.mkdir()
    (part / "mine").touch()
    files.write_bytes(tmp_path / "dog.safetensors", b"x", draft=part)
    assert (tmp_path / "dog.safetensors").read_bytes() == b"x"
    assert (part / "mine").exists()


@pytest.mark.parametrize(
    "odd",
    [{"process": {"pid": "1", "born": "", "host": "h"}}, {"time": 1e30}, {"time": 10**400}, {"time": "Infinity"},
     {"log": "a\0b"}, {"name": 3}, {"process": {"pid": 1}}],
)  # fmt: skip
def test_a_note_of_anything_is_passed_over(tmp_path: Path, odd: dict) -> None:
    notes = tmp_path / CAPTIONS_DIR
    notes.mkdir(parents=True)
    good = {"name": "a", "preset": "img", "time": 0, "process": {"pid": 1, "born": "x", "host": "h"}, "log": "a.log"}
    (notes / "a.json").write_text(json.dumps(good), encoding="utf-8")
    (notes / "b.json").write_text(json.dumps(good | odd), encoding="utf-8")
    assert [one.name for one in starts(Project.open(tmp_path), notes=CAPTIONS_DIR)] == ["a"]


def test_a_log_that_leads_out_is_passed_over(tmp_path: Path) -> None:
    notes = tmp_path / "in" / CAPTIONS_DIR
    notes.mkdir(parents=True)
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    (notes / "a.log").symlink_to(tmp_path / "secret")
    note = {"name": "a", "preset": "img", "time": 0, "process": {"pid": 1, "born": "", "host": "h"}, "log": "a.log"}
    (notes / "a.json").write_text(json.dumps(note), encoding="utf-8")
    assert starts(Project.open(tmp_path / "in"), notes=CAPTIONS_DIR) == ()


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder with 1,200 folders in each other, taken away again one by one: pytest's own clearing recurses."""
    here, depth = os.getcwd(), 0
    os.chdir(tmp_path)
    try:
        while depth < 1200:
            os.mkdir("a")
            os.chdir("a")
            depth += 1
        Path("x.png").touch()
        os.chdir(here)
        yield tmp_path
    finally:
        os.chdir(tmp_path)
        for _ in range(depth):
            os.chdir("a")
        Path("x.png").unlink(missing_ok=True)
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("a")
        os.chdir(here)


def test_twelve_hundred_folders_in_each_other_are_listed(deep: Path) -> None:
    assert len(captions.caption_files(deep)) == 1
    assert len(find_tree(deep).folders) == len(list(walk(deep))) == folder_stamp(deep)[1] + 1200 == 1201


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="there is no /proc here")
def test_a_link_into_the_system_is_named_and_not_walked(tmp_path: Path) -> None:
    (tmp_path / "10_dog").mkdir()
    (tmp_path / "10_dog" / "a.png").touch()
    for number, place in enumerate(("/", "/proc", "/proc/self")):
        (tmp_path / f"{number + 1}_x").symlink_to(place)
    tree = find_tree(tmp_path)
    told = [problem.what for folder in tree.folders for problem in of_folder(folder)]
    assert len(tree.folders) == 5
    assert [what.partition(" leads to ")[2].partition(",")[0] for what in told] == ["/", "/proc", "/proc"]
    assert [file.image.name for file in captions.caption_files(tmp_path)] == ["a.png"]
    assert len(list(walk(tmp_path))) == 2


def test_a_model_of_ours_is_not_taken_from_the_folder_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    from kohyakit.captioning.place import find

    (tmp_path / "SmilingWolf" / "tagger").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert find("SmilingWolf/tagger") == Path("SmilingWolf/tagger")
    with pytest.raises(ConfigError, match="local cache"):
        find("SmilingWolf/tagger", given=False)


def test_a_run_whose_record_names_what_no_file_can_be(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "1a", Record(version="1a"))
    assert not run.has("x" * 5000)
    assert not run.has("a\0b")


@pytest.mark.parametrize("kind", ["link", "file"])
def test_check_says_where_runs_cannot_be_kept(tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "runs").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "runs").touch()
    plan = make_plan(TrainConfig().with_values(output_dir=str(tmp_path)))
    assert any(f"is a {kind}" in problem.what for problem in plan.findings if problem.name == "output_dir_unusable")


def test_doctor_tells_no_home_name_or_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("LOGNAME", "anna")
    assert (
        report.clean("/home/anna/venv/lib, /mnt/anna-disk, token hf_abc123") == "~/venv/lib, /mnt/user-disk, token hf_…"
    )
    assert report.clean("/home/annabel/x") == "/home/annabel/x"
