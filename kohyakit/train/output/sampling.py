"""Pictures drawn from the sample prompts while training, as sd-scripts draws them.

The mathematics and the random numbers are sd-scripts'; better than there, the LoRA's dropout is off while drawing
(the trainer sees to it), a prompt that fails does not end the training, and every picture carries its settings.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kohyakit.config.sections.model import ModelConfig
from kohyakit.errors import Problem, RunError
from kohyakit.files import in_place_of, is_link
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.models.base import Model
from kohyakit.networks.base import at_strength
from kohyakit.train.out_of_memory import is_out_of_memory
from kohyakit.train.step.placing import brought

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = "sample"
INDEX = "samples.jsonl"
_PLAIN = ModelConfig()


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One line of `samples.jsonl` beside the pictures; seed is the one that was used, given or not."""

    file: str
    epoch: int | None
    step: int
    index: int
    prompt: str
    negative_prompt: str
    width: int
    height: int
    sample_steps: int
    scale: float
    seed: int
    sampler: str
    time: str
    run: str
    network_multiplier: float = 1.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the pictures of one moment are called by, below `folder`/sample.

    epoch: the epoch just ended (0 before the first), or None within an epoch, which puts the step into the name.
    """

    folder: Path
    name: str
    epoch: int | None
    step: int
    run: str = ""


def draw_samples(
    model: Model,
    prompts: Iterable[SamplePrompt],
    drawing: Drawing,
    *,
    sampler: str = "ddim",
    asked: ModelConfig = _PLAIN,
    network: nn.Module | None = None,
    echo: Callable[[str], None] | None = None,
) -> list[Path]:
    """Draw every prompt and return the files made.

    sampler: for prompts without one of their own. network: what is attached to the model, for prompts that want a
    strength of their own. echo takes a line for each prompt that failed; the others are
    drawn all the same. torch's random generators and the models' modes are afterwards as they were.
    """
    echo = echo or (lambda text: print(text, file=sys.stderr, flush=True))
    folder = drawing.folder / FOLDER
    made = []
    with _as_found(model), torch.no_grad():
        for index, prompt in enumerate(prompts):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                chosen = prompt.sampler or sampler
                seed = _seed(prompt.seed)
                with at_strength(network, prompt.network_multiplier):
                    image = _decode(model, sample_latents(model, prompt, chosen, asked))
                now = time.localtime()
                name = _file_name(drawing, index, now, prompt.seed)
                record = SampleRecord(
                    file=name, epoch=drawing.epoch, step=drawing.step, index=index,
                    prompt=prompt.prompt, negative_prompt=prompt.negative_prompt or "",
                    width=prompt.size[0], height=prompt.size[1],
                    sample_steps=prompt.sample_steps, scale=prompt.scale, seed=seed, sampler=chosen,
                    time=time.strftime("%Y-%m-%dT%H:%M:%S%z", now), run=drawing.run,
                    network_multiplier=1.0 if prompt.network_multiplier is None else prompt.network_multiplier,
                )  # fmt: skip
                _save(image, folder / name, record)
                _note(folder / INDEX, record)
                made.append(folder / name)
            except Exception as error:  # a picture is not worth a training
                echo(f"warning: sample {index} was not drawn ({_in_a_line(error)}); the training goes on")
    return made


def _in_a_line(error: Exception) -> str:
    if is_out_of_memory(error):
        return "the GPU's memory is full; smaller pictures, by --w and --h, need less"
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def _as_found(model: Model) -> Iterator[None]:
    """Evaluation mode, the VAE on the U-Net's device, and afterwards everything as before, random numbers too."""
    modules = [module for part in model.parts for module in part.modules()]
    training = [module.training for module in modules]
    device, vae_device = _device(model.unet), _device(model.vae)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for part in model.parts:
                part.eval()
            model.vae.to(device)
            yield
    finally:
        model.vae.to(vae_device)
        torch.cuda.empty_cache()  # decoding takes more than a step, in other sizes
        for module, was in zip(modules, training, strict=True):
            module.training = was


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _seed(seed: int | None) -> int:
    """Seed torch, by chance without a seed, and return the seed."""
    if seed is None:
        return torch.seed()
    torch.manual_seed(seed)
    return seed


