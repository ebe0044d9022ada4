"""Stable Diffusion XL: layers of the true size, single files, conditions, pictures beside diffusers' own."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kohyakit.config.sections.model import ModelConfig
from kohyakit.errors import ConfigError
from kohyakit.formats.prompt_lines import SamplePrompt, parse_line
from kohyakit.models import Model, build_meta, load_model
from kohyakit.models.noise.samplers import build_sampler
from kohyakit.networks.file import save_lora
from kohyakit.networks.methods.lora import LoraNetwork, LoraSettings
from kohyakit.train.output.sampling import Drawing, draw_samples, sample_latents

pytestmark = pytest.mark.slow

_spec = importlib.util.spec_from_file_location("tiny_sdxl", Path(__file__).parents[1] / "tiny_sdxl.py")
tiny_sdxl = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_sdxl)

PROMPT = SamplePrompt("a photo of a cat", "blurry", width=128, height=64, sample_steps=4, scale=6.0, seed=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_sdxl.write_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder, family="sdxl")


@pytest.mark.shared
def test_the_true_size_has_sd_scripts_layers_in_its_order(goldens: Path) -> None:
    recorded = json.loads((goldens / "training2/sdxl_full_lora_names.json").read_text(encoding="utf-8"))
    true = build_meta("sdxl")
    counts = recorded["base_param_counts"]
    assert sum(p.numel() for p in true.unet.parameters()) == counts["unet"]
    assert [sum(p.numel() for p in e.parameters()) for e in true.text_encoders] == [counts["te1"], counts["te2"]]
    plain = LoraNetwork.over(true, LoraSettings(8, 4), None)
    shapes = {
        name: [list(layer.lora_down.weight.shape), list(layer.lora_up.weight.shape)] for name, layer in plain.layers()
    }
    assert list(shapes) == list(recorded["rank8_alpha4"])
    assert shapes == {name: row[:2] for name, row in recorded["rank8_alpha4"].items()}
    assert len(shapes) == 72 + 192 + 722
    wide = LoraNetwork.over(true, LoraSettings(8, 4, conv_dim=4), None)
    added = {name: number for number, (name, _) in enumerate(wide.layers()) if name not in shapes}
    assert added == recorded["rank8_alpha4_conv4_extra_index_in_creation_order"]
    for name, (down, up, *_) in recorded["rank8_alpha4_conv4_extra"].items():
        layer = wide.get_submodule(name)
        assert [list(layer.lora_down.weight.shape), list(layer.lora_up.weight.shape)] == [down, up]


def test_a_single_file_holds_the_same_model(folder: Path, model: Model, tmp_path: Path) -> None:
    single = load_model(tiny_sdxl.write_single_file(folder, tmp_path / "m.safetensors"), family="sdxl")
    assert single.unet.config.attention_head_dim == [2, 4, 8]
    for ours, theirs in zip(single.parts, model.parts, strict=True):
        ours, theirs = ours.state_dict(), theirs.state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert single.notes == ()


@pytest.mark.shared
def test_sd_scripts_own_single_file(goldens: Path) -> None:
    """Written by its save function in fp16; all that differs from the folder is the rounding.

    It writes and reads the text projection without transposing it, which the original files are made for.
    """
    single = load_model(goldens / "training2/single/sdxl-tiny.safetensors", family="sdxl", as_sd_scripts=True)
    whole = load_model(goldens / "training2/sdxl-tiny", family="sdxl")
    for ours, theirs in zip(single.parts, whole.parts, strict=True):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor.half().float()), name


def test_a_v_prediction_model_is_known_by_its_mark(folder: Path, tmp_path: Path) -> None:
    file = tiny_sdxl.write_single_file(folder, tmp_path / "noob.safetensors", v_pred=torch.empty(0))
    (note,) = load_model(file, family="sdxl").notes
    assert note.severity == "warning"
    assert "v_parameterization" in note.cure
    assert load_model(file, family="sdxl", v_parameterization=True).notes == ()


def test_another_family_is_refused_with_what_to_set(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    single = tiny_sdxl.write_single_file(folder, tmp_path / "m.safetensors")
    for place in (folder, single):
        with pytest.raises(ConfigError, match=r"Stable Diffusion XL model.*set script = sdxl_train"):
            load_model(place)
    with pytest.raises(ConfigError, match=r"Stable Diffusion 1\.x model.*set script = train_network.py"):
        load_model(tiny_model, family="sdxl")


@pytest.fixture(scope="module")
def pipeline(folder: Path):
    from diffusers import StableDiffusionXLPipeline

    made = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    made.set_progress_bar_config(disable=True)
    made.scheduler = build_sampler("ddim")
    return made


def in_diffusers(pipeline) -> Tensor:
    torch.manual_seed(PROMPT.seed)
    return pipeline(
        PROMPT.prompt, negative_prompt=PROMPT.negative_prompt, width=PROMPT.width, height=PROMPT.height,
        num_inference_steps=PROMPT.sample_steps, guidance_scale=PROMPT.scale, output_type="latent",
    ).images  # fmt: skip


def drawn(model: Model, asked: ModelConfig = ModelConfig()) -> Tensor:  # noqa: B008 (frozen)
    torch.manual_seed(PROMPT.seed)
    with torch.no_grad():
        return sample_latents(model, PROMPT, "ddim", asked)


@pytest.mark.filterwarnings("ignore")
def test_a_sample_is_what_diffusers_draws(model: Model, pipeline) -> None:
    assert (drawn(model) - in_diffusers(pipeline)).abs().max() < 1e-4
    assert torch.equal(drawn(model, ModelConfig(clip_skip=2)), drawn(model))  # not looked at, as in sd-scripts


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("cat --w 100 --h 150 --s 3 --d 5 --l 4.5 --n dog", (96, 144, 3, 4.5, "dog", "ddim")),
        ("cat --w 64 --h 64 --s 3 --d 5", (64, 64, 3, 7.5, "", "ddim")),
        ("cat --w 64 --h 64 --s 3 --d 5 --l 1 --n dog", (64, 64, 3, 1.0, "", "ddim")),
        ("cat --w 64 --h 64 --s 4 --d 6 --ss euler_a", (64, 64, 4, 7.5, "", "euler_a")),
        ("cat --w 64 --h 64 --s 5 --d 6 --ss dpmsolver++", (64, 64, 5, 7.5, "", "dpmsolver++")),
        ("cat --w 64 --h 64 --s 3 --d 6 --g 2 --fs 3 --ctr 1 --rcfg 1", (64, 64, 3, 7.5, "", "ddim")),
    ],
)
def test_every_option_of_a_line_means_what_diffusers_makes_of_it(model: Model, pipeline, line, wanted) -> None:
    """Width, height, steps, scale, negative prompt and sampler; those for other families change nothing."""
    prompt = parse_line(line)
    width, height, steps, scale, negative, sampler = wanted
    pipeline.scheduler = build_sampler(sampler)
    try:
        torch.manual_seed(prompt.seed)
        theirs = pipeline(
            "cat", negative_prompt=negative, width=width, height=height, num_inference_steps=steps,
            guidance_scale=scale, output_type="latent",
        ).images  # fmt: skip
    finally:
        pipeline.scheduler = build_sampler("ddim")
    torch.manual_seed(prompt.seed)
    with torch.no_grad():
        ours = sample_latents(model, prompt, prompt.sampler or "ddim")
    assert ours.shape == (1, 4, height // 8, width // 8)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_a_picture_has_the_strength_that_its_line_asks_for(folder: Path, tmp_path: Path) -> None:
    """At half strength as with ups of half the size, at 0 as without the LoRA; and afterwards as before."""
    from PIL import Image

    model = load_model(folder, family="sdxl")

    def pictures(*options: str, network: LoraNetwork | None = None) -> list[bytes]:
        lines = [parse_line(f"cat --w 64 --h 64 --s 3 --d 5 {option}") for option in options]
        files = draw_samples(model, lines, Drawing(tmp_path, "x", 1, 1), network=network)
        return [Image.open(file).tobytes() for file in files]

    (without,) = pictures("")
    torch.manual_seed(1)
    network = LoraNetwork.over(model, LoraSettings(dim=8, alpha=4.0), strong)
    network.attach()
    network.eval()
    full, half, none, again = pictures("", "--am 0.5", "--am 0", "", network=network)
    assert none == without
    assert again == full != half != none
    with torch.no_grad():
        for layer in network.modules():
            if hasattr(layer, "lora_up"):
                layer.lora_up.weight *= 0.5
    assert pictures("") == [half]
    lines = (tmp_path / "sample/samples.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["network_multiplier"] for record in records[1:5]] == [1.0, 0.5, 0.0, 1.0]


def strong(name: str, layer: torch.nn.Module) -> None:
    """Both matrices at random, so that every layer's update shows in the picture."""
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("conv_dim", [None, 2])
def test_a_lora_changes_the_picture_in_diffusers_as_in_training(
    folder: Path, pipeline, tmp_path: Path, conv_dim: int | None
) -> None:
    model = load_model(folder, family="sdxl")
    before = drawn(model)
    torch.manual_seed(1)
    network = LoraNetwork.over(model, LoraSettings(dim=8, alpha=4.0, conv_dim=conv_dim), strong)
    network.attach()
    network.eval()
    in_training = drawn(model)
    save_lora(tmp_path / "cat.safetensors", network.state_dict(), None, {"ss_network_dim": "8"})
    pipeline.load_lora_weights(tmp_path, weight_name="cat.safetensors", local_files_only=True)
    try:
        theirs = in_diffusers(pipeline)
    finally:
        pipeline.unload_lora_weights()
    assert (in_training - before).abs().max() > 0.3
    assert (theirs - in_training).abs().max() < 1e-4 * in_training.abs().max()


