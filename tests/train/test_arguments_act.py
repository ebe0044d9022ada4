"""Whatever is documented for an optimizer or a schedule acts when it is set, or is refused before the start."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from kohyakit.config.rules import check_rules
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.registry import OPTIMIZERS, SCHEDULERS
from kohyakit.registry.arguments import NUMBER, NUMBERS, SWITCH, WHOLE, Argument
from kohyakit.registry.optimizers import CLASSES, OPTIMIZER_ARGUMENTS, optimizer_entry
from kohyakit.registry.schedules import SCHEDULE_ARGUMENTS, SCHEDULE_CLASSES, required, schedule_entry
from kohyakit.train import start
from kohyakit.train.optimizers.build import build_optimizer
from kohyakit.train.optimizers.schedulers import build_scheduler
from kohyakit.train.rehearse import rehearse

STEPS = 12
# Without a weight decay there is none to do in another way; the rate is 0 while nothing warms up.
BESIDE = {
    "decouple": "weight_decay=0.3", "decoupled_weight_decay": "weight_decay=0.3", "no_prox": "weight_decay=0.3",
    "weight_decouple": "weight_decay=0.3", "fixed_decay": "weight_decay=0.3 weight_decouple=True",
    "safeguard_warmup": "use_bias_correction=True", "weight_lr_power": "warmup_steps=7",
}  # fmt: skip
# These change how the same step is made, so it is enough that the optimizer knows.
HOW = {"foreach", "fused", "log_every", "min_8bit_size", "percentile_clipping", "block_wise", "is_paged"}
# What a machine without a GPU, or without Triton, refuses before the model is loaded.
NOT_HERE = {("AdamW", "capturable")} | ({("Lion", "use_triton")} if not importlib.util.find_spec("triton") else set())


def others(about: Argument, usual: Any) -> list[str]:
    """Values to try beside the usual one, as they are written: one of them must change what is trained."""
    kind = about.kinds[0]
    if about.choices:
        return [repr(choice) for choice in about.choices if choice != usual]
    if kind == SWITCH:
        return ["True"] if not usual else ["False"]
    if kind == NUMBERS or isinstance(usual, tuple):
        return [",".join(f"{number * factor:g}" for number in usual) for factor in (0.6, 1e6)]
    if kind == WHOLE:
        return [str(n) for n in (7, 16, 30) if n != usual]
    if kind == NUMBER:
        start = usual if isinstance(usual, (int, float)) and 0 < abs(usual) < 1e9 else 0.0
        return [f"{n:g}" for n in (start * 0.3, start * 1e6, 0.004, 1.01, 0.3) if n and n != usual]
    return [about.example]


def config_of(name: str, *args: str) -> TrainConfig:
    rate = 1.0 if OPTIMIZERS[name].finds_rate else 0.02
    return TrainConfig().with_values(
        network_module="networks.lora", optimizer_type=name, learning_rate=rate, optimizer_args=args or None
    )


def gone(name: str) -> set[str]:
    """What the installed version no longer takes, where the registry says that it is of an older one."""
    takes = inspect.signature(type(trained(name)[1])).parameters
    told = {argument for argument in OPTIMIZERS[name].arguments if "before" in OPTIMIZER_ARGUMENTS[argument].help}
    return told - set(takes)


def errors(config: TrainConfig, about: str) -> list[str]:
    found = [p for p in check_rules(config) if p.severity == "error"]
    return [str(p) for p in found if about in p.what.split()]


def trained(name: str, *args: str) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    """Where a dozen steps lead over the same gradients, and the optimizer."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.nn.Parameter(torch.randn(8, 16, generator=generator))
    config = config_of(name, *args)
    rate = config.optimizer.learning_rate
    built = build_optimizer(name, [{"params": [weights], "lr": rate}], rate, config.optimizer.optimizer_args)
    if built.schedule_free:
        built.optimizer.train()
    for _ in range(STEPS):
        weights.grad = weights.detach() * 0.3 + torch.randn(8, 16, generator=generator) * 0.2
        built.optimizer.step()
    return weights.detach(), built.optimizer


def installed(name: str) -> bool:
    return not OPTIMIZERS[name].package or importlib.util.find_spec(OPTIMIZERS[name].module) is not None


