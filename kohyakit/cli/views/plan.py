"""A plan on a terminal: aligned, 80 columns, colour only where something is wrong. Plain ASCII but for names."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import click

from kohyakit.cli.views.terminal import COLOURS, near
from kohyakit.cli.views.terminal import width as terminal_width
from kohyakit.config.rules import reading
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import Problem
from kohyakit.planning.as_json import captions_of
from kohyakit.planning.inputs.network_weights import NetworkWeights
from kohyakit.planning.plan import Plan
from kohyakit.registry.families import MODELS
from kohyakit.words import cells, count, cut, memory, padded

_TITLE = 10
_SHOWN_A_KIND = 4
_SHOWN_FILES = 6
_SHOWN_BUCKETS = 12


def show_plan(config: TrainConfig, plan: Plan) -> None:
    """Print the errors, the plan where there is something to train, the other findings, and one closing line."""
    width = terminal_width(100, 80)
    _findings(plan.errors, width)
    if plan.trains:
        _plan(config, plan, width)
    _findings([problem for problem in plan.findings if problem.severity != "error"], width)
    _closing(plan)


def _plan(config: TrainConfig, plan: Plan, width: int) -> None:
    sections = (
        ("Model", _model(config, plan)),
        ("Images", _images(plan)),
        ("Buckets", _buckets(plan)),
        ("Length", _length(config, plan)),
        ("Rates", _rates(config, plan)),
        ("LoRA", _lora(config, plan)),
        ("Files", _files(plan)),
        ("Measured", _validation(plan)),
        ("Samples", _samples(plan)),
        ("Memory", _memory(plan)),
    )
    for title, lines in sections:
        _section(title, lines, width)
    click.echo()


def _section(title: str, lines: Iterable[str], width: int) -> None:
    for place, line in enumerate(lines):
        head = click.style(f"{title:<{_TITLE}}", bold=True) if place == 0 else " " * _TITLE
        indent = len(line) - len(line.lstrip())
        parts = textwrap.wrap(
            line, width - _TITLE, subsequent_indent=" " * (indent + 2), drop_whitespace=True, break_on_hyphens=False
        )
        for row, part in enumerate(parts or [""]):
            click.echo((head if row == 0 else " " * _TITLE) + part)


def _column(number: int, noun: str, room: int) -> str:
    """The number right-aligned, the noun padded to its plural."""
    plural = len(count(2, noun)) - 2
    return f"{number:>{room},} {count(number, noun).split()[1]:<{plural}}"


def _model(config: TrainConfig, plan: Plan) -> Iterator[str]:
    name = config.model.pretrained_model_name_or_path
    yield f"{near(name) if name else 'none'}" + (f" ({_family(plan)})" if plan.model and plan.model.known else "")


def _images(plan: Plan) -> Iterator[str]:
    subsets = [subset for part in plan.datasets for subset in part.dataset.subsets]
    room = min(30, max(cells(shown(subset.name)) for subset in (*subsets, *plan.unused)))
    for subset in subsets:
        captions = captions_of(subset)
        told = [count(captions["captions_found"], "caption")] if captions["captions_found"] else []
        if captions["captions_missing"]:
            told.append(f"{captions['captions_missing']:,} without" if told else "no captions")
        if subset.alpha_mask or any(record.mask for record in subset.records):
            told.append("transparency as a mask" if subset.alpha_mask else "masks")
        times = "reg" if subset.is_reg else f"x {subset.num_repeats}"
        name = padded(cut(shown(subset.name), room), room)
        yield f"{name} {_column(len(subset.records), 'image', 6)} {times:<5} {', '.join(told)}".rstrip()
    for subset in plan.unused:
        name = padded(cut(shown(subset.name), room), room)
        yield f"{name} {_column(len(subset.records), 'image', 6)} reg   0 used"
    rows = [row for part in plan.datasets for row in part.buckets]
    yield f"{count(sum(row.files for row in rows), 'image')}, {sum(row.images for row in rows):,} with repeats"


def _buckets(plan: Plan) -> Iterator[str]:
    for part in plan.datasets:
        dataset = part.dataset
        size = f"{dataset.resolution[0]}x{dataset.resolution[1]}"
        if not dataset.enable_bucket:
            how = "scaled and cropped to" if dataset.scales else "of, or cropped at random to,"
            kind = f"no buckets: every image {how} {size}"
        elif dataset.bucket_no_upscale:
            kind = f"up to the area of {size}, no image enlarged"
        else:
            kind = f"area of {size}, sides {dataset.min_bucket_reso} to {dataset.max_bucket_reso}"
        yield f"{kind}; batch size {dataset.batch_size}"
        rows = sorted(part.buckets, key=lambda row: -row.images)
        for row in rows[:_SHOWN_BUCKETS]:
            yield _bucket_row(str(row.bucket), row.images, row.batches)
        if len(rows) > _SHOWN_BUCKETS:
            rest = rows[_SHOWN_BUCKETS:]
            yield _bucket_row(f"{len(rest)} more", sum(r.images for r in rest), sum(r.batches for r in rest))


def _bucket_row(name: str, images: int, batches: int) -> str:
    return f"  {name:>9} {_column(images, 'image', 7)} {_column(batches, 'batch', 6)}"


def _length(config: TrainConfig, plan: Plan) -> Iterator[str]:
    whole = plan.steps == plan.epochs * plan.steps_per_epoch
    epochs = f"{plan.steps / plan.steps_per_epoch:.1f}".removesuffix(".0")
    text = f"{count(plan.steps, 'step')} = {epochs} epoch{'' if epochs == '1' else 's'}"
    yield f"{text} of {plan.steps_per_epoch:,}" + ("" if whole else ", the last one cut short")
    if config.training.resume and not plan.errors:
        yield f"goes on after step {plan.start.step:,}, with epoch {plan.start.epoch:,}"
    parts = [f"{count(plan.batches_per_epoch, 'batch')} an epoch"]
    if config.training.gradient_accumulation_steps > 1:
        parts.append(f"{config.training.gradient_accumulation_steps} a step")
    if config.launch.num_processes > 1:
        parts.append(f"{config.launch.num_processes} processes")
    yield f"{', '.join(parts)}; {plan.length.decided_by} decides"


def _rates(config: TrainConfig, plan: Plan) -> Iterator[str]:
    rates = plan.learning_rates
    optimizer = config.optimizer.in_force
    scheduler = reading.scheduler(config) or "no scheduler"
    if rates.relative:
        yield f"{optimizer} sets its own rates"
    else:
        text = [f"text encoder {rate:g}" if rate else "text encoder not trained" for rate in rates.text_encoder]
        if len(text) > 1:
            text = [line.replace("encoder", f"encoder {place}") for place, line in enumerate(text, start=1)]
        yield ", ".join([f"U-Net {rates.unet:g}" if rates.unet else "U-Net not trained", *text])
        warmup = f"warm-up over {count(plan.warmup_steps, 'step')}" if plan.warmup_steps else "no warm-up"
        yield f"{optimizer}, {scheduler}, {warmup}"


def _lora(config: TrainConfig, plan: Plan) -> Iterator[str]:
    network = config.network
    strength = f"rank {network.rank}, alpha {network.network_alpha:g}"
    if network.dim_from_weights:
        strength = _strength_of(plan.weights)
    yield f"{network.network_module or 'no network_module'}, {strength}" + (
        f", {' '.join(network.network_args)}" if network.network_args else ""
    )
    if plan.lora is None:
        yield "size not known for this network"
        return
    size = plan.lora.file_bytes()
    assumed = "" if plan.model and plan.model.known else f"; the usual {_family(plan)} assumed"
    about = f" and about {plan.metadata_bytes:,} of metadata" if plan.metadata_bytes else ""
    yield f"{size:,} bytes{about} ({plan.lora.modules} layers{assumed})"


def _strength_of(weights: NetworkWeights | None) -> str:
    """Ranks and alphas of the file that dim_from_weights reads them from."""
    if weights is None or not weights.ranks:
        return "ranks from network_weights"
    alphas = [weights.alphas.get(name, float(rank)) for name, rank in weights.ranks.items()]
    known = f", alpha {_span(alphas)}" if weights.alphas else ""
    return f"rank {_span(list(weights.ranks.values()))}{known}, layer by layer as in {shown(weights.name)}"


def _span(values: Sequence[float]) -> str:
    return f"{min(values):g}" if min(values) == max(values) else f"{min(values):g} to {max(values):g}"


def _family(plan: Plan) -> str:
    return MODELS[plan.model.family].short if plan.model else ""


def _files(plan: Plan) -> Iterator[str]:
    if not plan.saves:
        yield "none"
        return
    if plan.output_dir:
        yield near(plan.output_dir)
    points = plan.saves
    cut = points if len(points) <= _SHOWN_FILES else (*points[: _SHOWN_FILES - 2], None, points[-1])
    room = max(len(point.file) for point in points)
    for point in cut:
        if point is None:
            yield f"  ... {len(points) - _SHOWN_FILES + 1} more"
            continue
        notes = f", deleted at step {point.deleted_at:,}" if point.deleted_at else ""
        notes += f", with {point.state}" if point.state else ""
        yield f"  {shown(point.file):<{room}}  step {point.step:,}{notes}"
    if plan.best:
        yield f"  {shown(plan.best)}, of the lowest measured loss"


def _validation(plan: Plan) -> Iterator[str]:
    measured = plan.validation
    if measured is None:
        return
    whose = "held back from training" if measured.held_back else "of the training"
    yield f"{count(measured.images, 'photo')} {whose}, {measured.noises} fixed noises each"
    cost = f"{measured.batches * measured.noises:,} times forward"
    when = _after([point.step for point in measured.in_order])
    yield f"{count(measured.batches, 'batch')} each time, {cost}, {when}"
    if measured.patience:
        yield f"ends early after {count(measured.patience, 'time')} without a lower loss"


def _after(steps: Sequence[int]) -> str:
    """Some of the steps after which something is done."""
    told = [f"{step:,}" if step else "0 (before the first)" for step in dict.fromkeys(steps)]
    if len(told) > 6:
        told = [*told[:4], "...", told[-1]]
    return f"after steps {', '.join(told)}"


def _samples(plan: Plan) -> Iterator[str]:
    if not plan.samples:
        yield "none"
        return
    when = _after(plan.sample_steps) if plan.sample_steps else "never drawn"
    yield f"{count(len(plan.samples), 'prompt')}, {when}"
    for prompt in plan.samples[:8]:
        size = "x".join(str(side) for side in prompt.size)
        seed = "any seed" if prompt.seed is None else f"seed {prompt.seed}"
        strength = "" if prompt.network_multiplier is None else f", LoRA at {prompt.network_multiplier:g}"
        yield f"  {size}, {prompt.sample_steps} steps, scale {prompt.scale:g}, {seed}, {prompt.sampler}{strength}"
        yield f"    {shown(prompt.prompt)}"
        if prompt.negative_prompt:
            yield f"    not: {shown(prompt.negative_prompt)}"
    if len(plan.samples) > 8:
        yield f"  ... {len(plan.samples) - 8} more"


def _memory(plan: Plan) -> Iterator[str]:
    needs = plan.memory
    if needs is None:
        yield "no estimate for this network"
        return
    when = {"step": "in a step", "sample": "while a sample is drawn", "caching": "while caches are made"}
    yield f"about {memory(needs.total)} on the GPU (an estimate), the most {when[needs.highest]}"
    parts = {
        "weights": needs.weights, "LoRA": needs.adapter, "gradients": needs.gradients,
        "optimizer": needs.optimizer, "activations": needs.activations,
        "allocator": needs.allocator, "CUDA": needs.runtime,
    }  # fmt: skip
    yield ", ".join(f"{name} {memory(size)}" for name, size in parts.items())
    phases = {"sample": "drawing a sample", "caching": "making caches"}
    others = [f"{said} {memory(needs.phases[name])}" for name, said in phases.items() if needs.phases[name]]
    main = {"caches": needs.caches, "blocks that wait": needs.waiting}
    kept = [f"{name} {memory(size)} of main memory" for name, size in main.items() if size]
    if others or kept:
        yield ", ".join((*others, *kept))


def _findings(findings: Sequence[Problem], width: int) -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for problem in findings:
        key = (problem.name, problem.severity)
        kinds[key] += 1
        if kinds[key] <= _SHOWN_A_KIND:
            _finding(problem, width)
        elif kinds[key] == _SHOWN_A_KIND + 1:
            more = sum((p.name, p.severity) == key for p in findings) - _SHOWN_A_KIND
            click.echo(f"{'':<{_TITLE}}... {more} more of these; --json lists all")
    if findings:
        click.echo()


def _closing(plan: Plan) -> None:
    counts = Counter(problem.severity for problem in plan.findings)
    told = ", ".join(count(counts[severity], severity) for severity in COLOURS if counts[severity])
    if counts["error"]:
        click.echo(click.style(f"Not ready: {told}.", fg="red", bold=True))
    elif plan.lacking_here:
        click.echo(click.style("Ready to train, but not on this machine", fg="yellow", bold=True) + f": {told}.")
    else:
        click.echo(click.style("Ready to train", fg="green", bold=True) + (f": {told}." if told else "."))


def _finding(problem: Problem, width: int) -> None:
    where = f"{near(problem.where)}: " if problem.where else ""
    name = f" [{problem.name}]" if problem.name else ""
    text = textwrap.wrap(f"{where}{problem.what}{name}", width - _TITLE, break_on_hyphens=False)
    if name and text[-1].endswith(name.strip()):
        text[-1] = text[-1].removesuffix(name.strip()) + click.style(name.strip(), dim=True)
    text += textwrap.wrap(
        problem.cure, width - _TITLE, initial_indent="-> ", subsequent_indent="   ", break_on_hyphens=False
    )
    label = click.style(f"{problem.severity:<{_TITLE}}", fg=COLOURS.get(problem.severity), bold=True)
    for place, line in enumerate(text):
        click.echo((label if place == 0 else " " * _TITLE) + line)
