"""How the LoRA tools show what they found and did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kohyakit.cli.views.terminal import severity
from kohyakit.dataset.images import shown
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry.families import MODELS
from kohyakit.words import cut, read_size, size

if TYPE_CHECKING:
    from kohyakit.lora.average import Averaged
    from kohyakit.lora.bake import Baked
    from kohyakit.lora.compare import Compared
    from kohyakit.lora.inspect import Inspection
    from kohyakit.lora.readers import Reading
    from kohyakit.lora.resize import Resized


def chosen_rule(**asked: Any) -> tuple[str, float]:
    """The one rule that was asked for, with its amount. Raises ConfigError for none or several."""
    given = {rule: amount for rule, amount in asked.items() if amount is not None}
    if len(given) != 1:
        what = "no rule is given" if not given else "more than one rule is given"
        raise ConfigError(Problem("", what, "give one of --rank, --keep, --cumulative, --ratio, --of-base and --size"))
    ((rule, amount),) = given.items()
    return rule, _bytes(amount) if rule == "size" else float(amount)


def check_base(rule: str, base: Path | None) -> None:
    """Raises ConfigError for a rule without the model that it measures by, and for a model that nothing looks at."""
    if rule == "of_base" and base is None:
        what, cure = "no model is given to measure by", "name it with --base MODEL"
        raise ConfigError(Problem("--of-base", what, cure, "missing_model"))
    if base is not None and rule not in ("of_base", "size"):
        what = "is looked at by --of-base and --size only"
        raise ConfigError(Problem("--base", what, "take it out, or give one of them", "option_ignored"))


def _bytes(text: str) -> int:
    try:
        return read_size(text)
    except ValueError:
        raise ConfigError(Problem("--size", f"'{text}' is no size", "write it like 40MB")) from None


def show_errors(layers: Sequence[tuple[str, float]], what: str) -> None:
    """How many layers lost something, and the worst of them."""
    lossy = sorted(((error, name) for name, error in layers if error > 1e-4), reverse=True)
    if not lossy:
        return
    mean = sum(error for error, _ in lossy) / len(lossy)
    click.echo(f"{len(lossy)} {what}: off by {mean:.1%} of their size in the mean")
    for error, name in lossy[:3]:
        click.echo(f"  {error:6.1%}  {name}")


def show_averaged(target: Path, done: Averaged) -> None:
    click.echo(f"wrote {target}: the mean of {len(done.shares)} files")
    for one in done.shares:
        steps = f"  step {one.steps:,}" if one.steps else ""
        click.echo(f"  {one.share:6.1%}  {shown(one.path.name)}{steps}")
    show_errors([*done.errors.items()], "layers are not the mean of the updates")


def check_merge(**given: Any) -> None:
    """What `merge` was told that does not go together. Raises ConfigError with all of it."""
    if given["model"] is not None:
        way = "--into"
        others: tuple[str, ...] = ("rank", "conv_rank", "precision", "as_sd_scripts", "concat")
    elif given["as_sd_scripts"]:
        way = "--as-sd-scripts"
        others = ("rank", "conv_rank")
    else:
        way = "a true sum"
        others = ("concat",)
    wrong = [
        f"--{'save-precision' if name == 'precision' else name.replace('_', '-')}" for name in others if given[name]
    ]
    if wrong:
        raise ConfigError(Problem(one, f"does not go with {way}", f"leave {one} out") for one in wrong)


def show_baked(target: Path, done: Baked) -> None:
    click.echo(f"wrote {target}: {done.layers} layers are in it")
    if done.missing:
        more = " …" if len(done.missing) > 1 else ""
        click.echo(f"{len(done.missing)} layers have no place in the model ({done.missing[0]}{more})")


def show_resized(source: Path, target: Path, done: Sequence[Resized]) -> None:
    before, after = source.stat().st_size, target.stat().st_size
    ranks = sorted({layer.new_rank for layer in done})
    shown = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    kept = sum(layer.kept for layer in done) / len(done)
    click.echo(f"wrote {target}: rank {shown}, {size(before)} -> {size(after)}")
    click.echo(f"{kept:.1%} of the updates' size is kept in the mean")
    for layer in sorted(done, key=lambda one: one.kept)[:3]:
        if layer.kept < 0.999:
            click.echo(f"  {layer.kept:6.1%}  {layer.name} (rank {layer.old_rank} -> {layer.new_rank})")


def inspection_data(found: Inspection) -> dict[str, Any]:
    """An inspection as plain data."""
    return {
        "file": str(found.path), "layout": found.layout, "family": found.family, "bytes": found.bytes,
        "dtype": found.dtype, "methods": found.methods, "blocks": found.by_block(),
        "findings": [asdict(problem) for problem in found.findings], "trigger_words": list(found.trigger_words),
        "gives_away": list(found.gives_away), "layers": [asdict(layer) for layer in found.layers],
        "rest": list(found.rest), "readers": [_reading_data(reading) for reading in found.readings],
    }  # fmt: skip


def _reading_data(reading: Reading) -> dict[str, Any]:
    return {
        "program": reading.program, "version": reading.version, "read": reading.read, "changed": reading.changed,
        "lost": reading.lost, "reasons": [asdict(reason) for reason in reading.reasons],
        "layers": {name: state for name, state, _ in reading.verdicts},
    }  # fmt: skip


def _show_reading(reading: Reading) -> None:
    """`  ComfyUI      72 of 264 layers lost: …`, one line for each reason."""
    total = reading.read + reading.changed + reading.lost
    lines = [f"reads all {total} layers"] if not reading.reasons else []
    for reason in reading.reasons:
        state = {"changed": "computed differently", "lost": "lost"}[reason.state]
        count = f"{reason.layers} of {total} layers {state}: " if reason.layers else ""
        lines.append(f"{count}{reason.why}" + (f" ({reason.example})" if reason.example else ""))
    colour = "red" if reading.loses else "yellow" if reading.reasons else "green"
    for number, line in enumerate(lines):
        title = f"{'' if number else reading.program:11}"
        click.echo(f"  {click.style(title, fg=colour)} {line}")


def show_inspection(found: Inspection, *, layers: bool) -> None:
    methods = ", ".join(f"{count} {method}" for method, count in found.methods.items())
    ranks = sorted({layer.rank for layer in found.layers if layer.rank})
    rank = "" if not ranks else f", rank {ranks[0]}" if len(ranks) == 1 else f", ranks {ranks[0]} to {ranks[-1]}"
    rows = [
        ("Model", f"{MODELS[found.family].title if found.family else 'unknown'}, names as {found.layout} writes them"),
        ("Layers", f"{methods}{rank}"),
        ("File", f"{size(found.bytes)}, {found.dtype}"),
        ("Size", "  ".join(f"{block} {norm:.3g}" for block, norm in found.by_block().items())),
        ("Trigger", ", ".join(found.trigger_words) or "none said"),
        ("Tells", "; ".join(found.gives_away) or "nothing of its training"),
    ]
    click.echo(click.style(str(found.path), bold=True))
    for title, text in rows:
        click.echo(f"  {title:8} {text}")
    for problem in found.findings:
        click.echo(f"  {severity(problem.severity):8} {problem} [{problem.name}]")
    for reading in found.readings:
        _show_reading(reading)
    if layers:
        for layer in found.layers:
            norm = "" if layer.norm is None else f"{layer.norm:.4g}"
            numbers = f"{layer.rank or '':>4} {layer.alpha or '':>6} {norm:>9}"
            click.echo(f"  {layer.method:6} {numbers} {layer.state:10} {layer.name}")


def _block_table(found: Compared) -> None:
    click.echo(f"{'block':10} {'first':>9} {'second':>9} {'cosine':>7} {'shared':>7}")
    for row in found.blocks:
        click.echo(f"{row.block:10} {row.first:9.4g} {row.second:9.4g} {row.cosine:7.2f} {row.shared:7.0%}")


def show_difference(first: Path, second: Path, found: Compared) -> None:
    click.echo(f"{first.name} | {second.name}")
    for name, (one, two) in found.settings.items():
        click.echo(f"  {name:28} {_short(one)} | {_short(two)}")
    for count, path in ((len(found.only_first), first), (len(found.only_second), second)):
        if count:
            click.echo(f"  {count} layers only in {path.name}")
    _block_table(found)


def _short(text: str | None) -> str:
    return "-" if text is None else cut(text, 40)


def show_pair(found: Compared) -> None:
    _block_table(found)
    strength = found.strength_where_they_fight()
    if strength is None:
        click.echo("they do not add up in the same direction; both can be used at strength 1")
    else:
        click.echo(
            f"where they pull the same way they add up: about {strength:.2f} for each keeps the whole as strong as one"
        )
