"""The table of arguments, against the argument parsers of the real programs."""

from __future__ import annotations

import json

import pytest

from kohyakit.config.param import Spec
from kohyakit.config.scripts import BUCKET_STEPS, FAMILIES, SCRIPTS, choices_in, default_in, reads
from kohyakit.config.train import SPECS, TrainConfig


def test_defaults_hold_their_own_rules():
    from kohyakit.config.values import coerce

    for name, spec in SPECS().items():
        assert coerce(spec, spec.default) == spec.default, name
    assert TrainConfig()["max_train_steps"] == 1600


def test_every_script_has_a_family_and_bucket_steps():
    assert set(FAMILIES) == set(BUCKET_STEPS) == set(SCRIPTS)
    # SD 1.x 64, SDXL 32: what each program passes to verify_bucket_reso_steps
    assert [BUCKET_STEPS[s] for s in ("train_network.py", "sdxl_train_network.py", "sd3_train.py")] == [64, 32, 8]


@pytest.mark.shared
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_argument_of_the_program(shared, script):
    table = json.loads((shared / "reference" / "sdscripts_args.json").read_text(encoding="utf-8"))
    arguments = {a["name"]: a for a in table[script]["args"]}
    assert {n for n, spec in SPECS().items() if not spec.about.own and reads(script, n)} == set(arguments)
    for name, argument in arguments.items():
        spec = SPECS()[name]
        assert (default_in(script, name, spec.default) or None) == (argument["default"] or None), name
        assert _kind(spec) == _argparse_kind(argument), name
        choices = {c for c in argument["choices"] or () if c is not None}
        ours = set(choices_in(script, name, spec.about.choices))
        added = {"no"} if name == "dynamo_backend" else set()  # the GUI writes it into every TOML, and it runs
        assert ours == choices | added, name


def _kind(spec: Spec) -> str:
    return "bool_flag" if spec.kind == "bool" else spec.kind


def _argparse_kind(argument: dict) -> str:
    return {"Path": "str"}.get(argument["type"], argument["type"])
