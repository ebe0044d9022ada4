"""Whatever a training refuses, `check` says before: every refusal in the code is listed here, with what provokes it.

A refusal is a Problem (or MissingExtra) made under models/, networks/, train/ or launch/. The list is by file and
function, one entry for each; a new one fails the test until it has its entry: a case of CASES, or the reason why no
check can know it.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch")

from kohyakit.config.scripts import model_family
from kohyakit.config.train import TrainConfig
from kohyakit.demo.pictures import draw
from kohyakit.errors import ConfigError, KohyakitError
from kohyakit.formats.weights import safetensors_header
from kohyakit.models import load_model
from kohyakit.planning.make import check_plan
from kohyakit.train.start import train_network
from tests import stand_in
from tests.conftest import ROOT

TRAINS = "told while it trains: "
CALL = "about this call of train and no setting: "
OWN = "in code of one's own, which no check imports: "

# file and function -> for each refusal made there, in order: the case of CASES that provokes it, or why there is none
REFUSALS: dict[str, tuple[str, ...]] = {
    "train/assemble.py:parameter_groups": ("no rate",),
    "train/rehearse.py:look_at_family": (OWN + "a family without what draws its samples",),
    "train/rehearse.py:rehearse": ("a schedule class that wants to know the loss",),
    "networks/file.py:unwritable": (TRAINS + "the disk is full", "output_dir is a file"),
    "train/step/batches.py:read_pixels": ("an image that does not decode",),
    "train/step/latents.py:LatentSource.encode": (TRAINS + "the VAE overflows",),
    "models/text.py:TextEncoder.hidden_states": ("a text encoder too short for SDXL",),
    "models/text.py:TextEncoder._upto": ("clip_skip beyond the layers",),
    "models/base.py:_places": ("no model",),
    "models/base.py:_find": ("a model on the hub", "a model that is not there"),
    "models/folder.py:notes": ("a v model trained as another",),
    "models/kinds.py:check_kind": ("a folder of SDXL",),
    "models/folder.py:_check_parts": ("a folder that is no model", "a folder without a config"),
    "models/folder.py:_json": ("a vae without a config", "a config that is no JSON"),
    "models/folder.py:_weights": ("a folder without weights",),
    "models/folder.py:_fill": ("a folder with a tensor of another size",),
    "models/single_file.py:read_vae": ("a vae that is none",),
    "models/single_file.py:notes": ("a file marked as a v model",),
    "models/single_file.py:_filled": ("a file with a tensor of another size",),
    "models/weights.py:_unpickle": ("a pickle with code",),
    "models/weights.py:_broken": ("a file that is cut off",),
    "models/weights.py:_check_start": (
        "a shard that is missing", "an ending of another kind", "an empty file", "a Git LFS pointer", "a web page",
    ),
    "models/weights.py:missing_tensors": ("a file that lacks tensors",),
    "networks/methods/lora.py:LoraNetwork.over": ("a LoRA of another family for its ranks",),
    "networks/base.py:Network.load_kohya_state": ("a LoRA of another rank", "a LoRA of another family"),
    "train/optimizers/build.py:chosen_type": ("two optimizers",),
    "train/optimizers/build.py:_class": ("a class whose package is missing", "an unknown optimizer"),
    "train/optimizers/build.py:_make": ("an argument of no optimizer", "an argument out of its range"),
    "train/out_of_memory.py:out_of_memory": (TRAINS + "memory is full",),
    "train/own_code.py:load_class": (OWN + "it fails when it is imported",),
    "train/step/precision.py:precision_of": ("fp16 without a GPU",),
    "train/processes.py:Processes.__init__": ("fp16 without a GPU",),
    "models/noise/samplers.py:build_sampler": (TRAINS + "a sample that cannot be drawn is told, and ends nothing",),
    "train/output/sampling.py:_check_finite": (TRAINS + "a sample became NaN",),
    "train/optimizers/schedulers.py:_rules": ("step rules that cannot be read",),
    "train/optimizers/schedulers.py:_problems": (
        "a warm-up of a constant", "no lowest rate", "a rate below the end", "a warm-up and decay too long",
    ),
    "train/optimizers/schedulers.py:_adafactor": ("adafactor's schedule alone",),
    "train/optimizers/schedulers.py:_custom": (
        "a warm-up of a class", "an unknown schedule class", "arguments of no schedule class",
    ),
    "networks/merged.py:merge": ("base weights of another family",),
    "networks/from_file.py:adapters": ("base weights of an unknown kind",),
    "networks/weights/file.py:read": ("base weights that are no LoRA",),
    "networks/weights/file.py:_check_layers": ("base weights that do not fit each other",),
    "networks/weights/file.py:check_free": (CALL + "where a tool for LoRA files is to write",),
    "train/output/mirrors.py:_wandb": ("a tracker that is not installed",),
    "train/output/mirrors.py:_trackio": ("no trackio",),
    "train/output/state_of_sd_scripts.py:_opened": (TRAINS + "torch cannot read what accelerate wrote",),
    "train/output/state_of_sd_scripts.py:_random_states": (TRAINS + "a pickle whose random numbers are of no kind",),
    "train/output/state_of_sd_scripts.py:_unlike": (TRAINS + "what an optimizer's pickle holds is of another network",),
    "networks/base.py:Network.load_state": (TRAINS + "the LoRA in a state was replaced by part of one",),
    "train/output/state.py:_unusable": (TRAINS + "torch cannot read a state whose every byte is as it was written",),
    "train/output/state.py:restore_optimizer": (TRAINS + "an older state, which does not tell its optimizer",),
    "train/trainer.py:Trainer._not_finite": (TRAINS + "a loss became NaN",),
    "launch/accelerate.py:launch_builtin": (CALL + "accelerate is not installed",),
    "launch/checkout.py:find": (CALL + "no checkout is named",),
    "launch/checkout.py:_files": (CALL + "--sd-scripts",) * 3,
    "launch/checkout.py:_packages": (CALL + "--python",) * 4,
    "launch/sd_scripts.py:run": (CALL + "--python",),
    "launch/sd_scripts.py:_finish": (TRAINS + "sd-scripts failed",),
}  # fmt: skip


def refusals_in(file: Path) -> Iterator[str]:
    """The function of each Problem and MissingExtra that a file makes."""

    def walk(node: ast.AST, name: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            scope = isinstance(child, ast.FunctionDef | ast.ClassDef)
            inner = f"{name}.{child.name}".lstrip(".") if scope else name
            if isinstance(child, ast.Call) and ast.unparse(child.func) in ("Problem", "MissingExtra"):
                yield inner
            yield from walk(child, inner)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), "")


def test_every_refusal_is_listed() -> None:
    found: dict[str, int] = {}
    for room in ("models", "networks", "train", "launch"):
        for file in sorted((ROOT / "kohyakit" / room).rglob("*.py")):
            for function in refusals_in(file):
                key = f"{file.relative_to(ROOT / 'kohyakit').as_posix()}:{function}"
                found[key] = found.get(key, 0) + 1
    assert found == {key: len(entries) for key, entries in REFUSALS.items()}
    reasons = (TRAINS, CALL, OWN)
    named = {entry for entries in REFUSALS.values() for entry in entries if not entry.startswith(reasons)}
    assert named == set(CASES) - MORE


def test_the_reader_of_refusals_sees_them(tmp_path: Path) -> None:
    text = "class A:\n def f(self):\n  raise X(Problem('a'))\ndef g():\n return [Problem('b') for _ in '']\n"
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    assert list(refusals_in(tmp_path / "a.py")) == ["A.f", "g"]


# cases that are no refusal of their own: the same one by another way, the registry's, or what check and train look at
# together
MORE = {
    "a folder of Flux", "a folder of 9 channels", "a LoRA as the model", "a file that is no model",
    "a file of SDXL's refiner", "a file of 9 channels", "a folder with v2", "a file of SDXL", "a file with v2",
    "a state that is not there", "a state of sd-scripts",
    "a state without its parts", "a state that is damaged", "a state of another order", "a state beyond the end",
    "an image without a bucket", "an optimizer whose package is missing",
}  # fmt: skip

# --- what provokes each ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """make: spoils the project in a folder and returns the settings. name: the finding's. severity: of it.

    loader: the model's own loader refuses it too.
    """

    name: str
    make: Callable[[Path], dict[str, object]]
    severity: str = "error"
    loader: bool = False


def settings(**values: object) -> Callable[[Path], dict[str, object]]:
    return lambda folder: values


def model(make: Callable[[Path], Path]) -> Callable[[Path], dict[str, object]]:
    return lambda folder: {"pretrained_model_name_or_path": str(make(folder))}


def folder_of(**unet: object) -> Callable[[Path], dict[str, object]]:
    return model(lambda folder: stand_in.folder(folder / "other", **unet))


def spoilt(spoil: Callable[[Path], object]) -> Callable[[Path], dict[str, object]]:
    """The project's own model with something done to its folder."""

    def make(folder: Path) -> dict[str, object]:
        spoil(folder / "base")
        return {}

    return make


