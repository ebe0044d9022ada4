"""What a training starts from, against the settings: families, channels, what is missing, LoRAs, states."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem
from kohyakit.formats import loads
from kohyakit.formats.weights import model_kind, safetensors_header
from kohyakit.planning.as_json import plan_data
from kohyakit.planning.make import make_plan
from kohyakit.planning.plan import Plan
from tests import stand_in

pytest.importorskip("PIL.Image")


@pytest.fixture
def project(picture, tmp_path: Path) -> Path:
    for letter in "ab":
        picture(f"img/3_dog/{letter}.png", (64, 64)).with_suffix(".txt").write_text("dog", encoding="utf-8")
    return tmp_path


def plan_of(folder: Path, model: Path, backend: str = "kohyakit", **values: object) -> Plan:
    standard = {
        "pretrained_model_name_or_path": str(model), "train_data_dir": str(folder / "img"), "output_name": "x",
        "output_dir": str(folder / "out"), "caption_extension": ".txt", "resolution": "64,64",
        "min_bucket_reso": 64, "enable_bucket": True, "max_train_epochs": 2, "learning_rate": 1e-4,
        "network_module": "networks.lora", "network_dim": 4, "optimizer_type": "AdamW", "save_every_n_epochs": 1,
    }  # fmt: skip
    return make_plan(TrainConfig().with_values(**{**standard, **values}), backend=backend)


def only(plan: Plan) -> Problem:
    (problem,) = plan.findings
    return problem


SDXL_FILE = {
    "model.diffusion_model.input_blocks.0.0.weight": (16, 4, 3, 3), "conditioner.embedders.0.transformer.x": (1,),
    "conditioner.embedders.1.model.x": (1,),
}  # fmt: skip


def made(folder: Path, kind: str) -> Path:
    """A model of a kind: `sd1`, `sd2` or `sdxl`, as a folder or, with `.file`, as a single file."""
    name, _, single = kind.partition(".")
    if not single:
        if name == "sdxl":
            return stand_in.sdxl_folder(folder / name)
        return stand_in.folder(folder / name, **(stand_in.SD2 if name == "sd2" else {}))
    shapes = SDXL_FILE if name == "sdxl" else stand_in.single_file_shapes(sd2=name == "sd2")
    return stand_in.safetensors(folder / f"{name}.safetensors", shapes)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sd1.file", "sd2.file"])
def test_the_right_family_is_fine(project: Path, kind: str) -> None:
    plan = plan_of(project, made(project, kind), v2=kind.startswith("sd2"))
    assert [str(problem) for problem in plan.findings] == []
    assert plan.model is not None
    assert (plan.model.family, plan.model.known) == (kind[:3], True)
    assert plan.lora is not None
    assert plan.lora.modules == 210  # 18 in a text encoder of 3 layers, 192 in the U-Net, as in a file of sd-scripts


def test_sdxl_that_is_whole_and_not(project: Path) -> None:
    values = {"script": "sdxl_train_network.py", "bucket_reso_steps": 32}
    model = made(project, "sdxl")
    plan = plan_of(project, model, **values)
    assert [problem.name for problem in plan.findings] == []
    assert plan.model is not None
    assert plan.model.family == "sdxl"
    without(model / "text_encoder_2/model.safetensors", "text_projection")
    problem = only(plan_of(project, model, **values))
    assert problem.what == "1 tensors of the second text encoder are missing (text_projection.weight)"
    short = stand_in.sdxl_folder(project / "short", layers=10)
    assert "takes the state after layer 11" in only(plan_of(project, short, **values)).what


@pytest.mark.parametrize("backend", ["kohyakit", "sd-scripts"])
@pytest.mark.parametrize(
    ("kind", "values", "said", "cure"),
    [
        ("sd1", {"v2": True}, "Stable Diffusion 1.x model, but v2 is on", "set v2 = false"),
        ("sd1.file", {"v2": True}, "Stable Diffusion 1.x model, but v2 is on", "set v2 = false"),
        ("sd2", {}, "Stable Diffusion 2.x model, but v2 is off", "set v2 = true"),
        ("sd2.file", {}, "Stable Diffusion 2.x model, but v2 is off", "set v2 = true"),
        ("sdxl", {}, "XL model, but train_network.py trains", "use sdxl_train_network.py"),
        ("sdxl.file", {}, "XL model, but train_network.py trains", "use sdxl_train_network.py"),
        ("sd1", {"script": "sdxl_train_network.py"}, "1.x model, but sdxl_train_network.py", "use train_network.py"),
        ("sd1.file", {"script": "flux_train_network.py"}, "but flux_train_network.py", "use train_network.py"),
        ("sd1.file", {"script": "sdxl_train.py", "network_module": None}, "sdxl_train.py", "use train_db.py"),
    ],
)
def test_another_family_is_the_deciding_error(
    project: Path, kind: str, values: dict, said: str, cure: str, backend: str
) -> None:
    first = plan_of(project, made(project, kind), backend, **values).findings[0]
    assert (first.name, first.severity) == ("model_of_another_family", "error")
    assert said in first.what
    assert first.cure == cure


def test_consequences_of_another_family_are_not_said(project: Path) -> None:
    plan = plan_of(project, made(project, "sdxl"), bucket_reso_steps=32)
    assert [problem.name for problem in plan.errors] == ["model_of_another_family"]


def test_a_toml_takes_the_script_of_its_folder(project: Path) -> None:
    for kind, script in (("sd1", "train_network.py"), ("sdxl", "sdxl_train_network.py")):
        text = f'pretrained_model_name_or_path = "{made(project, kind).as_posix()}"\nno_half_vae = true\n'
        assert loads(text + 'network_module = "networks.lora"\n', "a.toml").launch.script == script


@pytest.mark.parametrize("single", [True, False])
def test_inpainting_models(project: Path, single: bool) -> None:
    if single:
        model = stand_in.safetensors(project / "m.safetensors", stand_in.single_file_shapes(inputs=9))
    else:
        model = stand_in.folder(project / "m", in_channels=9)
    problem = only(plan_of(project, model))
    assert (problem.name, problem.severity) == ("wrong_model", "error")
    assert "takes 9 channels" in problem.what


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ("lora_unet_mid_block.alpha", "is a LoRA, not a base model"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", "is a Flux model"),
        ("model.diffusion_model.joint_blocks.0.x", "is a Stable Diffusion 3 model"),
        ("control_model.input_blocks.0", "is a ControlNet"),
        ("emb_params", "textual inversion"),
        ("encoder.conv_in.weight", "is a VAE alone"),
        ("something.else", "no model that is known here"),
    ],
)
def test_foreign_files_are_named(project: Path, tensor: str, said: str) -> None:
    problem = only(plan_of(project, stand_in.safetensors(project / "m.safetensors", {tensor: (1,)})))
    assert problem.severity == "error"
    assert said in problem.what


def without(path: Path, start: str) -> None:
    """Take tensors out of a file of zeros."""
    from kohyakit.formats.weights import safetensors_header

    tensors = safetensors_header.read(path).tensors
    stand_in.safetensors(path, {name: t.shape for name, t in tensors.items() if not name.startswith(start)})


LACKING = [
    ("unet/diffusion_pytorch_model", "mid_block.attentions.0.norm", "2 tensors of the U-Net are missing"),
    ("text_encoder/model", "text_model.final", "2 tensors of the text encoder are missing"),
    ("vae/diffusion_pytorch_model", "decoder.conv_out.bias", "1 tensors of the VAE are missing (decoder.conv_out.bias"),
]


@pytest.mark.parametrize(("file", "start", "said"), LACKING)
def test_a_folder_that_lacks_tensors(project: Path, file: str, start: str, said: str) -> None:
    model = made(project, "sd1")
    without(model / f"{file}.safetensors", start)
    problem = only(plan_of(project, model))
    assert (problem.name, problem.severity) == ("incomplete_model", "error")
    assert said in problem.what
    (model / f"{file}.safetensors").unlink()
    assert only(plan_of(project, model)).name == "model_unreadable"


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("model.diffusion_model.middle_block.1.norm", "incomplete_model"),
        ("cond_stage_model", "model_unreadable"),
        ("first_stage_model", "no_vae"),
        ("first_stage_model.decoder.conv_out", "incomplete_model"),
    ],
)
def test_a_file_that_lacks_tensors(project: Path, start: str, name: str) -> None:
    model = made(project, "sd1.file")
    without(model, start)
    assert (only(plan_of(project, model)).name, only(plan_of(project, model)).severity) == (name, "error")
    whole = made(project / "other", "sd1")
    with_vae = plan_of(project, model, vae=str(whole))
    assert bool(with_vae.errors) == (not start.startswith("first_stage"))


def test_what_the_model_says_of_its_prediction(project: Path) -> None:
    model = made(project, "sd2")
    (model / "scheduler").mkdir()
    (model / "scheduler/scheduler_config.json").write_text('{"prediction_type": "v_prediction"}', encoding="utf-8")
    problem = only(plan_of(project, model, v2=True))
    assert (problem.name, problem.severity) == ("prediction_type", "warning")
    assert plan_of(project, model, v2=True, v_parameterization=True).findings == ()


def test_clip_skip_beyond_the_layers(project: Path) -> None:
    model = made(project, "sd1")
    assert plan_of(project, model, clip_skip=3).findings == ()
    problem = only(plan_of(project, model, clip_skip=4))
    assert "the text encoder has 3 layers" in problem.what


def test_a_vae_of_its_own(project: Path) -> None:
    model, other = made(project, "sd1.file"), made(project, "sd1")
    for vae in (model, other, other / "vae", other / "vae/diffusion_pytorch_model.safetensors"):
        assert plan_of(project, model, vae=str(vae)).findings == (), vae
    (project / "page.safetensors").write_text("<html>", encoding="utf-8")
    flux = {"encoder.conv_in.weight": (16, 3, 3, 3), "decoder.conv_in.weight": (16, 16, 3, 3)}
    stand_in.safetensors(project / "flux.safetensors", flux)
    lora = stand_in.safetensors(project / "lora.safetensors", {"lora_unet_x.alpha": ()})
    for vae, name in (
        ("page.safetensors", "vae_unreadable"), ("img", "vae_unreadable"), ("flux.safetensors", "incomplete_model"),
        (lora.name, "no_vae"), (other / "unet", "no_vae"), ("none.pt", "file_missing"),
    ):  # fmt: skip
        plan = plan_of(project, model, vae=str(project / vae))
        assert [problem.name for problem in plan.errors] == [name], vae


def lora(path: Path, model: str = "sd1", rank: int = 4, **changed: tuple[int, ...]) -> Path:
    """A LoRA of two layers, named and shaped as sd-scripts writes it for the small model."""
    prefix = {"sd1": "lora_te", "sdxl": "lora_te1"}[model]
    name = f"{prefix}_text_model_encoder_layers_0_mlp_fc1"
    unet = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    if model == "sdxl":
        unet = "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k"
    shapes = {
        f"{name}.alpha": (), f"{name}.lora_down.weight": (rank, 32), f"{name}.lora_up.weight": (64, rank),
        f"{unet}.alpha": (), f"{unet}.lora_down.weight": (rank, 32), f"{unet}.lora_up.weight": (32, rank),
    }  # fmt: skip
    return stand_in.safetensors(path, shapes | changed)


def test_a_lora_to_start_from(project: Path) -> None:
    model, file = made(project, "sd1"), project / "start.safetensors"
    assert plan_of(project, model, network_weights=str(lora(file))).findings == ()
    problem = only(plan_of(project, model, network_weights=str(lora(file, rank=8))))
    assert (problem.name, problem.severity) == ("weights_of_another_rank", "error")
    assert "is of rank 8" in problem.what
    assert "network_dim gives 4 (2 layers differ)" in problem.what
    problem = only(plan_of(project, model, network_weights=str(lora(file, "sdxl"))))
    assert problem.name == "weights_of_another_model"
    assert problem.what == "holds none of this network's layers; it is a LoRA of SDXL"
    wide = {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 48)}
    problem = only(plan_of(project, model, network_weights=str(lora(file, **wide))))
    assert problem.name == "weights_of_another_model"
    assert "is (4, 48), but this model needs (4, 32)" in problem.what


PEFT = {
    "base_model.model.text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": (4, 32),
    "base_model.model.text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight": (64, 4),
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight": (4, 32),
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.up.weight": (32, 4),
    "unet.mid_block.attentions.0.proj_in.lora.down.weight": (4, 32),  # of a Linear, where the model has a convolution
    "unet.mid_block.attentions.0.proj_in.lora.up.weight": (32, 4),
}  # fmt: skip


def test_a_lora_under_other_programs_names(project: Path) -> None:
    model, file = made(project, "sd1"), project / "start.safetensors"
    told = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, "text_encoder.lora_alpha": 4})}
    given = {"network_weights": str(stand_in.safetensors(file, PEFT, told)), "network_alpha": 4}
    assert plan_of(project, model, **given).findings == ()
    problem = only(plan_of(project, model, "sd-scripts", **given))
    assert (problem.name, problem.severity) == ("weights_of_another_layout", "error")
    problem = only(plan_of(project, model, **{**given, "network_alpha": 1}))
    assert (problem.name, problem.severity) == ("weights_of_another_alpha", "warning")
    assert "it begins at 0.25 of its strength" in problem.what
    stand_in.safetensors(file, {**PEFT, "unet.mid_block.attentions.0.proj_in.lora_magnitude_vector": (32,)}, told)
    problem = only(plan_of(project, model, **given))
    assert (problem.name, problem.severity) == ("weights_left_out", "warning")
    plan = plan_of(project, model, **given, dim_from_weights=True, network_dim=None)
    assert plan.lora is not None
    assert (plan.lora.modules, plan.lora.parameters) == (3, 4 * (32 + 64) + 2 * 4 * (32 + 32))


def test_loras_to_be_merged_before(project: Path) -> None:
    model, file = made(project, "sd1"), project / "base.safetensors"
    assert plan_of(project, model, base_weights=(str(lora(file)),)).findings == ()
    assert plan_of(project, model, "sd-scripts", base_weights=(str(lora(file)),)).findings == ()
    name = "lora_unet_mid_block_attentions_0_proj_in"
    for shapes, backend, told in (
        (PEFT, "kohyakit", None), (PEFT, "sd-scripts", "weights_of_another_layout"),
        ({"lora_te1_x.lora_down.weight": (4, 4), "lora_te1_x.lora_up.weight": (4, 4)}, "kohyakit",
         "weights_of_another_model"),
        ({f"{name}.lora_down.weight": (4, 48), f"{name}.lora_up.weight": (32, 4)}, "kohyakit",
         "weights_of_another_model"),
        ({f"{name}.diff": (32, 32, 1, 1), "lora_unet_x.diff": (1, 1)}, "kohyakit", "weights_left_out"),
    ):  # fmt: skip
        stand_in.safetensors(file, shapes)
        found = plan_of(project, model, backend, base_weights=(str(file),)).findings
        assert [problem.name for problem in found] == ([told] if told else [])
    assert only(plan_of(project, model, base_weights=(str(project / "none.pt"),))).name == "file_missing"
    (project / "bad.pt").write_bytes(b"PK\x03\x04 cut")
    assert only(plan_of(project, model, base_weights=(str(project / "bad.pt"),))).name == "weights_unreadable"
    more = plan_of(project, model, base_weights=(str(lora(file)),), base_weights_multiplier=(1.0, 0.5))
    assert only(more).name == "too_many_multipliers"


def test_after_base_weights_sd_scripts_adapts_more_layers(project: Path) -> None:
    """Its class-level list of modules stays widened: each residual's time_emb_proj and conv_shortcut come in."""
    model, file = made(project, "sd1"), str(lora(project / "base.safetensors"))
    modules = [
        plan.lora.modules if (plan := plan_of(project, model, backend, base_weights=(file,))).lora else 0
        for backend in ("kohyakit", "sd-scripts")
    ]
    names = safetensors_header.read(model / "unet/diffusion_pytorch_model.safetensors").tensors
    around = [name for name in names if name.endswith(("time_emb_proj.weight", "conv_shortcut.weight"))]
    assert modules[1] - modules[0] == len(around) > 0


