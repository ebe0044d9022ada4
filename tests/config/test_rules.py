"""Each rule fires on the setting it is for, names it, says what to do, and is silent on the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.rules import RULES, check_rules
from kohyakit.config.train import Note, Source, TrainConfig

GOOD = {
    "pretrained_model_name_or_path": "base.safetensors",
    "train_data_dir": "img",
    "resolution": "512,512",
    "output_dir": "model",
    "network_module": "networks.lora",
    "network_dim": 16,
    "network_alpha": 8.0,
    "learning_rate": 1e-4,
    "save_every_n_epochs": 1,
}
TOML = {"source": Source(Path("run.toml"), "toml", "")}
SDXL = {"script": "sdxl_train_network.py", "resolution": "1024,1024"}
FLUX = {"script": "flux_train_network.py", "network_module": "networks.lora_flux"}
ANIMA = {"script": "anima_train_network.py", "network_module": "networks.lora_anima"}
TI = {
    "script": "train_textual_inversion.py",
    "token_string": "mydog01",
    "network_module": None,
    "network_dim": None,
    "network_alpha": 1.0,
}
TUNE = {"script": "sdxl_train.py", "network_module": None, "network_dim": None, "network_alpha": 1.0}

# rule -> (settings that it is for, settings that cure them)
CASES = {
    "base_model_missing": ({"pretrained_model_name_or_path": None}, {"pretrained_model_name_or_path": "x"}),
    "images_missing": ({"train_data_dir": None}, {"dataset_config": "data.toml"}),
    "resolution_missing": ({"resolution": None}, {"resolution": "512"}),
    "output_dir_missing": ({"output_dir": None}, {"output_dir": "out"}),
    "network_module_missing": ({"network_module": None}, {"network_module": "lycoris.kohya"}),
    "token_string_missing": (TI | {"token_string": None}, {"token_string": "mydog01"}),
    "resolution_unreadable": ({"resolution": "512x512"}, {"resolution": "512,512"}),
    "bucket_steps_do_not_divide": ({"enable_bucket": True, "bucket_reso_steps": 32}, SDXL),
    "min_bucket_above_resolution": ({"enable_bucket": True, "min_bucket_reso": 576}, {"min_bucket_reso": 512}),
    # 500 is rounded up to 512, which is enough; 448 stays
    "max_bucket_below_resolution": ({"enable_bucket": True, "max_bucket_reso": 448}, {"max_bucket_reso": 500}),
    "caching_latents_excludes_augmentation": ({"cache_latents_to_disk": True, "color_aug": True}, {"color_aug": False}),
    "caching_text_excludes_caption_changes": (
        SDXL | {"cache_text_encoder_outputs": True, "network_train_unet_only": True, "shuffle_caption": True},
        {"shuffle_caption": False},
    ),
    "caching_text_excludes_training_it": (
        SDXL | {"cache_text_encoder_outputs_to_disk": True},
        {"network_train_unet_only": True},
    ),
    "face_crop_range_unreadable": ({"face_crop_aug_range": "4.0,2.0"}, {"face_crop_aug_range": "2.0,4.0"}),
    "persistent_workers_without_workers": (
        {"persistent_data_loader_workers": True, "max_data_loader_n_workers": 0},
        {"max_data_loader_n_workers": 1},
    ),
    "samples_without_prompts": ({"sample_every_n_epochs": 1}, {"sample_prompts": "p.txt"}),
    "tensorboard_without_logging_dir": ({"log_with": "all"}, {"logging_dir": "log"}),
    "initial_step_beyond_the_end": ({"initial_step": 1600}, {"max_train_steps": 2000}),
    "warmup_not_allowed": ({"lr_warmup_steps": 0.1}, {"lr_scheduler": "constant_with_warmup"}),
    "scheduler_unknown": ({"lr_scheduler": "cosin"}, {"lr_scheduler": "cosine"}),
    "adafactor_scheduler_alone": ({"lr_scheduler": "adafactor"}, {"optimizer_type": "Adafactor"}),
    "min_lr_ratio_missing": ({"lr_scheduler": "cosine_with_min_lr"}, {"lr_scheduler_args": ("min_lr=1e-6",)}),
    "step_rules_missing": ({"lr_scheduler": "piecewise_constant"}, {"lr_scheduler_args": ("step_rules='1:500,0.1'",)}),
    "optimizer_argument_refused": ({"optimizer_args": ("betas=0.9,1.5",)}, {"optimizer_args": ("betas=0.9,0.99",)}),
    "step_rules_unreadable": (
        {"lr_scheduler": "piecewise_constant", "lr_scheduler_args": ("step_rules='1:a,2'",)},
        {"lr_scheduler_args": ("step_rules='1:500,0.1'",)},
    ),
    "scheduler_class_unknown": ({"lr_scheduler_type": "LinearLr"}, {"lr_scheduler_type": "LinearLR"}),
    "schedule_argument_missing": ({"lr_scheduler_type": "StepLR"}, {"lr_scheduler_args": ("step_size=10",)}),
    "annealing_length_missing": ({"lr_scheduler_type": "CosineAnnealingLR"}, {"lr_scheduler_args": ("T_max=1000",)}),
    "optimizer_unknown": ({"optimizer_type": "AdamW8bits"}, {"optimizer_type": "adamw8BIT"}),
    "optimizer_named_twice": ({"use_8bit_adam": True, "optimizer_type": "Lion"}, {"use_8bit_adam": False}),
    "one_rate_only": (
        {"optimizer_type": "Prodigy", "learning_rate": 1.0, "text_encoder_lr": (0.5,)},
        {"text_encoder_lr": (0.0,)},
    ),
    "fused_backward_pass_alone": ({"fused_backward_pass": True}, {"optimizer_type": "Adafactor"}),
    "nothing_to_train": ({"unet_lr": 0.0, "text_encoder_lr": (0.0,)}, {"unet_lr": 1e-4}),
    "network_of_another_family": ({"network_module": "networks.lora_flux"}, {"script": "flux_train_network.py"}),
    "weights_for_dim_missing": ({"dim_from_weights": True}, {"network_weights": "a.safetensors"}),
    "block_count_wrong": ({"network_args": ("block_dims=" + ",".join("8" * 23),)}, SDXL),
    "dylora_ranks_do_not_fit": (
        {"network_module": "networks.dylora", "network_args": ("conv_dim=8", "unit=4")},
        {"network_args": ("conv_dim=16", "unit=4")},
    ),
    "oft_without_the_unet": (
        {"network_module": "networks.oft", "network_train_text_encoder_only": True},
        {"network_train_text_encoder_only": False},
    ),
    "full_precision_needs_mixed": ({"full_bf16": True, "mixed_precision": "fp16"}, {"mixed_precision": "bf16"}),
    "adamw_in_full_fp16": (
        {"full_fp16": True, "mixed_precision": "fp16", "optimizer_type": "AdamW"},
        {"optimizer_args": ("eps=1e-4",)},
    ),
    "adaptive_in_full_fp16": (
        {"full_fp16": True, "mixed_precision": "fp16", "optimizer_type": "Prodigy", "learning_rate": 1.0},
        {"full_fp16": False},
    ),
    "fp8_needs_mixed": ({"fp8_base": True}, {"mixed_precision": "bf16"}),
    "offloads_exclude_each_other": (
        FLUX | {"blocks_to_swap": 18, "cpu_offload_checkpointing": True},
        {"blocks_to_swap": None},
    ),
    "sdxl_is_not_v2": (SDXL | {"v2": True}, {"v2": False}),
    "chroma_needs_t5_mask": (FLUX | {"model_type": "chroma"}, {"apply_t5_attn_mask": True}),
    "adaptive_noise_scale_without_noise_offset": ({"adaptive_noise_scale": 0.05}, {"noise_offset": 0.05}),
    "v_loss_does_not_fit": ({"scale_v_pred_loss_like_noise_pred": True}, {"v_parameterization": True}),
    "huber_threshold_zero": (
        {"loss_type": "huber", "huber_schedule": "exponential", "huber_c": 0.0},
        {"huber_schedule": "snr"},
    ),
    "huber_snr_on_flow_model": (FLUX | {"loss_type": "huber"}, {"huber_schedule": "constant"}),
    "block_weight_unreadable": (
        {"network_args": ("down_lr_weight=sinus",)},
        {"network_args": ("down_lr_weight=sine+0.25",)},
    ),
    "block_lr_count_wrong": (TUNE | {"block_lr": "1e-4,1e-4"}, {"block_lr": ",".join(["1e-5"] * 23)}),
    "alpha_above_rank": ({"network_alpha": 32.0}, {"network_alpha": 16.0}),
    "conv_alpha_above_rank": ({"network_args": ("conv_dim=4", "conv_alpha=8")}, {"network_args": ("conv_dim=8",)}),
    "rank_not_given": ({"network_dim": None, "network_alpha": 1.0}, {"network_dim": 4}),
    "dropout_of_everything": ({"network_dropout": 1.0}, {"network_dropout": 0.1}),
    "rate_of_whole_models": ({"learning_rate": 2e-6}, {"unet_lr": 1e-4, "text_encoder_lr": (5e-5,)}),
    "rate_too_small_for_optimizer": ({"optimizer_type": "DAdaptAdam"}, {"learning_rate": 1.0}),
    "adafactor_ignores_rates": (
        {"optimizer_type": "Adafactor", "unet_lr": 1e-4},
        {"optimizer_args": ("relative_step=False",)},
    ),
    "schedule_free_ignores_schedule": (
        {"optimizer_type": "AdamWScheduleFree", "lr_scheduler": "cosine"},
        {"lr_scheduler": "constant"},
    ),
    "lowest_rate_named_twice": (
        {
            "lr_scheduler": "cosine_with_min_lr",
            "lr_scheduler_min_lr_ratio": 0.1,
            "lr_scheduler_args": ("min_lr=1e-7",),
        },
        {"lr_scheduler_min_lr_ratio": None},
    ),
    "schedule_does_not_fall": (
        {"lr_scheduler": "polynomial", "learning_rate": 1e-4, "lr_scheduler_args": ("lr_end=1e-4",)},
        {"lr_scheduler_args": ("lr_end=1e-5",)},
    ),
    "momentum_missing": (
        {"optimizer_type": "SGDNesterov", "optimizer_args": ("momentum=0",)},
        {"optimizer_args": ("momentum=0.5",)},
    ),
    "adafactor_ignores_schedule_args": (
        {"optimizer_type": "Adafactor", "lr_scheduler_args": ("lr_end=1e-6",)},
        {"lr_scheduler_args": None},
    ),
    "short_name_of_ours": (
        {"optimizer_type": "AdEMAMix8bit"},
        {"optimizer_type": "bitsandbytes.optim.AdEMAMix8bit"},
    ),
    "weights_decide_the_network": (
        {"dim_from_weights": True, "network_weights": "a.safetensors", "network_args": ("module_dropout=0.1",)},
        {"dim_from_weights": False},
    ),
    "warmup_longer_than_run": ({"lr_scheduler": "cosine", "lr_warmup_steps": 100.0}, {"lr_warmup_steps": 100}),
    "second_text_rate_unused": (SDXL | {"text_encoder_lr": (5e-5, 1e-5)}, {"text_encoder_lr": (5e-5, 5e-5)}),
    "text_rate_unused": ({"network_train_unet_only": True, "text_encoder_lr": (5e-5,)}, {"text_encoder_lr": None}),
    "half_vae_on_sdxl": (SDXL | {"mixed_precision": "fp16"}, {"mixed_precision": "bf16"}),
    "clip_skip_without_effect": (SDXL | {"clip_skip": 2}, {"clip_skip": None}),
    "zero_terminal_snr_without_v": ({"zero_terminal_snr": True}, {"v_parameterization": True}),
    "two_noise_changes": ({"noise_offset": 0.1, "multires_noise_iterations": 6}, {"noise_offset": None}),
    "two_loss_weights": ({"min_snr_gamma": 5.0, "debiased_estimation_loss": True}, {"min_snr_gamma": None}),
    "timesteps_upside_down": ({"min_timestep": 600, "max_timestep": 400}, {"min_timestep": 200}),
    "mask_without_source": ({"masked_loss": True}, {"alpha_mask": True}),
    "samples_never_drawn": ({"sample_prompts": "p.txt"}, {"sample_every_n_steps": 100}),
    "only_the_last_is_saved": ({"save_every_n_epochs": None}, {"save_n_epoch_ratio": 5}),
    "keeping_without_saving": ({"save_last_n_steps": 500}, {"save_every_n_steps": 250}),
    "epoch_is_not_read": (
        {"source": Source(Path("run.toml"), "toml", "", (Note("epoch", "dropped"),))},
        {"max_train_epochs": 10},
    ),
    "fp8_base_not_supported": (ANIMA | {"fp8_base": True}, {"fp8_base": False}),
    "secret_in_file": (TOML | {"wandb_api_key": "hunter2"}, {"wandb_api_key": None}),
    "multi_gpu_with_one_process": ({"multi_gpu": True}, {"num_processes": 2}),
    "script_unknown": ({"script": "train_lora.py"}, {"script": "train_network.py"}),
    "old_names": ({"caption_extention": ".txt"}, {"caption_extention": None, "caption_extension": ".txt"}),
}


def config(**values) -> TrainConfig:
    from dataclasses import replace

    source = values.pop("source", None)
    return replace(TrainConfig().with_values(**{**GOOD, **values}), source=source)


def test_a_usual_config_has_no_findings():
    assert check_rules(config()) == ()


def test_every_rule_has_a_case():
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("name", CASES)
def test_rule(name):
    wrong, cure = CASES[name]
    problem = RULES[name](config(**wrong))
    assert problem is not None, f"{name} is silent on {wrong}"
    assert problem.name == name
    assert problem.what
    assert problem.cure, f"{name} does not say what to do"
    assert problem in check_rules(config(**wrong)) or problem.what in {p.what for p in check_rules(config(**wrong))}
    assert RULES[name](config(**{**wrong, **cure})) is None, f"{name} still complains after {cure}"
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"optimizer_args": ("decouple=true", "betas=0.9,0.99")}, ["decouple=true"]),
        ({"optimizer_args": ("a", "b")}, ["'a'", "'b'"]),
        ({"lr_scheduler_args": ("T_max=x",)}, ["T_max=x"]),
        ({"optimizer_args": ("relative_step=False",)}, ["AdamW does not take relative_step"]),
        ({"optimizer_type": "Prodigy", "learning_rate": 1.0, "optimizer_args": ("decople=True",)}, ["'decouple'"]),
        ({"lr_scheduler_args": ("T_max=9",)}, ["constant does not take T_max"]),
        ({"network_args": ("conv_dm=8", "rank_dropout=2")}, ["conv_dim", "rank_dropout"]),
        ({"network_args": ("factor=8",)}, ["networks.lora does not take factor"]),
        ({"cache_text_encoder_outputs": True}, ["train_network.py does not read cache_text_encoder_outputs"]),
        ({"discrete_flow_shift": 3.0}, ["does not read discrete_flow_shift"]),
        ({"save_model_as": "diffusers"}, ["does not take save_model_as 'diffusers'"]),
    ],
)
def test_findings_of_single_texts_and_keys(values, says):
    found = [str(p) for p in check_rules(config(**values))]
    for words in says:
        assert any(words in text for text in found), found
    assert len(found) == len(says)


def test_errors_come_first_and_name_the_file():
    found = check_rules(config(**TOML, network_alpha=99.0, lr_scheduler="cosin"))
    assert [p.severity for p in found] == ["error", "warning"]
    assert all(p.where == "run.toml" for p in found)


def test_what_sd_scripts_trains_with_is_no_error():
    """Odd settings that sd-scripts runs with: they may be warned of, never refused."""
    odd = [
        {"network_alpha": 0.0},
        {"lr_warmup_steps": 0.0001},  # less than one step
        {"optimizer_type": "AdamWScheduleFree", "lr_scheduler": "nonsense", "lr_warmup_steps": 100},
        {"optimizer_type": "Adafactor", "lr_scheduler": "cosine"},
        {"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler": "nonsense", "lr_scheduler_args": ("T_max=9",)},
        {"enable_bucket": False, "bucket_reso_steps": 7, "min_bucket_reso": 9999},
        {"dataset_config": "d.toml", "color_aug": True, "cache_latents": True, "resolution": None},
        {"optimizer_type": "Prodigy", "learning_rate": 1.0, "text_encoder_lr": (0.0,)},
        {"lr_scheduler": "cosine", "lr_warmup_steps": 5000},
        {"noise_offset": 0.05, "adaptive_noise_scale": -0.1},
        {"full_bf16": True, "script": "train_textual_inversion.py", "token_string": "a"},
    ]
    for values in odd:
        assert [p for p in check_rules(config(**values)) if p.severity == "error"] == [], values


@pytest.mark.shared
def test_presets_of_the_gui(goldens):
    """What the real GUI writes for sd-scripts: the only refusals are those that sd-scripts' own asserts make."""
    import json

    from kohyakit.config.read import read_values

    refused = {}
    for path in sorted((goldens / "presets").glob("*.json")):
        golden = json.loads(path.read_text(encoding="utf-8"))
        read, problems = read_values(golden["toml"], path.name)
        read = read.with_values(script=golden["script"])
        assert [p for p in problems if p.severity == "error"] == [], path.name
        for problem in check_rules(read):
            if problem.severity == "error":
                refused.setdefault(problem.name, []).append((path.stem, golden["toml"]))
    # bucket_reso_steps 1 or 10 with buckets; and warm-up with Adafactor's relative step, as the facts say
    assert set(refused) == {"bucket_steps_do_not_divide", "warmup_not_allowed"}
    assert [name for name, _ in refused["warmup_not_allowed"]] == ["presets-finetune-adafactor"]
    assert all(toml["bucket_reso_steps"] % 32 for _, toml in refused["bucket_steps_do_not_divide"])


def test_as_sd_scripts_itself():
    """400 settings put before sd-scripts' own checks, optimizers and schedulers: we refuse exactly what it refuses."""
    import json

    from kohyakit.config.read import read_values

    recorded = json.loads((Path(__file__).parent / "recorded_refusals.json").read_text(encoding="utf-8"))
    differ = []
    for case in recorded["cases"]:
        read, problems = read_values({**recorded["base"], **case["values"]}, "x.toml")
        errors = [str(p) for p in (*problems, *check_rules(read)) if p.severity == "error"]
        if bool(errors) != case["refused"]:
            differ.append((case, errors))
    assert differ == []
    assert sum(case["refused"] for case in recorded["cases"]) == 200
