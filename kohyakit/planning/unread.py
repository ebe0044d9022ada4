"""Which programs lose the file of a network that is not plain LoRA, said before it is trained.

What each makes of a file that is there is `kohyakit lora check`'s to say, from the tensors themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kohyakit.config.arguments.adapters import AdapterSettings, adapter_settings
from kohyakit.config.rules.reading import family, trains_lora
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry.networks import ALGORITHMS, NETWORKS

if TYPE_CHECKING:
    from kohyakit.planning.plan import Plan

PROGRAMS = ("A1111", "Forge", "ComfyUI", "diffusers", "sd-scripts", "InvokeAI")
_SUMS = ("lora", "dylora", "loha", "lokr", "full")  # of which a plain LoRA can be made without the base model


def not_read_by(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """One hint: the programs that lose the file, and what helps."""
    if not trains_lora(config) or config.network.dim_from_weights:
        return
    try:
        settings = adapter_settings(config.network)
    except ConfigError:
        return
    lost = unread(config, settings) if settings is not None else ()
    if settings is None or not lost:
        return
    module = config.network.module
    kind = module if settings.native else f"algo={settings.algo}"
    named = ["sd-scripts' networks.lora" if name == "sd-scripts" else name for name in lost]
    readers = [name for name in PROGRAMS if name not in lost]
    plain = "`kohyakit lora convert` makes a plain LoRA of it for them"
    cure = plain if settings.algo in _SUMS and not settings.dora and not settings.norms else ""
    on_base = "`kohyakit lora convert --base` makes a plain LoRA of it, on the model that it is trained on"
    cure = cure or (f"draw with {' or '.join(readers)}" if readers else on_base)
    yield Problem("network_args", f"the file of {kind} is not read by {_listed(named)}", cure, "not_read_by", "hint")


def unread(config: TrainConfig, settings: AdapterSettings) -> tuple[str, ...]:
    """The programs that lose something of the file, in the order of PROGRAMS."""
    found = set(ALGORITHMS[settings.algo].unread)
    if config.network.module in NETWORKS and NETWORKS[config.network.module].unread:
        found = set(NETWORKS[config.network.module].unread)
        found -= {"A1111"} if family(config) == "sdxl" else set()  # which knows these names as SDXL has them
    elif settings.algo == "diag-oft" and settings.constraint:
        found -= {"A1111"}  # which takes a limit of 0 for none at all
    core = settings.tucker and settings.conv_dim > 0 and settings.preset.convolutions
    if settings.norms or core:
        found |= {"diffusers", "sd-scripts"}
    return tuple(name for name in PROGRAMS if name in found)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"
