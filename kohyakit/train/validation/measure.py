"""One measurement: the loss on photos held back, or on the training's own with noise that is held back."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.augment import ImageDraw, process_caption
from kohyakit.formats.weights.state_folder import Position
from kohyakit.models.conditioning import Conditioning
from kohyakit.networks.base import at_strength
from kohyakit.planning.plan import Validation as Planned
from kohyakit.train.assemble import Parts
from kohyakit.train.callbacks import Validated
from kohyakit.train.processes import Processes
from kohyakit.train.step.batches import Batch, Example, Picture, build_datasets, draw_batch, load_picture, prefetch
from kohyakit.train.step.noise import perturbed, sample_noise
from kohyakit.train.step.rng import StepStream, stream_of
from kohyakit.train.step.rng_sd_scripts import SdScriptsOrder
from kohyakit.train.validation.running_mean import RunningMean

Losses = Callable[[Batch, Conditioning, Tensor, Tensor, Tensor, Tensor], Tensor]
_GOLDEN = (math.sqrt(5) - 1) / 2


class Validation:
    """Measures where it is called, and remembers what sd-scripts' mean of the steps needs.

    condition, losses: the trainer's own, of a batch, and of a batch with its conditioning, latents, noise, noisy
    latents and timesteps. known: the losses of earlier validations after steps, where a training goes on.
    """

    def __init__(
        self,
        config: TrainConfig,
        plan: Planned,
        parts: Parts,
        processes: Processes,
        condition: Callable[[Batch], Conditioning],
        losses: Losses,
        known: Sequence[float] = (),
    ) -> None:
        self._config, self._plan, self._parts, self._processes = config, plan, parts, processes
        self._condition, self._losses_of = condition, losses
        self._by_step = RunningMean(known)
        chosen = config.dataset.validation_seed
        self._seed = parts.seed if chosen is None else chosen
        self._photos = parts.held_back if plan.held_back else build_datasets(plan.datasets, 1.0)
        self._first = len(parts.datasets) if plan.held_back else 0  # the same photos at the same places as trained

    def after(self, position: Position, told: Validated) -> Position:
        """Where the training stands after a measurement; since_best is 0 where it is the lowest so far."""
        position = replace(position, validation=tuple(self._by_step.losses))
        if math.isfinite(told.average) and (position.best_loss is None or told.average < position.best_loss):
            return replace(position, best_loss=told.average, best_step=told.step, since_best=0)
        return replace(position, since_best=position.since_best + 1)

    def __call__(self, position: Position, epoch: int | None, training: float) -> Validated:
        """Of the step and epoch where the training stands. training: its mean loss."""
        kind = "step" if epoch is None else "epoch"
        with self._parts.order.aside(self._seed) as stream:
            if isinstance(self._parts.order, SdScriptsOrder) and self._plan.as_sd_scripts:
                found = list(self._as_sd_scripts(self._parts.order, position, stream))
                groups = range(0, len(found), self._plan.noises)
                each = [sum(found[i : i + self._plan.noises]) / self._plan.noises for i in groups]
            else:
                each = found = list(self._with_fixed_noise())
        average = mean = sum(found) / len(found)
        error = standard_error(each)
        if epoch is None and self._plan.as_sd_scripts:
            for place, loss in enumerate(found):
                self._by_step.add(place, loss, first_epoch=position.current_epoch == 1)
            mean = self._by_step.value
        told = {f"{kind}_average": mean}
        if self._plan.held_back:
            told[f"{kind}_divergence"] = mean - training
        if error is not None and not self._plan.as_sd_scripts:
            told[f"{kind}_error"] = error
        tags = {f"{self._plan.tag}/{name}": value for name, value in told.items()}
        return Validated(position.current_step, epoch, position.current_epoch, average, error, tags)

    def _as_sd_scripts(self, order: SdScriptsOrder, position: Position, stream: StepStream) -> Iterator[float]:
        """Each batch at each timestep, latents and noise drawn anew; captions and crops as the training draws them."""
        noise_loss, parts = self._config.noise_loss, self._parts
        for batch in islice(self._loaded(self._drawn(order, position)), self._plan.batches):
            told = self._condition(batch)
            for timestep in self._plan.timesteps:
                latents = parts.latents(batch)
                noise = sample_noise(latents, noise_loss, stream)
                timesteps = torch.full((len(batch.examples),), timestep, device=latents.device)
                noisy = parts.process.add_noise(latents, perturbed(noise, noise_loss, stream), timesteps)
                yield float(self._losses_of(batch, told, latents, noise, noisy, timesteps).mean())

    def _drawn(self, order: SdScriptsOrder, position: Position) -> Iterator[Batch]:
        """Without workers sd-scripts never tells this data set its step; a worker hears of it with its first batch."""
        datasets = (*self._parts.datasets, *self._parts.held_back)
        for place, slot in enumerate(order.held_batches(position.current_epoch)):
            step = position.current_step - 1 if order.workers and place >= order.workers else 0
            yield draw_batch(slot, datasets, place, step, max_train_steps=0)

    def _with_fixed_noise(self) -> Iterator[float]:
        """Each photo's mean loss over noises of its own, the same ones each time, at timesteps spread over all."""
        first = 0
        for batch in self._loaded(iter(self._chosen())):
            strength = self._photos[batch.dataset - self._first].source.network_multiplier
            with at_strength(self._parts.trained, strength):
                told, latents = self._condition(batch), self._parts.latents(batch)
                rounds = [self._round(batch, told, latents, first, number) for number in range(self._plan.noises)]
            yield from torch.stack(rounds).mean(dim=0).tolist()
            first += len(batch.examples)

    def _chosen(self) -> list[Batch]:
        """All photos bucket by bucket or, of more batches than are wanted, some from all over."""
        every = [
            (number, members[start : start + data.batch_size])
            for number, data in enumerate(self._photos)
            for members in data.bucket_members
            for start in range(0, len(members), data.batch_size)
        ]
        wanted = [every[k * len(every) // self._plan.batches] for k in range(self._plan.batches)]
        return [self._plain(number, images, place) for place, (number, images) in enumerate(wanted)]

    def _round(self, batch: Batch, told: Conditioning, latents: Tensor, first: int, number: int) -> Tensor:
        """The loss of each photo of a batch with its noise of this number. first: photos before this batch."""
        noise_loss, rounds = self._config.noise_loss, self._plan.noises
        streams = [stream_of(self._seed, "validation", e.image.key, number) for e in batch.examples]
        pairs = [(latent[None], stream) for latent, stream in zip(latents, streams, strict=True)]
        noise = torch.cat([sample_noise(latent, noise_loss, stream) for latent, stream in pairs])
        added = torch.cat([perturbed(n[None], noise_loss, s) for n, s in zip(noise, streams, strict=True)])
        places = [fixed_timestep(first + i, number, rounds, *noise_loss.timesteps) for i in range(len(streams))]
        timesteps = torch.tensor(places, device=latents.device)
        noisy = self._parts.process.add_noise(latents, added, timesteps)
        return self._losses_of(batch, told, latents, noise, noisy, timesteps).float().cpu()

    def _plain(self, number: int, images: Sequence[int], position: int) -> Batch:
        """Photos uncropped but for their bucket and with their whole captions, whatever the training draws of both."""
        dataset, examples = self._photos[number], []
        for index in images:
            image, place = dataset.images[index], dataset.images[index].placement
            options = replace(
                image.subset.captions, shuffle_caption=False, caption_dropout_rate=0.0, caption_tag_dropout_rate=0.0,
                caption_dropout_every_n_epochs=0, token_warmup_step=0,
            )  # fmt: skip
            caption = process_caption(image.record.caption, options, random.Random(image.key))
            examples.append(Example(index, image, ImageDraw(False, place.crop_left, place.crop_top), caption))
        return Batch(self._first + number, examples[0].image.placement.bucket, examples, position)

    def _loaded(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """This process' batches with their pixels, one ahead."""
        how = self._config.dataset.resize_interpolation

        def load(example: Example) -> Picture:
            return load_picture(example.image, example.draw, how)

        own = self._processes.share(batches) if self._plan.as_sd_scripts else batches
        return prefetch(own, None if self._parts.latents.cached else load, 0, ahead=1)


def fixed_timestep(photo: int, number: int, rounds: int, low: int, high: int) -> int:
    """One of a photo's timesteps: each in its own part of the range, and from photo to photo elsewhere in it."""
    within = ((photo + 0.5) * _GOLDEN) % 1
    return min(high - 1, low + int((high - low) * (number + within) / rounds))


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of these; None for fewer than two."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
