"""Making a plan: everything a training will do, worked out in integers before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kohyakit.config.rules.not_in_process import unsupported
from kohyakit.config.scripts import model_family
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.dataset.layout import scan as scan_datasets
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats import prompt_lines
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning import lengths, saves, validation
from kohyakit.planning.effects import schedule_refused
from kohyakit.planning.findings import config_findings, in_order
from kohyakit.planning.inputs import base_model, network_weights
from kohyakit.planning.inputs.beside import beside_the_model
from kohyakit.planning.inputs.missing import locate, model_missing
from kohyakit.planning.inputs.network_weights import NetworkWeights
from kohyakit.planning.machine import machine_problems
from kohyakit.planning.plan import Course, Length, MemoryEstimate, Plan, Start
from kohyakit.planning.preservation import preservation_problems
from kohyakit.planning.size import architecture as arch
from kohyakit.planning.size import fitting
from kohyakit.planning.size.blocks import block_sizes
from kohyakit.planning.size.lora import LoraSize, lora_size
from kohyakit.planning.size.memory import estimate
from kohyakit.planning.size.metadata import metadata_bytes
from kohyakit.planning.size.targets import adapters_size
from kohyakit.planning.traps import TRAPS


def make_plan(
    config: TrainConfig,
    scan: Scan | None = None,
    *,
    backend: str = "",
    vram: int | None = None,
    processes: int | None = None,
) -> Plan:
    """Work out what the config does to the images on disk. Never raises for what a person got wrong: see findings.

    backend: what is going to train it, kohyakit or sd-scripts, with what that one alone refuses; neither by default.
    vram: bytes of memory of the card, to say what makes the training fit where it does not. processes: how many
    really train; by default as many as num_processes says.
    """
    scan = scan_datasets(config) if scan is None else scan
    problems: list[Problem] = [*config_findings(config, backend), *scan.problems]
    if backend == "kohyakit":
        problems += [*unsupported(config), *machine_problems(config)]
    filled = [lengths.fill_buckets(dataset) for dataset in scan.datasets]
    length = lengths.training_length(config, sum(filling.batches for filling in filled), processes)
    held = [lengths.fill_buckets(dataset) for dataset in scan.held_back]
    start, since = _start(config, scan, length, processes) if backend == "kohyakit" else (Start(), ())
    course = Course(length, start)
    samples = _samples(config, problems)
    model = _model(config, problems, backend)
    weights, unreadable = network_weights.read(config)
    problems += [*since, *unreadable]
    lora = _lora(config, model, weights, backend)
    loads = [(filling.plan.dataset, filling.plan.buckets) for filling in filled]
    wanted = config.training.max_train_epochs or config.training.epoch
    watched = validation.plan_validation(config, scan, held, course, by_sd_scripts=backend == "sd-scripts")
    plan = Plan(
        datasets=tuple(filling.plan for filling in filled),
        misfits=tuple(misfit for filling in (*filled, *held) for misfit in filling.misfits),
        length=length,
        learning_rates=lengths.learning_rates(config, len(model.text_encoders) if model else 1),
        saves=saves.save_points(config, course),
        samples=samples,
        draws=saves.draw_points(config, course) if samples else (),
        output_dir=config.saving.output_dir,
        model=model,
        lora=lora,
        metadata_bytes=metadata_bytes(loads) if not config.saving.no_metadata else 0,
        memory=estimate(config, model, lora, loads, samples, backend=backend) if model and lora else None,
        gui_steps=lengths.gui_steps(config, scan.datasets, wanted) if wanted and scan.datasets else None,
        weights=weights if config.network.dim_from_weights else None,
        unused=scan.unused,
        start=start,
        earlier=saves.earlier_points(config, course),
        name=config.saving.name,
        ending=config.saving.extension,
        validation=watched,
        best=validation.best_file(config) if watched and backend != "sd-scripts" else None,
    )
    problems += [Problem("buckets", filling.refused, "", "bucket_settings") for filling in filled if filling.refused]
    problems += _of_the_plan(config, scan, plan, weights, backend)
    if vram and plan.memory and plan.trains:
        blocks = len(block_sizes(model.unet)) if model and backend == "kohyakit" else 0
        problems += _beyond(vram, fitting.Asked(config, loads, samples, blocks), model, weights, backend)
    return replace(plan, findings=in_order(config, problems))


def _of_the_plan(
    config: TrainConfig, scan: Scan, plan: Plan, weights: NetworkWeights | None, backend: str
) -> Iterator[Problem]:
    """What only the whole plan shows."""
    if backend == "sd-scripts":
        yield from validation.not_there(config)
    if backend == "kohyakit":
        yield from schedule_refused(config, plan)
        yield from _unfinished(config, scan, plan)
    steps = plan.length.steps if plan.steps_per_epoch else 0
    yield from beside_the_model(config, plan.model, weights, steps, backend)
    yield from preservation_problems(config, scan, backend)
    for trap in TRAPS:
        yield from trap(config, scan, plan)


def _start(config: TrainConfig, scan: Scan, length: Length, processes: int | None) -> tuple[Start, tuple[Problem, ...]]:
    """Where it begins, and what has changed since the state that it goes on from."""
    if not config.training.resume:
        return Start(), ()
    from kohyakit.runs.resume import going_on

    return going_on(config, scan, processes, length=length)


def _unfinished(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """The state that could be gone on from."""
    from kohyakit.runs.unfinished import unfinished

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
    return arch.standard(model_family(config.launch.script, v2=config.model.v2))


_DTYPES = {"float": "F32", "fp16": "F16", "bf16": "BF16"}


def _lora(
    config: TrainConfig, model: arch.Architecture | None, weights: NetworkWeights | None, backend: str
) -> LoraSize | None:
    half = "fp16" if config.training.full_fp16 else "bf16" if config.training.full_bf16 else "float"
    dtype = _DTYPES[config.saving.save_precision or half]
    settings = network_weights.adapters(config, model, weights) if model is not None else None
    if model is not None and settings is not None:
        return adapters_size(model, settings, config.network, dtype)
    if model is None or not network_weights.of_known_layers(config):
        return None  # a network whose layers are not known, or ranks of blocks that cannot be read
    if config.network.dim_from_weights and weights is None:
        return None
    layers = network_weights.adapted(config, model, weights, backend)
    return lora_size(layers, network_weights.rank_of(config, model, weights), dtype=dtype) if layers else None


def _beyond(
    vram: int, asked: fitting.Asked, model: arch.Architecture | None, weights: NetworkWeights | None, backend: str
) -> list[Problem]:
    """What a card of so much memory is too small for, if anything."""

    def need(changed: fitting.Asked) -> MemoryEstimate | None:
        lora = _lora(changed.config, model, weights, backend)
        if not (model and lora):
            return None
        return estimate(changed.config, model, lora, changed.loads, changed.samples, backend=backend)

    def refused(config: TrainConfig) -> set[str]:
        found = [*config_findings(config, backend), *(unsupported(config) if backend == "kohyakit" else ())]
        return {f"{problem.name} {problem.where}" for problem in found if problem.severity == "error"}

    before = refused(asked.config)
    found = fitting.too_small(asked, vram, need, lambda config: refused(config) <= before)
    return [found] if found else []


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
