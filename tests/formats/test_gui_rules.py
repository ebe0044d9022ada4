"""The GUI's rules beside its fields: old keys, page events, step arithmetic, warm-up, scripts, the command line."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from kohyakit.formats import loads
from kohyakit.formats.gui.launch import Folders, GuiResult, as_gui

BASE = {"optimizer": "AdamW8bit", "output_dir": "out", "train_data_dir": "img", "lr_warmup": 0}


class Hundred(Folders):
    def images(self, folder: str) -> int:
        return 12

    def weighted_images(self, parent: str) -> int:
        return 100


def gui(tab: str = "lora", **preset: Any) -> GuiResult:
    return as_gui({**BASE, **preset}, tab, folders=Hundred())


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ({"use_8bit_adam": True}, {"optimizer_type": "AdamW8bit"}),
        ({"use_8bit_adam": False}, {"optimizer_type": "AdamW"}),
        ({}, {"optimizer_type": "AdamW"}),
        ({"use_8bit_adam": True, "optimizer": "Lion"}, {"optimizer_type": "Lion"}),
        ({"lora_network_weights": "old.pt", "network_weights": "new.pt"}, {"network_weights": "old.pt"}),
        ({"xformers": True}, {"xformers": True, "sdpa": None}),
        ({"xformers": False}, {"xformers": None, "sdpa": None}),
        ({"use_wandb": "True"}, {"log_with": "wandb"}),
        ({"use_wandb": True}, {"log_with": None}),
        ({"LoRA_type": "Standard", "save_model_as": "diffusers"}, {"save_model_as": "safetensors"}),
        ({"LoRA_type": "LoCon"}, {"network_module": "lycoris.kohya"}),
        ({"epoch": "12.0", "max_train_steps": 0}, {"epoch": None, "max_train_steps": None}),
        ({"epoch": 2.5}, {"epoch": 2}),
        ({"seed": ""}, {"seed": None}),
        ({"clip_skip": "two"}, {"clip_skip": None}),
        ({"lr_scheduler_num_cycles": ""}, {"lr_scheduler_num_cycles": 1}),
        ({"lr_scheduler_power": "x"}, {"lr_scheduler_power": 1}),
        ({"max_token_length": "225"}, {"max_token_length": 225}),
        ({"max_token_length": ""}, {"max_token_length": 75}),
        ({"learning_rate": "1e-3"}, {"learning_rate": 0.001}),
        ({"unet_lr": "fast"}, {"unet_lr": None}),
        ({"noise_offset": "0.05"}, {"noise_offset": 0.05}),
    ],
    ids=lambda value: json.dumps(value),
)
def test_old_keys_and_loose_numbers(preset: dict, expected: dict) -> None:
    result = as_gui(
        {**BASE, **preset} if "optimizer" in preset else {**dict(list(BASE.items())[1:]), **preset},
        "lora",
        folders=Hundred(),
    )
    assert {key: result.toml.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    "lost",
    ["conv_dims", "conv_alphas", "stop_text_encoder_training_pct", "no_token_padding", "save_as_bool", "anything"],
)
def test_keys_that_the_gui_loses(lost: str) -> None:
    assert gui(**{lost: "8,8"}).toml == gui().toml


def test_zero_is_dropped_on_the_lora_tab_and_kept_on_dreambooth() -> None:
    zeros = dict.fromkeys(["max_grad_norm", "prior_loss_weight", "lr_scheduler_power", "learning_rate"], 0)
    lora = gui(**zeros, noise_offset_type="Multires", multires_noise_discount=0).toml
    assert not lora.keys() & {*zeros, "multires_noise_discount"}
    dreambooth = gui("dreambooth", **zeros, multires_noise_discount=0).toml
    assert {key: dreambooth[key] for key in zeros} == zeros
    assert dreambooth["multires_noise_discount"] == 0


def test_text_boxes_hold_text_and_whole_floats_are_ints() -> None:
    result = gui("ti", token_string="rose", resume_from_huggingface=False, prior_loss_weight=1.0)
    assert result.toml["resume_from_huggingface"] == "False"
    assert type(result.toml["prior_loss_weight"]) is int


@pytest.mark.parametrize(
    ("preset", "steps"),
    [
        ({}, 1600),
        ({"epoch": 3}, 1600),
        ({"epoch": 3, "max_train_steps": 0}, 300),
        ({"epoch": 3, "max_train_steps": ""}, 300),
        (
            {
                "epoch": 3,
                "max_train_steps": 0,
                "train_batch_size": 4,
                "gradient_accumulation_steps": 2,
                "reg_data_dir": "reg",
            },
            75,
        ),
        ({"epoch": 3, "max_train_steps": 0, "train_batch_size": 7}, 43),
        ({"epoch": 3, "max_train_steps": 0, "num_processes": 4}, 300),
        ({"epoch": 3, "max_train_steps": 250}, 250),
        ({"epoch": 3, "max_train_steps": 0, "dataset_config": "d.toml"}, None),
        ({"max_train_steps": 0, "max_train_epochs": 7}, 100),
    ],
    ids=lambda value: json.dumps(value),
)
def test_step_arithmetic(preset: dict, steps: int | None) -> None:
    assert gui(**preset).toml.get("max_train_steps") == steps


def test_finetune_counts_flat_images_and_halves_for_flips() -> None:
    form = {"image_folder": "img", "max_train_steps": 0, "epoch": 2, "train_batch_size": 4}
    assert gui("finetune", **form).toml["max_train_steps"] == 240
    assert gui("finetune", **form, flip_aug=True).toml["max_train_steps"] == 120
    assert gui("finetune", **{**form, "max_train_steps": 501}, flip_aug=True).toml["max_train_steps"] == 251


@pytest.mark.parametrize(
    ("tab", "preset", "expected"),
    [
        ("lora", {"lr_warmup": 10}, 0.1),
        ("lora", {"lr_warmup": 100}, 1.0),
        ("lora", {"lr_warmup": 10, "lr_warmup_steps": 50}, 50),
        ("lora", {"lr_warmup": 10, "dataset_config": "d.toml", "max_train_steps": 333}, 33),
        ("lora", {"lr_warmup": 10, "dataset_config": "d.toml", "max_train_steps": 0}, 0.1),
        ("lora", {"lr_warmup_steps": 40, "dataset_config": "d.toml", "max_train_steps": 0}, None),
        ("dreambooth", {"lr_warmup": 10, "dataset_config": "d.toml", "max_train_steps": 333}, 0.1),
        ("lora", {"lr_warmup": 10, "lr_scheduler": "constant"}, None),
        ("lora", {"lr_warmup_steps": 40, "lr_scheduler": "constant"}, None),
        ("lora", {"lr_warmup": 10, "lr_scheduler": "adafactor"}, 0.1),
        # the Finetune page starts with constant, so nothing changes and the event does not fire
        ("finetune", {"lr_warmup": 10, "lr_scheduler": "constant", "image_folder": "i"}, 0.1),
    ],
)
def test_warm_up(tab: str, preset: dict, expected: float | None) -> None:
    value = gui(tab, **preset).toml.get("lr_warmup_steps")
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("tab", "flags", "script"),
    [
        ("lora", {}, "train_network.py"),
        ("lora", {"sdxl": True}, "sdxl_train_network.py"),
        ("lora", {"flux1_checkbox": True, "LoRA_type": "Flux1"}, "flux_train_network.py"),
        ("lora", {"sd3_checkbox": True}, "sd3_train_network.py"),
        ("lora", {"sdxl": True, "sd3_checkbox": True}, "sdxl_train_network.py"),
        ("lora", {"hunyuan_image_checkbox": True, "LoRA_type": "HunyuanImage-2.1"}, "hunyuan_image_train_network.py"),
        ("lora", {"anima_checkbox": True, "LoRA_type": "Anima"}, "anima_train_network.py"),
        ("lora", {"lumina_checkbox": True, "LoRA_type": "Lumina"}, "lumina_train_network.py"),
        ("lora", {"LoRA_type": "Flux1"}, "train_network.py"),
        ("dreambooth", {}, "train_db.py"),
        ("dreambooth", {"sdxl": True}, "sdxl_train.py"),
        ("dreambooth", {"sd3_checkbox": True, "flux1_checkbox": True}, "sd3_train.py"),
        ("dreambooth", {"flux1_checkbox": True}, "flux_train.py"),
        ("finetune", {}, "fine_tune.py"),
        ("finetune", {"sdxl_checkbox": True}, "sdxl_train.py"),
        ("finetune", {"anima_checkbox": True}, "anima_train.py"),
        ("finetune", {"lumina_checkbox": True}, "lumina_train.py"),
        ("ti", {"token_string": "x"}, "train_textual_inversion.py"),
        ("ti", {"token_string": "x", "sdxl": True}, "sdxl_train_textual_inversion.py"),
    ],
)
def test_scripts(tab: str, flags: dict, script: str) -> None:
    result = gui(tab, **flags)
    assert result.script == script
    assert f"sd-scripts/{script}" in result.command


@pytest.mark.parametrize(
    ("model", "flags", "script", "v2", "v_parameterization"),
    [
        ("stabilityai/stable-diffusion-xl-base-1.0", {}, "sdxl_train_network.py", None, None),
        ("stabilityai/stable-diffusion-2-1", {}, "train_network.py", True, True),
        ("stabilityai/stable-diffusion-2-base", {"sdxl": True}, "train_network.py", True, None),
        ("CompVis/stable-diffusion-v1-4", {"sdxl": True}, "train_network.py", None, None),
        # the fresh page's own model: nothing changes, so the box stands
        ("runwayml/stable-diffusion-v1-5", {"sdxl": True}, "sdxl_train_network.py", None, None),
        ("model.ckpt", {"sdxl": True}, "sdxl_train_network.py", None, None),
        ("model.ckpt", {"v_parameterization": True}, "train_network.py", None, None),
    ],
)
def test_the_models_name_sets_the_family(
    model: str, flags: dict, script: str, v2: bool | None, v_parameterization: bool | None
) -> None:
    result = gui(pretrained_model_name_or_path=model, **flags)
    assert (result.script, result.toml.get("v2"), result.toml.get("v_parameterization")) == (
        script,
        v2,
        v_parameterization,
    )


@pytest.mark.parametrize(
    ("tensor", "script"),
    [
        ("model.diffusion_model.x_embedder.proj.weight", "sd3_train_network.py"),
        ("conditioner.embedders.0.x", "sdxl_train_network.py"),
        ("cond_stage_model.model.x", "train_network.py"),
        ("model.x", "train_network.py"),
    ],
)
def test_a_checkpoint_on_disk_decides_by_its_tensors(tmp_path: Path, tensor: str, script: str) -> None:
    header = json.dumps({tensor: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    result = gui(pretrained_model_name_or_path=str(path), sdxl=script != "sdxl_train_network.py")
    assert result.script == script
    assert result.toml.get("v2") == (True if tensor.startswith("cond_stage") else None)


@pytest.mark.parametrize(
    "preset",
    [
        {"optimizer_args": "a=1  b=2"},
        {"optimizer_args": "a = 1"},
        {"lr_scheduler_args": "T_max"},
        {"text_encoder_lr": 0, "t5xxl_lr": 0.1},
        {"text_encoder_lr": 0, "unet_lr": 0, "learning_rate": 0},
        {"flux1_checkbox": True},
        {"anima_checkbox": True},
        {"LoRA_type": "Lumina"},
        {"LoRA_type": "Kohya LoHa"},
        {"LoRA_type": "Kohya LoKr", "sdxl": True, "sd3_checkbox": True},
        {"LoRA_type": "No such type"},
        {"bucket_reso_steps": 0},
        {"noise_offset": 2},
        {"train_batch_size": 0, "max_train_steps": 0},
        {"epoch": []},
        {"learning_rate": {}},
        {"train_batch_size": "four", "max_train_steps": 0},
    ],
    ids=lambda value: json.dumps(value),
)
def test_what_the_gui_does_not_start_with(preset: dict) -> None:
    result = gui(**preset)
    assert [problem.name for problem in result.refusals] == ["gui_stops"]
    assert (result.toml, result.script, result.command) == ({}, "", ())


def test_both_rates_zero_leave_both_flags_out() -> None:
    toml = gui(text_encoder_lr=0, unet_lr=0, learning_rate=0.1).toml
    assert not toml.keys() & {
        "network_train_unet_only",
        "network_train_text_encoder_only",
        "unet_lr",
        "text_encoder_lr",
    }
    assert gui(text_encoder_lr=0).toml["network_train_unet_only"] is True
    assert gui(unet_lr=0).toml["network_train_text_encoder_only"] is True


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network_dim", 100000),
        ("caption_extension", ".txt2"),
        ("lr_warmup", 120),
        ("huber_c", 2),
        ("mixed_precision", "fp32"),
    ],
)
def test_values_that_the_form_refuses_on_screen(key: str, value: object) -> None:
    result = gui(**{key: value})
    assert [(problem.where, problem.name) for problem in result.refusals] == [(key, "gui_refuses")]
    assert result.toml


def test_the_command_line_in_full() -> None:
    result = as_gui(
        {
            **BASE, "dynamo_backend": "inductor", "dynamo_mode": "max-autotune", "dynamo_use_fullgraph": True,
            "dynamo_use_dynamic": True, "extra_accelerate_launch_args": '--debug --x "a b"', "gpu_ids": "0,1",
            "main_process_port": 29500, "mixed_precision": "bf16", "multi_gpu": True, "num_processes": 2,
            "num_machines": 1, "num_cpu_threads_per_process": 4, "additional_parameters": '--foo "a b" [1,2]',
        },
        "lora", folders=Hundred(),
    )  # fmt: skip
    assert list(result.command) == [
        "accelerate", "launch",
        "--dynamo_backend", "inductor", "--dynamo_mode", "max-autotune", "--dynamo_use_fullgraph",
        "--dynamo_use_dynamic", "--debug", "--x", "a", "b", "--gpu_ids", "0,1", "--main_process_port", "29500",
        "--mixed_precision", "bf16", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--num_cpu_threads_per_process", "4", "sd-scripts/train_network.py", "--config_file", "out/config_lora.toml",
        "--foo", "a", "b", "'[1,2]'",
    ]  # fmt: skip


def test_folders_are_counted_as_the_gui_counts(tmp_path: Path) -> None:
    for name, count in (("10_rose red", 3), ("2_tulip", 4), ("no number", 5), ("_x", 1)):
        folder = tmp_path / name
        folder.mkdir()
        for place in range(count):
            (folder / f"{place}.{['jpg', 'PNG', 'webp', 'jpeg'][place % 4]}").touch()
        (folder / "a.bmp").touch()
        (folder / "a.txt").touch()
    assert Folders().weighted_images(str(tmp_path)) == 10 * 3 + 2 * 4
    assert Folders().images(str(tmp_path / "2_tulip")) == 4
    assert Folders().weighted_images(str(tmp_path / "missing")) == 0


def test_no_warm_up_can_be_asked_for_over_a_presets_share() -> None:
    """The GUI takes its share of the steps where the steps are 0; what a person sets goes before both."""
    preset = json.dumps({"LoRA_type": "Standard", "lr_warmup": 10, "epoch": 1})
    assert loads(preset, "p.json").optimizer.lr_warmup_steps == 0.1
    assert loads(preset, "p.json", overrides={"lr_warmup_steps": 0}).optimizer.lr_warmup_steps == 0
    assert loads(preset, "p.json", overrides={"lr_warmup_steps": 7}).optimizer.lr_warmup_steps == 7
    assert loads(preset, "p.json", overrides={"lr_warmup": 20}).optimizer.lr_warmup_steps == 0.2
