"""Plan: everything a training will do, worked out in integers before anything heavy is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kohyakit.config.read import nearest
from kohyakit.config.rules import check_rules
from kohyakit.config.rules.reading import network_args
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import ImageRecord, shown
from kohyakit.dataset.layout import Dataset, Scan
from kohyakit.dataset.layout import scan as scan_datasets
from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.formats import prompt_lines
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning import architecture as arch
from kohyakit.planning import lengths, saves
from kohyakit.planning.lengths import BucketCount, LearningRates, Length
from kohyakit.planning.lora_size import LoraSize, lora_layers, lora_size
from kohyakit.planning.memory import MemoryEstimate, estimate
from kohyakit.planning.metadata_size import metadata_bytes
from kohyakit.planning.saves import SavePoint
from kohyakit.planning.traps import TRAPS

SEVERITIES = ("error", "warning", "hint")
_FAMILIES = {"train_network.py": "sd1", "sdxl_train_network.py": "sdxl"}


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """A data set with its buckets' load in one epoch."""

    dataset: Dataset
    buckets: tuple[BucketCount, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training will do. Computed from a config and what lies on disk; nothing goes back into the config.

    steps: optimizer steps. misfits: images that no bucket takes, with the reason. lora: the file's size, or None for
    a network or a model whose layers are not known; metadata_bytes: about what the metadata add. sample_steps: after
    which steps samples are drawn, 0 being before the first. findings: what is wrong or surprising, worst first.
    """

    datasets: tuple[DatasetPlan, ...]
    misfits: tuple[tuple[ImageRecord, str], ...]
    length: Length
    learning_rates: LearningRates
    saves: tuple[SavePoint, ...]
    samples: tuple[SamplePrompt, ...]
    sample_steps: tuple[int, ...]
    output_dir: str | None = None
    model: arch.Architecture | None = None
    lora: LoraSize | None = None
    metadata_bytes: int = 0
    memory: MemoryEstimate | None = None
    gui_steps: int | None = None
    findings: tuple[Problem, ...] = ()

    @property
    def steps(self) -> int:
        return self.length.steps

    @property
    def epochs(self) -> int:
        return self.length.epochs

    @property
    def batches_per_epoch(self) -> int:
        return self.length.batches_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        return self.length.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        return self.length.warmup_steps

    @property
    def lora_bytes(self) -> int | None:
        """The LoRA file without its metadata, exact."""
        return self.lora.file_bytes() if self.lora else None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The findings that stop a training."""
        return tuple(problem for problem in self.findings if problem.severity == "error")

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, for --json and for the run's record."""
        from kohyakit.planning.data import plan_data

        return plan_data(self)


def make_plan(config: TrainConfig, scan: Scan | None = None) -> Plan:
    """Work out what the config does to the images on disk. Never raises for what a person got wrong: see findings."""
    scan = scan_datasets(config) if scan is None else scan
    problems: list[Problem] = [*_config_problems(config), *scan.problems]
    filled = [(dataset, lengths.fill_buckets(dataset)) for dataset in scan.datasets]
    length = lengths.training_length(config, sum(filling.batches for _, filling in filled))
    samples = _samples(config, problems)
    model = _model(config, problems)
    rates = lengths.learning_rates(config, len(model.text_encoders) if model else 1)
    datasets = tuple(DatasetPlan(dataset, filling.buckets) for dataset, filling in filled)
    lora = _lora(config, model)
    loads = [(dataset, filling.buckets) for dataset, filling in filled]
    wanted = config.training.max_train_epochs or config.training.epoch
    plan = Plan(
        datasets,
        tuple(misfit for _, filling in filled for misfit in filling.misfits),
        length,
        rates,
        saves.save_points(config, length.steps, length.epochs, length.steps_per_epoch),
        samples,
        saves.sample_steps(config, length.steps, length.epochs, length.steps_per_epoch) if samples else (),
        config.saving.output_dir,
        model,
        lora,
        metadata_bytes(loads) if not config.saving.no_metadata else 0,
        estimate(config, model, lora, loads, samples) if model and lora else None,
        lengths.gui_steps(config, scan.datasets, wanted) if wanted and scan.datasets else None,
    )
    problems += [
        Problem("buckets", filling.refused, "", "bucket_settings") for _, filling in filled if filling.refused
    ]
    problems += [problem for trap in TRAPS for problem in trap(config, scan, plan)]
    return replace(plan, findings=_findings(problems))


# What the scan or a trap says again after a rule of the config has said it.
_SAID_BY_A_RULE = {
    "no_folder": ("images_missing",),
    "no_resolution": ("resolution_missing",),
    "bad_resolution": ("resolution_unreadable",),
    "bucket_settings": ("min_bucket_above_resolution", "max_bucket_below_resolution", "bucket_steps_do_not_divide"),
    "bucket_reso_steps": ("bucket_steps_do_not_divide",),
    "steps_override_epochs": ("epoch_is_not_read",),
}


def _findings(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Worst first, else in the order found, each once."""
    problems = tuple(dict.fromkeys(problems))
    named = {problem.name for problem in problems}
    kept = (p for p in problems if not named.intersection(_SAID_BY_A_RULE.get(p.name, ())))
    return tuple(sorted(kept, key=lambda problem: SEVERITIES.index(problem.severity)))


def _config_problems(config: TrainConfig) -> Iterator[Problem]:
    yield from check_rules(config)
    notes = config.source.notes if config.source else ()
    for note in notes:
        if note.action in SEVERITIES:
            yield Problem("", note.text, "", note.key, note.action)
        elif note.action == "differs" and note.key not in ("max_train_epochs", "max_train_steps"):
            yield Problem(note.key, note.text, "", "gui_differs", "hint")
    unknown = [note.key for note in notes if note.action == "unknown"]
    meant = {key: near for key in unknown if (near := nearest(key))}
    for key, near in meant.items():
        yield Problem(key, "nothing reads this name", f"did you mean {near}?", "unknown_parameter", "warning")
    rest = [key for key in unknown if key not in meant]
    if rest:
        what = f"nothing reads {', '.join(rest[:6])}" + (f" and {len(rest) - 6} more" if len(rest) > 6 else "")
        yield Problem("", what, "look for a spelling mistake", "unknown_parameter", "warning")


def _samples(config: TrainConfig, problems: list[Problem]) -> tuple[SamplePrompt, ...]:
    source = config.sampling.sample_prompts
    if not source:
        return ()
    try:
        return prompt_lines.read(source, config.sampling.sample_sampler)
    except ConfigError as error:
        problems.extend(error.problems)
        return ()


def _model(config: TrainConfig, problems: list[Problem]) -> arch.Architecture | None:
    """The base model's shape; None where it is not known, with a finding where it stops the training."""
    option = "pretrained_model_name_or_path"
    family = "sd2" if config.model.v2 else _FAMILIES.get(config.launch.script)
    name = config.model.pretrained_model_name_or_path
    path = Path(name) if name else None
    if path is None or not os.path.exists(path):
        if name:  # that none is named at all is a rule's finding
            problems.append(_model_missing(name, option))
        return arch.standard(family) if family else None
    if family is None:
        return None
    try:
        return arch.read_architecture(path, family)
    except KohyakitError as error:
        problems += [replace(p, where=shown(name), name="model_unreadable", severity="error") for p in error.problems]
        return None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
        what = str(error) if isinstance(error, arch.UnknownArchitecture) else "it is not a Stable Diffusion model"
        problems.append(
            Problem(shown(name), what, "name a diffusers folder or a .safetensors checkpoint", "model_unreadable")
        )
        return None


def _model_missing(name: str, option: str) -> Problem:
    path = Path(name)
    if name.count("/") == 1 and not path.suffix and not path.is_absolute():
        what = "this looks like a name on the Hugging Face hub, but training works offline"
        return Problem(name, what, f"download it and name the folder in {option}", "model_missing")
    return Problem(shown(name), "the base model does not exist", f"correct {option}", "model_missing")


_DTYPES = {"float": "F32", "fp16": "F16", "bf16": "BF16"}


def _lora(config: TrainConfig, model: arch.Architecture | None) -> LoraSize | None:
    network = config.network
    if model is None or network.network_module not in ("networks.lora", "networks.lora_fa") or network.dim_from_weights:
        return None
    args = network_args(config)
    if args.block_dims or args.conv_block_dims or args.down_lr_weight or args.mid_lr_weight or args.up_lr_weight:
        return None  # blocks of their own ranks, or without any
    half = "fp16" if config.training.full_fp16 else "bf16" if config.training.full_bf16 else "float"
    layers = lora_layers(
        model,
        text_encoder=not network.network_train_unet_only,
        unet=not network.network_train_text_encoder_only,
        convolutions=bool(args.conv_dim),
    )
    return lora_size(layers, network.network_dim or 4, args.conv_dim, _DTYPES[config.saving.save_precision or half])


def check_plan(config: TrainConfig, *, decode: bool = False, backend: str = "kohyakit") -> Plan:
    """make_plan with all that a person asks before a training.

    decode: also the verdict on every image's pixels, which takes seconds for hundreds of photos. backend: kohyakit
    or sd-scripts; the first adds findings for what the built-in trainer does not do.
    """
    scan = scan_datasets(config, by_sd_scripts=backend == "sd-scripts")
    if decode:
        from kohyakit.planning.decoding import decoded

        scan = decoded(scan)
    plan = make_plan(config, scan)
    if backend != "kohyakit":
        return plan
    from kohyakit.config.builtin import unsupported

    return replace(plan, findings=_findings((*plan.findings, *unsupported(config))))
