"""What Kohya's tools leave, made here with known times, names and numbers, pieced together again."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kohyakit.errors import RunError
from kohyakit.runs import registry
from kohyakit.runs.logs.crc32c import crc32c, masked
from kohyakit.runs.old.importing import import_runs
from kohyakit.runs.old.metadata_settings import dataset_from, settings_from
from kohyakit.runs.run import Run, timestamp

ZONE = timedelta(hours=5, minutes=30)  # of the machine that trained; not of the one that imports
FIRST = datetime(2026, 1, 31, 18, 45, 0, tzinfo=UTC)


class Kohya:
    """Writes files as sd-scripts and its GUI do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.output = root / "model"
        self.output.mkdir(parents=True)

    def local(self, moment: datetime, form: str) -> str:
        return (moment + ZONE).strftime(form)

    def model(self, file: str, start: datetime, *, steps: int, epoch: int, **metadata: Any) -> Path:
        told = {
            "ss_session_id": str(int(start.timestamp()) % 10**6), "ss_training_started_at": str(start.timestamp() + 8),
            "ss_training_finished_at": str(start.timestamp() + 8 + steps * 2), "ss_output_name": "portrait",
            "ss_steps": str(steps), "ss_epoch": str(epoch), "ss_max_train_steps": "40", "ss_num_epochs": "2",
            "ss_network_dim": "16", "ss_network_alpha": "8", "ss_network_module": "networks.lora", "ss_seed": "42",
            "ss_learning_rate": "0.0001", "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1)",
            "ss_resolution": "(512, 512)", "ss_batch_size_per_device": "2", "ss_noise_offset": "None",
            "ss_dataset_dirs": json.dumps({"10_sks person": {"n_repeats": 10, "img_count": 20}}),
            "ss_tag_frequency": json.dumps({"10_sks person": {"sks": 20, "smile": 3}}),
            **{f"ss_{name}": str(value) for name, value in metadata.items()},
        }  # fmt: skip
        if metadata.get("none"):
            told = {}
        header = {"lora_unet_x.alpha": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}
        if told:
            header["__metadata__"] = told  # type: ignore[assignment]
        raw = json.dumps(header).encode()
        path = self.output / file
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4))
        end = start.timestamp() + 10 + steps * 2
        os.utime(path, (end, end))
        return path

    def log(self, start: datetime, seconds: float = 90) -> Path:
        folder = self.root / "log" / self.local(start, "%Y%m%d%H%M%S") / "network_train"
        folder.mkdir(parents=True)
        file = folder / f"events.out.tfevents.{int(start.timestamp()) + 12}.pc.4711.0"
        file.write_bytes(b"")
        os.utime(file, (start.timestamp() + seconds,) * 2)
        return folder

    def preset(self, start: datetime, **values: Any) -> Path:
        path = self.output / f"portrait_{self.local(start, '%Y%m%d-%H%M%S')}.json"
        preset = {
            "LoRA_type": "Standard", "output_name": "portrait", "network_dim": 16, "network_alpha": 8, "seed": 42,
            "pretrained_model_name_or_path": "base.safetensors", "wandb_api_key": "verysecretkey", "flip_aug": True,
            **values,
        }  # fmt: skip
        path.write_text(json.dumps(preset), encoding="utf-8")
        return path

    def toml(self, start: datetime) -> Path:
        path = self.output / f"config_lora-{self.local(start, '%Y%m%d-%H%M%S')}.toml"
        path.write_text('output_name = "portrait"\nnetwork_dim = 16\nseed = 42\n', encoding="utf-8")
        return path

    def sample(self, moment: datetime, epoch: int) -> Path:
        folder = self.output / "sample"
        folder.mkdir(exist_ok=True)
        path = folder / f"portrait_e{epoch:06}_00_{self.local(moment, '%Y%m%d%H%M%S')}_42.png"
        path.write_bytes(b"png")
        return path

    def training(self, start: datetime, **metadata: Any) -> None:
        """A whole one: click, log, two epochs, samples."""
        self.preset(start)
        self.toml(start + timedelta(seconds=1))
        self.log(start + timedelta(seconds=8))
        for epoch, file in ((1, "portrait-000001.safetensors"), (2, "portrait.safetensors")):
            self.model(file, start, steps=20 * epoch, epoch=epoch, **metadata)
            self.sample(start + timedelta(seconds=8 + 40 * epoch), epoch)


