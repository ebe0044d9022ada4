"""Files of LoRAs as a training takes them: put into the model before it, or as what it starts from."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from torch import nn

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.config.arguments.presets import PRESETS
from kohyakit.errors import ConfigError
from kohyakit.lora.convert import convert
from kohyakit.models import load_model
from kohyakit.networks.file import save_lora
from kohyakit.networks.lycoris import LycorisNetwork
from kohyakit.networks.merged import merge, read_for
from kohyakit.networks.methods.lora import LoraNetwork, LoraSettings

KINDS = {
    "lora": {}, "tucker": {"tucker": True}, "loha": {"algo": "loha"}, "loha tucker": {"algo": "loha", "tucker": True},
    "lokr": {"algo": "lokr"}, "lokr both": {"algo": "lokr", "decompose_both": True, "dim": 1},
    "lokr whole": {"algo": "lokr", "full_matrix": True}, "full and norms": {"algo": "full", "norms": True},
    "ia3": {"algo": "ia3"}, "ia3 on inputs": {"algo": "ia3", "on_input": True}, "dora": {"dora": True},
    "dora on inputs": {"dora": True, "dora_on_output": False}, "rs": {"rs_lora": True}, "scalar": {"scalar": True},
    "glora": {"algo": "glora"}, "oft": {"algo": "diag-oft"}, "boft": {"algo": "boft"},
    "tlora": {"algo": "tlora"},
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_model(tiny_model)


def filled(network):
    torch.manual_seed(3)
    for name, parameter in network.named_parameters():
        nn.init.normal_(parameter, 1.0 if name.endswith("dora_scale") else 0.05, 0.1)
    return network.eval()


def answers(model) -> torch.Tensor:
    torch.manual_seed(5)
    noisy, tokens = torch.randn(2, 4, 8, 8), torch.arange(154).reshape(2, 77)
    return model.unet(noisy, torch.tensor([3, 700]), model.text_encoder(tokens)).sample


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_merged_it_is_the_model_with_the_network_beside_it(model, tmp_path, kind):
    asked = {"dim": 2, "conv_dim": 2, "alpha": 3.0, "conv_alpha": 3.0, **KINDS[kind]}
    settings = AdapterSettings(preset=PRESETS["full"], **asked)
    other = deepcopy(model)
    network = filled(LycorisNetwork.over(model, settings, None))
    with torch.no_grad():
        plain = answers(model)
        network.attach()
        beside = answers(model)
        network.detach()
        save_lora(tmp_path / "a.safetensors", network.file_state(), None, {})
        count = merge(other, read_for(other, tmp_path / "a.safetensors"), 1.0, lambda _: torch.float32)
        merged = answers(other)
    assert count == len(network.unet_names) + len(network.text_encoder_names)
    assert (beside - plain).abs().max() > 1e-3
    assert torch.allclose(merged, beside, atol=1e-3 * float((beside - plain).abs().max()))


def test_a_strength_is_a_factor_on_what_is_added(model, tmp_path):
    network = filled(LoraNetwork.over(model, LoraSettings(dim=2, alpha=1), None))
    save_lora(tmp_path / "a.safetensors", network.file_state(), None, {})
    other = deepcopy(model)
    merge(other, read_for(other, tmp_path / "a.safetensors"), -0.5, lambda _: torch.float64)
    name = "mid_block.attentions.0.proj_in"
    layer = network.get_submodule(f"lora_unet_{name.replace('.', '_')}")
    up, down = layer.lora_up.weight.flatten(1), layer.lora_down.weight.flatten(1)
    wanted = model.unet.get_submodule(name).weight - 0.5 * 0.5 * (up @ down)[..., None, None]
    assert torch.allclose(other.unet.get_submodule(name).weight.float(), wanted, atol=1e-7)


@pytest.fixture(scope="module")
def kohya(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "kohya.safetensors"
    save_lora(path, filled(LoraNetwork.over(model, LoraSettings(dim=2, alpha=3), None)).file_state(), None, {})
    return path


@pytest.mark.parametrize("layout", ["diffusers", "peft", "pt", "ckpt", "linear"])
def test_a_start_is_the_same_from_any_layout(model, kohya, tmp_path, layout):
    state = load_file(kohya)
    path = tmp_path / f"other.{layout if layout in ('pt', 'ckpt') else 'safetensors'}"
    if layout in ("pt", "ckpt"):
        torch.save({"state_dict": state}, path)
    elif layout == "linear":  # 1x1 convolutions written as Linear layers
        save_file({key: tensor.flatten(1) if tensor.ndim == 4 else tensor for key, tensor in state.items()}, path)
    else:
        path = tmp_path / layout if layout == "peft" else path
        convert(kohya, path, layout)
    network = LoraNetwork.over(model, LoraSettings(dim=2, alpha=3), None)
    network.load_kohya_state(read_for(model, path).tensors(), str(path))
    own = network.state_dict()
    assert all(torch.equal(own[key], tensor) for key, tensor in state.items())
    assert set(own) == set(state)


def test_a_peft_adapter_of_rank_stabilised_strength(kohya, model, tmp_path):
    """use_rslora: alpha over the root of the rank, which Kohya writes as a larger alpha."""
    convert(kohya, tmp_path / "peft", "peft")
    config = tmp_path / "peft/unet/adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"use_rslora": false', '"use_rslora": true'), "utf-8")
    found = read_for(model, tmp_path / "peft").tensors()
    assert float(found["lora_unet_mid_block_attentions_0_proj_in.alpha"]) == pytest.approx(3 * 2**0.5)
    assert float(found["lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"]) == 3


def test_a_lora_of_another_model_is_refused_in_one_sentence(model, tmp_path):
    save_file({"lora_unet_x.diff": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="holds none of this model's layers"):
        merge(model, read_for(model, tmp_path / "a.safetensors"), 1.0, lambda _: torch.float32)
    name = "lora_unet_mid_block_attentions_0_proj_in"
    save_file({f"{name}.diff": torch.zeros(2, 2)}, tmp_path / "b.safetensors")
    with pytest.raises(ConfigError, match="holds layers of other sizes than this model's"):
        merge(model, read_for(model, tmp_path / "b.safetensors"), 1.0, lambda _: torch.float32)
    save_file({f"{name}.{part}_layer.weight": torch.zeros(2, 2) for part in "pq"}, tmp_path / "c.safetensors")
    with pytest.raises(ConfigError, match="of a kind that is not built here"):
        merge(model, read_for(model, tmp_path / "c.safetensors"), 1.0, lambda _: torch.float32)
