"""sd-scripts' own caches: read where shape, time and model fit, written as it writes them."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kohyakit.config.read import read_values
from kohyakit.models import load_model
from kohyakit.planning.make import make_plan
from kohyakit.train.start import train_network
from kohyakit.train.step.batches import build_datasets
from kohyakit.train.step.latents import LatentSource
from kohyakit.train.step.rng import KohyakitOrder
from kohyakit.train.step.rng_sd_scripts import SdScriptsOrder
from tests.train.tiny_sdxl import write_tiny_sdxl

SCRIPT = "sdxl_train_network.py"


@pytest.fixture
def own_photos(photos, tmp_path) -> Path:
    """The photos without what other trainings kept beside them."""
    return Path(shutil.copytree(photos, tmp_path / "img", ignore=shutil.ignore_patterns(".kohyakit*", "*.npz")))


@pytest.fixture(scope="module")
def vae(tiny_model):
    return load_model(tiny_model).vae


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory) -> Path:
    return write_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "model")


def cached(vae, config, seed: int = 5, said: list[str] | None = None, order=KohyakitOrder, **options) -> dict:
    """(folder/name, flip) -> latents, as caching to disk keeps them."""
    datasets = build_datasets(make_plan(config).datasets, 1.0)
    source = LatentSource(vae, order(seed), scale=1.0, latent_dtype=torch.float32, **options)
    source.cache(datasets, to_disk=True, progress=lambda: None, say=(said if said is not None else []).append)
    return {(datasets[d].images[i].key, flip): one for (d, i, flip), one in source.kept.items()}


def files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.rglob("*.npz")}


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_again(path: Path, changed: dict[str, np.ndarray]) -> None:
    np.savez(path, **changed)


def test_written_on_request_and_read_by_either_setting(vae, make_config, own_photos) -> None:
    """Another seed would sample other latents, so what is equal was read."""
    config = make_config(train_data_dir=str(own_photos), flip_aug=True)
    first = cached(vae, config, as_npz=True)
    names = files(own_photos)
    assert {"town0_0096x0064_sd.npz", "statue2_0070x0140_sd.npz"} <= set(names)
    assert len(names) == 8
    assert not list(own_photos.rglob(".kohyakit*"))
    held = arrays(names["town2_0130x0065_sd.npz"])
    assert set(held) == {"latents", "latents_flipped", "original_size", "crop_ltrb"}
    assert held["original_size"].tolist() == [130, 65]
    before = {name: path.read_bytes() for name, path in names.items()}
    for seed, options in ((6, {"as_npz": True}), (7, {})):
        again = cached(vae, config, seed, **options)
        assert all(torch.equal(again[key], latents) for key, latents in first.items())
    assert {name: path.read_bytes() for name, path in files(own_photos).items()} == before


@pytest.mark.parametrize("fault", ["older", "shape", "size", "crop", "nan", "damaged", "pickle", "no flip"])
def test_what_does_not_fit_is_made_anew_and_replaced(vae, make_config, own_photos, fault) -> None:
    config = make_config(train_data_dir=str(own_photos), flip_aug=True)
    first = cached(vae, config, as_npz=True)
    path = files(own_photos)["town1_0064x0064_sd.npz"]
    held, image = arrays(path), own_photos / "2_town/town1.png"
    if fault == "older":
        later = path.stat().st_mtime + 5
        os.utime(image, (later, later))
    elif fault == "damaged":
        path.write_bytes(path.read_bytes()[:200])
    elif fault == "pickle":
        write_again(path, held | {"latents": np.array([{"a": 1}], dtype=object)})
    elif fault == "no flip":
        write_again(path, {name: array for name, array in held.items() if name != "latents_flipped"})
    else:
        bad = {
            "shape": {"latents": np.zeros((4, 16, 8), np.float32)}, "size": {"original_size": np.array([65, 64])},
            "crop": {"crop_ltrb": held["crop_ltrb"] + 3}, "nan": {"latents": held["latents"] * np.nan},
        }[fault]  # fmt: skip
        write_again(path, held | bad)
    again = cached(vae, config, 6, as_npz=True)
    differ = {key for key, latents in first.items() if not torch.equal(again[key], latents)}
    assert differ == {("2_town/town1.png", False), ("2_town/town1.png", True)}
    assert np.array_equal(arrays(path)["latents"], again["2_town/town1.png", False].numpy())


def test_the_newer_format_with_its_resolution_in_the_name_is_read(vae, make_config, own_photos) -> None:
    config = make_config(train_data_dir=str(own_photos))
    first = cached(vae, config, as_npz=True)
    for path in files(own_photos).values():
        held = arrays(path)
        _, height, width = held["latents"].shape
        suffix = f"_{height}x{width}"
        write_again(path, {name + suffix: array for name, array in held.items()} | {"latents_99x99": held["latents"]})
    again = cached(vae, config, 6)
    assert all(torch.equal(again[key], latents) for key, latents in first.items())


def test_latents_of_another_vae_are_not_used(vae, make_config, own_photos) -> None:
    config, said = make_config(train_data_dir=str(own_photos)), []
    first = cached(vae, config, as_npz=True)
    for path in files(own_photos).values():
        held = arrays(path)
        write_again(path, held | {"latents": held["latents"] + 40})
    again = cached(vae, config, said=said)
    assert all(torch.equal(again[key], latents) for key, latents in first.items())  # the same seed: encoded anew
    assert len(said) == 2  # a line for each of the two folders
    assert "of other VAE or other pictures" in said[0]


@pytest.mark.shared
def test_sd_scripts_recorded_latents(goldens, tmp_path) -> None:
    """Its own files are read as they are; ours have its names, arrays, types and, at its draws, its numbers."""
    case = goldens / "training2/cache_disk"
    shutil.copytree(goldens / "training/dataset", tmp_path / "data")
    values = tomllib.loads((case / "config.toml").read_text(encoding="utf-8"))
    values |= {"train_data_dir": str(tmp_path / "data/img"), "exif_orientation": "ignore", "output_dir": str(tmp_path)}
    config, _ = read_values({name: v for name, v in values.items() if "{" not in str(v)}, "config.toml")
    recorded = json.loads((case / "npz.json").read_text(encoding="utf-8"))
    vae = load_model(goldens / "training/sd15-tiny").vae
    cached(vae, config, as_npz=True, order=SdScriptsOrder)
    for name, entry in recorded.items():
        ours = arrays(tmp_path / "data" / name)
        assert set(ours) == set(entry["arrays"])
        for key, theirs in entry["arrays"].items():
            assert (str(ours[key].dtype), list(ours[key].shape)) == (theirs["dtype"], theirs["shape"])
            if not key.startswith("latents"):
                assert ours[key].tolist() == pytest.approx(theirs["values"])
    whole = {file.name.replace("__", "/"): file for file in (case / "npz").glob("*.npz")}
    for name, file in whole.items():
        shutil.copyfile(file, tmp_path / "data" / name)
    read = cached(vae, config, 9)
    for name, entry in ((name, recorded[name]) for name in whole):
        picture = Path(name).name.rpartition("_")[0].rpartition("_")[0]
        (key,) = [key for key, flip in read if Path(key).stem == picture and not flip]
        for flip, array in ((False, "latents"), (True, "latents_flipped")):
            values = entry["arrays"][array]["values"]
            assert read[key, flip].flatten()[: len(values)].tolist() == values


def text_config(make_config, sdxl: Path, photos: Path, **values):
    return make_config(
        script=SCRIPT, pretrained_model_name_or_path=str(sdxl), train_data_dir=str(photos), max_train_epochs=None,
        max_train_steps=1, network_train_unet_only=True, cache_text_encoder_outputs_to_disk=True,
        cache_text_encoder_outputs=True, **values,
    )  # fmt: skip


def test_text_outputs_are_shared_too(make_config, sdxl, own_photos) -> None:
    said: list[str] = []

    def train(**values) -> dict[str, bytes]:
        said.clear()
        train_network(text_config(make_config, sdxl, own_photos, **values), progress=False, echo=said.append)
        return {name: path.read_bytes() for name, path in files(own_photos).items()}

    written = train(cache_format="sd-scripts")
    assert len(written) == 8
    held = arrays(files(own_photos)["town0_te_outputs.npz"])
    assert {name: array.shape for name, array in held.items()} == {
        "hidden_state1": (77, 24), "hidden_state2": (77, 32), "pool2": (32,)
    }  # fmt: skip
    assert train(cache_format="sd-scripts") == written
    assert not list(own_photos.rglob(".kohyakit_text"))
    train()  # read in the usual format too, so that nothing is written there
    assert not list(own_photos.rglob(".kohyakit_text"))
    edited = own_photos / "2_town/town0.txt"
    edited.write_text("something else", encoding="utf-8")
    later = edited.stat().st_mtime + 5
    os.utime(edited, (later, later))
    changed = train(cache_format="sd-scripts")
    assert [name for name in written if changed[name] != written[name]] == ["town0_te_outputs.npz"]
    train(cache_format="sd-scripts", caption_prefix="oil painting,")
    assert any("text outputs that sd-scripts kept" in line for line in said)


@pytest.mark.shared
def test_sd_scripts_recorded_text_outputs(goldens, tmp_path, make_config) -> None:
    """Ours as written are what sd-scripts wrote, number for number as far as the recording has them."""
    shutil.copytree(goldens / "training/dataset/img", tmp_path / "img")
    case = goldens / "training2/sdxl_te_cache_disk"
    config = text_config(make_config, goldens / "training2/sdxl-tiny", tmp_path / "img", cache_format="sd-scripts",
                         exif_orientation="ignore")  # fmt: skip
    train_network(config, progress=False, echo=lambda text: None)
    for name, entry in json.loads((case / "npz.json").read_text(encoding="utf-8")).items():
        if not name.endswith("_te_outputs.npz"):
            continue
        ours = arrays(tmp_path / name)
        assert set(ours) == set(entry["arrays"])
        for key, theirs in entry["arrays"].items():
            assert (str(ours[key].dtype), list(ours[key].shape)) == (theirs["dtype"], theirs["shape"])
            values = theirs["values"]
            assert ours[key].flatten()[: len(values)].tolist() == pytest.approx(values, rel=1e-4, abs=1e-4)
            assert float(ours[key].sum(dtype=np.float64)) == pytest.approx(theirs["sum"], rel=1e-4, abs=1e-2)
