"""What the plan says of an SDXL training, held against the training itself: shapes, and the file to the byte."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from safetensors import safe_open

torch = pytest.importorskip("torch")

from kohyakit.models import load_model
from kohyakit.planning.make import check_plan
from kohyakit.train.start import train_network
from tests.train.tiny_sdxl import write_single_file, write_tiny_sdxl

SCRIPT = "sdxl_train_network.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "model")


@pytest.fixture(scope="module")
def single(folder: Path) -> Path:
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    return write_single_file(folder, folder.parent / "model.safetensors", **marks)


def metadata_bytes(path: Path) -> int:
    """Length of the metadata in a file, as it stands there."""
    with path.open("rb") as file:
        header = file.read(struct.unpack("<Q", file.read(8))[0])
    text = json.loads(header)["__metadata__"]
    return len(json.dumps(text, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("single_file", "values"),
    [
        (False, {}),
        (True, {"network_args": ["conv_dim=3"], "save_precision": "fp16"}),
        (True, {"network_train_unet_only": True, "cache_text_encoder_outputs": True, "save_precision": "bf16"}),
    ],
    ids=["folder", "file with convolutions", "file without text encoders"],
)
def test_the_file_has_the_size_that_the_plan_says(make_config, folder, single, tmp_path, single_file, values) -> None:
    model = str(single if single_file else folder)
    config = make_config(script=SCRIPT, pretrained_model_name_or_path=model, max_train_epochs=None, max_train_steps=1,
                         v_parameterization=single_file, zero_terminal_snr=single_file, **values)  # fmt: skip
    plan = check_plan(config)
    assert not plan.errors
    assert plan.model.family == "sdxl"
    assert plan.model.known
    train_network(config, progress=False, echo=lambda text: None)
    written = tmp_path / "out" / "tiny.safetensors"
    with safe_open(written, "pt") as file:
        assert plan.lora.tensors == len(file.keys())
    assert plan.lora.file_bytes(metadata_bytes(written)) == written.stat().st_size


@pytest.mark.parametrize("single_file", [False, True])
def test_the_memory_counts_the_models_own_numbers(make_config, folder, single, single_file) -> None:
    path = single if single_file else folder
    config = make_config(script=SCRIPT, pretrained_model_name_or_path=str(path))
    model, parts = load_model(path, family="sdxl"), check_plan(config).model.parameters
    assert parts.unet == sum(p.numel() for p in model.unet.parameters())
    text = sum(p.numel() for encoder in model.text_encoders for p in encoder.parameters())
    assert parts.text == text + single_file  # the original layout has OpenCLIP's logit_scale too
    assert parts.vae == sum(p.numel() for p in model.vae.parameters())


def test_the_marks_of_a_v_prediction_model_are_told(make_config, single) -> None:
    told = {f.name: f.cure for f in check_plan(
        make_config(script=SCRIPT, pretrained_model_name_or_path=str(single))).findings}  # fmt: skip
    assert told["prediction_type"] == "switch v_parameterization on"
    assert told["noise_schedule"] == "switch zero_terminal_snr on"
    on = make_config(script=SCRIPT, pretrained_model_name_or_path=str(single), v_parameterization=True,
                     zero_terminal_snr=True)  # fmt: skip
    assert not {"prediction_type", "noise_schedule"} & {f.name for f in check_plan(on).findings}


def test_where_models_lie_changes_nothing_in_the_lora(make_config, folder, tmp_path) -> None:
    """lowram places them early, highvram keeps them; a sample brings back what caching has moved away."""
    written = []
    for option in ({}, {"lowram": True}, {"highvram": True}):
        config = make_config(
            script=SCRIPT, pretrained_model_name_or_path=str(folder), max_train_epochs=None, max_train_steps=2,
            network_train_unet_only=True, cache_text_encoder_outputs=True, cache_latents=True,
            sample_prompts="town --w 64 --h 64 --s 2 --d 1", sample_every_n_steps=2, **option,
        )  # fmt: skip
        assert not [f for f in check_plan(config).findings if f.name == "not_built_in"]
        train_network(config, progress=False, echo=lambda text: None)
        with safe_open(tmp_path / "out" / "tiny.safetensors", "pt") as file:
            written.append({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (no mapping)
    assert len(list((tmp_path / "out" / "sample").glob("*.png"))) == 3
    for other in written[1:]:
        assert all(torch.equal(other[key], tensor) for key, tensor in written[0].items())


def test_a_module_is_brought_and_goes_back() -> None:
    """To the meta device, which every machine has; what is there already is not touched."""
    from kohyakit.train.step.placing import brought

    away, there = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta")
    with pytest.raises(NotImplementedError), brought([away, there], torch.device("meta")):
        assert {p.device.type for module in (away, there) for p in module.parameters()} == {"meta"}
    assert next(there.parameters()).device.type == "meta"
