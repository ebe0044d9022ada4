"""T-LoRA: which ranks learn at which timestep, where a layer begins, and what its file means to other tools."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from torch import nn

from kohyakit.config.arguments.adapters import adapter_settings
from kohyakit.lora.convert import convert
from kohyakit.models import load_model
from kohyakit.networks.base import Adapter
from kohyakit.networks.lycoris import LycorisNetwork
from kohyakit.networks.methods.tlora import kept_at, ranks_at
from kohyakit.networks.weights.updates import update_on
from kohyakit.planning.size.layers import Layer, Target
from kohyakit.registry.networks import ALGORITHMS
from kohyakit.train.step.rng import KohyakitOrder
from tests.train.networks.made import IN, OUT, PLACES, config_of, made, settings_of
from tests.train.networks.trainings import photos_into, trained
from tests.train.observers import Losses


def begun_beside(place: str, **asked) -> tuple[Adapter, nn.Module, torch.Tensor]:
    """A layer as a training begins it, beside a frozen one that is the same each time, and an input."""
    torch.manual_seed(8)
    kernel, make, shape = PLACES[place]
    layer = make().requires_grad_(False)
    target = Target("x", 0, "x", Layer("x", IN, OUT, kernel))
    adapter = ALGORITHMS.load("tlora")(layer, target, settings_of(algo="tlora", **asked))
    KohyakitOrder(1).fill("x", adapter)
    return adapter, layer, torch.randn(shape)


@pytest.mark.parametrize(
    ("timestep", "rank", "least", "power", "count"),
    [  # by hand: (1000 - t) / 1000 to the power, times rank less least, cut, plus least
        (0, 8, 1, 1.0, 8), (1, 8, 1, 1.0, 7), (999, 8, 1, 1.0, 1), (500, 8, 1, 1.0, 4), (250, 8, 1, 1.0, 6),
        (500, 8, 0, 2.0, 2), (500, 16, 4, 2.0, 7), (900, 10, 0, 1.0, 1), (999, 4, 4, 1.0, 4), (0, 4, 9, 1.0, 4),
        (910, 8, 0, 0.5, 2), (700, 11, 1, 1.0, 4),
    ],
)  # fmt: skip
def test_how_many_ranks_learn(timestep, rank, least, power, count):
    assert ranks_at(timestep, rank, least, power) == count
    kept = kept_at(torch.tensor([timestep, 0]), rank, least, power)
    assert kept.tolist() == [[1.0] * count + [0.0] * (rank - count), [1.0] * rank]


@pytest.mark.parametrize("place", PLACES)
def test_each_image_of_a_batch_has_its_own_ranks(place):
    """Against the weight that is moved by the first ranks alone; while nothing is trained all of them act."""
    adapter, layer, x = made("tlora", place, dim=4, alpha=2.0)
    adapter.kept = kept_at(torch.tensor([500, 0]), 4, 1, 1.0)
    found, plain = adapter.train()(x), layer(x)
    u, s, v = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
    p, q = adapter.p_layer.weight.flatten(1), adapter.q_layer.weight.flatten(1)
    for number, count in enumerate((2, 4)):  # at 500: 3 / 2 cut to 1, plus 1
        own = range(count)
        moved = sum(adapter.lambda_layer[0, r] * torch.outer(p[:, r], q[r]) - s[r] * torch.outer(u[:, r], v[r])
                    for r in own) * 0.5  # fmt: skip
        before = layer.weight.data.clone()
        layer.weight.data += moved.reshape(before.shape).detach()
        assert torch.allclose(layer(x)[number] - plain[number], found[number], atol=1e-4)
        layer.weight.data.copy_(before)
    adapter.kept = None
    whole = adapter(x)
    adapter.kept = kept_at(torch.tensor([999, 999]), 4, 1, 1.0)
    assert torch.equal(adapter.eval()(x), whole)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("vectors", ["principal", "last", "middle"])
def test_it_begins_on_the_weights_own_vectors_and_changes_nothing(place, vectors):
    """What P λ Q leaves of the weight has the other singular values (Eckart and Young)."""
    adapter, layer, _ = begun_beside(place, dim=4, vectors=vectors)
    assert not adapter.weight_update().any()
    own = (adapter.p_layer.weight.flatten(1) * adapter.lambda_layer) @ adapter.q_layer.weight.flatten(1)
    values = torch.linalg.svdvals(layer.weight.flatten(1))
    count = len(values)
    first = {"principal": 0, "last": count - 4, "middle": count // 2 - 2}[vectors]
    left = torch.linalg.svdvals(layer.weight.flatten(1) - own)
    rest = torch.cat([values[:first], values[first + 4 :], torch.zeros(4)])
    assert torch.allclose(left, rest, atol=1e-5)


def test_ranks_that_a_weight_does_not_have_add_nothing():
    adapter, layer, _ = begun_beside("linear", dim=IN + 3)
    own = (adapter.p_layer.weight * adapter.lambda_layer) @ adapter.q_layer.weight
    assert torch.allclose(own, layer.weight, atol=1e-5)


def test_a_small_step_is_not_lost_in_half_precision():
    """The whole of P λ Q is a hundred times as large as what is learnt; its rounding would hide that."""
    adapter, _, x = begun_beside("linear", dim=4)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 2e-3 * torch.randn_like(parameter)
        exact = adapter(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = adapter(x).float()
    assert float((found - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("vectors", ["last", "middle"])
@pytest.mark.parametrize("place", PLACES)
def test_a_file_tells_by_its_directions_where_it_was_begun(place, vectors):
    """A network that was to begin elsewhere takes it up as it was; a weight of another model is refused."""
    adapter, layer, _ = begun_beside(place, dim=3, vectors=vectors)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    state = {end: tensor.detach() for end, tensor in adapter.file_state().items()}
    assert set(state) == {"alpha", "p_layer.weight", "lambda_layer", "q_layer.weight"}
    update = adapter.weight_update().detach()
    assert torch.allclose(update_on(state, layer.weight.detach()), update, atol=1e-6)
    other, _, _ = begun_beside(place, dim=3)
    other.load_state_dict(other.own_state(state), strict=False)
    assert torch.allclose(other.weight_update(), update, atol=1e-6)
    with pytest.raises(ValueError, match="begun on another weight"):
        update_on(state, torch.randn(layer.weight.shape))


def test_text_encoders_learn_with_all_ranks(tiny_model):
    settings = adapter_settings(config_of("tlora", "preset=attn-only").network)
    network = LycorisNetwork.over(load_model(tiny_model), settings, None)
    network.see(torch.tensor([999, 0]))
    kept = {name: layer.kept for name, layer in network.layers()}
    assert all(kept[name] is None for name in network.text_encoder_names)
    assert all(kept[name].tolist() == [[1, 0], [1, 1]] for name in network.unet_names)
    assert network.text_encoder_names


@pytest.fixture(scope="module")
def trainings(tiny_model, tmp_path_factory):
    """The same three steps of three images each, with and without gradient checkpointing: losses and files."""
    folder = tmp_path_factory.mktemp("tlora")
    photos, heard = photos_into(folder / "photos"), {}
    for name in ("plain", "checkpoints"):
        losses = Losses()
        more = {"train_batch_size": 3, "gradient_checkpointing": name == "checkpoints", "output_name": "town"}
        trained("tlora", tiny_model, photos, folder / name, losses, **more)
        heard[name] = (losses.heard, folder / name / "town.safetensors")
    return heard


@pytest.mark.slow
def test_checkpoints_of_a_batch_of_several_timesteps_learn_the_same(trainings):
    (plain, file), (again, other) = trainings["plain"], trainings["checkpoints"]
    assert plain == pytest.approx(again, abs=1e-7)
    a, b = load_file(file), load_file(other)
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)


@pytest.mark.slow
def test_made_plain_on_its_model_the_file_is_the_same_update(trainings, tiny_model, tmp_path):
    """As a plain LoRA it has twice the rank: what it is less what it was."""
    _, file = trainings["plain"]
    done = convert(file, tmp_path / "plain.safetensors", "diffusers", rank=8, base=tiny_model)
    assert {one.method for one in done} == {"tlora"}
    assert max(one.error for one in done) < 1e-2
