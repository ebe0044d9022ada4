"""Steps, epochs and rates against worked examples and the recorded runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.buckets import Bucket
from kohyakit.dataset.images import ImageRecord
from kohyakit.dataset.layout import Dataset, Subset
from kohyakit.planning.lengths import fill_buckets, gui_steps, learning_rates, training_length
from kohyakit.planning.plan import BucketCount


@pytest.mark.parametrize(
    ("values", "batches", "wanted"),
    [
        # reference: with accumulation 2 and 27 batches, 14 steps
        ({"max_train_epochs": 2, "gradient_accumulation_steps": 2}, 27, (14, 2, 28, "max_train_epochs")),
        ({"max_train_epochs": 2, "max_train_steps": 7}, 15, (15, 2, 30, "max_train_epochs")),
        ({"max_train_steps": 7}, 15, (15, 1, 7, "max_train_steps")),
        ({}, 46, (46, 35, 1600, "max_train_steps")),
        ({"epoch": 10}, 46, (46, 35, 1600, "max_train_steps")),
        ({"epoch": 10, "max_train_steps": 0}, 46, (46, 10, 460, "epoch")),
        ({"max_train_epochs": 3, "num_processes": 4}, 10, (3, 3, 9, "max_train_epochs")),
        ({"max_train_epochs": 3}, 0, (0, 0, 0, "max_train_epochs")),
    ],
)
def test_lengths(values: dict, batches: int, wanted: tuple) -> None:
    got = training_length(TrainConfig().with_values(**values), batches)
    assert (got.steps_per_epoch, got.epochs, got.steps, got.decided_by) == wanted


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (3, 3), (0.1, 3), (0.05, 1), (1.0, 30), (1, 1)])
def test_warm_up_is_steps_or_a_fraction(warmup: float, steps: int) -> None:
    config = TrainConfig().with_values(max_train_epochs=2, lr_warmup_steps=warmup)
    assert training_length(config, 15).warmup_steps == steps


def test_every_bucket_rounds_up() -> None:
    sizes = [(512, 512)] * 5 + [(640, 384), (60, 900)]
    records = tuple(ImageRecord(Path(f"{n}.png"), *size) for n, size in enumerate(sizes))
    dataset = Dataset((512, 512), 4, True, bucket_no_upscale=True, subsets=(Subset(Path("a"), 3, records=records),))
    filling = fill_buckets(dataset)
    # 15 images of one size: 4 batches of 4; 3 of the other: 1
    assert filling.plan.buckets == (
        BucketCount(Bucket(512, 512), 15, 5, 4, (0, 1, 2, 3, 4)), BucketCount(Bucket(640, 384), 3, 1, 1, (5,)),
    )  # fmt: skip
    assert [(image.record.path.name, image.repeats) for image in filling.plan.images] == [
        (f"{n}.png", 3) for n in range(6)
    ]
    assert filling.batches == 5
    ((record, why),) = filling.misfits
    assert record.path.name == "6.png"
    assert "below one bucket step" in why


def test_the_guis_arithmetic() -> None:
    # kohya-gui.md, section 5: 100 weighted images, batch 4, accumulation 2, 3 epochs, reg -> 75
    subset = Subset(Path("a"), 10, records=tuple(ImageRecord(Path(str(n)), 9, 9) for n in range(10)))
    config = TrainConfig().with_values(train_batch_size=4, gradient_accumulation_steps=2, reg_data_dir="reg")
    assert gui_steps(config, [Dataset((64, 64), subsets=(subset,))], 3) == 75


@pytest.mark.parametrize(
    ("values", "unet", "text"),
    [
        ({"learning_rate": 1e-4}, 1e-4, (1e-4,)),
        ({"learning_rate": 1e-4, "unet_lr": 2e-4}, 2e-4, (1e-4,)),
        ({"learning_rate": 1e-4, "text_encoder_lr": (5e-5,)}, 1e-4, (5e-5,)),
        ({"learning_rate": 1e-4, "text_encoder_lr": (5e-5, 0.0)}, 1e-4, (5e-5,)),
        ({"learning_rate": 1e-4, "text_encoder_lr": (0.0,)}, 1e-4, (0.0,)),
        ({"learning_rate": 1e-4, "unet_lr": 0.0}, 0.0, (1e-4,)),
        ({"learning_rate": 1e-4, "network_train_unet_only": True}, 1e-4, (0.0,)),
        ({"learning_rate": 1e-4, "network_train_text_encoder_only": True}, 0.0, (1e-4,)),
    ],
)
def test_rates_in_force(values: dict, unet: float, text: tuple) -> None:
    got = learning_rates(TrainConfig().with_values(**values))
    assert (got.unet, got.text_encoder, got.relative) == (unet, text, False)


def test_two_text_encoders_share_one_rate() -> None:
    config = TrainConfig().with_values(learning_rate=1.0, text_encoder_lr=(5e-5,))
    assert learning_rates(config, 2).text_encoder == (5e-5, 5e-5)
    two = config.with_values(text_encoder_lr=(1.0, 2.0))
    assert learning_rates(two.with_values(network_module="networks.lora"), 2).text_encoder == (1.0, 1.0)
    assert learning_rates(two.with_values(network_module="networks.lora_flux"), 2).text_encoder == (1.0, 2.0)


def test_adafactor_sets_its_own_rate_unless_told_otherwise() -> None:
    config = TrainConfig().with_values(optimizer_type="Adafactor")
    assert learning_rates(config).relative
    assert not learning_rates(config.with_values(optimizer_args=("relative_step=False",))).relative