def file_of(shapes: dict[str, tuple[int, ...]]) -> Callable[[Path], dict[str, object]]:
    return model(lambda folder: stand_in.safetensors(folder / "other.safetensors", shapes))


def bytes_of(name: str, content: bytes, option: str = "pretrained_model_name_or_path") -> Callable[[Path], dict]:
    def make(folder: Path) -> dict[str, object]:
        (folder / name).write_bytes(content)
        return {option: str(folder / name)}

    return make


def resized(path: Path, name: str) -> None:
    shapes = {key: tensor.shape for key, tensor in safetensors_header.read(path).tensors.items()}
    stand_in.safetensors(path, {**shapes, name: (7,)})


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("made-by-a-pickle",))


def evil(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "evil.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Evil()}, 2))
    return folder / "evil.ckpt"


FC1 = "lora_te_text_model_encoder_layers_0_mlp_fc1"


def lora_shapes(name: str, rank: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.alpha": (), f"{name}.lora_down.weight": (rank, 32), f"{name}.lora_up.weight": (64, rank)}


def base_weights(shapes: dict[str, tuple[int, ...]]) -> Callable[[Path], dict[str, object]]:
    return lambda folder: {"base_weights": (str(stand_in.safetensors(folder / "base.safetensors", shapes)),)}


def without_tracker(folder: Path) -> dict[str, object]:
    sys.modules["wandb"] = None  # type: ignore[assignment]  # as if it were not installed; see `project`
    return {"log_with": "wandb", "logging_dir": str(folder / "log")}


def without_trackio(folder: Path) -> dict[str, object]:
    sys.modules["trackio"] = None  # type: ignore[assignment]  # the same
    return {"log_trackio": True}


def lora(name: str, rank: int) -> Callable[[Path], dict[str, object]]:
    return lambda folder: {
        "network_weights": str(stand_in.safetensors(folder / "lora.safetensors", lora_shapes(name, rank)))
    }


def state(position: dict[str, object], *files: str) -> Callable[[Path], dict[str, object]]:
    """A state folder whose tensors are those of no training."""

    def make(folder: Path) -> dict[str, object]:
        import torch

        place = folder / "x-state"
        place.mkdir()
        for file in files:
            (place / file).write_bytes(b"")
        if position:
            (place / "train_state.json").write_text(json.dumps(position), encoding="utf-8")
            name = "lora_te_text_model_encoder_layers_0_mlp_fc1"
            shapes = {f"{name}.lora_down.weight": (4, 32), f"{name}.lora_up.weight": (64, 4)}
            stand_in.safetensors(place / "network.safetensors", shapes)
            parts = ("optimizer", "scheduler", "scaler", "epoch_streams", "streams")
            torch.save({part: {} for part in parts}, place / "state.pt")
        return {"resume": str(place)}

    return make


def damaged_state(folder: Path) -> dict[str, object]:
    values = state({"current_step": 1})(folder)
    (folder / "x-state/state.pt").write_bytes(b"PK\x03\x04 cut")
    return values


def narrow_image(folder: Path) -> dict[str, object]:
    draw("town", (900, 12), 0).save(folder / "img/2_town/narrow.png")
    return {"bucket_reso_steps": 64, "resolution": "64,64", "min_bucket_reso": 64, "bucket_no_upscale": True}


def hurt_image(folder: Path) -> dict[str, object]:
    path = folder / "img/2_town/town0.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    return {}


def without_package(folder: Path) -> dict[str, object]:
    sys.modules["prodigyopt"] = None  # type: ignore[assignment]  # as if it were not installed; see `project`
    return {"optimizer_type": "Prodigy", "learning_rate": 1.0}


def v_model(base: Path) -> None:
    (base / "scheduler").mkdir()
    (base / "scheduler/scheduler_config.json").write_text('{"prediction_type": "v_prediction"}', encoding="utf-8")


def sharded(base: Path) -> None:
    (base / "unet/diffusion_pytorch_model.safetensors").unlink()
    index = {"weight_map": {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    text = json.dumps(index)
    (base / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(text, encoding="utf-8")


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


XL = {"script": "sdxl_train_network.py"}
FILE = stand_in.single_file_shapes()
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
REFINER = {"model.diffusion_model.input_blocks.0.0.weight": (16, 4, 3, 3), "conditioner.embedders.0.model.x": (1,)}
SDXL_SHAPES = {"model.diffusion_model.input_blocks.0.0.weight": (16, 4, 3, 3), "conditioner.embedders.1.model.x": (1,)}
CONV = "model.diffusion_model.input_blocks.1.0.in_layers.2.bias"

CASES: dict[str, Case] = {
    "no rate": Case("nothing_to_train", settings(learning_rate=0.0)),
    "output_dir is a file": Case("output_dir_unusable", bytes_of("a-file", b"", "output_dir")),
    "an image without a bucket": Case("no_bucket", narrow_image),
    "an image that does not decode": Case("undecodable", hurt_image),
    "clip_skip beyond the layers": Case("clip_skip_too_deep", settings(clip_skip=4)),
    "a text encoder too short for SDXL": Case(
        "wrong_model", lambda f: {**model(lambda place: stand_in.sdxl_folder(place / "xl", 5))(f), **XL}
    ),
    "no model": Case("base_model_missing", settings(pretrained_model_name_or_path=None)),
    "a model on the hub": Case("model_missing", settings(pretrained_model_name_or_path="owner/model"), loader=True),
    "a model that is not there": Case("model_missing", settings(pretrained_model_name_or_path="no.ckpt"), loader=True),
    "a v model trained as another": Case("prediction_type", spoilt(v_model), "warning"),
    "a folder of Flux": Case("model_of_another_family", folder_of(index="FluxPipeline"), loader=True),
    "a folder that is no model": Case("model_unreadable", model(empty_folder), loader=True),
    "a folder without a config": Case(
        "model_unreadable", spoilt(lambda base: (base / "text_encoder/config.json").unlink()), loader=True
    ),
    "a folder of SDXL": Case(
        "model_of_another_family", model(lambda folder: stand_in.sdxl_folder(folder / "xl")), loader=True
    ),
    "a folder of 9 channels": Case("wrong_model", folder_of(in_channels=9), loader=True),
    "a folder with v2": Case("model_of_another_family", settings(v2=True), loader=True),
    "a vae without a config": Case("vae_unreadable", lambda folder: {"vae": str(empty_folder(folder))}, loader=True),
    "a config that is no JSON": Case(
        "model_unreadable", spoilt(lambda base: (base / "unet/config.json").write_text("{", encoding="utf-8")),
        loader=True,
    ),
    "a folder without weights": Case(
        "model_unreadable", spoilt(lambda base: (base / UNET_WEIGHTS).unlink()), loader=True
    ),
    "a folder with a tensor of another size": Case(
        "incomplete_model", spoilt(lambda base: resized(base / UNET_WEIGHTS, "conv_in.bias")), loader=True
    ),
    "a vae that is none": Case(
        "no_vae",
        lambda folder: {"vae": str(stand_in.safetensors(folder / "v.safetensors", {"lora_unet_x.alpha": ()}))},
        loader=True,
    ),
    "a file of SDXL": Case("model_of_another_family", file_of(SDXL_SHAPES), loader=True),
    "a file with v2": Case("model_of_another_family", lambda f: {**file_of(FILE)(f), "v2": True}, loader=True),
    "a file of SDXL's refiner": Case("wrong_model", lambda f: {**file_of(REFINER)(f), **XL}, loader=True),
    "a file marked as a v model": Case("prediction_type", file_of({**FILE, "v_pred": ()}), "warning"),
    "a LoRA as the model": Case("wrong_model", file_of({"lora_unet_x.alpha": ()}), loader=True),
    "a file that is no model": Case("wrong_model", file_of({"x": (1,)}), loader=True),
    "a file of 9 channels": Case("wrong_model", file_of(stand_in.single_file_shapes(inputs=9)), loader=True),
    "a file with a tensor of another size": Case("incomplete_model", file_of({**FILE, CONV: (7,)}), loader=True),
    "a pickle with code": Case("model_unreadable", model(evil), loader=True),
    "a file that is cut off": Case("model_unreadable", bytes_of("m.ckpt", b"PK\x03\x04 cut"), loader=True),
    "a shard that is missing": Case("model_unreadable", spoilt(sharded), loader=True),
    "an ending of another kind": Case("model_unreadable", bytes_of("m.gguf", b"GGUF"), loader=True),
    "an empty file": Case("model_unreadable", bytes_of("m.safetensors", b""), loader=True),
    "a Git LFS pointer": Case(
        "model_unreadable", bytes_of("m.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), loader=True
    ),
    "a web page": Case("model_unreadable", bytes_of("m.ckpt", b"<!doctype html>"), loader=True),
    "a file that lacks tensors": Case(
        "incomplete_model", file_of({key: shape for key, shape in FILE.items() if key != CONV}), loader=True
    ),
    "a LoRA of another rank": Case("weights_of_another_rank", lora("lora_te_text_model_encoder_layers_0_mlp_fc1", 8)),
    "a LoRA of another family": Case(
        "weights_of_another_model", lora("lora_te1_text_model_encoder_layers_0_mlp_fc1", 4)
    ),
    "a LoRA of another family for its ranks": Case(
        "weights_of_another_model",
        lambda f: {**lora("lora_te1_text_model_encoder_layers_0_mlp_fc1", 4)(f), "dim_from_weights": True},
    ),
    "a schedule class that wants to know the loss": Case(
        "scheduler_class_unknown", settings(lr_scheduler_type="ReduceLROnPlateau")
    ),
    "two optimizers": Case("optimizer_named_twice", settings(use_8bit_adam=True, optimizer_type="Lion")),
    "an optimizer whose package is missing": Case("package_missing", without_package, "warning"),
    "a class whose package is missing": Case("package_missing", settings(optimizer_type="nowhere.Opt"), "warning"),
    "an unknown optimizer": Case("optimizer_unknown", settings(optimizer_type="AdamX")),
    "an argument of no optimizer": Case("foreign_argument", settings(optimizer_args=("nonsense=1",))),
    "an argument out of its range": Case("optimizer_argument_refused", settings(optimizer_args=("betas=2,0.9",))),
    "fp16 without a GPU": Case("gpu_missing", settings(mixed_precision="fp16"), "warning"),
    "step rules that cannot be read": Case(
        "step_rules_unreadable", settings(lr_scheduler="piecewise_constant", lr_scheduler_args=("step_rules='x,y'",))
    ),
    "a warm-up of a constant": Case("warmup_not_allowed", settings(lr_warmup_steps=2)),
    "no lowest rate": Case("min_lr_ratio_missing", settings(lr_scheduler="cosine_with_min_lr")),
    "a rate below the end": Case("rate_too_low", settings(lr_scheduler="polynomial", learning_rate=1e-8)),
    "a warm-up and decay too long": Case(
        "schedule_too_long", settings(lr_scheduler="warmup_stable_decay", lr_warmup_steps=5, lr_decay_steps=5)
    ),
    "adafactor's schedule alone": Case("adafactor_scheduler_alone", settings(lr_scheduler="adafactor")),
    "a warm-up of a class": Case(
        "warmup_not_allowed",
        settings(lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args=("T_max=10",), lr_warmup_steps=2),
    ),
    "an unknown schedule class": Case("scheduler_class_unknown", settings(lr_scheduler_type="CosinLR")),
    "arguments of no schedule class": Case("annealing_length_missing", settings(lr_scheduler_type="CosineAnnealingLR")),
    "base weights of another family": Case(
        "weights_of_another_model", base_weights(lora_shapes("lora_te2_text_model_encoder_layers_9_mlp_fc1", 4)),
    ),
    "base weights that are no LoRA": Case("weights_of_another_model", base_weights({"x": (1,)})),
    "base weights that do not fit each other": Case("layers_broken", base_weights(
        {**lora_shapes(FC1, 4), f"{FC1}.lora_up.weight": (64, 3)}),
    ),
    "base weights of an unknown kind": Case("not_built_in", base_weights({f"{FC1}.q_layer.weight": (4, 32)})),
    "a tracker that is not installed": Case("package_missing", without_tracker, "warning"),
    "no trackio": Case("package_missing", without_trackio, "warning"),
    "a state that is not there": Case("file_missing", settings(resume="nowhere-state")),
    "a state of sd-scripts": Case("state_unreadable", state({}, "random_states_0.pkl", "optimizer.bin")),
    "a state without its parts": Case("state_unreadable", state({}, "other.txt")),
    "a state that is damaged": Case("state_unreadable", damaged_state),
    "a state of another order": Case("state_of_another_order", state({"current_step": 1, "rng_order": "sd-scripts"})),
    "a state beyond the end": Case("state_beyond_the_end", state({"current_step": 500})),
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "img/2_town").mkdir(parents=True)
    for number in range(2):
        draw("town", (64, 64), number).save(tmp_path / f"img/2_town/town{number}.png")
        (tmp_path / f"img/2_town/town{number}.txt").write_text("town", encoding="utf-8")
    stand_in.folder(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    for package in ("prodigyopt", "wandb", "trackio"):
        if package in sys.modules:
            monkeypatch.setitem(sys.modules, package, sys.modules[package])
        else:
            monkeypatch.delitem(sys.modules, package, raising=False)
    return tmp_path


def config_of(folder: Path, values: dict[str, object]) -> TrainConfig:
    standard = {
        "pretrained_model_name_or_path": str(folder / "base"), "train_data_dir": str(folder / "img"),
        "output_dir": str(folder / "out"), "output_name": "x", "caption_extension": ".txt", "resolution": "64,64",
        "enable_bucket": True, "min_bucket_reso": 64, "max_train_epochs": 1, "learning_rate": 1e-4,
        "network_module": "networks.lora", "network_dim": 4, "optimizer_type": "AdamW", "save_every_n_epochs": 1,
        "max_data_loader_n_workers": 0,
    }  # fmt: skip
    return TrainConfig().with_values(**{**standard, **values})


def test_the_project_itself_is_fine(project: Path) -> None:
    assert check_plan(config_of(project, {}), decode=True).findings == ()


@pytest.mark.parametrize("name", CASES)
def test_check_says_what_train_refuses(project: Path, name: str) -> None:
    case = CASES[name]
    config = config_of(project, case.make(project))
    before = sorted(project.rglob("*"))
    plan = check_plan(config, decode=True)
    found = {problem.name: problem for problem in plan.findings}
    assert case.name in found, sorted(found)
    assert found[case.name].severity == case.severity
    stops = plan.errors or plan.lacking_here
    assert bool(stops) == (case.name != "prediction_type")  # which train tells, too, and goes on
    if stops:
        with pytest.raises(KohyakitError) as refused:
            train_network(config, progress=False, echo=lambda text: None)
        assert {problem.name for problem in stops} <= {problem.name for problem in refused.value.problems}
    assert sorted(project.rglob("*")) == before, "a refused training leaves nothing"
    if case.loader:
        family = model_family(config.launch.script, v2=config.model.v2)
        with pytest.raises(ConfigError):
            load_model(config.model.pretrained_model_name_or_path, vae=config.model.vae, family=family)
