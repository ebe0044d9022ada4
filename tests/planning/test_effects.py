"""Settings that cannot take effect are said, and only those."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.formats import loads
from kohyakit.planning.effects import _NEEDS
from kohyakit.planning.make import make_plan
from kohyakit.planning.plan import Plan
from tests import stand_in

pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, seven repeats: an epoch of 14 steps."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("effects")
    (folder / "img/7_dog").mkdir(parents=True)
    for letter in "ab":
        Image.new("RGB", (64, 64)).save(folder / f"img/7_dog/{letter}.png")
        (folder / f"img/7_dog/{letter}.txt").write_text("dog", encoding="utf-8")
    stand_in.folder(folder / "base")
    return folder


def plan_of(folder: Path, **values: object) -> Plan:
    standard = {
        "pretrained_model_name_or_path": str(folder / "base"), "train_data_dir": str(folder / "img"),
        "output_dir": str(folder / "out"), "output_name": "x", "caption_extension": ".txt", "resolution": "64,64",
        "max_train_epochs": 1, "learning_rate": 1e-4, "network_module": "networks.lora", "network_dim": 4,
        "save_every_n_epochs": 1,
    }  # fmt: skip
    return make_plan(TrainConfig().with_values(**{**standard, **values}), backend="kohyakit")


def said(plan: Plan) -> list[tuple[str, str]]:
    return [(problem.name, problem.severity) for problem in plan.findings]


# settings, the finding, what it says
SPRUNG = [
    ({"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 100}, "warmup_beyond_the_run", "gets above 14 %"),
    ({"lr_scheduler": "cosine", "lr_warmup_steps": 14}, "warmup_beyond_the_run", "as long as the run of 14"),
    ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 20}, "restarts_beyond_the_run", "20 restarts"),
    (
        {"sample_prompts": "a dog", "sample_every_n_epochs": 1, "sample_every_n_steps": 5},
        "sample_steps_unused",
        "sample_every_n_epochs 1 goes before it",
    ),
    ({"sample_prompts": "a dog", "sample_every_n_epochs": 3}, "samples_beyond_the_run", "the run has only 1"),
    ({"sample_prompts": "a dog", "sample_every_n_steps": 15}, "samples_beyond_the_run", "the run has only 14"),
    ({"save_every_n_epochs": 2}, "saves_beyond_the_run", "only the final file is saved"),
    ({"save_every_n_epochs": 1, "save_from_epoch": 3}, "saves_beyond_the_run", "it is 3, but the run has only 1"),
    ({"save_at_epochs": (1, 4, 3)}, "saves_beyond_the_run", "none is saved at 3, 4"),
    (
        {"lr_scheduler": "warmup_stable_decay", "lr_warmup_steps": 10, "lr_decay_steps": 10},
        "schedule_too_long",
        "10 warm-up and 10 decay steps do not fit into 14 steps",
    ),
]


@pytest.mark.parametrize(("values", "name", "told"), SPRUNG)
def test_numbers_that_a_short_run_never_reaches(project: Path, values: dict, name: str, told: str) -> None:
    found = [problem for problem in plan_of(project, **values).findings if problem.name == name]
    assert found, said(plan_of(project, **values))
    assert told in found[0].what
    longer = plan_of(project, **{**values, "max_train_epochs": 10})
    assert name == "sample_steps_unused" or name not in [problem.name for problem in longer.findings]


def test_a_share_of_the_run_always_fits(project: Path) -> None:
    assert said(plan_of(project, lr_scheduler="cosine", lr_warmup_steps=0.5)) == []


# a value that is not the default, for every parameter that another one can make idle
VALUES: dict[str, object] = {
    "min_bucket_reso": 128, "max_bucket_reso": 512, "bucket_reso_steps": 128, "bucket_no_upscale": True,
    "huber_schedule": "constant", "huber_c": 0.3, "huber_scale": 2.0, "noise_offset_random_strength": True,
    "ip_noise_gamma_random_strength": True, "multires_noise_discount": 0.8, "prior_loss_weight": 0.5,
    "lr_scheduler_num_cycles": 3, "lr_scheduler_power": 2.0, "lr_scheduler_timescale": 10,
    "lr_scheduler_min_lr_ratio": 0.1, "lr_decay_steps": 2, "keep_tokens": 1, "keep_tokens_separator": "|||",
    "token_warmup_min": 3, "vae_batch_size": 4, "skip_cache_check": True, "validation_seed": 1,
    "validate_every_n_steps": 5, "validate_every_n_epochs": 2, "max_validation_steps": 3, "keep_best": True,
    "early_stop_patience": 3, "save_from_epoch": 2,
    "base_weights_multiplier": (0.5,), "save_last_n_epochs_state": 1, "save_last_n_steps_state": 10,
    "preservation_trigger": "dog", "preservation_weight": 0.5,
    "training_comment": "x", "resume_from_huggingface": True, "huggingface_path_in_repo": "x",
    "huggingface_repo_visibility": "public", "save_state_to_huggingface": True, "async_upload": True,
    "network_dim": 8, "network_alpha": 2.0, "lr_scheduler": "cosine", "lr_warmup_steps": 2,
}  # fmt: skip
# what else must be set for some of them to be idle
BESIDE = {
    "training_comment": {"no_metadata": True},
    "lr_scheduler": {"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": ("T_max=10",)},
    "lr_warmup_steps": {"lr_scheduler": "piecewise_constant", "lr_scheduler_args": ("step_rules='1:5,0.5'",)},
    "save_from_epoch": {"save_every_n_epochs": None},
    "network_dim": {"dim_from_weights": True},
    "network_alpha": {"dim_from_weights": True},
}
# and what makes them work
CURES: dict[str, dict[str, object]] = {
    "enable_bucket is off": {"enable_bucket": True},
    "loss_type is neither huber nor smooth_l1": {"loss_type": "huber"},
    "there is no noise_offset": {"noise_offset": 0.1},
    "there is no ip_noise_gamma": {"ip_noise_gamma": 0.1},
    "there are no multires_noise_iterations": {"multires_noise_iterations": 6},
    "lr_scheduler is not cosine_with_restarts, cosine_with_min_lr or warmup_stable_decay": {
        "lr_scheduler": "cosine_with_restarts"
    },
    "lr_scheduler is not polynomial": {"lr_scheduler": "polynomial"},
    "lr_scheduler is not inverse_sqrt": {"lr_scheduler": "inverse_sqrt"},
    "lr_scheduler is not cosine_with_min_lr or warmup_stable_decay": {"lr_scheduler": "cosine_with_min_lr"},
    "lr_scheduler is not warmup_stable_decay": {"lr_scheduler": "warmup_stable_decay"},
    "the schedule does not look at it": {"lr_scheduler": "cosine", "lr_scheduler_args": None},
    "no tag is shuffled or dropped": {"shuffle_caption": True},
    "there is no token_warmup_step": {"token_warmup_step": 5},
    "latents are not cached": {"cache_latents": True},
    "there is neither validation_split nor fixed_noises": {"validation_split": 0.1},
    "nothing is measured without validation_split or fixed_noises": {"fixed_noises": 1},
    "there are no base_weights": {"base_weights": ("a.safetensors",)},
    "save_state is off": {"save_state": True},
    "no save_every_n_epochs asks for epochs": {"save_every_n_epochs": 1},
    "resume names nothing": {"resume": "somewhere"},
    "there is no preservation_class": {"preservation_class": "animal"},
    "there is no huggingface_repo_id": {"huggingface_repo_id": "a/b"},
}


def idle(plan: Plan) -> set[str]:
    found = (problem for problem in plan.findings if problem.name == "without_effect")
    return {name for problem in found for name in problem.where.split(" and ")}


NEEDED = [(name, reason) for names, _, reason in _NEEDS for name in names]


@pytest.mark.parametrize(("name", "reason"), NEEDED, ids=[name for name, _ in NEEDED])
def test_each_idle_setting_is_said_until_it_works(project: Path, name: str, reason: str) -> None:
    value = VALUES[name]
    assert value != SPECS()[name].default
    assert name in idle(plan_of(project, **{name: value, **BESIDE.get(name, {})}))
    assert name not in idle(plan_of(project, **{**BESIDE.get(name, {}), name: SPECS()[name].default}))
    if reason in CURES:
        assert name not in idle(plan_of(project, **{name: value, **CURES[reason]}))


def test_max_train_steps_beside_epochs(project: Path) -> None:
    text = (
        f'train_data_dir = "{(project / "img").as_posix()}"\nresolution = "64"\nmax_train_epochs = 2\n'
        "max_train_steps = 900\ncaption_extension = '.txt'\n"
    )
    (problem,) = [p for p in make_plan(loads(text, "a.toml")).findings if p.name == "max_steps_unused"]
    assert "so the run has 28 steps" in problem.what