def acts(name: str, argument: str, text: str, beside: list[str]) -> bool:
    weights, optimizer = trained(name, *beside, text)
    if argument in HOW:
        apart = getattr(optimizer, "args", None)  # where bitsandbytes keeps some
        known = {**optimizer.defaults, **optimizer.param_groups[0], **vars(optimizer), **(vars(apart) if apart else {})}
        return str(known.get(argument)) == text.partition("=")[2]
    return not torch.equal(weights, trained(name, *beside)[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_does_not_take_is_refused(name: str) -> None:
    for argument, about in OPTIMIZER_ARGUMENTS.items():
        text = f"{argument}={about.like}"
        refused = errors(config_of(name, text), argument)
        if argument in OPTIMIZERS[name].arguments:
            assert not refused, refused
        else:
            assert refused, f"{name} {text} is not taken, and check says nothing"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_documented_argument_of_an_optimizer_acts(name: str) -> None:
    """Walks the registry: a new entry, and a new argument of an old one, is tried by being there."""
    if not installed(name):
        pytest.skip(f"needs {OPTIMIZERS[name].package}")
    silent, older = [], gone(name)
    for argument, usual in OPTIMIZERS[name].arguments.items():
        beside = [text for text in BESIDE.get(argument, "").split() if text.split("=")[0] in OPTIMIZERS[name].arguments]
        texts = [f"{argument}={value}" for value in others(OPTIMIZER_ARGUMENTS[argument], usual)]
        assert texts, f"nothing to try for {argument}"
        if (name, argument) in NOT_HERE:
            plain = ["fused=False"] if argument == "capturable" else []  # the fused step can do with it anywhere
            with pytest.raises(ConfigError, match="optimizer_args"):
                rehearse(config_of(name, texts[0], *plain), STEPS, torch.device("cpu"))
            continue
        if argument in older:
            with pytest.raises(ConfigError, match=f"takes no '{argument}'"):
                rehearse(config_of(name, texts[0]), STEPS, torch.device("cpu"))
            continue
        fit = [text for text in texts if not errors(config_of(name, text), argument)]
        if not any(acts(name, argument, text, beside) for text in fit):
            silent.append(texts)
    assert silent == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_registry_tells_what_the_class_takes_and_its_defaults(name: str) -> None:
    if not installed(name):
        pytest.skip(f"needs {OPTIMIZERS[name].package}")
    entry = OPTIMIZERS[name]
    takes, older = inspect.signature(type(trained(name)[1])).parameters, gone(name)
    usual = {argument: takes[argument].default for argument in entry.arguments if argument not in older}
    assert usual | dict(entry.added) == {key: value for key, value in entry.arguments.items() if key not in older}


@pytest.mark.parametrize("name", [*OPTIMIZERS, *CLASSES])
def test_the_registry_tells_what_an_optimizer_keeps(name: str) -> None:
    """state_bytes, from which memory is estimated, beside the bytes that its state holds after a step."""
    entry = optimizer_entry(name)
    if (entry.package and importlib.util.find_spec(entry.module) is None) or "." in name:
        pytest.skip(f"needs {entry.package}")
    weights = torch.nn.Parameter(torch.ones(256, 256))
    built = build_optimizer(name, [{"params": [weights], "lr": 0.01}], 0.01)
    if built.schedule_free:
        built.optimizer.train()
    weights.grad = torch.ones(256, 256)
    built.optimizer.step()
    kept = built.optimizer.state[weights].values()
    held = sum(value.numel() * value.element_size() for value in kept if torch.is_tensor(value))
    assert round(held / weights.numel()) == entry.state_bytes


NEEDS = {
    "cosine_with_min_lr": {"lr_scheduler_min_lr_ratio": 0.1},
    "warmup_stable_decay": {"lr_warmup_steps": 8, "lr_decay_steps": 8},
}
USUAL = {
    "step_rules": "'1:2,0.7'", "T_max": "20", "T_0": "9", "step_size": "5", "milestones": "[10,20]", "gamma": "0.9",
    "base_lr": "0.01", "max_lr": "0.03",
}  # fmt: skip


def asked_of(name: str, args: Mapping[str, str], **values: Any) -> TrainConfig:
    """A config with this schedule, or this class of torch's, and what it cannot go without."""
    entry = schedule_entry(name)
    needed = {argument: USUAL[argument] for argument in required(entry)}
    needed |= {"total_steps": "41"} if name == "OneCycleLR" else {}
    texts = tuple(f"{argument}={value}" for argument, value in {**needed, **args}.items())
    chosen = {"lr_scheduler": name} if name in SCHEDULERS else {"lr_scheduler_type": name}
    return TrainConfig().with_values(
        **{**chosen, "learning_rate": 0.02, **NEEDS.get(name, {}), "lr_scheduler_args": texts or None, **values}
    )


def rates(config: TrainConfig) -> list[float]:
    """What a schedule makes of a rate of 0.02 in forty steps."""
    weights = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weights], lr=0.02)
    scheduler = build_scheduler(optimizer, config.optimizer, 40)
    found = []
    for _ in range(40):
        optimizer.step()
        scheduler.step()
        found += scheduler.get_last_lr()
    return found


