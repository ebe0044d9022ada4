"""What computes here: torch and onnxruntime are asked in a process of their own, which may fail as it likes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from kohyakit.errors import Problem
from kohyakit.resources import safe_environment
from kohyakit.words import count, memory

_SECONDS = 120
_PROBE = """\
import json, sys
found = {}
try:
    import torch
    found["torch"] = torch.__version__
    found["threads"] = torch.get_num_threads()
    if torch.cuda.is_available():
        found["cuda"] = torch.version.cuda or torch.version.hip
        found["cards"] = [
            {"name": p.name, "bytes": p.total_memory, "bf16": p.major >= 8 or bool(torch.version.hip)}
            for p in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        ]
    elif torch.version.cuda:
        found["built_for"] = torch.version.cuda
    found["mps"] = bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available())
except ModuleNotFoundError as error:
    found["torch_missing"] = error.name == "torch"
except Exception as error:
    found["torch_error"] = f"{type(error).__name__}: {error}"
try:
    import onnxruntime
    found["onnxruntime"] = onnxruntime.get_available_providers()
except ModuleNotFoundError:
    pass
except Exception as error:
    found["onnxruntime_error"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(found))
"""


def ask() -> Mapping[str, Any]:
    """What the probe found: torch, cuda, cards (name, bytes, bf16), mps, onnxruntime's providers, or errors."""
    import os

    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE], capture_output=True, text=True, encoding="utf-8", errors="replace",
            timeout=_SECONDS, env={**os.environ, **safe_environment()}, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"torch_error": f"asking took too long or failed ({type(error).__name__})"}
    lines = done.stdout.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"torch_error": f"the process that asked ended with {last}"}


def in_words(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(what, how it is) for each device."""
    cards = found.get("cards", ())
    for number, card in enumerate(cards, start=1):
        half = "bf16 and fp16" if card["bf16"] else "fp16, no bf16"
        yield f"{number}: {card['name']}" if len(cards) > 1 else card["name"], f"{memory(card['bytes'])}, {half}"
    if found.get("mps"):
        yield "Apple GPU", "through MPS"
    if "torch" in found and not found.get("cards") and not found.get("mps"):
        threads = f"{count(int(found['threads']), 'thread')} of " if "threads" in found else ""
        yield "no GPU", f"that torch can use: trainings compute on {threads}the processor"
    if "onnxruntime" in found:
        yield "taggers", "on " + ", ".join(name.removesuffix("ExecutionProvider") for name in found["onnxruntime"])


def problems(found: Mapping[str, Any], *, has_nvidia: bool) -> Iterator[Problem]:
    """has_nvidia: whether an NVIDIA driver is seen on this machine."""
    for name in ("torch", "onnxruntime"):
        if f"{name}_error" in found:
            what = f"is installed but does not start: {found[f'{name}_error']}"
            yield Problem(name, what, f"install {name} anew", "package_broken", "error")
    if has_nvidia and "torch" in found and not found.get("cards"):
        if "built_for" in found:
            what = f"is built for CUDA {found['built_for']} and finds no card, though a driver is there"
            cure = "update the driver, and look at CUDA_VISIBLE_DEVICES"
        else:
            what = "is a build without CUDA, though an NVIDIA card's driver is there"
            cure = "install the build for your card with the line that pytorch.org gives"
        yield Problem("torch", what, cure, "gpu_unused", "warning")
