"""LyCORIS' networks: what each adds, from formulas worked out here, which layers and tensors it has, what it costs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from kohyakit.config.arguments.adapters import AdapterSettings, adapter_settings
from kohyakit.config.arguments.network_modules import MODULE_ARGS, NETWORK_ARG_SPECS
from kohyakit.config.arguments.presets import PRESETS
from kohyakit.config.rules.not_in_process import unsupported
from kohyakit.config.train import TrainConfig
from kohyakit.models import load_model
from kohyakit.models.stable_diffusion import architecture_of
from kohyakit.networks.base import Adapter
from kohyakit.networks.file import to_file_tensors
from kohyakit.networks.lycoris import LycorisNetwork
from kohyakit.networks.methods.norm import NormLayer
from kohyakit.networks.weights.updates import method_of
from kohyakit.planning.make import make_plan
from kohyakit.planning.size.layers import NORM, Layer, Target
from kohyakit.planning.size.shapes import factors
from kohyakit.planning.size.targets import targets, tensors_of
from kohyakit.registry.families import MODELS
from kohyakit.registry.networks import ALGORITHMS, NETWORKS, trained_here
from kohyakit.train.step.rng import KohyakitOrder
from kohyakit.train.step.rng_sd_scripts import SdScriptsOrder
from tests.train.networks.made import IN, KINDS, NEEDS, OUT, PLACES, config_of, made, settings_of, strong


@pytest.fixture(scope="module")
def tiny(tiny_model):
    """Of each kind of layer there is one; no test may change it."""
    return load_model(tiny_model)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_attached_it_is_the_layer_with_its_weight_moved(kind, place):
    adapter, layer, x = made(kind, place)
    plain = layer(x)
    adapter.attach()
    beside = adapter.eval() and layer(x)
    adapter.detach()
    assert torch.equal(layer(x), plain)
    with torch.no_grad():
        layer.weight += adapter.weight_update()
        if kind == "full":
            layer.bias += adapter.diff_b
    assert torch.allclose(layer(x), beside, atol=1e-4)
    assert not torch.allclose(plain, beside, atol=1e-2)


def by_hand(kind: str, t: dict[str, torch.Tensor], base: torch.Tensor) -> torch.Tensor:
    """The update from what a file holds, one number at a time where a product may be misread."""
    shape = base.shape
    if kind == "full":
        return t["diff"]
    if kind.startswith("ia3"):
        factor = t["weight"].flatten()
        return torch.stack([row * factor[i] for i, row in enumerate(base)]) if not t["on_input"] else torch.stack(
            [base[:, i] * factor[i] for i in range(shape[1])], dim=1
        )  # fmt: skip
    if "lambda_layer" in t:
        u, s, v = torch.linalg.svd(base.flatten(1), full_matrices=False)
        own = range(len(s) - 2, len(s)) if "last" in kind else range(2)
        first = sum(s[i] * torch.outer(u[:, i], v[i]) for i in own)
        p, q = t["p_layer.weight"].flatten(1), t["q_layer.weight"].flatten(1)
        now = sum(t["lambda_layer"][0, r] * torch.outer(p[:, r], q[r]) for r in range(2))
        return (now - first).reshape(shape) * t["alpha"] / 2
    if "oft_blocks" in t:
        return turned(kind, t, base) * t.get("rescale", torch.ones(())) - base
    if "a1.weight" in t:
        a = t["a1.weight"].flatten(1) @ t["a2.weight"].flatten(1)
        b = (t["b1.weight"].flatten(1) @ t["b2.weight"].flatten(1)).reshape(shape)
        rank = t["a2.weight"].shape[0]
        return (b + sum(base[:, [i]] * a[i].view(1, -1, *[1] * (base.ndim - 2)) for i in range(shape[1]))) * (
            t["alpha"] / rank
        )
    if "lora_up.weight" in t:
        rank = t["lora_up.weight"].shape[1]
        up = t["lora_up.weight"].flatten(1)
        if "lora_mid.weight" in t:
            down = t["lora_down.weight"].flatten(1)
            found = sum(
                torch.outer(up[:, i], down[j])[:, :, None, None] * t["lora_mid.weight"][i, j]
                for i in range(rank) for j in range(rank)
            )  # fmt: skip
        else:
            found = sum(torch.outer(up[:, r], t["lora_down.weight"][r].flatten()) for r in range(rank)).reshape(shape)
        return found * t["alpha"] / rank
    if "hada_w1_a" in t:
        halves = []
        for n in "12":
            a, b = t[f"hada_w{n}_a"], t[f"hada_w{n}_b"]
            if f"hada_t{n}" in t:
                halves.append(sum(
                    torch.outer(a[i], b[j])[:, :, None, None] * t[f"hada_t{n}"][i, j]
                    for i in range(len(a)) for j in range(len(b))
                ))  # fmt: skip
            else:
                halves.append((a @ b).reshape(shape))
        return halves[0] * halves[1] * t["alpha"] / t["hada_w1_b"].shape[0]
    return kronecker(t, shape)


def turned(kind: str, t: dict[str, torch.Tensor], base: torch.Tensor) -> torch.Tensor:
    """Rows of the weight turned among each other, as one large matrix of rotations a round."""
    blocks = t["oft_blocks"] if t["oft_blocks"].ndim == 4 else t["oft_blocks"][None]
    odd = blocks - blocks.transpose(-1, -2)
    limit, norm = float(t["alpha"]) * len(base), float(odd.norm())
    if limit and norm > limit:
        odd = odd * (limit / norm)
    rounds, _, size, _ = blocks.shape
    one = torch.eye(size)
    found = base.flatten(1)
    for number in range(rounds):
        turn = torch.block_diag(*((one + q) @ torch.inverse(one - q) for q in odd[number]))
        if "boft" in kind:
            places = butterflied(len(base), 2**number * size // 2)
            found = found.index_copy(0, torch.tensor(places), turn @ found[places])
        else:
            found = turn.T @ found
    return found.reshape(base.shape)


def butterflied(count: int, apart: int) -> list[int]:
    """Row 0 beside row `apart`, row 1 beside row 1 + apart, and so on through each stretch of twice as many."""
    return [
        start + place + half * apart
        for start in range(0, count, 2 * apart) for place in range(apart) for half in (0, 1)
    ]  # fmt: skip


def kronecker(t: dict[str, torch.Tensor], shape: torch.Size) -> torch.Tensor:
    """Block (i, j) of the update is w1[i, j] times w2."""
    first = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    rank = next((len(t[name]) for name in ("lokr_w1_b", "lokr_w2_b") if name in t), None)
    if "lokr_w2" in t:
        second = t["lokr_w2"]
    elif "lokr_t2" in t:
        second = torch.einsum("ijkl,ip,jr->prkl", t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    else:
        second = (t["lokr_w2_a"] @ t["lokr_w2_b"]).reshape(shape[0] // first.shape[0], -1, *shape[2:])
    rows = [torch.cat([value * second for value in row], dim=1) for row in first]
    return torch.cat(rows) * (1 if rank is None else t["alpha"] / rank)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "dora" not in kind])
def test_a_file_of_it_means_what_was_trained(kind, place):
    """The strengths too: `scalar` is in the tensors, and alpha / rank is the scale, also of rank-stabilised ones."""
    adapter, layer, _ = made(kind, place)
    state = to_file_tensors(adapter.file_state(), None)
    update = adapter.weight_update().detach()
    assert torch.allclose(by_hand(kind, state, layer.weight), update, atol=1e-5)
    method = method_of(state)
    assert method.name == {"dylora": "lora", "diag-oft": "oft", "boft": "oft"}.get(algo := KINDS[kind]["algo"], algo)
    if method.update is not None:
        assert torch.allclose(method.update(state).reshape(update.shape), update, atol=1e-5)


@pytest.mark.parametrize("on_output", [True, False])
def test_dora_gives_each_row_or_column_its_own_length(on_output):
    adapter, layer, _ = made("dora", "conv 3x3", dora_on_output=on_output)
    moved = layer.weight + adapter.weight_update().detach()
    lengths = [moved.select(0 if on_output else 1, i).norm().item() for i in range(OUT if on_output else IN)]
    assert lengths == pytest.approx(adapter.dora_scale.flatten().abs().tolist(), rel=1e-4)
    fresh = ALGORITHMS.load("lora")(layer, Target("x", 0, "x", Layer("x", IN, OUT, 3)), adapter.settings)
    KohyakitOrder(1).fill("x", fresh)
    assert torch.allclose(fresh.weight_update(), torch.zeros_like(layer.weight), atol=1e-6)


@pytest.mark.parametrize("module", [nn.LayerNorm(8), nn.GroupNorm(2, 8)], ids=["layer", "group"])
def test_a_norm_is_moved_in_weight_and_bias(module):
    norm = NormLayer(module, Target("x", 0, "x.norm", Layer("x.norm", 8, 8, NORM)), settings_of())
    nn.init.normal_(norm.w_norm)
    nn.init.normal_(norm.b_norm)
    x = torch.randn(2, 8, 8)
    norm.attach()
    beside = module(x)
    norm.detach()
    with torch.no_grad():
        module.weight += norm.w_norm
        module.bias += norm.b_norm
    assert torch.allclose(module(x), beside, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "factor", "pair"),
    [  # from the table in LyCORIS' own documentation of LoKr, and by hand
        (127, -1, (1, 127)), (128, -1, (8, 16)), (128, 2, (2, 64)), (128, 4, (4, 32)), (128, 16, (8, 16)),
        (250, -1, (10, 25)), (250, 4, (2, 125)), (250, 8, (5, 50)), (250, 16, (10, 25)), (360, -1, (18, 20)),
        (360, 8, (8, 45)), (512, -1, (16, 32)), (1024, -1, (32, 32)), (1024, 16, (16, 64)), (320, 0, (1, 320)),
    ],
)  # fmt: skip
def test_factors_of_lokr(length, factor, pair):
    assert factors(length, factor) == pair


def shapes(algo: str, kernel: int = 0, **values) -> dict[str, tuple[int, ...]]:
    target = Target("x", 0, "x.to_out", Layer("x.to_out", 320, 640, kernel))
    return tensors_of(target, settings_of(algo=algo, dim=8, **values))


def test_shapes_of_lokr_by_rank_and_factor():
    """320 = 16 x 20 and 640 = 20 x 32: a rank of 16 is half of 32, from which on the large factor is whole."""
    assert shapes("lokr") == {"alpha": (), "lokr_w1": (20, 16), "lokr_w2_a": (32, 8), "lokr_w2_b": (8, 20)}
    target = Target("x", 0, "x", Layer("x", 320, 640))
    assert "lokr_w2" in tensors_of(target, settings_of(algo="lokr", dim=16))
    assert "lokr_w2_a" in tensors_of(target, settings_of(algo="lokr", dim=15))
    both = shapes("lokr", decompose_both=True)
    assert (both["lokr_w1_a"], both["lokr_w1_b"]) == ((20, 8), (8, 16))
    assert shapes("lokr", unbalanced=True)["lokr_w1"] == (32, 16)
    assert shapes("lokr", factor=8) == {"alpha": (), "lokr_w1": (8, 8), "lokr_w2_a": (80, 8), "lokr_w2_b": (8, 40)}
    assert shapes("lokr", kernel=3, full_matrix=True)["lokr_w2"] == (32, 20, 3, 3)
    assert shapes("lokr", kernel=3)["lokr_w2_b"] == (8, 180)
    assert shapes("lokr", kernel=3, tucker=True)["lokr_t2"] == (8, 8, 3, 3)


SIZES = {
    "loha": ("loha",), "loha tucker": ("loha", "use_tucker=True", "conv_dim=3"), "lokr": ("lokr", "factor=4"),
    "lokr both": ("lokr", "decompose_both=True"), "locon": ("locon", "use_tucker=True"), "full": ("full",),
    "ia3": ("ia3", "preset=ia3"), "norms": ("loha", "train_norm=True", "preset=attn-mlp"),
    "dora": ("lora", "dora_wd=True", "preset=full-lin"), "attention": ("lora", "preset=attn-only"),
    "dylora": ("dylora", "block_size=2"), "glora": ("glora",), "oft": ("diag-oft", "rescaled=True"),
    "boft": ("boft", "conv_dim=4"), "tlora": ("tlora", "conv_dim=3"),
    "no convolutions": ("loha", "conv_dim=0"), "blocks": ("lokr", "preset=unet-convblock-only"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", SIZES)
def test_the_size_told_before_is_the_files(tiny_model, tiny, case):
    from safetensors.torch import save

    config = config_of(*SIZES[case], pretrained_model_name_or_path=str(tiny_model), save_precision="fp16")
    told = make_plan(config).lora
    network = LycorisNetwork.over(tiny, adapter_settings(config.network), KohyakitOrder(1).fill)
    state = to_file_tensors(network.file_state(), torch.float16)
    assert told.file_bytes() == len(save(state))
    assert told.tensors == len(state) > 0


def test_the_presets_name_the_layers_of_the_model(demo_model):
    """Every Linear and convolution that the model has, against the list that is made without it."""
    model = load_model(demo_model)
    own = {name for name, module in model.unet.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    architecture = architecture_of(model)

    def found(preset: str, **values) -> set[str]:
        made = targets(architecture, AdapterSettings(preset=PRESETS[preset], **values))
        return {target.path for target in made if not target.part}

    assert found("full") == own
    large = {name for name in own if getattr(model.unet.get_submodule(name), "kernel_size", (1,))[0] > 1}
    assert found("full", conv_dim=0) == own - large
    assert found("attn-mlp") == {name for name in own if ".attentions." in name}
    assert found("attn-only") == {name for name in own if ".attn1." in name or ".attn2." in name}
    assert found("unet-convblock-only") == {n for n in own if "attentions" not in n and "time_embedding" not in n}
    assert found("ia3") == {name for name in own if name.endswith(("to_k", "to_v", "ff.net.2"))}
    norms = {name for name, module in model.unet.named_modules() if isinstance(module, (nn.LayerNorm, nn.GroupNorm))}
    assert found("full", norms=True) - own == norms - {"conv_norm_out"}


def test_sdxl_has_no_outer_layers_and_the_original_names():
    from kohyakit.planning.size.architecture import SDXL

    names = {target.name for target in targets(SDXL, AdapterSettings(norms=True))}
    assert {"lora_unet_input_blocks_1_0_in_layers_0", "lora_unet_output_blocks_8_0_skip_connection"} <= names
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_norm2" in names
    assert not any("conv_in" in name or "time_embed" in name for name in names)
    plain = {target.name for target in targets(SDXL, AdapterSettings(preset=PRESETS["attn-mlp"], conv_dim=0))}
    assert len(plain) == 722 + 72 + 192


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_loaded_back_it_is_the_same_bit_for_bit(tiny, algo):
    settings = adapter_settings(config_of(algo, "train_norm=True", *NEEDS.get(algo, ())).network)
    torch.manual_seed(2)
    network = LycorisNetwork.over(tiny, settings, strong)
    again = LycorisNetwork.over(tiny, settings, KohyakitOrder(1).fill)
    again.load_kohya_state(to_file_tensors(network.file_state(), None), "a.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_a_learnt_strength_is_one_after_loading_and_the_weights_carry_it(tiny):
    settings = adapter_settings(config_of("loha", "use_scalar=True", "preset=attn-only").network)
    network = LycorisNetwork.over(tiny, settings, strong)
    again = LycorisNetwork.over(tiny, settings, KohyakitOrder(1).fill)
    again.load_kohya_state(network.file_state(), "a.safetensors")
    for (_, a), (_, b) in zip(network.layers(), again.layers(), strict=True):
        assert float(b.scalar.detach()) == 1
        assert torch.allclose(a.weight_update(), b.weight_update(), atol=1e-6)


@pytest.mark.parametrize("algo", ["lora", "loha", "lokr"])
def test_a_norm_is_limited_whatever_the_method(tiny, algo):
    network = LycorisNetwork.over(tiny, adapter_settings(config_of(algo).network), strong)
    before = {name: float(layer.weight_update().detach().norm()) for name, layer in network.layers()}
    limit = sorted(before.values())[len(before) // 2]
    shrunk, _, largest = network.limit_norms(limit)
    assert shrunk == sum(norm > limit for norm in before.values())
    after = {name: float(layer.weight_update().detach().norm()) for name, layer in network.layers()}
    assert after == pytest.approx({name: min(norm, limit) for name, norm in before.items()}, rel=1e-3)
    assert largest == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize("name", ["use_tucker", "decompose_both", "full_matrix", "wd_on_output", "rs_lora", "dora_wd"])
def test_what_only_some_algorithms_take_is_said_for_the_others(name):
    default = name == "wd_on_output"  # the only one that is on unless it is switched off
    (problem,) = unsupported(config_of("ia3", f"{name}={not default}"))
    assert problem.what == f"algo=ia3 does not look at {name}"
    assert unsupported(config_of("ia3", f"{name}={default}")) == ()


def test_what_is_not_trained_here_is_refused_by_name():
    (problem,) = unsupported(config_of("abba"))
    assert (problem.name, problem.severity) == ("not_built_in", "error")
    assert "algo=abba" in problem.what
    (problem,) = unsupported(config_of("loha", "preset=my.toml"))
    assert "preset my.toml" in problem.what
    for name, module in (("full", "lycoris.kohya"), ("ia3", "lycoris.kohya"), ("loha", "networks.loha")):
        args = () if module == "networks.loha" else (f"algo={name}",)
        asked = TrainConfig().with_values(network_module=module, network_args=args, network_dropout=0.1)
        assert [(p.where, p.severity) for p in unsupported(asked)] == [("network_dropout", "warning")]
    assert [p.name for p in unsupported(config_of("loha", "dora_wd=True"))] == ["dora_axis"]
    assert unsupported(config_of("loha", "dora_wd=True", "wd_on_output=False")) == ()


# Another value than the default of every argument of LyCORIS; what it needs beside it to act.
SET = {
    "conv_dim": "0", "conv_alpha": "7", "module_dropout": "1.0", "rank_dropout": "0.5", "dropout": "0.5",
    "rank_dropout_scale": "True", "preset": "attn-mlp", "train_norm": "True", "use_tucker": "True", "use_cp": "True",
    "use_conv_cp": "True", "disable_conv_cp": "True", "use_scalar": "True", "dora_wd": "True", "wd_on_output": "False",
    "bypass_mode": "True", "rs_lora": "True", "factor": "2", "decompose_both": "True", "full_matrix": "True",
    "unbalanced_factorization": "True", "train_on_input": "True", "algo": "loha", "block_size": "2",
    "constraint": "0.0001", "rescaled": "True", "sig_type": "last", "min_rank": "2", "alpha_rank_scale": "2",
}  # fmt: skip
BESIDE = {
    "rank_dropout_scale": ("rank_dropout=0.5",), "disable_conv_cp": ("use_cp=True",), "wd_on_output": ("dora_wd=True",),
    "bypass_mode": ("dora_wd=True",), "unbalanced_factorization": ("factor=2",),
    "full_matrix": ("factor=1",), "alpha_rank_scale": ("min_rank=0",),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_argument_of_an_algorithm_acts_or_is_named(tiny, algo):
    """Set, it changes the tensors or what the layers make of an input, or `check` says that it is not looked at."""

    @cache
    def outcome(*args: str) -> dict[str, torch.Tensor]:
        settings = adapter_settings(config_of(algo, *args).network)
        torch.manual_seed(3)
        network = LycorisNetwork.over(tiny, settings, strong)
        found = dict(network.file_state())
        network.see(torch.tensor([500]))
        torch.manual_seed(3)
        for name, layer in network.layers():
            if name.endswith(("attn1_to_k", "resnets_0_conv1")):
                own = layer.layer
                shape = (1, own.in_channels, 6, 6) if isinstance(own, nn.Conv2d) else (1, 2, own.in_features)
                layer.attach()
                found[f"{name} drawn"] = own(torch.ones(shape))
                layer.detach()
        return found

    silent = []
    for name, value in SET.items():
        without_alpha = ("full", "ia3", "diag-oft", "boft")
        if name == "algo" or (name == "conv_alpha" and algo in without_alpha):
            continue
        beside = (*BESIDE.get(name, ()), *NEEDS.get(algo, ()))
        text = f"{name}={value}"
        if name not in ALGORITHMS[algo].arguments:
            assert any(name in p.what for p in unsupported(config_of(algo, text))), (algo, text)
            continue
        assert not any(f"look at {name}" in p.what for p in unsupported(config_of(algo, text)))
        plain, with_it = outcome(*beside), outcome(*beside, text)
        if plain.keys() == with_it.keys() and all(torch.equal(plain[key], with_it[key]) for key in plain):
            silent.append(text)
    assert silent == []
    ratios = {name for name in MODULE_ARGS["lycoris.kohya"] if name.startswith("loraplus")}
    assert set(SET) | ratios | {"train_t5xxl"} == set(MODULE_ARGS["lycoris.kohya"])


def test_first_values_are_lycoris_own_draws():
    """LoHa: w1_b of deviation 1, w1_a of 0.1, w2_b of 1, w2_a zero, each drawn in this order from torch's stream."""
    layer = nn.Linear(40, 30)
    settings = settings_of(algo="loha", dim=4)
    adapter = ALGORITHMS.load("loha")(layer, Target("x", 0, "x", Layer("x", 40, 30)), settings)
    torch.manual_seed(5)
    SdScriptsOrder(1).fill("x", adapter)
    torch.manual_seed(5)
    assert torch.equal(adapter.hada_w1_b, torch.empty(4, 40).normal_())
    assert torch.equal(adapter.hada_w1_a, torch.empty(30, 4).normal_(std=0.1))
    assert torch.equal(adapter.hada_w2_b, torch.empty(4, 40).normal_())
    assert not adapter.hada_w2_a.any()


