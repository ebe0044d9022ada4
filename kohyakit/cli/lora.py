"""kohyakit lora: tools for LoRA files"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kohyakit.registry.families import trained_here

_FILE = click.Path(path_type=Path)
_OUTPUT = click.option("-o", "--output", "target", type=_FILE, required=True, help="The file to write.")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace the file to write where it is there already.")
_PRECISION = click.option(
    "--save-precision", "precision", type=click.Choice(["float", "fp16", "bf16"]),
    help="Of the numbers in the file; not given, as they come.",
)  # fmt: skip


@click.group()
def lora() -> None:
    """Look at LoRA files, convert, merge, shrink and compare them.

    No file is ever changed: every command writes a new one, whole or not at all.
    """


@lora.command()
@click.argument("files", type=_FILE, nargs=-1, required=True)
@click.option("--layers", is_flag=True, help="A line for every layer too.")
@click.option("--for", "programs", multiple=True, metavar="PROGRAM", help="Ask only for this program; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def check(files: tuple[Path, ...], layers: bool, programs: tuple[str, ...], as_json: bool) -> None:
    """Say what FILES hold: method, ranks, size by block, what is missing, broken or given away, and who reads them.

    Exit code 1 where a file is broken, or where one of the programs (A1111, Forge, ComfyUI, diffusers, sd-scripts,
    InvokeAI, or those named by --for) would lose something of it.
    """
    from kohyakit.cli.views.lora import inspection_data, show_inspection
    from kohyakit.lora.inspect import inspect
    from kohyakit.lora.readers import check_programs

    check_programs(programs)
    found = [inspect(path, programs=programs) for path in files]
    if as_json:
        import json

        click.echo(json.dumps([inspection_data(one) for one in found], ensure_ascii=False, indent=2))
    else:
        for one in found:
            show_inspection(one, layers=layers)
    broken = any(problem.severity == "error" for one in found for problem in one.findings)
    sys.exit(int(broken or any(reading.loses for one in found for reading in one.readings)))


@lora.command()
@click.argument("file", type=_FILE)
@click.option(
    "--to", type=click.Choice(["kohya", "comfy", "diffusers", "peft"]), required=True, help="Whose names to write."
)
@click.option("--rank", type=click.IntRange(min=1), default=32, show_default=True, help="Of layers that become plain.")
@click.option("--base", type=_FILE, help="The model it is for; DoRA, OFT and their like become plain on its weights.")
@click.option("--fold-alpha", is_flag=True, help="Multiply alpha into the weights, for programs that read no alpha.")
@_OUTPUT
@_PRECISION
@_OVERWRITE
def convert(file: Path, to: str, target: Path, precision: str | None, **asked: Any) -> None:
    """Write FILE under the names of Kohya's tools, of diffusers or of PEFT (a folder).

    Layers that the programs there cannot read become plain ones; what that loses is told. comfy has Kohya's names,
    and of what ComfyUI computes otherwise plain layers.
    """
    from kohyakit.cli.views.lora import show_errors
    from kohyakit.lora.convert import convert as run
    from kohyakit.networks.weights.file import dtype_of

    done = run(file, target, to, dtype=dtype_of(precision), **asked)
    click.echo(f"wrote {target}")
    show_errors([(layer.name, layer.error) for layer in done], "layers were computed anew")


@lora.command()
@click.argument("sources", nargs=-1, required=True, metavar="FILE[:STRENGTH]...")
@click.option(
    "--rank", type=click.IntRange(min=1), help="Of the result; not given, all ranks together, which is exact."
)
@click.option("--conv-rank", type=click.IntRange(min=1), help="Of 3x3 convolutions.")
@click.option(
    "--block", "blocks", multiple=True, metavar="BLOCK=FACTOR", help="Weigh a block (`up 1=0.5`); repeatable."
)
@click.option("--into", "model", type=_FILE, help="Bake them into this model: a single file, or a diffusers folder.")
@click.option("--as-sd-scripts", is_flag=True, help="The numbers of its merge_lora.py, which are no sum.")
@click.option("--concat", is_flag=True, help="With --as-sd-scripts: its --concat.")
@_OUTPUT
@_PRECISION
@_OVERWRITE
def merge(
    sources: tuple[str, ...],
    rank: int | None,
    conv_rank: int | None,
    blocks: tuple[str, ...],
    model: Path | None,
    as_sd_scripts: bool,
    concat: bool,
    target: Path,
    precision: str | None,
    overwrite: bool,
) -> None:
    """Write one LoRA whose update is the sum of several, each times its strength.

    \b
        kohyakit lora merge style.safetensors:0.6 face.safetensors:0.4 -o both.safetensors --rank 32
        kohyakit lora merge style.safetensors:0.8 --into model.safetensors -o styled.safetensors
    """
    from kohyakit.cli.views.lora import check_merge, show_baked, show_errors
    from kohyakit.lora.merge import merge as run
    from kohyakit.lora.merge import parse_source
    from kohyakit.networks.weights.file import dtype_of

    check_merge(rank=rank, conv_rank=conv_rank, precision=precision, model=model, as_sd_scripts=as_sd_scripts,
                concat=concat)  # fmt: skip
    chosen = [parse_source(text, blocks) for text in sources]
    if model is not None:
        from kohyakit.lora.bake import bake

        show_baked(target, bake(chosen, model, target, overwrite=overwrite))
        return
    if as_sd_scripts:
        from kohyakit.lora.merge_as_sd_scripts import merge_as_sd_scripts

        count = merge_as_sd_scripts(chosen, target, concat=concat, dtype=dtype_of(precision), overwrite=overwrite)
        click.echo(f"wrote {target}: {count} layers, as merge_lora.py would")
        return
    done = run(chosen, target, rank=rank, conv_rank=conv_rank, dtype=dtype_of(precision), overwrite=overwrite)
    click.echo(f"wrote {target}: {len(done)} layers")
    show_errors([(layer.name, layer.error) for layer in done], "layers are not the exact sum")


@lora.command()
@click.argument("sources", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--width", type=float, help="Of a moving average, as a share of the training; not given, a plain mean.")
@_OUTPUT
@_PRECISION
@_OVERWRITE
def average(
    sources: tuple[Path, ...], target: Path, width: float | None, precision: str | None, overwrite: bool
) -> None:
    """Write the mean of several saves of one training, of the same rank and method.

    \b
        kohyakit lora average out/dog-0000*.safetensors out/dog.safetensors -o dog-mean.safetensors --width 0.1
    """
    from kohyakit.cli.views.lora import show_averaged
    from kohyakit.lora.average import average as run
    from kohyakit.networks.weights.file import dtype_of

    done = run(sources, target, width=width, dtype=dtype_of(precision), overwrite=overwrite)
    show_averaged(target, done)


@lora.command()
@click.argument("file", type=_FILE)
@click.option("--rank", type=click.IntRange(min=1), help="The same rank for every layer.")
@click.option("--keep", type=click.FloatRange(0, 1), help="The share of each update's Frobenius norm that stays.")
@click.option("--cumulative", type=click.FloatRange(0, 1), help="The share of the sum of singular values that stays.")
@click.option("--ratio", type=click.FloatRange(min=1), help="Keep what is above the largest singular value over this.")
@click.option("--size", metavar="40MB", help="The most that the tensors may take; the strongest directions stay.")
@click.option("--of-base", type=click.FloatRange(0, 1), help="Keep directions of this share of the base weight's norm.")
@click.option("--base", type=_FILE, help="The model by which --of-base, or --size, measures directions.")
@click.option("--conv-rank", type=click.IntRange(min=1), help="Of 3x3 convolutions, with --rank.")
@click.option("--max-rank", "most", type=click.IntRange(min=1), help="No layer keeps more.")
@click.option("--as-sd-scripts", is_flag=True, help="Count as its resize_lora.py does, one direction more.")
@_OUTPUT
@_PRECISION
@_OVERWRITE
def resize(
    file: Path,
    rank: int | None,
    keep: float | None,
    cumulative: float | None,
    ratio: float | None,
    size: str | None,
    of_base: float | None,
    target: Path,
    precision: str | None,
    overwrite: bool,
    **asked: Any,
) -> None:
    """Write FILE with fewer directions in each layer; what is kept of the updates is told."""
    from kohyakit.cli.views.lora import check_base, chosen_rule, show_resized
    from kohyakit.lora.resize import Shrink
    from kohyakit.lora.resize import resize as run
    from kohyakit.networks.weights.file import dtype_of

    rule, amount = chosen_rule(rank=rank, sv_fro=keep, sv_cumulative=cumulative, sv_ratio=ratio, size=size,
                               of_base=of_base)  # fmt: skip
    check_base(rule, asked["base"])
    done = run(file, target, Shrink(amount, rule, **asked), dtype=dtype_of(precision), overwrite=overwrite)
    show_resized(file, target, done)


@lora.command()
@click.argument("tuned", type=_FILE)
@click.argument("base", type=_FILE)
@click.option("--family", type=click.Choice(trained_here()), help="Of both; not given, what BASE is seen to be.")
@click.option("--rank", type=click.IntRange(min=1), default=32, show_default=True, help="Of each layer, at most.")
@click.option("--conv-rank", type=click.IntRange(min=1), help="Of 3x3 convolutions; not given, they are left out.")
@click.option("--keep", "share", type=click.FloatRange(0, 1), help="As many directions as hold this share.")
@click.option("--clamp", type=click.FloatRange(0, 1), help="Cut numbers at this quantile; sd-scripts takes 0.99.")
@_OUTPUT
@_OVERWRITE
def extract(tuned: Path, base: Path, target: Path, family: str | None, overwrite: bool, **kept: Any) -> None:
    """Write what the model TUNED adds to BASE as a LoRA."""
    from kohyakit.cli.views.lora import show_errors
    from kohyakit.lora.extract import Kept
    from kohyakit.lora.extract import extract as run

    done = run(tuned, base, target, Kept(**kept), family=family, overwrite=overwrite)
    click.echo(f"wrote {target}: {len(done)} layers")
    show_errors([(layer.name, max(0.0, 1 - layer.kept**2) ** 0.5) for layer in done], "layers are cut to their rank")


@lora.command()
@click.argument("file", type=_FILE)
@click.option("--everything", is_flag=True, help="Also what says which network it is.")
@_OUTPUT
@_OVERWRITE
def strip(file: Path, target: Path, everything: bool, overwrite: bool) -> None:
    """Write FILE without folder names, captions, paths and settings; its weights stay byte for byte."""
    from kohyakit.lora.relabel import strip as run

    gone = run(file, target, everything=everything, overwrite=overwrite)
    click.echo(f"wrote {target}: {len(gone)} entries taken out")


@lora.command("set")
@click.argument("file", type=_FILE)
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@_OUTPUT
@_OVERWRITE
def set_command(file: Path, changes: tuple[str, ...], target: Path, overwrite: bool) -> None:
    """Write FILE with metadata changed (`NAME=` takes one out) and true hashes; its weights stay byte for byte."""
    from kohyakit.config.read import parse_assignments
    from kohyakit.lora.relabel import set_metadata

    pairs = {name: str(text) or None for name, text in parse_assignments(changes).items()}
    set_metadata(file, target, pairs, overwrite=overwrite)
    click.echo(f"wrote {target}")


@lora.command()
@click.argument("first", type=_FILE)
@click.argument("second", type=_FILE)
def diff(first: Path, second: Path) -> None:
    """Show which settings differ, and how large the updates of FIRST and SECOND are by block."""
    from kohyakit.cli.views.lora import show_difference
    from kohyakit.lora.compare import compare

    show_difference(first, second, compare(first, second))


@lora.command()
@click.argument("first", type=_FILE)
@click.argument("second", type=_FILE)
def pair(first: Path, second: Path) -> None:
    """Say how far FIRST and SECOND overlap, block by block, which foretells that they fight when used together."""
    from kohyakit.cli.views.lora import show_pair
    from kohyakit.lora.compare import compare

    show_pair(compare(first, second))