@pytest.fixture
def kohya(tmp_path: Path) -> Kohya:
    return Kohya(tmp_path / "kohya")


def state_of(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def test_one_training_with_everything_beside_it(kohya: Kohya, tmp_path: Path) -> None:
    kohya.training(FIRST, validation_split=0.1)
    before = state_of(kohya.root)
    done = import_runs(kohya.root, into=tmp_path / "mine")
    (run,) = done.runs
    assert state_of(kohya.root) == before
    assert done.problems == ()
    record = run.record
    assert (record.version, record.status, record.output_name) == ("1a", "finished", "portrait")
    assert record.outcome == "40 of 40 steps, 2 epochs, 2 models"
    assert (record.started, record.seconds) == ("2026-01-31T18:45:08+00:00", 80.0)
    assert (record.image_count, record.seeds) == (20, {"seed": 42})
    assert [(Path(c.file).name, c.epoch, c.step) for c in record.checkpoints] == [
        ("portrait-000001.safetensors", 1, 20), ("portrait.safetensors", 2, 40),
    ]  # fmt: skip
    assert [log.name for log in run.logs] == ["network_train"]
    assert run.samples == kohya.output / "sample"
    assert len(record.imported["files"]) == 2
    assert not record.imported["partial"]
    assert run.settings["flip_aug"] is True  # only the preset tells that
    assert run.settings["validation_split"] == 0.1  # only the metadata tell that
    assert (run.folder / "source.json").exists()
    assert "verysecretkey" not in "".join(p.read_text(encoding="utf-8") for p in run.folder.iterdir())


def test_versions_follow_the_images_and_the_settings(kohya: Kohya, tmp_path: Path) -> None:
    day = timedelta(days=1)
    (kohya.output / "old").mkdir()
    kohya.model("a.safetensors", FIRST, steps=40, epoch=2)
    kohya.model("b.safetensors", FIRST + day, steps=40, epoch=2, network_dim=32)
    dirs = json.dumps({"5_sks person": {"n_repeats": 5, "img_count": 34}})
    kohya.model("c.safetensors", FIRST + 2 * day, steps=40, epoch=2, network_dim=32, dataset_dirs=dirs)
    tags = json.dumps({"10_sks person": {"sks": 20, "hat": 3}})
    kohya.model("d.safetensors", FIRST + 3 * day, steps=40, epoch=2, tag_frequency=tags)
    runs = import_runs(kohya.root).runs
    assert [(r.record.version, r.record.parent) for r in runs] == [("1a", ""), ("1b", "1a"), ("2a", "1b"), ("1c", "1b")]
    assert runs[1].record.changes == ("network_dim 16 → 32",)
    assert runs[2].record.changes == ("photos 20 → 34",)
    assert runs[3].record.changes == ("other captions", "network_dim 32 → 16")


def test_training_on_with_kohyakit_takes_up_the_imported_number(config, photos: Path, tmp_path: Path) -> None:
    """Six photos in `10_sks dog`, as the old model says: the same images as far as its files tell."""
    old = Kohya(tmp_path / "kohya")
    dirs = json.dumps({"4_sks dog": {"n_repeats": 4, "img_count": 6}})
    old.model("a.safetensors", FIRST, steps=40, epoch=2, dataset_dirs=dirs)
    import_runs(old.root, into=tmp_path / "model")
    run = registry.start(config)
    assert (str(run.version), run.record.parent) == ("1b", "1a")
    assert "other photos" not in run.record.changes
    run.finish("finished")
    (photos / "dog0.png").unlink()
    assert str(registry.start(config).version) == "2a"


def test_repeats_in_the_folder_name_are_no_matter_of_the_images() -> None:
    def told(name: str) -> str:
        return dataset_from({"ss_dataset_dirs": json.dumps({name: {"n_repeats": 3, "img_count": 20}})})[1]

    assert told("10_sks dog") == told("4_sks dog") != told("4_sks cat")


def test_the_same_settings_started_thrice_each_get_their_own_files(kohya: Kohya) -> None:
    starts = [FIRST + timedelta(hours=3 * n) for n in range(3)]
    for number, start in enumerate(starts):
        kohya.preset(start, training_comment=f"try {number}")
        kohya.log(start)
        kohya.model(f"portrait_{number}.safetensors", start, steps=40, epoch=2)
    runs = import_runs(kohya.root).runs
    assert [run.settings["training_comment"] for run in runs] == ["try 0", "try 1", "try 2"]
    assert [run.logs[0].parent.name for run in runs] == [kohya.local(s, "%Y%m%d%H%M%S") for s in starts]


def test_a_preset_that_contradicts_the_model_is_not_taken(kohya: Kohya) -> None:
    kohya.preset(FIRST, network_dim=128)
    kohya.log(FIRST)
    kohya.model("portrait.safetensors", FIRST, steps=40, epoch=2)
    done = import_runs(kohya.root)
    assert done.runs[0].record.imported["partial"] is True
    assert done.runs[0].settings["network_dim"] == 16
    assert "1 saved settings belong to no training" in str(done.problems[0])


def test_a_training_that_was_cut_off(kohya: Kohya) -> None:
    kohya.log(FIRST)
    kohya.model("portrait-000001.safetensors", FIRST, steps=20, epoch=1)
    (run,) = import_runs(kohya.root).runs
    assert (run.record.status, run.record.outcome) == ("interrupted", "20 of 40 steps, 1 epoch, 1 model")


def test_a_training_that_left_no_model(kohya: Kohya) -> None:
    kohya.preset(FIRST)
    kohya.log(FIRST + timedelta(seconds=8))
    (run,) = import_runs(kohya.root).runs
    assert (run.record.output_name, run.record.outcome, run.record.status) == (
        "portrait", "no model was found", "interrupted",
    )  # fmt: skip
    assert run.settings["network_dim"] == 16


def test_models_without_metadata(kohya: Kohya) -> None:
    kohya.preset(FIRST)
    kohya.log(FIRST)
    kohya.model("portrait.safetensors", FIRST, steps=40, epoch=2, none=True)
    kohya.model("downloaded.safetensors", FIRST, steps=40, epoch=2, none=True)
    done = import_runs(kohya.root)
    (run,) = done.runs
    assert run.record.output_name == "portrait"
    assert len(run.logs) == 1
    assert "1 LoRA files carry no metadata" in str(done.problems[0])


def test_importing_again_brings_only_what_is_new(kohya: Kohya) -> None:
    kohya.training(FIRST)
    assert len(import_runs(kohya.root).runs) == 1
    again = import_runs(kohya.root)
    assert (again.runs, again.known) == ((), 1)
    later = FIRST + timedelta(days=2)
    kohya.model("second.safetensors", later, steps=40, epoch=2, network_dim=64)
    third = import_runs(kohya.root)
    assert ([run.record.version for run in third.runs], third.known) == (["1b"], 1)


def test_a_dry_run_writes_nothing(kohya: Kohya) -> None:
    kohya.training(FIRST)
    before = state_of(kohya.root)
    assert [run.record.version for run in import_runs(kohya.root, dry_run=True).runs] == ["1a"]
    assert state_of(kohya.root) == before


def test_states_go_with_their_training(kohya: Kohya) -> None:
    kohya.training(FIRST)
    state = kohya.output / "portrait-000001-state"
    state.mkdir()
    (state / "optimizer.bin").write_bytes(b"x")
    (run,) = import_runs(kohya.root).runs
    assert [c.file for c in run.record.checkpoints if c.kind == "state"] == ["model/portrait-000001-state"]


def test_broken_files_are_named_and_the_rest_is_imported(kohya: Kohya) -> None:
    kohya.training(FIRST)
    (kohya.output / "cut.safetensors").write_bytes(struct.pack("<Q", 900) + b"{")
    (kohya.output / "portrait_20260101-000000.json").write_text('{"output_name": ', encoding="utf-8")
    done = import_runs(kohya.root)
    assert len(done.runs) == 1
    assert {problem.where for problem in done.problems} == {"cut.safetensors", "portrait_20260101-000000.json"}


def test_our_own_runs_are_not_imported(config, tmp_path: Path) -> None:
    run: Run = registry.start(config)
    kohya = Kohya(tmp_path / "other")
    kohya.output = tmp_path / "model"
    run.add_checkpoint(kohya.model("dog.safetensors", FIRST, steps=40, epoch=2))
    run.finish("finished")
    done = import_runs(tmp_path / "model")
    assert (done.runs, done.known) == ((), 1)


def test_nothing_of_kohyas_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds nothing that Kohya's tools left"):
        import_runs(tmp_path)
    with pytest.raises(RunError, match="there is no such folder"):
        import_runs(tmp_path / "nowhere")


def test_settings_from_metadata() -> None:
    found = settings_from({
        "ss_network_dim": "16", "ss_noise_offset": "None", "ss_flip_aug": "True", "ss_lr_warmup_steps": "0",
        "ss_optimizer": "prodigyopt.prodigy.Prodigy(decouple=True,betas=(0.9, 0.99),weight_decay=0.01)",
        "ss_network_module": "networks.lora", "ss_network_args": '{"conv_dim": "8"}', "ss_resolution": "(768, 512)",
        "ss_unknown_thing": "3", "ss_steps": "400", "modelspec.title": "x",
    })  # fmt: skip
    assert found["network_dim"] == 16
    assert found["noise_offset"] is None
    assert found["flip_aug"] is True
    assert (found["optimizer_type"], found["optimizer_args"]) == (
        "Prodigy", ("decouple=True", "betas=(0.9, 0.99)", "weight_decay=0.01"),
    )  # fmt: skip
    assert found["network_args"] == ("conv_dim=8",)
    assert found["resolution"] == "768,512"
    assert "unknown_thing" not in found


@pytest.mark.shared
def test_runs_of_the_real_sd_scripts(goldens: Path, tmp_path: Path) -> None:
    done = import_runs(goldens / "training", into=tmp_path)
    names = ("basic", "adafactor", "locon", "samples_ddim")
    found = {run.record.output_name: run for run in done.runs if run.record.output_name in names}
    assert set(found) == set(names)
    for name, run in found.items():
        assert run.logs == (next((goldens / "training" / name / "tb").rglob("network_train")),)
        recorded = json.loads((goldens / "training" / name / "args_effective.json").read_text(encoding="utf-8"))
        for setting in (
            "network_dim",
            "seed",
            "lr_scheduler",
            "min_snr_gamma",
            "noise_offset",
            "keep_tokens",
            "flip_aug",
        ):
            assert run.settings[setting] == recorded[setting], (name, setting)
    assert found["samples_ddim"].samples == goldens / "training" / "samples_ddim" / "output" / "sample"
    assert str(found["basic"].version)[:-1] == str(found["samples_ddim"].version)[:-1]


def events(*moments: float) -> bytes:
    """An event file with one loss at each of these times, made by TensorBoard's own protocol buffers."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    data = b""
    for step, moment in enumerate(moments):
        summary = Summary(value=[Summary.Value(tag="loss/average", simple_value=0.1)])
        body = Event(wall_time=moment, step=step, summary=summary).SerializeToString()
        length = struct.pack("<Q", len(body))
        data += length + struct.pack("<I", masked(crc32c(length))) + body + struct.pack("<I", masked(crc32c(body)))
    return data


def test_a_copied_log_took_as_long_as_its_events_say(kohya: Kohya) -> None:
    pytest.importorskip("tensorboard")
    (file,) = kohya.log(FIRST).iterdir()
    begin = FIRST.timestamp() + 12
    file.write_bytes(events(begin, begin + 100, begin + 700.5) + b"cut off")
    os.utime(file, (begin + 4789 * 3600,) * 2)
    (run,) = import_runs(kohya.root).runs
    assert run.record.seconds == 700.5
    assert run.record.ended == timestamp(FIRST + timedelta(seconds=712))


def test_where_nothing_tells_the_end_none_is_made_up(kohya: Kohya) -> None:
    pytest.importorskip("tensorboard")
    kohya.preset(FIRST)
    kohya.model("portrait.safetensors", FIRST, steps=40, epoch=2, none=True)
    folder = kohya.log(FIRST + timedelta(seconds=8), seconds=95)
    (file,) = folder.iterdir()
    (run,) = import_runs(kohya.root, dry_run=True).runs
    assert (run.record.ended, run.record.seconds) == ("", None)
    assert run.record.created
    file.write_bytes(events(FIRST.timestamp() + 21, FIRST.timestamp() + 80))
    (run,) = import_runs(kohya.root).runs
    assert run.logs == (folder,)
    assert (run.record.ended, run.record.seconds) == (timestamp(FIRST + timedelta(seconds=80)), 60.0)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_linked_folder_is_looked_into_once(kohya: Kohya, tmp_path: Path) -> None:
    kohya.training(FIRST)
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "old").symlink_to(kohya.root)
    (tmp_path / "seen" / "again").symlink_to(tmp_path / "seen")
    (run,) = import_runs(tmp_path / "seen").runs
    assert len(run.record.checkpoints) == 2
