"""Sample pictures against sd-scripts' latents and PNGs; seeds, names, index, and what must not end a training."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kohyakit.config.train import SPECS
from kohyakit.errors import ConfigError
from kohyakit.formats import prompt_lines
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.models import Model, load_model
from kohyakit.models.conditioning import encode_weighted
from kohyakit.models.noise.samplers import build_sampler
from kohyakit.train.output import sampling
from kohyakit.train.output.sampling import Drawing, draw_samples, sample_latents

# diffusers' schedulers hand torch tensors to numpy in a way that both mean to change
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]

SMALL = SamplePrompt("a cat", width=64, height=64, sample_steps=2, seed=1)


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Model:
    return load_model(tiny_model)


def draw(model: Model, prompts: list[SamplePrompt], folder: Path, **changes) -> list[Path]:
    called = {"name": "cats", "epoch": None, "step": 5}
    called |= {name: changes.pop(name) for name in ("name", "epoch", "step", "run") if name in changes}
    return draw_samples(model, prompts, Drawing(folder, **called), **changes)


def index(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "sample/samples.jsonl").read_text(encoding="utf-8").splitlines()]


def add_lora(model: Model, file: Path) -> None:
    """The update by its formula into the weights, independent of kohyakit's network."""
    lora = load_file(file)
    added = 0
    for prefix, part in (("lora_te_", model.text_encoder), ("lora_unet_", model.unet)):
        for name, layer in part.named_modules():
            key = prefix + name.replace(".", "_")
            if f"{key}.alpha" in lora:
                up, down = lora[f"{key}.lora_up.weight"].flatten(1), lora[f"{key}.lora_down.weight"].flatten(1)
                layer.weight.data += (up @ down * (lora[f"{key}.alpha"] / len(down))).reshape(layer.weight.shape)
                added += 1
    assert added == len(lora) / 3


@pytest.mark.shared
@pytest.mark.parametrize(("first", "trained"), [(0, False), (9, True)])
def test_recorded_pictures(goldens: Path, tmp_path: Path, first: int, trained: bool) -> None:
    """At first (LoRA zero) and after the last step, whose LoRA is the saved file.

    The second prompt is weighted; restoring its mean, near 0 in this random model, magnifies the rounding of
    other CPUs (1e-4 with ATEN_CPU_CAPABILITY=avx2 as recorded, 1e-2 with AVX-512).
    """
    case = goldens / "training/samples_ddim"
    model = load_model(goldens / "training/sd15-tiny")
    if trained:
        add_lora(model, case / "output/samples_ddim.safetensors")
    prompts = prompt_lines.read(case / "prompts.txt")
    recorded = json.loads((case / "samples.json").read_text(encoding="utf-8"))[first : first + 3]
    for number, (prompt, allowed) in enumerate(zip(prompts, (2e-4, 2e-2, 2e-5), strict=True)):
        torch.manual_seed(prompt.seed)
        with torch.no_grad():
            ours = sample_latents(model, prompt, "ddim")
        theirs = load_file(case / f"sample_latents_{first + number:03d}.safetensors")["final_latents"]
        assert (ours - theirs).abs().max() < allowed
    files = draw(model, list(prompts), tmp_path)
    for file, record, allowed in zip(files, recorded, (1, 4, 1), strict=True):
        theirs = Image.open(case / "output/sample" / record["files"][0])
        ours = Image.open(file)
        assert (ours.size, ours.mode) == (theirs.size, theirs.mode)
        difference = torch.tensor(list(ours.tobytes())) - torch.tensor(list(theirs.tobytes()))
        assert difference.abs().max() <= allowed


def test_names_and_index(tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling.time, "localtime", lambda: time.struct_time((2026, 2, 3, 4, 5, 6, 0, 0, 0)))
    prompts = [SMALL, replace(SMALL, seed=None, width=100, height=70, negative_prompt="dog", sampler="k_euler_a")]
    files = draw(tiny, prompts, tmp_path, step=100, run="1a")
    files += draw(tiny, [SMALL], tmp_path, epoch=0, step=0)
    files += draw(tiny, [SMALL], tmp_path, epoch=12, step=300, name="")
    assert [file.relative_to(tmp_path / "sample").name for file in files] == [
        "cats_000100_00_20260203040506_1.png",
        "cats_000100_01_20260203040506.png",
        "cats_e000000_00_20260203040506_1.png",
        "e000012_00_20260203040506_1.png",
    ]
    lines = index(tmp_path)
    assert [line["file"] for line in lines] == [file.name for file in files]
    assert [line["epoch"] for line in lines] == [None, None, 0, 12]
    second = lines[1]
    assert (second["width"], second["height"]) == (96, 64) == Image.open(files[1]).size
    assert (second["negative_prompt"], second["sampler"], second["run"]) == ("dog", "k_euler_a", "1a")
    assert second["seed"] > 0
    again = draw(tiny, [replace(prompts[1], seed=second["seed"])], tmp_path)
    assert Image.open(again[0]).tobytes() == Image.open(files[1]).tobytes()


