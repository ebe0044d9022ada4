"""Free text of arguments: cut where a name begins, and each value of the kind that its argument takes."""

from __future__ import annotations

import pytest

from kohyakit.config.arguments.key_values import parse_key_values, split_key_values
from kohyakit.config.rules import check_rules
from kohyakit.config.train import TrainConfig
from kohyakit.formats import loads
from kohyakit.registry.optimizers import OPTIMIZER_ARGUMENTS
from kohyakit.registry.schedules import SCHEDULE_ARGUMENTS


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("weight_decay=0.01 betas=0.9,0.99", ["weight_decay=0.01", "betas=0.9,0.99"]),
        ("decouple=True, weight_decay=0.01, betas=(0.9, 0.999), use_bias_correction=True",
         ["decouple=True", "weight_decay=0.01", "betas=(0.9,0.999)", "use_bias_correction=True"]),
        ("betas=0.9, 0.99 weight_decay = 0.1,", ["betas=0.9,0.99", "weight_decay=0.1"]),
        ("step_rules='1:500, 0.1' x=[1, 2]; y=3", ["step_rules='1:500, 0.1'", "x=[1,2]", "y=3"]),
        ("a=b=c", ["a=b=c"]),
        ("decouple True", ["decouple", "True"]),
        ("", []),
        ("x=(1, 2", ["x=(1,2"]),
    ],
)  # fmt: skip
def test_split(text: str, items: list[str]) -> None:
    assert split_key_values(text) == items


def test_the_gui_s_fields_are_read_as_they_are_meant() -> None:
    text = '{"LoRA_type": "Standard", "optimizer": "Prodigy", "optimizer_args": "decouple=True, betas=(0.9, 0.99)", '
    text += '"down_lr_weight": "1, 1, 0.5", "lr_scheduler_args": "\\"a=1\\" b=2"}'
    config = loads(text, "x.json")
    assert config["optimizer_args"] == ("decouple=True", "betas=(0.9,0.99)")
    assert config["network_args"] == ("down_lr_weight=1,1,0.5",)
    assert config["lr_scheduler_args"] == ("a=1", "b=2")
    assert config.source is not None
    assert {"optimizer_args", "down_lr_weight"} <= {n.key for n in config.source.notes if n.action == "repaired"}
    lycoris = loads('{"LoRA_type": "LyCORIS/LoHa", "LyCORIS_preset": "C:/my sets/a b.toml"}', "x.json")
    assert "preset=C:/my sets/a b.toml" in lycoris["network_args"]


def test_a_command_s_quoted_pairs_are_several() -> None:
    config = loads('--network_args "conv_dim=4 conv_alpha=1" --optimizer_args "betas=(0.9, 0.99)"', "x.args")
    assert config["network_args"] == ("conv_dim=4", "conv_alpha=1")
    assert config["optimizer_args"] == ("betas=(0.9,0.99)",)


def said(**values: object) -> list[str]:
    return [str(p) for p in check_rules(TrainConfig().with_values(**values)) if p.name == "argument_kind"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"optimizer_args": ("weight_decay=0.1,",)},
         "weight_decay is (0.1,), but a number was wanted; take the comma out"),
        ({"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": ("T_max=100,", "eta_min=1e-6")},
         "T_max is (100,), but a whole number was wanted; take the comma out: T_max=100"),
        ({"optimizer_args": ("betas=0.9",)}, "betas is 0.9, but a list of numbers was wanted"),
        ({"optimizer_args": ("amsgrad='yes'",)}, "True or False was wanted"),
        ({"optimizer_args": ("eps='1e-8'",)}, "a number was wanted"),
        ({"optimizer_args": ("weight_decay=None",)}, "a number was wanted"),
        ({"optimizer_type": "my.own.Class", "optimizer_args": ("gamma=1,",)}, "gamma is (1,)"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_an_error(values: dict[str, object], told: str) -> None:
    assert [told in text for text in said(**values)] == [True]


GOOD = {
    "AdamW": ("weight_decay=0.1", "betas=0.9,0.99", "eps=1e-8", "amsgrad=True", "fused=None", "weight_decay=0"),
    "Adafactor": ("eps=1e-30,1e-3", "beta1=None", "relative_step=False", "clip_threshold=1"),
    "Prodigy": ("decouple=True", "beta3=None", "d_coef=2", "betas=(0.9,0.99)", "growth_rate=1.02", "slice_p=11"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_values_pass(name: str) -> None:
    for item in GOOD[name]:
        assert said(optimizer_type=name, optimizer_args=(item,)) == []


def test_every_documented_argument_has_a_kind() -> None:
    for name, about in {**OPTIMIZER_ARGUMENTS, **SCHEDULE_ARGUMENTS}.items():
        assert about.wrong_kind(parse_key_values((f"{name}={{}}",))[name]), name
