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
from kohyakit.words import duration

if TYPE_CHECKING:
    from torch import Tensor

    from kohyakit.planning.plan import DrawPoint, Plan, SavePoint
    from kohyakit.runs.run import Run
    from kohyakit.train.step.batches import Batch
    from kohyakit.train.trained import Trained


EARLY = "stopped early"  # why a training that needs no more steps stops


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


@dataclass(frozen=True, slots=True)
class Seen:
    """One micro-batch between its loss and its gradient. epoch from 1, position within it from 0.

    batch: its images and captions as they were drawn. latents: of the images, in the U-Net's scale. noise: what is to
    be found in them; noisy: what the U-Net sees of both, at these timesteps. losses: of each image, [B], with every
    weight. All of it is the training's own, to be looked at.
    """

    epoch: int
    position: int
    batch: Batch
    latents: Tensor
    noise: Tensor
    noisy: Tensor
    timesteps: Tensor
    losses: Tensor


@dataclass(frozen=True, slots=True)
class Validated:
    """The loss was measured after a step. epoch: the one that ended with it; None within one.

    within: the epoch that the step is of. average: the mean of this time. error: its standard error, None where one
    photo cannot tell it. scalars: what is logged of it, by tag. best: it is the lowest so far.
    """

    step: int
    epoch: int | None
    within: int
    average: float
    error: float | None
    scalars: dict[str, float]
    best: bool = False


class Callback(Protocol):
    """Told of a training's moments, in the main process. What one raises ends the training as an error of its own does.

    ready: all is built, and brought back where it goes on from a state; `trained` is what will change. start: before
    the first step, where it begins at the beginning. seen: a micro-batch's loss is known. step: a micro-batch is done,
    and with `synced` an optimizer step. validated: the loss was measured, before the step or epoch that it comes after
    is told. epoch: one has ended. end: the training has, however it did.
    """

    def ready(self, trained: Trained) -> None: ...
    def start(self) -> None: ...
    def seen(self, seen: Seen) -> None: ...
    def step(self, report: StepReport) -> None: ...
    def validated(self, told: Validated) -> None: ...
    def epoch(self, epoch: int, step: int, average: float) -> None: ...
    def end(self) -> None: ...


class Quiet:
    """A callback that does nothing; the others override what they need."""

    def ready(self, trained: Trained) -> None: ...
    def start(self) -> None: ...
    def seen(self, seen: Seen) -> None: ...
    def step(self, report: StepReport) -> None: ...
    def validated(self, told: Validated) -> None: ...
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


