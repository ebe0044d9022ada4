"""A training on data sets of several kinds: metadata, masks, a strength of their own, answers that are to stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from PIL import Image
from safetensors import safe_open

from kohyakit.train.callbacks import Quiet, Seen
from kohyakit.train.start import train_network

pytestmark = pytest.mark.slow


class Watched(Quiet):
    """(picture, loss) of every image of every step."""

    def __init__(self) -> None:
        self.steps: list[list[tuple[str, float]]] = []

    def seen(self, seen: Seen) -> None:
        names = [example.image.record.path.name for example in seen.batch.examples]
        self.steps.append(list(zip(names, seen.losses.tolist(), strict=True)))


@pytest.fixture(scope="module")
def trained(config_into, photos, tmp_path_factory):
    """Twice the same, once with half the strength by the data set and once by alpha: (folder, steps) of each."""
    home = tmp_path_factory.mktemp("sets")
    metadata = {path.name: {"caption": "a town", "tags": f"town, {path.stem}"} for path in photos.glob("2_town/*.png")}
    (home / "meta.json").write_text(json.dumps(metadata), encoding="utf-8")
    for path in photos.glob("1_statue/*.png"):
        with Image.open(path) as image:
            (home / "masks").mkdir(exist_ok=True)
            Image.new("L", image.size, 0 if path.stem == "statue0" else 255).save(home / "masks" / path.name)
    runs = []
    for name, strength, alpha in (("own", "network_multiplier = 0.5", 2), ("alpha", "", 1)):
        (home / f"{name}.toml").write_text(
            f"[[datasets]]\n{strength}\n[[datasets.subsets]]\nimage_dir = {str(photos / '2_town')!r}\n"
            f"metadata_file = {str(home / 'meta.json')!r}\n"
            f"[[datasets]]\n{strength}\n[[datasets.subsets]]\nimage_dir = {str(photos / '1_statue')!r}\n"
            f"conditioning_data_dir = {str(home / 'masks')!r}\n"
            "custom_attributes = {diff_output_preservation = true}\n",
            encoding="utf-8",
        )
        watched = Watched()
        config = config_into(
            home / name, train_data_dir=None, dataset_config=str(home / f"{name}.toml"), masked_loss=True,
            network_alpha=alpha, max_train_epochs=2, seed=5, mixed_precision="no", gradient_checkpointing=True,
        )  # fmt: skip
        train_network(config, progress=False, echo=lambda text: None, callbacks=[watched])
        runs.append((home / name / "out", watched.steps))
    return runs


def test_the_strength_of_a_data_set_is_as_so_much_less_alpha(trained) -> None:
    """With gradient checkpointing too, which computes the layers again on the way back."""
    (_, own), (_, alpha) = trained
    assert len(own) == len(alpha) >= 8
    for one, other in zip(own, alpha, strict=True):
        assert [name for name, _ in one] == [name for name, _ in other]
        assert [loss for _, loss in one] == pytest.approx([loss for _, loss in other], rel=1e-5, abs=1e-9)


def test_what_is_to_stay_is_measured_against_the_model_without_the_lora(trained) -> None:
    """Which says nearly the same after so few steps; what is all masked has no loss at all."""
    losses = [(name, loss) for step in trained[0][1] for name, loss in step]
    statues = [(name, loss) for name, loss in losses if name.startswith("statue")]
    assert max(loss for _, loss in statues) < min(loss for name, loss in losses if name.startswith("town")) / 50
    assert {loss for name, loss in statues if name == "statue0.png"} == {0.0}
    assert max(loss for name, loss in statues if name != "statue0.png") > 0


def test_the_file_tells_of_every_data_set(trained, photos: Path) -> None:
    out, _ = trained[0]
    with safe_open(out / "tiny.safetensors", "pt") as file:
        metadata = file.metadata()
    first, second = json.loads(metadata["ss_datasets"])
    assert (first["is_dreambooth"], second["is_dreambooth"]) == (False, False)
    (subset,) = first["subsets"]
    assert (subset["metadata_file"], subset["image_dir"], subset["img_count"]) == ("meta.json", "2_town", 5)
    tags = json.loads(metadata["ss_tag_frequency"])
    assert tags["meta.json"] == {"town": 5, **{f"town{i}": 1 for i in range(5)}}
    assert json.loads(metadata["ss_dataset_dirs"])["meta.json"] == {"n_repeats": 1, "img_count": 5}
