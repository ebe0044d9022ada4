"""The parts that teach the tiny base model, on a few steps each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("PIL", "torch", "diffusers", "transformers"):
    pytest.importorskip(package)

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler

from kohyakit.demo.world import COLOURS, Scene, asked_scenes, draw
from tools.tiny_base import unet, vae
from tools.tiny_base.export import whole_text_encoder, write_base
from tools.tiny_base.figures import shares
from tools.tiny_base.weights import Weights, cosine, dice
from tools.tiny_base.words import LENGTH, Vocabulary, tokenizer

HOUSE = Scene("house", "red", "left", "grass", "day")


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(seed=3)


def linear(precision: torch.dtype) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(5, 3).to(precision)


def test_a_step_is_adams_with_the_gradients_norm_held_to_one():
    ours, theirs = linear(torch.float32), linear(torch.float32)
    weights = Weights([ours])
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.9, 0.99), foreach=False, fused=False)
    inputs = torch.randn(7, 5, generator=dice(1)) * 9
    for _ in range(4):
        for model in (ours, theirs):
            (model(inputs) ** 2).sum().backward()
        weights.learn(weights.gradient(), 0.01)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_a_model_in_bfloat16_shows_the_rounding_of_what_is_trained():
    mixed = torch.nn.Sequential(linear(torch.bfloat16), linear(torch.float32))
    weights = Weights([mixed])
    (mixed[0].weight.float().sum() + mixed[1].bias.sum()).backward()
    before = weights.master.detach().clone()
    gradient = weights.gradient()
    assert gradient.tolist() == [1.0] * 15 + [0.0] * 3 + [0.0] * 15 + [1.0] * 3
    weights.learn(gradient, 1e-4)
    after = weights.master.detach()
    assert (before != after).sum() == 18
    assert torch.equal(mixed[0].weight.flatten(), after[:15].bfloat16())
    assert torch.equal(mixed[1].bias, after[33:])


def test_the_average_lags_behind_the_weights():
    model = linear(torch.float32)
    weights = Weights([model], lag=0.5)
    start = weights.average.clone()
    for _ in range(5):  # one look after five steps
        weights.learn(torch.ones_like(weights.average), 0.1)
    expected = start + (weights.master.detach() - start) * (1 - 0.4**5)  # (1 + 5) / (10 + 5) = 0.4 holds at first
    torch.testing.assert_close(weights.average, expected)


def test_the_rate_warms_up_and_falls_to_a_hundredth():
    assert cosine(0, 1000, 2.0, warm=50) == pytest.approx(0.04)
    assert cosine(500, 1000, 2.0) == pytest.approx(2.0 * (0.01 + 0.99 * 0.5))
    assert cosine(1000, 1000, 2.0) == pytest.approx(0.02)


def test_captions_are_cut_as_clips_tokenizer_cuts_them(vocabulary):
    clip = tokenizer()
    for scene in asked_scenes(60, 1):
        whole = clip(scene.caption(), padding="max_length", max_length=LENGTH)["input_ids"]
        assert [vocabulary.tokens[row] for row in vocabulary.of(scene.caption())] == whole


def test_captions_to_learn_from_are_mostly_whole_and_some_empty_or_strange(vocabulary):
    where = dice(5)
    drawn = [vocabulary.rows(HOUSE, where) for _ in range(2000)]
    whole, empty = vocabulary.of(HOUSE.caption()), vocabulary.of("")
    assert {len(rows) for rows in drawn} == {LENGTH}
    assert 0.70 < sum(rows == whole for rows in drawn) / 2000 < 0.78
    assert 0.08 < sum(rows == empty for rows in drawn) / 2000 < 0.12
    strange = sum(any(row >= vocabulary.taught for row in rows) for rows in drawn) / 2000
    assert 0.06 < strange < 0.10  # with a word too many: 8 %
    nameless = [vocabulary.rows(Scene("", "", "left", "grass", "day"), where) for _ in range(200)]
    assert 0.8 < sum(any(row >= vocabulary.taught for row in rows) for rows in nameless) / 200 < 0.97


def test_a_word_that_the_world_does_not_know_is_none_of_the_taught_ones(vocabulary):
    rows = vocabulary.of(Scene("robot", "", "left", "grass", "day").caption("sks"))
    assert vocabulary.taught in rows


def test_an_untaught_coder_passes_plain_colours():
    """Every colour apart, in the order of its brightness: the start that makes the first steps count."""
    coder = vae.new_vae(1)
    greys = torch.linspace(-0.8, 0.8, 5)[:, None, None, None].expand(5, 3, 48, 48)
    with torch.no_grad():
        back = vae.rebuilt(coder, greys)[..., 12:36, 12:36].mean(dim=(1, 2, 3))
    assert torch.all(back.diff() > 0.1)


def test_folding_gives_latents_of_one_spread_and_the_same_pictures():
    coder = vae.new_vae(2)
    pixels = vae.shapes(8, 1).float() / 127.5 - 1
    with torch.no_grad():
        before = vae.rebuilt(coder, pixels)
        vae.fold(coder.requires_grad_(False), pixels)
        latents = coder.encode(pixels).latent_dist.mean * 0.18215  # diffusers' own way through the coder
        after = coder.decode(latents / 0.18215).sample
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(before, after, atol=1e-3, rtol=0)


def test_noise_is_added_as_the_written_schedule_does():
    latents, noise = torch.randn(3, 4, 12, 12, generator=dice(1)), torch.randn(3, 4, 12, 12, generator=dice(2))
    steps = torch.tensor([0, 400, 999])
    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    torch.testing.assert_close(unet.Noise().add(latents, noise, steps), theirs.add_noise(latents, noise, steps))
    kept = theirs.alphas_cumprod[steps]
    snr = kept / (1 - kept)
    torch.testing.assert_close(unet.Noise().weight(steps), torch.minimum(snr, torch.tensor(5.0)) / snr)


PROBE = """
from pathlib import Path
import torch
from tools.tiny_base import together

