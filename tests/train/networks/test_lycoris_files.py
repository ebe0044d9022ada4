"""Networks of LyCORIS' kinds made as a file has them or as a preset file asks, and those of sd-scripts beside them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from kohyakit.config.arguments.adapters import AdapterSettings, adapter_settings
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.models import load_model
from kohyakit.models.stable_diffusion import architecture_of
from kohyakit.networks.lycoris import LycorisNetwork
from kohyakit.networks.lycoris import build as build_lycoris
from kohyakit.networks.methods.lora import LoraSettings
from kohyakit.networks.methods.lora_fa import LoraFaNetwork
from kohyakit.planning.size.architecture import SD1
from kohyakit.planning.size.held import held_settings
from kohyakit.planning.size.layers import targets as all_targets
from kohyakit.planning.size.targets import adapters_size, misfits, settings_for, targets
from kohyakit.train.step.rng import KohyakitOrder
from tests.train.networks.made import config_of, made, strong

FILES = {
    "lora": ("lora", "use_tucker=True", "conv_dim=3"), "loha": ("loha", "use_tucker=True"), "full": ("full",),
    "lokr": ("lokr", "factor=4", "decompose_both=True"), "lokr whole": ("lokr", "full_matrix=True"),
    "ia3": ("ia3", "train_on_input=True", "train_norm=True"), "glora": ("glora",), "boft": ("boft", "rescaled=True"),
    "diag-oft": ("diag-oft", "constraint=0.01", "rescaled=True"), "dora": ("lora", "dora_wd=True", "train_norm=True"),
    "tlora": ("tlora",), "dora in": ("loha", "dora_wd=True", "wd_on_output=False"),
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded(demo_model):
    return load_model(demo_model)


@pytest.mark.parametrize("case", FILES)
def test_with_dim_from_weights_each_layer_is_as_the_file_has_it(loaded, case):
    """The same layers, strengths and updates, whatever rank and arguments are asked for now."""
    config = config_of(*FILES[case], "preset=attn-mlp" if case != "lora" else "preset=full")
    network = LycorisNetwork.over(loaded, adapter_settings(config.network), strong)
    state = {key: tensor.detach() for key, tensor in network.file_state().items()}
    asked = TrainConfig().with_values(
        network_module="lycoris.kohya", network_dim=77, network_args=("algo=lokr",), dim_from_weights=True
    )
    again = build_lycoris(loaded, asked.network, fill=KohyakitOrder(1).fill, weights=state, as_sd_scripts=False)
    again.load_kohya_state(state, "a.safetensors")
    assert again.file_state().keys() == state.keys()
    for (name, a), (_, b) in zip(network.layers(), again.layers(), strict=True):
        assert torch.allclose(a.weight_update(), b.weight_update(), atol=1e-6), name
    header = {key: tuple(tensor.shape) for key, tensor in state.items()}
    held = held_settings(AdapterSettings(), loaded.family.targets(loaded), header, {})
    told = adapters_size(architecture_of(loaded), held, asked.network, "F32")
    assert (told.tensors, told.data_bytes) == (len(state), sum(t.numel() * 4 for t in state.values()))


def test_a_file_of_another_model_is_refused_with_dim_from_weights(loaded):
    config = config_of("loha", "preset=attn-only")
    shapes = {key: tuple(t.shape) for key, t in
              LycorisNetwork.over(loaded, adapter_settings(config.network), None).file_state().items()}  # fmt: skip
    name = next(iter(shapes)).partition(".")[0]
    for other, what in (
        ({"lora_unet_elsewhere.hada_w1_a": (2, 2)}, r"does not have \(1, such as lora_unet_elsewhere\)"),
        ({f"{name}.hada_w1_a": (7, 2)}, rf"of other sizes than this model's \(1, such as {name}\)"),
    ):
        with pytest.raises(ConfigError, match=what):
            held_settings(AdapterSettings(), loaded.family.targets(loaded), shapes | other, {})


PRESET = """
enable_conv = false
unet_target_module = ["Transformer2DModel", "ResnetBlock2D"]
unet_target_name = ["conv_in", "time_embedding.*"]
text_encoder_target_module = ["CLIPMLP"]
[module_algo_map.FeedForward]
algo = "lokr"
factor = 4
[module_algo_map.CrossAttention]
dim = 3
alpha = 6
[module_algo_map.ResnetBlock2D]
dim = 2
[name_algo_map."time_embedding.*"]
algo = "ia3"
train_on_input = true
[name_algo_map.conv_in]
algo = "full"
dim = 1
"""


def test_a_preset_file_says_which_layers_and_what_of_each(loaded, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(PRESET, encoding="utf-8")
    settings = adapter_settings(config_of("loha", f"preset={file}").network)
    kinds = {
        target.path: (one := settings_for(target, settings)).algo + f" {one.dim} {one.alpha:g}"
        for target in targets(architecture_of(loaded), settings)
    }
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert kinds["conv_in"] == "full 1 1"
    assert kinds["time_embedding.linear_1"] == "ia3 2 1"
    assert kinds[f"{block}.attn1.to_q"] == "loha 3 6"
    assert kinds[f"{block}.ff.net.0.proj"] == "lokr 2 1"
    assert kinds["down_blocks.0.attentions.0.proj_in"] == "loha 2 1"
    assert kinds["down_blocks.0.resnets.0.conv1"] == "loha 2 1"  # enable_conv is off, but a rank is asked for
    assert "down_blocks.0.downsamplers.0.conv" not in kinds
    text = {path.partition("layers.0.")[2] for path in kinds if ".layers.0." in path}
    assert text == {"mlp.fc1", "mlp.fc2"}
    network = LycorisNetwork.over(loaded, settings, KohyakitOrder(1).fill)
    endings = {key.partition(".")[2] for key in network.file_state()}
    assert {"diff", "on_input", "lokr_w1", "hada_w1_a"} <= endings
    told = adapters_size(architecture_of(loaded), settings, config_of("loha").network, "F32")
    assert told.tensors == len(network.file_state())


def test_everything_wrong_with_a_preset_file_is_said_at_once(tmp_path):
    file = tmp_path / "bad.toml"
    text = 'enable_con = true\nunet_target_name = ["("]\nuse_fnmatch = false\n[module_algo_map]\nFeedForward = "lokr"\n'
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        adapter_settings(config_of("loha", f"preset={file}").network)
    assert [problem.what.split()[0] for problem in error.value.problems] == [
        "'enable_con'", "unet_target_name", "module_algo_map",
    ]  # fmt: skip
    assert {problem.where for problem in error.value.problems} == {"bad.toml"}


def test_blocks_that_no_layer_can_be_cut_into_are_said_with_ranks_that_can(demo_model):
    """BOFT needs an even size whose number of blocks is a power of two: of 320 outputs 10, 20, 40 …"""

    found = list(all_targets(SD1))
    small = adapter_settings(config_of("boft", "preset=attn-only").network)
    (problem,) = misfits(found, small)
    assert problem.name == "no_blocks"
    assert "set network_dim (and conv_dim) to 10, 11, 12" in problem.cure  # 768 takes 6, 1280 takes 10
    wide = TrainConfig().with_values(network_module="lycoris.kohya", network_dim=10, network_args=("algo=boft",))
    assert list(misfits(found, adapter_settings(wide.network))) == []
    oft = TrainConfig().with_values(network_module="networks.oft", network_dim=3)
    (problem,) = misfits(found, adapter_settings(oft.network))
    assert problem.cure.startswith("set network_dim (and conv_dim) to 1, 2, 4")


@pytest.mark.parametrize("native", [False, True])
def test_dylora_trains_one_group_of_ranks_a_step(native):
    adapter, _, x = made("dylora native" if native else "dylora", "linear", dim=6, group=2)
    adapter.train()
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        adapter.zero_grad()
        adapter(x).square().sum().backward()
        moved = [name for name, parameter in adapter.named_parameters() if parameter.grad is not None]
        seen.add(tuple(sorted(moved)))
    halves, groups = ("lora_A", "lora_B"), [(0, 1), (2, 3), (4, 5)]
    if not native:
        halves, groups = ("down_list", "up_list"), [(0,), (1,), (2,)]
    assert seen == {tuple(f"{half}.{n}" for half in halves for n in group) for group in groups}


def test_dyloras_file_has_the_strength_that_was_trained():
    """LyCORIS trains at alpha over the number of groups, and its file is drawn at alpha over rank: 4 times weaker."""
    adapter, _, _ = made("dylora", "linear", dim=8, alpha=4.0, group=4)
    state = adapter.file_state()
    strength = float(state["alpha"]) / 8
    assert strength == 4.0 / 2
    theirs, _, _ = made("dylora", "linear", dim=8, alpha=4.0, group=4, as_lycoris=True)
    assert float(theirs.file_state()["alpha"]) == 4.0
    plain = state["lora_up.weight"] @ state["lora_down.weight"] * strength
    assert torch.allclose(adapter.weight_update(), plain, atol=1e-5)
    assert torch.allclose(theirs.weight_update(), plain, atol=1e-5)


def test_networks_oft_adapts_attention_and_more_where_it_is_told(loaded):
    def paths(*args: str) -> set[str]:
        config = TrainConfig().with_values(network_module="networks.oft", network_dim=2, network_args=args)
        network = LycorisNetwork.over(loaded, adapter_settings(config.network), None)
        assert not network.text_encoder_names
        return set(network.unet_names)

    plain, linear, convolved = paths(), paths("enable_all_linear=True"), paths("enable_conv=True")
    assert all(name.startswith("oft_unet_") and "_attn" in name for name in plain)
    assert {name for name in linear - plain if "_ff_" in name or "proj_" in name} == linear - plain != set()
    assert {name for name in convolved - plain if "resnets" in name or "samplers" in name} == convolved - plain != set()
    assert paths("enable_all_linear=False") == plain


def test_lora_fa_leaves_down_as_it_was_drawn(loaded):
    network = LoraFaNetwork.over(loaded, LoraSettings(dim=4), KohyakitOrder(1).fill)
    groups, names = network.parameter_groups(0.1, 0.1)
    assert names == ["textencoder", "unet"]
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    by_name = {name: id(parameter) in trained for name, parameter in network.named_parameters()}
    assert {name.endswith("lora_up.weight") for name, is_trained in by_name.items() if is_trained} == {True}
    assert sum(by_name.values()) * 2 == len(by_name)
    downs = torch.cat([t.flatten() * ((t.shape[1] + 4) / 2) ** 0.5 for n, t in network.named_parameters()
                       if "lora_down" in n])  # fmt: skip
    assert float(downs.detach().std()) == pytest.approx(1, abs=0.02)  # std sqrt(2 / (inputs + rank))
