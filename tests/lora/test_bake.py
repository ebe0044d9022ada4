"""LoRAs baked into models: every weight by the formula, everything else byte for byte, in every layout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kohyakit.demo.tiny_model import write_tiny_model
from kohyakit.errors import ConfigError
from kohyakit.lora.bake import bake
from kohyakit.lora.merge import Source
from kohyakit.models import load_model
from tests.lora.made import TINY, made
from tests.train.tiny_sdxl import write_single_file, write_tiny_sdxl


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    xl = write_tiny_sdxl(folder / "xl")
    return {
        "sd1": write_tiny_model(folder / "one"), "sdxl": xl,
        "sdxl file": write_single_file(xl, folder / "xl.safetensors", v_pred=torch.zeros(1)),
    }  # fmt: skip


@pytest.fixture
def loras(tmp_path: Path) -> dict[str, list[Source]]:
    found = {}
    for family in ("sd1", "sdxl"):
        sources = []
        for method, strength in (("lora", 0.5), ("loha", -0.25)):
            path = tmp_path / f"{family} {method}.safetensors"
            save_file(made(family, method, shape=TINY[family]), path)
            sources.append(Source(path, strength))
        found[family] = sources
    return found


def expected(family: str) -> dict[str, torch.Tensor]:
    """Kohya name -> what is added, by the formulas of LoRA and LoHa."""
    plain, product = made(family, shape=TINY[family]), made(family, "loha", shape=TINY[family])
    found = {}
    for name in {key.partition(".")[0] for key in plain}:
        lora = plain[f"{name}.lora_up.weight"] @ plain[f"{name}.lora_down.weight"] / 2
        one, two = (product[f"{name}.hada_w{n}_a"] @ product[f"{name}.hada_w{n}_b"] for n in (1, 2))
        found[name] = 0.5 * lora - 0.25 * one * two / 2
    return found


def weights_of(model) -> dict[str, torch.Tensor]:
    """Every layer's weight under its Kohya name, read by the loader of the trainer."""
    return {
        name: layer.weight.detach() for name, layer in (*model.text_layers(), *model.unet_layers(convolutions=True))
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd1", "sdxl", "sdxl file"])
def test_every_layer_is_the_old_one_and_its_updates(models, loras, tmp_path: Path, kind: str) -> None:
    family = kind.split()[0]
    target = tmp_path / ("out.safetensors" if "file" in kind else "out")
    done = bake(loras[family], models[kind], target)
    wanted = expected(family)
    assert (done.layers, done.missing) == (len(wanted), ())
    before, after = (weights_of(load_model(place, family=family)) for place in (models[kind], target))
    assert set(after) == set(before)
    for name, old in before.items():
        if name in wanted:
            assert torch.allclose(after[name], old + wanted[name].reshape(old.shape), atol=1e-5), name
        else:
            assert torch.equal(after[name], old), name


def moved(method: str, base: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    """The weight after a layer of a kind that needs it, by the networks' formulas, rows and columns one by one."""
    if method.startswith("dora"):
        whole = base + t["lora_up.weight"] @ t["lora_down.weight"] / 2
        lengths, axis = t["dora_scale"].flatten(), 0 if method == "dora out" else 1
        parts = [part / part.norm() * length for part, length in zip(whole.unbind(axis), lengths, strict=True)]
        return torch.stack(parts, dim=axis)
    if method == "glora":
        return base + (base @ t["a1.weight"] @ t["a2.weight"] + t["b1.weight"] @ t["b2.weight"]) / 2
    if method == "ia3":
        return torch.stack([column * (1 + factor) for column, factor in zip(base.T, t["weight"], strict=True)], dim=1)
    blocks = t["oft_blocks"].reshape(2, len(base) // 2, -1)
    odd = blocks - blocks.transpose(1, 2)
    limit = float(t["alpha"]) * len(base)
    odd = odd * min(1.0, limit / float(odd.norm())) if limit else odd
    turn = torch.block_diag(*((torch.eye(len(q)) + q) @ torch.inverse(torch.eye(len(q)) - q) for q in odd))
    if method == "oft bound":
        return turn.T @ base
    rows = [row for start in range(len(base) // 4) for row in (start, start + len(base) // 4)]  # a round of BOFT
    rows += [row + len(base) // 2 for row in rows]
    found = base.clone()
    found[rows] = turn @ base[rows]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dora", "dora out", "glora", "ia3", "oft bound", "boft"])
def test_what_needs_the_weight_itself_is_worked_out_on_it(models, tmp_path: Path, method: str) -> None:
    """Fused and transposed weights of a single file too; strength is of the change."""
    state = made("sdxl", method, shape=TINY["sdxl"])
    save_file(state, tmp_path / "a.safetensors")
    target = tmp_path / "out.safetensors"
    bake([Source(tmp_path / "a.safetensors", 0.5)], models["sdxl file"], target)
    before, after = (weights_of(load_model(place, family="sdxl")) for place in (models["sdxl file"], target))
    names = {key.partition(".")[0] for key in state}
    assert len(names) == 2 + 6 + 6
    for name in names:
        tensors = {key.partition(".")[2]: tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
        whole = moved(method, before[name], tensors)
        assert torch.allclose(after[name], before[name] + 0.5 * (whole - before[name]), atol=2e-4), name
        assert not torch.allclose(after[name], before[name], atol=1e-3), name


def test_layout_and_precision_stay_and_hashes_that_became_untrue_go(models, loras, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in load_file(models["sdxl file"]).items()}
    save_file(half, tmp_path / "half.safetensors", {"modelspec.title": "X", "modelspec.hash_sha256": "0x1"})
    bake(loras["sdxl"], tmp_path / "half.safetensors", tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert {name: (one.shape, one.dtype) for name, one in found.items()} == {
        name: (one.shape, one.dtype) for name, one in half.items()
    }
    changed = {name for name in half if not torch.equal(found[name], half[name])}
    assert len(changed) == 2 + 6 + 4  # of the second encoder q, k and v lie in one
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["modelspec.title"] == "X"
    assert "modelspec.hash_sha256" not in metadata
    assert metadata["modelspec.merged_from"] == "half, sdxl lora:0.5, sdxl loha:-0.25"


def test_a_folder_keeps_everything_else(models, loras, tmp_path: Path) -> None:
    variant = tmp_path / "two"
    shutil.copytree(models["sd1"], variant)
    weights = load_file(variant / "unet/diffusion_pytorch_model.safetensors")
    save_file({n: t.half() for n, t in weights.items()}, variant / "unet/diffusion_pytorch_model.fp16.safetensors")
    bake(loras["sd1"], variant, tmp_path / "out")
    files = {path.relative_to(variant) for path in variant.rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    changed = {str(file) for file in files if (variant / file).read_bytes() != (tmp_path / "out" / file).read_bytes()}
    assert changed == {
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.safetensors",
    }  # fmt: skip


def test_layers_without_a_place_are_told(models, loras, tmp_path: Path) -> None:
    path = loras["sd1"][0].path
    pair = {f"lora_unet_up_blocks_9_x.lora_{side}.weight": torch.ones(2, 2) for side in ("up", "down")}
    save_file(load_file(path) | pair, tmp_path / "b.safetensors")
    done = bake([Source(tmp_path / "b.safetensors")], models["sd1"], tmp_path / "out")
    assert (done.layers, done.missing) == (8, ("lora_unet_up_blocks_9_x",))


@pytest.mark.parametrize(
    ("lora", "model", "said"),
    [
        ("sdxl", "sd1", "changes a weight"),
        ("sd1", "sdxl file", "place for none"),
        ("wide", "sd1", "changes a weight"),
        ("sd1", "lora", "checkpoint"),
        ("tlora", "sd1", "does not fit a weight"),
        ("sd1", "pickle", "pickle"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(models, loras, tmp_path, lora, model, said) -> None:
    wide = made("sd1")
    save_file(wide, tmp_path / "wide.safetensors")
    save_file(made("sd1", "tlora", shape=TINY["sd1"]), tmp_path / "tlora.safetensors")
    (tmp_path / "model.ckpt").write_bytes(b"x")
    sources = loras.get(lora) or [Source(tmp_path / f"{lora}.safetensors")]
    places = models | {"lora": sources[0].path, "pickle": tmp_path / "model.ckpt"}
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=said):
        bake(sources, places[model], tmp_path / "out.safetensors")
    assert set(tmp_path.iterdir()) == before


def test_the_model_itself_is_never_written_over(models, loras) -> None:
    with pytest.raises(ConfigError, match="is the model itself"):
        bake(loras["sdxl"], models["sdxl file"], models["sdxl file"], overwrite=True)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(loras, models, tmp_path: Path) -> None:
    """400 MB that no LoRA touches go through in blocks."""
    state = load_file(models["sdxl file"]) | {f"filler.{n}": torch.zeros(25_000_000) for n in range(4)}
    save_file(state, tmp_path / "big.safetensors")
    del state
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bake(loras["sdxl"], tmp_path / "big.safetensors", tmp_path / "out.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("kind", ["sd1", "sdxl file"])
def test_a_waiting_draft_that_is_a_link_is_not_followed(
    models: dict[str, Path], loras: dict[str, list[Source]], tmp_path: Path, kind: str
) -> None:
    outside, target = tmp_path / "outside.txt", tmp_path / ("out.safetensors" if kind == "sdxl file" else "out")
    outside.write_bytes(b"somebody else's")
    waiting = target.with_name(target.name + ".part")
    waiting.symlink_to(outside)
    bake(loras[kind.split()[0]], models[kind], target)
    assert target.exists()
    assert not target.is_symlink()
    assert not waiting.is_symlink()
    assert outside.read_bytes() == b"somebody else's"
