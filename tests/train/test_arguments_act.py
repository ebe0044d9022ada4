"""Whatever is documented for an optimizer or a schedule acts when it is set, or is refused before the start."""

from __future__ import annotations

import importlib.util
import inspect

import pytest

torch = pytest.importorskip("torch")

from kohyakit.config.arguments.optimizer_args import OPTIMIZER_ARG_HELP, SCHEDULER_ARG_HELP
from kohyakit.config.rules import check_rules
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.registry import OPTIMIZERS, SCHEDULERS
from kohyakit.train import start
from kohyakit.train.optimizers import build_optimizer
from kohyakit.train.optimizers.schedulers import build_scheduler
from kohyakit.train.rehearse import rehearse

STEPS = 12
# Another value than the default of every argument.
SET = {
    "betas": "0.5,0.6", "beta1": "0.5", "beta3": "0.5", "weight_decay": "0.5", "eps": "0.1", "amsgrad": "True",
    "momentum": "0.3", "dampening": "0.5", "decouple": "True", "use_bias_correction": "True",
    "safeguard_warmup": "True", "d0": "0.01", "d_coef": "3.0", "growth_rate": "1.01", "slice_p": "3",
    "fsdp_in_use": "True", "log_every": "5", "no_prox": "True", "scale_parameter": "False", "relative_step": "False",
    "warmup_init": "True", "clip_threshold": "0.01", "decay_rate": "-0.1", "warmup_steps": "7", "r": "1.0",
    "weight_lr_power": "0.0", "silent_sgd_phase": "False", "use_triton": "True", "decoupled_weight_decay": "True",
    "nesterov": "True", "maximize": "True", "foreach": "True", "fused": "True", "capturable": "True",
    "differentiable": "True", "min_8bit_size": "16", "percentile_clipping": "50", "block_wise": "False",
    "is_paged": "True", "alpha": "2.0", "t_alpha": "9", "t_beta3": "9",
}  # fmt: skip
OF = {
    ("DAdaptAdan", "betas"): "0.5,0.6,0.7", ("DAdaptAdanIP", "betas"): "0.5,0.6,0.7", ("Adafactor", "eps"): "0.1,0.2",
    ("AdEMAMix8bit", "betas"): "0.5,0.6,0.7", ("PagedAdEMAMix8bit", "betas"): "0.5,0.6,0.7",
    ("Prodigy", "decouple"): "False",
    ("DAdaptAdaGrad", "eps"): "0.5",
}  # fmt: skip
# Without a weight decay there is none to do in another way; the rate is 0 while nothing warms up.
BESIDE = {
    "decouple": "weight_decay=0.3", "decoupled_weight_decay": "weight_decay=0.3", "no_prox": "weight_decay=0.3",
    "safeguard_warmup": "use_bias_correction=True", "weight_lr_power": "warmup_steps=7",
}  # fmt: skip
# These change how the same step is made, so it is enough that the optimizer knows.
HOW = {"foreach", "fused", "log_every", "min_8bit_size", "percentile_clipping", "block_wise", "is_paged"}
# What a machine without a GPU, or without Triton, refuses before the model is loaded.
NOT_HERE = {("AdamW", "capturable")} | ({("Lion", "use_triton")} if not importlib.util.find_spec("triton") else set())


def config_of(name: str, *args: str) -> TrainConfig:
    rate = 1.0 if name.startswith(("Prodigy", "DAdapt")) else 0.02
    return TrainConfig().with_values(
        network_module="networks.lora", optimizer_type=name, learning_rate=rate, optimizer_args=args or None
    )


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
    package = {"lion-pytorch": "lion_pytorch"}.get(OPTIMIZERS[name].package, OPTIMIZERS[name].package)
    return not package or importlib.util.find_spec(package) is not None


