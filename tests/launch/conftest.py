"""A project with two pictures, and a checkout in sd-scripts' shape whose train_network.py is a small real program."""

from __future__ import annotations

import struct
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

# As sd-scripts: reads --config_file as TOML, prints as it goes, writes files. A test adds what comes then.
SCRIPT = """
import argparse, logging, pathlib, sys, time, tomllib
parser = argparse.ArgumentParser()
parser.add_argument("--config_file")
parser.add_argument("--max_train_steps", type=int)
args = parser.parse_args()
tables = tomllib.loads(pathlib.Path(args.config_file).read_text(encoding="utf-8"))
values = {k: v for table in tables.values() for k, v in table.items()}

def save(name):
    out = pathlib.Path(values["output_dir"])
    out.mkdir(exist_ok=True)
    (out / name).write_bytes(b"weights")

print("running training / 学習開始", flush=True)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Callable[[str], Path]:
    """Make a checkout whose training program ends with the given lines."""

    def make(then: str = "", script: str = "train_network.py") -> Path:
        folder = tmp_path / "sd scripts"
        (folder / "library").mkdir(parents=True, exist_ok=True)
        (folder / "library" / "__init__.py").touch()
        (folder / script).write_text(SCRIPT + textwrap.dedent(then), encoding="utf-8")
        (folder / ".git" / "refs").mkdir(parents=True, exist_ok=True)
        (folder / ".git" / "HEAD").write_text("ref: refs/main\n", encoding="utf-8")
        (folder / ".git" / "refs" / "main").write_text("0123456789abcdef\n", encoding="utf-8")
        (folder / "requirements.txt").write_text("torch\n", encoding="utf-8")
        for module in ("voluptuous", "imagesize", "einops", "tensorboard", "diffusers", "cv2", "toml"):
            (folder / f"{module}.py").touch()  # the probe asks only whether they are there
        return folder

    return make


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x80" * 3 * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """img/1_sks dog with two pictures and captions, and train.toml beside it."""
    folder = tmp_path / "project"
    images = folder / "img" / "1_sks dog"
    images.mkdir(parents=True)
    for name in ("a", "b"):
        (images / f"{name}.png").write_bytes(png(64, 64))
        (images / f"{name}.txt").write_text("sks dog", encoding="utf-8")
    (folder / "train.toml").write_text(
        textwrap.dedent(f"""
        pretrained_model_name_or_path = "somebody/some-model"
        train_data_dir = "{(folder / "img").as_posix()}"
        output_dir = "{(folder / "model").as_posix()}"
        output_name = "dog"
        resolution = "64,64"
        caption_extension = ".txt"
        network_module = "networks.lora"
        network_dim = 4
        learning_rate = 1e-4
        max_train_steps = 4
        save_every_n_steps = 2
        wandb_api_key = "hunter2-hunter2"
        """),
        encoding="utf-8",
    )
    return folder
