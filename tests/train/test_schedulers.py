"""Every schedule against the rates that sd-scripts used and logged."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch

from kohyakit.config.sections.optimizer import OptimizerConfig
from kohyakit.errors import ConfigError
from kohyakit.registry import SCHEDULERS
from kohyakit.train.optimizers.schedulers import Schedule, build_scheduler, factor


def options_of(row: dict) -> OptimizerConfig:
    """The recorded command line; numbers as argparse reads them there."""
    flags = dict(zip(row["extra"][::2], row["extra"][1::2], strict=True))
    values: dict = {"lr_scheduler": row["lr_scheduler"], "learning_rate": row["base_lrs"][0]}
    for flag, text in flags.items():
        name = flag.removeprefix("--")
        if name == "lr_scheduler_args":
            values[name] = (text,)
        elif name == "lr_scheduler_type":
            values[name] = text
        else:
            values[name] = ast.literal_eval(text)
    return OptimizerConfig(**values)


def optimizer_of(row: dict) -> torch.optim.Optimizer:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in row["base_lrs"]]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, row["base_lrs"], strict=True)]
    if row["optimizer"] == "Adafactor":
        from transformers.optimization import Adafactor

        relative = row["lr_scheduler"].startswith("adafactor")
        return Adafactor(groups, scale_parameter=relative, relative_step=relative, warmup_init=relative)
    return torch.optim.AdamW(groups, lr=row["base_lrs"][0])


@pytest.mark.shared
def test_every_recorded_schedule(goldens: Path) -> None:
    rows = json.loads((goldens / "training/lr_schedules/schedules.json").read_text(encoding="utf-8"))
    assert len(rows) == 65
    refused = []
    for row in rows:
        case = f"{row['lr_scheduler']} {row['extra']}"
        options, optimizer = options_of(row), optimizer_of(row)
        if "exception" in row and row["lr_scheduler"] != "adafactor":
            with pytest.raises(ConfigError):
                build_scheduler(optimizer, options, row["max_train_steps"])
            refused.append(case)
            continue
        if "exception" in row:
            continue  # "adafactor" without a rate crashed there; here it takes learning_rate
        scheduler = build_scheduler(optimizer, options, row["max_train_steps"])
        used, logged = [], []
        for _ in range(row["max_train_steps"]):
            used.append([group["lr"] for group in optimizer.param_groups])
            for group in optimizer.param_groups:
                group["params"][0].grad = torch.zeros(1)
            optimizer.step()
            scheduler.step()
            logged.append(scheduler.get_last_lr())
        for ours, theirs in ((used, row["lr_used_in_step"]), (logged, row["lr_logged_after_step"])):
            several = [value if isinstance(value, list) else [value] for value in theirs]
            assert len(several[0]) == len(row["base_lrs"])
            for step, (one, other) in enumerate(zip(ours, several, strict=True)):
                assert one == pytest.approx(other, abs=1e-12), f"{case}, step {step}"
    assert len(refused) == 8


def test_every_entry_of_the_table_is_a_curve_between_0_and_1() -> None:
    shape = Schedule(total=30, decay=4, num_cycles=2, min_lr_ratio=0.1, learning_rate=1e-3, step_rules="1:10,0.5")
    for name in SCHEDULERS:
        curve = factor(name, shape)
        values = [curve(step) for step in range(31)]
        assert values[0] == 1
        assert all(0 <= value <= 1 for value in values), name


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("cosine", {"lr_scheduler_args": ("num_cycles=2.5",)}, {"num_cycles": 2.5}),
        (
            "polynomial",
            {"lr_scheduler_args": ("lr_end=0.003",), "lr_scheduler_power": 2.0},
            {"lr_end": 0.003, "power": 2},
        ),
        ("cosine_with_min_lr", {"lr_scheduler_args": ("min_lr=0.002",)}, {"min_lr": 0.002}),
        (
            "warmup_stable_decay",
            {"lr_scheduler_args": ("warmup_type='1-sqrt'", "decay_type='linear'"), "lr_decay_steps": 9},
            {"num_decay_steps": 9, "warmup_type": "1-sqrt", "decay_type": "linear"},
        ),
        (
            "warmup_stable_decay",
            {"lr_scheduler_args": ("warmup_type='cosine'", "decay_type='1-sqrt'"), "lr_decay_steps": 9,
             "lr_scheduler_min_lr_ratio": 0.2},
            {"num_decay_steps": 9, "warmup_type": "cosine", "decay_type": "1-sqrt", "min_lr_ratio": 0.2},
        ),
    ],
)  # fmt: skip
def test_arguments_shape_a_curve_as_transformers_does(name: str, ours: dict, theirs: dict) -> None:
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
    from transformers.trainer_utils import SchedulerType

    def rates(make) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
        scheduler, found = make(optimizer), []
        for _ in range(30):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    options = OptimizerConfig(lr_scheduler=name, learning_rate=0.01, lr_warmup_steps=6, **ours)
    function = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
    expected = rates(lambda optimizer: function(optimizer, num_warmup_steps=6, num_training_steps=30, **theirs))
    assert rates(lambda optimizer: build_scheduler(optimizer, options, 30)) == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 10


def test_a_float_is_a_share_and_an_int_is_steps() -> None:
    options = OptimizerConfig(lr_scheduler="constant_with_warmup", lr_warmup_steps=1.0)
    assert Schedule.of(options, 50).warmup == 50
    assert Schedule.of(OptimizerConfig(lr_warmup_steps=1), 50).warmup == 1
    assert Schedule.of(OptimizerConfig(lr_warmup_steps=0.05), 50).warmup == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr_warmup_steps": 5}, "lr_warmup_steps: is 5, but .* set lr_warmup_steps to 0, or lr_scheduler"),
        ({"lr_scheduler": "cosine_with_min_lr"}, "set lr_scheduler_min_lr_ratio, such as 0.1"),
        ({"lr_scheduler": "cosin"}, "unknown learning rate scheduler 'cosin'; did you mean 'cosine'"),
        ({"lr_scheduler": "adafactor"}, "goes with the optimizer Adafactor only, not with SGD"),
        ({"lr_scheduler": "polynomial", "learning_rate": 1e-8}, "choose a larger learning_rate"),
        ({"lr_scheduler": "piecewise_constant"}, "step_rules='1:500,0.1:800,0.01'"),
        (
            {"lr_scheduler": "warmup_stable_decay", "lr_warmup_steps": 6, "lr_decay_steps": 5},
            "6 warm-up and 5 decay steps do not fit into 10 steps",
        ),
        ({"lr_scheduler_type": "no.such.Class"}, "'no.such.Class' is code of somebody's own"),
        ({"lr_scheduler_type": "torch.no_such.Class"}, "there is no scheduler class 'torch.no_such.Class'"),
        ({"lr_scheduler_type": "torch.nn.Linear"}, "there is no scheduler class 'torch.nn.Linear'"),
        ({"lr_scheduler_type": "warnings"}, "there is no scheduler class 'warnings'"),
        ({"lr_scheduler_type": "StepLR"}, "lr_scheduler_args: do not fit StepLR .*step_size"),
        ({"lr_scheduler_type": "StepLR", "lr_warmup_steps": 2}, "is not used by the scheduler class StepLR"),
    ],
)
def test_what_cannot_work_is_said(values: dict, said: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ConfigError, match=said):
        build_scheduler(optimizer, OptimizerConfig(**values), 10)


def test_a_scheduler_class_of_ones_own() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = OptimizerConfig(lr_scheduler_type="torch.optim.lr_scheduler.StepLR", lr_scheduler_args=("step_size=2",))
    scheduler = build_scheduler(optimizer, options, 10)
    rates = []
    for _ in range(4):
        optimizer.step()
        scheduler.step()
        rates += scheduler.get_last_lr()
    assert rates == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_a_curve_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from kohyakit.train.optimizers.schedulers import *; factor('cosine', Schedule(9))(3); "
    code += "print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