def test_where_sd_scripts_would_begin_stops_nothing_here(project: Path) -> None:
    """Its counts of epochs and steps are not looked at: without a state a training begins at its first step."""
    model = made(project, "sd1")
    given = {"initial_step": 99, "skip_until_initial_step": True, "max_train_epochs": None, "max_train_steps": 4}
    found = plan_of(project, model, **given).findings
    assert {(problem.name, problem.severity) for problem in found} == {("not_needed", "warning")}
    assert plan_of(project, model, "sd-scripts", **given).errors[0].name == "initial_step_beyond_the_end"


def test_dim_from_weights_takes_ranks_and_size_from_the_file(project: Path) -> None:
    model, file = made(project, "sd1"), project / "start.safetensors"
    plan = plan_of(project, model, network_weights=str(lora(file, rank=8)), dim_from_weights=True, network_dim=None)
    assert plan.findings == ()
    assert plan.lora is not None
    # rank x (inputs + outputs): 8 x (32 + 64) and 8 x (32 + 32)
    assert (plan.lora.modules, plan.lora.parameters) == (2, 8 * 96 + 8 * 64)
    assert plan_data(plan)["lora"]["ranks"] == [8]


@pytest.mark.parametrize("backend", ["kohyakit", "sd-scripts"])
def test_files_that_are_no_lora(project: Path, backend: str) -> None:
    model = made(project, "sd1")
    (project / "bad.safetensors").write_bytes(b"{}")
    (project / "bad.pt").write_bytes(b"PK\x03\x04 cut")
    (project / "a.gguf").write_bytes(b"GGUF")
    for name in ("bad.safetensors", "bad.pt", "a.gguf", "img"):
        problem = only(plan_of(project, model, backend, network_weights=str(project / name)))
        assert (problem.name, problem.severity) == ("weights_unreadable", "error")


