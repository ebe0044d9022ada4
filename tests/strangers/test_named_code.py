"""A preset names code: nothing of it is imported, called or offered to pip unless the person names it in this call."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kohyakit.config.arguments.named_code import NAMES_CODE, package_of
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.formats import load
from kohyakit.planning.make import make_plan
from tests.strangers.conftest import MARK

HOSTILE = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
class Own:
    def __init__(self, *args, **kwargs):
        pathlib.Path({mark!r}).write_text("called")
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `hostile_module` that Python finds; the returned file is there once it ran."""
    mark = tmp_path / MARK
    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "hostile_module.py").write_text(HOSTILE.format(mark=str(mark)), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "hostile_module", raising=False)
    return mark


# what is installed everywhere and would run something, beside the module of the fixture
NAMES = ("hostile_module.Own", "pydoc.pipepager", "os.system", "subprocess.Popen", "antigravity.geohash", "..os.system")


@pytest.mark.parametrize("setting", NAMES_CODE)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["kohyakit", "sd-scripts"])
def test_check_names_it_and_imports_nothing(
    hostile: Path, setting: str, name: str, backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(TrainConfig().with_values(network_module="networks.lora").with_values(**{setting: name}))
    told = [problem for problem in plan.errors if problem.name == "code_not_named"]
    assert [problem.where for problem in told] == [setting]
    assert name in told[0].what
    assert f"--allow-code {name}" in told[0].cure
    assert not hostile.exists()
    assert "hostile_module" not in sys.modules


def test_check_says_that_what_was_allowed_will_run_and_does_not_run_it(hostile: Path) -> None:
    config = TrainConfig().with_values(optimizer_type="hostile_module.Own").allowing(["hostile_module.Own"])
    plan = make_plan(config)
    assert not [problem for problem in plan.findings if problem.name == "code_not_named"]
    assert [(p.severity, p.where) for p in plan.findings if p.name == "own_code"] == [("hint", "optimizer_type")]
    assert not hostile.exists()


@pytest.mark.parametrize("key", ["allowed_code", "allow_code", "allow-code"])
def test_no_file_can_allow_anything(tmp_path: Path, key: str) -> None:
    preset = tmp_path / "a.toml"
    preset.write_text(f'optimizer_type = "pydoc.pipepager"\n{key} = ["pydoc.pipepager"]\n', encoding="utf-8")
    try:
        config = load(preset)
    except ConfigError:
        return
    assert config.allowed_code == ()


def test_the_trainer_itself_imports_only_what_is_known_or_named(hostile: Path) -> None:
    torch = pytest.importorskip("torch")
    from kohyakit.config.sections.optimizer import OptimizerConfig
    from kohyakit.train.optimizers.build import build_optimizer
    from kohyakit.train.optimizers.schedulers import build_scheduler

    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1}]
    for name in NAMES:
        with pytest.raises(ConfigError, match="neither imported nor run"):
            build_optimizer(name, groups, 0.1)
        sgd = torch.optim.SGD(groups, lr=0.1)
        with pytest.raises(ConfigError, match="neither imported nor run"):
            build_scheduler(sgd, OptimizerConfig(lr_scheduler_type=name, lr_scheduler_args=("cmd='true'",)), 10)
    assert not hostile.exists()


def test_what_is_allowed_is_imported_and_called_only_if_it_is_one(hostile: Path) -> None:
    torch = pytest.importorskip("torch")
    from kohyakit.config.sections.optimizer import OptimizerConfig
    from kohyakit.train.optimizers.build import build_optimizer
    from kohyakit.train.optimizers.schedulers import build_scheduler

    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1}]
    with pytest.raises(ConfigError, match=r"there is no optimizer 'hostile_module.Own'"):
        build_optimizer("hostile_module.Own", groups, 0.1, allow_code=["hostile_module.Own"])
    assert hostile.read_text(encoding="utf-8") == "ran"
    options = OptimizerConfig(lr_scheduler_type="pydoc.pipepager", lr_scheduler_args=("cmd='true'",))
    with pytest.raises(ConfigError, match=r"there is no scheduler class 'pydoc.pipepager'"):
        build_scheduler(torch.optim.SGD(groups, lr=0.1), options, 10, allow_code=["pydoc.pipepager"])


