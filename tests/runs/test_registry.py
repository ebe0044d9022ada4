"""The next run's name, what is recorded, and what is never written."""

from __future__ import annotations

import json
import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from kohyakit.config.train import Source, TrainConfig
from kohyakit.errors import RunError
from kohyakit.formats import loads
from kohyakit.planning.make import make_plan
from kohyakit.runs import registry
from kohyakit.runs.comparison.compare import story
from kohyakit.runs.process import Process, this_process
from kohyakit.runs.run import CONFIG_FILE, FINISHED, RUN_FILE, UNREADABLE, Run


def begin(config: TrainConfig, **options: object) -> Run:
    run = registry.start(config, **options)  # type: ignore[arg-type]
    run.finish(FINISHED)
    return run


def more_photos(folder: Path, count: int) -> None:
    for number in range(count):
        Image.new("RGB", (70, 70), (number, 99, 7)).save(folder / f"more{number:02}.png")


def test_the_story_of_a_project(config: TrainConfig, photos: Path) -> None:
    names = [str(begin(config).version)]
    names.append(str(begin(config.with_values(network_dim=32)).version))
    names.append(str(begin(config.with_values(network_dim=32, min_snr_gamma=5.0)).version))
    more_photos(photos, 14)
    (photos / "dog0.png").unlink()
    (photos / "dog1.png").unlink()
    names.append(str(begin(config.with_values(network_dim=32, min_snr_gamma=5.0)).version))
    last = begin(config.with_values(network_dim=64, min_snr_gamma=5.0))
    names.append(str(last.version))
    assert names == ["1a", "1b", "1c", "2a", "2b"]
    runs = registry.list_runs(last.project)
    assert story(last, runs) == (
        "1a → 1b: network_dim 16 → 32; 1b → 1c: min_snr_gamma none → 5; "
        "1c → 2a: 14 photos added, 2 removed; 2a → 2b: network_dim 32 → 64"
    )


def test_captions_give_a_letter(config: TrainConfig, photos: Path) -> None:
    begin(config)
    (photos / "dog3.txt").write_text("a dog on grass", encoding="utf-8")
    run = begin(config)
    assert str(run.version) == "1b"
    assert run.record.changes == ("1 caption changed",)


def test_going_back_to_earlier_photos_takes_up_their_number(config: TrainConfig, photos: Path) -> None:
    begin(config)
    more_photos(photos, 1)
    begin(config)
    (photos / "more00.png").unlink()
    run = begin(config)
    assert (str(run.version), run.record.parent) == ("1b", "1a")


def test_names_and_folders_are_no_change(config: TrainConfig, tmp_path: Path) -> None:
    begin(config)
    run = begin(config.with_values(output_name="other", logging_dir=str(tmp_path / "log")))
    assert (str(run.version), run.record.changes) == ("1b", ())


def test_version_parent_and_note_override(config: TrainConfig) -> None:
    begin(config)
    begin(config)
    run = begin(config, version="7c", parent="1a", note="for the exhibition")
    assert (str(run.version), run.record.parent, run.record.note) == ("7c", "1a", "for the exhibition")
    with pytest.raises(RunError, match="there is a run of this name already"):
        registry.start(config, version="7c")
    with pytest.raises(RunError, match="no such run"):
        registry.start(config, parent="9z")
    assert len(registry.list_runs(run.project)) == 3


def test_a_resumed_run_descends_from_the_one_whose_state_it_is(config: TrainConfig, tmp_path: Path) -> None:
    state = tmp_path / "model" / "dog-000002-state"
    first = registry.start(config)
    state.mkdir(parents=True)
    first.add_checkpoint(state, kind="state", epoch=2)
    first.finish(FINISHED)
    begin(config)
    run = begin(config.with_values(resume=str(state)))
    assert run.record.parent == "1a"
    assert run.record.resumed_from == str(state)
    assert run.record.changes == ("resumed from dog-000002-state",)


def test_what_the_record_keeps(config: TrainConfig, photos: Path, clock) -> None:
    plan = make_plan(config)
    run = registry.start(config, plan=plan, clock=clock)
    data = json.loads((run.folder / RUN_FILE).read_text(encoding="utf-8"))
    assert (data["version"], data["status"], data["image_count"], data["caption_count"]) == ("1a", "running", 6, 6)
    assert data["created"] == "2026-03-01T12:00:00+00:00"
    assert data["seeds"] == {"seed": 42}
    assert data["packages"]["kohyakit"]
    assert run.plan()["steps"] == plan.steps
    assert [entry.file for entry in run.dataset.entries] == [f"10_sks dog/dog{n}.png" for n in range(6)]
    toml = tomllib.loads((run.folder / CONFIG_FILE).read_text(encoding="utf-8"))
    assert {**toml, **{k: v for t in toml.values() if isinstance(t, dict) for k, v in t.items()}}["network_dim"] == 16
    clock.forward(minutes=90)
    run.finish(FINISHED, "30 of 30 steps")
    again = registry.list_runs(run.project)[0].record
    assert (again.seconds, again.ended, again.outcome) == (5400.0, "2026-03-01T13:30:00+00:00", "30 of 30 steps")
    assert not list(run.folder.glob("*.tmp")) + list(run.folder.glob("*.lock"))


