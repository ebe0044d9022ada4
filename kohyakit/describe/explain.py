"""One parameter in plain words: what it does, its bounds and defaults, and the value in force with its origin."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from kohyakit.config.meant import OTHER_NAMES
from kohyakit.config.param import Spec
from kohyakit.config.rules import check_rules
from kohyakit.config.rules.reading import optimizer_args, scheduler_args
from kohyakit.config.scripts import ONLY_IN, default_in
from kohyakit.config.sections.network import MODULE_ARGS, NETWORK_ARG_SPECS, parse_network_args
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.describe.dataset_words import DATASET_WORDS
from kohyakit.describe.gui_words import GUI_WORDS
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.gui.fields import TABS, fields
from kohyakit.formats.gui.keys import FLAGS
from kohyakit.registry import OPTIMIZERS, SCHEDULERS, Entry
from kohyakit.registry.arguments import NUMBER, NUMBERS, SWITCH, TEXT, WHOLE, Argument
from kohyakit.registry.optimizers import OPTIMIZER_ARGUMENTS
from kohyakit.registry.schedules import SCHEDULE_ARGUMENTS, SCHEDULE_CLASSES

_KINDS = {"int": "whole number", "float": "number", "bool": "switch", "str": "text", "int_or_float": "number"}
_ARGUMENT_KINDS = {
    NUMBER: "number", WHOLE: "whole number", SWITCH: "switch", NUMBERS: "list of numbers", TEXT: "text"
}  # fmt: skip
_TAB_NAMES = {"lora": "LoRA", "dreambooth": "Dreambooth", "finetune": "Finetune", "ti": "Textual Inversion"}
_FAMILIES = (*FLAGS, "hunyuan", "flux")  # what names of GUI fields begin with
# What people call a parameter in conversation.
_EVERYDAY = {**OTHER_NAMES, "locon": "conv_dim", "dora": "dora_wd"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What there is to say about one name. where: parameter, GUI field, network argument, optimizer argument …

    default: sd-scripts' (ours for a parameter of our own). gui_defaults: tab -> its default, as the GUI holds it.
    value and origin: with a config only. taken_by: programs, network modules or optimizers that know it; empty is all.
    """

    name: str
    where: str
    section: str = ""
    kind: str = ""
    help: str = ""
    tip: str = ""
    bounds: str = ""
    choices: tuple[Any, ...] = ()
    default: Any = None
    gui_names: tuple[str, ...] = ()
    gui_defaults: Mapping[str, Any] = field(default_factory=dict)
    becomes: str = ""
    taken_by: tuple[str, ...] = ()
    value: Any = None
    origin: str = ""
    findings: tuple[str, ...] = ()


def explain(name: str, config: TrainConfig | None = None) -> tuple[Explanation, ...]:
    """Everything that goes by this name: usually one, sometimes a parameter and a network argument.

    A name may be an option (`--network_dim`), a field of the GUI, an argument inside network_args,
    optimizer_args or lr_scheduler_args, or what people and other tools call one (`rank`). Raises ConfigError with
    the name that was meant, or names to try.
    """
    wanted = name.strip().lstrip("-").replace("-", "_")
    found = tuple(_everything(wanted, config)) or tuple(_everything(_EVERYDAY.get(wanted.lower(), ""), config))
    if found:
        return found
    names = _names()
    lower = {known.lower(): known for known in names}
    if wanted.lower() in lower:
        return tuple(_everything(lower[wanted.lower()], config))
    near = difflib.get_close_matches(wanted.lower(), lower, n=1, cutoff=0.75)
    if near:
        cure = f"did you mean {lower[near[0]]}?"
        raise ConfigError(Problem("", f"nothing is called '{name}'", cure, name="unknown_parameter"))
    words = [word for word in re.split(r"[\s_]+", wanted.lower()) if len(word) > 2]
    alike = [known for known in names if any(word in known.lower() for word in words)][:6]
    cure = f"perhaps {', '.join(alike)}" if alike else "kohyakit explain --list shows every name"
    raise ConfigError(Problem("", f"nothing is called '{name}'", cure, name="unknown_parameter"))