def test_a_class_of_ones_own_that_is_an_optimizer_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from kohyakit.train.optimizers.build import build_optimizer

    (tmp_path / "my_optimizers.py").write_text(
        "import torch\nclass Mine(torch.optim.SGD):\n    pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1}]
    built = build_optimizer("my_optimizers.Mine", groups, 0.1, allow_code=["my_optimizers.Mine"])
    assert built.name == "my_optimizers.Mine"


def test_install_lines_are_for_known_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from kohyakit.train.optimizers.build import build_optimizer

    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1}]
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ConfigError, match=r"pip install pytorch-optimizer$"):
        build_optimizer("pytorch_optimizer.SOAP", groups, 0.1)
    with pytest.raises(ConfigError) as told:
        build_optimizer("evil_package.Best", groups, 0.1, allow_code=["evil_package.Best"])
    assert "pip install" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("torch.optim.SGD", "torch"),
        ("pytorch_optimizer.CAME", "pytorch-optimizer"),
        ("torch_evil.SGD", None),
        ("torch/../evil.SGD", None),
        ("pytorch_optimizer_evil.CAME", None),
        ("bitsandbytes.evil.Adam", None),
    ],
)
def test_a_name_that_only_begins_like_a_known_one_is_not_known(name: str, package: str | None) -> None:
    assert package_of("optimizer_type", name) == package


WORDS = {
    "extra_accelerate_launch_args": [
        "-m pip install evil", "--module evil", "--no_python /bin/sh", "--no-python", "--config_file evil.yaml",
        "--multi_gpu evil.py", "evil.py", "--main_process_ip 6.6.6.6", "--main-process-ip=6.6.6.6", "--rdzv_conf a=b",
        "--deepspeed_hostfile h", "--env LD_PRELOAD=evil.so", "--multi_gpu --mod evil", "-t 3",
    ],
    "additional_parameters": [
        "--optimizer_type=evil.Best", "--optimizer_t evil.Best", "--lr_scheduler_type pydoc.pipepager",
        "--network_module evil", "--network_mod=evil", "--dataset_class evil.Set", "--dataset_cl evil.Set",
        "--config_file evil.toml", "--conf evil.toml",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("setting", "text"), [(name, text) for name, texts in WORDS.items() for text in texts])
def test_no_option_in_free_text_starts_something_else(setting: str, text: str) -> None:
    errors = make_plan(TrainConfig().with_values(**{setting: text})).errors
    assert [problem for problem in errors if problem.name in ("launch_word", "code_not_named")], text


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("extra_accelerate_launch_args", "--multi_gpu --num_processes 2 --main_process_port=29501 --quiet"),
        ("extra_accelerate_launch_args", "--fsdp_version 2 --use_fsdp --dynamo-mode default"),
        ("additional_parameters", "--max_grad_norm=1 --network_train_unet_only"),
        ("additional_parameters", "--lr_scheduler_type CosineAnnealingLR --optimizer_type torch.optim.SGD"),
    ],
)
def test_ordinary_options_pass(setting: str, text: str) -> None:
    errors = make_plan(TrainConfig().with_values(**{setting: text})).errors
    assert not [problem for problem in errors if problem.name in ("launch_word", "code_not_named")]


def test_launch_starts_nothing_for_a_file_that_asks_for_another_module(
    set_: Path, kohyakit: Callable[..., object], home: Path
) -> None:
    preset = {"LoRA_type": "Standard", "output_name": "x", "extra_accelerate_launch_args": "-m hostile"}
    (set_ / "a.json").write_text(json.dumps(preset), encoding="utf-8")
    (set_ / "hostile.py").write_text(f"open({str(home / MARK)!r}, 'w')\n", encoding="utf-8")
    done = kohyakit("launch", "a.json", cwd=set_)
    assert done.returncode == 2, done.stderr
    assert "extra_accelerate_launch_args: '-m' could start another program" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / MARK).exists()
