"""How long a training is: batches, steps, epochs, warm-up, in sd-scripts' integers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kohyakit.config.arguments.network_modules import SEVERAL_TEXT_RATES
from kohyakit.config.rules.reading import relative_step
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.buckets import Bucket, CannotPlace, Placement, rounded_min_max, select_bucket
from kohyakit.dataset.images import ImageRecord
from kohyakit.dataset.layout import Dataset
from kohyakit.dataset.sources.faces import face_in
from kohyakit.dataset.subsets import Registered
from kohyakit.planning.plan import BucketCount, DatasetPlan, LearningRates, Length, PlacedImage


@dataclass(frozen=True, slots=True)
class Filling:
    """A data set with every image in its place.

    misfits: the images that fit in no bucket, each with the reason. refused: why the settings allow none at all.
    """

    plan: DatasetPlan
    misfits: tuple[tuple[ImageRecord, str], ...] = ()
    refused: str = ""

    @property
    def batches(self) -> int:
        return sum(count.batches for count in self.plan.buckets)


def fill_buckets(dataset: Dataset) -> Filling:
    """Put every image of an epoch into its bucket. No batch mixes buckets, so each bucket's last may be smaller."""
    settings = dataset.bucket_settings
    if settings.enable_bucket:
        try:
            rounded_min_max(settings)
        except CannotPlace as error:
            return Filling(DatasetPlan(dataset, ()), refused=str(error))
    places: dict[tuple[tuple[int, int], bool], Placement | str] = {}
    images: list[PlacedImage] = []
    members: dict[Bucket, list[int]] = {}
    misfits = []
    for registered in dataset.registered():
        size, cut = registered.record.size, _may_be_cut(registered)
        if (size, cut) not in places:
            try:
                places[size, cut] = select_bucket(size, settings, random_crop=cut)
            except CannotPlace as error:
                places[size, cut] = str(error)
        place = places[size, cut]
        if isinstance(place, str):
            misfits.append((registered.record, place))
            continue
        members.setdefault(place.bucket, []).append(len(images))
        images.append(PlacedImage(registered.record, registered.subset, place, registered.repeats))
    buckets = (_count(bucket, members[bucket], images, max(1, dataset.batch_size)) for bucket in sorted(members))
    return Filling(DatasetPlan(dataset, tuple(buckets), tuple(images)), tuple(misfits))


def _may_be_cut(image: Registered) -> bool:
    """Whether something says where an image is cut that is not scaled."""
    subset = image.subset
    faced = subset.face_crop_aug_range is not None and face_in(image.record.path.stem) is not None
    return subset.augment.random_crop or faced


def _count(bucket: Bucket, members: list[int], images: list[PlacedImage], batch: int) -> BucketCount:
    shown = sum(images[place].repeats for place in members)
    return BucketCount(bucket, shown, len(members), -(-shown // batch), tuple(members))


def training_length(config: TrainConfig, batches_per_epoch: int, processes: int | None = None) -> Length:
    """Steps and epochs as sd-scripts counts them.

    max_train_epochs goes before max_train_steps (whose default is 1600); the GUI's epoch counts where that is 0.
    processes: how many there really are; as many as num_processes says by default.
    """
    training = config.training
    processes = max(1, processes or config.launch.num_processes)
    accumulation = max(1, training.gradient_accumulation_steps)
    shares = processes * accumulation
    steps_per_epoch = -(-batches_per_epoch // shares)
    if training.max_train_epochs:
        decided_by, steps = "max_train_epochs", training.max_train_epochs * steps_per_epoch
    elif training.epoch and not training.max_train_steps:
        decided_by, steps = "epoch", training.epoch * steps_per_epoch
    else:
        decided_by, steps = "max_train_steps", training.max_train_steps
    epochs = -(-steps // steps_per_epoch) if steps_per_epoch else 0
    return Length(
        batches_per_epoch,
        steps_per_epoch,
        epochs,
        steps,
        decided_by,
        steps_or_fraction(config.optimizer.lr_warmup_steps, steps),
        steps_or_fraction(config.optimizer.lr_decay_steps, steps),
        processes,
        accumulation,
    )


def steps_or_fraction(value: int | float, steps: int) -> int:
    """lr_warmup_steps and lr_decay_steps: an int is steps, a float a fraction of all steps (cut, not rounded)."""
    return int(value * steps) if isinstance(value, float) else value


def gui_steps(config: TrainConfig, datasets: Iterable[Dataset], epochs: int) -> int:
    """The step count that the GUI's arithmetic gives for so many epochs.

    One division for all buckets together, regularisation taken as twice the steps, processes not counted. (The GUI
    also counts no .bmp; here all images count.)
    """
    images = sum(dataset.train_images for dataset in datasets)
    doubled = 2 if config.dataset.reg_data_dir else 1
    batch = max(1, config.dataset.train_batch_size)
    return math.ceil(images / batch / max(1, config.training.gradient_accumulation_steps) * epochs * doubled)


def learning_rates(config: TrainConfig, text_encoders: int = 1) -> LearningRates:
    """The rates for U-Net and text encoders by sd-scripts' rules.

    An absent rate falls back to learning_rate, one rate for text encoders serves them all (as does the first of
    several with networks.lora, also for SDXL), a rate of 0 leaves the part out, and so do network_train_unet_only and
    network_train_text_encoder_only.
    """
    optimizer, network = config.optimizer, config.network
    base = optimizer.learning_rate
    unet = optimizer.unet_rate
    given = optimizer.text_encoder_lr or (base,)
    if network.network_module not in SEVERAL_TEXT_RATES:
        given = given[:1]
    text = tuple(given[min(place, len(given) - 1)] for place in range(text_encoders))
    if network.network_train_unet_only:
        text = (0.0,) * text_encoders
    if network.network_train_text_encoder_only:
        unet = 0.0
    return LearningRates(unet, text, relative_step(config))
