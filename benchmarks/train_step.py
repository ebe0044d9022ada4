"""Time and memory of a step of the trainer over those of bare loops, in one run, for two shapes of U-Net.

    python benchmarks/train_step.py                       a U-Net a tenth as wide as SD 1.5's, latents of 64x64
    python benchmarks/train_step.py --family sdxl         the same of SDXL's, which has 70 transformer blocks
    python benchmarks/train_step.py --levers all          what each lever brings or costs, beside the plain training
    python benchmarks/train_step.py --full                the true shape (needs 12 GB of memory and patience on a CPU)

`diffusers` is a loop by hand over the same frozen U-Net with the same LoRA: noise, forward, backward, clipping, AdamW.
`peft` is that loop over diffusers' own `add_adapter`, a LoRA on the same layers. In all of them latents and captions
are encoded before. Their steps and the trainer's take turns, so that a busy machine slows all alike, and processor
time is what counts. Memory is the most that all tensors of a step take together, weights included, counted as they
come and go.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn
from train_memory import Count

from kohyakit.config.arguments.presets import lora_preset
from kohyakit.config.read import read_values
from kohyakit.demo import tiny_model
from kohyakit.demo.pictures import draw
from kohyakit.models import Model, load_model
from kohyakit.networks.methods.lora import LoraNetwork, LoraSettings
from kohyakit.train import start
from kohyakit.train.trainer import Trainer
from kohyakit.words import memory
from tests.train import tiny_sdxl

RANK, ALPHA = 16, 8
WIDTHS = {"sd1": (32, 64, 128, 128), "sdxl": (32, 64, 128)}
FULL_WIDTHS = {"sd1": (320, 640, 1280, 1280), "sdxl": (320, 640, 1280)}
SCRIPTS = {"sd1": "train_network.py", "sdxl": "sdxl_train_network.py"}
_CHECKPOINTING = {"gradient_checkpointing": True}
LEVERS: dict[str, dict[str, Any]] = {
    "joined_qkv": {"joined_qkv": True},
    "gradient_checkpointing": _CHECKPOINTING,
    "cpu_offload_checkpointing": {**_CHECKPOINTING, "cpu_offload_checkpointing": True},
    "blocks_to_swap": {**_CHECKPOINTING, "blocks_to_swap": 99},
    "fp8_base": {"fp8_base": True},
    "network_train_unet_only off": {"network_train_unet_only": False, "cache_text_encoder_outputs": False},
    "rng_order sd-scripts": {"rng_order": "sd-scripts"},
    "torch_compile": {"torch_compile": True},
}


def write_model(folder: Path, family: str, *, full: bool) -> Path:
    """Random weights; text encoders and VAE stay small, as nothing of them is in a step."""
    widths = (FULL_WIDTHS if full else WIDTHS)[family]
    if family == "sd1":
        context = 768 if full else 64
        tiny_model.UNET.update(block_out_channels=widths, cross_attention_dim=context, norm_num_groups=32)
        tiny_model.TEXT.update(hidden_size=context)
        return tiny_model.write_tiny_model(folder)
    heads = [width // 64 for width in widths] if full else [1, 2, 4]
    tiny_sdxl.TINY_UNET.update(
        block_out_channels=widths, norm_num_groups=32, attention_head_dim=heads, transformer_layers_per_block=[1, 2, 10]
    )
    return tiny_sdxl.write_tiny_sdxl(folder)


def settings(folder: Path, model: Path, family: str, steps: int) -> dict[str, Any]:
    """One picture of 512x512, which is 64x64 as latents, again and again."""
    images = folder / "img" / f"{steps}_town"
    images.mkdir(parents=True)
    draw("town", (512, 512), 1).save(images / "a.png")
    return {
        "pretrained_model_name_or_path": str(model), "train_data_dir": str(folder / "img"), "resolution": "512,512",
        "output_dir": str(folder / "out"), "network_module": "networks.lora", "network_dim": RANK,
        "network_alpha": ALPHA, "network_train_unet_only": True, "cache_latents": True,
        "cache_text_encoder_outputs": True, "learning_rate": 1e-4, "optimizer_type": "AdamW", "max_train_epochs": 1,
        "seed": 1, "script": SCRIPTS[family],
    }  # fmt: skip


class Loop:
    """What people write themselves: latents and states are there, all else of a step is in it."""

    def __init__(self, path: Path, family: str, *, peft: bool) -> None:
        model = load_model(str(path), family=family)
        self.unet: Any = model.unet.requires_grad_(False)
        self.network = _with_peft(model) if peft else _beside(model)
        self.parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
        self.noise: Any = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        config = self.unet.config
        self.latents, self.states = torch.randn(1, 4, 64, 64), torch.randn(1, 77, config.cross_attention_dim)
        pooled = (config.projection_class_embeddings_input_dim or 1536) - 6 * 256
        self.added = {"text_embeds": torch.randn(1, pooled), "time_ids": torch.tensor([[512.0, 512, 0, 0, 512, 512]])}

    def step(self) -> None:
        noise, timesteps = torch.randn_like(self.latents), torch.randint(0, 1000, (1,))
        noisy = self.noise.add_noise(self.latents, noise, timesteps)
        found = self.unet(noisy, timesteps, self.states, added_cond_kwargs=self.added).sample
        nn.functional.mse_loss(found, noise).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> Iterator[Tensor]:
        """All that lasts."""
        return _lasting((self.unet, self.network), self.optimizer)


def _lasting(modules: tuple[nn.Module, ...], optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def _beside(model: Model) -> nn.Module:
    network = LoraNetwork.over(model, LoraSettings(RANK, ALPHA), _fill)
    network.attach(text_encoder=False)
    return network


def _fill(name: str, layer: Any) -> None:
    nn.init.kaiming_uniform_(layer.lora_down.weight, a=5**0.5)
    nn.init.zeros_(layer.lora_up.weight)


def _with_peft(model: Model) -> nn.Module:
    from peft import LoraConfig

    layers = model.layers(lora_preset(convolutions=False))
    wanted = [target.layer.name for target, _ in layers if not target.part]
    unet: Any = model.unet
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=wanted))
    return unet


@contextmanager
def beside(loops: dict[str, Loop], seconds: dict[str, list[float]], peaks: dict[str, int]) -> Iterator[None]:
    """Each loop takes a step after each of the trainer's; the second of each is the one whose memory is counted."""
    plain = Trainer._train_batch

    def turn(self: Trainer, *args: Any, **kwargs: Any) -> None:
        def lasting() -> Iterator[Tensor]:
            return _lasting((self.parts.model.unet, self.parts.trained), self.parts.built.optimizer)  # type: ignore[arg-type]

        everyone: dict[str, tuple[Callable[[], Any], Callable[[], Iterator[Tensor]]]] = {
            "trainer": (lambda: plain(self, *args, **kwargs), lasting),
            **{name: (loop.step, loop.tensors) for name, loop in loops.items()},
        }
        for name, (step, tensors) in everyone.items():
            if len(seconds.setdefault(name, [])) == 1:
                with Count() as count:
                    for tensor in tensors():
                        count.add(tensor)
                    step()
                peaks[name] = count.peak
                seconds[name].append(0)
                continue
            began = time.process_time()
            step()
            seconds[name].append(time.process_time() - began)

    Trainer._train_batch = turn  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer._train_batch = plain  # type: ignore[method-assign]


