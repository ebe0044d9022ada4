"""A config as a preset: the GUI's own keys and types, and the same training on both ways through the GUI."""

from __future__ import annotations

from typing import Any

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.formats import loads
from kohyakit.formats.gui import write as gui_write
from kohyakit.formats.gui.launch import as_gui


def written(text: str) -> gui_write.Preset:
    return gui_write.write(loads(text, "rose.toml"))


@pytest.mark.parametrize(
    ("text", "tab", "expected"),
    [
        (
            "network_dim = 4\n",
            "lora",
            {"network_dim": 4, "LoRA_type": "Standard", "cache_latents": False, "xformers": "none"},
        ),
        ("network_dim = 4\nsdpa = true\n", "lora", {"xformers": "sdpa"}),
        ("network_dim = 4\nuse_8bit_adam = true\n", "lora", {"optimizer": "AdamW8bit", "additional_parameters": ""}),
        ("network_dim = 4\nuse_lion_optimizer = true\n", "lora", {"optimizer": "Lion"}),
        ("network_dim = 4\nlr_warmup_steps = 0.25\n", "lora", {"lr_warmup": 25, "lr_warmup_steps": 0}),
        ("network_dim = 4\nlr_warmup_steps = 40\n", "lora", {"lr_warmup": 0, "lr_warmup_steps": 40}),
        (
            "network_dim = 4\nlr_scheduler = 'cosine'\nlr_warmup_steps = 0.025\n",
            "lora",
            {"lr_warmup": 0, "additional_parameters": "--lr_warmup_steps=0.025"},
        ),
        ("network_dim = 4\nmax_train_epochs = 7\n", "lora", {"max_train_epochs": 7, "epoch": 7, "max_train_steps": 0}),
        ("network_dim = 4\nlearning_rate = 1e-3\n", "lora", {"unet_lr": 1e-3, "text_encoder_lr": 1e-3, "t5xxl_lr": 0}),
        ("network_dim = 4\ntext_encoder_lr = [1e-5, 2e-5]\n", "lora", {"text_encoder_lr": 1e-5, "t5xxl_lr": 2e-5}),
        ("network_dim = 4\nnetwork_train_unet_only = true\n", "lora", {"text_encoder_lr": 0}),
        (
            "network_dim = 4\nmax_grad_norm = 0.0\n",
            "lora",
            {"max_grad_norm": 0, "additional_parameters": "--max_grad_norm=0.0"},
        ),
        (
            "network_dim = 4\nmultires_noise_iterations = 6\n",
            "lora",
            {"noise_offset_type": "Multires", "multires_noise_iterations": 6},
        ),
        (
            'network_module = "networks.lora"\nnetwork_dim = 4\nnetwork_args = ["conv_dim=8", "conv_alpha=2"]\n',
            "lora",
            {"LoRA_type": "Kohya LoCon", "conv_dim": 8, "conv_alpha": 2},
        ),
        (
            'network_module = "lycoris.kohya"\nnetwork_dim = 4\nnetwork_args = ["algo=lokr", "factor=8"]\n',
            "lora",
            {"LoRA_type": "LyCORIS/LoKr", "factor": 8, "conv_dim": 4, "additional_parameters": ""},
        ),
        (
            'network_module = "networks.lora_flux"\nnetwork_dim = 4\n'
            't5xxl = "t"\nguidance_scale = 1.0\nnetwork_args = ["split_qkv=True"]\n',
            "lora",
            {"LoRA_type": "Flux1", "flux1_checkbox": True, "t5xxl": "t", "guidance_scale": 1, "split_qkv": True},
        ),
        (
            'network_dim = 4\nclip_g = "g"\nt5xxl = "t"\n',
            "lora",
            {"sd3_checkbox": True, "sd3_t5xxl": "t", "clip_g": "g"},
        ),
        (
            "in_json = 'w/meta_lat.json'\ndataset_repeats = 5\ntrain_text_encoder = true\ntrain_data_dir = 'i'\n",
            "finetune",
            {
                "train_dir": "w",
                "latent_metadata_filename": "meta_lat.json",
                "use_latent_files": "Yes",
                "dataset_repeats": "5",
                "image_folder": "i",
                "min_bucket_reso": "256",
            },
        ),
        (
            "token_string = 'rose'\nuse_style_template = true\n",
            "ti",
            {"template": "style template", "token_string": "rose"},
        ),
        (
            "learning_rate_te = 0.0\nno_token_padding = true\n",
            "dreambooth",
            {"learning_rate_te": 0, "no_token_padding": True},
        ),
    ],
    ids=lambda value: value.replace("\n", ";")[:40] if isinstance(value, str) else "",
)
def test_fields(text: str, tab: str, expected: dict[str, Any]) -> None:
    preset = written(text)
    assert preset.tab == tab
    assert {key: preset.values[key] for key in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        "network_dim = 4\nnetwork_module = 'networks.lora'\nprior_loss_weight = 0.0\nlr_scheduler_power = 0.0\n",
        "network_dim = 4\nnetwork_module = 'lycoris.kohya'\nnetwork_args = ['algo=loha', 'odd=1']\n",
        "network_dim = 4\nnetwork_module = 'networks.lora'\ncaption_prefix = 'x'\n"
        "no_metadata = true\nmin_snr_gamma = 5.0\n",
    ],
)
def test_the_gui_hands_over_what_the_config_says(text: str) -> None:
    config = loads(text, "rose.toml")
    result = as_gui({**written(text).values, "output_dir": "out"}, "lora")
    options = " ".join(result.command[result.command.index("--config_file") + 2 :])
    told = loads(options, "x.args") if options else TrainConfig()
    for name in (
        "network_dim",
        "prior_loss_weight",
        "lr_scheduler_power",
        "network_args",
        "caption_prefix",
        "no_metadata",
    ):
        value = told[name] if f"--{name}" in options else result.toml.get(name, TrainConfig()[name])
        assert (tuple(value) or None if isinstance(value, (list, tuple)) else value) == config[name], name


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ('network_module = "networks.dylora"\nnetwork_dim = 8\nnetwork_args = ["unit=4"]\n', ["unit=4"]),
        ('network_module = "networks.lora"\nnetwork_dim = 8\n', []),
        ('network_module = "networks.loha"\nnetwork_dim = 8\nno_half_vae = true\n', []),
    ],
)
def test_arguments_that_are_not_given_stay_out(text: str, args: list[str]) -> None:
    preset = written(text)
    assert preset.values["additional_parameters"] == ""
    assert as_gui({**preset.values, "output_dir": "out"}, "lora").toml["network_args"] == args


def test_what_the_gui_cannot_hold_is_told() -> None:
    notes = written("network_dim = 4\ncaption_prefix = 'two words'\n").notes
    assert [(note.key, note.action) for note in notes] == [("caption_prefix", "dropped")]
    (note,) = written("network_dim = 4\nno_metadata = true\n").notes
    assert (note.key, note.text) == ("additional_parameters", "--no_metadata")


def test_secrets_are_left_empty() -> None:
    config = TrainConfig().with_values(wandb_api_key="key", network_dim=4)
    assert gui_write.write(config).values["wandb_api_key"] == ""
    assert gui_write.write(config, keep_secrets=True).values["wandb_api_key"] == "key"
