"""What a training writes on its way: LoRA files, states, samples, each noted in the run's record."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kohyakit.config.arguments.adapters import LYCORIS
from kohyakit.config.train import TrainConfig
from kohyakit.planning.plan import DrawPoint, Plan, SavePoint
from kohyakit.runs.earlier import keep_all_earlier, keep_earlier
from kohyakit.runs.run import Run
from kohyakit.train import ahead
from kohyakit.train.assemble import Parts
from kohyakit.train.output.metadata import MINIMUM, model_facts, model_spec, training_metadata
from kohyakit.train.output.state import Position, save_state


class Writer:
    """Writes under output_dir what the plan names.

    say: takes a line for whoever watches; warn: one that the log must hold too.
    stopping: whether the training is about to end, which ends the drawing of samples.
    """

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        parts: Parts,
        run: Run,
        accelerator: Any,
        *,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config, self._plan, self._parts, self._run = config, plan, parts, run
        self._accelerator, self._say, self._warn, self._stopping = accelerator, say, warn, stopping
        self.folder = Path(config.saving.output_dir or ".").absolute()
        self._known = self._facts()
        self._hashes: Future[dict[str, Any]] | None = None

    def hash_models(self) -> None:
        """Begin to hash the base model, of some gigabytes; only the first save needs it."""
        self._hashes = ahead.begin(self._model_facts, "model hash")

    def _model_facts(self) -> dict[str, Any]:
        model = self._config.model
        return {**model_facts(model.pretrained_model_name_or_path, "sd_model"), **model_facts(model.vae, "vae")}

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What every file of this training says of it."""
        models = self._hashes.result() if self._hashes else self._model_facts()
        held = sum(data.source.train_images for data in self._parts.held_back)
        return training_metadata(self._config, self._parts.datasets, {**self._known, **models}, held=held)

    def _facts(self) -> dict[str, Any]:
        config, parts, length = self._config, self._parts, self._plan.length
        own_rate = {"ss_learning_rate": None, "ss_unet_lr": None, "ss_lr_scheduler": parts.built.lr_scheduler}
        return {
            "ss_session_id": random.SystemRandom().randint(0, 2**32),
            "ss_training_started_at": time.time(),
            "ss_seed": parts.seed,
            "ss_num_batches_per_epoch": length.own_batches,
            "ss_num_epochs": length.epochs,
            "ss_max_train_steps": length.steps,
            "ss_total_batch_size": config.dataset.train_batch_size * length.processes * length.accumulation,
            "ss_optimizer": parts.built.ss_optimizer,
            **(own_rate if parts.built.lr_scheduler else {}),
        }

    def save(self, point: SavePoint) -> Path:
        """Write the LoRA as it stands. Raises RunError when the disk refuses."""
        config = self._config
        saving = config.saving
        path = self.folder / point.file
        written = {
            **self.metadata,
            "ss_training_finished_at": str(time.time()),
            "ss_steps": str(point.step),
            "ss_epoch": str(point.told_epoch),
        }
        if saving.no_metadata:
            written = {key: value for key, value in written.items() if key in MINIMUM}
        written |= model_spec(config, datetime.now())
        self._keep_earlier(path)
        with self.as_used():
            parts = self._parts
            as_lycoris = config.network.network_module == LYCORIS and parts.order.follows_sd_scripts
            parts.trained.save(path, parts.precision.save, written, legacy_hash=not as_lycoris)
        self._run.add_checkpoint(path, epoch=point.told_epoch, step=point.step)
        self._say(f"saved {path.name}")
        return path

    def save_state(
        self, name: str, position: Position, epoch_streams: dict[str, Any], made_with: Mapping[str, Any]
    ) -> Path:
        """Write everything that going on exactly needs into the folder `name`. Raises RunError."""
        parts, folder, scaler = self._parts, self.folder / name, self._accelerator.scaler
        order_state = parts.order.state()
        if position.batches_done >= self._plan.length.own_batches:
            position = replace(position, current_epoch=position.current_epoch + 1, batches_done=0)
        rest = {
            "optimizer": parts.optimizer.state_dict(),
            "scheduler": parts.scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "epoch_streams": epoch_streams if position.batches_done else order_state,
            "streams": order_state,
        }
        rng_order = self._config.training.rng_order
        position = replace(position, seed=parts.seed, rng_order=rng_order, steps=self._plan.steps)
        self._keep_earlier(folder)
        origin = {"run": str(self._run.version), "made_with": made_with}
        save_state(folder, position, parts.trained.state_dict(), rest, origin)
        self._run.add_checkpoint(folder, kind="state", epoch=position.current_epoch, step=position.current_step)
        return folder

    def _keep_earlier(self, path: Path) -> None:
        """Earlier trainings' files under this name move aside before the first of ours is written."""
        if not self._run.record.checkpoints:
            asked = self._config
            start = (asked.training.resume, asked.network.network_weights)
            moved = keep_all_earlier(self._run, self.folder, self._plan.name, (path for path in start if path))
            if moved:
                files = f"{len(moved)} earlier file{'s' * (len(moved) != 1)} of that name"
                places = ", ".join(sorted({str(place.parent) for place in moved.values()}))
                self._say(f"{files} moved to {places}; kohyakit runs restore brings them back")
        kept = keep_earlier(self._run, path)
        if kept is not None:
            self._say(f"the earlier {path.name} is now {kept}")

    def sample(self, point: DrawPoint) -> None:
        """Draw every sample prompt of the plan with the network as it stands, its dropout off."""
        from kohyakit.train.output.sampling import FOLDER, Drawing, draw_samples

        config, parts = self._config, self._parts
        wanted = takewhile(lambda _: not self._stopping(), self._plan.samples)
        as_there = config.training.rng_order == "sd-scripts"  # which draws samples on the schedule as it was before
        asked = replace(config.model, zero_terminal_snr=config.model.zero_terminal_snr and not as_there)
        drawing = Drawing(self.folder, self._plan.name, point.epoch, point.step, str(self._run.version))
        network = parts.trained if isinstance(parts.trained, nn.Module) else None
        with self.as_used(), self._accelerator.autocast():
            draw_samples(parts.model, wanted, drawing, asked=asked, network=network, echo=self._warn)
        self._run.update(samples=self.folder / FOLDER)

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """The network as it is used; afterwards every weight is the very number that it was."""
        moved = self._parts.built.schedule_free
        kept = [(p, p.detach().clone()) for p in self._parts.trained.parameters()] if moved else []
        with self.as_used():
            yield
        with torch.no_grad():
            for parameter, before in kept:
                parameter.copy_(before)

    @contextlib.contextmanager
    def as_used(self) -> Iterator[None]:
        """The network without dropout, and a schedule-free optimizer's weights as they are meant to be used."""
        trained, built = self._parts.trained, self._parts.built
        trained.train(False)
        built.train(False)
        try:
            yield
        finally:
            trained.train()
            built.train()
