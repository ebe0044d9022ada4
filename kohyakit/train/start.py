"""From a config to a finished run: look at everything first, train, and leave a readable trace whatever happens."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.config.train import TrainConfig
from kohyakit.dataset import layout
from kohyakit.dataset.faults import CAPTION_FAULTS, IMAGE_FAULTS
from kohyakit.dataset.images import shown
from kohyakit.errors import ConfigError, DatasetError, KohyakitError
from kohyakit.planning.decoding import decoded
from kohyakit.planning.make import make_plan
from kohyakit.planning.plan import Plan
from kohyakit.runs import registry
from kohyakit.runs.run import FAILED, FINISHED, INTERRUPTED, STOPPED, Run, open_run
from kohyakit.runs.unfinished import go_on_line
from kohyakit.train import ahead
from kohyakit.train.callbacks import EARLY, Callback, Progress
from kohyakit.train.interruption import Interruption

if TYPE_CHECKING:
    from kohyakit.train.trainer import Trainer

Echo = Callable[[str], None]


def train_network(
    config: TrainConfig,
    *,
    skip_bad_images: bool = False,
    progress: bool = True,
    echo: Echo | None = None,
    version: str | None = None,
    parent: str | None = None,
    note: str = "",
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train a LoRA in this process and return its run, whose status says how it ended.

    skip_bad_images: leave out files that do not decode (and say so in the record) instead of refusing to start.
    echo: takes each line meant for a person; standard error by default. version, parent, note: see registry.start.
    callbacks: told of every moment after our own, in the main process (see train.callbacks.Callback).
    Raises KohyakitError with every problem when it cannot start, and when it fails on the way; KeyboardInterrupt when
    it was interrupted before there was anything to save, or a second time.
    """
    echo = echo or (lambda text: print(text, file=sys.stderr, flush=True))
    said: list[str] = []
    scan, plan = _look_first(config, skip_bad_images, progress, said.append)
    from kohyakit.train.processes import Processes
    from kohyakit.train.rehearse import look_at_family, rehearse
    from kohyakit.train.trainer import Trainer

    _quiet_libraries()
    processes = Processes(
        config.training.mixed_precision, full_fp16=config.training.full_fp16, patience=config.launch.ddp_timeout
    )
    if processes.count != plan.length.processes:
        plan = make_plan(config, scan, backend="kohyakit", processes=processes.count)
    _tell(config, plan, said.append)
    look_at_family(config, draws=bool(plan.draws))
    rehearse(config, plan.steps, processes.accelerator.device)
    interruption = Interruption(echo)
    with interruption.listening():
        folder = ""
        if processes.main:
            started = registry.start(config, plan=plan, scan=scan, version=version, parent=parent, note=note)
            folder = str(started.folder)
        run = open_run(processes.agree_on(folder))
        config = config.with_values(output_name=registry.output_name(config, run.version))
        plan = registry.called(plan, run.version)
        say = _Log(run.log_file, echo) if processes.main else _nobody
        for line in (*said, f"run {run.version} in {run.folder}"):
            say(line)
        trainer = Trainer(config, plan, run, processes, echo=say, progress=progress, callbacks=callbacks)
        carry_out(trainer, interruption, say)
        processes.wait()
    return open_run(run.folder)


def carry_out(trainer: Trainer, interruption: Interruption, say: Echo) -> None:
    """Set up and fit; whatever happens, the main process records how it ended and keeps what there is.

    say takes each line meant for a person. Raises what the training raised, once that is recorded.
    """
    from kohyakit.train.out_of_memory import out_of_memory

    main, run = trainer.processes.main, trainer.run

    def stop() -> None:
        trainer.stop_reason = "interrupted"

    try:
        with interruption.nothing_to_save():
            trainer.setup()
        interruption.asked = stop
        if interruption.by:  # in between
            stop()
        trainer.fit()
        if main:
            _end(trainer, run, interruption.by, say)
    except KeyboardInterrupt:
        _dropped(trainer, say)
        raise
    except Exception as error:
        if interruption.by and not trainer.stop_reason:  # a package made its own error of the interruption
            _dropped(trainer, say)
            raise KeyboardInterrupt from error
        told = out_of_memory(error, trainer.config, trainer.where()) or error
        if main:
            _rescue(trainer, say)
            run.finish(FAILED, str(told).splitlines()[0][:500] if str(told) else type(told).__name__)
        if told is not error:
            raise told from error
        raise
    except BaseException as error:  # a package that ends the program
        if main:
            run.finish(FAILED, f"{type(error).__name__} {_when(trainer)}")
        raise


def _dropped(trainer: Trainer, say: Echo) -> None:
    """Interrupted before there was anything to save, or a second time."""
    if trainer.processes.main:
        trainer.run.finish(INTERRUPTED, f"interrupted {_when(trainer)}, and not saved")
        say(f"interrupted {_when(trainer)}; nothing was saved since the last save")


def _when(trainer: Trainer) -> str:
    where = trainer.where()
    return where if where.startswith("before") else f"at {where}"


def _nobody(text: str) -> None:
    """What processes beside the main one say."""


