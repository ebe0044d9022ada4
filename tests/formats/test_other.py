"""Settings of other trainers carried over, and files that are no settings named. The right values are those that each
trainer's own source gives the key (read there, in August 2026), put into sd-scripts' words by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kohyakit.cli import group
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.formats import dataset_toml, load, loads, other, read, recognise
from kohyakit.formats.other.carrying import leaves

LORA_SCRIPTS = """
model_train_type = "sdxl-lora"
pretrained_model_name_or_path = "./sd-models/xl.safetensors"
train_data_dir = "./train/aki"
resolution = "1024,1024"
max_train_epochs = 10
train_batch_size = 2
network_module = "lycoris.kohya"
network_dim = 32
network_alpha = 16
lycoris_algo = "lokr"
lokr_factor = -1
conv_dim = 4
learning_rate = "1e-4"
unet_lr = "1e-4"
text_encoder_lr = "1e-5"
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 2
optimizer_type = "Prodigy"
optimizer_args_custom = ["decouple=True", "weight_decay=0.01"]
prodigy_d_coef = "2.0"
enable_preview = true
positive_prompts = "1girl, solo"
negative_prompts = "lowres"
sample_width = 512
sample_cfg = 7
sample_seed = 2333
ui_custom_params = ""
"""

EASY = """
[[subsets]]
num_repeats = 3
keep_tokens = 1
caption_extension = ".txt"
shuffle_caption = true
image_dir = "D:/sets/dog"
name = "dog"

[train_mode]
train_mode = "lora"

[general_args.args]
pretrained_model_name_or_path = "D:/models/base.safetensors"
mixed_precision = "bf16"
seed = 23
clip_skip = 2
max_train_steps = 800
sdxl = true

[general_args.dataset_args]
resolution = [768, 512]
batch_size = 4

[network_args.args]
network_dim = 16
network_alpha = 8.0

[network_args.args.network_args]
conv_dim = 8
algo = "locon"
down_lr_weight = [1, 1, 0.5]

[optimizer_args.args]
optimizer_type = "AdamW8bit"
lr_scheduler = "cosine"
learning_rate = 0.0003
warmup_ratio = 0.05

[optimizer_args.args.optimizer_args]
weight_decay = "0.1"
betas = "0.9,0.99"

[saving_args.args]
output_dir = "D:/out/${replace}"
output_name = "${replace}_v1"
easy_name = "dog"
save_every_n_epochs = 1

[bucket_args.dataset_args]
enable_bucket = true
max_bucket_reso = 1024
"""

ONETRAINER = {
    "__version": 9, "training_method": "LORA", "model_type": "STABLE_DIFFUSION_21", "base_model_name": "/m/sd21",
    "output_model_destination": "models/dog.safetensors", "learning_rate": 0.0003, "batch_size": 4, "epochs": 20,
    "resolution": "768", "lora_rank": 8, "lora_alpha": 4.0, "train_dtype": "BFLOAT_16", "output_dtype": "FLOAT_16",
    "learning_rate_scheduler": "COSINE", "learning_rate_warmup_steps": 50, "text_encoder_layer_skip": 1,
    "text_encoder": {"train": False, "weight_dtype": "FLOAT_32"}, "unet": {"train": True, "learning_rate": 0.0002},
    "loss_weight_fn": "MIN_SNR_GAMMA", "loss_weight_strength": 5.0, "offset_noise_weight": 0.05, "ema": "OFF",
    "optimizer": {"optimizer": "ADAMW_8BIT", "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.02, "fused": None,
                  "stochastic_rounding": True},
    "save_every": 2, "save_every_unit": "EPOCH", "sample_after": 10, "sample_after_unit": "MINUTE",
    "max_noising_strength": 0.9, "clip_grad_norm": None,
    "concepts": [{"name": "dog", "path": "D:\\sets\\dog", "enabled": True, "balancing": 3.0, "seed": 3,
                  "image": {"enable_random_flip": True}, "text": {"enable_tag_shuffling": True, "keep_tags_count": 1}},
                 {"name": "off", "path": "D:\\sets\\off", "enabled": False}],
    "samples": [{"enabled": True, "prompt": "a dog", "negative_prompt": "blur", "width": 768, "height": 768, "seed": 4,
                 "diffusion_steps": 20, "cfg_scale": 7.0}],
}  # fmt: skip

AI_TOOLKIT = """
---
job: extension
config:
  name: dog_v1
  process:
    - type: sd_trainer
      training_folder: "output/[name]"
      device: cuda:0
      trigger_word: "p3r5on"
      network: {type: lora, linear: 16, linear_alpha: 8}
      save: {dtype: float16, save_every: 250, max_step_saves_to_keep: 4}
      datasets:
        - folder_path: "/sets/dog"
          caption_ext: "txt"
          caption_dropout_rate: 0.05
          shuffle_tokens: false
          cache_latents_to_disk: true
          resolution: [512, 768]
      train:
        batch_size: 2
        steps: 2000
        train_unet: true
        train_text_encoder: false
        gradient_checkpointing: true
        noise_scheduler: ddpm
        optimizer: adamw8bit
        optimizer_params: {weight_decay: 0.01}
        lr: 1e-4
        dtype: bf16
        min_snr_gamma: 5.0
      model: {name_or_path: "runwayml/stable-diffusion-v1-5", is_xl: false}
      sample:
        sampler: ddpm
        sample_every: 250
        width: 512
        height: 768
        prompts: ["[name] in the snow", "a dog --n night"]
        neg: "blur"
        seed: 42
        walk_seed: true
        guidance_scale: 7
        sample_steps: 20
