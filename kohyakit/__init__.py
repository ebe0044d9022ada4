"""kohyakit: train Stable Diffusion LoRAs the Kohya way. The names below load on first use."""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and any("kohyakit" in word for word in sys.orig_argv[1:3]):
    # `python -m kohyakit` put the folder one stands in before the standard library, and a data set may hold a
    # typing.py. Hence, too, nothing else is imported at the start of this file.
    del sys.path[0]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WHERE = {
    "AuditReport": "kohyakit.audit.report.report",
    "Caption": "kohyakit.dataset.captions.caption",
    "ConfigError": "kohyakit.errors",
    "DatasetError": "kohyakit.errors",
    "KohyakitError": "kohyakit.errors",
    "MissingExtra": "kohyakit.errors",
    "Plan": "kohyakit.planning.plan",
    "Problem": "kohyakit.errors",
    "RunError": "kohyakit.errors",
    "TrainConfig": "kohyakit.config.train",
    "Version": "kohyakit.runs.version",
    "audit_dataset": "kohyakit.audit.run",
    "load": "kohyakit.formats",
    "make_plan": "kohyakit.planning.make",
    "read_scalars": "kohyakit.runs.logs.metrics",
    "train_network": "kohyakit.train.start",
}

__all__ = sorted(_WHERE)
__version__ = "0.1.0"


def __getattr__(name: str) -> "Any":
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'kohyakit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