def test_png_says_what_made_it(tiny: Model, tmp_path: Path) -> None:
    (file,) = draw(tiny, [replace(SMALL, prompt="Köln, 東京", negative_prompt="blurry")], tmp_path)
    text = Image.open(file).text
    assert text["parameters"] == (
        "Köln, 東京\nNegative prompt: blurry\nSteps: 2, Sampler: ddim, CFG scale: 7.5, Seed: 1, Size: 64x64"
    )
    assert json.loads(text["kohyakit"]) == index(tmp_path)[0]


def test_random_numbers_and_modes_are_as_before(tiny: Model, tmp_path: Path) -> None:
    tiny.unet.train()
    tiny.text_encoder.text_model.encoder.layers[1].train()
    torch.manual_seed(3)
    random.seed(3)
    before = torch.get_rng_state(), random.getstate()
    modes = [module.training for module in [*tiny.unet.modules(), *tiny.text_encoder.modules()]]
    draw(tiny, [SMALL, replace(SMALL, seed=None)], tmp_path)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert modes == [module.training for module in [*tiny.unet.modules(), *tiny.text_encoder.modules()]]
    tiny.unet.eval()
    tiny.text_encoder.eval()


def test_a_prompt_that_fails_does_not_stop_the_others(tiny: Model, tmp_path: Path) -> None:
    said: list[str] = []
    prompts = [replace(SMALL, sampler="nonsense"), SMALL]
    files = draw(tiny, prompts, tmp_path, echo=said.append)
    assert [file.name.split("_")[2] for file in files] == ["01"]
    assert len(said) == 1
    assert "sample 0 was not drawn (sample_sampler: there is no sampler 'nonsense'; choose one of ddim" in said[0]


