"""Plan: everything a training will do, worked out in integers before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from kohyakit.config.arguments.adapters import AdapterSettings, adapter_settings
from kohyakit.config.rules.not_in_process import unsupported
from kohyakit.config.rules.reading import trains_lora
from kohyakit.config.scripts import FAMILIES
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import ImageRecord
from kohyakit.dataset.layout import Dataset, Scan, Subset
from kohyakit.dataset.layout import scan as scan_datasets
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats import prompt_lines
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning import lengths, saves
from kohyakit.planning.effects import schedule_refused
from kohyakit.planning.findings import config_findings, in_order
from kohyakit.planning.inputs import base_model, network_weights
from kohyakit.planning.inputs.beside import beside_the_model
from kohyakit.planning.inputs.missing import locate, model_missing
from kohyakit.planning.inputs.network_weights import NetworkWeights
from kohyakit.planning.lengths import BucketCount, LearningRates, Length
from kohyakit.planning.machine import LACKING, machine_problems
from kohyakit.planning.saves import SavePoint
from kohyakit.planning.size import architecture as arch
from kohyakit.planning.size import fitting
from kohyakit.planning.size.lora import LoraSize, lora_size
from kohyakit.planning.size.memory import MemoryEstimate, estimate
from kohyakit.planning.size.metadata import metadata_bytes
from kohyakit.planning.size.targets import adapters_size
from kohyakit.planning.traps import TRAPS


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
    which steps samples are drawn, 0 being before the first. weights: the LoRA that gives each layer its rank, with
    dim_from_weights. unused: folders of regularisation images that no training image stands beside.
    findings: what is wrong or surprising, worst first.
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
    weights: NetworkWeights | None = None
    unused: tuple[Subset, ...] = ()
    findings: tuple[Problem, ...] = ()

    @property
    def trains(self) -> bool:
        """Is there anything to train at all? Without it nothing else in the plan means anything."""
        return self.length.steps_per_epoch > 0 and self.length.steps > 0

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

    @property
    def lacking_here(self) -> tuple[Problem, ...]:
        """The findings that stop a training on this machine only: a package or a GPU that it has not."""
        return tuple(problem for problem in self.findings if problem.name in LACKING)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, for --json and for the run's record."""
        from kohyakit.planning.as_json import plan_data

        return plan_data(self)


def make_plan(config: TrainConfig, scan: Scan | None = None, *, backend: str = "", vram: int | None = None) -> Plan:
    """Work out what the config does to the images on disk. Never raises for what a person got wrong: see findings.

    backend: what is going to train it, kohyakit or sd-scripts, with what that one alone refuses; neither by default.
    vram: bytes of memory of the card, to say what makes the training fit where it does not.
    """
    scan = scan_datasets(config) if scan is None else scan
    problems: list[Problem] = [*config_findings(config, backend), *scan.problems]
    if backend == "kohyakit":
        problems += [*unsupported(config), *machine_problems(config)]
    filled = [(dataset, lengths.fill_buckets(dataset)) for dataset in scan.datasets]
    length = lengths.training_length(config, sum(filling.batches for _, filling in filled))
    samples = _samples(config, problems)
    model = _model(config, problems, backend)
    weights, unreadable = network_weights.read(config)
    problems += unreadable
    lora = _lora(config, model, weights)
    loads = [(dataset, filling.buckets) for dataset, filling in filled]
    wanted = config.training.max_train_epochs or config.training.epoch
    plan = Plan(
        tuple(DatasetPlan(dataset, filling.buckets) for dataset, filling in filled),
        tuple(misfit for _, filling in filled for misfit in filling.misfits),
        length,
        lengths.learning_rates(config, len(model.text_encoders) if model else 1),
        saves.save_points(config, length.steps, length.epochs, length.steps_per_epoch),
        samples,
        saves.sample_steps(config, length.steps, length.epochs, length.steps_per_epoch) if samples else (),
        config.saving.output_dir,
        model,
        lora,
        metadata_bytes(loads) if not config.saving.no_metadata else 0,
        estimate(config, model, lora, loads, samples) if model and lora else None,
        lengths.gui_steps(config, scan.datasets, wanted) if wanted and scan.datasets else None,
        weights if config.network.dim_from_weights else None,
        scan.unused,
    )
    problems += [Problem("buckets", filling.refused, "", "bucket_settings") for _, filling in filled if filling.refused]
    if backend == "kohyakit":
        problems += [*schedule_refused(config, plan), *_states(config, scan, plan)]
    problems += beside_the_model(config, model, weights, length.steps if plan.steps_per_epoch else 0, backend)
    problems += [problem for trap in TRAPS for problem in trap(config, scan, plan)]
    if vram and plan.memory and plan.trains:
        problems += _beyond(vram, fitting.Asked(config, loads, samples), model, weights, backend)
    return replace(plan, findings=in_order(config, problems))


