"""From a name, groups of parameters and settings to a ready optimizer and what is recorded about it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.optim import SGD, Adam, AdamW, Optimizer

from kohyakit.config.arguments.key_values import parse_key_values
from kohyakit.config.arguments.named_code import package_of
from kohyakit.config.sections.optimizer import OptimizerConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry import OPTIMIZERS
from kohyakit.registry.optimizers import is_schedule_free
from kohyakit.train.optimizers.recipe import Recipe
from kohyakit.train.own_code import load_class

_FUSED = (Adam, AdamW, SGD)


@dataclass(frozen=True, slots=True)
class BuiltOptimizer:
    """The optimizer and what the run must know about it; name and args as sd-scripts writes `ss_optimizer`.

    learning_rate: the default rate in force, None where the optimizer finds its own.
    lr_scheduler: takes the place of the run's `lr_scheduler` when not None. schedule_free: needs `train()` before steps
    and `eval()` before saving and sampling.
    """

    name: str
    args: str
    optimizer: Optimizer
    learning_rate: float | None
    lr_scheduler: str | None = None
    schedule_free: bool = False

    def train(self, mode: bool = True) -> None:
        """A schedule-free optimizer's weights as they are trained, or as they are meant to be used; others have one."""
        if self.schedule_free:
            optimizer: Any = self.optimizer
            (optimizer.train if mode else optimizer.eval)()

    @property
    def ss_optimizer(self) -> str:
        return f"{self.name}({self.args})" if self.args else self.name


def chosen_type(options: OptimizerConfig) -> str:
    """The optimizer's name, also from the two old switches. Raises ConfigError when they contradict it."""
    wanted = [name for name, on in (("AdamW8bit", options.use_8bit_adam), ("Lion", options.use_lion_optimizer)) if on]
    names = [options.optimizer_type, *wanted] if options.optimizer_type else wanted
    if len({name.lower() for name in names}) > 1:
        what = f"more than one optimizer is asked for: {', '.join(names)}"
        raise ConfigError(Problem("optimizer_type", what, "keep optimizer_type and drop the use_… switches"))
    return options.in_force


def build_optimizer(
    optimizer_type: str,
    param_groups: Sequence[dict[str, Any]],
    learning_rate: float,
    optimizer_args: Iterable[str] | None = None,
    *,
    allow_code: Collection[str] = (),
    fused: bool = False,
) -> BuiltOptimizer:
    """Make an optimizer over groups of parameters ({"params", "lr"}); the groups given are not changed.

    optimizer_type: a name of the table (any case), a class of torch.optim, or package.module.Class.
    optimizer_args: "name=value" texts. allow_code: names of classes outside the known packages that may be imported.
    fused: torch's quicker step where there is one, whose last bits are others.
    Raises ConfigError for an unknown name or settings it does not take,
    MissingExtra with the pip line for a package that is not installed.
    """
    optimizer_type = optimizer_type or OptimizerConfig().in_force
    recipe = _recipe(optimizer_type, parse_key_values(optimizer_args), learning_rate, allow_code)
    groups = [dict(group) for group in param_groups]
    if not recipe.keep_group_rates:
        for group in groups:
            group.pop("lr", None)
    if fused and recipe.kind in _FUSED and not {"fused", "foreach", "differentiable"} & set(recipe.settings):
        recipe = replace(recipe, fixed={**recipe.fixed, "fused": True})
    optimizer = _make(recipe, groups)
    return BuiltOptimizer(
        name=f"{recipe.kind.__module__}.{recipe.kind.__name__}",
        args=",".join(f"{name}={value}" for name, value in recipe.settings.items()),
        optimizer=optimizer,
        learning_rate=recipe.learning_rate,
        lr_scheduler=recipe.lr_scheduler,
        schedule_free=is_schedule_free(optimizer_type),
    )


def _recipe(name: str, settings: dict[str, Any], learning_rate: float, allow_code: Collection[str]) -> Recipe:
    if name not in OPTIMIZERS:
        return Recipe(_class(name, allow_code), settings, learning_rate)
    entry, found = OPTIMIZERS[name], OPTIMIZERS.load(name)
    settings = settings | {name: value for name, value in entry.added.items() if name not in settings}
    if inspect.isclass(found):
        return Recipe(found, settings, learning_rate, fixed=dict(entry.fixed))
    recipe: Recipe = found(settings, learning_rate)
    return recipe


def _class(name: str, allow_code: Collection[str]) -> type:
    """A class of torch.optim or package.module.Class. Raises ConfigError."""
    try:
        kind = load_class("optimizer_type", name, "torch.optim", allow_code)
    except ModuleNotFoundError as error:
        missing = (error.name or name).split(".")[0]
        package = package_of("optimizer_type", name)
        cure = f"pip install {package}" if package and package != "torch" else "check the spelling"
        raise ConfigError(Problem("optimizer_type", f"'{name}' needs the package {missing}", cure)) from error
    if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer:
        return kind
    raise ConfigError(Problem("optimizer_type", f"there is no optimizer '{name}'", _nearest(name)))


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), {known.lower(): known for known in OPTIMIZERS}, n=1)
    if near:
        return f"did you mean '{OPTIMIZERS.canonical(near[0])}'?"
    return f"choose one of {', '.join(OPTIMIZERS)}, a class of torch.optim, or package.module.Class"


def _make(recipe: Recipe, groups: list[dict[str, Any]]) -> Optimizer:
    """Call the class; settings it does not take, or values it refuses, become a sentence."""
    takes = inspect.signature(recipe.kind).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        unknown = [name for name in recipe.settings if name not in takes]
        if unknown:
            known = ", ".join(name for name in takes if name not in ("params", "lr"))
            raise ConfigError(
                Problem("optimizer_args", f"{recipe.kind.__name__} takes no '{name}'", f"it takes {known}")
                for name in unknown
            )
    try:
        return recipe.kind(groups, lr=recipe.learning_rate, **recipe.settings, **recipe.fixed)
    except (TypeError, ValueError, AssertionError, NotImplementedError, ImportError, SystemExit) as error:
        reason = error.__context__ if isinstance(error, SystemExit) else error  # lion_pytorch exits without triton
        cure = "correct the value in optimizer_args, or leave it out"
        raise ConfigError(Problem("optimizer_args", f"{recipe.kind.__name__} refuses them ({reason})", cure)) from error