def _quiet_libraries() -> None:
    """diffusers and transformers remark on casts that are meant here, and draw bars of their own."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _look_first(config: TrainConfig, skip_bad: bool, progress: bool, echo: Echo) -> tuple[layout.Scan, Plan]:
    """Everything that would stop the training, before anything is loaded; every file is decoded once.

    Where nothing stands against the training, its packages are imported meanwhile.
    """
    scan = layout.scan(config)
    known = make_plan(config, scan, backend="kohyakit", processes=_expected()).errors
    sound = not [problem for problem in known if not (skip_bad and problem.name in IMAGE_FAULTS)]
    imports = ahead.begin(_import_all, "imports") if sound else None  # else it ends now, and not in a half import
    try:
        bar = Progress(sum(1 for _ in scan.records()), 0, show=progress, what="looking at images", unit="image")
        scan = decoded(scan, bar.advance)
        bar.end()
    finally:
        if imports:
            imports.result()
    plan = make_plan(config, scan, backend="kohyakit", processes=_expected())
    if skip_bad:
        bad = [problem for problem in plan.errors if problem.name in IMAGE_FAULTS]
        for problem in bad:
            echo(f"left out: {replace(problem, cure='')}")
        scan = _without(scan, {problem.where for problem in bad})
        plan = make_plan(config, scan, backend="kohyakit", processes=_expected())
    _refuse(plan)
    return scan, plan


def _tell(config: TrainConfig, plan: Plan, echo: Echo) -> None:
    """What the plan finds, and its length where it is not that of num_processes. Raises where it finds an error."""
    _refuse(plan)
    for finding in plan.findings:
        echo(f"{finding.severity}: {finding}")
    count, asked = plan.length.processes, config.launch.num_processes
    if count != asked:
        echo(f"hint: num_processes is {asked}, but the training has {count}, which makes {plan.steps} steps")


def _refuse(plan: Plan) -> None:
    """Raises DatasetError or ConfigError with all that stops the training."""
    stops = (*plan.errors, *plan.lacking_here)
    if stops:
        in_files = all(problem.name in IMAGE_FAULTS | CAPTION_FAULTS for problem in stops)
        raise (DatasetError if in_files else ConfigError)(stops)


def _expected() -> int:
    """How many processes train, before torch is there to ask: torchrun and accelerate tell it so."""
    told = os.environ.get("WORLD_SIZE", "")
    return int(told) if told.isdecimal() and int(told) else 1


def _import_all() -> None:
    """The packages of a training; several seconds, most of them without Python's lock."""
    with ahead.as_if_missing(ahead.spared):
        import torch.utils.tensorboard
        from accelerate import Accelerator
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel

        import kohyakit.train.trainer

    del torch, Accelerator, AutoencoderKL, UNet2DConditionModel, CLIPTextModel, kohyakit


def _without(scan: layout.Scan, bad: set[str]) -> layout.Scan:
    """The same scan without some files (by their shown path), the findings about them included."""

    def kept(subset: layout.Subset) -> layout.Subset:
        return replace(subset, records=tuple(r for r in subset.records if shown(r.path) not in bad), unreadable=())

    datasets = tuple(
        replace(dataset, subsets=tuple(s for s in map(kept, dataset.subsets) if s.records)) for dataset in scan.datasets
    )
    held = tuple(replace(dataset, subsets=tuple(map(kept, dataset.subsets))) for dataset in scan.held_back)
    problems = tuple(problem for problem in scan.problems if problem.where not in bad)
    return layout.Scan(datasets, problems, held_back=held)


class _Log:
    """Lines for a person, kept in the run's log.txt too."""

    def __init__(self, path: Path, echo: Echo) -> None:
        self._path, self._echo = path, echo

    def __call__(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed terminal must not end a training
            self._echo(text)
        with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(text + "\n")


def _end(trainer: Trainer, run: Run, by: str, echo: Echo) -> None:
    """Save what the training came to, and say how to go on where it was stopped. by: what interrupted it."""
    step, plan = trainer.position.current_step, trainer.plan
    if trainer.stop_reason and trainer.stop_reason != EARLY:
        point = plan.stopped_at(step, trainer.position.current_epoch)
        state = trainer.save_state(point.state or "")  # first: to save moves schedule-free weights a hair
        path = trainer.writer.save(point)
        status = INTERRUPTED if trainer.stop_reason == "interrupted" else STOPPED
        asked = f" ({by})" if status == INTERRUPTED and by != "Ctrl-C" else ""
        run.finish(status, f"{trainer.stop_reason} after step {step} of {plan.steps}{asked}")
        echo(f"{trainer.stop_reason} after step {step} of {plan.steps}; saved {path}")
        echo(f"go on with: {go_on_line(trainer.config, state)}")
        return
    position, early = trainer.position, trainer.stop_reason == EARLY
    last = plan.ended_at(step, position.current_epoch - (not position.batches_done)) if early else plan.saves[-1]
    if last.state:
        trainer.save_state(last.state)
    path = trainer.writer.save(last)
    outcome = f"{step} steps, loss/average {trainer.average.value:.4f}"
    if early:
        best = f"{position.best_loss:.4f} of step {position.best_step}"
        outcome = f"stopped early after step {step} of {plan.steps}: {position.since_best} times no loss below {best}"
        echo(outcome)
    run.finish(FINISHED, outcome)
    echo(f"finished: {path}")


def _rescue(trainer: Trainer, echo: Echo) -> None:
    """Keep the last good state of a training that fails on the way, where there is one."""
    step = trainer.position.current_step
    if not step or not hasattr(trainer, "writer"):
        return
    if not trainer.parts.trained.is_finite():
        echo(f"the LoRA became NaN in step {step} and is not kept; files saved before are as they were")
        return
    point = trainer.plan.stopped_at(step, trainer.position.current_epoch)
    with contextlib.suppress(KohyakitError, OSError):
        state = trainer.save_state(point.state or "")
        path = trainer.writer.save(point)
        echo(f"the LoRA as it was after step {step} is in {path.name}, its state in {state.name}")