def test_nan_is_said_and_not_drawn_black(tiny_model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    for part, message in (("vae", "the VAE gave NaN; set no_half_vae = true"), ("unet", "the picture became NaN")):
        model = load_model(tiny_model)
        last = model.unet if part == "unet" else model.vae.decoder
        last.conv_out.bias.data.fill_(float("nan"))
        assert draw(model, [SMALL], tmp_path, echo=said.append) == []
        assert message in said[-1]


def test_a_full_disk_leaves_no_half_file(tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    said: list[str] = []
    assert draw(tiny, [SMALL], tmp_path, echo=said.append) == []
    assert "No space left on device" in said[0]
    assert list((tmp_path / "sample").iterdir()) == []


def test_ctrl_c_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "sample_latents", pressed)
    part = torch.nn.Linear(1, 1)
    with pytest.raises(KeyboardInterrupt):
        draw(Model(None, part, (part,), part, None), [SMALL], tmp_path)


@pytest.mark.parametrize("name", SPECS()["sample_sampler"].about.choices)
def test_every_sampler_draws_and_repeats(tiny: Model, name: str) -> None:
    latents = []
    for _ in range(2):
        torch.manual_seed(1)
        with torch.no_grad():
            latents.append(sample_latents(tiny, replace(SMALL, sample_steps=4), name))
    assert latents[0].shape == (1, 4, 8, 8)
    assert torch.isfinite(latents[0]).all()
    assert torch.equal(*latents)


def test_euler_a_draws_once_a_step_and_ddim_never(tiny: Model) -> None:
    for name, draws in (("ddim", 0), ("euler_a", 4)):
        torch.manual_seed(1)
        with torch.no_grad():
            sample_latents(tiny, replace(SMALL, sample_steps=4), name)
        after = torch.get_rng_state()
        torch.manual_seed(1)
        for _ in range(1 + draws):
            torch.randn(1, 4, 8, 8)
        assert torch.equal(after, torch.get_rng_state()), name


def test_samplers_have_sd_scripts_settings() -> None:
    for name in ("ddim", "ddpm"):
        assert build_sampler(name).config.clip_sample is True
    assert build_sampler("pndm").config.get("clip_sample") in (None, True)
    config = build_sampler("k_dpm_2_a", "v_prediction").config
    assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert config.prediction_type == "v_prediction"
    with pytest.raises(ConfigError, match="there is no sampler 'ddimm'"):
        build_sampler("ddimm")


def test_lms_is_adams_bashforth_on_an_even_grid() -> None:
    """Its classical coefficients: 1; 3/2, -1/2; 23/12, -16/12, 5/12; 55/24, -59/24, 37/24, -9/24."""
    from kohyakit.models.noise.linear_multistep import weights_of

    grid = np.arange(9.0, 0, -1)
    for order, expected in (
        (1, [1]),
        (2, [3 / 2, -1 / 2]),
        (3, [23 / 12, -16 / 12, 5 / 12]),
        (4, [55 / 24, -59 / 24, 37 / 24, -9 / 24]),
    ):
        assert weights_of(grid, 5, order) == pytest.approx([-weight for weight in expected])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_lms_equals_diffusers_own(prediction: str) -> None:
    pytest.importorskip("scipy")
    from diffusers import LMSDiscreteScheduler

    ours = build_sampler("lms", prediction)
    results = []
    for scheduler in (ours, LMSDiscreteScheduler.from_config(ours.config)):
        scheduler.set_timesteps(9)
        sample = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            predicted = torch.tanh(scheduler.scale_model_input(sample, timestep) + float(timestep) / 1000)
            sample = scheduler.step(predicted, timestep, sample).prev_sample
        results.append(sample)
    assert torch.allclose(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_a", "ddpm", "dpmsolver++"])
def test_zero_terminal_snr_begins_in_noise_alone(tiny_model: Path, name: str) -> None:
    """Lin et al. 2023: at the last timestep nothing of the picture is left, so there v = -picture."""
    from kohyakit.config.sections.model import ModelConfig

    sampler = build_sampler(name, "v_prediction", zero_terminal_snr=True)
    sampler.set_timesteps(4)
    assert [int(t) for t in sampler.timesteps] == [999, 749, 499, 249]
    assert float(sampler.alphas_cumprod[-1]) < 1e-6
    assert float(build_sampler(name, "v_prediction").alphas_cumprod[-1]) == pytest.approx(0.00466, rel=0.01)
    model = load_model(tiny_model, v_parameterization=True)
    drawn = []
    for zero in (False, True):
        torch.manual_seed(1)
        with torch.no_grad():
            drawn.append(sample_latents(model, SMALL, name, ModelConfig(zero_terminal_snr=zero)))
    assert torch.isfinite(drawn[1]).all()
    assert not torch.allclose(*drawn)


def test_one_step_from_noise_alone_is_what_the_u_net_says(tiny_model: Path) -> None:
    """With one DDIM step the picture is -v, whatever the noise; DDIM clips it to ±1, as in sd-scripts."""
    from kohyakit.config.sections.model import ModelConfig

    model, prompt = load_model(tiny_model, v_parameterization=True), replace(SMALL, sample_steps=1, scale=1.0)
    torch.manual_seed(1)
    with torch.no_grad():
        drawn = sample_latents(model, prompt, "ddim", ModelConfig(zero_terminal_snr=True))
        torch.manual_seed(1)
        states = encode_weighted(model.text_encoder, [prompt.prompt], None)
        v = model.unet(torch.randn(1, 4, 8, 8), torch.tensor(999), states).sample
    assert torch.allclose(drawn, (-v).clamp(-1, 1), atol=1e-5)


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zero", [False, True])
def test_v_prediction_of_sd2_is_what_diffusers_draws(goldens: Path, zero: bool) -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from kohyakit.config.sections.model import ModelConfig

    place = goldens / "training2/sd2-tiny"
    pipeline = StableDiffusionPipeline.from_pretrained(place, local_files_only=True, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    ending = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero else {}
    pipeline.scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=True, **ending,
    )  # fmt: skip
    told = []
    for words in ("a cat", "dog"):  # end tokens fill up, as in sd-scripts' samples; the pipeline takes another
        ids = pipeline.tokenizer(words).input_ids
        told.append(pipeline.text_encoder(torch.tensor([ids + [49407] * (77 - len(ids))]))[0])
    torch.manual_seed(4)
    theirs = pipeline(prompt_embeds=told[0], negative_prompt_embeds=told[1], width=64, height=64,
                      num_inference_steps=4, guidance_scale=6.0, output_type="latent").images  # fmt: skip
    model = load_model(place, family="sd2", v_parameterization=True)
    prompt = replace(SMALL, negative_prompt="dog", sample_steps=4, scale=6.0)
    torch.manual_seed(4)
    with torch.no_grad():
        ours = sample_latents(model, prompt, "ddim", ModelConfig(zero_terminal_snr=zero))
    assert (ours - theirs).abs().max() < 1e-4


def test_no_guidance_at_a_scale_of_1_and_the_negative_prompt_counts_above(tiny: Model) -> None:
    def latents(**changes) -> torch.Tensor:
        torch.manual_seed(1)
        with torch.no_grad():
            return sample_latents(tiny, replace(SMALL, **changes), "ddim")

    assert torch.equal(latents(scale=1.0), latents(scale=1.0, negative_prompt="dog"))
    assert not torch.equal(latents(), latents(negative_prompt="dog"))


def test_long_prompts_take_more_chunks(tiny: Model) -> None:
    """As in the long-prompt pipeline of sd-scripts: 77 states a chunk, both prompts of one length, at most three."""
    for words, length in ((3, 77), (75, 77), (76, 154), (400, 231)):
        states = encode_weighted(tiny.text_encoder, ["", "cat " * words], None)
        assert states.shape == (2, length, 32)
    with torch.no_grad():
        plain = tiny.text_encoder(torch.tensor([[49406, *[2368] * 3, *[49407] * 73]]))
        assert torch.allclose(encode_weighted(tiny.text_encoder, ["cat cat cat"], None), plain, atol=1e-5)
