"""The LoRA network: what it adds, how it drops out, which layers it has, what a file of it holds."""

from __future__ import annotations

import json
import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from kohyakit.errors import ConfigError
from kohyakit.models import build_meta, load_model
from kohyakit.networks.methods.lora import LoraLayer, LoraNetwork, LoraSettings, sizes_in
from kohyakit.planning.size.layers import Layer, Target


def _layer(module: nn.Module, **settings) -> LoraLayer:
    made = LoraSettings(dim=4, alpha=2, **settings)
    lora = LoraLayer(module, made.dim, made.alpha, made)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in (lora.lora_down.weight, lora.lora_up.weight):
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return lora


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Linear(6, 5), torch.randn(2, 3, 6)),
        (nn.Conv2d(6, 5, 1), torch.randn(2, 6, 7, 7)),
        (nn.Conv2d(6, 5, 3, stride=2, padding=1), torch.randn(2, 6, 8, 8)),
    ],
    ids=["linear", "conv 1x1", "conv 3x3"],
)
def test_attached_it_is_the_layer_with_its_weight_moved(module, x):
    lora = _layer(module)
    plain = module(x)
    lora.attach()
    beside = module(x)
    lora.detach()
    assert torch.equal(module(x), plain)
    with torch.no_grad():
        module.weight += lora.weight_update()
    assert torch.allclose(module(x), beside, atol=1e-5)
    assert not torch.allclose(plain, beside, atol=1e-2)


def test_alpha_over_dim_is_the_scale_and_zero_means_dim():
    linear = nn.Linear(3, 3)
    assert LoraLayer(linear, 8, 4, LoraSettings()).scale == 0.5
    assert LoraLayer(linear, 8, 0, LoraSettings()).scale == 1


def test_dropouts_act_only_in_training_and_keep_the_mean():
    x = torch.randn(1, 1, 6)
    for name in ("dropout", "rank_dropout", "module_dropout"):
        lora = _layer(nn.Linear(6, 5), **{name: 0.5})
        lora.eval()
        exact = lora(x)
        lora.train()
        torch.manual_seed(0)
        drawn = [lora(x) for _ in range(4000)]
        if name == "module_dropout":
            kept = [y for y in drawn if y is not None]
            assert len(kept) / len(drawn) == pytest.approx(0.5, abs=0.05)
            assert all(torch.equal(y, exact) for y in kept)
        else:
            assert torch.allclose(torch.stack(drawn).mean(0), exact, atol=0.15 * exact.abs().max().item())
            assert not torch.equal(drawn[0], exact) or not torch.equal(drawn[1], exact)


def test_limiting_norms_shrinks_only_what_is_too_large():
    model = _Tiny()
    network = _network(LoraSettings(dim=2, alpha=2), model)
    network.attach()
    sizes = {name: layer.weight_update().norm().item() for name, layer in network.layers()}
    limit = sum(sizes.values()) / 2
    shrunk, _, largest = network.limit_norms(limit)
    assert shrunk == sum(size > limit for size in sizes.values()) >= 1
    assert largest == pytest.approx(limit, rel=1e-4)


class _Tiny:
    """Two linear layers, and a convolution where those are asked for too."""

    def __init__(self) -> None:
        self.small, self.large, self.conv = nn.Linear(2, 2), nn.Linear(40, 40), nn.Conv2d(3, 4, 3)

    def layers(self, preset):
        for name, inputs, outputs, kernel in (("small", 2, 2, 0), ("large", 40, 40, 0), ("conv", 3, 4, 3)):
            if not kernel or preset.convolutions:
                yield Target(f"lora_unet_{name}", 0, name, Layer(name, inputs, outputs, kernel)), getattr(self, name)


def _network(settings: LoraSettings, model: _Tiny | None = None, sizes: dict | None = None) -> LoraNetwork:
    return LoraNetwork.over(model or _Tiny(), settings, _fill, sizes)


def _fill(name, layer):
    down, up = layer.lora_down.weight, layer.lora_up.weight
    with torch.no_grad():
        down.fill_(1 / math.sqrt(down.shape[1]))
        up.fill_(1.0)