def test_lycoris_crossed_gradients_are_for_its_own_order_only():
    """With core tensors LyCORIS gives w1_a the gradient that it would have with the second core and second b."""
    plain, _, _ = made("loha tucker", "conv 3x3")
    crossed, _, _ = made("loha tucker", "conv 3x3", as_lycoris=True)
    assert torch.allclose(plain.weight_update(), crossed.weight_update(), atol=1e-6)
    for adapter in (plain, crossed):
        adapter.weight_update().sum().backward()
    t = dict(plain.named_parameters())
    other = torch.einsum("ijkl,ip,jr->prkl", t["hada_t2"], t["hada_w2_a"], t["hada_w2_b"]) * plain.scale
    for adapter, n in ((plain, 1), (crossed, 2)):
        expected = torch.einsum("ijkl,jr,prkl->ip", t[f"hada_t{n}"], t[f"hada_w{n}_b"], other)
        assert torch.allclose(adapter.hada_w1_a.grad, expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(plain.hada_t1.grad, crossed.hada_t1.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("algo", ["loha", "lokr"])
def test_networks_of_sd_scripts_itself(algo):
    """networks.loha and networks.lokr: convolutions only with conv_dim, patterns over names, ranks by pattern."""
    from kohyakit.planning.size.architecture import SDXL

    def made(*args: str) -> dict[str, Target]:
        config = TrainConfig().with_values(network_module=f"networks.{algo}", network_dim=4, network_args=args)
        assert unsupported(config.with_values(script="sdxl_train_network.py")) == ()
        settings = adapter_settings(config.network)
        return {target.path: tensors_of(target, settings) for target in targets(SDXL, settings)}

    assert sum(not path.startswith("text_model") for path in made()) == 722
    assert any(".in_layers." in path for path in made("conv_dim=2"))
    assert not any("attn1" in path for path in made("exclude_patterns=['.*attn1.*']"))
    kept = made("exclude_patterns=['.*']", "include_patterns=['.*to_q']")
    assert kept
    assert all(path.endswith("to_q") for path in kept)
    ranks = made("network_reg_dims=.*to_k=1")
    ending = "hada_w1_b" if algo == "loha" else "lokr_w2_b"
    assert {shapes[ending][0] for path, shapes in ranks.items() if path.endswith("to_k")} == {1}


@pytest.mark.shared
def test_keys_and_shapes_are_those_of_a_recorded_loha(goldens: Path):
    golden = goldens / "training" / "lycoris_loha"
    recorded = json.loads((golden / "keys.json").read_text(encoding="utf-8"))["lycoris_loha.safetensors"]
    network = TrainConfig().with_values(
        network_module="lycoris.kohya", network_dim=8, network_alpha=4.0,
        network_args=("algo=loha", "conv_dim=4", "conv_alpha=1"),
    ).network  # fmt: skip
    made = LycorisNetwork.over(load_model(goldens / "training" / "sd15-tiny"), adapter_settings(network), None)
    assert {key: list(tensor.shape) for key, tensor in made.file_state().items()} == {
        key: shape for key, (_, shape) in recorded.items()
    }


def test_the_registry_has_what_check_accepts():
    assert {
        "networks.lora", "networks.lora_fa", "networks.dylora", "networks.oft", "networks.loha", "networks.lokr",
        "lycoris.kohya",
    } == set(trained_here())  # fmt: skip
    assert all(issubclass(ALGORITHMS.load(name), Adapter) for name in ALGORITHMS)
    assert all(set(ALGORITHMS[name].arguments) <= MODULE_ARGS["lycoris.kohya"] for name in ALGORITHMS)
    for name, entry in NETWORKS.items():
        assert set(entry.here) <= MODULE_ARGS[name] <= set(NETWORK_ARG_SPECS())
        assert set(entry.families) <= {family.group for family in MODELS.values()}
