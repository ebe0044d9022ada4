"""From the command to the first step: what imports, the model and the rest take, and what --help and check cost.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kohyakit.demo.project import make_project

_FIRST_STEP = """
import sys, time
began = time.perf_counter()
import torch, diffusers, transformers, accelerate
from kohyakit import load
from kohyakit.train import assemble, start, trainer
imported = time.perf_counter()
marks = {}
def marked(owner, name):
    plain = getattr(owner, name)
    def wrapper(*args, **kwargs):
        marks.setdefault(name, []).append(time.perf_counter())
        result = plain(*args, **kwargs)
        marks[name].append(time.perf_counter())
        return result
    setattr(owner, name, wrapper)
for owner, name in ((assemble, "_model"), (assemble, "_cache"), (trainer.Trainer, "_train_batch")):
    marked(owner, name)
start.train_network(load(sys.argv[1], overrides={"max_train_steps": "1", "sample_every_n_epochs": "0"}), progress=False,
                    skip_bad_images=True, echo=lambda text: None)
first = marks["_train_batch"][1]
spent = lambda name: marks[name][1] - marks[name][0]
print(imported - began, spent("_model"), spent("_cache"), spent("_train_batch"), first - began)
"""


def cpu_seconds(command: list[str]) -> tuple[float, float]:
    """(CPU, wall) of a command."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "demo")
        nothing = min(cpu_seconds([sys.executable, "-c", "pass"])[0] for _ in range(5))
        print(f"python -c pass           {nothing:.3f} s of CPU")
        for title, arguments in {"--help": ["--help"], "check (18 pictures)": ["check", str(project.preset)]}.items():
            command = [sys.executable, "-m", "kohyakit", *arguments]
            cpu = min(cpu_seconds(command)[0] for _ in range(5))
            print(f"kohyakit {title:<20} {cpu:.3f} s of CPU, {cpu / nothing:.1f} times python alone")
        output = subprocess.run(
            [sys.executable, "-c", _FIRST_STEP, str(project.preset)], check=True, capture_output=True, text=True
        )
        imports, model, latents, step, total = map(float, output.stdout.split()[-5:])
        print(f"kohyakit train, to the end of the first step: {total:.2f} s")
        rest = total - imports - model - latents - step
        parts = {"imports": imports, "model": model, "latents": latents, "step": step, "rest": rest}
        for title, seconds in parts.items():
            print(f"  {title:<10} {seconds:6.2f} s {seconds / total:6.1%}")


if __name__ == "__main__":
    main()