meta: {name: "[name]", version: "1.0"}
"""

MUSUBI = """
dit = "/m/wan.safetensors"
vae = "/m/vae.safetensors"
t5 = "/m/t5.pth"
task = "t2v-1.3B"
dataset_config = "d.toml"
sdpa = true
mixed_precision = "bf16"
fp8_base = true
blocks_to_swap = 20
optimizer_type = "adamw8bit"
learning_rate = 2e-4
network_module = "networks.lora_wan"
network_dim = 32
timestep_sampling = "shift"
discrete_flow_shift = 3.0
max_train_epochs = 16
save_every_n_epochs = 1
seed = 42
output_dir = "o"
output_name = "n"
"""

CASES = {
    "lora-scripts": (LORA_SCRIPTS, "x.toml", {
        "script": "sdxl_train_network.py", "network_module": "lycoris.kohya", "network_dim": 32, "unet_lr": 1e-4,
        "text_encoder_lr": (1e-5,), "lr_scheduler_num_cycles": 2, "train_batch_size": 2,
        "network_args": ("algo=lokr", "factor=-1", "conv_dim=4"),
        "optimizer_args": ("decouple=True", "weight_decay=0.01", "d_coef=2.0"),
        "sample_prompts": "1girl, solo --n lowres --w 512 --l 7 --d 2333",
    }),
    "easy-scripts": (EASY, "x.toml", {
        "script": "sdxl_train_network.py", "network_module": "lycoris.kohya", "network_dim": 16,
        "resolution": "768,512", "train_batch_size": 4, "lr_warmup_steps": 0.05,
        "optimizer_args": ("weight_decay=0.1", "betas=0.9,0.99"),
        "network_args": ("conv_dim=8", "algo=locon", "down_lr_weight=1,1,0.5"), "output_name": "dog_v1",
        "output_dir": "D:/out/dog", "max_train_steps": 800, "max_bucket_reso": 1024, "enable_bucket": True,
    }),
    "onetrainer": (json.dumps(ONETRAINER), "x.json", {
        "script": "train_network.py", "v2": True, "v_parameterization": True, "learning_rate": 3e-4, "unet_lr": 2e-4,
        "network_train_unet_only": True, "network_dim": 8, "network_alpha": 4.0, "train_batch_size": 4,
        "max_train_epochs": 20, "resolution": "768", "mixed_precision": "bf16", "save_precision": "fp16",
        "lr_scheduler": "cosine", "lr_warmup_steps": 50, "clip_skip": 2, "min_snr_gamma": 5.0, "noise_offset": 0.05,
        "optimizer_type": "AdamW8bit", "optimizer_args": ("betas=0.9,0.99", "weight_decay=0.02"), "max_timestep": 900,
        "save_every_n_epochs": 2, "output_dir": "models", "output_name": "dog", "max_grad_norm": 0.0,
        "sample_prompts": "a dog --n blur --w 768 --h 768 --s 20 --l 7.0 --d 4",
    }),
    "ai-toolkit": (AI_TOOLKIT, "x.yaml", {
        "output_name": "dog_v1", "output_dir": "output/dog_v1", "network_dim": 16, "network_alpha": 8.0,
        "resolution": "512", "save_precision": "fp16", "save_every_n_steps": 250, "train_batch_size": 2,
        "max_train_steps": 2000,
        "network_train_unet_only": True, "optimizer_type": "AdamW8bit", "optimizer_args": ("weight_decay=0.01",),
        "learning_rate": 1e-4, "mixed_precision": "bf16", "min_snr_gamma": 5.0, "cache_latents_to_disk": True,
        "lr_scheduler": "constant", "sample_every_n_steps": 250, "sample_sampler": "ddim",
        "sample_prompts": "dog_v1 in the snow --n blur --w 512 --h 768 --s 20 --l 7 --d 42\n"
                          "a dog --n night --w 512 --h 768 --s 20 --l 7 --d 43",
    }),
    "musubi": (MUSUBI, "x.toml", {
        "learning_rate": 2e-4, "network_dim": 32, "max_train_epochs": 16, "optimizer_type": "adamw8bit", "seed": 42,
        "mixed_precision": "bf16", "network_module": None, "vae": None, "dataset_config": None, "fp8_base": False,
        "save_every_n_epochs": 1, "output_name": "n",
    }),
}  # fmt: skip


def parsed(kind: str) -> object:
    text, where, _ = CASES[kind]
    if kind == "ai-toolkit":
        return pytest.importorskip("yaml").safe_load(text)
    import tomllib

    return json.loads(text) if where.endswith(".json") else tomllib.loads(text)


@pytest.mark.parametrize("kind", CASES)
def test_what_maps_is_carried_over(kind: str) -> None:
    text, where, values = CASES[kind]
    if kind == "ai-toolkit":
        pytest.importorskip("yaml")
    assert recognise(text, where) == kind
    config, problems = read(text, where)
    assert {name: config[name] for name in values} == values
    assert not [problem for problem in problems if problem.severity == "error"]
    assert config.source is not None
    assert config.source.format == kind


@pytest.mark.parametrize("kind", CASES)
def test_every_key_is_accounted_for(kind: str) -> None:
    values = parsed(kind)
    assert isinstance(values, dict)
    told = {note.key for note in other.carry_over(kind, values, "x").notes}
    for path, _ in leaves(values):
        path = path.removeprefix("config.process[0].")
        if kind == "easy-scripts":  # a table of arguments counts as one key
            path = re.sub(r"(\.args\.\w+_args)\.\w+$", r"\1", path)
        assert path in told, path


@pytest.mark.parametrize("kind", ["easy-scripts", "onetrainer", "ai-toolkit"])
def test_image_folders_become_a_dataset_config(kind: str, tmp_path: Path) -> None:
    if kind == "ai-toolkit":
        pytest.importorskip("yaml")
    text, where, _ = CASES[kind]
    source = tmp_path / where
    source.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(group, ["convert", str(source), str(tmp_path / "out.toml")])
    assert done.exit_code == 0, done.output
    config = load(tmp_path / "out.toml")
    assert config["dataset_config"] == (tmp_path / "out.dataset.toml").as_posix()
    (dataset,) = dataset_toml.read(config["dataset_config"]).datasets
    (subset,) = dataset.subsets
    expected = {
        "easy-scripts": ("D:/sets/dog", 3, True, 1, None),
        "onetrainer": ("D:/sets/dog", 3, True, 1, True),
        "ai-toolkit": ("/sets/dog", None, None, None, None),
    }[kind]
    found = (subset.image_dir, subset.num_repeats, subset.shuffle_caption, subset.keep_tokens, subset.flip_aug)
    assert found == expected
    assert (tmp_path / "out.toml").read_text(encoding="utf-8").count("#|") > 0  # the source travels with it


def test_the_other_trainers_defaults_count_where_its_file_is_silent() -> None:
    config = loads('{"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15"}', "x.json")
    # OneTrainer: TrainConfig.default_values
    expected = {"learning_rate": 3e-6, "max_train_epochs": 100, "train_batch_size": 1, "network_dim": 16,
                "network_alpha": 1.0, "lr_warmup_steps": 200, "lr_scheduler": "constant_with_warmup"}  # fmt: skip
    assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ('{"training_method": "FINE_TUNE", "model_type": "STABLE_DIFFUSION_15"}', "x.json", "only LoRA trainings"),
        ('{"job": "extract", "config": {"name": "x", "process": [{"type": "locon"}]}}', "x.json", "of type locon"),
        ('{"job": "train", "config": {"name": "x", "process": [{"type": "sd_trainer"}]}}', "x.json", "the whole model"),
    ],
)
def test_what_trains_no_lora_is_refused(text: str, where: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        loads(text, where)


def test_secrets_of_other_trainers_do_not_travel(tmp_path: Path) -> None:
    source = tmp_path / "x.json"
    text = json.dumps({**ONETRAINER, "secrets": {"huggingface_token": "hf_hunter2"}, "wandb_api_key": "hunter2"})
    source.write_text(text, encoding="utf-8")
    for target in ("out.toml", "out.json", "out.args"):
        assert CliRunner().invoke(group, ["convert", str(source), str(tmp_path / target), "--force"]).exit_code == 0
        assert "hunter2" not in (tmp_path / target).read_text(encoding="utf-8")


NAMED = {
    "{}": "an empty table",
    '{"prompt": {"1": {"class_type": "KSampler"}}}': "ComfyUI",
    '{"3": {"class_type": "KSampler", "inputs": {}}, "4": {"class_type": "VAEDecode"}}': "ComfyUI",
    '{"last_node_id": 3, "nodes": [], "links": []}': "ComfyUI",
    '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}': "model_index.json",
    '{"_class_name": "UNet2DConditionModel", "sample_size": 64}': "part of a diffusers model",
    '{"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "vocab_size": 49408}': "transformers model",
    '{"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}': "tokenizer",
    '{"bos_token": "<s>", "eos_token": "</s>"}': "tokenizer",
    '{"name": "x", "version": "1.0.0", "dependencies": {}}': "package.json",
    '{"peft_type": "LORA", "target_modules": ["q"], "r": 8}': "PEFT",
    '{"current_epoch": 1, "current_step": 10}': "train_state.json",
    '{"ss_network_dim": "16"}': "metadata of a LoRA",
    '{"nbformat": 4, "cells": []}': "Jupyter",
    '{"a/1.jpg": {"tags": "x", "train_resolution": [64, 64]}}': "metadata file of a data set",
    '{"foo": 1, "bar": [2]}': "it has none of its fields",
    '[{"prompt": "a cat"}]': "list of prompts",
    '[{"name": "x", "path": "y"}]': "list of concepts",
    "[1, 2]": "holds a list",
    '"text"': "holds a text",
}  # fmt: skip


@pytest.mark.parametrize("text", NAMED)
def test_a_json_that_is_no_preset_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, "x.json")
    assert NAMED[text] in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ('[project]\nname = "x"\n[build-system]\nbuild-backend = "y"\n', "pyproject.toml", "pyproject.toml"),
        ('[general]\nresolution = [960, 544]\n[[datasets]]\nvideo_directory = "v"\n', "d.toml", "musubi-tuner"),
        ("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\n", "a.yaml", "settings of accelerate"),
        ("services:\n  web: {image: x}\n", "docker-compose.yml", "docker-compose"),
        ("model:\n  base_learning_rate: 1e-4\n  target: ldm.models\n", "v1.yaml", "latent diffusion model"),
        ("a: 1\n", "a.yaml", "no training that is known here"),
        ("- 1\n", "a.yaml", "no table of names"),
        ("a: [1\n", "a.yaml", "is not valid YAML"),
        ("a: &x [1]\nb: [*x, *x]\n", "a.yaml", "no training that is known here"),
        ("a: !!python/object/apply:os.system ['true']\n", "a.yaml", "is not valid YAML"),
    ],
)
def test_a_toml_or_yaml_that_is_no_training_is_named(text: str, where: str, told: str) -> None:
    if not where.endswith(".toml"):
        pytest.importorskip("yaml")
    with pytest.raises(ConfigError) as caught:
        loads(text, where)
    assert told in str(caught.value)


def test_yaml_that_grows_without_end_is_refused() -> None:
    pytest.importorskip("yaml")
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    for text in (bomb, "a: &a [*a]\n"):
        with pytest.raises(ConfigError):
            loads(text, "x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        '{"LoRA_type": "Standard"}',
        '{"network_dim": 4}',
        '{"model_type": "flux", "flux1_checkbox": true}',
        '{"use_8bit_adam": true}',
        '{"kohyakit": {}, "epoch": 1}',
        '{"learning_rate": 1e-4, "prompt": "x", "train_data_dir": "i"}',
    ],
)
def test_presets_stay_presets(text: str) -> None:
    assert recognise(text, "x.json") == "gui-json"
    assert isinstance(loads(text, "x.json"), TrainConfig)


@pytest.mark.parametrize(
    "text", ['network_module = "networks.loha"\nnetwork_dim = 4\n', "lr_restart_cycles = 1\nbatch_size = 2\n",
             'author = "x"\nnetwork_dim = 4\n', '[network_args]\nnetwork_module = "networks.lora"\n']
)  # fmt: skip
def test_config_files_stay_config_files(text: str) -> None:
    assert recognise(text, "x.toml") == "toml"


@pytest.mark.shared
def test_field_cases(goldens: Path) -> None:
    for name in ("empty.json", "workflow.json"):
        with pytest.raises(ConfigError, match="no preset of the kohya_ss GUI: it has none of its fields"):
            load(goldens / "field" / "presets" / "k8_not_a_preset" / name)
