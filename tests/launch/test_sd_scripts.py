"""A run through a checkout: real accelerate, a real program, the run's record, and the true cause of a failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from kohyakit.errors import ConfigError, RunError
from kohyakit.formats import load
from kohyakit.launch import checkout as checkouts
from kohyakit.launch import sd_scripts
from kohyakit.runs.registry import list_runs

pytest.importorskip("accelerate")

pytestmark = pytest.mark.slow


def start(project: Path, folder: Path, **overrides):
    lines: list[str] = []
    config = load(project / "train.toml", overrides=overrides)
    run = sd_scripts.run(config, folder, python=sys.executable, echo=lines.append)
    return run, "\n".join(lines)


def test_what_earlier_runs_left_under_the_name_moves_aside_first(project, checkout):
    folder = checkout(
        """
        save("dog.safetensors")
        """
    )
    first, _ = start(project, folder)
    output = first.project
    (output / "dog-000007.safetensors").write_bytes(b"nobody's")
    second, said = start(project, folder, output_name="dog")
    assert "2 earlier file(s) of that name moved aside" in said
    assert (output / "replaced" / "dog-000007.safetensors").read_bytes() == b"nobody's"
    assert (first.folder / "files" / "dog.safetensors").exists()
    assert [Path(c.file).name for c in second.record.checkpoints] == ["dog.safetensors"]


def test_a_run_from_start_to_end(project, checkout, capfdbinary):
    folder = checkout(
        """
        logs = pathlib.Path(values["logging_dir"]) / "20260101000000"
        (logs / "network_train").mkdir(parents=True)
        import os
        print("key in the environment:", os.environ["WANDB_API_KEY"])
        for step in range(1, 5):
            sys.stderr.write(f"\\rsteps:  {step * 25}%|##| {step}/4 [00:0{step}<00:00, avr_loss=0.1{step}]")
            time.sleep(0.3)
        save("dog-step00000002.safetensors")
        save("dog.safetensors")
        save("other.safetensors")
        """
    )
    run, said = start(project, folder)
    assert run.status == "finished"
    assert said.splitlines()[0].startswith("run 1a in ")
    assert "finished; 2 file(s) saved" in said
    files = {(Path(c.file).name, c.step) for c in run.record.checkpoints}
    assert files == {("dog-step00000002.safetensors", 2), ("dog.safetensors", None)}
    assert run.record.steps == 4
    assert run.record.packages["sd-scripts"] == "0123456789ab"
    assert run.record.packages["torch"]
    assert [path.name for path in run.logs] == ["20260101000000"]
    assert run.progress()["steps"] == 4
    assert run.progress()["loss"] == pytest.approx(0.14)
    assert "学習開始".encode() in capfdbinary.readouterr().err  # live, as it came

    given = tomllib.loads((run.folder / "config.toml").read_text(encoding="utf-8"))
    flat = {name: value for table in given.values() for name, value in table.items()}
    assert (flat["network_dim"], flat["max_train_steps"], flat["output_name"]) == (4, 4, "dog")
    assert Path(flat["logging_dir"]) == run.folder / "logs"
    # the key went by the environment; no file of the run holds it
    for path in run.folder.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path.name
    log = run.log_file.read_text(encoding="utf-8")
    assert "key in the environment: REDACTED" in log
    assert log.count("steps:") == 1


def test_a_failure_says_its_cause(project, checkout):
    folder = checkout('raise AssertionError("resolution is required / resolution（解像度）指定は必須です")')
    with pytest.raises(RunError, match=r"^train_network\.py: resolution is required$") as caught:
        start(project, folder)
    assert caught.value.exit_code == 2
    (run,) = list_runs(project / "model")
    assert (run.status, run.record.outcome) == ("failed", "resolution is required")
    assert "CalledProcessError" in run.log_file.read_text(encoding="utf-8")  # which is all that accelerate says


def test_a_success_that_did_nothing_is_a_failure(project, checkout):
    folder = checkout('print("No data found. Please verify arguments (train_data_dir must be the parent ...)")')
    with pytest.raises(RunError, match="no pictures were found"):
        start(project, folder)


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal to stand for Ctrl-C")
def test_ctrl_c_at_the_door(project, checkout):
    folder = checkout('print("ready", flush=True)\ntime.sleep(120)')
    words = [sys.executable, "-m", "kohyakit", "train", str(project / "train.toml"), "--backend", "sd-scripts"]
    words += ["--sd-scripts", str(folder), "--python", sys.executable]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "ready":
            break
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    (run,) = list_runs(project / "model")
    assert run.status == "interrupted", out


def jpeg_on_its_side() -> bytes:
    """A JPEG's head with the EXIF mark of a phone held upright (orientation 6), and the size of its stored pixels."""
    import io

    pillow = pytest.importorskip("PIL.Image")
    image, exif = pillow.new("RGB", (64, 64)), pillow.Exif()
    exif[0x0112] = 6
    written = io.BytesIO()
    image.save(written, "JPEG", exif=exif)
    return written.getvalue()