def sample_latents(model: Model, prompt: SamplePrompt, sampler: str, asked: ModelConfig = _PLAIN) -> Tensor:
    """Denoise from torch's generator as it stands: [1, C, height / 8, width / 8], float32, in the U-Net's scale.

    Guided where `scale` is above 1; then the negative prompt counts. Raises RunError when they are not finite.
    """
    device, dtype = _device(model.unet), next(model.unet.parameters()).dtype
    guided = prompt.scale > 1.0
    scheduler = model.family.sampler(sampler, model, asked)
    scheduler.set_timesteps(prompt.sample_steps, device=device)
    wanted = [prompt.negative_prompt or "", prompt.prompt] if guided else [prompt.prompt]
    width, height = prompt.size
    with brought(model.text_encoders, device):  # they leave the GPU where their outputs are cached
        told = model.family.condition_sample(model, wanted, asked, (width, height)).to(device, dtype)
    space = model.family.latent
    shape = (1, space.channels, height // space.factor, width // space.factor)
    latents = torch.randn(shape, device=device) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        noisy = scheduler.scale_model_input(torch.cat([latents] * len(wanted)), timestep)
        prediction = model.family.predict(model, noisy.to(dtype), timestep, told).float()
        if guided:
            without, with_prompt = prediction.chunk(2)
            prediction = without + prompt.scale * (with_prompt - without)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    _check_finite(latents, "the picture became NaN", "a lower learning rate, or bf16 in place of fp16, may help")
    return latents


def _check_finite(numbers: Tensor, what: str, cure: str) -> None:
    """A black picture tells nobody anything. Raises RunError."""
    if not torch.isfinite(numbers).all():
        raise RunError(Problem("", what, cure, "not_finite"))


def _decode(model: Model, latents: Tensor) -> Image:
    """Latents -> an RGB picture, in the VAE's own precision whatever autocast is on."""
    from PIL import Image

    device, dtype = _device(model.vae), next(model.vae.parameters()).dtype
    with torch.autocast(device.type, enabled=False):
        vae: Any = model.vae
        pixels = vae.decode(latents.to(device, dtype) / model.vae_scale).sample
    _check_finite(pixels, "the VAE gave NaN", "set no_half_vae = true, or give another vae")
    pixels = (pixels.float() / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).cpu()
    return Image.fromarray((pixels * 255).round().to(torch.uint8).numpy())


def _file_name(drawing: Drawing, index: int, now: time.struct_time, seed: int | None) -> str:
    """`name_e000001_00_20260131120000_42.png`; the step without e within an epoch, no seed when none was asked for."""
    when = f"e{drawing.epoch:06d}" if drawing.epoch is not None else f"{drawing.step:06d}"
    seed_part = "" if seed is None else f"_{seed}"
    start = f"{drawing.name}_" if drawing.name else ""
    return f"{start}{when}_{index:02d}_{time.strftime('%Y%m%d%H%M%S', now)}{seed_part}.png"


def _save(image: Image, path: Path, record: SampleRecord) -> None:
    """Write the PNG whole or not at all, with the prompt as A1111 writes it and the record as JSON."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("parameters", _parameters(record))
    text.add_text("kohyakit", json.dumps(asdict(record), ensure_ascii=False))
    with in_place_of(path) as fresh:
        image.save(fresh, format="PNG", pnginfo=text)


def _parameters(record: SampleRecord) -> str:
    negative = f"\nNegative prompt: {record.negative_prompt}" if record.negative_prompt else ""
    return (
        f"{record.prompt}{negative}\nSteps: {record.sample_steps}, Sampler: {record.sampler}, "
        f"CFG scale: {record.scale:g}, Seed: {record.seed}, Size: {record.width}x{record.height}"
        + (f", LoRA strength: {record.network_multiplier:g}" if record.network_multiplier != 1 else "")
    )


def _note(index: Path, record: SampleRecord) -> None:
    if is_link(index):
        return  # a list of somebody else's making; the pictures carry all of it themselves
    with open(index, "a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
