"""`optimizer_args` and `lr_scheduler_args`: what each argument does, and which optimizer or scheduler takes it.

Which ones a name takes is in the registry, by the releases that sd-scripts 0.10 asks for; a class named by its dotted
path may take others. An argument that is explained here and that nothing takes is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kohyakit.registry import OPTIMIZERS, SCHEDULERS

# name -> (what it does, what to try when)
OPTIMIZER_ARG_HELP: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "betas": (
            "Memory of the running means of gradient and squared gradient, two numbers below 1 (three for Adan).",
            "0.9,0.999; 0.9,0.99 for Prodigy and Lion.",
        ),
        "beta1": (
            "Adafactor: memory of the running mean of the gradient; None keeps none, which saves memory.",
            "None.",
        ),
        "beta3": ("Prodigy: memory of its estimate of the step size; None takes the root of the second beta.", "None."),
        "weight_decay": (
            "Pulls the LoRA's weights towards 0 at each step, against overfitting.",
            "0.01; 0.1 is strong, 0 is off.",
        ),
        "eps": ("A small number that keeps divisions by 0 away; Adafactor takes two.", "Leave it out."),
        "amsgrad": (
            "Adam variant that never lets the squared-gradient mean shrink; torch's AdamW only, not bitsandbytes'.",
            "False.",
        ),
        "momentum": (
            "SGD: share of the last step that is kept in the next.",
            "0.9, which sd-scripts sets itself for SGDNesterov.",
        ),
        "dampening": (
            "torch.optim.SGD: how much less the new gradient counts beside the momentum; SGDNesterov goes with none.",
            "0.",
        ),
        "decouple": ("Prodigy, D-Adaptation: weight decay apart from the gradient, as in AdamW.", "True."),
        "use_bias_correction": ("Prodigy, D-Adaptation: correct the means of the first steps, as Adam does.", "True."),
        "safeguard_warmup": ("Prodigy: keep warm-up steps out of its estimate.", "True with lr_warmup_steps."),
        "d0": ("Prodigy, D-Adaptation: step size to start the search from.", "1e-6; 1e-5 when nothing is learned."),
        "d_coef": (
            "Prodigy: factor on the step size it finds.",
            "0.5 when it overshoots, up to 2 when it is too careful.",
        ),
        "growth_rate": (
            "Prodigy, D-Adaptation: most that the step size may grow per step.",
            "inf; 1.02 for a soft start.",
        ),
        "slice_p": ("Prodigy: use every n-th value for its estimate, to save memory.", "11 when memory is short."),
        "fsdp_in_use": (
            "Prodigy, D-Adaptation: the model is split over GPUs with FSDP, which no training program here does.",
            "Leave it out; it is refused.",
        ),
        "log_every": ("D-Adaptation: print its estimate every so many steps; 0 is never.", "0."),
        "no_prox": ("DAdaptAdan: apply weight decay before the step.", "False."),
        "scale_parameter": ("Adafactor: scale steps by the size of the weights.", "False for LoRAs."),
        "relative_step": (
            "Adafactor: choose the step size itself and ignore learning rates; on by default.",
            "False, with a learning rate of your own.",
        ),
        "warmup_init": ("Adafactor: start the relative step very small; switches relative_step on.", "False."),
        "clip_threshold": ("Adafactor: limit on the size of an update.", "1.0."),
        "decay_rate": ("Adafactor: how fast its memory of squared gradients fades.", "-0.8."),
        "warmup_steps": ("Schedule-free: steps over which the rate climbs, since lr_scheduler does not count.", "100."),
        "r": ("Schedule-free: exponent of the step number in its average.", "0."),
        "weight_lr_power": ("Schedule-free: exponent of the rate in its average.", "2."),
        "silent_sgd_phase": ("RAdamScheduleFree: leave out the first steps instead of taking plain ones.", "True."),
        "use_triton": ("Lion: take the Triton kernel, which is faster where it runs.", "False."),
        "decoupled_weight_decay": ("Lion: weight decay apart from the learning rate.", "False."),
        "nesterov": ("SGD: look ahead by the momentum; sd-scripts sets it itself for SGDNesterov.", "Leave it out."),
        "maximize": ("Go up the gradient instead of down it.", "Never."),
        "foreach": ("torch: handle many weights in one call.", "Leave it out."),
        "fused": ("torch: one kernel for the whole step.", "True on NVIDIA cards is a little faster."),
        "capturable": ("torch: allow capture in a CUDA graph; a CPU stops at it.", "False."),
        "differentiable": (
            "torch: let gradients flow through the step, which no training needs and at which it stops.",
            "Leave it out; it is refused.",
        ),
        "min_8bit_size": ("bitsandbytes: smaller tensors stay in 32 bits.", "4096."),
        "percentile_clipping": (
            "bitsandbytes before 0.50: clip gradients at this percentile of the last 100; 100 is off.",
            "100.",
        ),
        "block_wise": ("bitsandbytes before 0.50: quantise each block of values by itself.", "True."),
        "is_paged": ("bitsandbytes: let states move to main memory when needed.", "Take the Paged optimizers instead."),
        "t_alpha": ("AdEMAMix: steps over which the slow momentum's weight grows to alpha.", "The steps of the run."),
        "t_beta3": ("AdEMAMix: steps over which the slow momentum's memory grows to its full length.", "As t_alpha."),
        "alpha": ("AdEMAMix: weight of the slow momentum beside the fast one.", "5."),
    }
)

SCHEDULER_ARG_HELP: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "T_max": ("CosineAnnealingLR: steps down to the lowest rate.", "The number of steps of the run."),
        "eta_min": ("CosineAnnealingLR: the rate at which the fall ends.", "A tenth of the learning rate, or 0."),
        "T_0": ("CosineAnnealingWarmRestarts: steps until the first restart.", "A third of the run."),
        "T_mult": ("CosineAnnealingWarmRestarts: how much longer each cycle is than the last.", "1 or 2."),
        "step_rules": ("piecewise_constant: factor:step pairs and a last factor.", "'1:500,0.1:800,0.01'."),
        "lr_end": ("polynomial: the rate at which the run ends.", "1e-7."),
        "min_lr": ("cosine_with_min_lr: lowest rate, in place of lr_scheduler_min_lr_ratio.", "A tenth of the rate."),
        "warmup_type": ("warmup_stable_decay: shape of the climb: linear, cosine or 1-sqrt.", "'linear'."),
        "decay_type": ("warmup_stable_decay: shape of the fall: linear, cosine or 1-sqrt.", "'cosine'."),
        "last_epoch": (
            "Step to go on from; a schedule that begins has none, and torch stops at any other than -1.",
            "Leave it out; it is refused. resume goes on with a training.",
        ),
        "num_training_steps": (
            "warmup_stable_decay: length of the run, which is known without it.",
            "Leave it out; it is refused.",
        ),
        "num_cycles": ("cosine: waves over the run; 0.5 falls once from the full rate to 0.", "0.5."),
    }
)

# optimizer, in lower case -> the arguments that its class takes beside the learning rate
OPTIMIZER_ARGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        known.lower(): frozenset(OPTIMIZERS[name].arguments)
        for name in OPTIMIZERS
        for known in (name, *OPTIMIZERS[name].aliases)
    }
)

# scheduler -> the arguments that it takes from lr_scheduler_args
SCHEDULER_ARGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {name: frozenset(SCHEDULERS[name].arguments) for name in SCHEDULERS}
    | {
        "CosineAnnealingLR": frozenset({"T_max", "eta_min"}),
        "CosineAnnealingWarmRestarts": frozenset({"T_0", "T_mult", "eta_min"}),
    }
)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_COUNT = ("a whole number above 0", _is_count)
_RATE = ("a rate, 0 or above", lambda value: _is_number(value) and value >= 0)
_SHAPES = ("linear", "cosine", "1-sqrt")
_SHAPE = ("'linear', 'cosine' or '1-sqrt'", lambda value: value in _SHAPES)

# argument of a scheduler -> what it must be, in words and as a test
SCHEDULER_ARG_VALUES: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "num_cycles": ("a number above 0", lambda value: _is_number(value) and value > 0),
        "lr_end": _RATE,
        "min_lr": _RATE,
        "eta_min": _RATE,
        "warmup_type": _SHAPE,
        "decay_type": _SHAPE,
        "step_rules": ("text such as '1:500,0.1:800,0.01'", lambda value: isinstance(value, str)),
        "T_max": _COUNT,
        "T_0": _COUNT,
        "T_mult": _COUNT,
    }
)

NUMBER, WHOLE, SWITCH, NUMBERS, TEXT = "a number", "a whole number", "True or False", "a list of numbers", "text"
KIND_EXAMPLES: Mapping[str, str] = MappingProxyType(
    {NUMBER: "0.01", WHOLE: "100", SWITCH: "True", NUMBERS: "0.9,0.999", TEXT: "'text'"}
)

# argument -> the kinds of value that it takes, None beside them where that is a value too
_KINDS: Mapping[str, tuple[str | None, ...]] = {
    name: kinds
    for names, kinds in (
        ("weight_decay momentum dampening d_coef growth_rate clip_threshold decay_rate r weight_lr_power d0 "
         "cautious_factor eta_min lr_end alpha", (NUMBER,)),
         ("t_alpha t_beta3", (WHOLE, None)),
        ("beta1 beta3 min_lr", (NUMBER, None)),
        ("eps", (NUMBER, NUMBERS)),
        ("betas", (NUMBERS,)),
        ("T_max T_0 T_mult last_epoch log_every slice_p warmup_steps min_8bit_size percentile_clipping "
         "num_training_steps", (WHOLE,)),
        ("num_cycles", (NUMBER,)),
        ("amsgrad decouple use_bias_correction safeguard_warmup fsdp_in_use no_prox scale_parameter relative_step "
         "warmup_init use_triton decoupled_weight_decay nesterov maximize capturable differentiable block_wise "
         "is_paged silent_sgd_phase", (SWITCH,)),
        ("foreach fused", (SWITCH, None)),
        ("step_rules warmup_type decay_type", (TEXT,)),
    )
    for name in names.split()
}  # fmt: skip


def wrong_kind(name: str, value: Any) -> str:
    """What an argument wanted where its value is of another kind, else ""; an unknown one takes all but `1,`."""
    kinds = _KINDS.get(name)
    if kinds is None:
        return NUMBER if isinstance(value, tuple) and len(value) == 1 else ""
    if value is None:
        return "" if None in kinds or name == "step_rules" else str(kinds[0])
    return "" if any(_is(kind, value) for kind in kinds if kind) else str(kinds[0])


def _is(kind: str, value: Any) -> bool:
    if kind == SWITCH:
        return isinstance(value, bool) or value in (0, 1)
    if kind == TEXT:
        return isinstance(value, str)
    if kind == NUMBERS:
        return isinstance(value, (tuple, list)) and len(value) > 1 and all(_is(NUMBER, item) for item in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return kind == NUMBER or isinstance(value, int) or value.is_integer()
