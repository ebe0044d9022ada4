"""Thousands of broken presets, TOMLs and command files: each ends in a config or a clear error, in time."""

from __future__ import annotations

import json
import random
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from kohyakit.config.rules import check_rules
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import KohyakitError
from kohyakit.formats import command, dataset_toml, loads, read, text
from kohyakit.formats.gui.fields import TABS, fields
from kohyakit.formats.gui.launch import as_gui
from kohyakit.formats.gui.write import write
from kohyakit.planning.make import make_plan

JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2.5, 1e308, -1e-320, 10**30, -(10**400), float("nan"), float("inf"), "", " ", "0",
    "12.0", "abc", "1e999", "NaN", "\x00", "é\u2028", "x" * 5000, [], [1], [[[]]], {}, {"a": {"b": [1]}}, "true",
    "None", "--a 'b", "a=1  b=2", "\\",
)  # fmt: skip
TOGETHER = 8  # fields that one file has wrong: all problems are told at once, and none hides another's
ONE_OF = max(1, 100 // settings().max_examples)  # CI takes all; elsewhere one of so many will do, as for hypothesis


def preset(chance: random.Random) -> dict[str, Any]:
    tab = chance.choice(TABS)
    known = list(fields(tab).values())
    most = min(len(known), chance.choice((12, 40, 400)))
    made = {about.key: about.default for about in chance.sample(known, chance.randint(1, most))}
    for _ in range(chance.choice((1, 1, 2, 6))):
        key = chance.choice(known).key
        how = chance.randrange(5)
        if how == 0:
            made[key[: chance.randrange(1, len(key) + 1)] + chance.choice(("", "x", "é", " ", "\x00"))] = chance.choice(
                JUNK
            )
        elif how == 1:
            nested: Any = chance.choice(JUNK)
            for _ in range(chance.randrange(1, 60)):
                nested = [nested] if chance.random() < 0.5 else {"a": nested}
            made[key] = nested
        else:
            made[key] = chance.choice(JUNK)
    return made


def as_json(chance: random.Random, values: dict[str, Any]) -> str:
    out = json.dumps(values, indent=chance.choice((None, 1, 2)), ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.2 and len(out) > 4:
        out = out[:-1] + ', "network_dim": 4, "network_dim": "5"}'
    return out


def as_toml(chance: random.Random, values: dict[str, Any]) -> str:
    simple = {key: value for key, value in values.items() if isinstance(value, (bool, int, float, str, list))}
    lines = [f"{key} = {json.dumps(value)}" for key, value in simple.items()]
    if chance.random() < 0.3:
        lines.insert(
            chance.randrange(len(lines) + 1),
            chance.choice(("[a]", "[[datasets]]", "[a.b.c]", "[kohyakit]", "= 3", "x = {a = 1")),
        )
    return "\n".join(lines) + "\n"


def damaged(chance: random.Random, out: str) -> bytes:
    how = chance.randrange(8)
    if how == 0:
        out = out.replace("\n", "\r\n")
    elif how == 1:
        out = "\ufeff" + out
    elif how == 2 and out:
        place = chance.randrange(len(out))
        out = (
            out[:place]
            + chance.choice(("", "{", "}", '"', "[", ",", "\\", "#", "\x00", "="))
            + out[place + chance.randrange(3) :]
        )
    raw = out.encode("utf-8", "surrogatepass")
    if how == 3:
        place = chance.randrange(len(raw) + 1)
        raw = raw[:place] + bytes([chance.randrange(128, 256)]) + raw[place:]
    return raw


COMMANDS = {
    "rose.bat": (
        '@echo off\nset "NAME=pastel"\nset /a R=16\ncd /d C:\\sd & call venv\\Scripts\\activate\n'
        'if exist x (\n  set R=8\n)\n'
        "accelerate launch --num_processes=2 train_network.py ^\n --output_name=\"%NAME%_2\" --network_dim=%R% ^\n"
        " --train_data_dir=%~dp0img --network_args \"conv_dim=4\" --learning_rate 1e-4\npause\n"
    ),
    "rose.sh": (
        "#!/bin/bash\nexport M=/m/a.safetensors # model\nARGS=(--cache_latents\n --network_dim 8)\n"
        "if [ $V ]; then ARGS+=(--v2); fi\n"
        'for x in 1 2; do\n  CUDA_VISIBLE_DEVICES=0 accelerate launch "$S/train_network.py" --seed $x \\\n'
        '  --pretrained_model_name_or_path="${M}" "${ARGS[@]}" --output_name ${N:-rose} 2>&1 | tee log\ndone\n'
    ),
    "rose.ps1": (
        '$M = "m"; $env:X = 4\n$a = @("--network_dim", "8",\n  "--seed=1")\n'
        '$l = [System.Collections.ArrayList]::new()\n'
        '[void]$l.Add("--v2")\n& accelerate launch train_network.py `\n'
        ' --output_name "$M-$($env:X)" @a $l # end\nRead-Host\n'
    ),
    "rose.args": (
        "accelerate launch train_network.py\\\n --config_file=none.toml --network_dim=4\\\n"
        " --output_name='a b'\n"
    ),
    "rose": (
        "python train_network.py \\\n  --optimizer_args betas=0.9,0.99 weight_decay=0.1 \\\n"
        "  --text_encoder_lr 1e-5 2e-5\n"
    ),
}  # fmt: skip
OTHERS = {
    "rose.toml": (
        'model_train_type = "sd-lora"\nlycoris_algo = "loha"\npositive_prompts = "a"\nnetwork_dim = 4\n'
        'sample_cfg = 7\n',
        "[[subsets]]\nimage_dir = 'x'\nnum_repeats = 2\n[general_args.args]\nsdxl = true\nseed = 3\n"
        "[general_args.dataset_args]\nresolution = [512, 768]\n[network_args.args.network_args]\nalgo = 'lokr'\n",
        "dit = 'x'\nnetwork_module = 'networks.lora_wan'\nnetwork_dim = 4\nblocks_to_swap = 3\n",
    ),
    "rose.json": (
        '{"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "optimizer": {"optimizer":'
        ' "PRODIGY", "beta1": 0.9,'
        ' "beta2": 0.99}, "concepts": [{"path": "x", "balancing": 2.0, "text": {"enable_tag_shuffling": true}}],'
        ' "samples": [{"prompt": "a", "width": 512}], "unet": {"train": true}, "save_every": 2,'
        ' "save_every_unit": "EPOCH"}',
        '{"job": "extension", "config": {"name": "n", "process": [{"type": "sd_trainer", "network": {"type": "lora",'
        ' "linear": 4}, "datasets": [{"folder_path": "x", "resolution": [512, 768]}], "train": {"steps": 9,'
        ' "lr": "1e-4",'
        ' "optimizer_params": {"eps": 1}}, "model": {"name_or_path": "m", "is_xl": true}, "sample":'
        ' {"prompts": ["a"],'
        ' "seed": 4, "walk_seed": true}}]}}',
        '{"3": {"class_type": "KSampler"}, "nodes": [], "_class_name": "X"}',
    ),
}  # fmt: skip
PIECES = (
    "", "$", "${", "$(", "`", "\\", "^", "%X%", "%", "%%i", '"', "'", "\n", "\r\n", " ", "\t", ";", "&&", "|",
    "(", ")", "{", "}",
    "@(", "@'\n", "<<EOF\n", "--", "--network_dim ", "#", "rem ", "set A=", "X=", "X+=(", "=", ",", ">",
    "2>&1", "\x00", "é", "\ue000",
    "\ue001", "\u2028", "if ", "fi\n", "train_network.py ", "accelerate launch ", "!X!", "~dp0", "[", "]",
    "null", "1e999", "-1",
)  # fmt: skip


def mutated(chance: random.Random, out: str) -> str:
    """Text with a few stretches left out, doubled, exchanged or replaced."""
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        start = chance.randrange(len(out) + 1)
        end = min(len(out), start + chance.randrange(12))
        how = chance.randrange(5)
        old, new = out[start:end], chance.choice(PIECES)
        middle = (old * 2, "", new, old[::-1], new + old)[how]
        out = out[:start] + middle + out[end:]
    return out


def odd_leaf(chance: random.Random, value: Any) -> Any:
    """Values with one of them, at any depth, of an odd type."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        return {**value, key: odd_leaf(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], odd_leaf(chance, value[place]), *value[place + 1 :]]
    return chance.choice(JUNK)


def a_file(chance: random.Random) -> tuple[str, str]:
    """(name, text) of a preset, a TOML, a command file or another trainer's settings, broken in some way."""
    sort = chance.random()
    if sort < 0.6:
        values = preset(chance)
        name = chance.choice(("rose.json", "rose.toml", "rose"))
        return name, as_json(chance, values) if name != "rose.toml" else as_toml(chance, values)
    if sort < 0.85:
        name = chance.choice(list(COMMANDS))
        return name, mutated(chance, COMMANDS[name])
    name = chance.choice(list(OTHERS))
    out = chance.choice(OTHERS[name])
    if name == "rose.json" and chance.random() < 0.7:
        values = json.loads(out)
        for _ in range(chance.randint(1, 4)):
            values = odd_leaf(chance, values)
        return name, json.dumps(values)
    return name, mutated(chance, out)


def one(seed: int) -> str:
    """Run one broken file through every reader, and what was read through the rules, a plan and the writers."""
    chance = random.Random(seed)
    name, out = a_file(chance)
    tab = chance.choice((None, *TABS))
    try:
        decoded = text.decode(damaged(chance, out), name)
        try:
            config = loads(decoded, name, tab=tab, as_gui=chance.random() < 0.2)
        except KohyakitError:
            if chance.random() < 0.2:
                dataset_toml.loads(decoded, name)
            raise
        check_rules(config)
        if chance.random() < 0.3:
            make_plan(config)
        write(config) if chance.random() < 0.3 else command.build(config)
    except KohyakitError as error:
        problems = error.problems
    else:
        return "read"
    assert problems
    for problem in problems:
        assert problem.what
        assert len(str(problem)) < 1500
    return "refused"


def run(seeds: range) -> None:
    ended: Counter[str] = Counter()
    slowest = (0.0, 0)
    for seed in seeds:
        start = time.process_time()
        try:
            ended[one(seed)] += 1
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        slowest = max(slowest, (time.process_time() - start, seed))
    assert slowest[0] < 1.0, slowest  # CPU seconds for one file: no hang
    assert min(ended["read"], ended["refused"]) > len(seeds) / 20


def test_broken_files_end_in_a_report() -> None:
    run(range(1200))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1200, 20000, 4700))