def _states(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """What has changed since the state that is gone on from, or the state that could be gone on from."""
    from kohyakit.runs.resume import changed_since, unfinished

    yield from changed_since(config, scan)
    yield from unfinished(config, scan, plan.steps)


def _samples(config: TrainConfig, problems: list[Problem]) -> tuple[SamplePrompt, ...]:
    source = config.sampling.sample_prompts
    if not source:
        return ()
    try:
        return prompt_lines.read(source, config.sampling.sample_sampler)
    except ConfigError as error:
        problems.extend(error.problems)
        return ()


_ASSUMED = {"sd": "sd1", "sdxl": "sdxl"}


def _model(config: TrainConfig, problems: list[Problem], backend: str) -> arch.Architecture | None:
    """The base model's shape, the family's usual one where it is not at hand; None where it is not known."""
    name = config.model.pretrained_model_name_or_path
    place = locate(name) if name else None
    if place is not None:
        model, found = base_model.look(config, place)
        problems += found
        return model
    if name:  # that none is named at all is a rule's finding
        problems.append(model_missing(config, name, backend))
    family = "sd2" if config.model.v2 else _ASSUMED.get(FAMILIES.get(config.launch.script, ""))
    return arch.standard(family) if family else None


_DTYPES = {"float": "F32", "fp16": "F16", "bf16": "BF16"}


def _lora(config: TrainConfig, model: arch.Architecture | None, weights: NetworkWeights | None) -> LoraSize | None:
    half = "fp16" if config.training.full_fp16 else "bf16" if config.training.full_bf16 else "float"
    dtype = _DTYPES[config.saving.save_precision or half]
    if model is not None and (settings := _adapters(config)) is not None:
        return adapters_size(model, settings, config.network, dtype)
    if model is None or not network_weights.of_known_layers(config):
        return None  # blocks of their own ranks, or a network whose layers are not known
    if config.network.dim_from_weights and weights is None:
        return None
    layers = network_weights.adapted(config, model, weights)
    return lora_size(layers, network_weights.rank_of(config, weights), dtype=dtype) if layers else None


def _beyond(
    vram: int, asked: fitting.Asked, model: arch.Architecture | None, weights: NetworkWeights | None, backend: str
) -> list[Problem]:
    """What a card of so much memory is too small for, if anything."""

    def need(changed: fitting.Asked) -> MemoryEstimate | None:
        lora = _lora(changed.config, model, weights)
        return estimate(changed.config, model, lora, changed.loads, changed.samples) if model and lora else None

    def refused(config: TrainConfig) -> set[str]:
        found = [*config_findings(config, backend), *(unsupported(config) if backend == "kohyakit" else ())]
        return {f"{problem.name} {problem.where}" for problem in found if problem.severity == "error"}

    before = refused(asked.config)
    found = fitting.too_small(asked, vram, need, lambda config: refused(config) <= before)
    return [found] if found else []


def _adapters(config: TrainConfig) -> AdapterSettings | None:
    """A network of LyCORIS' kinds, where what it is made of can be read; that it cannot is a finding elsewhere."""
    if not trains_lora(config) or config.network.dim_from_weights:
        return None
    try:
        return adapter_settings(config.network, as_lycoris=config.training.rng_order == "sd-scripts")
    except ConfigError:
        return None


def check_plan(
    config: TrainConfig,
    *,
    scan: Scan | None = None,
    decode: bool = False,
    backend: str = "kohyakit",
    vram: int | None = None,
) -> Plan:
    """make_plan with all that a person asks before a training.

    scan: the images, where they were looked at already. decode: also the verdict on every image's pixels, which takes
    seconds for hundreds of photos. backend: kohyakit or sd-scripts; the first adds findings for what the built-in
    trainer does not do. vram: bytes of the card's memory.
    """
    if scan is None:
        scan = scan_datasets(config, by_sd_scripts=backend == "sd-scripts")
    if decode:
        from kohyakit.planning.decoding import decoded

        scan = decoded(scan)
    return make_plan(config, scan, backend=backend, vram=vram)
