"""`kohyakit runs` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from kohyakit.cli.runs import runs
from kohyakit.config.train import TrainConfig
from kohyakit.errors import KohyakitError
from kohyakit.runs import earlier, registry

SummaryWriter = pytest.importorskip("tensorboard.summary.writer.event_file_writer").EventFileWriter


def write_log(folder: Path, losses: list[float]) -> Path:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    writer = SummaryWriter(str(folder))
    for step, loss in enumerate(losses, 1):
        value = Summary.Value(tag="loss/current", simple_value=loss)
        writer.add_event(Event(wall_time=1.7e9 + step, step=step, summary=Summary(value=[value])))
    writer.close()
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """1a (rank 16, loss 0.2), 1b (rank 32, loss 0.1), 2a (a photo more, no log)."""
    monkeypatch.setenv("KOHYAKIT_CACHE", str(tmp_path / "cache"))
    photos = tmp_path / "img" / "5_dog"
    photos.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (70, 70), (number * 60, 0, 0)).save(photos / f"{number}.png")
    model = tmp_path / "model"
    config = TrainConfig().with_values(
        train_data_dir=str(photos.parent), output_dir=str(model), output_name="dog", resolution="64", network_dim=16
    )
    for number, dim in enumerate((16, 32)):
        run = registry.start(config.with_values(network_dim=dim))
        log = write_log(tmp_path / "log" / str(number), [0.2 / (number + 1) + 0.01 * (i % 7) for i in range(200)])
        run.update(logs=(log,))
        (model / f"dog{number}.safetensors").write_bytes(b"123")
        run.add_checkpoint(model / f"dog{number}.safetensors", step=200)
        run.finish("finished", "200 of 200 steps")
    Image.new("RGB", (90, 70)).save(photos / "new.png")
    registry.start(config).finish("failed", "out of memory")
    return model


def call(*args: object) -> Result:
    result = CliRunner().invoke(runs, [str(arg) for arg in args], catch_exceptions=True, terminal_width=100)
    if isinstance(result.exception, KohyakitError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def data(*args: object) -> Any:
    return json.loads(call(*args, "--json").stdout)


def test_list(project: Path) -> None:
    lines = call("list", project).stdout.splitlines()
    assert lines[0].split() == ["run", "status", "started", "took", "photos", "loss", "what", "changed"]
    assert [line.split()[:2] for line in lines[1:]] == [["1a", "finished"], ["1b", "finished"], ["2a", "failed"]]
    assert "network_dim 16 → 32" in lines[2]
    assert "1 photo added" in lines[3]


def test_list_as_json(project: Path) -> None:
    listed = data("list", project)
    assert [(run["version"], run["status"], run["image_count"]) for run in listed] == [
        ("1a", "finished", 3), ("1b", "finished", 3), ("2a", "failed", 4),
    ]  # fmt: skip
    assert listed[0]["metrics"]["loss/current"]["count"] == 200
    assert listed[1]["changes"] == ["network_dim 16 → 32"]
    assert "process" not in listed[0]


def test_list_filtered(project: Path) -> None:
    assert [r["version"] for r in data("list", project, "--filter", "network_dim >= 32 and loss.last < 0.2")] == ["1b"]
    assert [r["version"] for r in data("list", project, "--filter", "status == 'failed'")] == ["2a"]
    with pytest.raises(KohyakitError, match="did you mean 'network_dim'"):
        call("list", project, "--filter", "netwrk_dim > 3")


def test_show(project: Path) -> None:
    text = call("show", "1b", "-p", project, "--settings").stdout
    for piece in (
        "1b",
        "finished",
        "200 of 200 steps",
        "1a → 1b: network_dim 16 → 32",
        "loss/current",
        "dog1.safetensors",
    ):
        assert piece in text
    assert "network_dim" in text.partition("Settings that are not the default")[2]
    shown = data("show", "1b", "-p", project)
    assert shown["settings"]["network_dim"] == 32
    assert isinstance(shown["statements"], list)


def test_diff(project: Path) -> None:
    text = call("diff", "1a", "2a", "-p", project).stdout
    assert "+ 5_dog/new.png" in text
    assert "network_dim" not in text
    alone = data("diff", "1b", "-p", project)
    assert alone["runs"] == ["1a", "1b"]
    assert [(row["name"], row["values"]) for row in alone["settings"]] == [("network_dim", [16, 32])]
    with pytest.raises(KohyakitError, match="has no parent"):
        call("diff", "1a", "-p", project)


def test_best(project: Path) -> None:
    lines = call("best", "-p", project).stdout.splitlines()
    assert lines[0] == "1b: dog1.safetensors"
    assert "loss/current" in lines[1]
    assert "clear" in lines[1]
    ranked = data("best", "-p", project)
    assert [place["version"] for place in ranked["places"]] == ["1b", "1a"]
    assert ranked["without"] == ["2a"]


def test_rename_and_note(project: Path) -> None:
    call("rename", "1b", "soft portrait", "-p", project)
    call("note", "soft portrait", "the client likes it\x1b[31m", "-p", project)
    (run,) = data("list", project, "--filter", "name == 'soft portrait'")
    assert (run["version"], run["note"]) == ("1b", "the client likes it\x1b[31m")
    assert "\x1b[31m" not in call("list", project).stdout
    call("rename", "1b", "", "-p", project)
    assert data("show", "1b", "-p", project)["name"] == ""


def test_prune_lists_moves_and_undoes(project: Path) -> None:
    run = registry.find_run(registry.list_runs(project), "1b")
    (project / "dog-000001.safetensors").write_bytes(b"x" * 2048)
    run.add_checkpoint(project / "dog-000001.safetensors", epoch=1, step=100)
    assert "2.0 kB" in call("prune", "-p", project).stdout
    assert (project / "dog-000001.safetensors").exists()
    call("prune", "-p", project, "--yes")
    assert not (project / "dog-000001.safetensors").exists()
    assert data("prune", "-p", project, "--undo")["files"] == [str(project / "dog-000001.safetensors")]
    assert (project / "dog-000001.safetensors").exists()


def test_import_is_told(tmp_path: Path, project: Path) -> None:
    with pytest.raises(KohyakitError, match="holds nothing that Kohya's tools left"):
        call("import", tmp_path / "img")


@pytest.mark.shared
def test_import_of_the_real_thing(goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOHYAKIT_CACHE", str(tmp_path / "cache"))
    result = call("import", goldens / "training" / "basic", "--into", tmp_path)
    assert "1 run imported." in result.stderr
    (run,) = data("list", tmp_path)
    assert (run["output_name"], run["outcome"]) == ("basic", "30 of 30 steps, 2 epochs, 2 models")


@pytest.mark.parametrize("command", ["list", "show", "diff", "best", "rename", "note", "restore", "prune", "import"])
def test_every_command_has_help_and_json(command: str) -> None:
    text = call(command, "--help").stdout
    assert "--json" in text


def test_mistakes_end_with_code_2(project: Path) -> None:
    from kohyakit.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["runs", "show", "9z", "-p", str(project)])
    assert caught.value.code == 2


def test_diff_lines_fit_the_terminal_and_lose_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = [f"/home/somebody/models/{'deep/' * 20}{name}.safetensors" for name in ("base", "other")]
    for version, path in zip(("1a", "1b"), long, strict=True):
        file = project / "runs" / version / "settings.json"
        settings = json.loads(file.read_text(encoding="utf-8"))
        settings |= {"pretrained_model_name_or_path": path, "network_args": [f"{version}={n}" for n in range(30)]}
        file.write_text(json.dumps(settings), encoding="utf-8")
    result = CliRunner().invoke(runs, ["diff", "1a", "1b", "-p", str(project)])
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    words = "".join(result.output.split())
    assert all(path in words for path in long)
    assert "network_dim" in result.output


def test_restore_puts_a_runs_files_back(project: Path) -> None:
    first, second = (registry.find_run(registry.list_runs(project), name) for name in ("1a", "1b"))
    for run in (first, second):
        earlier.keep_all_earlier(run, project, "dog")
        (project / "dog.safetensors").write_text(run.record.version, encoding="utf-8")
        run.add_checkpoint(project / "dog.safetensors")
    assert (first.folder / "files" / "dog.safetensors").read_text(encoding="utf-8") == "1a"
    assert call("restore", "1a", "-p", project).stdout.startswith("1 file of 1a back in ")
    assert (project / "dog.safetensors").read_text(encoding="utf-8") == "1a"
    assert (second.folder / "files" / "dog.safetensors").read_text(encoding="utf-8") == "1b"
    assert data("restore", "1b", "-p", project)["files"] == [str(project / "dog.safetensors")]