def test_twenty_thousand_broken_files_end_in_a_report(first: int) -> None:
    run(range(first, first + 4700, ONE_OF))


@pytest.mark.parametrize("kind", ["rose.json", "rose.toml"])
def test_no_value_of_any_type_in_any_place_of_another_trainers_file_makes_a_traceback(kind: str) -> None:
    for out in OTHERS[kind]:
        values = json.loads(out) if kind == "rose.json" else tomllib.loads(out)
        for changed in every_place(values):
            read_or_none(json.dumps(changed), "x.json")


def read_or_none(out: str, where: str) -> TrainConfig | None:
    """The config of a text, errors in it or not; None for a text that is refused as a whole."""
    try:
        return read(out, where)[0]
    except KohyakitError as error:
        told = error.problems
        assert told
        return None


def every_place(values: Any) -> Iterator[Any]:
    """The values with each of them in turn replaced by each odd one."""
    yield from JUNK
    if isinstance(values, dict):
        for key in values:
            yield from ({**values, key: changed} for changed in every_place(values[key]))
    elif isinstance(values, list):
        for place in range(len(values)):
            yield from ([*values[:place], changed, *values[place + 1 :]] for changed in every_place(values[place]))


@pytest.mark.slow
def test_no_value_of_any_type_under_any_name_makes_a_traceback() -> None:
    for name in SPECS():
        for value in (True, -1, 2.5, 1e308, 10**30, float("nan"), "", "abc", "\x00", "x" * 5000, [1], [[[]]]):
            config = read_or_none(f"{name} = {json.dumps(value)}\n", "x.toml")
            if config is not None:
                check_rules(config)
                if isinstance(value, str) or value in (-1, 1e308):
                    make_plan(config)


@pytest.mark.slow
@pytest.mark.parametrize("tab", TABS)
def test_no_value_of_any_type_in_any_field_makes_a_traceback(tab: str) -> None:
    known = list(fields(tab))
    apart = -(-len(known) // TOGETHER)
    for first in range(apart):
        odd = {known[number]: JUNK[number % ONE_OF :: ONE_OF] for number in range(first, len(known), apart)}
        for turn in range(len(JUNK[::ONE_OF])):
            values = {key: some[turn % len(some)] for key, some in odd.items()}
            values |= {"token_string": "x"} if tab == "ti" and "token_string" not in odd else {}
            assert as_gui(values, tab).tab == tab
            try:
                loads(json.dumps(values), "x.json", tab=tab)
            except KohyakitError as error:
                told = error.problems
                assert told