def test_groups_leave_out_what_has_no_rate_and_split_for_loraplus():
    network = _network(LoraSettings())
    network.attach()
    assert network.parameter_groups(0.1, None) == ([], [])
    groups, names = network.parameter_groups(0.1, 0.01, None, 16)
    assert names == ["unet", "unet plus"]
    assert [group["lr"] for group in groups] == [0.01, 0.16]
    assert [len(group["params"]) for group in groups] == [2, 2]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("full_r16_bf16", LoraSettings(16, 16)),
        ("full_r128_fp16", LoraSettings(128, 128)),
        ("full_r16_locon", LoraSettings(16, 16, conv_dim=8, conv_alpha=4)),
    ],
)
def test_the_true_model_has_kohyas_keys_and_shapes(goldens, case, settings):
    recorded = json.loads((goldens / "training" / case / "keys.json").read_text(encoding="utf-8"))
    (keys,) = recorded.values()
    model = build_meta("sd1")
    state = LoraNetwork.over(model, settings, None).state_dict()
    assert set(state) == set(keys)
    shapes = {key: list(tensor.shape) for key, tensor in state.items()}
    assert shapes == {key: shape for key, (_, shape) in keys.items()}


@pytest.mark.shared
@pytest.mark.parametrize(("case", "convolutions"), [("basic", None), ("locon", 4)])
def test_layers_come_in_sd_scripts_order_of_creation(goldens, case, convolutions):
    from kohyakit.models import load_model

    rows = json.loads((goldens / "training" / case / "lora_keys_creation_order.json").read_text(encoding="utf-8"))
    expected = [row["key"].removesuffix(".alpha") for row in rows if row["key"].endswith(".alpha")]
    model = load_model(goldens / "training" / "sd15-tiny")
    network = LoraNetwork.over(model, LoraSettings(conv_dim=convolutions), None)
    assert [name for name, _ in network.layers()] == expected


def test_rank_and_alpha_of_each_layer_come_from_the_file():
    """A file of two layers, one without alpha: those two are made, and alpha / rank is 3 / 5 and 2 / 2."""
    whole = dict(_network(LoraSettings(dim=2, conv_dim=2)).layers())
    linear, conv = (next(n for n, x in whole.items() if x.lora_down.weight.ndim == d) for d in (2, 4))
    state = {
        f"{linear}.lora_down.weight": torch.ones(5, *whole[linear].lora_down.weight.shape[1:]),
        f"{linear}.lora_up.weight": torch.ones(whole[linear].lora_up.weight.shape[0], 5),
        f"{linear}.alpha": torch.tensor(3.0, dtype=torch.bfloat16),
        f"{conv}.lora_down.weight": torch.ones_like(whole[conv].lora_down.weight),
        f"{conv}.lora_up.weight": torch.ones_like(whole[conv].lora_up.weight),
    }
    network = _network(LoraSettings(dim=64), sizes=sizes_in(state))
    network.load_kohya_state(state, "old.safetensors")
    assert {name: layer.scale for name, layer in network.layers()} == pytest.approx({linear: 0.6, conv: 1.0})
    written = network.state_dict()
    assert set(written) == {*state, f"{conv}.alpha"}
    assert (float(written[f"{linear}.alpha"]), float(written[f"{conv}.alpha"])) == (3, 2)


def test_a_half_of_another_model_is_not_left_out_in_silence(tiny_model):
    """An SDXL file with diffusers' names for its U-Net fits by its text encoder alone."""
    model = load_model(tiny_model)
    whole = LoraNetwork.over(model, LoraSettings(dim=2), _fill)
    sizes = sizes_in(whole.state_dict())
    assert [name for name, _ in LoraNetwork.over(model, LoraSettings(), _fill, sizes).layers()] == list(sizes)
    text = {name: size for name, size in sizes.items() if name.startswith("lora_te")}
    assert LoraNetwork.over(model, LoraSettings(), _fill, text).unet_names == []
    with pytest.raises(ConfigError, match=r"layers that this model does not have \(1, such as lora_unet_elsewhere\)"):
        LoraNetwork.over(model, LoraSettings(), _fill, text | {"lora_unet_elsewhere": (2, 1.0)})


def test_an_alpha_that_was_not_trained_with_is_not_written():
    """sd-scripts writes the file's alpha beside weights that it trained at another strength."""
    theirs = _network(LoraSettings(dim=2, alpha=1)).state_dict()
    for alphas, written in ((False, 2.0), (True, 1.0)):
        network = _network(LoraSettings(dim=2, alpha=2))
        network.load_kohya_state(theirs, "old.safetensors", alphas=alphas)
        assert {float(t) for name, t in network.state_dict().items() if name.endswith(".alpha")} == {written}
        assert all(layer.scale == 1 for _, layer in network.layers())


def test_weights_of_another_rank_are_refused_in_one_sentence():
    small = _network(LoraSettings(dim=2))
    large = _network(LoraSettings(dim=4))
    with pytest.raises(ConfigError, match="network_dim"):
        large.load_kohya_state(small.state_dict(), "old.safetensors")
    with pytest.raises(ConfigError, match="none of this network's layers"):
        large.load_kohya_state({"something": torch.zeros(1)}, "other.safetensors")