def test_prompts_become_a_file_turned_photos_are_named_and_the_version_stands_in_the_name(project, checkout):
    (project / "img" / "1_sks dog" / "c.jpg").write_bytes(jpeg_on_its_side())
    folder = checkout('print(pathlib.Path(values["sample_prompts"]).read_text())\nsave("dog-1a.safetensors")')
    asked = {"sample_prompts": "a dog --d 1\na cat --d 2", "sample_every_n_steps": 2}
    run, said = start(project, folder, **asked, output_name="dog-{version}")
    assert run.record.output_name == "dog-1a"
    assert 'output_name = "dog-1a"' in (run.folder / "config.toml").read_text(encoding="utf-8")
    assert [Path(c.file).name for c in run.record.checkpoints] == ["dog-1a.safetensors"]
    assert (run.folder / "prompts.txt").read_text(encoding="utf-8") == "a dog --d 1\na cat --d 2\n"
    assert "a cat --d 2" in run.log_file.read_text(encoding="utf-8")
    assert "1 picture(s) carry a turn mark" in said


def test_sd_scripts_gets_prompts_as_they_were_meant(project, checkout):
    """`--w 768--h 640` is 768x512 to sd-scripts; the file of the person stays as it is."""
    theirs = project / "prompts.txt"
    theirs.write_text("# mine\nchurch --w 768--h 640\na cat --d 2\n", encoding="utf-8")
    run, _ = start(project, checkout('save("dog.safetensors")'), sample_prompts=str(theirs), sample_every_n_steps=2)
    assert load(run.folder / "config.toml").sampling.sample_prompts == str(run.folder / "prompts.txt")
    assert (run.folder / "prompts.txt").read_text(encoding="utf-8") == "church --w 768 --h 640\na cat --d 2\n"
    assert theirs.read_text(encoding="utf-8").startswith("# mine")


def test_prompts_of_a_family_with_other_defaults_stay_as_they_were_written(project, checkout):
    """Flux draws at a scale of 1 where none is given, so that `--l 7.5`, which is no default there, must stand."""
    theirs = project / "prompts.txt"
    theirs.write_text("church --l 7.5 --w 768--h 640\n", encoding="utf-8")
    folder = checkout('save("dog.safetensors")', script="flux_train_network.py")
    asked = {"script": "flux_train_network.py", "network_module": "networks.lora_flux", "sample_every_n_steps": 2}
    parts = {name: str(project / "train.toml") for name in ("ae", "clip_l", "t5xxl")}
    run, _ = start(project, folder, **asked, **parts, sample_prompts=str(theirs))
    assert load(run.folder / "config.toml").sampling.sample_prompts == str(theirs)


def test_nothing_is_started_when_something_is_wrong(project, checkout, tmp_path):
    folder = checkout()

    def refused(where: Path | None, **overrides) -> str:
        with pytest.raises((ConfigError, RunError)) as caught:
            start(project, where, **overrides)
        return str(caught.value)

    text = refused(folder, lr_warmup_steps=10, adaptive_noise_scale=0.1)
    assert "takes no warm-up" in text
    assert "adaptive_noise_scale needs noise_offset" in text
    assert "no sd-scripts checkout is named" in refused(None)
    assert "there is no such folder" in refused(tmp_path / "nowhere")
    assert "is no sd-scripts checkout" in refused(project)
    assert "has no sdxl_train_network.py" in refused(folder, script="sdxl_train_network.py")
    named = refused(folder, optimizer_type="prodigyopt_that_is_not_there.Prodigy")
    assert "was neither imported nor run" in named
    assert list_runs(project / "model") == ()


def test_the_probe_names_every_missing_package_at_once(project, checkout):
    folder = checkout()
    (folder / "voluptuous.py").unlink()
    (folder / "imagesize.py").unlink()
    (folder / "einops.py").unlink()
    bare = subprocess.run(
        [sys.executable, "-c", "import importlib.util as u; print([n for n in ('voluptuous', 'imagesize', 'einops')"
         " if u.find_spec(n) is None])"], capture_output=True, encoding="utf-8", check=True, cwd=folder,
    )  # fmt: skip
    missing = json.loads(bare.stdout.replace("'", '"'))
    config = load(project / "train.toml", overrides={"optimizer_type": "AdamW"})
    if not missing:
        checkouts.find(config, folder, sys.executable)
        return
    with pytest.raises(RunError, match="lacks") as caught:
        checkouts.find(config, folder, sys.executable)
    assert all(name in str(caught.value) for name in missing)


def test_the_python_of_the_checkout(project, checkout, tmp_path):
    folder = checkout()
    config = load(project / "train.toml")
    assert checkouts.find(config, folder).python == sys.executable
    with pytest.raises(RunError, match="there is no such Python"):
        checkouts.find(config, folder, str(tmp_path / "nothing"))
    with pytest.raises(RunError, match="does not answer"):
        checkouts.find(config, folder, "false" if os.name != "nt" else "where")


def test_print_command_starts_and_writes_nothing(project, capsys):
    config = load(project / "train.toml")
    before = sorted(project.rglob("*"))
    assert sd_scripts.run(config, None, print_command=True) is None
    printed = capsys.readouterr().out
    assert printed.startswith("accelerate launch ")
    assert "sd-scripts/train_network.py" in printed
    assert "--network_dim 4" in printed
    assert "hunter2" not in printed
    assert sorted(project.rglob("*")) == before
