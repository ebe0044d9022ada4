"""Samples from the index and from Kohya's names, whose they are, and what cannot be trusted."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from kohyakit.dashboard.read import samples
from kohyakit.dashboard.read.samples import last_sample, position, prompts, samples_of, wall
from kohyakit.runs.run import open_run


def test_index_and_names_tell_the_same_pictures(project: Path) -> None:
    run = open_run(project / "runs" / "1a")
    by_index = samples_of(run)
    assert [(s.step, s.epoch, s.index, s.seed) for s in by_index[:4]] == [
        (50, 1, 0, 1000), (50, 1, 1, 1001), (100, 2, 0, 1000), (100, 2, 1, 1001)]  # fmt: skip
    assert prompts(by_index) == (
        (0, "sks lighthouse on a cliff, evening light, 35mm photo"),
        (1, "sks lighthouse in a storm, waves, oil painting"),
    )
    assert last_sample(run) == by_index[-2]


def test_names_alone(tmp_path: Path, made: ModuleType) -> None:
    """Without an index: output_name and the time in the name decide whose a picture is; e000002 is an epoch."""
    made.write_run(tmp_path, "1a", output_name="dog", steps=100, epochs=10)
    early = made.START.astimezone().strftime("%Y%m%d%H%M%S")
    for name in (
        f"dog_000050_00_{early}_77.png", f"dog_e000002_01_{early}.png", f"cat_000050_00_{early}.png",
        "dog_000050_00_20200101000000.png", "holiday.png", f"dog_000050_00_{early}.txt",
    ):  # fmt: skip
        made.picture(tmp_path / "sample" / name, (32, 32)) if name.endswith("png") else (
            tmp_path / "sample" / name
        ).touch()
    found = samples_of(open_run(tmp_path / "runs" / "1a"))
    assert [(s.path.name.split("_")[1], s.step, s.epoch, s.index, s.seed) for s in found] == [
        ("e000002", 20, 2, 1, None), ("000050", 50, None, 0, 77)]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["../../outside.png", "/etc/passwd", "..", "", "sub/a.png", "\\\\host\\share\\a.png", None, 7, ["a"]]
)
def test_the_index_cannot_point_out_of_its_folder(tmp_path: Path, made: ModuleType, name: object) -> None:
    made.write_run(tmp_path, "1a")
    made.picture(tmp_path / "outside.png", (8, 8))
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "samples.jsonl").write_text(
        json.dumps({"file": name, "step": 1, "index": 0}), encoding="utf-8"
    )
    assert samples_of(open_run(tmp_path / "runs" / "1a")) == ()


def test_a_damaged_index_loses_only_its_damaged_lines(project: Path) -> None:
    run = open_run(project / "runs" / "1a")
    many = len(samples_of(run))
    index = project / "sample" / "samples.jsonl"
    text = index.read_text(encoding="utf-8")
    index.write_text("null\n[1]\n{}\nnot json\n" + text + '{"file": "1a_0000', encoding="utf-8")
    assert len(samples_of(run)) == many
    assert {s.prompt for s in samples_of(run)} == {words for _, words in prompts(samples_of(run))}


def test_odd_values_in_the_index_do_no_harm(tmp_path: Path, made: ModuleType) -> None:
    made.write_run(tmp_path, "1a")
    made.picture(tmp_path / "sample" / "a.png", (8, 8))
    odd = {
        "file": "a.png",
        "step": "7",
        "epoch": True,
        "index": None,
        "prompt": ["<b>"],
        "seed": 1e400,
        "width": {},
        "network_multiplier": "x",
    }
    (tmp_path / "sample" / "samples.jsonl").write_text(json.dumps(odd), encoding="utf-8")
    (found,) = samples_of(open_run(tmp_path / "runs" / "1a"))
    assert (found.step, found.epoch, found.index, found.seed, found.prompt) == (None, None, 0, None, "['<b>']")


def test_a_new_picture_is_seen_and_a_deleted_folder_is_empty(project: Path, made: ModuleType) -> None:
    run = open_run(project / "runs" / "1a")
    many = len(samples_of(run))
    made.write_samples(
        project, "1a", ["sks lighthouse on a cliff, evening light, 35mm photo"], steps=[333], per_epoch=50
    )
    assert len(samples_of(run)) == many + 1
    assert position(samples_of(run)[-1]) == 333
    (project / "sample").rename(project / "gone")
    assert samples_of(run) == ()
    assert last_sample(run) is None


def test_the_wall_locks_all_runs_to_one_slider(project: Path) -> None:
    runs = [open_run(project / "runs" / version) for version in ("1a", "2b")]
    made = wall(runs, lambda path, width: f"{path.name}@{width}")
    assert [step["value"] for step in made["steps"]] == [50, 100, 150, 200, 250, 300]
    assert len(made["rows"]) == 2
    first, second = made["rows"][0]["cells"]
    assert [cell["step"] for cell in first] == [50, 100, 150, 200, 250, 300]
    assert [cell["step"] for cell in second] == [50, 100]
    assert first[0]["src"].endswith("@640")
    assert first[0]["seed"] == 1000
    assert made["rows"][0]["shape"] == "256 / 256"
    assert made["rows"][0]["wide"] == 256


def test_a_runs_pictures_are_not_anothers(project: Path) -> None:
    for version in ("1a", "1b", "2a"):
        assert all(s.path.name.startswith(f"{version}_") for s in samples_of(open_run(project / "runs" / version)))


def test_an_unrecorded_step_stands_at_its_epoch() -> None:
    assert position(samples.Sample(Path("a"), 0, epoch=3)) == 3
    assert samples.Sample(Path("a"), 0).label == "unknown step"


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0c"])
def test_an_entry_of_the_index_ends_at_its_line_end_alone(tmp_path: Path, made: ModuleType, sign: str) -> None:
    made.write_run(tmp_path, "1a", output_name="dog", steps=100, epochs=10)
    folder = tmp_path / "sample"
    for number in range(3):
        made.picture(folder / f"{number}.png", (16, 16))
    entries = [{"file": f"{n}.png", "prompt": f"a{sign if n == 1 else ''}b", "step": n, "run": "1a"} for n in range(3)]
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    (folder / "samples.jsonl").write_text(text, encoding="utf-8", newline="\n")
    assert [s.prompt for s in samples_of(open_run(tmp_path / "runs" / "1a"))] == ["ab", f"a{sign}b", "ab"]


def test_runs_with_epochs_of_other_lengths_line_up_by_epoch(tmp_path: Path, made: ModuleType) -> None:
    """40 and 100 steps an epoch: by step they share no place, by epoch each."""
    for version, per_epoch in (("1a", 40), ("1b", 100)):
        made.write_run(tmp_path, version, steps=3 * per_epoch, epochs=3, scalars={})
        steps = [per_epoch, 2 * per_epoch, 3 * per_epoch]
        made.write_samples(tmp_path, version, ["a dog"], steps=steps, per_epoch=per_epoch, seed=1)
    runs = [open_run(tmp_path / "runs" / version) for version in ("1a", "1b")]
    by_step = wall(runs, lambda path, width: "")
    assert [step["value"] for step in by_step["steps"]] == [40, 80, 100, 120, 200, 300]
    by_epoch = wall(runs, lambda path, width: "", over="epoch")
    assert [(step["value"], step["label"]) for step in by_epoch["steps"]] == [
        (1.0, "epoch 1"), (2.0, "epoch 2"), (3.0, "epoch 3"),
    ]  # fmt: skip
    assert [[cell["step"] for cell in cells] for cells in by_epoch["rows"][0]["cells"]] == [[1.0, 2.0, 3.0]] * 2
