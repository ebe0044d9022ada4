"""Base models from the hub: which files are taken, and a real server in its place that is asked as the hub is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from kohyakit.planning.inputs.hub import needed

pytest.importorskip("huggingface_hub")

COMMIT = "0" * 39 + "1"
# As the repository of Stable Diffusion 1.5 is laid out.
SD15 = [
    ".gitattributes", "README.md", "model_index.json", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors",
    "v1-5-pruned-emaonly.safetensors", "v1-inference.yaml", "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json", "safety_checker/model.safetensors", "scheduler/scheduler_config.json",
    "text_encoder/config.json", "text_encoder/model.fp16.safetensors", "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin", "tokenizer/vocab.json", "unet/config.json",
    "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
]  # fmt: skip
TAKEN = [
    "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors", "text_encoder/config.json", "text_encoder/model.safetensors",
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
]  # fmt: skip


def test_what_a_training_reads_and_no_more() -> None:
    assert needed(SD15) == TAKEN
    shards = [f"unet/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    sharded = [name for name in SD15 if not name.startswith("unet/diff")] + [index, *shards]
    assert [name for name in needed(sharded) if name.startswith("unet")] == ["unet/config.json", index, *shards]
    half = [name for name in SD15 if not name.endswith(("_model.safetensors", "/model.safetensors", ".bin"))]
    assert needed(half) == []  # a U-Net and a VAE without weights
    assert needed(["config.json", "diffusion_pytorch_model.safetensors", "old.ckpt"]) == [
        "config.json", "diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    assert needed(["juggernaut.safetensors", "README.md"]) == []


class Hub(BaseHTTPRequestHandler):
    """What the hub answers: a repository's list, and its files with their hashes."""

    files: ClassVar = {name: f"contents of {name}".encode() for name in SD15}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        prefix = f"/owner/sd15/resolve/{COMMIT}/"
        if path.startswith("/api/models/owner/sd15/tree"):
            told = [{"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in self.files.items()]  # fmt: skip
            self._send(json.dumps(told).encode(), {"Content-Type": "application/json"})
        elif path.startswith("/api/models/owner/sd15"):
            told = {"id": "owner/sd15", "modelId": "owner/sd15", "sha": COMMIT, "private": False, "tags": [],
                    "siblings": [{"rfilename": name} for name in self.files]}  # fmt: skip
            self._send(json.dumps(told).encode(), {"Content-Type": "application/json"})
        elif (data := self.files.get(path.removeprefix(prefix))) is not None:
            if self.command == "GET":
                self.asked.append(path.removeprefix(prefix))
            self._send(data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_model_is_fetched_where_the_person_says_so(hub: str, tmp_path: Path) -> None:
    preset = tmp_path / "a.toml"
    preset.write_text('pretrained_model_name_or_path = "owner/sd15"\ntrain_data_dir = "img"\n', encoding="utf-8")
    env = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    env.pop("HF_HUB_OFFLINE", None)

    def train(*options: str) -> str:
        line = [sys.executable, "-m", "kohyakit", "train", str(preset), *options]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 2
        return done.stderr

    assert "train with --download" in train()
    assert Hub.asked == []
    said = train("--download")  # then the training stops at what this model holds, and at img
    assert "fetched" in said
    assert sorted(Hub.asked) == sorted(TAKEN)
    snapshot = tmp_path / "hf/hub/models--owner--sd15/snapshots" / COMMIT
    assert (snapshot / "vae/config.json").read_bytes() == Hub.files["vae/config.json"]
    assert "img" in said
    assert "train with --download" not in said
    missing = train("--download", "--set", "pretrained_model_name_or_path=owner/other")
    assert "owner/other: could not be fetched from the hub" in missing
    assert "Traceback" not in missing


def test_a_hub_that_nobody_answers_for_is_a_sentence(tmp_path: Path) -> None:
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    env.pop("HF_HUB_OFFLINE", None)
    code = """
from kohyakit.errors import ConfigError
from kohyakit.planning.inputs.hub import fetch
try:
    fetch("owner/other")
except ConfigError as error:
    print(error)
"""
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=env, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.startswith("owner/other: could not be fetched from the hub")