def test_states_for_either_trainer(project: Path) -> None:
    model = made(project, "sd1")
    theirs, ours = project / "theirs-state", project / "ours-state"
    for folder, files in (
        (theirs, ("random_states_0.pkl", "optimizer.bin")),
        (ours, ("train_state.json", "state.pt")),
    ):
        folder.mkdir()
        for file in files:
            (folder / file).write_bytes(b"{}")
    lora(ours / "network.safetensors")
    for folder, backend, said in (
        (theirs, "kohyakit", "a state of sd-scripts, and model.safetensors is missing from it"),
        (ours, "sd-scripts", "a state of kohyakit, which sd-scripts cannot resume"),
        (project / "img", "sd-scripts", "no state of sd-scripts"),
        (project / "img", "kohyakit", "train_state.json is missing from the state"),
        (ours, "kohyakit", "cannot be read"),
    ):
        (problem,) = plan_of(project, model, backend, resume=str(folder)).errors
        assert said in problem.what
    assert plan_of(project, model, "sd-scripts", resume=str(theirs)).findings == ()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_a_pipe_is_not_waited_for(project: Path) -> None:
    model = made(project, "sd1")
    os.mkfifo(project / "pipe.safetensors")
    (model / "unet/config.json").unlink()
    os.mkfifo(model / "unet/config.json")
    plan = plan_of(project, model, network_weights=str(project / "pipe.safetensors"))
    assert [problem.name for problem in plan.errors] == ["model_unreadable", "weights_unreadable"]


def test_kinds_of_broken_folders(tmp_path: Path) -> None:
    model = stand_in.folder(tmp_path / "m")
    (model / "unet/config.json").write_text("{", encoding="utf-8")
    assert model_kind.family_at(model) == ""
    shutil.rmtree(model / "unet")
    assert model_kind.family_at(model) == ""
    assert model_kind.family_at(tmp_path / "none") == model_kind.family_at(None) == ""
    (model / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}), encoding="utf-8")
    assert model_kind.family_at(model) == "flux"
