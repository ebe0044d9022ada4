"""The optimizers by sd-scripts' names: what each takes, what it keeps in memory, and what it asks of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from kohyakit.registry.arguments import NUMBER, NUMBERS, SWITCH, WHOLE, Argument
from kohyakit.registry.table import Entry, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer(Entry):
    """`target` is the class, or a function of train/optimizers that makes a recipe of the settings.

    arguments: what the class takes beside the rate, by the releases that sd-scripts 0.10 asks for, with what counts
    where it is not given. state_bytes: what it keeps for each number that is trained. added: settings that sd-scripts
    gives where nobody does, and records. fixed: those that belong to the name and are not recorded. finds_rate: it
    finds its rate by itself, so that the rates wanted are 1 and the same for all parts. in_fp16: what becomes of it
    where weights and gradients are fp16: "", "nan", or "stuck" at its first tiny steps.
    """

    state_bytes: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    finds_rate: bool = False
    in_fp16: str = ""


# module that an optimizer may come from -> (its package for pip, the extra of kohyakit that brings it)
PACKAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "torch": ("torch", "train"),
        "transformers.optimization": ("transformers", "train"),
        "bitsandbytes.optim": ("bitsandbytes", "bitsandbytes"),
        "dadaptation": ("dadaptation", "optimizers"),
        "lion_pytorch": ("lion-pytorch", "optimizers"),
        "prodigyopt": ("prodigyopt", "optimizers"),
        "schedulefree": ("schedulefree", "optimizers"),
        "pytorch_optimizer": ("pytorch-optimizer", "optimizers"),
        "prodigyplus": ("prodigy-plus-schedule-free", ""),
    }
)

_YES_OR_NONE = (SWITCH, None)
OPTIMIZER_ARGUMENTS: Mapping[str, Argument] = MappingProxyType(
    {
        "betas": Argument(
            (NUMBERS,), "Memory of the running means of gradient and squared gradient, two numbers below 1 (three for "
            "Adan).", "0.9,0.999; 0.9,0.99 for Prodigy and Lion.", ge=0, lt=1,
        ),
        "beta1": Argument(
            (NUMBER, None),
            "Adafactor: memory of the running mean of the gradient; None keeps none, which saves memory.", "None.",
        ),
        "beta3": Argument(
            (NUMBER, None),
            "Prodigy: memory of its estimate of the step size; None takes the root of the second beta.", "None.",
        ),
        "weight_decay": Argument(
            (NUMBER,), "Pulls the LoRA's weights towards 0 at each step, against overfitting.",
            "0.01; 0.1 is strong, 0 is off.", ge=0,
        ),
        "eps": Argument(
            (NUMBER, NUMBERS), "A small number that keeps divisions by 0 away; Adafactor takes two.", "Leave it out.",
            ge=0,
        ),
        "amsgrad": Argument(
            (SWITCH,), "Adam variant that never lets the squared-gradient mean shrink; torch's AdamW only, not "
            "bitsandbytes'.", "False.",
        ),
        "momentum": Argument(
            (NUMBER,), "SGD: share of the last step that is kept in the next.",
            "0.9, which sd-scripts sets itself for SGDNesterov.", ge=0,
        ),
        "dampening": Argument(
            (NUMBER,), "torch.optim.SGD: how much less the new gradient counts beside the momentum; SGDNesterov goes "
            "with none.", "0.",
        ),
        "decouple": Argument(
            (SWITCH,), "Prodigy, D-Adaptation: weight decay apart from the gradient, as in AdamW.", "True.",
        ),
        "use_bias_correction": Argument(
            (SWITCH,), "Prodigy, D-Adaptation: correct the means of the first steps, as Adam does.", "True.",
        ),
        "safeguard_warmup": Argument(
            (SWITCH,), "Prodigy: keep warm-up steps out of its estimate.", "True with lr_warmup_steps.",
        ),
        "d0": Argument(
            (NUMBER,), "Prodigy, D-Adaptation: step size to start the search from.",
            "1e-6; 1e-5 when nothing is learned.",
        ),
        "d_coef": Argument(
            (NUMBER,), "Prodigy: factor on the step size it finds.",
            "0.5 when it overshoots, up to 2 when it is too careful.",
        ),
        "growth_rate": Argument(
            (NUMBER,), "Prodigy, D-Adaptation: most that the step size may grow per step.",
            "inf; 1.02 for a soft start.",
        ),
        "slice_p": Argument(
            (WHOLE,), "Prodigy: use every n-th value for its estimate, to save memory.", "11 when memory is short.",
        ),
        "fsdp_in_use": Argument(
            (SWITCH,), "Prodigy, D-Adaptation: the model is split over GPUs with FSDP, which no training program here "
            "does.", "Leave it out; it is refused.",
        ),
        "log_every": Argument(
            (WHOLE,), "D-Adaptation: print its estimate every so many steps; 0 is never.", "0.",
        ),
        "no_prox": Argument((SWITCH,), "DAdaptAdan: apply weight decay before the step.", "False."),
        "scale_parameter": Argument(
            (SWITCH,), "Adafactor: scale steps by the size of the weights.", "False for LoRAs.",
        ),
        "relative_step": Argument(
            (SWITCH,), "Adafactor: choose the step size itself and ignore learning rates; on by default.",
            "False, with a learning rate of your own.",
        ),
        "warmup_init": Argument(
            (SWITCH,), "Adafactor: start the relative step very small; switches relative_step on.", "False.",
        ),
        "clip_threshold": Argument((NUMBER,), "Adafactor, CAME: limit on the size of an update.", "1.0."),
        "decay_rate": Argument(
            (NUMBER,), "Adafactor: how fast its memory of squared gradients fades.", "-0.8.",
        ),
        "warmup_steps": Argument(
            (WHOLE,), "Schedule-free: steps over which the rate climbs, since lr_scheduler does not count.", "100.",
        ),
        "r": Argument((NUMBER,), "Schedule-free: exponent of the step number in its average.", "0."),
        "weight_lr_power": Argument((NUMBER,), "Schedule-free: exponent of the rate in its average.", "2."),
        "silent_sgd_phase": Argument(
            (SWITCH,), "RAdamScheduleFree: leave out the first steps instead of taking plain ones.", "True.",
        ),
        "use_triton": Argument((SWITCH,), "Lion: take the Triton kernel, which is faster where it runs.", "False."),
        "decoupled_weight_decay": Argument((SWITCH,), "Lion: weight decay apart from the learning rate.", "False."),
        "nesterov": Argument(
            (SWITCH,), "SGD: look ahead by the momentum; sd-scripts sets it itself for SGDNesterov.", "Leave it out.",
        ),
        "maximize": Argument((SWITCH,), "Go up the gradient instead of down it.", "Never."),
        "foreach": Argument(_YES_OR_NONE, "torch: handle many weights in one call.", "Leave it out."),
        "fused": Argument(
            _YES_OR_NONE, "torch: one kernel for the whole step.", "True on NVIDIA cards is a little faster.",
        ),
        "capturable": Argument((SWITCH,), "torch: allow capture in a CUDA graph; a CPU stops at it.", "False."),
        "differentiable": Argument(
            (SWITCH,),
            "torch: let gradients flow through the step, which no training needs and at which it stops.",
            "Leave it out; it is refused.",
        ),
        "min_8bit_size": Argument((WHOLE,), "bitsandbytes: smaller tensors stay in 32 bits.", "4096."),
        "percentile_clipping": Argument(
            (WHOLE,),
            "bitsandbytes before 0.50: clip gradients at this percentile of the last 100; 100 is off.", "100.",
        ),
        "block_wise": Argument(
            (SWITCH,), "bitsandbytes before 0.50: quantise each block of values by itself.", "True.",
        ),
        "is_paged": Argument(
            (SWITCH,), "bitsandbytes: let states move to main memory when needed.",
            "Take the Paged optimizers instead.",
        ),
        "t_alpha": Argument(
            (WHOLE, None), "AdEMAMix: steps over which the slow momentum's weight grows to alpha.",
            "The steps of the run.",
        ),
        "t_beta3": Argument(
            (WHOLE, None), "AdEMAMix: steps over which the slow momentum's memory grows to its full length.",
            "As t_alpha.",
        ),
        "t_alpha_beta3": Argument(
            (WHOLE, None), "AdEMAMix of pytorch-optimizer: steps over which the slow momentum comes in; None: at once.",
            "The steps of the run.", ge=1,
        ),
        "weight_decouple": Argument(
            (SWITCH,), "pytorch-optimizer: weight decay apart from the gradient, as in AdamW.", "True.",
        ),
        "fixed_decay": Argument(
            (SWITCH,), "pytorch-optimizer: decay by weight_decay alone, not by the learning rate times it.", "False.",
        ),
        "ams_bound": Argument((SWITCH,), "CAME: never let the squared-gradient mean shrink (AMSGrad).", "False."),
        "eps1": Argument((NUMBER,), "CAME: a small number on the squared gradient.", "Leave it out.", ge=0),
        "eps2": Argument((NUMBER,), "CAME: a small number on its confidence.", "Leave it out.", ge=0),
        "alpha": Argument((NUMBER,), "AdEMAMix: weight of the slow momentum beside the fast one.", "5."),
    }
)  # fmt: skip


def _of(module: str, name: str, text: str, state_bytes: int, /, *given: Mapping[str, Any], **about: Any) -> Optimizer:
    """An entry whose class comes from a package of PACKAGES; `given` are arguments with their defaults."""
    package, extra = next(found for start, found in PACKAGES.items() if f"{module}.".startswith(f"{start}."))
    arguments = {argument: default for part in given for argument, default in part.items()}
    return Optimizer(
        f"{module}:{name}", text, package=package, extra=extra, state_bytes=state_bytes, arguments=arguments, **about
    )


_bnb = partial(_of, "bitsandbytes.optim")
_dadapt = partial(_of, "dadaptation", finds_rate=True)
_dadapt_experimental = partial(_of, "dadaptation.experimental", finds_rate=True)
_free = partial(_of, "schedulefree")
_more = partial(_of, "pytorch_optimizer")

_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
_ADAMW = {**_ADAM, "weight_decay": 0.01}
_LION = {"betas": (0.9, 0.99), "weight_decay": 0.0}
_8BIT = {"min_8bit_size": 4096, "percentile_clipping": 100, "block_wise": True}
_PAGED = {"is_paged": False}
_ADEMAMIX = {
    **_ADAMW, "betas": (0.9, 0.999, 0.9999), "alpha": 5.0, "t_alpha": None, "t_beta3": None, "min_8bit_size": 4096,
}  # fmt: skip
_D = {"log_every": 0, "d0": 1e-6}
_GROWTH = {"growth_rate": math.inf}
_ADAN = {"betas": (0.98, 0.92, 0.99), "eps": 1e-8, "weight_decay": 0.02, "no_prox": False}
_FREE = {"weight_decay": 0.0, "r": 0.0, "weight_lr_power": 2.0, "foreach": True}
_MORE = {"weight_decay": 0.0, "weight_decouple": False, "fixed_decay": False, "maximize": False, "foreach": None}
_BNB_NAME = "bitsandbytes.optim."  # by which sd-scripts and the GUI know the two that have no name of their own

OPTIMIZERS: Table[Optimizer] = Table(
    "optimizer",
    {
        "AdamW": Optimizer(
            "torch.optim:AdamW", "the usual choice: moments of the gradient, decoupled weight decay", state_bytes=8,
            arguments={**_ADAMW, "amsgrad": False, "maximize": False, "foreach": None, "capturable": False,
                       "fused": None},
            in_fp16="nan",
        ),
        "AdamW8bit": _bnb("AdamW8bit", "AdamW with states of 8 bits", 2, _ADAMW, _8BIT, _PAGED),
        "PagedAdamW8bit": _bnb("PagedAdamW8bit", "the same, moved out of GPU memory when full", 2, _ADAMW, _8BIT),
        "PagedAdamW": _bnb("PagedAdamW", "AdamW, moved out of GPU memory when full", 8, _ADAMW, _8BIT),
        "PagedAdamW32bit": _bnb("PagedAdamW32bit", "the same with states of 32 bits", 8, _ADAMW, _8BIT),
        "Adafactor": Optimizer(
            "kohyakit.train.optimizers.adafactor:adafactor",
            "little memory; finds its own rate unless relative_step=False", state_bytes=0,
            arguments={"eps": (1e-30, 1e-3), "clip_threshold": 1.0, "decay_rate": -0.8, "beta1": None,
                       "weight_decay": 0.0, "scale_parameter": True, "relative_step": True, "warmup_init": False},
            added={"relative_step": True},
        ),
        "Lion": _of(
            "lion_pytorch", "Lion", "the sign of the momentum; wants a third of AdamW's rate", 4, _LION,
            {"use_triton": False, "decoupled_weight_decay": False},
        ),
        "Lion8bit": _bnb("Lion8bit", "Lion with states of 8 bits", 1, _LION, _8BIT, _PAGED),
        "PagedLion8bit": _bnb("PagedLion8bit", "the same, moved out of GPU memory when full", 1, _LION, _8BIT),
        "Prodigy": _of(
            "prodigyopt", "Prodigy", "finds the rate itself; set the learning rates to 1", 16, _ADAM, _GROWTH,
            {"beta3": None, "decouple": True, "use_bias_correction": False, "safeguard_warmup": False, "d0": 1e-6,
             "d_coef": 1.0, "slice_p": 1},
            finds_rate=True, in_fp16="stuck",
        ),
        "DAdaptation": _dadapt_experimental(
            "DAdaptAdamPreprint", "finds the rate itself; rates of 1", 12, _ADAM, _D, _GROWTH, {"decouple": False},
            aliases=("DAdaptAdamPreprint",), in_fp16="stuck",
        ),
        "DAdaptAdaGrad": _dadapt(
            "DAdaptAdaGrad", "AdaGrad that finds the rate itself", 12, _D, _GROWTH,
            {"momentum": 0.0, "weight_decay": 0.0, "eps": 1e-6},
        ),
        "DAdaptAdam": _dadapt(
            "DAdaptAdam", "Adam that finds the rate itself", 12, _ADAM, _D, _GROWTH,
            {"decouple": False, "use_bias_correction": False}, in_fp16="stuck",
        ),
        "DAdaptAdan": _dadapt("DAdaptAdan", "Adan that finds the rate itself", 20, _ADAN, _D, _GROWTH),
        "DAdaptAdanIP": _dadapt_experimental("DAdaptAdanIP", "the same by another estimate", 20, _ADAN, _D, _GROWTH),
        "DAdaptLion": _dadapt("DAdaptLion", "Lion that finds the rate itself", 8, _LION, _D),
        "DAdaptSGD": _dadapt(
            "DAdaptSGD", "SGD that finds the rate itself", 12, _D, _GROWTH, {"momentum": 0.0, "weight_decay": 0.0},
        ),
        "AdamWScheduleFree": _free(
            "AdamWScheduleFree", "AdamW that needs no schedule", 8, _ADAM, _FREE, {"warmup_steps": 0}, in_fp16="nan",
        ),
        "RAdamScheduleFree": _free(
            "RAdamScheduleFree", "RAdam that needs no schedule and no warm-up", 8, _ADAM, _FREE,
            {"silent_sgd_phase": True},
        ),
        "SGDScheduleFree": _free(
            "SGDScheduleFree", "SGD that needs no schedule", 4, _FREE, {"momentum": 0.9, "warmup_steps": 0},
        ),
        "AdEMAMix8bit": _bnb(
            "AdEMAMix8bit", "AdamW with a second, slower momentum, 8 bits", 3, _ADEMAMIX, _PAGED,
            aliases=(f"{_BNB_NAME}AdEMAMix8bit",),
        ),
        "PagedAdEMAMix8bit": _bnb(
            "PagedAdEMAMix8bit", "the same, moved out of GPU memory when full", 3, _ADEMAMIX,
            aliases=(f"{_BNB_NAME}PagedAdEMAMix8bit",),
        ),
        "CAME": _more(
            "CAME", "as little memory as Adafactor, and a confidence in each step", 4, _MORE,
            {"betas": (0.9, 0.999, 0.9999), "weight_decouple": True, "clip_threshold": 1.0, "ams_bound": False,
             "eps1": 1e-30, "eps2": 1e-16},
            aliases=("pytorch_optimizer.CAME",),
        ),
        "AdEMAMix": _more(
            "AdEMAMix", "AdamW with a second, slower momentum", 12, _MORE,
            {"betas": (0.9, 0.999, 0.9999), "alpha": 5.0, "t_alpha_beta3": None, "eps": 1e-8},
            aliases=("pytorch_optimizer.AdEMAMix",),
        ),
        "ADOPT": _more(
            "ADOPT", "Adam that converges whatever its second beta", 8, _MORE, {"betas": (0.9, 0.9999), "eps": 1e-6},
            aliases=("pytorch_optimizer.ADOPT",),
        ),
        "SGDNesterov": Optimizer(
            "torch.optim:SGD", "plain gradient descent with momentum", state_bytes=4,
            arguments={"momentum": 0.9, "weight_decay": 0.0, "maximize": False, "foreach": None, "fused": None},
            added={"momentum": 0.9}, fixed={"nesterov": True},
        ),
        "SGDNesterov8bit": _bnb(
            "SGD8bit", "the same with states of 8 bits", 1, {"momentum": 0.9, "weight_decay": 0.0}, _8BIT,
            added={"momentum": 0.9}, fixed={"nesterov": True},
        ),
    },
)  # fmt: skip


def _torch(name: str, state_bytes: int) -> Optimizer:
    return Optimizer(f"torch.optim:{name}", f"torch.optim.{name}", state_bytes=state_bytes)


# Other classes by the names that sd-scripts takes for them: of torch.optim by name alone, and two that the GUI offers.
# What they take from optimizer_args is not listed.
CLASSES: Mapping[str, Optimizer] = MappingProxyType(
    {
        **{
            name: _torch(name, state_bytes)
            for name, state_bytes in {
                "ASGD": 4, "Adadelta": 8, "Adagrad": 4, "Adam": 8, "Adamax": 8, "Muon": 4, "NAdam": 8, "RAdam": 8,
                "RMSprop": 4, "Rprop": 8, "SGD": 0,
            }.items()
        },
        "prodigyplus.ProdigyPlusScheduleFree": _of(
            "prodigyplus", "ProdigyPlusScheduleFree", "Prodigy that needs no schedule", 12, finds_rate=True,
        ),
    }
)  # fmt: skip
_BY_LOWER = {name.lower(): entry for name, entry in CLASSES.items()}


def optimizer_entry(name: str) -> Optimizer | None:
    """What is known of an optimizer or class by the name that a config gives it, whatever its case."""
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    return _BY_LOWER.get(name.lower().removeprefix("torch.optim."))


def is_schedule_free(name: str) -> bool:
    """sd-scripts tells them by the end of their names, somebody's own class too."""
    return name.lower().endswith("schedulefree")
