"""`kohyakit check` as a person and a program see it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import stand_in
from tests.door import kohyakit as run

pytest.importorskip("PIL.Image")


def in_a_process(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kohyakit", *map(str, args)], capture_output=True, text=True, encoding="utf-8", cwd=cwd
    )


@pytest.fixture
def project(picture, tmp_path: Path) -> Path:
    for letter in "abc":
        picture(f"img/5_sks Hund 犬/{letter}.png", (80, 80)).with_suffix(".txt").write_text("a dog", encoding="utf-8")
    (tmp_path / "prompts.txt").write_text("church --w 768--h 640 --s 35 --n Anime\n", encoding="utf-8")
    (tmp_path / "config.toml").write_text(
        "\n".join(
            [
                f'train_data_dir = "{(tmp_path / "img").as_posix()}"',
                f'output_dir = "{(tmp_path / "out").as_posix()}"',
                f'sample_prompts = "{(tmp_path / "prompts.txt").as_posix()}"',
                'output_name = "dog"', 'caption_extension = ".txt"', 'resolution = "64,64"', "enable_bucket = true",
                "bucket_no_upscale = true", "min_bucket_reso = 64", "max_train_epochs = 3", "save_every_n_epochs = 1",
                "sample_every_n_epochs = 1", 'network_module = "networks.lora"', "network_dim = 8",
                "network_alpha = 4", "learning_rate = 1e-4",
            ]
        ),
        encoding="utf-8",
    )  # fmt: skip
    return tmp_path


@pytest.fixture
def model(project: Path) -> Path:
    """A small Stable Diffusion 1.x by its configs and headers, which is all that check reads of it."""
    stand_in.folder(project / "base")
    return project / "base"


def test_what_a_person_sees(project: Path, model: Path) -> None:
    done = in_a_process("check", "config.toml", "--set", f"pretrained_model_name_or_path={model}", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert "5_sks Hund 犬      3 images x 5   3 captions" in out
    assert "45 steps = 3 epochs of 15" in out
    assert "606,240 bytes" in out.replace("518,984", "")
    assert "dog-000001.safetensors  step 15" in out
    assert "768x640, 35 steps, scale 7.5, any seed, ddim" in out
    assert "Ready to train" in out
    assert max(len(line) for line in out.splitlines()) <= 79
    assert "\x1b[" not in out


def test_the_same_as_one_object(project: Path, model: Path) -> None:
    done = run("check", "config.toml", "--json", "--set", f"pretrained_model_name_or_path={model}", cwd=project)
    data = json.loads(done.stdout)
    assert (done.returncode, data["ok"], data["steps"], data["epochs"]) == (0, True, 45, 3)
    (sample,) = data["samples"]
    assert (sample["width"], sample["height"], sample["sample_steps"]) == (768, 640, 35)
    assert sample["negative_prompt"] == "Anime"
    assert data["learning_rates"] == {"unet": 1e-4, "text_encoder": [1e-4], "set_by_optimizer": False}
    assert data["lora"]["bytes"] == 606_240
    assert [row["file"] for row in data["files"]] == [
        "dog-000001.safetensors", "dog-000002.safetensors", "dog.safetensors",
    ]  # fmt: skip


def test_what_stops_a_training_gives_1(project: Path) -> None:
    (project / "img/5_sks Hund 犬/bad.jpg").write_bytes(b"")
    done = run("check", "config.toml", cwd=project)
    assert done.returncode == 1
    assert "bad.jpg: it is empty (0 bytes)" in done.stdout
    assert "no base model is named" in done.stdout
    assert "Not ready: 2 errors" in done.stdout
    assert done.stderr == ""


def test_many_of_a_kind_are_not_all_shown(project: Path) -> None:
    for number in range(30):
        (project / f"img/5_sks Hund 犬/bad{number}.jpg").write_bytes(b"")
    out = run("check", "config.toml", cwd=project).stdout
    assert out.count("it is empty") == 4
    assert "... 26 more of these" in out
    found = json.loads(run("check", "config.toml", "--json", cwd=project).stdout)["findings"]
    assert sum(row["name"] == "undecodable" for row in found) == 30


@pytest.mark.parametrize(
    ("name", "text", "args", "told"),
    [
        ("a.json", "{broken", [], "a.json"),
        ("a.toml", "x = = 1", [], "a.toml"),
        ("a.toml", 'resolution = "64"\nnetwork_dim = -3\nmax_train_epochs = "x"', [], "network_dim"),
        ("a.toml", "seed = 1", ["--set", "sed=2"], "sed"),
        ("a.toml", "seed = 1", ["--set", "nothing"], "name=value"),
        ("a.toml", "seed = 1", ["--nonsense"], "No such option"),
    ],
)
def test_wrong_use_gives_2_and_no_traceback(tmp_path: Path, name: str, text: str, args: list[str], told: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    done = run("check", name, *args, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_wrong_use_as_data(tmp_path: Path) -> None:
    done = run("check", tmp_path / "none.toml", "--json")
    data = json.loads(done.stdout)
    assert (done.returncode, data["ok"], len(data["findings"])) == (2, False, 1)


def test_a_dataset_config(project: Path, model: Path) -> None:
    folder = (project / "img/5_sks Hund 犬").as_posix()
    text = f'[[datasets]]\nresolution = 64\nbatch_size = 2\n[[datasets.subsets]]\nimage_dir = "{folder}"\n'
    (project / "data.toml").write_text(text, encoding="utf-8")
    done = run("check", "config.toml", "--dataset-config", "data.toml", "--json", cwd=project)
    data = json.loads(done.stdout)
    assert [row["repeats"] for row in data["subsets"]] == [1]
    assert (data["batches_per_epoch"], data["steps"]) == (2, 6)


def test_what_the_built_in_trainer_does_not_do(project: Path, model: Path) -> None:
    args = ["check", "config.toml", "--json", "--set", f"pretrained_model_name_or_path={model}", "--set"]
    args.append("resume_from_huggingface=true")
    ours, theirs = run(*args, cwd=project), run(*args, "--backend", "sd-scripts", cwd=project)
    assert (ours.returncode, theirs.returncode) == (1, 0)
    errors = [row["where"] for row in json.loads(ours.stdout)["findings"] if row["severity"] == "error"]
    assert errors == ["resume_from_huggingface"]


def test_decoding_finds_what_headers_hide(project: Path, picture) -> None:
    path = picture("img/5_sks Hund 犬/hurt.png", (80, 80))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    quick = json.loads(run("check", "config.toml", "--json", cwd=project).stdout)["findings"]
    slow = json.loads(run("check", "config.toml", "--json", "--decode", cwd=project).stdout)["findings"]
    assert not any("hurt.png" in row["where"] for row in quick)
    assert any("hurt.png" in row["where"] and row["severity"] == "error" for row in slow)


def test_check_loads_nothing_heavy(project: Path) -> None:
    code = (
        "import sys; from kohyakit.cli import group; "
        "group.main(['check', 'config.toml', '--json'], standalone_mode=False) if False else None\n"
        "from kohyakit.formats import load; from kohyakit.planning.make import make_plan; import kohyakit.cli.check\n"
        "import kohyakit.cli.views.plan; make_plan(load('config.toml'))\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'pandas', 'PIL', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=project)


def test_errors_come_first_and_there_is_no_plan_of_nothing(project: Path, model: Path) -> None:
    done = run("check", "config.toml", "--set", f"pretrained_model_name_or_path={model}", "--set", "v2=1", cwd=project)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("error     ")
    assert any(line.startswith("Length") for line in lines)
    assert lines[-1].startswith("Not ready: 1 error")
    nothing = ["check", "config.toml", "--set", "train_data_dir=none", "--set", f"vae={model}"]
    done = run(*nothing, cwd=project)
    assert done.returncode == 1
    assert not [line for line in done.stdout.splitlines() if line.startswith(("Model", "Length", "Files", "Memory"))]
    data = json.loads(run(*nothing, "--json", cwd=project).stdout)
    assert set(data) == {"ok", "ok_here", "findings"}
    assert "folder_missing" in [row["name"] for row in data["findings"]]


def test_what_this_machine_lacks_is_no_fault_of_the_settings(
    project: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    settings = [f"pretrained_model_name_or_path={model}", "mixed_precision=fp16"]
    done = in_a_process("check", "config.toml", *(part for text in settings for part in ("--set", text)), cwd=project)
    assert "[gpu_missing]" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Ready to train, but not on this machine: 1 warning")
