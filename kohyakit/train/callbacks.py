"""What happens beside the training itself: one concern a class, told of every step and epoch."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kohyakit.errors import RunError
from kohyakit.planning.saves import epoch_interval, extension

if TYPE_CHECKING:
    from kohyakit.config.sections.sampling import SamplingConfig
    from kohyakit.config.train import TrainConfig
    from kohyakit.runs.run import Run


@dataclass(frozen=True, slots=True)
class StepReport:
    """One micro-batch that is done. step counts optimizer steps; synced: this batch ended one.

    rates: learning rate by parameter group's name, of the next step (as Kohya logs it). adapted: the same times what
    the optimizer found out itself, where it does. extra: further scalars by tag.
    """

    step: int
    epoch: int
    position: int
    synced: bool
    loss: float
    average: float
    rates: dict[str, float]
    adapted: dict[str, float]
    extra: dict[str, float]


class Callback(Protocol):
    """Every method may be left as it is inherited."""

    def start(self) -> None: ...
    def step(self, report: StepReport) -> None: ...
    def epoch(self, epoch: int, step: int, average: float) -> None: ...
    def end(self) -> None: ...


class Quiet:
    """A callback that does nothing; the others override what they need."""

    def start(self) -> None: ...
    def step(self, report: StepReport) -> None: ...
    def epoch(self, epoch: int, step: int, average: float) -> None: ...
    def end(self) -> None: ...


class LossAverage:
    """Kohya's loss/average: the mean of each batch position's newest loss, over the positions seen so far.

    Summed block by block, so that a step of a long epoch adds a thousand numbers and not all of them; the sum depends
    on the losses alone, not on the way they came, so that a resumed training logs the same.
    """

    _BLOCK = 512

    def __init__(self, losses: Sequence[float] = ()) -> None:
        self.losses = list(losses)
        self._sums = [self._sum(start) for start in range(0, len(self.losses), self._BLOCK)]

    def add(self, position: int, loss: float) -> float:
        while len(self.losses) <= position:
            self.losses.append(0.0)
        self.losses[position] = loss
        block = position // self._BLOCK
        while len(self._sums) <= block:
            self._sums.append(self._sum(len(self._sums) * self._BLOCK))
        self._sums[block] = self._sum(block * self._BLOCK)
        return self.value

    def _sum(self, start: int) -> float:
        return sum(self.losses[start : start + self._BLOCK])

    @property
    def value(self) -> float:
        return sum(self._sums) / len(self.losses) if self.losses else 0.0


class Progress(Quiet):
    """A bar with loss, learning rate, speed and time left. It ends where its terminal is closed."""

    def __init__(self, total: int, done: int, *, show: bool, what: str = "training", unit: str = "step") -> None:
        self._bar: Any = None
        if show and total:
            from tqdm import tqdm

            layout = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining} {rate_fmt}{postfix}"
            with self._while_shown():
                self._bar = tqdm(
                    total=total, initial=done, desc=what, unit=unit, bar_format=layout, dynamic_ncols=True,
                    file=sys.stderr, smoothing=0.1,
                )  # fmt: skip

    @contextlib.contextmanager
    def _while_shown(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            if self._bar is not None:
                self._bar.disable = True
            self._bar = None

    def step(self, report: StepReport) -> None:
        if self._bar is not None and report.synced:
            rate = report.rates.get("unet", next(iter(report.rates.values()), 0.0))
            with self._while_shown():
                self._bar.set_postfix_str(f"loss {report.average:.4f} lr {rate:.3g}", refresh=False)
                self._bar.update()

    def advance(self) -> None:
        if self._bar is not None:
            with self._while_shown():
                self._bar.update()

    def write(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            with self._while_shown():
                self._bar.write(text, file=sys.stderr)

    def end(self) -> None:
        if self._bar is not None:
            with self._while_shown():
                self._bar.close()


class Reporting(Quiet):
    """Keeps progress.json of the run up to date, for the dashboard and for whoever looks after a crash."""

    def __init__(self, run: Run, steps: int, epochs: int, memory: Callable[[], float | None]) -> None:
        self._run, self._steps, self._epochs, self._memory = run, steps, epochs, memory
        self._began: tuple[float, int] | None = None

    def step(self, report: StepReport) -> None:
        if not report.synced:
            return
        now = time.monotonic()
        self._began = self._began or (now, report.step)
        since, first = self._began
        speed = (report.step - first) / (now - since) if now > since and report.step > first else None
        self._run.report(
            step=report.step, steps=self._steps, epoch=report.epoch, epochs=self._epochs, loss=report.loss,
            average=report.average, rates=report.rates, steps_per_second=speed,
            seconds_left=(self._steps - report.step) / speed if speed else None, memory_gib=self._memory(),
        )  # fmt: skip


class TensorBoard(Quiet):
    """Kohya's tags in TensorBoard event files.

    unet_only: network_train_unet_only. first_is_text: call the first group's rate the text encoder's, as sd-scripts
    does without unet_only, also where the text encoder has a rate of 0 and thus no group.
    """

    def __init__(self, folder: Path, *, unet_only: bool, first_is_text: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._first_group, self._first_is_text = 0 if unet_only else 1, first_is_text and not unet_only
        self._writer = SummaryWriter(str(folder))

    def step(self, report: StepReport) -> None:
        values = {"loss/current": report.loss, "loss/average": report.average}
        for tag, rates in (("lr", report.rates), ("lr/d*lr", report.adapted)):
            values |= {f"{tag}/{name}": rate for name, rate in rates.items()}
            values |= {f"{tag}/group{i}": rate for i, rate in enumerate(rates.values()) if i >= self._first_group}
        if self._first_is_text:
            values["lr/textencoder"] = next(iter(report.rates.values()))
        self._write({**values, **report.extra}, report.step)

    def epoch(self, epoch: int, step: int, average: float) -> None:
        self._write({"loss/epoch_average": average}, epoch)

    def _write(self, values: dict[str, float], step: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def end(self) -> None:
        self._writer.close()


def log_folder(logging_dir: str | None, name: str, tracker: str | None, run_folder: Path) -> Path:
    """Where a run's event files go: logging_dir/<name>/network_train, or below the run's own folder without one."""
    root = Path(logging_dir).absolute() if logging_dir else run_folder / "logs"
    return root / name / (tracker or "network_train")


class Saver(Quiet):
    """Saves by epoch and by step under Kohya's names, and removes what save_last_* no longer keeps."""

    def __init__(
        self,
        config: TrainConfig,
        epochs: int,
        save: Callable[[str, int, int], Path],
        save_state: Callable[[str], Path],
    ) -> None:
        self._saving, self._epochs, self._save, self._save_state = config.saving, epochs, save, save_state
        self._every, self._extension = epoch_interval(config, epochs), extension(config)
        self._folder = Path(config.saving.output_dir or ".")

    def step(self, report: StepReport) -> None:
        every, keep = self._saving.save_every_n_steps, self._saving.save_last_n_steps
        if not (every and report.synced and report.step % every == 0):
            return
        name = f"{self._saving.output_name or 'at'}-step"
        self._write(f"{name}{report.step:08d}", report.step, report.epoch - 1)
        keep_state = self._saving.save_last_n_steps_state or keep
        older = [_older_step(report.step, every, n) for n in (keep, keep_state)]
        self._forget(*older, name + "{:08d}")

    def epoch(self, epoch: int, step: int, average: float) -> None:
        every, keep = self._every, self._saving.save_last_n_epochs
        if not (every and epoch % every == 0 and epoch < self._epochs):
            return
        name = f"{self._saving.output_name or 'epoch'}-"
        self._write(f"{name}{epoch:06d}", step, epoch)
        keep_state = self._saving.save_last_n_epochs_state or keep
        self._forget(
            epoch - every * keep if keep else 0, epoch - every * keep_state if keep_state else 0, name + "{:06d}"
        )

    def _write(self, name: str, step: int, epoch: int) -> None:
        self._save(name, step, epoch)
        if self._saving.save_state:
            self._save_state(f"{name}-state")

    def _forget(self, model: int, state: int, pattern: str) -> None:
        """Remove the file and the state folder of these numbers; 0 and below is none."""
        if model > 0:
            (self._folder / (pattern.format(model) + self._extension)).unlink(missing_ok=True)
        if state > 0 and self._saving.save_state:
            shutil.rmtree(self._folder / f"{pattern.format(state)}-state", ignore_errors=True)


