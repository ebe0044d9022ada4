"""What this machine lacks for a training in process, told without loading torch."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from kohyakit.config.rules.reading import optimizer
from kohyakit.config.train import TrainConfig
from kohyakit.errors import MissingExtra, Problem
from kohyakit.registry import OPTIMIZERS

# Findings about this machine and not the config: they stop a training here, and none elsewhere.
LACKING = ("train_not_installed", "package_missing", "gpu_missing", "compiler_missing")
_SPLITTING = {"FSDP": "FSDP", "DEEPSPEED": "DeepSpeed", "MEGATRON_LM": "Megatron-LM"}
_GPU_MARKS = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/dri/renderD128")


def machine_problems(config: TrainConfig) -> Iterator[Problem]:
    """Packages and a GPU that this training needs. Where torch is not installed at all, only that."""
    if find_spec("torch") is None:
        what = "nothing is trained on this machine as it is: the packages for that are not installed"
        yield Problem("", what, 'pip install "kohyakit[train]"', "train_not_installed", "hint")
        return
    yield from _split()
    name = optimizer(config)
    if name in OPTIMIZERS:
        entry = OPTIMIZERS[name]
        if entry.package and not _installed(entry.module):
            told = MissingExtra(f"optimizer '{OPTIMIZERS.canonical(name)}'", entry.package, entry.extra).problems[0]
            yield Problem(told.where, told.what, told.cure, "package_missing", "warning")
    for option in ("optimizer_type", "lr_scheduler_type"):
        package = str(config[option]).partition(".")[0] if "." in str(config[option]) else ""
        if package and config[option] not in OPTIMIZERS and not _installed(package):
            cure = f"install what brings {package}, or check the spelling"
            what = f"'{config[option]}' needs the package {package}, which is not installed here"
            yield Problem(option, what, cure, "package_missing", "warning")
    if config.saving.log_with in ("wandb", "all") and not _installed("wandb"):
        told = MissingExtra(f"log_with {config.saving.log_with}", "wandb", "wandb").problems[0]
        yield Problem(told.where, told.what, told.cure, "package_missing", "warning")
    if config.saving.log_trackio and not _installed("trackio"):
        told = MissingExtra("log_trackio", "trackio", "trackio").problems[0]
        yield Problem(told.where, told.what, told.cure, "package_missing", "warning")
    if config.training.mixed_precision == "fp16" and not gpu_seen():
        cure = "set mixed_precision to bf16 or no, or train on a machine with a GPU"
        yield Problem("mixed_precision", "fp16 needs a GPU and none was found", cure, "gpu_missing", "warning")

    if config.training.torch_compile and config.training.dynamo_backend == "inductor":
        yield from _compiler_missing()


def _split() -> Iterator[Problem]:
    """accelerate was started with what splits a model between GPUs."""
    for name, title in _SPLITTING.items():
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true", "yes"):
            what = f"it is set up for {title}, which splits a frozen model between GPUs, and that is not done here"
            cure = (
                "run `accelerate config` anew without it; where the model does not fit, set gradient_checkpointing "
                "with fp8_base or blocks_to_swap"
            )
            yield Problem("accelerate", what, cure, "not_built_in")


def _compiler_missing() -> Iterator[Problem]:
    """What inductor, torch's compiler, has to have: Triton beside a GPU, a compiler of C++ elsewhere."""
    cure = "set torch_compile = false, which gives the same LoRA"
    if gpu_seen():
        if not _installed("triton"):
            what = "torch's compiler needs the package triton beside a GPU, which is not installed here"
            yield Problem("torch_compile", what, f"{cure}, or install triton", "compiler_missing", "warning")
        return
    own = os.environ.get("CXX", "")
    if not any(shutil.which(name) for name in (own, "g++", "clang++", "cl") if name):
        what = "torch's compiler needs a compiler of C++ on a CPU, and none was found"
        yield Problem("torch_compile", what, f"{cure}, or install g++", "compiler_missing", "warning")


def _installed(package: str) -> bool:
    """Is there a package of this name? It is not imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def gpu_seen() -> bool:
    """Could torch use a GPU here? Judged by the drivers' own files and by its build."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return False
    return _driver_seen() and not _built_for_cpus()


def _driver_seen() -> bool:
    if sys.platform == "darwin":
        return True
    if os.name == "nt":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").exists()
    return any(Path(mark).exists() for mark in _GPU_MARKS)


def _built_for_cpus() -> bool:
    from importlib.metadata import PackageNotFoundError, version  # loads what reads e-mails, so only where it decides

    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
