"""What a command does not load: a list of modules is a steadier test than milliseconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate", "streamlit", "pandas", "numpy", "PIL", "cv2")

# Runs `work`, then tells on its last line which heavy modules are loaded and the CPU time since the start.
TELL = """
import json, sys, time
try:
    {work}
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([[name for name in {heavy!r} if name in sys.modules], time.process_time()]))
"""


def loaded_by(work: str, cwd: Path = ROOT) -> tuple[list[str], float]:
    """Heavy modules and seconds of CPU of a fresh interpreter that does `work`."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + TELL.format(work=work, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", cwd=cwd)
    assert done.returncode == 0, done.stderr
    names, seconds = json.loads(done.stdout.splitlines()[-1])
    return names, seconds


def command(*args: str) -> str:
    return f"from kohyakit.cli import main; main({list(args)!r})"


def test_the_measure_sees_what_is_loaded():
    pytest.importorskip("numpy")
    assert loaded_by("import numpy")[0] == ["numpy"]


@pytest.mark.parametrize(
    ("work", "budget"),
    [
        ("import kohyakit", 1.0),
        (command("--help"), 1.5),
        (command("check", "--help"), 2.0),
        (command("train", "--help"), 2.0),
        (command("templates", "list"), 3.0),
        (command("explain", "network_dim"), 3.0),
        (command("schema"), 3.0),
    ],
)
def test_nothing_heavy_is_loaded(work, budget):
    """The budget is several times what it takes, for slow and busy machines."""
    names, seconds = loaded_by(work)
    assert names == []
    assert seconds < budget


def test_check_reads_images_without_pillow_and_numpy(picture, tmp_path):
    """The whole of it: images, captions, buckets, prompts. Only --decode needs Pillow and numpy."""
    for i in range(3):
        path = picture(f"img/2_sks dog/{i}.jpg", (320, 256), orientation=1 + 5 * (i == 1))
        path.with_suffix(".txt").write_text("sks dog, a long walk", encoding="utf-8")
    model = tmp_path / "model.safetensors"
    model.write_bytes((2).to_bytes(8, "little") + b"{}")
    preset = {
        "LoRA_type": "Standard", "pretrained_model_name_or_path": str(model), "train_data_dir": str(tmp_path / "img"),
        "output_dir": str(tmp_path / "out"), "output_name": "dog", "max_resolution": "256,256", "epoch": 1,
        "max_train_steps": 0, "caption_extension": ".txt", "network_dim": 8, "network_alpha": 4,
        "sample_every_n_epochs": 1, "sample_prompts": "sks dog --w 64 --h 64",
    }  # fmt: skip
    (tmp_path / "preset.json").write_text(json.dumps(preset), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kohyakit", "check", "preset.json", "--json"],
        capture_output=True, text=True, encoding="utf-8", cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},  # a card's build of torch is asked for
    )  # fmt: skip
    assert json.loads(done.stdout)["steps"] == 6
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert imported & {*HEAVY, "concurrent", "logging", "pickletools", "zipfile"} == set()
    assert "click" in imported