KNOWN_SCHEDULES = [name for name in (*SCHEDULERS, *SCHEDULE_CLASSES) if name != "adafactor"]


@pytest.mark.parametrize("name", KNOWN_SCHEDULES)
def test_every_documented_argument_of_a_schedule_acts_or_is_refused(name: str) -> None:
    entry = schedule_entry(name)
    if not entry.all_listed:
        pytest.skip("only what it must be given is listed")
    plain = rates(asked_of(name, {}))
    for argument, about in SCHEDULE_ARGUMENTS.items():
        if argument not in entry.arguments:
            config = asked_of(name, {argument: about.like})
            assert errors(config, argument), f"{name} does not take {argument}, and check says nothing"
            with pytest.raises(ConfigError, match=argument if name in SCHEDULERS else "lr_scheduler_args"):
                rates(config)
            continue
        instead = {"lr_scheduler_min_lr_ratio": None} if argument == "min_lr" else {}
        tried = [asked_of(name, {argument: v}, **instead) for v in others(about, entry.arguments[argument])]
        fit = [config for config in tried if not errors(config, argument)]
        assert any(rates(config) != plain for config in fit), f"{name} {argument} has no effect"


@pytest.mark.parametrize("name", KNOWN_SCHEDULES)
def test_the_options_that_a_schedule_looks_at_act_and_no_others(name: str) -> None:
    """`reads` of the registry, from which check says what has no effect."""
    options = {
        "lr_warmup_steps": 11, "lr_decay_steps": 13, "lr_scheduler_num_cycles": 3, "lr_scheduler_power": 2.0,
        "lr_scheduler_timescale": 5, "lr_scheduler_min_lr_ratio": 0.3,
    }  # fmt: skip
    entry = schedule_entry(name)
    assert set(entry.reads) <= set(options)
    plain = rates(asked_of(name, {}))
    for option, value in options.items():
        config = asked_of(name, {}, **{option: value})
        if option == "lr_warmup_steps" and entry.refuses_warmup:
            with pytest.raises(ConfigError, match="lr_warmup_steps"):
                rates(config)
        else:
            assert (rates(config) != plain) == (option in entry.reads), option


def test_what_an_optimizer_stops_at_is_told_before_the_model_is_loaded(make_config) -> None:
    said: list[str] = []
    for option, value, told in (
        ("optimizer_args", ["capturable=True", "fused=False"], "optimizer_args: .*AdamW stops at the first step"),
        ("optimizer_args", ["betas=0.9"], "optimizer_args: betas is 0.9, but a list of numbers"),
        ("lr_scheduler_type", "ReduceLROnPlateau", "needs more than settings in text can say"),
    ):
        with pytest.raises(ConfigError, match=told):
            start.train_network(make_config(**{option: value}), progress=False, echo=said.append)
    assert not [line for line in said if line.startswith("loading")]


def test_adafactors_own_schedule_says_that_it_looks_at_no_arguments() -> None:
    config = TrainConfig().with_values(optimizer_type="Adafactor", lr_scheduler_args=("lr_end=1e-6",))
    assert "adafactor_ignores_schedule_args" in [p.name for p in check_rules(config)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("polynomial", "lr_end=1e-6,"), ("polynomial", "lr_end='x'"), ("polynomial", "lr_end=-1"),
        ("warmup_stable_decay", "decay_type='sqrt'"), ("cosine", "num_cycles=0"),
        ("cosine_with_min_lr", "min_lr=1e-7,"), ("piecewise_constant", "step_rules=3"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused_by_check_and_trainer_alike(name: str, text: str) -> None:
    argument, _, value = text.partition("=")
    config = asked_of(name, {argument: value}, lr_scheduler_min_lr_ratio=None)
    assert {"bad_schedule_argument", "argument_kind"} & {p.name for p in check_rules(config)}
    with pytest.raises(ConfigError, match=argument):
        rates(config)