def test_long_captions_have_their_chunks_and_the_first_ones_pooled_state(model: Model) -> None:
    long = ", ".join(f"word{i} stone arch" for i in range(40))
    short = ModelConfig()
    with torch.no_grad():
        cut = model.family.condition(model, [long], short, None)
        whole = model.family.condition(model, [long], ModelConfig(max_token_length=225), None)
    assert cut.states.shape == (1, 77, 56)
    assert whole.states.shape == (1, 227, 56)
    assert torch.allclose(whole.states[:, 1:76], cut.states[:, 1:76], atol=1e-6)
    assert torch.allclose(whole.pooled, cut.pooled, atol=1e-6)


def test_a_weighted_caption_counts_where_asked(model: Model) -> None:
    plain, weighted = ModelConfig(), ModelConfig(weighted_captions=True)
    with torch.no_grad():
        one = model.family.condition(model, ["cat"], plain, None)
        two = model.family.condition(model, ["(cat:1.5)"], weighted, None)
    assert torch.allclose(two.states[:, 1], one.states[:, 1] * 1.5, atol=1e-6)  # the token of the cat
    assert torch.allclose(two.states[:, 2:], one.states[:, 2:], atol=1e-6)
    assert torch.allclose(two.pooled, one.pooled, atol=1e-6)
