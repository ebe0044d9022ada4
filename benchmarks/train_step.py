"""Seconds a step of the trainer over seconds a step of a bare loop, in one run.

    python benchmarks/train_step.py            a U-Net a tenth as wide as SD 1.5's, latents of 64x64
    python benchmarks/train_step.py --full     SD 1.5's true shape (needs 12 GB of memory and patience on a CPU)

The bare loop has the same frozen U-Net, the same LoRA and optimizer, and its tensors ready: forward, backward, step.
Its steps and the trainer's take turns, so that a busy machine slows both alike. What the trainer adds (latents, text,
noise, clipping, schedule, logs, record) is timed part by part.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

from kohyakit.config.read import read_values
from kohyakit.demo import tiny_model
from kohyakit.demo.pictures import draw
from kohyakit.models.conditioning import encode_prompts
from kohyakit.train import start
from kohyakit.train.step.latents import LatentSource
from kohyakit.train.trainer import Trainer

SMALL = {"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 64, "norm_num_groups": 32}
FULL = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "norm_num_groups": 32}


def project(folder: Path, full: bool, steps: int) -> dict[str, object]:
    """A model and one picture of 512x512, which is 64x64 as latents."""
    tiny_model.UNET.update(FULL if full else SMALL)
    tiny_model.TEXT.update(hidden_size=tiny_model.UNET["cross_attention_dim"], num_hidden_layers=12 if full else 6)
    model = tiny_model.write_tiny_model(folder / "model")
    images = folder / "img" / f"{steps}_town"
    images.mkdir(parents=True)
    draw("town", (512, 512), 1).save(images / "a.png")
    return {
        "pretrained_model_name_or_path": str(model), "train_data_dir": str(folder / "img"), "resolution": "512,512",
        "output_dir": str(folder / "out"), "network_module": "networks.lora", "network_dim": 16, "network_alpha": 8,
        "network_train_unet_only": True, "cache_latents": True, "learning_rate": 1e-4, "optimizer_type": "AdamW",
        "max_train_epochs": 1, "seed": 1,
    }  # fmt: skip


def parts_of(trainer_class: type) -> dict[str, float]:
    """Wrap the trainer's parts so that each adds up its seconds."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(owner: type, name: str, title: str) -> None:
        plain = getattr(owner, name)

        def wrapper(*args: object, **kwargs: object) -> object:
            began = time.perf_counter()
            try:
                return plain(*args, **kwargs)
            finally:
                seconds[title] += time.perf_counter() - began

        setattr(owner, name, wrapper)

    timed(LatentSource, "__call__", "latents")
    timed(trainer_class, "_condition", "text encoder")
    timed(trainer_class, "_optimize", "clipping and optimizer")
    timed(trainer_class, "_loss", "forward, all of it")
    return seconds


class BareLoop:
    """The same network on ready tensors, with an optimizer of its own."""

    def __init__(self, trainer: Trainer) -> None:
        self.unet, device = trainer.parts.model.unet, trainer.device
        generator = torch.Generator().manual_seed(1)
        self.noisy = torch.randn(1, 4, 64, 64, generator=generator).to(device)
        self.target = torch.randn(1, 4, 64, 64, generator=generator).to(device)
        with torch.no_grad():
            ids = torch.full((1, 1, 77), 49407, device=device)
            self.states = encode_prompts(trainer.parts.model.text_encoder, ids)
        self.timestep = torch.tensor([500], device=device)
        self.optimizer = torch.optim.AdamW(list(trainer.parts.trained.parameters()), lr=1e-4)

    def step(self) -> float:
        """Train one step; returns its seconds."""
        began = time.perf_counter()
        prediction = self.unet(self.noisy, self.timestep, self.states).sample
        torch.nn.functional.mse_loss(prediction, self.target).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="SD 1.5's true shape")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    ours: list[float] = []
    bare: list[float] = []
    loops: list[BareLoop] = []
    plain = Trainer._train_batch

    def both(self: Trainer, *args: object, **kwargs: object) -> None:
        if not loops:
            loops.append(BareLoop(self))
        began = time.perf_counter()
        plain(self, *args, **kwargs)
        ours.append(time.perf_counter() - began)
        bare.append(loops[0].step())

    Trainer._train_batch = both
    seconds = parts_of(Trainer)
    with tempfile.TemporaryDirectory() as folder:
        config, _ = read_values(project(Path(folder), options.full, options.steps), "benchmark")
        start.train_network(config, progress=False, echo=lambda text: None)
    ratios = [a / b for a, b in zip(ours[2:], bare[2:], strict=True)]
    print(f"trainer {statistics.median(ours[2:]):.4f} s a step, bare loop {statistics.median(bare[2:]):.4f} s a step")
    print(f"ratio {statistics.median(ratios):.3f} (median of {len(ratios)} pairs)")
    for title, total in seconds.items():
        print(f"  {title:<24} {total / len(ours):.4f} s a step")


if __name__ == "__main__":
    main()
