"""A saved LoRA, loaded by diffusers alone, changes the picture as it did in training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.models import load_model
from kohyakit.models.noise.samplers import build_sampler
from kohyakit.networks.file import save_lora
from kohyakit.networks.methods.lora import LoraNetwork, LoraSettings
from kohyakit.train.output.sampling import sample_latents

pytestmark = pytest.mark.slow

PROMPT = SamplePrompt("a photo of a cat", "blurry", width=128, height=64, sample_steps=4, scale=6.0, seed=7)


def strong(name: str, layer: torch.nn.Module) -> None:
    """Both matrices at random, so that every layer's update shows in the picture."""
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("settings", "dtype", "allowed"),
    [
        (LoraSettings(dim=8, alpha=4.0), None, 1e-5),
        (LoraSettings(dim=4, alpha=0.0), torch.bfloat16, 1e-1),
        (LoraSettings(dim=8, alpha=4.0, conv_dim=2, conv_alpha=1.0), None, 1e-5),
        (LoraSettings(dim=8, alpha=4.0, conv_dim=2, conv_alpha=1.0), torch.float16, 1e-2),
    ],
    ids=["float", "alpha is dim, bf16", "with convolutions", "with convolutions, fp16"],
)
def test_the_picture_is_the_same(
    tiny_model: Path, tmp_path: Path, settings: LoraSettings, dtype: torch.dtype | None, allowed: float
) -> None:
    import diffusers
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

    if settings.conv_dim and diffusers.__version__.startswith("0.32."):
        pytest.skip("diffusers 0.32 loads convolutions of another rank wrongly, sd-scripts' own file too")

    model = load_model(tiny_model)

    def drawn() -> Tensor:
        torch.manual_seed(PROMPT.seed)
        with torch.no_grad():
            return sample_latents(model, PROMPT, "ddim")

    before = drawn()
    torch.manual_seed(1)
    network = LoraNetwork.over(model, settings, strong)
    network.attach()
    network.eval()
    in_training = drawn()
    save_lora(tmp_path / "cat.safetensors", network.state_dict(), dtype, {"ss_network_dim": "8"})

    tokenizer = CLIPTokenizer.from_pretrained(tiny_model / "tokenizer", local_files_only=True, model_max_length=77)
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_model, local_files_only=True, safety_checker=None, tokenizer=tokenizer
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = build_sampler("ddim")
    pipeline.load_lora_weights(tmp_path, weight_name="cat.safetensors", local_files_only=True)
    torch.manual_seed(PROMPT.seed)
    in_diffusers = pipeline(
        PROMPT.prompt,
        negative_prompt=PROMPT.negative_prompt,
        width=PROMPT.width,
        height=PROMPT.height,
        num_inference_steps=PROMPT.sample_steps,
        guidance_scale=PROMPT.scale,
        output_type="latent",
    ).images
    assert (in_training - before).abs().max() > 0.5
    assert (in_diffusers - in_training).abs().max() < allowed
