"""What a preset means: repairs, lengths, warm-up, families, and a note for every key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.formats import load, loads

BASE = {"LoRA_type": "Standard", "optimizer": "AdamW8bit", "lr_warmup": 0}


def meant(tab: str | None = None, **preset: Any) -> TrainConfig:
    return loads(json.dumps({**BASE, **preset}), "rose.json", tab=tab)


def notes(config: TrainConfig, key: str) -> list[tuple[str, str]]:
    assert config.source is not None
    return [(note.action, note.text) for note in config.source.notes if key in note.key.split(", ")]


@pytest.mark.parametrize(
    ("preset", "name", "value"),
    [
        ({"network_dim": "32"}, "network_dim", 32),
        ({"network_dim": "32.0"}, "network_dim", 32),
        ({"network_dim": 32.0}, "network_dim", 32),
        ({"learning_rate": "1e-4"}, "learning_rate", 1e-4),
        ({"seed": "1234"}, "seed", 1234),
        ({"seed": ""}, "seed", None),
        ({"seed": 0}, "seed", None),
        ({"clip_skip": 0}, "clip_skip", None),
        ({"min_snr_gamma": 0}, "min_snr_gamma", None),
        ({"max_token_length": "75"}, "max_token_length", None),
        ({"max_token_length": 225}, "max_token_length", 225),
        ({"cache_latents": "True"}, "cache_latents", True),
        ({"cache_latents": "False"}, "cache_latents", False),
        ({}, "cache_latents", True),
        ({}, "caption_extension", ".txt"),
        ({"caption_extension": ""}, "caption_extension", ".caption"),
        ({}, "max_bucket_reso", 2048),
        ({"xformers": True}, "xformers", True),
        ({"xformers": "sdpa"}, "sdpa", True),
        ({"max_grad_norm": 0}, "max_grad_norm", 0),
        ({"prior_loss_weight": 0}, "prior_loss_weight", 0),
        ({"text_encoder_lr": 0}, "network_train_unet_only", True),
        ({"unet_lr": 0}, "network_train_text_encoder_only", True),
        ({"text_encoder_lr": 5e-5}, "text_encoder_lr", (5e-5, 5e-5)),
        ({"optimizer": "Prodigy"}, "optimizer_type", "Prodigy"),
        ({"max_resolution": "768,512"}, "resolution", "768,512"),
        ({"conv_dims": "4,4"}, "network_args", ("conv_block_dims=4,4",)),
        ({"use_wandb": True}, "log_with", "wandb"),
        ({"additional_parameters": "--max_grad_norm=0 --lowram"}, "max_grad_norm", 0),
        ({"additional_parameters": "--max_grad_norm=0 --lowram"}, "lowram", True),
        ({"additional_parameters": "--something new"}, "additional_parameters", "--something new"),
        ({"caption_prefix": "photo of"}, "caption_prefix", "photo of"),
        ({"sample_prompts": "a rose --d 1\na tulip"}, "sample_prompts", "a rose --d 1\na tulip"),
        ({"noise_offset_type": "Multires", "noise_offset": 0.1}, "noise_offset", None),
        ({"num_processes": 4}, "num_processes", 4),
        ({"gpu_ids": "0,1"}, "gpu_ids", "0,1"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_values(preset: dict, name: str, value: object) -> None:
    assert meant(**preset)[name] == value


@pytest.mark.parametrize(
    ("preset", "steps", "epochs"),
    [
        ({}, 1600, None),
        ({"epoch": 10}, 1600, 10),
        ({"epoch": "12.0", "max_train_steps": 0}, 1600, 12),
        ({"epoch": 10, "max_train_steps": ""}, 1600, 10),
        ({"epoch": 10, "max_train_steps": "320"}, 320, None),
        ({"epoch": 10, "max_train_steps": 320, "max_train_epochs": 7}, 320, 7),
        ({"epoch": 10, "max_train_steps": 0, "dataset_config": "d.toml"}, 1600, 10),
        ({"epoch": 0, "max_train_steps": 0}, 1600, 1),
    ],
    ids=json.dumps,
)
def test_epochs_mean_epochs(preset: dict, steps: int, epochs: int | None) -> None:
    config = meant(**preset)
    assert (config["max_train_steps"], config["max_train_epochs"]) == (steps, epochs)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ({"lr_warmup": 10}, 0.1),
        ({"lr_warmup": "10"}, 0.1),
        ({"lr_warmup": 10, "lr_warmup_steps": 40}, 40),
        ({"lr_warmup": 10, "lr_scheduler": "constant"}, 0),
        ({"lr_warmup": 10, "lr_scheduler": "adafactor"}, 0.1),
        ({"lr_warmup": None, "lr_scheduler": "adafactor"}, 0),
        ({"lr_warmup": None}, 0.1),
    ],
    ids=json.dumps,
)
def test_warm_up(preset: dict, expected: float) -> None:
    assert meant(**preset)["lr_warmup_steps"] == expected


def test_a_family_box_is_believed_and_a_name_decides_without_one() -> None:
    believed = meant(sdxl=True, pretrained_model_name_or_path="CompVis/stable-diffusion-v1-4")
    assert believed.launch.script == "sdxl_train_network.py"
    named = meant(pretrained_model_name_or_path="stabilityai/stable-diffusion-xl-base-1.0", sdxl=False)
    assert named.launch.script == "sdxl_train_network.py"
    assert ("differs", "the GUI would start train_network.py") in notes(believed, "")


def test_a_note_where_the_gui_would_do_otherwise() -> None:
    config = meant(epoch=10, max_grad_norm=0, lr_scheduler="constant")
    assert notes(config, "max_train_epochs") == [("differs", "the GUI would train 1600 steps")]
    assert notes(config, "max_grad_norm")[-1] == ("differs", "the GUI would leave it out; sd-scripts' default is 1.0")
    assert not notes(meant(max_train_steps=500), "max_train_steps")[1:]


def test_every_key_is_accounted_for() -> None:
    preset = {
        "network_dim": "8", "netwrk_alpha": 4, "lowvram": True, "flux1_clip_l": "x", "sdxl": True,
        "model_list": "custom",
        "conv_dim": 8, "LoRA_type": "Standard", "seed": None, "shiny": 1, "use_8bit_adam": True,
    }  # fmt: skip
    config = loads(json.dumps(preset), "rose.json")
    assert config.source is not None
    told = {key: note for note in reversed(config.source.notes) for key in note.key.split(", ")}
    assert {key: told[key].action for key in preset} == {
        "network_dim": "mapped", "netwrk_alpha": "unknown", "lowvram": "dropped", "flux1_clip_l": "dropped",
        "sdxl": "mapped",
        "model_list": "dropped", "conv_dim": "dropped", "LoRA_type": "mapped", "seed": "defaulted", "shiny": "unknown",
        "use_8bit_adam": "mapped",
    }  # fmt: skip
    assert told["netwrk_alpha"].text == "kept; did you mean 'network_alpha'?"
    assert told["max_bucket_reso"].action == "defaulted"
    assert dict(config.extras) == {"netwrk_alpha": 4, "shiny": 1}


def test_a_misspelt_key_is_told_with_the_name_that_was_meant() -> None:
    config = loads('{"LoRA_type": "Standard", "netwrk_alpha": 4}', "portrait.json")
    told = "portrait.json: unknown parameter 'netwrk_alpha'; did you mean 'network_alpha'?"
    assert config.source is not None
    (problem,) = config.source.problems
    assert (str(problem), problem.severity, problem.name) == (told, "warning", "unknown_parameter")
    both = loads('{"LoRA_type": "Standard", "netwrk_alpha": 4, "network_alpha": 4}', "portrait.json")
    assert both.source is not None
    assert both.source.problems == ()


def test_every_problem_at_once_each_with_key_value_and_wish() -> None:
    with pytest.raises(ConfigError) as caught:
        meant(
            epoch="many",
            network_dim=[8],
            cache_latents="perhaps",
            learning_rate="0,001",
            LoRA_type="Standart",
            seed=True,
        )
    told = [str(problem) for problem in caught.value.problems]
    assert told == [
        "rose.json: learning_rate is '0,001', but a number was wanted; write 0.001 with a point",
        "rose.json: epoch is 'many', but a number was wanted",
        "rose.json: seed is True, but a number was wanted",
        "rose.json: cache_latents is 'perhaps', but true or false was wanted",
        "rose.json: network_dim is [8], but a single value was wanted",
        told[-1],
    ]
    assert told[-1].endswith("did you mean 'Standard'?")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[1, 2]",
            "rose.json: holds a list, but a preset is an object of names and values; look whether it is the right file",
        ),
        ('"x"', "holds a text"),
        ("", "rose.json: is empty"),
        ("{'a': 1}", "line 1, column 2: is not valid JSON"),
        ('{"a": 1,}', "is not valid JSON"),
        ('{"a": "C:\\x"}', "write a backslash in a path as \\\\ or as /"),
        ('{"network_dim": NaN}', "network_dim is nan, but a finite number was wanted"),
        ('{"network_dim": Infinity}', "network_dim is inf, but a finite number was wanted"),
        ("[" * 100000, "nested more than"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "nested more than"),
        ('{"network_dim": ' + "9" * 5000 + "}", "is not valid JSON"),
    ],
    ids=lambda value: value[:30],
)
def test_files_that_are_no_preset(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, "rose.json")
    assert told in str(caught.value)


def test_a_key_written_twice_is_told_and_the_last_counts() -> None:
    config = loads('{"LoRA_type": "Standard", "network_dim": 8, "network_dim": 16}', "rose.json")
    assert config["network_dim"] == 16
    assert config.source is not None
    (problem,) = config.source.problems
    assert "'network_dim' stands there twice; the last one, 16, counts" in str(problem)


def test_load_keeps_the_untouched_text(tmp_path: Path) -> None:
    raw = b'\xef\xbb\xbf{\r\n "LoRA_type": "Standard",\r\n "network_dim": 4}\r\n'
    path = tmp_path / "rose.json"
    path.write_bytes(raw)
    config = load(path)
    assert config["network_dim"] == 4
    assert config.source is not None
    assert config.source.text.encode("utf-8") == raw
    assert (config.source.path, config.source.format) == (path, "gui-json")


def test_a_file_that_is_not_utf8_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rose.json"
    path.write_bytes(b'{\n "output_name": "ros\xe9"}')
    with pytest.raises(ConfigError, match="line 2, column 21: the byte 0xe9 is not UTF-8; save the file as UTF-8"):
        load(path)


def test_overrides_go_before_the_file_and_know_both_names() -> None:
    text = json.dumps({**BASE, "max_train_epochs": 5, "network_dim": 4})
    config = loads(
        text,
        "x.json",
        overrides={"max_train_steps": "20", "optimizer_type": "Lion", "network_dim": "8", "caption_prefix": "a"},
    )
    assert (config["max_train_steps"], config["max_train_epochs"]) == (20, None)
    assert (config["optimizer_type"], config["network_dim"], config["caption_prefix"]) == ("Lion", 8, "a")
    assert loads(text, "x.json", overrides={"epoch": 3})["max_train_epochs"] == 3
    with pytest.raises(ConfigError, match="unknown parameter 'netwrk_dim'; did you mean 'network_dim'"):
        loads(text, "x.json", overrides={"netwrk_dim": 3})


def test_what_a_command_line_sets_is_no_text_that_the_gui_would_hand_over() -> None:
    """Typed into its field, 2 is the number 2 for the GUI too; only what it would do otherwise is told."""
    text = json.dumps({**BASE, "sample_every_n_epochs": 1, "cache_latents": True})
    typed = {"train_batch_size": "2", "sample_every_n_epochs": "0", "cache_latents": "false", "unet_lr": "2e-4"}
    for overrides in (
        typed,
        {"train_batch_size": 2, "sample_every_n_epochs": 0, "cache_latents": False, "unet_lr": 2e-4},
    ):
        config = loads(text, "x.json", overrides=overrides)
        assert (config["train_batch_size"], config["cache_latents"], config["unet_lr"]) == (2, False, 2e-4)
        told = [note.key for note in config.source.notes if note.action == "differs"]
        assert not {"", *typed}.intersection(told), config.source.notes


@pytest.mark.parametrize(
    ("keys", "script"),
    [
        ({"LoRA_type": "Standard"}, "train_network.py"),
        ({"token_string": "rose", "num_vectors_per_token": 4}, "train_textual_inversion.py"),
        ({"image_folder": "i", "train_dir": "t"}, "fine_tune.py"),
        ({"learning_rate_te": 1e-5, "max_train_steps": 5}, "train_db.py"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_tab_follows_the_keys(keys: dict, script: str) -> None:
    assert loads(json.dumps(keys), "x.json").launch.script == script


def test_as_gui_loads_what_the_gui_would_hand_over() -> None:
    config = loads(json.dumps({**BASE, "epoch": 10, "max_grad_norm": 0, "output_dir": "out"}), "x.json", as_gui=True)
    assert (config["max_train_steps"], config["max_train_epochs"], config["max_grad_norm"]) == (1600, None, 1.0)
    assert config["sample_prompts"] == "out/sample/prompt.txt"


def test_dreambooth_stop_is_a_share_of_the_steps() -> None:
    assert meant("dreambooth", max_train_steps=200, stop_text_encoder_training=30)["stop_text_encoder_training"] == 60
    assert meant("dreambooth", max_train_steps=200, stop_text_encoder_training=-1)["stop_text_encoder_training"] == -1


@pytest.mark.parametrize(
    ("steps", "sdxl", "works"), [(1, False, 64), (1, True, 32), (96, False, 128), (96, True, 96), (64, False, 64)]
)
def test_bucket_steps_that_worked_once_are_what_works_today_with_a_word(steps: int, sdxl: bool, works: int) -> None:
    config = meant(bucket_reso_steps=steps, sdxl=sdxl, enable_bucket=True)
    assert config.bucket.bucket_reso_steps == works
    said = [text for action, text in notes(config, "bucket_reso_steps") if action == "repaired"]
    assert [str(works) in text for text in said] == ([True] if works != steps else [])
    assert meant(bucket_reso_steps=1, enable_bucket=False).bucket.bucket_reso_steps == 1  # which nobody looks at
