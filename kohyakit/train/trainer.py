"""The trainer: set up, fit, step. Read it top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem, RunError
from kohyakit.formats.weights.state_folder import Position, StateFolder
from kohyakit.models.conditioning import Conditioning
from kohyakit.networks.base import at_strength
from kohyakit.planning.plan import Plan
from kohyakit.runs.resume import group_settings, made_with
from kohyakit.runs.run import Run
from kohyakit.train import callbacks as cb
from kohyakit.train.assemble import BuildParts, Parts, assemble, choose_seed
from kohyakit.train.output.mirrors import mirrors
from kohyakit.train.output.state import load_state, restore_optimizer
from kohyakit.train.output.writer import Writer
from kohyakit.train.processes import Processes
from kohyakit.train.step.batches import Batch, Example, Picture, draw_batch, load_picture, prefetch
from kohyakit.train.step.losses import batch_loss
from kohyakit.train.step.noise import perturbed, sample_noise
from kohyakit.train.step.placing import checkpoints_in_main_memory
from kohyakit.train.step.preservation import of_the_class, preserved
from kohyakit.train.validation.measure import Validation

_LEAST_SCALE = 1.0  # fp16 halves it (from 65536) with every step that it skips; below, no gradient is too large


class NotFinite(RunError):
    """The loss or a gradient became NaN or infinite; the weights are still those of the step before."""


def _measured_anew(position: Position) -> Position:
    """Without what was measured before, of other photos or by other counts."""
    return replace(position, validation=(), best_loss=None, best_step=0, since_best=0)


class Trainer:
    """One training, as its plan has it. `setup` makes everything ready, `fit` trains, the `writer` writes.

    stop_reason: set to "interrupted", "stopped" or cb.EARLY, it ends `fit` after the current step. callbacks: told of
    every moment after the trainer's own, in the main process. build: what makes the parts that a step needs.
    """

    parts: Parts
    writer: Writer
    validation: Validation

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        run: Run,
        processes: Processes,
        *,
        echo: Callable[[str], None],
        progress: bool = True,
        callbacks: Sequence[cb.Callback] = (),
        build: BuildParts | None = None,
    ) -> None:
        self.config = config
        self.plan = plan
        self.run = run
        self.processes = processes
        self.accelerator = processes.accelerator
        self.device = self.accelerator.device
        self.echo = echo
        self.show_progress = progress and processes.main
        self.position = Position()
        self.stop_reason = ""
        self._listeners = tuple(callbacks)
        self._build = build or assemble
        self._drifted: Tensor | None = None
        self._fetched_again: int | None = None  # of an epoch's batches done; None is all of them
        self._epoch_streams: dict[str, Any] = {}
        self._step_streams: dict[str, Any] | None = None

    def setup(self) -> None:
        """Build everything, resume where asked, and connect what listens."""
        resume, as_there = self.config.training.resume, self.config.training.rng_order == "sd-scripts"
        resumed = load_state(Path(resume), random_states=as_there) if resume else None
        known = resumed[0].position.seed if resumed and not resumed[0].by_sd_scripts else None
        seed = self.processes.agree_on(choose_seed(self.config.training, known))
        self.made_with = made_with(
            self.config, [part.dataset for part in self.plan.datasets], images=self.run.record.images,
            captions=self.run.record.captions, seed=seed,
        ) | {"processes": self.processes.count}  # fmt: skip
        self.parts = self._build(self.config, self.plan, self.accelerator, seed, self.echo, progress=self.show_progress)
        if resumed:
            self._resume(*resumed)
        self._connect()

    def _resume(self, state: StateFolder, network: dict[str, Tensor], rest: dict[str, Any]) -> None:
        """Bring back everything that a step depends on; what was changed on purpose stays as it is asked for now."""
        parts, position, start = self.parts, state.position, self.plan.start
        parts.trained.load_state(network)
        changed = start.changed or position.steps not in (0, self.plan.steps)
        fresh = group_settings(state.made_with, self.made_with) if changed or state.by_sd_scripts else None
        restore_optimizer(parts.built.optimizer, parts.scheduler, rest, fresh, by_sd_scripts=state.by_sd_scripts)
        parts.built.train()  # sd-scripts keeps the weights of a schedule-free one as they are used
        if self.accelerator.scaler is not None and rest.get("scaler"):
            self.accelerator.scaler.load_state_dict(rest["scaler"])
        position = replace(
            position, current_step=start.step, current_epoch=start.epoch, batches_done=start.batches_done
        )
        if start.as_sd_scripts:
            self._resume_as_sd_scripts(position, rest["streams"])
            return
        self.position = _measured_anew(replace(position, losses=())) if start.anew else position
        self._epoch_streams, self._step_streams = rest["streams" if start.anew else "epoch_streams"], rest["streams"]
        parts.order.restore(self._epoch_streams, start.epoch - 1)
        self.echo(f"going on after step {start.step} of {self.plan.steps}")

    def _resume_as_sd_scripts(self, position: Position, streams: dict[str, Any]) -> None:
        """The epoch begins anew and steps count from 0; skip_until_initial_step drops as many batches as were done.

        All but one of these are dropped by the sampler and never fetched, so draw nothing.
        """
        dropped = position.batches_done
        self.parts.order.restore_as_sd_scripts(streams, max(0, dropped - 1))
        self._fetched_again = min(1, dropped)
        self._epoch_streams = streams
        self.position = _measured_anew(replace(position, losses=()))
        self.echo(f"going on with epoch {position.current_epoch} as sd-scripts does, from its beginning")

    def _connect(self) -> None:
        """The writer and, in the main process, the callbacks: progress, saves, samples, logs, the run's record."""
        config, plan, parts, saving = self.config, self.plan, self.parts, self.config.saving
        self.progress = cb.Progress(plan.steps, self.position.current_step, show=self.show_progress)
        self.average = cb.LossAverage(self.position.losses)
        if plan.validation:
            self.validation = Validation(
                config, plan.validation, parts, self.processes, self._condition, self._losses, self.position.validation
            )
        self.callbacks: list[cb.Callback] = [self.progress]
        self.writer = Writer(
            config, plan, parts, self.run, self.accelerator, say=self.progress.write, warn=self.echo,
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
            logs=(*self.run.logs, folder), device=self.processes.device_name(), steps=plan.steps, epochs=plan.epochs,
            seeds={"seed": parts.seed},
        )  # fmt: skip
        self.callbacks += [
            cb.Saver(plan, self.writer.folder, self.writer.save, self.save_state),
            cb.Best(plan, self.run, self.writer.save),
            cb.Sampler(plan, self.writer.sample, self.echo),
            cb.TensorBoard(
                folder, unet_only=config.network.network_train_unet_only,
                first_is_text=parts.order.follows_sd_scripts, mirrors=mirrors(config, self.run, self.echo),
            ),
            cb.Reporting(self.run, plan.steps, plan.epochs, self.processes.memory_gib),
            *([cb.Compiling(self.echo)] if config.training.torch_compile else []),
            *self._listeners,
        ]  # fmt: skip

    def save_state(self, name: str) -> Path:
        """Write the state folder `name` under output_dir."""
        position = replace(self.position, losses=tuple(self.average.losses))
        return self.writer.save_state(name, position, self._epoch_streams, self.made_with)

    def fit(self) -> None:
        """Train until the last step, or until `stop_reason` is set. Raises NotFinite when a loss is not finite."""
        try:
            for callback in self.callbacks:
                callback.ready(self.parts.trained)
            if self.position.current_step == 0:
                for callback in self.callbacks:
                    callback.start()
            for epoch in range(self.position.current_epoch, self.plan.course.last_epoch + 1):
                self._train_epoch(epoch)
                if self.stop_reason or self.position.current_step >= self.plan.steps:
                    break
        finally:
            for callback in self.callbacks:
                callback.end()

    def _train_epoch(self, epoch: int) -> None:
        parts, length = self.parts, self.plan.length
        parts.trained.train()
        done = self.position.batches_done
        if not done:
            self._epoch_streams = parts.order.state()
        self.position = replace(self.position, current_epoch=epoch)
        for number, batch in enumerate(self._batches(epoch, done), start=done + 1):
            last, synced = number == length.own_batches, length.ends_step(number)
            self._train_batch(batch, number, synced=synced)
            if self.position.current_step >= length.steps and not last:
                break
            if self.stop_reason and synced and not last:
                return
        self._validate(epoch)
        for callback in self.callbacks:
            callback.epoch(epoch, self.position.current_step, self.average.value)
        self.position = replace(self.position, current_epoch=epoch + 1, batches_done=0)

    def _batches(self, epoch: int, done: int) -> Iterator[Batch]:
        """This process' batches of an epoch, fetched ahead of their turn, without those that are done already."""
        parts, dataset = self.parts, self.config.dataset

        def load(example: Example) -> Picture:
            return load_picture(example.image, example.draw, dataset.resize_interpolation)

        own = self.processes.share(self._drawn(epoch))
        again, self._fetched_again = done if self._fetched_again is None else self._fetched_again, None
        for _ in islice(own, again):  # drawn once more, for the draws that come after them
            pass
        if self._step_streams is not None:
            parts.order.restore_step(self._step_streams)
            self._step_streams = None
        threads = min(4, self.config.training.max_data_loader_n_workers) if not parts.order.follows_sd_scripts else 0
        return prefetch(own, None if parts.latents.cached else load, threads, ahead=2 * threads or 1)

    def _drawn(self, epoch: int) -> Iterator[Batch]:
        parts, length, measured = self.parts, self.plan.length, self.plan.validation

        def validated(batch: int) -> bool:
            return measured is not None and measured.follows(batch, length)

        for position, slot in enumerate(parts.order.batches(epoch)):
            batch = (epoch - 1) * length.own_batches + position // length.processes
            step = parts.order.step_seen(batch, length.own_batches, length.accumulation, validated)
            yield draw_batch(slot, parts.datasets, position, step, length.steps)

    def _train_batch(self, batch: Batch, number: int, *, synced: bool) -> None:
        """One micro-batch: loss, backward, and where `synced` an optimizer step; then tell the callbacks."""
        with at_strength(self.parts.trained, self.parts.datasets[batch.dataset].source.network_multiplier):
            loss = self._loss(batch).mean()
            self.accelerator.backward(loss / self.plan.length.accumulation)
        value = loss.item()  # after backward: to read it waits for the GPU, which would then idle meanwhile
        if self.processes.any(not math.isfinite(value)):
            raise self._not_finite(f"the loss is {value}", batch)
        if synced:
            self._optimize(batch)
            self.position = replace(self.position, current_step=self.position.current_step + 1)
        average = self.average.add(number - 1, value)
        self.position = replace(self.position, batches_done=number)
        if synced:
            self._validate()
        rates = dict(zip(self.parts.group_names, map(float, self.parts.scheduler.get_last_lr()), strict=True))
        report = cb.StepReport(
            self.position.current_step, self.position.current_epoch, number - 1, synced, value, average, rates,
            self.parts.adapted_rates(), self._further(synced=synced),
        )  # fmt: skip
        for callback in self.callbacks:
            callback.step(report)
        if synced:
            self._look_for_a_stop()

    def _loss(self, batch: Batch) -> Tensor:
        """The loss of each image of a batch, [B]."""
        parts, noise_loss, process = self.parts, self.config.noise_loss, self.parts.process
        stream = parts.order.step(self.position.current_epoch, batch.position)
        with torch.no_grad():
            latents = parts.latents(batch)
        told = self._condition(batch)
        noise = sample_noise(latents, noise_loss, stream)
        timesteps = process.timesteps(len(batch.examples), noise_loss, stream).to(self.device)
        noisy = process.add_noise(latents, perturbed(noise, noise_loss, stream), timesteps)
        losses = self._losses(batch, told, latents, noise, noisy, timesteps)
        if noise_loss.preservation_class:
            losses = losses + self._drift(batch, noisy, timesteps)
        self._tell(batch, (latents, noise, noisy, timesteps, losses.detach()))
        return losses

    def _losses(
        self, batch: Batch, told: Conditioning, latents: Tensor, noise: Tensor, noisy: Tensor, timesteps: Tensor
    ) -> Tensor:
        """How far what the network sees in noisy latents is from what is to be seen, of each image of a batch, [B]."""
        parts, noise_loss, process = self.parts, self.config.noise_loss, self.parts.process
        parts.trained.see(timesteps)
        with self.accelerator.autocast(), self._kept_for_backward():
            prediction = parts.model.family.predict(parts.model, noisy, timesteps, told)
        target = process.target(latents, noise, timesteps)
        if places := preserved(batch):
            target = target.clone()  # of a noise prediction it is the noise itself
            target[places] = self._own(noisy[places], timesteps[places], told.of(places)).to(target.dtype)
        weights = torch.tensor([example.image.weight for example in batch.examples], device=self.device)
        masks = parts.latents.masks_of(batch, latents)
        return batch_loss(prediction.float(), target.float(), timesteps, weights, noise_loss, process, masks=masks)

    def _validate(self, epoch: int | None = None) -> None:
        """Measure the loss where the plan says so, after a step or at the end of an epoch."""
        position = self.position
        if self.plan.validation is None or not self.plan.validation.due(position.current_step, epoch):
            return
        with self.writer.undisturbed():
            with torch.no_grad():
                told = self.validation(position, epoch, self.average.value)
            told = replace(told, average=self.processes.agree_on(told.average))
            self.position = self.validation.after(position, told)
            for callback in self.callbacks:
                callback.validated(replace(told, best=self.position.since_best == 0))
        patience = self.plan.validation.patience
        if patience and self.position.since_best >= patience and told.step < self.plan.steps and not self.stop_reason:
            self.stop_reason = cb.EARLY

    def _kept_for_backward(self) -> AbstractContextManager[None]:
        offload = self.config.training.cpu_offload_checkpointing and self.config.training.gradient_checkpointing
        return checkpoints_in_main_memory(self.device) if offload else nullcontext()

    def _own(self, noisy: Tensor, timesteps: Tensor, told: Conditioning) -> Tensor:
        """What the model answers without the network."""
        model = self.parts.model
        with self.parts.trained.off(), torch.no_grad(), self.accelerator.autocast():  # a strength of 0 leaves DoRA on
            return model.family.predict(model, noisy, timesteps, told)

    def _drift(self, batch: Batch, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """How far the LoRA moves the model's answers for the class word, [B], times preservation_weight."""
        model, asked = self.parts.model, self.config.noise_loss
        captions = [of_the_class(example.caption, asked) for example in batch.examples]
        with torch.no_grad(), self.parts.trained.off():
            told = self._condition(batch, captions)
        own = self._own(noisy, timesteps, told)
        if self.parts.train_text_encoder:
            told = self._condition(batch, captions)
        with self.accelerator.autocast(), self._kept_for_backward():
            moved = model.family.predict(model, noisy, timesteps, told)
        drift = (moved.float() - own.float()).square().mean(dim=(1, 2, 3)) * asked.preservation_weight
        self._drifted = drift.detach().mean()
        return drift

    def _tell(self, batch: Batch, tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> None:
        """tensors: as `Seen` has them."""
        for callback in self.callbacks:
            callback.seen(cb.Seen(self.position.current_epoch, batch.position, batch, *tensors))

    def _condition(self, batch: Batch, captions: Sequence[str] | None = None) -> Conditioning:
        """What the U-Net is told of a batch: its captions, or others, and in some families its sizes."""
        captions = captions or [example.caption for example in batch.examples]
        cached = self.parts.latents.cached and self.parts.order.follows_sd_scripts
        sizes = torch.tensor([example.sizes(batch.bucket, cached=cached) for example in batch.examples])
        if self.parts.text_outputs is not None:
            return self.parts.text_outputs(captions, sizes).to(self.device, self.parts.precision.weights)
        learning = self.parts.train_text_encoder and torch.is_grad_enabled()
        with torch.set_grad_enabled(learning), self.accelerator.autocast():
            told = self.parts.model.family.condition(self.parts.model, captions, self.config.model, sizes)
        return told.to(self.device, self.parts.precision.weights)

    def _optimize(self, batch: Batch) -> None:
        """Clip the gradient and step; the weights stay as they are when it is not finite."""
        parts = self.parts
        self.processes.average_gradients(p for p in parts.trained.parameters() if p.requires_grad)
        parameters = [p for p in parts.trained.parameters() if p.grad is not None]
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

    def _further(self, *, synced: bool) -> dict[str, float]:
        """Scalars beside loss and rates: what holds the norms down, and what is preserved."""
        told = {} if self._drifted is None else {"loss/preservation": float(self._drifted)}
        largest = self.config.network.scale_weight_norms
        if not largest or not (synced or self.parts.order.follows_sd_scripts):
            return told
        shrunk, mean, top = self.parts.trained.limit_norms(largest)
        return {"max_norm/keys_scaled": shrunk, "max_norm/max_key_norm": top, "norm/avg_key_norm": mean, **told}

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