class Compiling(Quiet):
    """Tells how long torch's compiler took in a step, when that step is done."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._began = self._seconds = 0.0

    def ready(self, trained: Trained) -> None:
        from torch._dynamo.callback import callback_handler

        callback_handler.register_start_callback(self._begins)
        callback_handler.register_end_callback(self._ended)

    def _begins(self, *told: Any) -> None:
        self._began = time.perf_counter()

    def _ended(self, *told: Any) -> None:
        self._seconds += time.perf_counter() - self._began

    def step(self, report: StepReport) -> None:
        if self._seconds:
            self._say(f"torch_compile: {duration(self._seconds)} of step {report.step} went into compiling")
            self._seconds = 0.0

    def end(self) -> None:
        from torch._dynamo.callback import callback_handler

        handler = callback_handler
        for told, own in ((handler.start_callbacks, self._begins), (handler.end_callbacks, self._ended)):
            if own in told:
                told.remove(own)


class Progress(Quiet):
    """A bar with loss, learning rate, speed and time left. It ends where its terminal is closed."""

    def __init__(self, total: int, done: int, *, show: bool, what: str = "training", unit: str = "step") -> None:
        self._bar: Any = None
        self._begun = False
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

    def seen(self, seen: Seen) -> None:
        """Time is counted from the first loss on: samples that were drawn before it say nothing of what is left."""
        if self._bar is not None and not self._begun:
            self._bar.unpause()
        self._begun = True

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


class Mirror(Protocol):
    """Where else the numbers of a training go that its event files hold."""

    def write(self, values: dict[str, float], step: int, epoch: int) -> None: ...
    def close(self) -> None: ...


class TensorBoard(Quiet):
    """Kohya's tags in TensorBoard event files.

    unet_only: network_train_unet_only. first_is_text: call the first group's rate the text encoder's, as sd-scripts
    does without unet_only, also where the text encoder has a rate of 0 and thus no group. mirrors: told all of it too.
    """

    def __init__(self, folder: Path, *, unet_only: bool, first_is_text: bool, mirrors: Sequence[Mirror] = ()) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._mirrors, self._place = mirrors, (0, 1)  # steps done, epoch
        self._first_group, self._first_is_text = 0 if unet_only else 1, first_is_text and not unet_only
        self._writer = SummaryWriter(str(folder))

    def step(self, report: StepReport) -> None:
        self._place = report.step, report.epoch
        values = {"loss/current": report.loss, "loss/average": report.average}
        for tag, rates in (("lr", report.rates), ("lr/d*lr", report.adapted)):
            values |= {f"{tag}/{name}": rate for name, rate in rates.items()}
            values |= {f"{tag}/group{i}": rate for i, rate in enumerate(rates.values()) if i >= self._first_group}
        if self._first_is_text:
            values["lr/textencoder"] = next(iter(report.rates.values()))
        self._write({**values, **report.extra}, report.step)

    def epoch(self, epoch: int, step: int, average: float) -> None:
        self._write({"loss/epoch_average": average}, epoch)

    def validated(self, told: Validated) -> None:
        self._write(told.scalars, told.step if told.epoch is None else told.epoch)

    def _write(self, values: dict[str, float], step: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()
        for mirror in self._mirrors:
            mirror.write(values, *self._place)

    def end(self) -> None:
        self._writer.close()
        for mirror in self._mirrors:
            mirror.close()


def log_folder(logging_dir: str | None, name: str, tracker: str | None, run_folder: Path) -> Path:
    """Where a run's event files go: logging_dir/<name>/network_train, or below the run's own folder without one."""
    root = Path(logging_dir).absolute() if logging_dir else run_folder / "logs"
    return root / name / (tracker or "network_train")


class Saver(Quiet):
    """Writes what the plan names for a step or the end of an epoch, and removes what it names."""

    def __init__(
        self, plan: Plan, folder: Path, save: Callable[[SavePoint], Path], save_state: Callable[[str], Path]
    ) -> None:
        self._folder, self._save, self._save_state = folder, save, save_state
        self._due = {(point.by, point.step): point for point in plan.saves}
        self._gone: dict[tuple[str, int], list[str]] = {}
        self._states_gone: dict[tuple[str, int], list[str]] = {}
        for point in (*plan.earlier, *plan.saves):
            if point.deleted_at is not None:
                self._gone.setdefault((point.by, point.deleted_at), []).append(point.file)
            if point.state is not None and point.state_deleted_at is not None:
                self._states_gone.setdefault((point.by, point.state_deleted_at), []).append(point.state)

    def step(self, report: StepReport) -> None:
        if report.synced:
            self._at("step", report.step)

    def epoch(self, epoch: int, step: int, average: float) -> None:
        self._at("epoch", step)

    def _at(self, by: str, step: int) -> None:
        if point := self._due.get((by, step)):
            self._save(point)
            if point.state:
                self._save_state(point.state)
        for file in self._gone.get((by, step), ()):
            (self._folder / file).unlink(missing_ok=True)
        for state in self._states_gone.get((by, step), ()):
            shutil.rmtree(self._folder / state, ignore_errors=True)


class Best(Quiet):
    """Keeps the best measurement in the run's record and, where the plan names a file for it, its weights."""

    def __init__(self, plan: Plan, run: Run, save: Callable[[SavePoint], Path]) -> None:
        self._plan, self._run, self._save = plan, run, save

    def validated(self, told: Validated) -> None:
        measured = self._plan.validation
        if not told.best or measured is None:
            return
        file = self._save(self._plan.best_at(told.step, told.epoch, told.within)) if self._plan.best else None
        best = {
            "tag": measured.tag, "loss": told.average, "error": told.error, "step": told.step, "epoch": told.within,
            "file": self._run.relative(file) if file else "",
        }  # fmt: skip
        self._run.update(best=best)


class Sampler(Quiet):
    """Draws samples where the plan says so; a failure is told and the training goes on."""

    def __init__(self, plan: Plan, draw: Callable[[DrawPoint], None], echo: Callable[[str], None]) -> None:
        self._due = {(point.step, point.epoch is None): point for point in plan.draws}
        self._draw, self._echo = draw, echo

    def start(self) -> None:
        self._at(0, within=False)

    def step(self, report: StepReport) -> None:
        if report.synced:
            self._at(report.step, within=True)

    def epoch(self, epoch: int, step: int, average: float) -> None:
        self._at(step, within=False)

    def _at(self, step: int, *, within: bool) -> None:
        point = self._due.get((step, within))
        if point is None:
            return
        try:
            self._draw(point)
        except (RunError, OSError, RuntimeError, ValueError) as error:
            self._echo(f"warning: no samples at step {step} ({error}); the training goes on")
