"""A tiny project to train on: a model of a few thousand weights, eight small pictures with captions."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from kohyakit.config.read import read_values
from kohyakit.config.train import TrainConfig
from kohyakit.demo.pictures import draw
from kohyakit.demo.tiny_model import write_tiny_model


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a config to train with is slow, but one, so that the quick round has seen a training."""
    for item in items:
        if "config_into" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("quick"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """What is trained here: of each kind of layer there is one, and a step is as quick as it can be."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny", layers=1)


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory) -> Path:
    """The demo's, with as many layers in a block as the true model: for what depends on their numbers."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "demo")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """img/ with 2_town (5 pictures, wide and square) and 1_statue (3, tall)."""
    folder = tmp_path_factory.mktemp("photos") / "img"
    for subset, scene, sizes in (
        ("2_town", "town", [(96, 64), (64, 64), (130, 65), (64, 64), (80, 80)]),
        ("1_statue", "statue", [(64, 96), (64, 64), (70, 140)]),
    ):
        (folder / subset).mkdir(parents=True)
        for i, size in enumerate(sizes):
            path = folder / subset / f"{scene}{i}.png"
            draw(scene, size, i).save(path)
            path.with_suffix(".txt").write_text(f"{scene}, picture {i}, sky, stone", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def config_into(tiny_model, photos):
    """config_into(folder, name=value, …) -> a config that trains the tiny model into folder/out."""

    def make(folder: Path, **values) -> TrainConfig:
        config, problems = read_values(
            {
                "pretrained_model_name_or_path": str(tiny_model), "train_data_dir": str(photos),
                "output_dir": str(folder / "out"), "output_name": "tiny", "caption_extension": ".txt",
                "resolution": "128,128", "enable_bucket": True, "bucket_no_upscale": True, "min_bucket_reso": 64,
                "max_bucket_reso": 256, "train_batch_size": 2, "max_train_epochs": 2, "seed": 7,
                "network_module": "networks.lora", "network_dim": 2, "network_alpha": 1, "learning_rate": 1e-2,
                "optimizer_type": "AdamW", "save_precision": "float", "max_data_loader_n_workers": 0, **values,
            },
            "test",
        )  # fmt: skip
        assert not [p for p in problems if p.severity == "error"]
        return config

    return make


@pytest.fixture
def make_config(config_into, tmp_path):
    """make_config(name=value, …) -> a config that trains the tiny model into tmp_path."""
    return lambda **values: config_into(tmp_path, **values)


@pytest.fixture(scope="session", autouse=True)
def repeatable_gpu():
    """On a GPU, kernels whose float32 results repeat bit for bit, which torch does not take by itself."""
    import torch

    if torch.cuda.is_available():
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.enable_mem_efficient_sdp(False)