PRESET = {
    "output_name": "dog", "network_dim": 16, "max_resolution": "64,64", "caption_extension": ".txt",
    "huggingface_token": "hf_abcdefghijklmnop", "wandb_api_key": "0123456789abcdef0123", "LoRA_type": "Standard",
    "training_comment": "my key is 0123456789abcdef0123",
    "additional_parameters": "--huggingface_token hf_otherother --keep_tokens=2",
}  # fmt: skip


def test_no_secret_is_written(config: TrainConfig, tmp_path: Path) -> None:
    read = loads(json.dumps(PRESET, indent=2), "preset.json")
    both = read.with_values(train_data_dir=config.dataset.train_data_dir, output_dir=config.saving.output_dir)
    run = registry.start(both, plan=make_plan(both))
    run.finish(FINISHED)
    for file in run.folder.parent.rglob("*"):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            for secret in ("hf_abcdefghijklmnop", "0123456789abcdef0123", "hf_otherother"):
                assert secret not in text, file.name
    source = json.loads((run.folder / "source.json").read_text(encoding="utf-8"))
    assert source["wandb_api_key"] == source["huggingface_token"] == "REDACTED"
    assert {k: v for k, v in source.items() if k in ("output_name", "network_dim", "LoRA_type")} == {
        "output_name": "dog", "network_dim": 16, "LoRA_type": "Standard",
    }  # fmt: skip


def test_a_source_without_secrets_is_kept_byte_for_byte(config: TrainConfig) -> None:
    text = '# mine\n[a]\nnetwork_dim = 16 # "rank"\nclass_tokens = "sks"\nkeep_tokens = 2\nwandb_api_key = ""\n'
    run = begin(replace(config, source=Source(None, "toml", text)))
    assert (run.folder / "source.toml").read_text(encoding="utf-8") == text


def test_two_trainings_that_start_at_once_get_two_names(config: TrainConfig) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(str(registry.start(config).version))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["1a", "1b", "1c", "1d"]


def test_damaged_runs_are_shown_as_what_they_are(config: TrainConfig) -> None:
    good, cut, empty, other = (begin(config) for _ in range(4))
    (cut.folder / RUN_FILE).write_text('{"version": "1b", "sta', encoding="utf-8")
    (empty.folder / RUN_FILE).unlink()
    (other.folder / RUN_FILE).write_text('{"version": ["1d"], "checkpoints": 3}', encoding="utf-8")
    runs = registry.list_runs(good.project)
    assert [run.status for run in runs] == ["finished", UNREADABLE, UNREADABLE, UNREADABLE]
    assert all(run.problem and run.problem.where.endswith(RUN_FILE) for run in runs[1:])
    assert str(begin(config).version) == "1e"


def test_a_project_is_found_from_where_a_person_stands(config: TrainConfig, tmp_path: Path) -> None:
    run = begin(config)
    project = tmp_path / "model"
    for place in (project, project / "runs", run.folder, tmp_path):
        assert registry.find_project(place) == project
    begin(config.with_values(output_dir=str(tmp_path / "second")))
    with pytest.raises(RunError, match="holds 2 projects"):
        registry.find_project(tmp_path)
    with pytest.raises(RunError, match="holds no runs"):
        registry.find_project(tmp_path / "img")
    with pytest.raises(RunError, match="there is no such folder"):
        registry.find_project(tmp_path / "nowhere")


def test_other_folders_called_runs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs" / "Nov23_10-11-12_host").mkdir(parents=True)
    (tmp_path / "runs" / "train1").mkdir()
    assert registry.list_runs(tmp_path) == ()
    assert registry.find_projects(tmp_path) == ()


def test_an_output_dir_that_is_a_file_is_one_sentence(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match="choose another output_dir"):
        registry.start(config.with_values(output_dir=str(tmp_path / "file")))


def test_starting_reads_no_torch_pandas_or_numpy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, kohyakit.runs.registry, kohyakit.runs.prune, kohyakit.runs.old.importing, "
        "kohyakit.runs.comparison.filter, kohyakit.runs.comparison.insight, kohyakit.runs.comparison.best;"
        "print([name for name in ('torch', 'pandas', 'numpy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


def test_a_failed_run_is_never_the_parent(config: TrainConfig) -> None:
    first = registry.start(config).finish("finished")
    registry.start(config.with_values(network_dim=32)).finish("failed", "out of memory")
    gone = registry.start(config.with_values(network_dim=48))  # killed before it saved anything
    gone.update(process=Process(2**22 - 3, "long ago", this_process().host))
    third = registry.start(config.with_values(network_dim=64))
    assert (str(third.version), third.record.parent) == ("1d", str(first.version))
    assert third.record.changes == ("network_dim 16 → 64",)
    asked = registry.start(config, parent="1b")  # a person may say so
    assert asked.record.parent == "1b"


def test_where_all_failed_there_is_no_parent_but_the_photos_keep_their_number(config: TrainConfig) -> None:
    registry.start(config).finish("failed")
    run = registry.start(config)
    assert (str(run.version), run.record.parent, run.record.changes) == ("1b", "", ())


def test_the_same_place_written_otherwise_is_no_change(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry.start(config.with_values(train_data_dir="img")).finish("finished")
    assert registry.start(config).record.changes == ()