def explained_names() -> tuple[str, ...]:
    """Every name that `explain` knows, sections first."""
    return tuple(_names())


@cache
def _names() -> dict[str, None]:
    gui = (alias for spec in SPECS().values() for alias in spec.about.gui)
    fields_of_tabs = (key for tab in TABS for key in fields(tab))
    return dict.fromkeys(
        (
            *SPECS(),
            *NETWORK_ARG_SPECS(),
            *DATASET_WORDS,
            *OPTIMIZER_ARGUMENTS,
            *SCHEDULE_ARGUMENTS,
            *GUI_WORDS,
            *gui,
            *fields_of_tabs,
        )
    )


def _everything(name: str, config: TrainConfig | None) -> Iterator[Explanation]:
    spec = SPECS().get(name)
    if spec is not None:
        yield _parameter(spec, config)
    if name in NETWORK_ARG_SPECS():
        yield _network_argument(NETWORK_ARG_SPECS()[name], config)
    yield from _class_argument(name, config)
    if name in DATASET_WORDS:
        words, tip = DATASET_WORDS[name]
        yield Explanation(name=name, where="option of a dataset_config", help=words, tip=tip)
    if name in GUI_WORDS:
        yield _gui_field(name, config)
    elif spec is None:
        for other in SPECS().values():
            if name in other.about.gui:
                yield _gui_alias(name, other, config)


def _parameter(spec: Spec, config: TrainConfig | None) -> Explanation:
    about = spec.about
    keys = dict.fromkeys((spec.name, *about.gui))
    # a field of the LoRA tab that is a network argument there says nothing about the option of the same name
    tabs = [tab for tab in TABS if not (tab == "lora" and spec.name in NETWORK_ARG_SPECS())]
    gui_defaults = {
        _TAB_NAMES[tab]: fields(tab)[key].default for tab in tabs for key in reversed(keys) if key in fields(tab)
    }
    return Explanation(
        name=spec.name, where="parameter" if not about.own else "parameter of kohyakit", section=spec.section,
        kind=("list of " + _KINDS[spec.kind] + "s") if spec.many else _KINDS[spec.kind],
        help=about.help, tip=about.tip, bounds=spec.about.bounds, choices=about.choices, default=spec.default,
        gui_names=about.gui, gui_defaults=gui_defaults, taken_by=tuple(sorted(ONLY_IN.get(spec.name, ()))),
        **_in_force(spec, config),
    )  # fmt: skip


def _in_force(spec: Spec, config: TrainConfig | None) -> dict[str, Any]:
    if config is None:
        return {}
    value = config[spec.name]
    shown = "***" if spec.about.secret and value else value
    said = tuple(str(p) for p in check_rules(config) if re.search(rf"\b{re.escape(spec.name)}\b", p.what))
    return {"value": shown, "origin": _origin(spec, config), "findings": said}


def _origin(spec: Spec, config: TrainConfig) -> str:
    """Where the value came from, in words."""
    source, value = config.source, config[spec.name]
    file = source.path.name if source is not None and source.path is not None else "the values given"
    keys = (spec.name, *spec.about.gui)
    notes = [note for note in (source.notes if source is not None else ()) if note.key in keys]
    for action in ("set", "repaired", "mapped", "defaulted"):
        for note in notes:
            if note.action == action:
                key = "" if note.key == spec.name else f" as {note.key}"
                text = f" ({note.text})" if note.text and note.text != spec.name else ""
                return {
                    "set": "given with --set",
                    "mapped": f"from {file}{key}",
                    "repaired": f"from {file}{key}, repaired{text}",
                    "defaulted": note.text or f"{file} does not say; a default",
                }[action]
    if value != spec.default:
        return f"worked out from {file}"
    own = default_in(config.launch.script, spec.name, value)
    if own != value:
        return f"not given; {config.launch.script} takes {own}"
    unset = spec.about.unset
    if value is None and unset is not None:
        other = unset[1:] if isinstance(unset, str) and unset.startswith("=") else ""
        return f"not given, so {other} counts: {config[other]}" if other else f"not given, which is {unset}"
    return f"{file} does not say; " + ("kohyakit's default" if spec.about.own else "sd-scripts' default")