def measure(values: dict[str, Any], loops: dict[str, Loop]) -> dict[str, tuple[float, float]]:
    """Of each loop: the trainer's time over its, the median of all turns, and the trainer's memory over its."""
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    config, problems = read_values(values, "benchmark")
    assert not [problem for problem in problems if problem.severity == "error"], problems
    with beside(loops, seconds, peaks):
        start.train_network(config, progress=False, echo=_compiled)
    for name, spent in seconds.items():
        print(f"  {name:<10} {statistics.median(spent[2:]):.3f} s a step, {memory(peaks[name])}")
    return {
        name: (
            statistics.median(a / b for a, b in zip(seconds["trainer"][2:], seconds[name][2:], strict=True)),
            peaks["trainer"] / peaks[name],
        )
        for name in loops
    }


def _compiled(line: str) -> None:
    if "compil" in line:
        print(f"  {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=("sd1", "sdxl"), default="sd1")
    parser.add_argument("--full", action="store_true", help="the true shape")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--levers", default="", help="all, or their names: " + ", ".join(LEVERS))
    options = parser.parse_args()
    names = list(LEVERS) if options.levers == "all" else [name for name in options.levers.split(",") if name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = write_model(folder / "model", options.family, full=options.full)
        values = settings(folder, model, options.family, options.steps)
        loops = {name: Loop(model, options.family, peft=name == "peft") for name in ("diffusers", "peft")}
        print(f"{options.family}, {torch.get_num_threads()} threads, {options.steps - 2} turns")
        plain = measure(values, loops)
        for name, (times, sizes) in plain.items():
            print(f"trainer over {name}: time {times:.3f}, memory {sizes:.3f}")
        del loops["peft"]
        for name in names:
            times, sizes = measure({**values, **LEVERS[name], "output_dir": str(folder / name)}, loops)["diffusers"]
            before = plain["diffusers"]
            print(f"{name}: time {times / before[0]:.3f}, memory {sizes / before[1]:.3f} of the plain training")


if __name__ == "__main__":
    main()
