"""Every optimizer of the table makes a step; names for the metadata; the sentences."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path

import pytest
import torch

from kohyakit.config.sections.optimizer import OptimizerConfig
from kohyakit.errors import ConfigError, MissingExtra
from kohyakit.registry import OPTIMIZERS
from kohyakit.train.optimizers.build import build_optimizer, chosen_type
from kohyakit.train.optimizers.schedulers import build_scheduler


def groups(count: int = 2, lr: float | None = 0.01) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        parameter = torch.nn.Parameter(torch.randn(8, 16, generator=generator))
        made.append({"params": [parameter]} | ({} if lr is None else {"lr": lr}))
    return made


def installed(name: str) -> bool:
    return not OPTIMIZERS[name].package or importlib.util.find_spec(OPTIMIZERS[name].module) is not None


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_go_downhill(name: str) -> None:
    """Minimise half the squared length; a few dozen steps must shorten it, whatever the method."""
    if not installed(name):
        with pytest.raises(MissingExtra, match=r'pip install "kohyakit\[(optimizers|bitsandbytes)\]"'):
            build_optimizer(name, groups(), 0.01)
        return
    rate = 1.0 if name.startswith(("DAdapt", "Prodigy")) else 0.01
    mine = groups(lr=rate)
    before = [group["params"][0].detach().clone() for group in mine]
    built = build_optimizer(name, mine, rate)
    options = OptimizerConfig(lr_scheduler=built.lr_scheduler or "constant", learning_rate=rate)
    scheduler = build_scheduler(built.optimizer, options, 60, schedule_free=built.schedule_free)
    if built.schedule_free:
        built.optimizer.train()
    for _ in range(60):
        for group in mine:
            group["params"][0].grad = group["params"][0].detach().clone()
        built.optimizer.step()
        scheduler.step()
    if built.schedule_free:
        built.optimizer.eval()
    for group, start in zip(mine, before, strict=True):
        now = group["params"][0]
        assert torch.isfinite(now).all()
        assert now.norm() < start.norm()
    assert all(rate == rate for rate in scheduler.get_last_lr())  # numbers, for the log
    json.dumps(scheduler.get_last_lr())


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [  # the first two stand in the recordings' metadata.json
        ("AdamW", (), "torch.optim.adamw.AdamW"),
        (
            "adafactor",
            ("scale_parameter=False", "relative_step=False", "warmup_init=False"),
            "transformers.optimization.Adafactor(scale_parameter=False,relative_step=False,warmup_init=False)",
        ),
        (
            "ADAMW",
            ("betas=0.9,0.95", "weight_decay=0.1"),
            "torch.optim.adamw.AdamW(betas=(0.9, 0.95),weight_decay=0.1)",
        ),
        ("SGDNesterov", (), "torch.optim.sgd.SGD(momentum=0.9)"),
        ("Adafactor", (), "transformers.optimization.Adafactor(relative_step=True)"),
        ("", (), "torch.optim.adamw.AdamW"),
        ("RAdam", (), "torch.optim.radam.RAdam"),
        ("torch.optim.RMSprop", ("alpha=0.9",), "torch.optim.rmsprop.RMSprop(alpha=0.9)"),
    ],
)
def test_name_for_the_metadata(name: str, args: tuple[str, ...], expected: str) -> None:
    assert build_optimizer(name, groups(), 0.01, args).ss_optimizer == expected


@pytest.mark.shared
def test_recorded_names(goldens: Path) -> None:
    for case in ("basic", "adafactor", "locon"):
        folder = goldens / "training" / case
        config = json.loads((folder / "args_effective.json").read_text(encoding="utf-8"))
        built = build_optimizer(config["optimizer_type"], groups(), config["learning_rate"], config["optimizer_args"])
        text = (folder / "metadata.json").read_text(encoding="utf-8")
        assert f'"{built.ss_optimizer}"' in text


def test_each_group_has_its_rate_and_the_given_groups_stay() -> None:
    mine = groups()
    mine[0]["lr"], mine[1]["lr"] = 1e-4, 5e-4
    built = build_optimizer("AdamW", mine, 1e-3)
    assert [group["lr"] for group in built.optimizer.param_groups] == [1e-4, 5e-4]
    assert set(mine[0]) == {"params", "lr"}
    assert [group["lr"] for group in build_optimizer("AdamW", groups(lr=None), 1e-3).optimizer.param_groups] == [
        1e-3
    ] * 2


def test_adafactor_with_a_relative_step_leaves_rates_aside() -> None:
    for args in ((), ("warmup_init=True", "relative_step=False")):
        built = build_optimizer("Adafactor", groups(), 5e-4, args)
        assert built.learning_rate is None
        assert built.lr_scheduler == "adafactor:0.0005"
        assert [group["lr"] for group in built.optimizer.param_groups] == [None, None]
    fixed = build_optimizer("Adafactor", groups(), 5e-4, ("relative_step=False",))
    assert (fixed.learning_rate, fixed.lr_scheduler) == (5e-4, None)


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        (
            "AdamW",
            ("wieght_decay=0.1",),
            "optimizer_args: AdamW takes no 'wieght_decay'; it takes betas, eps, weight_dec",
        ),
        ("AdamW", ("betas=2,3",), "AdamW refuses them .*beta"),
        ("AdamW", ("betas",), "'betas' is not name=value"),
        ("AdmaW", (), "there is no optimizer 'AdmaW'; did you mean 'AdamW'"),
        ("Optimizer", (), "there is no optimizer 'Optimizer'"),
        ("no_such_package.Best", (), "'no_such_package.Best' is code of somebody's own.*--allow-code"),
        ("torch.nn.Linear", (), "there is no optimizer 'torch.nn.Linear'"),
    ],
)
def test_what_cannot_work_is_said(name: str, args: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_optimizer(name, groups(), 0.01, args)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(MissingExtra, match=r"optimizer 'Prodigy': needs the package prodigyopt; pip install .kohyakit"):
        build_optimizer("prodigy", groups(), 1.0)


def test_the_old_switches() -> None:
    assert chosen_type(OptimizerConfig()) == "AdamW"
    assert chosen_type(OptimizerConfig(use_8bit_adam=True)) == "AdamW8bit"
    assert chosen_type(OptimizerConfig(use_lion_optimizer=True, optimizer_type="lion")) == "lion"
    with pytest.raises(ConfigError, match="more than one optimizer is asked for: AdamW, Lion"):
        chosen_type(OptimizerConfig(optimizer_type="AdamW", use_lion_optimizer=True))


def test_schedule_free_keeps_the_rate() -> None:
    if not installed("AdamWScheduleFree"):
        pytest.skip("schedulefree is not installed")
    built = build_optimizer("AdamWScheduleFree", groups(), 0.01)
    options = OptimizerConfig(lr_scheduler="cosine")
    scheduler = build_scheduler(built.optimizer, options, 10, schedule_free=built.schedule_free)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler.step()
    assert scheduler.get_last_lr() == [0.01, 0.01]