def _network_argument(spec: Spec, config: TrainConfig | None) -> Explanation:
    takers = tuple(module for module, names in MODULE_ARGS.items() if spec.name in names)
    defaults = {"LoRA": fields("lora")[spec.name].default} if spec.name in fields("lora") else {}
    value, origin = None, ""
    if config is not None:
        value = getattr(parse_network_args(config.network.network_args), spec.name)
        origin = "not in network_args" if value is None else "from network_args"
    return Explanation(
        name=spec.name, where="network argument (inside network_args)",
        kind=("list of " + _KINDS[spec.kind] + "s") if spec.many else _KINDS[spec.kind],
        help=spec.about.help, tip=spec.about.tip, bounds=spec.about.bounds, gui_defaults=defaults, taken_by=takers,
        value=value, origin=origin,
    )  # fmt: skip


def _class_argument(name: str, config: TrainConfig | None) -> Iterator[Explanation]:
    kinds: tuple[tuple[str, Mapping[str, Argument], Mapping[str, Entry], Callable[[TrainConfig], Any]], ...] = (
        ("optimizer", OPTIMIZER_ARGUMENTS, OPTIMIZERS, optimizer_args),
        ("lr_scheduler", SCHEDULE_ARGUMENTS, {**SCHEDULERS, **SCHEDULE_CLASSES}, scheduler_args),
    )
    for where, words, table, read in kinds:
        about = words.get(name)
        if about is not None:
            value = read(config).get(name) if config is not None else None
            origin = "" if config is None else f"{'not in' if value is None else 'from'} {where}_args"
            yield Explanation(
                name=name, where=f"argument of the {where.removeprefix('lr_')} (inside {where}_args)",
                kind=_ARGUMENT_KINDS[str(about.kinds[0])], help=about.help, tip=about.tip,
                bounds=about.bounds, choices=about.choices, value=value, origin=origin,
                taken_by=tuple(taker for taker, entry in table.items() if name in entry.arguments),
            )  # fmt: skip


def _gui_field(name: str, config: TrainConfig | None) -> Explanation:
    words = GUI_WORDS[name]
    about = {_TAB_NAMES[tab]: fields(tab)[name] for tab in TABS if name in fields(tab)}
    choices = next((tuple(f.choices) for f in about.values() if f.choices), ())
    value, origin = None, ""
    target = words.becomes.split()[0] if words.becomes else ""
    if config is not None and target in SPECS():
        value, origin = config[target], f"{target}, {_origin(SPECS()[target], config)}"
    return Explanation(
        name=name, where="field of the GUI", help=words.help, tip=words.tip, choices=choices,
        gui_defaults={tab: f.default for tab, f in about.items()}, becomes=words.becomes, value=value, origin=origin,
    )  # fmt: skip


def _gui_alias(name: str, spec: Spec, config: TrainConfig | None) -> Explanation:
    base = _parameter(spec, config)
    family = next((prefix for prefix in _FAMILIES if name.startswith(prefix + "_")), "")
    for_family = f" The field counts only while its family ({family}) is chosen." if family else ""
    return Explanation(
        name=name, where="field of the GUI", section=base.section, kind=base.kind,
        help=f"The GUI's name for {spec.name}.{for_family} {base.help}", tip=base.tip, bounds=base.bounds,
        choices=base.choices, default=base.default,
        gui_defaults={_TAB_NAMES[tab]: fields(tab)[name].default for tab in TABS if name in fields(tab)},
        becomes=spec.name, taken_by=base.taken_by, value=base.value, origin=base.origin, findings=base.findings,
    )  # fmt: skip
