"""Merging: the true sum of updates, worked out by the formula; sd-scripts' svd_merge within its own clamping."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kohyakit.errors import ConfigError
from kohyakit.lora.merge import Source, merge
from kohyakit.lora.merge_as_sd_scripts import merge_as_sd_scripts


def updates(path: Path) -> dict[str, torch.Tensor]:
    """Each layer's weight update as a matrix, by the formula and not by kohyakit's own."""
    state = load_file(path)
    found = {}
    for key in state:
        if key.endswith(".lora_down.weight"):
            name = key.removesuffix(".lora_down.weight")
            down, up = state[key].double(), state[f"{name}.lora_up.weight"].double()
            found[name] = up.flatten(1) @ down.flatten(1) * float(state[f"{name}.alpha"]) / len(down)
    return found


def lora(path: Path, rank: int, alpha: float, seed: int, names: str = "ab", out: int = 20, inputs: int = 12) -> Path:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name in names:
        name = f"lora_unet_down_blocks_0_attentions_{name}"
        state[f"{name}.lora_up.weight"] = torch.randn(out, rank, generator=generator)
        state[f"{name}.lora_down.weight"] = torch.randn(rank, inputs, generator=generator)
        state[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(state, path, {"ss_base_model_version": "sd_v1", "ss_network_dim": str(rank)})
    return path


def test_the_sum_is_exact_at_the_summed_rank(tmp_path: Path) -> None:
    one, two = lora(tmp_path / "1.safetensors", 4, 2.0, 1), lora(tmp_path / "2.safetensors", 3, 6.0, 2, "bc")
    done = merge([Source(one, 0.6), Source(two, -0.4)], tmp_path / "sum.safetensors")
    first, second, found = updates(one), updates(two), updates(tmp_path / "sum.safetensors")
    assert set(found) == set(first) | set(second)
    for name, update in found.items():
        wanted = 0.6 * first.get(name, 0) - 0.4 * second.get(name, 0)
        assert (update - wanted).norm() <= 1e-6 * wanted.norm()
    assert {layer.name[-1]: layer.rank for layer in done} == {"a": 4, "b": 7, "c": 3}
    assert all(layer.error == 0 for layer in done)


def test_in_a_chosen_rank_the_error_is_the_best_possible_and_told(tmp_path: Path) -> None:
    one, two = lora(tmp_path / "1.safetensors", 4, 4.0, 3), lora(tmp_path / "2.safetensors", 4, 4.0, 4)
    done = merge([Source(one), Source(two, 0.5)], tmp_path / "sum.safetensors", rank=5)
    first, second, found = updates(one), updates(two), updates(tmp_path / "sum.safetensors")
    for layer in done:
        wanted = first[layer.name] + 0.5 * second[layer.name]
        values = torch.linalg.svdvals(wanted)
        best = float(values[5:].square().sum().sqrt() / values.square().sum().sqrt())  # Eckart-Young
        error = float((found[layer.name] - wanted).norm() / wanted.norm())
        assert error == pytest.approx(best, rel=1e-4)
        assert layer.error == pytest.approx(best, rel=1e-3)
        assert layer.rank == 5


def test_blocks_have_weights_of_their_own(tmp_path: Path) -> None:
    one = lora(tmp_path / "1.safetensors", 2, 2.0, 5)
    merge([Source(one, 0.5, {"down 0": 0.5})], tmp_path / "sum.safetensors")
    for name, update in updates(tmp_path / "sum.safetensors").items():
        assert torch.allclose(update, 0.25 * updates(one)[name], atol=1e-6)


def test_methods_mix(tmp_path: Path) -> None:
    plain = lora(tmp_path / "1.safetensors", 2, 2.0, 6, "a")
    w1, w2 = torch.randn(4, 3, generator=torch.Generator().manual_seed(7)), torch.randn(5, 4)
    name = "lora_unet_down_blocks_0_attentions_a"
    save_file({f"{name}.lokr_w1": w1, f"{name}.lokr_w2": w2}, tmp_path / "kron.safetensors")
    merge([Source(plain), Source(tmp_path / "kron.safetensors", 0.3)], tmp_path / "sum.safetensors")
    wanted = updates(plain)[name] + 0.3 * torch.kron(w1.double(), w2.double())
    assert torch.allclose(updates(tmp_path / "sum.safetensors")[name], wanted, atol=1e-5)


def test_metadata_are_the_sums_own(tmp_path: Path) -> None:
    one, two = lora(tmp_path / "1.safetensors", 4, 4.0, 1), lora(tmp_path / "2.safetensors", 4, 4.0, 2)
    merge([Source(one, 0.5), Source(two)], tmp_path / "sum.safetensors", rank=3)
    with safe_open(tmp_path / "sum.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "3"
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["modelspec.merged_from"] == "1, 2"
    assert "1:0.5, 2:1" in metadata["ss_training_comment"]


def test_what_is_no_sum_is_refused_all_at_once(tmp_path: Path) -> None:
    one = lora(tmp_path / "1.safetensors", 4, 4.0, 1)
    state = load_file(one)
    name = next(iter(state)).partition(".")[0]
    save_file(state | {f"{name}.dora_scale": torch.ones(20, 1)}, tmp_path / "dora.safetensors")
    save_file({f"lora_te2_x.{k.partition('.')[2]}": v for k, v in state.items()}, tmp_path / "xl.safetensors")
    with pytest.raises(ConfigError) as caught:
        merge([Source(one), Source(tmp_path / "dora.safetensors"), Source(tmp_path / "xl.safetensors")],
              tmp_path / "sum.safetensors")  # fmt: skip
    assert {problem.name for problem in caught.value.problems} == {"two_families", "not_a_sum"}
    assert not (tmp_path / "sum.safetensors").exists()


@pytest.mark.shared
def test_beside_sd_scripts_svd_merge(goldens: Path, tmp_path: Path) -> None:
    """Theirs clamps both matrices to their 99 % quantile; ours is nearer to the true sum on every layer."""
    one, two = (goldens / f"training/{name}/output/{name}.safetensors" for name in ("basic", "locon"))
    merge([Source(one, 0.6), Source(two, 0.4)], tmp_path / "sum.safetensors", rank=6, conv_rank=3)
    first, second, ours = updates(one), updates(two), updates(tmp_path / "sum.safetensors")
    theirs = updates(goldens / "training2/tools/svd_merge.safetensors")
    assert set(ours) == set(theirs)
    for name, update in theirs.items():
        wanted = 0.6 * first.get(name, 0) + 0.4 * second.get(name, 0)
        assert (ours[name] - wanted).norm() <= (update - wanted).norm() + 1e-6 * wanted.norm()
        assert (ours[name] - update).norm() <= 0.3 * wanted.norm()


@pytest.mark.shared
@pytest.mark.parametrize(("name", "concat"), [("merge", False), ("merge_concat", True)])
def test_as_sd_scripts_gives_the_recorded_file(goldens: Path, tmp_path: Path, name: str, concat: bool) -> None:
    sources = [Source(goldens / f"training/{one}/output/{one}.safetensors", strength)
               for one, strength in (("basic", 0.6), ("adafactor", 0.4))]  # fmt: skip
    merge_as_sd_scripts(sources, tmp_path / "m.safetensors", concat=concat)
    recorded = goldens / f"training2/tools/{name}.safetensors"
    ours, theirs = load_file(tmp_path / "m.safetensors"), load_file(recorded)
    assert set(ours) == set(theirs)
    for key, tensor in theirs.items():
        assert ours[key].shape == tensor.shape
        assert torch.allclose(ours[key], tensor, rtol=1e-6, atol=1e-9), key
    with safe_open(tmp_path / "m.safetensors", "pt") as mine, safe_open(recorded, "pt") as other:
        said = {key: text for key, text in other.metadata().items() if key.startswith("ss_")}
        assert {key: text for key, text in mine.metadata().items() if key.startswith("ss_")} == said


def test_as_sd_scripts_a_negative_strength_and_other_alphas(tmp_path: Path) -> None:
    """By its formula: both matrices times the root of the ratio of alphas and the strength; up takes no sign."""
    one, two = lora(tmp_path / "1.safetensors", 4, 4.0, 1), lora(tmp_path / "2.safetensors", 4, 1.0, 2)
    merge_as_sd_scripts([Source(one, 0.5), Source(two, -0.8)], tmp_path / "m.safetensors")
    first, second, found = load_file(one), load_file(two), load_file(tmp_path / "m.safetensors")
    for key in first:
        if key.endswith("weight"):
            scale = 0.5 * 0.8 * (1 if "lora_up" in key else -1)  # the root of 1 over 4
            assert torch.allclose(found[key], 0.5 * first[key] + scale * second[key], atol=1e-6)
        else:
            assert float(found[key]) == 4.0


def test_as_sd_scripts_refuses_what_it_would_stop_at(tmp_path: Path) -> None:
    one, two = lora(tmp_path / "1.safetensors", 4, 4.0, 1), lora(tmp_path / "2.safetensors", 3, 3.0, 2)
    with pytest.raises(ConfigError, match="another rank"):
        merge_as_sd_scripts([Source(one), Source(two)], tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()
    assert merge_as_sd_scripts([Source(one), Source(two)], tmp_path / "m.safetensors", concat=True) == 2
