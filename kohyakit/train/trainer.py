"""The trainer: set up, fit, step, save. Read it top to bottom."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kohyakit.config.network import parse_network_args
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.errors import ConfigError, Problem, RunError
from kohyakit.planning.lengths import learning_rates, training_length
from kohyakit.planning.saves import extension
from kohyakit.runs.run import Run
from kohyakit.train import callbacks as cb
from kohyakit.train.checkpoint import save_lora
from kohyakit.train.conditioning import encode_prompts, tokenize
from kohyakit.train.data import Batch, Example, build_datasets, draw_batch, load_pixels, prefetch
from kohyakit.train.latents import LatentSource
from kohyakit.train.losses import batch_loss
from kohyakit.train.metadata import MINIMUM, model_facts, model_spec, training_metadata
from kohyakit.train.models import load_model
from kohyakit.train.networks.lora import LoraNetwork, LoraSettings
from kohyakit.train.noise import (
    add_noise, perturbed, sample_noise, sample_timesteps, scaled_linear_alphas_cumprod, velocity,
)  # fmt: skip
from kohyakit.train.optimizers import build_optimizer, chosen_type
from kohyakit.train.precision import precision_of
from kohyakit.train.rng import KohyakitOrder, SdScriptsOrder
from kohyakit.train.schedulers import build_scheduler
from kohyakit.train.state import Position, load_state, save_state

MAX_SEED = 2**32


class NotFinite(RunError):
    """The loss or a gradient became NaN or infinite; the weights are still those of the step before."""


class Trainer:
    """One training of a LoRA. `setup` makes everything ready, `fit` trains, `save` writes what there is."""

    def __init__(self, config: TrainConfig, scan: Scan, run: Run, *, echo: Callable[[str], None], progress: bool = True) -> None:
        self.config = config
        self.run = run
        self.echo = echo
        self.datasets = build_datasets(scan, config.noise_loss.prior_loss_weight)
        self.show_progress = progress
        self.output_dir = Path(config.saving.output_dir or ".").absolute()
        self.position = Position()
        self.stop_reason = ""
        self._started_at = time.time()
        self._session = random.SystemRandom().randint(0, MAX_SEED)

    # Setting up, in the order in which sd-scripts draws random numbers.

    def setup(self) -> None:
        """Load the model, cache latents, build network, optimizer and schedule, and resume where asked."""
        config = self.config
        _quiet_libraries()
        resumed = load_state(Path(config.training.resume)) if config.training.resume else None
        self.seed = self._choose_seed(resumed[0] if resumed else None)
        self.order = self._choose_order(self.seed)
        self.order.begin(self.datasets)
        self.accelerator = _accelerator(config.training.mixed_precision)
        self.device = self.accelerator.device
        self.precision = precision_of(
            config.training.mixed_precision,
            config.saving.save_precision,
            full=config.training.full_fp16 or config.training.full_bf16,
            no_half_vae=config.model.no_half_vae,
            device=self.device,
        )
        self._load_model()
        self._prepare_latents()
        self._build_network()
        self._plan_steps()
        self._build_optimizer()
        self._place_models()
        if resumed:
            self._resume(*resumed)
        self._gather_metadata()
        self._build_callbacks()

    def _choose_seed(self, resumed: Position | None) -> int:
        if self.config.training.seed is not None:
            return self.config.training.seed
        return resumed.seed if resumed else random.SystemRandom().randint(0, MAX_SEED)

    def _choose_order(self, seed: int) -> KohyakitOrder | SdScriptsOrder:
        training = self.config.training
        if training.rng_order == "kohyakit":
            return KohyakitOrder(seed)
        import os

        workers = min(training.max_data_loader_n_workers, os.cpu_count() or 1)
        return SdScriptsOrder(seed, workers, training.persistent_data_loader_workers)

    def _load_model(self) -> None:
        model = self.config.model
        self.echo(f"loading {Path(model.pretrained_model_name_or_path or '').name}")
        self.model = load_model(
            model.pretrained_model_name_or_path or "",
            vae=model.vae,
            v2=model.v2,
            v_parameterization=model.v_parameterization,
        )
        for note in self.model.notes:
            self.echo(f"{note.severity}: {note}")
        self.order.unet_loaded(self.model.unet)
        self.alphas_cumprod = scaled_linear_alphas_cumprod(zero_terminal_snr=model.zero_terminal_snr)

    def _prepare_latents(self) -> None:
        dataset = self.config.dataset
        self.latents = LatentSource(
            self.model.vae.to(self.device, self.precision.vae),
            self.order,
            scale=self.model.vae_scale,
            device=self.device,
            vae_dtype=self.precision.vae,
            latent_dtype=self.precision.weights,
            vae_batch_size=dataset.vae_batch_size,
            resize_interpolation=dataset.resize_interpolation,
        )
        if dataset.cache_latents or dataset.cache_latents_to_disk:
            total = sum(len(d.images) for d in self.datasets)
            bar = cb.Progress(total, 0, show=self.show_progress, what="caching latents", unit="image")
            self.latents.cache(self.datasets, to_disk=dataset.cache_latents_to_disk, progress=bar.advance)
            bar.end()
            self.model.vae.to("cpu")

    def _build_network(self) -> None:
        network = self.config.network
        arguments = parse_network_args(network.network_args or ())
        settings = LoraSettings(
            dim=network.network_dim or 4,
            alpha=network.network_alpha,
            conv_dim=arguments.conv_dim,
            conv_alpha=1.0 if arguments.conv_alpha is None else arguments.conv_alpha,
            dropout=network.network_dropout,
            rank_dropout=arguments.rank_dropout,
            module_dropout=arguments.module_dropout,
        )
        self.network = LoraNetwork.create(self.model.text_encoder, self.model.unet, settings, self.order.init_lora)
        self.train_unet = not network.network_train_text_encoder_only
        self.train_text_encoder = not network.network_train_unet_only
        self.network.attach(text_encoder=self.train_text_encoder, unet=self.train_unet)
        if network.network_weights:
            self.network.load_kohya(Path(network.network_weights))
        self.loraplus = (
            arguments.loraplus_text_encoder_lr_ratio or arguments.loraplus_lr_ratio,
            arguments.loraplus_unet_lr_ratio or arguments.loraplus_lr_ratio,
        )

    def _plan_steps(self) -> None:
        """Batches, steps and epochs by the plan's arithmetic, for the processes that are really there."""
        processes = self.accelerator.num_processes
        batches = sum(dataset.batches for dataset in self.datasets)
        length = training_length(self.config.with_values(num_processes=processes), batches)
        self.own_batches = math.ceil(batches / processes)
        self.accumulation = self.config.training.gradient_accumulation_steps
        self.max_steps, self.epochs = length.steps, length.epochs

    def _build_optimizer(self) -> None:
        optimizer = self.config.optimizer
        rates = learning_rates(self.config)
        groups, self.group_names = self.network.parameter_groups(rates.text_encoder[0], rates.unet, *self.loraplus)
        if not groups:
            raise ConfigError(Problem("learning_rate", "every learning rate in force is 0", "set unet_lr or learning_rate"))
        self.built = build_optimizer(chosen_type(optimizer), groups, optimizer.learning_rate, optimizer.optimizer_args)
        if self.built.lr_scheduler is not None:
            optimizer = replace(optimizer, lr_scheduler=self.built.lr_scheduler, lr_warmup_steps=0)
        self.optimizer = self.built.optimizer
        self.scheduler = build_scheduler(self.optimizer, optimizer, self.max_steps, schedule_free=self.built.schedule_free)

    def _place_models(self) -> None:
        """Frozen weights in their precision on the device; the network in its own."""
        checkpointing = self.config.training.gradient_checkpointing
        unet, text_encoder = self.model.unet, self.model.text_encoder
        unet.requires_grad_(False).to(self.device, self.precision.weights)
        text_encoder.requires_grad_(False).to(self.device, self.precision.text_encoder)
        unet.eval()
        text_encoder.eval()
        if checkpointing:
            unet.enable_gradient_checkpointing()
            unet.train()
            if self.train_text_encoder:
                text_encoder.enable_gradient_checkpointing()
                text_encoder.train()
        self.network.to(self.device, self.precision.network)
        self.alphas_cumprod = self.alphas_cumprod.to(self.device)
        self.optimizer = self.accelerator.prepare(self.optimizer)

    def _resume(self, position: Position, network: dict[str, Tensor], rest: dict[str, Any]) -> None:
        """Bring back everything that a step depends on."""
        if position.rng_order != self.config.training.rng_order:
            cure = f"set rng_order to {position.rng_order}"
            raise ConfigError(Problem("resume", f"the state was made with rng_order {position.rng_order}", cure))
        if position.current_step >= self.max_steps:
            what = f"the state has done {position.current_step} steps, and only {self.max_steps} are asked for"
            raise ConfigError(Problem("resume", what, "raise max_train_epochs or max_train_steps"))
        self.network.load_kohya_state(network, "resume")
        self.optimizer.load_state_dict(rest["optimizer"])
        self.scheduler.load_state_dict(rest["scheduler"])
        if self.accelerator.scaler is not None and rest.get("scaler"):
            self.accelerator.scaler.load_state_dict(rest["scaler"])
        self.position = position
        self._epoch_streams = rest["epoch_streams"]
        self._streams_to_restore = rest["streams"]
        self.order.restore(self._epoch_streams, position.current_epoch - 1)
        self.echo(f"going on after step {position.current_step} of {self.max_steps}")

    def _gather_metadata(self) -> None:
        config = self.config
        batch = config.dataset.train_batch_size * self.accelerator.num_processes * self.accumulation
        facts = {
            "ss_session_id": self._session,
            "ss_training_started_at": self._started_at,
            "ss_seed": self.seed,
            "ss_num_batches_per_epoch": self.own_batches,
            "ss_num_epochs": self.epochs,
            "ss_max_train_steps": self.max_steps,
            "ss_total_batch_size": batch,
            "ss_optimizer": self.built.ss_optimizer,
            **model_facts(config.model.pretrained_model_name_or_path, "sd_model"),
            **model_facts(config.model.vae, "vae"),
        }
        self.metadata = training_metadata(config, self.datasets, facts)

    def _build_callbacks(self) -> None:
        config, main = self.config, self.accelerator.is_main_process
        self.progress = cb.Progress(self.max_steps, self.position.current_step, show=self.show_progress and main)
        self.average = cb.LossAverage(self.position.losses)
        self.callbacks: list[cb.Callback] = [self.progress]
        if not main:
            return
        now = datetime.now()
        saving = config.saving
        folder = cb.log_folder(saving.logging_dir, saving.log_prefix, saving.log_tracker_name, self.run.folder, now)
        self.run.update(logs=(*self.run.logs, folder), device=_device_name(self.device), steps=self.max_steps, epochs=self.epochs,
                        seeds={"seed": self.seed})  # fmt: skip
        self.callbacks += [
            cb.Saver(config, self.epochs, self.save, self.save_state),
            cb.Sampler(config.sampling, self.sample, self.progress.write),
            cb.TensorBoard(folder, unet_only=config.network.network_train_unet_only),
            cb.Reporting(self.run, self.max_steps, self.epochs, _memory_of(self.device)),
        ]

    # Training.

    def fit(self) -> None:
        """Train until the last step, or until `stop_reason` is set. Raises NotFinite when a loss is not finite."""
        for callback in self.callbacks:
            if self.position.current_step == 0:
                callback.start()
        try:
            for epoch in range(self.position.current_epoch, self.epochs + 1):
                self._train_epoch(epoch)
                if self.stop_reason or self.position.current_step >= self.max_steps:
                    break
        finally:
            for callback in self.callbacks:
                callback.end()

    def _train_epoch(self, epoch: int) -> None:
        self.network.train()
        skip, self._skip = self.position.batches_done, 0
        if not skip:
            self._epoch_streams = self.order.state()
        self.position = replace(self.position, current_epoch=epoch)
        for number, batch in enumerate(self._batches(epoch, skip), start=skip + 1):
            last = number == self.own_batches
            self._train_batch(batch, number, synced=last or number % self.accumulation == 0)
            if self.position.current_step >= self.max_steps and not last:
                break
            if self.stop_reason and self.position.batches_done % self.accumulation == 0:
                return
        average = self.average.value
        for callback in self.callbacks:
            callback.epoch(epoch, self.position.current_step, average)
        self.position = replace(self.position, current_epoch=epoch + 1, batches_done=0)

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        """This process' batches of an epoch, fetched one or more ahead, without those that are done already."""
        training, dataset = self.config.training, self.config.dataset
        rank, world = self.accelerator.process_index, self.accelerator.num_processes

        def drawn() -> Iterator[Batch]:
            first: list[Batch] = []
            position = 0
            for position, slot in enumerate(self.order.batches(epoch)):
                batch = draw_batch(slot, self.datasets, position, self._step_seen(epoch, position), self.max_steps)
                if position < world:
                    first.append(batch)
                if position % world == rank:
                    yield batch
            if rank >= (position + 1) % world > 0:  # every process takes as many batches; the last ones start over
                yield first[rank - (position + 1) % world]

        def load(example: Example) -> Tensor:
            return load_pixels(example.image, example.draw, dataset.resize_interpolation)

        waiting = drawn()
        for _ in range(skip):
            next(waiting)
        self._restore_streams()
        threads = min(4, training.max_data_loader_n_workers) if self.order.prefetchable else 0
        ahead = 1 if not threads else 2 * threads
        return prefetch(waiting, None if self.latents.cached else load, threads, ahead)

    def _step_seen(self, epoch: int, position: int) -> int:
        """The step that the captions' token warm-up believes in; sd-scripts' loader is some steps behind."""
        done = ((epoch - 1) * self.own_batches + position) // self.accumulation
        return done if self.order.prefetchable else max(0, done - 3)

    def _restore_streams(self) -> None:
        if getattr(self, "_streams_to_restore", None):
            self.order.restore_step(self._streams_to_restore)
            self._streams_to_restore = None

    def _train_batch(self, batch: Batch, number: int, *, synced: bool) -> None:
        """One micro-batch: loss, backward, and where `synced` an optimizer step; then tell the callbacks."""
        loss = self._loss(batch).mean()
        value = loss.item()
        if not math.isfinite(value):
            raise self._not_finite(f"the loss is {value}", batch)
        self.accelerator.backward(loss / self.accumulation)
        extra: dict[str, float] = {}
        if synced:
            self._optimize(batch)
            extra = self._limit_norms()
            self.position = replace(self.position, current_step=self.position.current_step + 1)
        average = self.average.add(number - 1, value)
        self.position = replace(self.position, batches_done=number)
        rates = dict(zip(self.group_names, map(float, self.scheduler.get_last_lr()), strict=True))
        extra |= self._adapted_rates()
        report = cb.StepReport(
            self.position.current_step, self.position.current_epoch, number - 1, synced, value, average, rates, extra
        )
        for callback in self.callbacks:
            callback.step(report)
        if synced and not self.stop_reason and self.run.stop_requested():
            self.stop_reason = "stopped"

    def _loss(self, batch: Batch) -> Tensor:
        """The loss of each image of a batch, [B]."""
        noise_loss, model = self.config.noise_loss, self.config.model
        stream = self.order.step(batch.epoch if self.order.prefetchable else self.position.current_epoch, batch.position)
        with torch.no_grad():
            latents = self.latents(batch)
        states = self._encode_text([example.caption for example in batch.examples])
        noise = sample_noise(latents, noise_loss, stream)
        timesteps = sample_timesteps(len(batch.examples), noise_loss, stream).to(self.device)
        noisy = add_noise(latents, perturbed(noise, noise_loss, stream), timesteps, self.alphas_cumprod)
        with self.accelerator.autocast():
            prediction = self.model.unet(noisy, timesteps, states).sample
        target = velocity(latents, noise, timesteps, self.alphas_cumprod) if model.v_parameterization else noise
        weights = torch.tensor([example.image.weight for example in batch.examples], device=self.device)
        return batch_loss(
            prediction.float(), target.float(), timesteps, weights, noise_loss, self.alphas_cumprod,
            v_prediction=model.v_parameterization,
        )  # fmt: skip

    def _encode_text(self, captions: list[str]) -> Tensor:
        model = self.config.model
        tokens = tokenize(
            captions, model.max_token_length, weighted=model.weighted_captions, pad_token_id=self.model.family.pad_token_id
        )
        with torch.set_grad_enabled(self.train_text_encoder), self.accelerator.autocast():
            states = encode_prompts(
                self.model.text_encoder, tokens.input_ids.to(self.device), clip_skip=model.clip_skip, weights=tokens.weights
            )
        return states.to(self.precision.weights)

    def _optimize(self, batch: Batch) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.accelerator.num_processes > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        limit = self.config.optimizer.max_grad_norm
        if limit:
            norm = self.accelerator.clip_grad_norm_(list(self.network.parameters()), limit)
            if self.accelerator.scaler is None and not math.isfinite(float(norm)):
                raise self._not_finite("the gradient is not finite", batch)
        self.optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped:
            self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _adapted_rates(self) -> dict[str, float]:
        """What D-Adaptation and Prodigy really use: their estimate d times the rate, under Kohya's tags."""
        groups = zip(self.group_names, self.built.optimizer.param_groups, strict=True)
        return {f"lr/d*lr/{name}": float(group["d"] * group["lr"]) for name, group in groups if "d" in group}

    def _limit_norms(self) -> dict[str, float]:
        largest = self.config.network.scale_weight_norms
        if not largest:
            return {}
        shrunk, mean, top = self.network.limit_norms(largest)
        return {"max_norm/keys_scaled": shrunk, "max_norm/average_key_norm": mean, "max_norm/max_key_norm": top}

    def _not_finite(self, what: str, batch: Batch) -> NotFinite:
        where = f"step {self.position.current_step + 1}, epoch {self.position.current_epoch}"
        cure = "lower the learning rate, or try bf16 or no_half_vae"
        return NotFinite(Problem(where, f"{what} for the batch {batch.names()}", cure, "not_finite"))

    # Saving.

    def save(self, name: str, step: int, epoch: int) -> Path:
        """Write the LoRA as it stands under output_dir; `name` carries no ending."""
        saving = self.config.saving
        path = self.output_dir / f"{name}{extension(self.config)}"
        spec = model_spec(self.config, self.datasets[0].source.resolution, datetime.now())
        written = {
            **self.metadata,
            "ss_training_finished_at": str(time.time()),
            "ss_steps": str(step),
            "ss_epoch": str(epoch),
        }
        if saving.no_metadata:
            written = {key: value for key, value in written.items() if key in MINIMUM}
        with self._as_used():
            save_lora(path, self.network.state_dict(), self.precision.save, {**written, **spec})
        self.run.add_checkpoint(path, epoch=epoch, step=step)
        self.progress.write(f"saved {path.name}")
        return path

    def save_state(self, name: str) -> Path:
        """Write everything that going on exactly needs into the folder `name` under output_dir."""
        folder = self.output_dir / name
        position = replace(
            self.position, losses=tuple(self.average.losses), seed=self.seed, rng_order=self.config.training.rng_order
        )
        if position.batches_done >= self.own_batches:
            position = replace(position, current_epoch=position.current_epoch + 1, batches_done=0)
        rest = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "epoch_streams": self._epoch_streams if position.batches_done else self.order.state(),
            "streams": self.order.state(),
        }
        save_state(folder, position, self.network.state_dict(), rest)
        self.run.add_checkpoint(folder, kind="state", epoch=position.current_epoch, step=position.current_step)
        return folder

    def sample(self, epoch: int | None, step: int) -> None:
        """Draw every sample prompt with the network as it stands, its dropout off."""
        from kohyakit.formats import prompt_lines
        from kohyakit.train.sampling import FOLDER, draw_samples

        sampling, saving = self.config.sampling, self.config.saving
        prompts = prompt_lines.read(sampling.sample_prompts)
        with self._as_used(), self.accelerator.autocast():
            draw_samples(
                self.model, prompts, epoch=epoch, step=step, output_dir=self.output_dir,
                output_name=saving.output_name or "last", sampler=sampling.sample_sampler,
                clip_skip=self.config.model.clip_skip, run=str(self.run.version), echo=self.progress.write,
            )  # fmt: skip
        self.run.update(samples=self.output_dir / FOLDER)


    @contextlib.contextmanager
    def _as_used(self) -> Iterator[None]:
        """The network without dropout, and a schedule-free optimizer's weights as they are meant to be used."""
        self.network.eval()
        if self.built.schedule_free:
            self.built.optimizer.eval()
        try:
            yield
        finally:
            self.network.train()
            if self.built.schedule_free:
                self.built.optimizer.train()


def _quiet_libraries() -> None:
    """diffusers and transformers remark on casts that are meant here, and draw bars of their own."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _accelerator(mixed_precision: str) -> Any:
    """One Accelerator a training; several trainings in one process may differ in precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        return Accelerator(mixed_precision=mixed_precision)
    except ValueError as error:
        cure = "set mixed_precision to bf16 or no"
        raise ConfigError(Problem("mixed_precision", f"{mixed_precision} does not work here ({error})", cure)) from error


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _memory_of(device: torch.device) -> Callable[[], float | None]:
    """How much of the GPU's memory torch holds, in GiB; None on a CPU."""
    if device.type != "cuda":
        return lambda: None
    return lambda: torch.cuda.memory_reserved(device) / 2**30
