"""A few steps with each of LyCORIS' algorithms: the file is as large as it was told, and a resume goes on exactly."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from kohyakit.formats.weights import safetensors_header
from kohyakit.planning.make import make_plan
from kohyakit.train.start import train_network

CASES = {
    "lora": ("algo=lora", "dora_wd=True", "wd_on_output=False"), "loha": ("algo=loha", "train_norm=True"),
    "lokr": ("algo=lokr", "factor=4", "use_scalar=True"), "full": ("algo=full", "preset=attn-only"),
    "ia3": ("algo=ia3", "preset=ia3"), "dylora": ("algo=dylora", "block_size=1", "preset=attn-only"),
    "boft": ("algo=boft", "preset=attn-only"),
    "tlora": ("algo=tlora", "preset=attn-mlp", "sig_type=last"),
}  # fmt: skip


def train(config):
    return train_network(config, progress=False, echo=lambda text: None)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "order"), list(zip(CASES, ["kohyakit", "sd-scripts"] * 4, strict=False)))
def test_every_algorithm_trains_saves_and_resumes(make_config, tmp_path, case, order):
    options = {
        "network_module": "lycoris.kohya", "network_args": CASES[case], "max_train_epochs": None, "max_train_steps": 2,
        "save_every_n_steps": 1, "save_state": True, "rng_order": order, "scale_weight_norms": 1.0,
    }  # fmt: skip
    told = make_plan(make_config(**options)).lora
    assert train(make_config(**options)).status == "finished"
    out = tmp_path / "out"
    written = safetensors_header.read(out / "tiny.safetensors")
    assert sum(tensor.bytes for tensor in written.tensors.values()) == told.data_bytes
    whole, half = load_file(out / "tiny.safetensors"), load_file(out / "tiny-step00000001.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in whole.values())
    moved = [key for key in whole if not torch.equal(whole[key], half[key])]
    assert {key.split("_")[1] for key in moved} == {"te", "unet"}
    (out / "tiny-step00000001-state").rename(tmp_path / "middle-state")
    assert train(make_config(**options, resume=str(tmp_path / "middle-state"))).status == "finished"
    again = load_file(out / "tiny.safetensors")
    assert all(torch.equal(whole[key], again[key]) for key in whole)