def _older_step(step: int, every: int, keep: int | None) -> int:
    """The step whose file goes: the newest one more than save_last_n_steps back (a number of steps, not of files)."""
    if not keep:
        return 0
    older = step - keep - 1
    return older - older % every


def sampling_due(sampling: SamplingConfig, *, step: int, epoch: int | None) -> bool:
    """Whether samples are drawn now. epoch is None within an epoch; epochs go before steps, step 0 is "at first"."""
    if not sampling.sample_prompts:
        return False
    if step == 0:
        return sampling.sample_at_first
    if sampling.sample_every_n_epochs:
        return epoch is not None and epoch % sampling.sample_every_n_epochs == 0
    return bool(sampling.sample_every_n_steps) and epoch is None and step % sampling.sample_every_n_steps == 0


class Sampler(Quiet):
    """Draws sample pictures; a failure is told and the training goes on."""

    def __init__(
        self, sampling: SamplingConfig, draw: Callable[[int | None, int], None], echo: Callable[[str], None]
    ) -> None:
        self._sampling, self._draw, self._echo = sampling, draw, echo

    def start(self) -> None:
        self._maybe(None, 0)

    def step(self, report: StepReport) -> None:
        if report.synced:
            self._maybe(None, report.step)

    def epoch(self, epoch: int, step: int, average: float) -> None:
        if step:
            self._maybe(epoch, step)

    def _maybe(self, epoch: int | None, step: int) -> None:
        if not sampling_due(self._sampling, step=step, epoch=epoch):
            return
        try:
            self._draw(0 if step == 0 else epoch, step)
        except (RunError, OSError, RuntimeError, ValueError) as error:
            self._echo(f"warning: no samples at step {step} ({error}); the training goes on")
