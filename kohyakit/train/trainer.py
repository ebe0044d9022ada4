"""The trainer: set up, fit, step. Read it top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.errors import ConfigError, Problem, RunError
from kohyakit.formats.weights.state_folder import Position, StateFolder, standing_against
from kohyakit.models.conditioning import Conditioning
from kohyakit.runs.resume import DATA, Change, changes, group_settings, made_with, refusal
from kohyakit.runs.run import Run
from kohyakit.train import callbacks as cb
from kohyakit.train.assemble import Parts, assemble, choose_seed
from kohyakit.train.output.state import load_state, restore_optimizer
from kohyakit.train.output.writer import Writer
from kohyakit.train.processes import Processes
from kohyakit.train.step.batches import Batch, Example, build_datasets, draw_batch, load_pixels, prefetch
from kohyakit.train.step.losses import batch_loss
from kohyakit.train.step.noise import add_noise, perturbed, sample_noise, sample_timesteps, velocity

_LEAST_SCALE = 1.0  # fp16 halves it (from 65536) with every step that it skips; below, no gradient is too large


class NotFinite(RunError):
    """The loss or a gradient became NaN or infinite; the weights are still those of the step before."""


class Trainer:
    """One training of a LoRA. `setup` makes everything ready, `fit` trains, the `writer` writes what there is.

    stop_reason: set to "interrupted" or "stopped", it ends `fit` after the current step. callbacks: told of every
    step and epoch after the trainer's own, in the main process.
    """

    parts: Parts
    writer: Writer

    def __init__(
        self,
        config: TrainConfig,
        scan: Scan,
        run: Run,
        processes: Processes,
        *,
        echo: Callable[[str], None],
        progress: bool = True,
        callbacks: Sequence[cb.Callback] = (),
    ) -> None:
        self.config = config
        self.run = run
        self.processes = processes
        self.accelerator = processes.accelerator
        self.device = self.accelerator.device
        self.echo = echo
        self.show_progress = progress and processes.main
        self.datasets = build_datasets(scan, config.noise_loss.prior_loss_weight)
        self.position = Position()
        self.stop_reason = ""
        self._listeners = tuple(callbacks)
        self._scan = scan
        self._changes: list[Change] = []
        self._fetched_again: int | None = None  # of an epoch's batches done; None is all of them
        self._epoch_streams: dict[str, Any] = {}
        self._step_streams: dict[str, Any] | None = None

    def setup(self) -> None:
        """Build everything, resume where asked, and connect what listens."""
        resume = self.config.training.resume
        resumed = load_state(Path(resume)) if resume else None
        seed = self.processes.agree_on(choose_seed(self.config.training, resumed[0].position.seed if resumed else None))
        record = self.run.record
        self.made_with = made_with(
            self.config, self._scan, images=record.images, captions=record.captions, seed=seed
        ) | {"processes": self.processes.count}
        if resumed:
            self._look_for_changes(resumed[0])
        self.parts = assemble(
            self.config, self.datasets, self.accelerator, seed, self.echo, progress=self.show_progress
        )
        if resumed:
            self._resume(*resumed)
        self._connect()

    def _look_for_changes(self, state: StateFolder) -> None:
        """What is not as the state was made with. Raises ConfigError where that was not asked for."""
        self._changes = changes(state.made_with, self.made_with)
        taken = self.config.training.resume_with_changes
        if problem := refusal("resume", self._changes, with_changes=taken):
            raise ConfigError(problem)

    def _resume(self, state: StateFolder, network: dict[str, Tensor], rest: dict[str, Any]) -> None:
        """Bring back everything that a step depends on; what was changed on purpose stays as it is asked for now."""
        parts, position = self.parts, state.position
        if against := [*standing_against(position, self.config.training.rng_order, parts.steps)]:
            raise ConfigError(against)
        parts.network.load_state(network)
        changed = bool(self._changes) or position.steps not in (0, parts.steps)
        fresh = group_settings(state.made_with, self.made_with) if changed else None
        restore_optimizer(parts.built.optimizer, parts.scheduler, rest, fresh)
        if self.accelerator.scaler is not None and rest.get("scaler"):
            self.accelerator.scaler.load_state_dict(rest["scaler"])
        if any(change.kind == DATA for change in self._changes):
            position = replace(position, batches_done=0, losses=())
            rest = {**rest, "epoch_streams": rest["streams"]}
        if self.config.training.resume_as == "sd-scripts":
            self._resume_as_sd_scripts(position, rest["streams"])
            return
        self.position = position
        self._epoch_streams, self._step_streams = rest["epoch_streams"], rest["streams"]
        parts.order.restore(self._epoch_streams, position.current_epoch - 1)
        self.echo(f"going on after step {position.current_step} of {parts.steps}")

    def _resume_as_sd_scripts(self, position: Position, streams: dict[str, Any]) -> None:
        """The epoch begins anew and steps count from 0; skip_until_initial_step drops as many batches as were done.

        All but one of these are dropped by the sampler and never fetched, so draw nothing.
        """
        dropped = position.batches_done if self.config.training.skip_until_initial_step else 0
        self.parts.order.restore_as_sd_scripts(streams, max(0, dropped - 1))
        self._fetched_again = min(1, dropped)
        epoch = self.config.training.initial_epoch or position.current_epoch
        self._epoch_streams = streams
        self.position = replace(position, current_step=dropped, current_epoch=epoch, batches_done=dropped, losses=())
        self.echo(f"going on with epoch {epoch} as sd-scripts does, from its beginning")

    def _connect(self) -> None:
        """The writer and, in the main process, the callbacks: progress, saves, samples, logs, the run's record."""
        config, parts, saving = self.config, self.parts, self.config.saving
        self.progress = cb.Progress(parts.steps, self.position.current_step, show=self.show_progress)
        self.average = cb.LossAverage(self.position.losses)
        self.callbacks: list[cb.Callback] = [self.progress]
        self.writer = Writer(
            config, parts, self.run, self.datasets, autocast=self.accelerator.autocast, scaler=self.accelerator.scaler,
            processes=self.processes.count, say=self.progress.write, warn=self.echo,
            stopping=lambda: bool(self.stop_reason),
        )  # fmt: skip
        if not self.processes.main:
            return
        self.writer.hash_models()
        folder = cb.log_folder(
            saving.logging_dir, f"{saving.log_prefix or ''}{datetime.now():%Y%m%d%H%M%S}", saving.log_tracker_name,
            self.run.folder,
        )  # fmt: skip
        self.run.update(
            logs=(*self.run.logs, folder), device=self.processes.device_name(), steps=parts.steps, epochs=parts.epochs,
            seeds={"seed": parts.seed},
        )  # fmt: skip
        self.callbacks += [
            cb.Saver(config, parts.epochs, self.writer.save, self.save_state),
            cb.Sampler(config.sampling, self.writer.sample, self.echo),
            cb.TensorBoard(
                folder, unet_only=config.network.network_train_unet_only, first_is_text=not parts.order.prefetchable
            ),
            cb.Reporting(self.run, parts.steps, parts.epochs, self.processes.memory_gib),
            *self._listeners,
        ]

    def save_state(self, name: str) -> Path:
        """Write the state folder `name` under output_dir."""
        position = replace(self.position, losses=tuple(self.average.losses))
        return self.writer.save_state(name, position, self._epoch_streams, self.made_with)

    def fit(self) -> None:
        """Train until the last step, or until `stop_reason` is set. Raises NotFinite when a loss is not finite."""
        if self.position.current_step == 0:
            for callback in self.callbacks:
                callback.start()
        try:
            for epoch in range(self.position.current_epoch, self.parts.epochs + 1):
                self._train_epoch(epoch)
                if self.stop_reason or self.position.current_step >= self.parts.steps:
                    break
        finally:
            for callback in self.callbacks:
                callback.end()

    def _train_epoch(self, epoch: int) -> None:
        parts = self.parts
        parts.network.train()
        done = self.position.batches_done
        if not done:
            self._epoch_streams = parts.order.state()
        self.position = replace(self.position, current_epoch=epoch)
        for number, batch in enumerate(self._batches(epoch, done), start=done + 1):
            last = number == parts.own_batches
            self._train_batch(batch, number, synced=last or number % parts.accumulation == 0)
            if self.position.current_step >= parts.steps and not last:
                break
            if self.stop_reason and not last and number % parts.accumulation == 0:
                return
        for callback in self.callbacks:
            callback.epoch(epoch, self.position.current_step, self.average.value)
        self.position = replace(self.position, current_epoch=epoch + 1, batches_done=0)

    def _batches(self, epoch: int, done: int) -> Iterator[Batch]:
        """This process' batches of an epoch, fetched ahead of their turn, without those that are done already."""
        parts, dataset = self.parts, self.config.dataset

        def load(example: Example) -> Tensor:
            return load_pixels(example.image, example.draw, dataset.resize_interpolation)

        own = self.processes.share(self._drawn(epoch))
        again, self._fetched_again = done if self._fetched_again is None else self._fetched_again, None
        for _ in islice(own, again):  # drawn once more, for the draws that come after them
            pass
        if self._step_streams is not None:
            parts.order.restore_step(self._step_streams)
            self._step_streams = None
        threads = min(4, self.config.training.max_data_loader_n_workers) if parts.order.prefetchable else 0
        return prefetch(own, None if parts.latents.cached else load, threads, ahead=2 * threads or 1)

    def _drawn(self, epoch: int) -> Iterator[Batch]:
        for position, slot in enumerate(self.parts.order.batches(epoch)):
            parts = self.parts
            batch = (epoch - 1) * parts.own_batches + position // self.processes.count
            step = parts.order.step_seen(batch, parts.own_batches, parts.accumulation)
            yield draw_batch(slot, self.datasets, position, step, parts.steps)

    def _train_batch(self, batch: Batch, number: int, *, synced: bool) -> None:
        """One micro-batch: loss, backward, and where `synced` an optimizer step; then tell the callbacks."""
        loss = self._loss(batch).mean()
        self.accelerator.backward(loss / self.parts.accumulation)
        value = loss.item()  # after backward: to read it waits for the GPU, which would then idle meanwhile
        if self.processes.any(not math.isfinite(value)):
            raise self._not_finite(f"the loss is {value}", batch)
        if synced:
            self._optimize(batch)
            self.position = replace(self.position, current_step=self.position.current_step + 1)
        average = self.average.add(number - 1, value)
        self.position = replace(self.position, batches_done=number)
        rates = dict(zip(self.parts.group_names, map(float, self.parts.scheduler.get_last_lr()), strict=True))
        report = cb.StepReport(
            self.position.current_step, self.position.current_epoch, number - 1, synced, value, average, rates,
            self._adapted_rates(), self._limit_norms() if synced or not self.parts.order.prefetchable else {},
        )  # fmt: skip
        for callback in self.callbacks:
            callback.step(report)
        if synced:
            self._look_for_a_stop()

    def _loss(self, batch: Batch) -> Tensor:
        """The loss of each image of a batch, [B]."""
        parts, noise_loss, model = self.parts, self.config.noise_loss, self.config.model
        stream = parts.order.step(self.position.current_epoch, batch.position)
        with torch.no_grad():
            latents = parts.latents(batch)
        told = self._condition(batch)
        noise = sample_noise(latents, noise_loss, stream)
        timesteps = sample_timesteps(len(batch.examples), noise_loss, stream).to(self.device)
        noisy = add_noise(latents, perturbed(noise, noise_loss, stream), timesteps, parts.alphas_cumprod)
        with self.accelerator.autocast():
            prediction = parts.model.family.predict(parts.model.unet, noisy, timesteps, told)
        target = velocity(latents, noise, timesteps, parts.alphas_cumprod) if model.v_parameterization else noise
        weights = torch.tensor([example.image.weight for example in batch.examples], device=self.device)
        return batch_loss(
            prediction.float(), target.float(), timesteps, weights, noise_loss, parts.alphas_cumprod,
            parts.snr, v_prediction=model.v_parameterization,
        )  # fmt: skip

    def _condition(self, batch: Batch) -> Conditioning:
        """What the U-Net is told of a batch: its captions and, in some families, its sizes."""
        model, captions = self.parts.model, [example.caption for example in batch.examples]
        sizes = torch.tensor([example.sizes(batch.bucket) for example in batch.examples])
        if self.parts.text_outputs is not None:
            return self.parts.text_outputs(captions, sizes).to(self.device, self.parts.precision.weights)
        with torch.set_grad_enabled(self.parts.train_text_encoder), self.accelerator.autocast():
            told = model.family.condition(model.text_encoders, captions, self.config.model, sizes)
        return told.to(self.device, self.parts.precision.weights)

    def _optimize(self, batch: Batch) -> None:
        """Clip the gradient and step; the weights stay as they are when it is not finite."""
        parts = self.parts
        self.processes.average_gradients(p for p in parts.network.parameters() if p.requires_grad)
        parameters = [p for p in parts.network.parameters() if p.grad is not None]
        limit = self.config.optimizer.max_grad_norm
        if limit:
            norm = self.accelerator.clip_grad_norm_(parameters, limit)
            if self.accelerator.scaler is None and not math.isfinite(float(norm)):
                raise self._not_finite("the gradient is not finite", batch)
        parts.optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped:
            parts.scheduler.step()
        elif self.accelerator.scaler.get_scale() < _LEAST_SCALE:
            raise self._not_finite("the gradient stays not finite, however little it is scaled,", batch)
        parts.optimizer.zero_grad(set_to_none=True)

    def _limit_norms(self) -> dict[str, float]:
        largest = self.config.network.scale_weight_norms
        if not largest:
            return {}
        shrunk, mean, top = self.parts.network.limit_norms(largest)
        return {"max_norm/keys_scaled": shrunk, "max_norm/max_key_norm": top, "norm/avg_key_norm": mean}

    def _adapted_rates(self) -> dict[str, float]:
        """What D-Adaptation and Prodigy really use, by group: their estimate d times the rate."""
        groups = zip(self.parts.group_names, self.parts.built.optimizer.param_groups, strict=True)
        return {name: float(group["d"] * group["lr"]) for name, group in groups if "d" in group}

    def _look_for_a_stop(self) -> None:
        """The stop file of the run, or a Ctrl-C in any process, ends all of them after the same step."""
        wanted = self.stop_reason or ("stopped" if self.processes.main and self.run.stop_requested() else "")
        if self.processes.any(bool(wanted)):
            self.stop_reason = wanted or "stopped"

    def where(self) -> str:
        """Which step the training is at, for whoever reads of its end."""
        if not hasattr(self, "parts"):
            return "before the first step"
        return f"step {self.position.current_step + 1}, epoch {self.position.current_epoch}"

    def _not_finite(self, what: str, batch: Batch) -> NotFinite:
        cure = "lower the learning rate, or try bf16 or no_half_vae"
        if self.config.training.full_fp16:
            cure = f"switch full_fp16 off, {cure}"
        return NotFinite(Problem(self.where(), f"{what} for the batch {batch.names()}", cure, "not_finite"))