def test_every_argument_has_a_value_to_try() -> None:
    assert set(SET) == set(OPTIMIZER_ARG_HELP)
    assert {a for name in OPTIMIZERS for a in OPTIMIZERS[name].arguments} <= set(OPTIMIZER_ARG_HELP)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_documented_argument_of_an_optimizer_acts_or_is_refused(name: str) -> None:
    silent = []
    for argument in OPTIMIZER_ARG_HELP:
        text = f"{argument}={OF.get((name, argument), SET[argument])}"
        beside = [text for text in [BESIDE.get(argument, "")] if text.split("=")[0] in OPTIMIZERS[name].arguments]
        refused = errors(config_of(name, *beside, text), argument)
        if argument not in OPTIMIZERS[name].arguments:
            assert refused, f"{name} {text} is not taken, and check says nothing"
            continue
        assert not refused, refused
        if not installed(name):
            continue
        if (name, argument) in NOT_HERE:
            plain = ["fused=False"] if argument == "capturable" else []  # the fused step can do with it anywhere
            with pytest.raises(ConfigError, match="optimizer_args"):
                rehearse(config_of(name, text, *plain), STEPS, torch.device("cpu"))
            continue
        weights, optimizer = trained(name, *beside, text)
        if argument in HOW:
            known = {**optimizer.defaults, **optimizer.param_groups[0], **vars(optimizer)}
            acts = str(known.get(argument)) == SET[argument]
        else:
            acts = not torch.equal(weights, trained(name, *beside)[0])
        if not acts:
            silent.append(text)
    assert silent == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_registry_names_what_the_class_takes(name: str) -> None:
    if not installed(name):
        pytest.skip(f"needs {OPTIMIZERS[name].package}")
    recipe = OPTIMIZERS.load(name)({}, 1.0)
    assert set(OPTIMIZERS[name].arguments) <= set(inspect.signature(recipe.kind).parameters)


SCHEDULE_SET = {
    "T_max": "30", "eta_min": "0.001", "T_0": "5", "T_mult": "2", "step_rules": "'1:3,0.5:6,0.1'", "lr_end": "0.004",
    "min_lr": "0.004", "warmup_type": "'cosine'", "decay_type": "'1-sqrt'", "last_epoch": "3", "num_cycles": "1.5",
    "num_training_steps": "99",
}  # fmt: skip
NEEDS = {
    "cosine_with_min_lr": {"lr_scheduler_min_lr_ratio": 0.1},
    "piecewise_constant": {"lr_scheduler_args": ("step_rules='1:2,0.7'",)},
    "warmup_stable_decay": {"lr_warmup_steps": 8, "lr_decay_steps": 8},
}  # fmt: skip


def rates(name: str, **values) -> list[float]:
    """What a schedule makes of a rate of 0.02 in forty steps."""
    config = TrainConfig().with_values(lr_scheduler=name, learning_rate=0.02, **values)
    weights = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weights], lr=0.02)
    scheduler = build_scheduler(optimizer, config.optimizer, 40)
    found = []
    for _ in range(40):
        optimizer.step()
        scheduler.step()
        found += scheduler.get_last_lr()
    return found


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "adafactor"])
def test_every_documented_argument_of_a_schedule_acts_or_is_refused(name: str) -> None:
    assert set(SCHEDULE_SET) == set(SCHEDULER_ARG_HELP)
    needed = NEEDS.get(name, {})
    plain = rates(name, **needed)
    for argument, value in SCHEDULE_SET.items():
        values = {**needed, "lr_scheduler_args": (f"{argument}={value}",)}
        if argument == "min_lr":
            values.pop("lr_scheduler_min_lr_ratio", None)
        config = TrainConfig().with_values(lr_scheduler=name, learning_rate=0.02, **values)
        refused = errors(config, argument)
        if argument in SCHEDULERS[name].arguments:
            assert not refused
            assert rates(name, **values) != plain, f"{name} {argument} has no effect"
            continue
        assert refused, f"{name} does not take {argument}, and check says nothing"
        with pytest.raises(ConfigError, match=argument):
            rates(name, **values)


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
    values = {**NEEDS.get(name, {}), "lr_scheduler_args": (text,), "lr_scheduler_min_lr_ratio": None}
    config = TrainConfig().with_values(lr_scheduler=name, learning_rate=0.02, **values)
    assert {"bad_schedule_argument", "argument_kind"} & {p.name for p in check_rules(config)}
    with pytest.raises(ConfigError, match=text.split("=")[0]):
        rates(name, **values)
