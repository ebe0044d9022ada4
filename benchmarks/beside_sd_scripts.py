"""A tiny training by kohyakit and by sd-scripts, each as a whole process, in turn: processor time and wall.

    python benchmarks/beside_sd_scripts.py CHECKOUT --python PYTHON            30 steps of the tests' tiny model
    python benchmarks/beside_sd_scripts.py CHECKOUT --python PYTHON --steps    what one step takes, SD 1.x and SDXL

PYTHON has sd-scripts' packages. Both get the same values, in float32, in one thread. Beside each whole process stands
its import floor: the same Python that imports torch, diffusers' and transformers' models and accelerate, and ends.
A step is what a process of many steps takes more than one of few. Processor time is what counts on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohyakit.config.read import read_values
from kohyakit.demo import tiny_model
from kohyakit.demo.pictures import draw
from kohyakit.formats import train_toml
from tests.train import tiny_sdxl

_FLOOR = "import torch, accelerate; from diffusers import AutoencoderKL, UNet2DConditionModel as U; " \
         "from transformers import CLIPTextModel, CLIPTokenizer"  # fmt: skip
_WIDER = {"norm_num_groups": 32}
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds."""

    processor: float
    wall: float


def ended(words: list[str], folder: Path) -> Took:
    """Run a process to its end; its own time and that of what it started."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(words)} failed:\n{(folder / 'log.txt').read_text()[-3000:]}")
    return Took(usage.ru_utime + usage.ru_stime, time.perf_counter() - began)


def values(folder: Path, model: Path, side: int, steps: int) -> dict[str, Any]:
    """What both programs are given."""
    images = folder / "img" / "1_town"
    if not images.is_dir():
        images.mkdir(parents=True)
        for i in range(4):
            draw("town", (side, side), i).save(images / f"{i}.png")
            (images / f"{i}.txt").write_text(f"town, picture {i}", encoding="utf-8")
    return {
        "pretrained_model_name_or_path": str(model), "train_data_dir": str(folder / "img"), "output_name": "tiny",
        "resolution": f"{side},{side}", "caption_extension": ".txt", "train_batch_size": 1, "max_train_steps": steps,
        "network_module": "networks.lora", "network_dim": 16, "network_alpha": 8, "learning_rate": 1e-4, "sdpa": True,
        "optimizer_type": "AdamW", "cache_latents": True, "save_precision": "float", "max_data_loader_n_workers": 0,
        "seed": 1,
    }  # fmt: skip


class Programs:
    """Both, each with the command that trains what a config file asks for."""

    def __init__(self, folder: Path, checkout: Path, python: str, script: str) -> None:
        self.folder, self.pythons = folder, {"kohyakit": sys.executable, "sd-scripts": python}
        runner = str(ROOT / "benchmarks" / "sd_scripts.py")
        self._commands = {
            "kohyakit": [sys.executable, "-m", "kohyakit", "train", "--quiet"],
            "sd-scripts": [python, runner, str(checkout), script, "--config_file"],
        }
        self._script = script

    def train(self, name: str, asked: dict[str, Any]) -> Took:
        """A whole process, from its start to the file that it saves."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        config, _ = read_values({**asked, "output_dir": str(place / "out"), "script": self._script}, "benchmark")
        (place / "config.toml").write_text(train_toml.dumps(config), encoding="utf-8")
        return ended([*self._commands[name], str(place / "config.toml")], place)

    def floor(self, name: str) -> Took:
        """Its Python with the imports alone."""
        return ended([self.pythons[name], "-c", _FLOOR], self.folder)


def whole(programs: Programs, model: Path, rounds: int) -> None:
    """30 steps of the smallest model, over the import floor."""
    took: dict[tuple[str, str], list[Took]] = {}
    for _ in range(rounds):
        for name in programs.pythons:
            took.setdefault((name, "imports"), []).append(programs.floor(name))
            took.setdefault((name, "whole"), []).append(programs.train(name, values(programs.folder, model, 128, 30)))
    print("| program | imports, CPU s | whole, CPU s | whole, wall s | whole over imports |\n|---|---|---|---|---|")
    for name in programs.pythons:
        floor, run = took[name, "imports"], took[name, "whole"]
        over = statistics.median(a.processor / b.processor for a, b in zip(run, floor, strict=True))
        cells = [_median(floor, "processor"), _median(run, "processor"), _median(run, "wall"), over]
        print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    pairs = zip(took["kohyakit", "whole"], took["sd-scripts", "whole"], strict=True)
    ratios = [(a.processor / b.processor, a.wall / b.wall) for a, b in pairs]
    print(f"kohyakit over sd-scripts: CPU {_middle(ratios, 0):.2f}, wall {_middle(ratios, 1):.2f}\n")


def a_step(programs: Programs, model: Path, rounds: int, family: str) -> None:
    """What 12 more steps take, and the share of it."""
    spent: dict[str, list[float]] = {name: [] for name in programs.pythons}
    for _ in range(rounds):
        for name, kept in spent.items():
            few, many = (programs.train(name, values(programs.folder, model, 512, steps)) for steps in (2, 14))
            kept.append((many.processor - few.processor) / 12)
    for name, kept in spent.items():
        print(f"{family}, {name}: {statistics.median(kept):.3f} CPU s a step")
    ratio = statistics.median(a / b for a, b in zip(*spent.values(), strict=True))
    print(f"{family}: kohyakit over sd-scripts {ratio:.2f}\n")


def _median(took: list[Took], part: str) -> float:
    return statistics.median(getattr(one, part) for one in took)


def _middle(pairs: list[tuple[float, float]], place: int) -> float:
    return statistics.median(pair[place] for pair in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--steps", action="store_true", help="what one step takes")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        programs = Programs(folder, asked.checkout, asked.python, "train_network.py")
        if not asked.steps:
            whole(programs, tiny_model.write_tiny_model(folder / "tiny"), asked.rounds)
            return
        tiny_model.UNET.update(_WIDER, block_out_channels=(32, 64, 128, 128), cross_attention_dim=64)
        tiny_model.TEXT.update(hidden_size=64)
        a_step(programs, tiny_model.write_tiny_model(folder / "sd1"), asked.rounds, "SD 1.x")
        tiny_sdxl.TINY_UNET.update(
            _WIDER,
            block_out_channels=(32, 64, 128),
            attention_head_dim=[1, 2, 4],
            transformer_layers_per_block=[1, 2, 10],
        )
        programs = Programs(folder, asked.checkout, asked.python, "sdxl_train_network.py")
        a_step(programs, tiny_sdxl.write_tiny_sdxl(folder / "sdxl"), asked.rounds, "SDXL")


if __name__ == "__main__":
    main()