def work(folder):
    mean = together.mean(torch.tensor([1.0 + together.rank(), 10.0]))
    (folder / str(together.rank())).write_text(f"{mean.tolist()} of {together.processes()}")

if __name__ == "__main__":
    together.run(work, 2, Path("."))
"""


@pytest.mark.slow
def test_two_processes_learn_from_the_mean_of_their_gradients(tmp_path):
    (tmp_path / "probe.py").write_text(PROBE, encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join((root, str(tmp_path)))}
    subprocess.run([sys.executable, str(tmp_path / "probe.py")], cwd=tmp_path, env=env, check=True)
    assert [(tmp_path / rank).read_text(encoding="utf-8") for rank in "01"] == ["[1.5, 10.0] of 2"] * 2


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A folder in which the coder learnt three steps and the pupils three, on eight pictures."""
    folder = tmp_path_factory.mktemp("taught")
    coder = vae.finished(folder, seed=1, steps=3, scenes_drawn=8)
    unet.train(folder, coder, seed=1, steps=3, drawn=8)
    return folder


@pytest.mark.slow
def test_stopped_and_gone_on_is_as_never_stopped(taught, tmp_path):
    coder = vae.train(tmp_path, seed=1, steps=3, scenes_drawn=8)
    first = torch.load(tmp_path / "vae.pt", weights_only=True)
    assert torch.equal(first["master"], torch.load(taught / "vae.pt", weights_only=True)["master"])
    assert isinstance(coder, AutoencoderKL)
    values = torch.cat([p.flatten() for p in coder.parameters()])
    assert torch.equal(values, first["average"])  # not as bfloat16 rounds it

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for place in (whole, parts):
        place.mkdir()
        (place / "latents.pt").write_bytes((taught / "latents.pt").read_bytes())
    teach_steps(whole, [range(2)])
    teach_steps(parts, [range(1), range(1, 2)])
    a, b = (torch.load(place / "unet.pt", weights_only=True) for place in (whole, parts))
    assert a["step"] == b["step"] == 2
    assert torch.equal(a["master"], b["master"])
    assert torch.equal(a["average"], b["average"])


@pytest.mark.slow
def test_the_way_back_is_taught_once_more_while_the_way_in_is_held(taught, tmp_path):
    coder = vae.finished(taught, seed=1, steps=3)
    assert vae.sharpened(tmp_path, coder)[1] == 0
    vae.sharpen(tmp_path, coder, seed=1, steps=5, scenes_drawn=8)
    sharp, steps = vae.sharpened(tmp_path, coder)
    assert steps == 5  # at which the average is looked at first
    changed = {name.split(".")[0] for name, value in sharp.state_dict().items() if
               not torch.equal(value, coder.state_dict()[name])}  # fmt: skip
    assert changed == {"decoder", "post_quant_conv"}


def teach_steps(folder, parts: list[range]) -> None:
    """So many steps at one level rate, with everything built anew between the parts."""
    latents = torch.load(folder / "latents.pt", weights_only=True).float()
    for steps in parts:
        pupils, noise = unet.new_pupils(1), unet.Noise()
        weights = Weights([pupils.unet, pupils.text])
        weights.resume(folder / "unet.pt")
        for step in steps:
            rows = [pupils.vocabulary.rows(HOUSE, dice(step, i)) for i in range(len(latents))]
            unet.pupils_loss(pupils, noise, latents, rows, dice(step)).backward()
            weights.learn(weights.gradient(), 1e-3)
        weights.keep(folder / "unet.pt")


@pytest.mark.slow
def test_the_written_base_says_of_a_caption_what_was_taught(taught, tmp_path):
    from diffusers import StableDiffusionPipeline

    pupils, steps = unet.averaged(taught, 1)
    assert steps == 3
    caption = HOUSE.caption()
    with torch.no_grad():
        mine = unet.said(pupils, [pupils.vocabulary.of(caption)])
    coder = vae.finished(taught, seed=1, steps=3)
    assert write_base(tmp_path / "base", coder, pupils, seed=1) < 12_000_000
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "base", torch_dtype=torch.float32, local_files_only=True)
    tokens = pipe.tokenizer(caption, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        theirs = pipe.text_encoder(tokens["input_ids"])[0]
    torch.testing.assert_close(mine, theirs, atol=0.02, rtol=0)  # half precision lies between
    assert pipe.vae.config.scaling_factor == 0.18215
    assert whole_text_encoder(pupils, seed=1).config.vocab_size == 49408


def test_shares_count_each_aspect_apart():
    from tools.tiny_base.judge import Seen

    wanted = [HOUSE, HOUSE]
    seen = [Seen("house", "red", "left", "grass", "day", 0.1), Seen("house", "blue", "left", "sand", "day", 0.1)]
    told = shares(wanted, seen)
    assert told == {"kind": 1.0, "colour": 0.5, "place": 1.0, "ground": 0.5, "sky": 1.0, "score": 0.5}


def test_pictures_to_learn_from_show_their_scene():
    pixels = np.asarray(draw(Scene("ball", "blue", "middle", "sand", "day"), 1, 96))
    assert np.abs(pixels[60, 48].astype(int) - COLOURS["blue"]).max() < 40
